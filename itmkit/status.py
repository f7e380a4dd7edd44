"""`itmkit status`: the state of everything in a workspace, in the order of the pipeline, runs last."""

from __future__ import annotations

from itmkit.cache.name import PIPELINE
from itmkit.dataset import Dataset
from itmkit.errors import ItmkitError
from itmkit.runs.facts import RunFacts, run_names
from itmkit.stages import StageState, State, cache_state
from itmkit.workspace import Workspace


def status(workspace: Workspace) -> list[StageState]:
    """One row for the data set, for every cache and for every run; what is damaged is told in its row."""
    first, dataset = _dataset_state(workspace)
    settings = _settings_state(workspace)
    names = [*PIPELINE, *map(str, workspace.named_caches())]
    caches = [cache_state(workspace, name, dataset) for name in names]
    return [first, *settings, *caches, *(_run_state(workspace, name, dataset) for name in run_names(workspace))]


def _dataset_state(workspace: Workspace) -> tuple[StageState, Dataset | None]:
    path = workspace.dataset_path
    try:
        dataset = workspace.dataset()
    except ItmkitError as error:
        state: State = "damaged" if path.exists() else "missing"
        detail = error.problems[0] if state == "damaged" else ""
        if not workspace.root.is_dir():
            detail = f"there is no folder {workspace.root}"
        command = "itmkit prepare --force" if state == "damaged" else "itmkit prepare"
        return StageState("dataset", path, state, detail, command=command), None
    counts = dataset.info["counts"].items()
    detail = ", ".join(f"{split} {c['images']} images {c['captions']} captions" for split, c in counts)
    return StageState("dataset", path, "done", detail, len(dataset.images), bytes=path.stat().st_size), dataset


def _settings_state(workspace: Workspace) -> list[StageState]:
    """A row for workspace.toml if stages cannot read it."""
    path = workspace.settings_path
    try:
        workspace.settings("")
    except ItmkitError as error:
        return [StageState("settings", path, "damaged", error.problems[0], command=f"put {path.name} right")]
    return []


def _run_state(workspace: Workspace, name: str, dataset: Dataset | None) -> StageState:
    folder, stage = workspace.run(name), f"run {name}"
    try:
        facts = RunFacts.read(folder)
    except ItmkitError as error:
        return StageState(stage, folder, "damaged", error.problems[0], command="itmkit train --force")
    again = f"itmkit train --method {facts.method} --run {name}"
    detail = f"{facts.method}, {facts.epochs_done} of {facts.epochs} epochs"
    changed = [cache for cache, value in facts.caches.items() if _fingerprint_or_none(workspace, cache) != value]
    changed += ["captions"] if dataset and facts.captions != dataset.captions_digest else []
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    if changed:
        why = f"{detail}; {' and '.join(changed)} changed since"
        return StageState(stage, folder, "stale", why, bytes=size, command=f"{again} --force")
    state: State = "done" if facts.finished else "partial"
    return StageState(stage, folder, state, detail, bytes=size, command="" if facts.finished else again)


def _fingerprint_or_none(workspace: Workspace, cache: str) -> str | None:
    try:
        return workspace.fingerprint(cache)
    except ItmkitError:  # a damaged manifest, reported in the row of that cache
        return None
