"""Time and memory of every figure of 5,000 x 25,000 stored scores, intervals included; and against sorting in memory.

    python tests/benchmarks/metrics.py [--images 5000] [--captions 5] [--labels 80] [--runs 3] [--folder DIR]

Writes a file of random scores as `itmkit evaluate --save-scores` does, in which right pairs score higher, and measures
in a process of its own: recalls; mAP, precision and curves with each image's own captions as answers, and with all
that share a label, both directions; intervals of all of them; a paired test against the scores of a second file,
which differ; slices by caption. The best of some runs counts, since other processes take their share of the machine.

Then the same recalls and mAPs on a fifth of the images, and by a plain program that has the whole matrix in memory,
sorts it with argsort both ways and makes a matrix of the relevant pairs: how many times the time and the memory.
Exits with 1 where the whole takes more than 30 s or 1.5 GB.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from itmkit.evaluation.slices import text_slices
from itmkit.relevance.ranking import image_queries, r1_by_label, text_queries
from itmkit.relevance.relevance import Listed, SharedLabels
from itmkit.scoring.metrics import query_ranks
from itmkit.scoring.stored import Blocks, ScoreFile, save_scores
from itmkit.statistics.bootstrap import differences, intervals, mean_intervals

WORDS = ("red", "dog", "on", "two", "3", "a", "the", "man", "runs", "sits", "under", "street", "grass")


class Drawn:
    """Random scores, made as they are read."""

    def __init__(self, images: int, captions: int, seed: int) -> None:
        self.shape = images, images * captions
        self._seed = seed

    def blocks(self) -> Blocks:
        random = np.random.default_rng(self._seed)
        images, texts = self.shape
        for start in range(0, images, 128):
            rows = min(128, images - start)
            block = random.random((rows, texts), dtype=np.float32)
            own = np.arange(texts) * images // texts == np.arange(start, start + rows)[:, None]
            block[own] += random.normal(0.5, 0.5, int(own.sum())).astype(np.float32)
            yield start, block


def made(images: int, captions: int, labels: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """The image of each caption, labels of images (about three each), captions."""
    random = np.random.default_rng(0)
    image_of = np.repeat(np.arange(images), captions)
    texts = [" ".join(random.choice(WORDS, length)) for length in random.integers(5, 18, len(image_of))]
    return image_of, random.random((images, labels)) < 3 / labels, texts


def ours(
    files: list[Path], images: int, captions: int, labels: int, everything: bool
) -> Iterator[tuple[str, Callable[[], object]]]:
    """What is measured, step by step."""
    image_of, of_images, texts = made(images, captions, labels)
    scores = ScoreFile(files[0])
    own, shared = Listed.own_captions(image_of, images), SharedLabels(of_images, of_images[image_of])
    found: dict[str, object] = {}

    def ranks() -> object:
        return found.setdefault("ranks", query_ranks(scores, image_of)).retrieval()

    yield "recalls", ranks
    for name, relevance in (("own captions", own), ("shared labels", shared)):
        yield f"i2t {name}", lambda r=relevance, n=name: found.setdefault(f"i2t {n}", image_queries(scores, r))
        yield (
            f"t2i {name}",
            lambda r=relevance, n=name: found.setdefault(f"t2i {n}", text_queries(scores, r.transposed())),
        )
    if not everything:
        return
    yield "R@1 by label", lambda: r1_by_label(found["ranks"].of_images, of_images)
    yield "intervals of recalls", lambda: intervals(found["ranks"])
    for name in ("own captions", "shared labels"):
        for side in ("i2t", "t2i"):

            def means(key: str = f"{side} {name}", side: str = side) -> object:
                ranking = found[key]
                of = ranking.queries if side == "i2t" else image_of[ranking.queries]
                return mean_intervals(ranking.values, of)

            yield f"intervals {side} {name}", means
    yield "slices with intervals", lambda: text_slices(found["ranks"], texts)
    yield "paired test", lambda: differences(found["ranks"], query_ranks(ScoreFile(files[1]), image_of))


def plain(file: Path, images: int, captions: int, labels: int) -> Iterator[tuple[str, Callable[[], object]]]:
    """argsort of the whole matrix and a matrix of what is relevant."""
    image_of, of_images, _ = made(images, captions, labels)
    scores = np.concatenate([block for _, block in ScoreFile(file).blocks()])

    def sort(relevant: np.ndarray, side: str) -> object:
        scored, wanted = (scores, relevant) if side == "i2t" else (scores.T, relevant.T)
        order = np.argsort(-scored, axis=1)
        hits = np.take_along_axis(wanted, order, axis=1)
        precision = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
        first, count = hits.argmax(axis=1), hits.sum(axis=1)
        recalls = [float((first[count > 0] < k).mean()) for k in (1, 5, 10)]
        return recalls, float(((precision * hits).sum(axis=1)[count > 0] / count[count > 0]).mean())

    for side in ("i2t", "t2i"):
        yield f"{side} own captions", lambda side=side: sort(np.arange(images)[:, None] == image_of, side)
        yield (
            f"{side} shared labels",
            lambda side=side: sort((of_images.astype(np.float32) @ of_images[image_of].T.astype(np.float32)) > 0, side),
        )


def measure(how: str, files: list[Path], images: int, captions: int, labels: int) -> dict[str, object]:
    steps = (
        plain(files[0], images, captions, labels)
        if how == "plain"
        else ours(files, images, captions, labels, how == "all")
    )
    seconds: dict[str, float] = {}
    before = began = time.perf_counter()
    worked = time.process_time()
    for name, step in steps:
        step()
        now = time.perf_counter()
        seconds[name], before = now - before, now
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    worked = time.process_time() - worked
    return {"seconds": seconds, "total": time.perf_counter() - began, "worked": worked, "peak": peak}


def best(how: str, files: list[Path], images: int, args: argparse.Namespace) -> dict[str, object]:
    """The quickest of some processes."""
    given = ["--one", how, "--images", images, "--captions", args.captions, "--labels", args.labels, "--files", *files]
    found = []
    for _ in range(args.runs):
        done = subprocess.run([sys.executable, __file__, *map(str, given)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
        found.append(json.loads(done.stdout))
    return min(found, key=lambda one: one["total"]) | {"peak": max(one["peak"] for one in found)}


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--images", type=int, default=5000)
    options.add_argument("--captions", type=int, default=5, help="of each image")
    options.add_argument("--labels", type=int, default=80)
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--folder", type=Path, help="where the files of scores go (a temporary folder)")
    options.add_argument("--one", help=argparse.SUPPRESS)
    options.add_argument("--files", type=Path, nargs="*", help=argparse.SUPPRESS)
    args = options.parse_args()
    if args.one:
        print(json.dumps(measure(args.one, args.files, args.images, args.captions, args.labels)))
        return 0
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:

        def stored(images: int) -> list[Path]:
            files = [Path(folder) / f"{images}-{seed}.h5" for seed in range(2)]
            for seed, file in enumerate(files):
                names = [str(n) for n in range(images)], [str(n) for n in range(images * args.captions)]
                save_scores(file, Drawn(images, args.captions, seed), *names, "random numbers")
            return files

        whole = best("all", stored(args.images), args.images, args)
        for name, seconds in whole["seconds"].items():
            print(f"{name:30} {seconds:6.2f} s")
        print(
            f"{args.images} x {args.images * args.captions}: {whole['total']:.1f} s,"
            f" {whole['worked']:.1f} s of processor, peak {whole['peak']:.2f} GB",
            flush=True,
        )
        small = args.images // 5
        files = stored(small)
        naive, same = (best(how, files, small, args) for how in ("plain", "figures"))
    print(
        f"{small} x {small * args.captions}: {same['worked']:.2f} s of processor, {same['peak']:.2f} GB;"
        f" sorting in memory {naive['worked']:.2f} s, {naive['peak']:.2f} GB:"
        f" {naive['worked'] / same['worked']:.1f} times the time, {naive['peak'] / same['peak']:.1f} times the memory"
    )
    return int(whole["total"] > 30 or whole["peak"] > 1.5)


if __name__ == "__main__":
    sys.exit(main())
