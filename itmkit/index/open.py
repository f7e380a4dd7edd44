"""Opens an index with the run it was made by, and makes sure that the two still belong together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from itmkit.cache.manifest import read_manifest
from itmkit.errors import ItmkitError
from itmkit.index.made import WEIGHTS, made_digest, weights_of
from itmkit.index.search import Searcher
from itmkit.index.store import IndexFacts, Store
from itmkit.runs.facts import RunFacts
from itmkit.trained import open_matcher
from itmkit.workspace import Workspace


def open_index(
    workspace: Workspace,
    name: str = "index",
    *,
    device: str | None = None,
    models: Mapping[str, str | Path] | None = None,
) -> Searcher:
    """The index of a workspace, ready for queries.

    Args:
        name: its folder; device, models: as in `itmkit.open`.

    Raises:
        ItmkitError: there is no index, its run is gone, or the run's weights or the settings of the caches have changed
            since it was made.
    """
    store = Store(index_folder(workspace, name))
    run = run_of(workspace, store.facts, store.folder)
    matcher = open_matcher(run, device=device, models=models)
    found = weights_of(matcher.folder, matcher.members)
    changed = [what for what, value in found.items() if store.facts.made_from.get(what) != value]
    for cache, value in store.facts.made_from.items():
        if cache.startswith(WEIGHTS):
            continue
        manifest = read_manifest(workspace.cache(cache))  # a search needs no cache; one that is gone tells nothing
        if manifest is not None and made_digest(manifest.made_by) != value:
            changed.append(f"how caches/{cache} was made")
    if changed:
        again = f" --out {name}" if name != "index" else ""
        raise ItmkitError(
            f"{store.folder}: is stale, since {' and '.join(changed)} changed; run `itmkit index --force --run"
            f" {run.name}{again}`"
        )
    return Searcher(store, matcher)


def index_folder(workspace: Workspace, name: str) -> Path:
    """The place of an index. Raises ItmkitError where the name is not that of a folder of its own."""
    if not name or name.startswith(".") or Path(name).name != name or name in ("caches", "runs", "images"):
        raise ItmkitError(f"--out {name}: an index is a folder of its own in the workspace, such as index-int8")
    return workspace.root / name


def run_of(workspace: Workspace, facts: IndexFacts, folder: Path) -> Path:
    """The folder of the run that made an index: where it lay, or in the workspace, if that was moved or copied.

    Where both have a run, it is the one that still has the weights of then.

    Raises:
        ItmkitError: it is gone.
    """
    places = [Path(facts.run), workspace.root / "runs" / Path(facts.run).name]
    there = [place for place in places if RunFacts.exist(place)]
    if not there:
        raise ItmkitError(
            f"{folder}: was made by the run {facts.run}, which is gone; run `itmkit index --force --run NAME` with one"
            " that is there"
        )
    if there[0] == there[-1]:
        return there[0]
    return next((place for place in there if _has_weights(place, facts)), there[0])


def _has_weights(run: Path, facts: IndexFacts) -> bool:
    made = {what: value for what, value in facts.made_from.items() if what.startswith(WEIGHTS)}
    try:
        return weights_of(run, [what.removeprefix(WEIGHTS) for what in made]) == made
    except OSError:  # other members, or no weights yet
        return False


def behind_note(workspace: Workspace, store: Store) -> str:
    """What to tell if the data set has changed since the index was made or brought up to date; else empty."""
    if not store.facts.dataset or not workspace.dataset_path.is_file():
        return ""
    now = workspace.dataset_facts()
    if store.facts.dataset == [now.images_digest, now.captions_digest]:
        return ""
    again = "" if store.folder.name == "index" else f" --out {store.folder.name}"
    return f"the data set has changed since the index was made; `itmkit index --add{again}` brings it up"
