"""Batches come in the order that was asked for, whoever reads them, and errors in one piece."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from itmkit.cache import WHOLE, Part
from itmkit.errors import ItmkitError
from itmkit.inputs import Inputs
from itmkit.inputs.vocabulary import Vocabulary
from itmkit.runs.settings import resolve
from itmkit.training.batches import epoch_order, pair_batch
from itmkit.training.feeding import Feed
from itmkit.training.train import train
from itmkit.workspace import Workspace
from tests.training.tiny import FAST, FAST_TRAINING, GRAPHS, THINGS

CPU = torch.device("cpu")


def inputs_of(workspace: Workspace) -> Inputs:
    return Inputs(workspace, workspace.dataset().split("train"), Vocabulary.build(THINGS, minimum=1), GRAPHS)


@contextmanager
def feed_of(inputs: Inputs, *, workers: int, part: Part = WHOLE, global_negatives: bool = False) -> Iterator[Feed]:
    before = multiprocessing.active_children()
    with closing(Feed(inputs, workers=workers, device=CPU, part=part, global_negatives=global_negatives)) as feed:
        yield feed
    assert set(multiprocessing.active_children()) <= set(before)


def orders(inputs: Inputs) -> list[list[np.ndarray]]:
    ways = {"batch_size": 4, "captions_per_image": 1, "length_buckets": 1, "seed": 0}
    return [epoch_order(inputs.image_of, inputs.lengths, epoch=epoch, **ways) for epoch in (1, 2)]  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("part", [WHOLE, Part(1, 2)], ids=str)
def test_batches_are_those_of_the_order(workers: int, part: Part, workspace: Workspace) -> None:
    inputs = inputs_of(workspace)
    with feed_of(inputs, workers=workers, part=part, global_negatives=True) as feed:
        for order in orders(inputs):  # one epoch after the other, with the same processes
            found = list(feed.batches(order))
            assert len(found) == len(order)
            for batch, captions in zip(found, order, strict=True):
                expected = pair_batch(inputs, captions, part=part, global_negatives=True)
                np.testing.assert_array_equal(batch.captions, expected.captions)
                assert torch.equal(batch.image_of, expected.image_of)
                for side in ("images", "texts"):
                    for name, value in vars(getattr(expected, side)).items():
                        assert value is None or torch.equal(getattr(getattr(batch, side), name), value)
        assert list(feed.batches([])) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_what_cannot_be_read_is_told_as_it_is(workers: int, workspace: Workspace) -> None:
    with h5py.File(workspace.cache("regions") / "shard-00000.h5", "r+") as file:
        file["features"][3, 0, 0] = np.nan
    (workspace.cache("regions") / "manifest.json").touch()
    inputs = inputs_of(workspace)
    with feed_of(inputs, workers=workers) as feed, pytest.raises(ItmkitError) as error:
        list(feed.batches(orders(inputs)[0]))
    assert len(error.value.problems) == 1
    assert error.value.problems[0].endswith("the features of image 'image03' hold NaN or infinity; extract it anew")


def test_a_process_that_is_killed_is_told_of(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = inputs_of(workspace)
    main = os.getpid()

    def killed(which: np.ndarray) -> None:
        assert os.getpid() != main
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(inputs, "image_batch", killed)
    said = r"a process that reads batches was stopped .*--workers 0"
    with feed_of(inputs, workers=1) as feed, pytest.raises(ItmkitError, match=said):
        list(feed.batches(orders(inputs)[0]))


def test_weights_do_not_depend_on_who_reads(workspace: Workspace) -> None:
    def weights(workers: int) -> dict[str, bytes]:
        settings = {**FAST["mpsm"], **FAST_TRAINING, "epochs": 1, "dropout": 0.2, "similarities": "distance"}
        config = resolve("mpsm", settings={**settings, "workers": workers})
        run: Path = train(workspace, config, run=f"with-{workers}").run
        return {path.name: path.read_bytes() for path in run.glob("best-*.safetensors")}

    assert weights(0) == weights(2)
