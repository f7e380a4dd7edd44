"""The facts of a run, in `run.json`: what it was trained on, how far it has come. Only this module knows the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from itmkit.errors import ItmkitError, nearest
from itmkit.files import read_json, write_json
from itmkit.workspace import Workspace

FILE = "run.json"


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What `run.json` says. It is written first and removed first: a folder without one holds no run.

    Attributes:
        caches: name -> fingerprint of each cache it was trained on.
        captions: digest of the captions.
        epochs: of all stages together; `epochs_done` of them are over.
        members: name -> weight in the mean of the scores.
        sizes: the sizes of its inputs, as in `itmkit.inputs.Sizes`.
        best: member -> {"epoch", "rsum"} of the weights that were kept.
        core_minutes: spent so far; None for runs older than this figure.
    """

    method: str
    recipe: str
    caches: Mapping[str, str]
    captions: str
    epochs: int
    members: Mapping[str, float]
    sizes: Mapping[str, Any]
    epochs_done: int = 0
    best: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    finished: bool = False
    core_minutes: float | None = None

    @classmethod
    def exist(cls, folder: Path) -> bool:
        """Whether the folder holds a run, finished or not."""
        return (folder / FILE).is_file()

    @classmethod
    def read(cls, folder: Path) -> RunFacts:
        """The facts of the run in `folder`.

        Raises:
            ItmkitError: there is no such file, it is not JSON, or it is not what training writes. One line names
                every value that is missing or has the wrong type.
        """
        path = folder / FILE
        raw = read_json(path)
        if not isinstance(raw, dict):
            raise ItmkitError(f"{path}: is not what training writes (no object); train with --force")
        wrong = [f"{key} is missing" for key in KINDS if key not in raw and key != "core_minutes"]
        wrong += [f"{key} is {raw[key]!r}" for key, kind in KINDS.items() if key in raw and not _is(raw[key], kind)]
        if wrong:
            raise ItmkitError(f"{path}: is not what training writes ({', '.join(wrong)}); train with --force")
        return cls(**{key: raw[key] for key in KINDS if key in raw})

    def write(self, folder: Path) -> None:
        write_json(folder / FILE, self.to_json())

    def to_json(self) -> dict[str, Any]:
        """The contents of the file. Runs that do not know their core minutes leave them out."""
        record = {"schema": 1, **asdict(self)}
        if self.core_minutes is None:
            del record["core_minutes"]
        return record


# The type of each value. All are required except core_minutes, which runs of older versions lack.
KINDS: dict[str, type] = {
    "method": str,
    "recipe": str,
    "caches": dict,
    "captions": str,
    "epochs": int,
    "members": dict,
    "sizes": dict,
    "epochs_done": int,
    "best": dict,
    "finished": bool,
    "core_minutes": float,
}


def _is(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def remove_facts(folder: Path) -> None:
    """Removes the file. Whatever else the folder holds then no longer counts as a run."""
    (folder / FILE).unlink(missing_ok=True)


def evaluated_on(folder: Path) -> list[str]:
    """The splits and protocols on which a run was evaluated."""
    return sorted(path.stem.removeprefix("eval-") for path in folder.glob("eval-*.json"))


def run_names(workspace: Workspace) -> list[str]:
    """The names of all runs of a workspace, including those under way."""
    return sorted(path.parent.name for path in (workspace.root / "runs").glob(f"*/{FILE}"))


def run_folder(workspace: Workspace, name: str | None) -> Path:
    """The folder of a run: of this workspace by its name, or any by its path; None: the only one of the workspace.

    Raises:
        ItmkitError: there is none, or several and no name says which.
    """
    have = run_names(workspace)
    if name is None and len(have) != 1:
        raise ItmkitError(
            f"--run NAME says which run; there are {', '.join(have)}"
            if have
            else f"{workspace.root}: holds no trained run; run `itmkit train` first, or name the folder of one"
        )
    given = have[0] if name is None else name
    own = workspace.root / "runs" / given
    if Path(given).name == given and RunFacts.exist(own):
        return own
    if RunFacts.exist(Path(given)):
        return Path(given).resolve()
    raise ItmkitError(
        f"--run {given}: no such run, nor the folder of one; there are"
        f" {', '.join(have) or 'none: run `itmkit train` first'}{nearest(given, have)}"
    )
