"""A run trained again by its name alone: its method and settings are those of its config.toml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from itmkit.dataset import Dataset
from itmkit.errors import ItmkitError
from itmkit.runs.begin import configured
from itmkit.runs.facts import RunFacts, run_names
from itmkit.runs.place import is_replacing, place_of
from itmkit.runs.settings import RunConfig, read_config
from itmkit.training.budget import asked_for
from itmkit.workspace import Workspace


def as_before(
    workspace: Workspace, run: str | None, settings: Mapping[str, Any], dataset: Dataset | None = None
) -> RunConfig:
    """The settings of a run that exists, with some of them changed.

    Raises:
        ItmkitError: no run is named, there is none of that name, or a setting is wrong.
    """
    if run is None or not RunFacts.exist(folder := workspace.run(run)):
        if run is not None and is_replacing(folder):
            with place_of(folder, force=False):  # which finishes that
                return as_before(workspace, run, settings, dataset)
        have = ", ".join(run_names(workspace))
        named = f"--run {run}: there is no such run to continue. " if run is not None else ""
        raise ItmkitError(
            f"{named}--method NAME says what to train (`itmkit methods` lists them)"
            + (f"; --run NAME alone continues one of the runs {have}" if have else "")
        )
    before = read_config(folder / "config.toml")
    if not settings:
        return before
    asked = asked_for(before)
    own = asdict(asked.matcher) | asdict(asked.training)
    # A budget decides the epochs, so that either takes the place of the other.
    del own["budget" if "epochs" in settings else "epochs"]
    found = configured(
        workspace, before.method, recipe=before.recipe, settings={**own, **settings}, run=run, dataset=dataset
    )
    if "epochs" in settings:
        return found
    return replace(found, training=replace(found.training, epochs=asked.training.epochs))
