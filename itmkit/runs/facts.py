"""The facts of a run, in `run.json`: what it was trained on, how far it has come. Only this module knows the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict  # of Python 3.12; pydantic asks for it and brings it along

from itmkit.errors import ItmkitError, nearest
from itmkit.files import sha256_file, write_json
from itmkit.typed import Count, Digest, Number, Text, read_strict_json, wrong
from itmkit.workspace import Workspace

FILE = "run.json"
CONFIG, VOCABULARY = "config.toml", "vocabulary.json"
ADVICE = "restore it, or train the run anew with --force"


class Best(TypedDict):
    """The epoch whose weights a member has kept, and the sum of its recalls on val."""

    epoch: Count
    rsum: Number


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What `run.json` says. It is written first and removed first: a folder without one holds no run.

    Attributes:
        caches: name -> fingerprint of each cache it was trained on.
        captions: digest of the captions.
        labels: digest of the labels of the training images; empty where training does not read them, and for runs
            older than it.
        epochs: of all stages together; `epochs_done` of them are over.
        members: name -> weight in the mean of the scores.
        sizes: the sizes of its inputs, as in `itmkit.inputs.Sizes`.
        best: member -> {"epoch", "rsum"} of the weights that were kept.
        core_minutes: spent so far; None for runs older than this figure.
        id: of data and settings; the weights of the run carry it too. Empty for runs older than it.
        files: name -> sha256 of the files that figures come from. The lines of metrics.jsonl count up to `epochs_done`.
            Weights and states carry a digest of their own. Files of older runs have none and are not checked.
    """

    method: Text
    recipe: Text
    caches: Mapping[str, Text]
    captions: Text
    epochs: Count
    members: Mapping[str, Number]
    sizes: Mapping[str, Count]
    epochs_done: Count = 0
    best: Mapping[str, Best] = field(default_factory=dict)
    finished: Annotated[bool, Field(strict=True)] = False
    core_minutes: Number | None = None
    id: Text = ""
    files: Mapping[str, Digest] = field(default_factory=dict)
    labels: Text = ""

    @classmethod
    def exist(cls, folder: Path) -> bool:
        """Whether the folder holds a run, finished or not."""
        return (folder / FILE).is_file()

    @classmethod
    def read(cls, folder: Path) -> RunFacts:
        """The facts of the run in `folder`.

        Raises:
            ItmkitError: there is no such file, it is not JSON, or it is not what training writes: every value that is
                missing or has the wrong type.
        """
        path, advice = folder / FILE, "this is not what training writes; train with --force"
        raw = read_strict_json(path)
        missing = [key for key in ("epochs_done", "best", "finished") if isinstance(raw, dict) and key not in raw]
        problems = [f"{path}: {key}: Field required" for key in missing]  # they have defaults, but not in a file
        if problems := problems + wrong(_FORM, raw, path):
            raise ItmkitError([f"{problem}; {advice}" for problem in problems])
        return _FORM.validate_python(raw)

    def write(self, folder: Path) -> None:
        write_json(folder / FILE, self.to_json())

    def to_json(self) -> dict[str, Any]:
        """The contents of the file. What older runs do not know is left out."""
        record = {"schema": 1, **asdict(self)}
        unknown: list[tuple[str, Any]] = [("core_minutes", None), ("id", ""), ("files", {}), ("labels", "")]
        return {key: value for key, value in record.items() if (key, value) not in unknown}

    def check_files(self, folder: Path, *names: str) -> None:
        """Raises ItmkitError naming the files of the run whose content is not what training wrote."""
        known = {name: self.files[name] for name in names if name in self.files}
        missing = [f"{folder / name}: missing" for name in known if not (folder / name).is_file()]
        if missing:
            raise ItmkitError([f"{problem}; {ADVICE}" for problem in missing])
        changed = [name for name, digest in known.items() if sha256_file(folder / name) != digest]
        if changed:
            raise ItmkitError(
                [f"{folder / name}: its content is not what training wrote; {ADVICE}" for name in changed]
            )


_FORM: TypeAdapter[RunFacts] = TypeAdapter(RunFacts)


def remove_facts(folder: Path) -> None:
    """Removes the file. Whatever else the folder holds then no longer counts as a run."""
    (folder / FILE).unlink(missing_ok=True)


def evaluated_on(folder: Path) -> list[str]:
    """The splits and protocols on which a run was evaluated."""
    return sorted(path.stem.removeprefix("eval-") for path in folder.glob("eval-*.json"))


def run_names(workspace: Workspace) -> list[str]:
    """The names of all runs of a workspace, including those under way."""
    return sorted(path.parent.name for path in (workspace.root / "runs").glob(f"*/{FILE}"))


def find_run(workspace: Workspace, name: str) -> Path | None:
    """The folder of a run: of this workspace by its name, or any by its path; None where there is none."""
    if Path(name).name == name and RunFacts.exist(workspace.root / "runs" / name):
        return workspace.run(name)
    return Path(name).resolve() if RunFacts.exist(Path(name)) else None


def no_such_run(
    workspace: Workspace, name: str, option: str = "--run ", *, nor: str = ", nor the folder of one"
) -> ItmkitError:
    """What to raise where `find_run` finds none: the runs there are, and the nearest name."""
    have = run_names(workspace)
    there = ", ".join(have) or "none: run `itmkit train` first"
    return ItmkitError(f"{option}{name}: no such run{nor}; there are {there}{nearest(name, have)}")


def run_folder(workspace: Workspace, name: str | None) -> Path:
    """The folder of a run, by name or path as in `find_run`; None: the only one of the workspace.

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
    found = find_run(workspace, given)
    if found is None:
        raise no_such_run(workspace, given)
    return found
