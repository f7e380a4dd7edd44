"""Which caches of a workspace are done, partial, missing, stale or damaged, and the command that puts each right."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from itmkit.cache import Manifest, read_manifest
from itmkit.cache.name import CacheName
from itmkit.cache.parts import part_manifest, parts_in
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
    path, command = workspace.cache(cache), f"itmkit {CacheName.of(cache).command}"
    try:
        manifest = read_manifest(path)
    except ItmkitError as error:
        return StageState(cache, path, "damaged", error.problems[0], command=f"{command} --force")
    if manifest is None:
        return _state_in_parts(cache, path, command)
    facts: dict[str, Any] = {"count": manifest.count, "skipped": len(manifest.skipped), "bytes": manifest.bytes}
    if manifest.made_by.stage == "import-features":
        command = "itmkit import-features"
    if dataset is not None and (why := _stale(workspace, cache, manifest, dataset)):
        return StageState(cache, path, "stale", why, **facts, command=f"{command} --force")
    if why := _damaged(path, manifest):
        return StageState(cache, path, "damaged", why, **facts, command=f"{command} --force")
    if not manifest.complete:
        done = manifest.count + len(manifest.skipped)
        return StageState(cache, path, "partial", f"{done} of {manifest.planned}", **facts, command=command)
    return StageState(cache, path, "done", **facts)


def _stale(workspace: Workspace, cache: str, manifest: Manifest, dataset: Dataset | DatasetFacts) -> str:
    """What has changed since the cache was made; empty if nothing has."""
    base = CacheName.of(cache).base
    below = cache_state(workspace, base, dataset).state if base else "done"
    if below != "done":
        return f"{base} is {below}"
    changed = workspace.stale_inputs(cache, manifest, dataset)
    return f"{' and '.join(changed)} changed since" if changed else ""


def _damaged(path: Path, manifest: Manifest) -> str:
    """The first shard that is missing or cut short; empty if there is none."""
    missing = [shard["file"] for shard in manifest.shards if not (path / shard["file"]).exists()]
    if missing:
        return f"missing {missing[0]}"
    cut = [shard["file"] for shard in manifest.shards if (path / shard["file"]).stat().st_size != shard["bytes"]]
    return f"{cut[0]} has not the size it was written with" if cut else ""


def _state_in_parts(cache: str, path: Path, command: str) -> StageState:
    """The state of a cache that several jobs write and nobody has merged yet, or that nobody has begun."""
    parts = parts_in(path)
    if not parts:
        return StageState(cache, path, "missing", command=command)
    of = parts[0].of
    found = {part.index: read_manifest(path, part_manifest(part)) for part in parts}
    finished = sorted(index for index, manifest in found.items() if manifest is not None and manifest.complete)
    count = sum(manifest.count for manifest in found.values() if manifest is not None)
    detail = f"{len(finished)} of {of} parts are finished"
    left = next((index for index in range(of) if index not in finished), None)
    command = "itmkit merge" if left is None else f"{command} --shard {left}/{of}"
    return StageState(cache, path, "partial", detail, count=count, command=command)
