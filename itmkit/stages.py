"""Which caches of a workspace are done, partial, missing, stale or damaged, and the command that puts each right."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from itmkit.cache import WHOLE, MadeBy, Manifest, Part, read_manifest
from itmkit.cache.anew import NEW
from itmkit.cache.begin import begun_manifest
from itmkit.cache.command import command_of
from itmkit.cache.grow import grow
from itmkit.cache.manifest import part_manifest, parts_in
from itmkit.cache.name import CacheName
from itmkit.dataset import Dataset
from itmkit.dataset_index import DatasetFacts
from itmkit.errors import ItmkitError
from itmkit.workspace import Workspace

State = Literal["done", "partial", "missing", "stale", "damaged"]


@dataclass(frozen=True)
class StageState:
    """One row of `itmkit status`."""

    stage: str
    path: Path
    state: State
    detail: str = ""
    count: int = 0
    skipped: int = 0
    bytes: int = 0
    command: str = ""  # what to run next where the state is not "done"


def require(workspace: Workspace, *caches: str, dataset: Dataset | None = None) -> None:
    """Raises ItmkitError naming every cache that is not done, each with the command to run.

    Args:
        dataset: the workspace's data set, if it has been read already.
    """
    dataset = dataset or workspace.dataset()
    states = [cache_state(workspace, name, dataset) for name in caches]
    problems = [
        f"{state.path} is {state.state}{f' ({state.detail})' if state.detail else ''}: run `{state.command}`"
        for state in states
        if state.state != "done"
    ]
    if problems:
        raise ItmkitError(problems)


def cache_state(workspace: Workspace, cache: str, dataset: Dataset | DatasetFacts | None) -> StageState:
    """Whether a cache is done, partial, missing, stale (its inputs changed since) or damaged.

    Args:
        dataset: None if it cannot be read. Nothing is then known to be stale.
    """
    path, name = workspace.cache(cache), CacheName.of(cache)
    try:
        manifest, begun = read_manifest(path), begun_manifest(path)
        command = f"itmkit {command_of(name, begun, workspace.settings(name.stage))}"
    except ItmkitError as error:
        return StageState(cache, path, "damaged", error.problems[0], command=f"itmkit {name.command} --force")
    new = path / NEW
    if manifest is None:
        return _state_in_parts(cache, path if parts_in(path) else new, command)
    facts: dict[str, Any] = {"count": manifest.count, "skipped": len(manifest.skipped), "bytes": manifest.bytes}
    anew = _state_in_parts(cache, new, command)
    suffix = "" if anew.state == "missing" else f"; a new one is begun, {anew.detail}"
    again = anew.command if suffix else f"{command} --force"
    if dataset is not None and (why := _stale(workspace, cache, manifest, dataset)):
        if not suffix and _images_added(workspace, name, manifest):
            return StageState(cache, path, "partial", "images were added since", **facts, command=command)
        return StageState(cache, path, "stale", why + suffix, **facts, command=again)
    if why := _damaged(path, manifest):
        return StageState(cache, path, "damaged", why + suffix, **facts, command=again)
    if not manifest.complete:
        done = f"{manifest.count + len(manifest.skipped)} of {manifest.planned}"
        return StageState(cache, path, "partial", done + suffix, **facts, command=anew.command if suffix else command)
    return StageState(cache, path, "done", suffix.removeprefix("; "), **facts)


def admit_added(
    workspace: Workspace,
    cache: str,
    made_by: MadeBy,
    dataset: Dataset,
    *,
    planned: int,
    shard_size: int,
    part: Part,
    force: bool,
) -> None:
    """If images were added to the end of the data set, the cache may go on with them; its finished rows stay.

    Args:
        made_by: by what the stage makes it now; planned: how many rows it should have.
        part, force: of the stage. A cache in parts, or one that is made anew, is left as it is.
    """
    if part == WHOLE and not force:
        grow(
            workspace.cache(cache),
            made_by,
            planned=planned,
            shard_size=shard_size,
            is_beginning=lambda found: workspace.has_grown(cache, found, dataset),
        )


def _images_added(workspace: Workspace, name: CacheName, manifest: Manifest) -> bool:
    """Whether a cache only lacks images that were added (`itmkit prepare ... --add`), and its stage goes on with them.

    A stage of another name is an import, which has to be made anew.
    """
    if not name.grows or manifest.made_by.stage != name.stage or parts_in(workspace.cache(str(name))):
        return False
    try:
        return workspace.has_grown(str(name), manifest, workspace.dataset())
    except ItmkitError:
        return False


def _stale(workspace: Workspace, cache: str, manifest: Manifest, dataset: Dataset | DatasetFacts) -> str:
    """What has changed since the cache was made; empty if nothing has."""
    base = CacheName.of(cache).base
    below = cache_state(workspace, base, dataset).state if base else "done"
    if below != "done":
        return f"{base} is {below}"
    changed = workspace.stale_inputs(cache, manifest, dataset)
    return f"{' and '.join(changed)} changed since" if changed else ""


def _damaged(path: Path, manifest: Manifest) -> str:
    """What is wrong with the manifest, or the first shard that is missing or cut short; empty if there is none."""
    if manifest.altered:
        return manifest.altered
    missing = [shard["file"] for shard in manifest.shards if not (path / shard["file"]).exists()]
    if missing:
        return f"missing {missing[0]}"
    cut = [shard["file"] for shard in manifest.shards if (path / shard["file"]).stat().st_size != shard["bytes"]]
    return f"{cut[0]} has not the size it was written with" if cut else ""


def _state_in_parts(cache: str, path: Path, command: str) -> StageState:
    """The state of a cache in `path` that is not there as a whole: made anew, by several jobs, or by nobody yet."""
    whole, parts = read_manifest(path), parts_in(path)
    place = path.parent if path.name == NEW else path
    if whole is not None:
        done = f"{whole.count + len(whole.skipped)} of {whole.planned}"
        return StageState(cache, place, "partial", done, count=whole.count, command=command)
    if not parts:
        return StageState(cache, place, "missing", command=command)
    of = parts[0].of
    found = {part.index: read_manifest(path, part_manifest(part)) for part in parts}
    finished = sorted(index for index, manifest in found.items() if manifest is not None and manifest.complete)
    count = sum(manifest.count for manifest in found.values() if manifest is not None)
    detail = f"{len(finished)} of {of} parts are finished"
    left = next((index for index in range(of) if index not in finished), None)
    command = "itmkit merge" if left is None else f"{command} --shard {left}/{of}"
    return StageState(cache, place, "partial", detail, count=count, command=command)
