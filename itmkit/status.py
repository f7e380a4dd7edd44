"""`itmkit status`: the state of everything in a workspace, in the order of the pipeline, runs last."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from itmkit.cache import read_manifest
from itmkit.cache.name import PIPELINE, PUBLISHED_TEXTS, CacheName
from itmkit.dataset import PICTURES
from itmkit.dataset_index import DatasetFacts
from itmkit.errors import ItmkitError
from itmkit.graphs import lacking
from itmkit.runs.facts import RunFacts, evaluated_on, run_names
from itmkit.stages import StageState, State, cache_state
from itmkit.workspace import Workspace


def status(workspace: Workspace) -> list[StageState]:
    """One row for the data set, for every cache and for every run; what is damaged is told in its row."""
    first, dataset = _dataset_state(workspace)
    settings = _settings_state(workspace)
    named = workspace.named_caches()
    names = [*_pipeline(workspace, dataset, named), *map(str, named)]
    caches = [cache_state(workspace, name, dataset) for name in names]
    if "text" not in names:
        caches = [_without_trees(row) for row in caches]
    return [first, *settings, *caches, *(_run_state(workspace, name, dataset) for name in run_names(workspace))]


def _pipeline(workspace: Workspace, dataset: DatasetFacts | None, named: Sequence[CacheName]) -> list[str]:
    """The caches that have a row, made or not.

    Pictures without captions are not on the way to a training. Graphs of images cannot be made where regions were
    imported without boxes. Where the words are those of published code, nothing with trees is on the way either, unless
    something reads it.
    """
    made = [name for name in PIPELINE if workspace.cache(name).is_dir()]
    if dataset is not None and dataset.kind == PICTURES:
        return made
    if not any(str(name) in PUBLISHED_TEXTS.values() for name in named):
        return [name for name in PIPELINE if name != "graphs/images" or not _without_boxes(workspace)]
    wanted = {"regions", *made, *(name.base for name in named), *_read_by_runs(workspace)}
    return [name for name in PIPELINE if name in wanted]


def _without_boxes(workspace: Workspace) -> bool:
    with suppress(ItmkitError):  # damaged, reported in its row
        regions = read_manifest(workspace.cache("regions"))
        return regions is not None and bool(lacking(regions))
    return False


def _read_by_runs(workspace: Workspace) -> set[str]:
    found = set[str]()
    for name in run_names(workspace):
        with suppress(ItmkitError):  # a damaged run, reported in its row
            found |= RunFacts.read(workspace.run(name)).caches.keys()
    return found


def _without_trees(row: StageState) -> StageState:
    """The row of the words of published code says what they are, where they are the only ones."""
    if row.stage not in PUBLISHED_TEXTS.values() or row.detail:
        return row
    return replace(row, detail="words of published code; methods that read trees need `itmkit parse-text` too")


def _dataset_state(workspace: Workspace) -> tuple[StageState, DatasetFacts | None]:
    path = workspace.dataset_path
    try:
        facts = workspace.dataset_facts()
    except ItmkitError as error:
        state: State = "damaged" if path.exists() else "missing"
        detail = error.problems[0] if state == "damaged" else ""
        if not workspace.root.is_dir():
            detail = f"there is no folder {workspace.root}"
        command = "itmkit prepare --help" if state == "damaged" else "itmkit quickstart"
        return StageState("dataset", path, state, detail, command=command), None
    detail = ", ".join(f"{split} {c['images']} images {c['captions']} captions" for split, c in facts.counts.items())
    return StageState("dataset", path, "done", detail, facts.images, bytes=path.stat().st_size), facts


def _settings_state(workspace: Workspace) -> list[StageState]:
    """A row for workspace.toml if stages cannot read it."""
    path = workspace.settings_path
    try:
        workspace.settings("")
    except ItmkitError as error:
        return [StageState("settings", path, "damaged", error.problems[0], command=f"put {path.name} right")]
    return []


def _run_state(workspace: Workspace, name: str, dataset: DatasetFacts | None) -> StageState:
    folder, stage = workspace.run(name), f"run {name}"
    again = f"itmkit train --run {shlex.quote(name)}"
    try:
        facts = RunFacts.read(folder)
    except ItmkitError as error:
        return StageState(stage, folder, "damaged", error.problems[0], command=f"{again} --force")
    detail = _in_words(facts, evaluated_on(folder))
    changed = [cache for cache, value in facts.caches.items() if _fingerprint_or_none(workspace, cache) != value]
    changed += ["captions"] if dataset and facts.captions != dataset.captions_digest else []
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    if changed:
        why = f"{detail}; {' and '.join(changed)} changed since"
        return StageState(stage, folder, "stale", why, bytes=size, command=f"{again} --force")
    if facts.finished:
        return StageState(stage, folder, "done", detail, bytes=size)
    return StageState(stage, folder, "partial", detail, bytes=size, command=again)


def _in_words(facts: RunFacts, evaluated: list[str]) -> str:
    best = " / ".join(f"{member['rsum']:.1f}" for member in facts.best.values() if "rsum" in member)
    said = [f"{facts.method}, recipe {facts.recipe}", f"{facts.epochs_done} of {facts.epochs} epochs"]
    said += [f"best val rsum {best}"] if best else []
    said += [f"evaluated on {', '.join(evaluated)}"] if evaluated else []
    return ", ".join(said)


def next_command(rows: list[StageState], kind: str) -> str:
    """What to run next; empty if every stage is done, and every run trained and evaluated.

    Args:
        rows: of `status`.
        kind: of the data set; "" if there is none.
    """
    unfinished = [row.command for row in rows if row.state != "done" and row.command]
    if unfinished:
        return unfinished[0]
    if kind == PICTURES:
        return ""
    runs = [row.path for row in rows if row.stage.startswith("run ")]
    texts = {row.stage for row in rows if row.stage == "text" or row.stage in PUBLISHED_TEXTS.values()}
    if not runs and texts and "text" not in texts:
        return "itmkit import-checkpoint --help"
    if not runs:
        graphs = {row.stage for row in rows if row.stage.startswith("graphs/")}
        recipe = " --recipe scenes" if kind == "scenes" else ""
        return f"itmkit train --method mpsm{recipe}{' --visual-kgid false' if graphs == {'graphs/texts'} else ''}"
    left = [folder.name for folder in runs if not evaluated_on(folder)]
    return f"itmkit evaluate --run {shlex.quote(left[0])} --split test" if left else ""


def _fingerprint_or_none(workspace: Workspace, cache: str) -> str | None:
    try:
        return workspace.fingerprint(cache)
    except ItmkitError:  # a damaged manifest, reported in the row of that cache
        return None
