"""A run of a method that has nothing to train, written without scoring a split: of pictures that have no captions."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import torch

from itmkit.errors import ItmkitError
from itmkit.inputs import Inputs
from itmkit.matchers import build, method
from itmkit.runs.begin import begin_run, facts_before, with_precision
from itmkit.runs.checkpoint import save_weights
from itmkit.runs.facts import RunFacts
from itmkit.runs.place import place_of
from itmkit.runs.settings import RunConfig, read_config
from itmkit.stages import require
from itmkit.workspace import Workspace


def write_untrained(workspace: Workspace, config: RunConfig, run: str) -> Path:
    """Writes a finished run that has no figures. One of the same settings and caches is left as it is.

    `itmkit train` does the same and scores the images of `val`; this needs no captions.

    Returns:
        The folder of the run.

    Raises:
        ItmkitError: the method trains; caches are missing or stale; another run has this name.
    """
    if config.stages:
        raise ItmkitError(f"{config.method} has to be trained: run `itmkit train --method {config.method}`")
    folder, dataset = workspace.run(run), workspace.dataset()
    module = method(config.method)
    needs = module.needs(config.matcher)
    require(workspace, *needs.caches, dataset=dataset)
    with place_of(folder, force=True) as (place, _):
        config = with_precision(config, folder, torch.device("cpu"))
        facts = facts_before(workspace, dataset, config)
        there = RunFacts.exist(folder)
        if there:
            before = RunFacts.read(folder)
            if read_config(folder / "config.toml").to_json() != config.to_json():
                raise ItmkitError(f"{folder}: holds another run; remove it, or choose another name")
            if (before.caches, before.captions) == (facts.caches, facts.captions):
                return folder
            place.beside()
        sizes = Inputs(workspace, dataset.images, None, needs).sizes
        members = build(config.method, config.matcher, sizes=sizes, seed=config.training.seed)
        facts = begin_run(workspace, place.now, facts, config, None)
        for name, network in members.items():
            # Without the id of the run, which changes with the pictures: an index of the same weights stays good.
            save_weights(place.now / f"best-{name}.safetensors", network, {"member": name, "epoch": 0})
        replace(facts, sizes=asdict(sizes), finished=True).write(place.now)
        place.settle()
    return folder
