"""`itmkit export`: writes a run as a folder that opens anywhere, and uploads it if asked."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from itmkit.errors import ItmkitError
from itmkit.export.card import card_of
from itmkit.export.files import CARD, copy_others, copy_run, differing, exported, without_local_places
from itmkit.files import remove_folder, write_text
from itmkit.matchers import method
from itmkit.runs.facts import RunFacts, find_run, no_such_run
from itmkit.runs.hub import upload
from itmkit.runs.made import made_in_training
from itmkit.runs.place import evaluating
from itmkit.runs.settings import read_config
from itmkit.workspace import Workspace


@dataclass(frozen=True)
class ExportResult:
    """What `export_run` did.

    unchanged: the folder held this run already. address: of what was uploaded; "" if nothing was.
    """

    folder: Path
    files: int
    bytes: int
    unchanged: bool = False
    address: str = ""
    notes: tuple[str, ...] = ()


def export_run(workspace: Workspace, run: str, folder: Path, *, force: bool = False) -> ExportResult:
    """Writes the weights of a run, what opens them, its figures and a card to a folder, which appears whole.

    Args:
        run: a run of the workspace, or the folder of one.
        force: replace an export of another run, or of an earlier state; other files in the folder stay. One of the same
            run and state is left as it is, whatever its card says by now.

    Raises:
        ItmkitError: there is no such run; it has no weights yet; it is not known what made its caches; the folder holds
            something else.
    """
    found = find_run(workspace, run)
    if found is None:
        raise no_such_run(workspace, run, option="")
    source, old = found.resolve(), _old(folder)
    if old.is_dir() and not folder.exists():  # a replacement was killed between its two renames
        old.rename(folder)
    _check_target(folder)
    with evaluating(source) if source == workspace.root.resolve() / "runs" / source.name else nullcontext():
        config, facts = read_config(source / "config.toml"), RunFacts.read(source)
        module = method(config.method)
        members, caches = list(module.members(config.matcher)), module.needs(config.matcher).caches
        _check_whole(source, members, caches, facts)
        partial = folder.with_name(f".{folder.name}.partial")
        remove_folder(partial)
        try:
            partial.mkdir(parents=True)
            copy_run(source, members, caches, partial)
            write_text(partial / CARD, card_of(partial, folder.name, workspace, config, facts))
            if (unchanged := folder.is_dir() and any(folder.iterdir())) and (other := differing(partial, folder)):
                if not force:
                    raise ItmkitError(
                        f"{folder}: holds an export of another run or state ({', '.join(other[:3])} differ); --force"
                        " replaces it and its card, or name another folder"
                    )
                unchanged = False
                copy_others(folder, partial)
            if not unchanged:
                _replace(folder, partial)
        finally:
            remove_folder(partial)
    files = [folder / name for name in exported(folder)]
    return ExportResult(folder, len(files), sum(path.stat().st_size for path in files), unchanged)


def push(folder: Path, repository: str, *, private: bool = False) -> tuple[str, list[str]]:
    """Uploads an export to the Hugging Face hub, without the places that models and files have on this machine.

    Returns:
        The address, and notes on what those who open it have to know.

    Raises:
        ItmkitError: the hub refuses it, or cannot be reached.
    """
    with tempfile.TemporaryDirectory() as temporary:
        published = Path(temporary) / "export"
        local = without_local_places(folder, published)
        address = upload(published, repository, private=private)
    notes = [f"the model of {cache} lies on this machine; who opens the matcher says where it lies" for cache in local]
    return address, notes


def _check_target(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ItmkitError(f"{folder}: is a file; name a folder that is not there yet")
    if folder.is_dir() and any(folder.iterdir()) and not (RunFacts.exist(folder) and (folder / CARD).is_file()):
        raise ItmkitError(f"{folder}: is there already and is no export; name another folder")


def _check_whole(source: Path, members: list[str], caches: tuple[str, ...], facts: RunFacts) -> None:
    """Raises ItmkitError naming everything that the run lacks."""
    weights = [source / f"best-{member}.safetensors" for member in members]
    problems = [f"{path}: is missing; run `itmkit train` to the first epoch" for path in weights if not path.is_file()]
    for cache in caches:
        try:
            made_in_training(source, cache, facts.caches.get(cache))
        except ItmkitError as error:
            problems += error.problems
    if problems:
        raise ItmkitError(problems)


def _old(folder: Path) -> Path:
    """Where an export lies while another takes its place."""
    return folder.with_name(f".{folder.name}.old")


def _replace(folder: Path, partial: Path) -> None:
    old = _old(folder)
    remove_folder(old)
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
