"""Pairs a second of training steps, against the loop over captions of published code, and where the time goes.

    python -m tests.benchmarks.training [--methods glfn,mpsm] [--batch 128] [--embed 1024] [--steps 4] [--folder DIR]
                                        [--warm 3] [--precision auto] [--workers N] [--threads N]

Random weights at paper size (D 1024, 36 regions of 2,048 numbers, captions of 12 words on average), every caption of a
batch from another image. Of each method, in one run and in turn:

    itmkit    the steps of `itmkit train`: batches from the caches, encoding, all pairs, gradients, Adam
    every     the same, all pairs with gradients, where a step on the hardest negatives has them of few (`few_pairs`)
    gru       the same, with PyTorch's gradients of the GRU (`itmkit.matchers.parts.recurrent` has its own)
    literal   the same optimizer, but encoders as the papers print them (`literal_encoding`), and pairs caption by
              caption, D-vectors formed (`literal_scoring`)

All train the same members. The median step counts; the first ones, in which memory is asked for that later steps find
there, do not. The machine must be idle.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import nn

from itmkit.inputs import Inputs
from itmkit.machine.memory import keep_freed_memory
from itmkit.matchers import as_matcher, build, method, preset
from itmkit.matchers.parts import recurrent
from itmkit.matchers.parts.losses import triplet_loss
from itmkit.runs.begin import training_vocabulary
from itmkit.runs.settings import RunConfig, Training
from itmkit.training import gradients
from itmkit.training.batches import PairBatch, batches_of, pair_batch
from itmkit.training.feeding import Feed
from itmkit.training.step import Learner
from itmkit.workspace import Workspace
from tests.benchmarks.literal_encoding import literal_encoders
from tests.benchmarks.literal_scoring import METHODS
from tests.benchmarks.synthetic import synthetic_workspace

# GLFN with words learned here and without tag vectors: what is frozen costs training nothing but reading.
SETTINGS: dict[str, dict[str, Any]] = {"glfn": {"words": "gru", "tags": False}}
LITERAL = {"glfn": "scan"}  # whose members compare pairs
WITHOUT: dict[str, tuple[ModuleType, str]] = {  # ways to train without something: a condition that is not met then
    "every": (gradients, "few_are_enough"),
    "gru": (recurrent, "gradients_by_hand"),
}
PARTS = ("feeding", "encoding", "scoring", "backward", "step")


class Clock:
    """Seconds of each part, of one step after the other."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []

    def begin(self) -> None:
        self.steps.append(defaultdict(float))

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **keywords: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*args, **keywords)
            finally:
                if self.steps:
                    self.steps[-1][part] += time.perf_counter() - began

        return run


@contextmanager
def watched(learner: Learner, clock: Clock) -> Iterator[None]:
    """Times the parts of the steps of a learner: all that is no other part is scoring."""
    with ExitStack() as stack:
        for matcher in learner.members.values():
            for name in ("encode_images", "encode_texts"):
                timed = clock.timed("encoding", getattr(matcher, name))
                stack.enter_context(patch.object(matcher, name, timed))
        for owner, name, part in (
            (torch.autograd, "backward", "backward"),
            (nn.utils, "clip_grad_norm_", "step"),
            (learner.optimizer, "step", "step"),
        ):
            stack.enter_context(patch.object(owner, name, clock.timed(part, getattr(owner, name))))
        yield


def literal_step(name: str, learner: Learner, batch: PairBatch) -> None:
    """One step as published code takes it, of every member."""
    learner.optimizer.zero_grad(set_to_none=True)
    triplet = partial(triplet_loss, image_of=batch.image_of, margin=0.2, negatives="hardest")
    for member, matcher in learner.members.items():
        matcher.train()
        one, contract = METHODS[LITERAL.get(name, name), member], as_matcher(matcher)
        images, texts = contract.encode_images(batch.images), contract.encode_texts(batch.texts)
        columns = []
        for text, length in enumerate(texts["mask"].sum(dim=1).tolist()):
            mine = {key: value[text] for key, value in texts.items()}
            columns.append(one(matcher, images, texts["nodes"][text, :length], mine))
        triplet(torch.stack(columns, dim=1)).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(matcher.parameters(), 2.0)
    learner.optimizer.step()


class Side:
    """One of the two, in a process of its own: the memory that one has used would slow the other down."""

    def __init__(self, target: Callable[..., None], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=target, args=(other, *arguments), daemon=True)
        self._process.start()

    def ask(self) -> Any:
        self._pipe.send("step")
        return self._pipe.recv()


