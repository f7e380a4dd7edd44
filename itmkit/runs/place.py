"""Where a run is written while it trains, and who may write or read it meanwhile.

A run that replaces another (`--force`) begins beside it, in `.new` in the folder of the old run. With its first saved
state it takes the old place, and until then the old run is untouched. Killed at any moment, one of the two is whole:

    1  run.json is written to `.new`: from here on the new run counts, and the next training finishes what follows;
    2  the files of the old run are removed, its run.json first; `.new` is renamed to `.moving`;
    3  its files are moved to their places, run.json last.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from itmkit.files import remove_folder
from itmkit.machine.lock import Owner, lock
from itmkit.runs.facts import FILE, RunFacts, remove_facts
from itmkit.runs.made import FOLDER as MADE

NEW, MOVING = ".new", ".moving"
IMPORTED = "imported.json"  # where the weights of a run come from that was not trained here


class Place:
    """Where a run is written.

    Attributes:
        folder: of the run.
        now: the folder in which its files are written now.
        forced: whether it was begun with `--force`.
    """

    def __init__(self, folder: Path, *, forced: bool = False) -> None:
        self.folder, self.now, self.forced = folder, folder, forced
        self._until_settled = ExitStack()

    def beside(self) -> None:
        """Writes beside the run that is there. Raises Locked while another process evaluates that one."""
        what = f"{self.folder}: another process evaluates this run, which --force would replace"
        self._until_settled.enter_context(lock(self.folder / ".lock-files", what))
        self.now = self.folder / NEW

    def settle(self) -> bool:
        """Takes the place of the old run, whose files are removed. Needs a run.json. Returns whether it moved."""
        if self.now == self.folder:
            return False
        finish_replacing(self.folder)
        self.now = self.folder
        self._until_settled.close()
        return True

    def close(self) -> None:
        """Removes a new run that never took its place."""
        if self.now != self.folder and not is_replacing(self.folder):
            shutil.rmtree(self.now, ignore_errors=True)
        self._until_settled.close()


@contextmanager
def place_of(folder: Path, *, force: bool) -> Iterator[tuple[Place, Owner | None]]:
    """The place of a run, for the one process that trains it; and the owner before, if that one was killed.

    Raises:
        Locked: another process trains the run.
    """
    with lock(folder / ".lock", f"{folder}: another process trains this run") as left:
        finish_replacing(folder)
        shutil.rmtree(folder / NEW, ignore_errors=True)  # of a training that was killed before it had a state
        place = Place(folder, forced=force)
        try:
            yield place, left
        finally:
            place.close()


def evaluating(folder: Path) -> AbstractContextManager[Owner | None]:
    """Within it, no training replaces the run (`--force`). Raises Locked where one is about to."""
    what = f"{folder}: another process trains this run anew (--force)"
    return lock(folder / ".lock-files", what, shared=True)


def is_replacing(folder: Path) -> bool:
    """Whether a new run counts that has not yet taken its place altogether."""
    return RunFacts.exist(folder / NEW) or (folder / MOVING).is_dir()


def finish_replacing(folder: Path) -> None:
    """Moves a new run to its place, if there is one that counts."""
    new, moving = folder / NEW, folder / MOVING
    if not is_replacing(folder):
        return
    if not moving.is_dir():
        remove_facts(folder)
        clear_run(folder)
        new.rename(moving)
    files = [path for path in moving.rglob("*") if path.is_file()]
    for path in sorted(files, key=lambda path: path == moving / FILE):
        target = folder / path.relative_to(moving)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
    shutil.rmtree(moving)


def remove_figures(folder: Path) -> None:
    """Removes what was found with the weights of a run, which are about to be replaced."""
    for pattern in ("eval-*.json", "ranks-*.npz", "scores-*.h5"):
        for old in folder.glob(pattern):
            old.unlink()


def clear_run(folder: Path) -> None:
    """Removes what an earlier run left behind. Its run.json goes first, since without it nothing else counts."""
    remove_figures(folder)
    made = ("best-*.safetensors", "last/*", "not-finite.json", "tensorboard/*")
    for pattern in (*made, "config.toml", "metrics.jsonl", "vocabulary.json", IMPORTED):
        for old in folder.glob(pattern):
            old.unlink()
    for unfinished in folder.glob("scores-*/"):  # of an evaluation that was stopped
        remove_folder(unfinished)
    remove_folder(folder / MADE)