def prepared(name: str, root: Path, args: argparse.Namespace) -> tuple[Inputs, list[np.ndarray], Learner]:
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    config = method(name).Config(**preset(name) | SETTINGS.get(name, {}), embed=args.embed)
    training = Training(batch_size=args.batch, precision=args.precision, minimum_count=1, workers=args.workers)
    dataset = Workspace(root).dataset()
    vocabulary = training_vocabulary(Workspace(root), dataset, RunConfig(name, "paper", config, training))
    inputs = Inputs(Workspace(root), dataset.split("train"), vocabulary, method(name).needs(config))
    order = batches_of(inputs, training, epoch=1)
    # Of every batch only captions of different images, as in a large data set, where two of one image hardly meet.
    first = [captions[np.unique(inputs.image_of[captions], return_index=True)[1]] for captions in order]
    order = [captions for captions in first if len(captions) >= 0.8 * args.batch][: args.steps + args.warm]
    learner = Learner(build(name, config, sizes=inputs.sizes, seed=0), training, torch.device("cpu"))
    return inputs, order, learner


def by_itmkit(pipe: Connection, name: str, root: Path, args: argparse.Namespace, without: str | None) -> None:
    """A step whenever asked: its pairs and the seconds of its parts. without: of `WITHOUT`."""
    with patch.object(*WITHOUT[without], lambda *_: False) if without else nullcontext():
        _steps_of_itmkit(pipe, name, root, args)


def _steps_of_itmkit(pipe: Connection, name: str, root: Path, args: argparse.Namespace) -> None:
    inputs, order, learner = prepared(name, root, args)
    clock = Clock()
    feed = Feed(inputs, workers=args.workers, device=learner.device, part=learner.part, global_negatives=False)
    coming = feed.batches(order)
    for number, captions in enumerate(order):
        pipe.recv()
        clock.begin()
        batch = clock.timed("feeding", next)(coming)
        with watched(learner, clock):
            clock.timed("all", learner.step)(batch, "", "hardest", 2e-4, epoch=1, number=number, done=number)
        clock.timed("reading", pair_batch)(inputs, captions)  # again, with nothing else going on
        pipe.send((batch.pairs * len(learner.members), dict(clock.steps[-1])))


def by_loop(pipe: Connection, name: str, root: Path, args: argparse.Namespace) -> None:
    """The seconds of a step whenever asked."""
    inputs, order, learner = prepared(name, root, args)
    for captions in order:
        batch = pair_batch(inputs, captions)
        pipe.recv()
        began = time.perf_counter()
        with literal_encoders():
            literal_step(name, learner, batch)
        pipe.send(time.perf_counter() - began)


def measure(name: str, root: Path, args: argparse.Namespace) -> None:
    itmkit, loop = Side(by_itmkit, name, root, args, None), Side(by_loop, name, root, args)
    others = {way: Side(by_itmkit, name, root, args, way) for way in WITHOUT}
    steps, loops, without = [], [], defaultdict(list)
    for _ in range(args.steps + args.warm):
        steps.append(itmkit.ask())
        for way, other in others.items():
            without[way].append(other.ask()[1]["all"])
        loops.append(loop.ask())
    pairs = float(np.median([count for count, _ in steps[args.warm :]]))
    seconds = {
        part: float(np.median([found.get(part, 0.0) for _, found in steps[args.warm :]])) for part in steps[0][1]
    }
    seconds["scoring"] = seconds["all"] - seconds["encoding"] - seconds["backward"] - seconds["step"]
    whole = seconds["all"] + seconds["feeding"]
    mine, theirs = pairs / whole, pairs / float(np.median(loops[args.warm :]))
    longer = {way: float(np.median(found[args.warm :])) / seconds["all"] for way, found in without.items()}
    shares = ", ".join(f"{part} {1000 * seconds[part]:,.0f} ms ({seconds[part] / whole:.1%})" for part in PARTS)
    print(
        f"{name}: {mine:,.0f} pairs/s, literal {theirs:,.0f}, {mine / theirs:.1f}x; every pair with gradients"
        f" takes {longer['every']:.2f}x as long, PyTorch's gradients of the GRU {longer['gru']:.2f}x;"
        f" {whole:.2f} s a step: {shares};"
        f" reading a batch takes {1000 * seconds['reading']:,.0f} ms, meanwhile",
        flush=True,
    )


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--methods", default="glfn,mpsm")
    options.add_argument("--batch", type=int, default=128)
    options.add_argument("--embed", type=int, default=1024)
    options.add_argument("--steps", type=int, default=4)
    options.add_argument("--warm", type=int, default=3, help="steps that do not count")
    options.add_argument("--workers", type=int, default=0)
    options.add_argument("--precision", default="auto")
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    options.add_argument("--folder", type=Path, help="where the caches go (a temporary folder)")
    args = options.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        workspace = synthetic_workspace(Path(folder) / "work", train=10 * args.batch)
        for name in args.methods.split(","):
            measure(name, workspace.root, args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
