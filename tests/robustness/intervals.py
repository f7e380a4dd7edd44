"""Whether 95% intervals hold the truth 95 times of 100, and how often the paired test cries wolf.

    python tests/robustness/intervals.py [--images 500] [--times 1000] [--resamples 500] [--only NAME,...] [--seed 0]

Draws splits from populations whose figures are known, takes intervals and tests of each, and counts. An image is hard
or easy, for itself and for all its captions (their ranks correlate, about 0.5 in logarithms). Images have 5 to 7
captions. Populations differ in how good the matcher is; "folds" are means over five folds. "matrices" draws score
matrices in place of ranks: there queries compete with each other, which intervals do not know of; its truth is the mean
over all splits drawn. For the test, two runs on the same images: "same", equally good, sharing what is hard;
"unequal", equally good, but one of them finds all images equally hard, so that swapping the runs is no mere renaming;
"better", where the second one is and the test should find it.

Prints, for each figure, in percent: how often the truth was in the interval, below it and above it; how often p was at
most 0.05. The chance error of such a count is 0.7 for 1,000 times. Exits with 1 where a recall that 20 images decide
(that many hit, and that many miss), rsum or mR is held outside 93..97, or where equal runs differ more than 7 times.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import numpy as np

from itmkit.scoring.metrics import QueryRanks, query_ranks
from itmkit.statistics.bootstrap import differences, intervals

CANDIDATES = 5000
# The logarithm of the typical rank, and how much of its spread comes from the image and from the query alone.
POPULATIONS = {
    "weak": (3.5, 1.0, 0.8),
    "middling": (1.0, 1.0, 0.8),
    "good": (0.2, 1.0, 0.8),
    "excellent": (-2.5, 1.0, 0.8),
    "perfect": (-4.5, 1.0, 0.8),
}


def ranks_of(random: np.random.Generator, typical: float, spread: float, hard: np.ndarray) -> np.ndarray:
    """0-based ranks of queries of this difficulty."""
    found = np.exp(np.minimum(typical + hard + spread * random.normal(size=hard.shape), 20))
    return np.minimum(found, CANDIDATES - 1).astype(np.int64)


def split(random: np.random.Generator, images: int, population: str) -> list[QueryRanks]:
    return runs(random, images, population, "")[:1]


def runs(random: np.random.Generator, images: int, population: str, second: str) -> list[QueryRanks]:
    """Two runs on the same images. The figures expected of both are equal unless the second is "better"."""
    typical, shared, alone = POPULATIONS[population]
    image_of = np.repeat(np.arange(images), random.choice([5, 5, 5, 5, 6, 7], images))
    hard = shared * random.normal(size=images)
    hard_text = hard[image_of] + 0.5 * random.normal(size=len(image_of))
    found = []
    for run in ("", second):
        if run == "unequal":
            of_images = ranks_of(random, typical, np.hypot(shared, alone), 0 * hard)
            of_texts = ranks_of(random, typical + 0.3, np.sqrt(shared**2 + alone**2 + 0.25), 0 * hard_text)
        else:
            better = 0.1 if run == "better" else 0
            of_images = ranks_of(random, typical - better, alone, hard)
            of_texts = ranks_of(random, typical + 0.3 - better, alone, hard_text)
        found.append(QueryRanks(of_images, of_texts, image_of))
    return found


def matrix_ranks(random: np.random.Generator, images: int) -> QueryRanks:
    """Of cosines of random vectors; captions are their image's vector and noise, some of it the same for all five."""
    image_of = np.repeat(np.arange(images), 5)
    pictures = random.normal(size=(images, 16))
    noise = 0.5 * random.normal(size=(images, 16))[image_of] + 0.7 * random.normal(size=(len(image_of), 16))
    texts = pictures[image_of] + 1.3 * noise
    pictures /= np.linalg.norm(pictures, axis=1, keepdims=True)
    return query_ranks(pictures @ (texts / np.linalg.norm(texts, axis=1, keepdims=True)).T, image_of)


def decided_by(parts: list[QueryRanks], name: str) -> int:
    """How many images hit, or miss, whichever are fewer; of rsum and mR, those of the t2i R@1 in them."""
    if " R@" not in name:
        return decided_by(parts, "t2i R@1")
    k = int(name.rpartition("@")[2])
    counts = np.zeros(2, np.int64)
    for part in parts:
        images = np.arange(len(part.of_images)) if name.startswith("i2t") else part.image_of
        hit = (part.of_images if name.startswith("i2t") else part.of_texts) < k
        counts += [np.count_nonzero(np.bincount(images, weights=which)) for which in (hit, ~hit)]
    return int(counts.min())


def coverage(
    draw: Callable[[], list[QueryRanks]], truth: dict[str, float] | None, times: int, resamples: int
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """{figure: percent held, truth below, truth above, mean length}, {figure: images that decide, in the mean}."""
    found = []
    deciding: dict[str, list[int]] = {}
    for number in range(times):
        parts = draw()
        found.append(intervals(parts, resamples=resamples, seed=number))
        for name in found[-1]:
            deciding.setdefault(name, []).append(decided_by(parts, name))
    out = {}
    for name in found[0]:
        low, high, value = (np.array([getattr(one[name], end) for one in found]) for end in ("low", "high", "value"))
        true = float(value.mean()) if truth is None else truth[name]
        below, above = 100 * float((true < low - 1e-9).mean()), 100 * float((true > high + 1e-9).mean())
        out[name] = [100 - below - above, below, above, float((high - low).mean())]
    return out, {name: float(np.mean(counts)) for name, counts in deciding.items()}


def alarms(draw: Callable[[], list[QueryRanks]], times: int, resamples: int) -> dict[str, list[float]]:
    """{figure: percent of p at most 0.05, percent of intervals that hold 0}."""
    found = [differences(*draw(), resamples=resamples, seed=number) for number in range(times)]
    return {
        name: [
            100 * float(np.mean([one[name].p <= 0.05 for one in found])),
            100 * float(np.mean([one[name].low <= 0 <= one[name].high for one in found])),
        ]
        for name in found[0]
    }


def print_coverage(name: str, args: argparse.Namespace) -> int:
    """How many figures are held too seldom or too often."""
    random = np.random.default_rng([args.seed, *name.encode()])  # whatever else is asked for
    truth, population = None, "good" if name == "folds" else name
    if name != "matrices":
        truth = split(random, 1_000_000, population)[0].retrieval().figures()

    def draw() -> list[QueryRanks]:
        if name == "matrices":
            return [matrix_ranks(random, min(args.images, 200))]
        folds = 5 if name == "folds" else 1
        return [split(random, args.images // folds, population)[0] for _ in range(folds)]

    found, deciding = coverage(draw, truth, args.times, args.resamples)
    wrong = 0
    print(f"{name + ':':13} truth     held  below  above  length")
    for figure, (held, below, above, length) in found.items():
        true = "" if truth is None else f"{truth[figure]:8.2f}"
        judged = "med" not in figure and "mean" not in figure and deciding[figure] >= 20
        bad = judged and not 93 <= held <= 97
        wrong += bad
        says = "  <--" if bad else "" if judged else "  (not judged)"
        print(f"  {figure:12} {true:8} {held:6.1f} {below:6.1f} {above:6.1f} {length:7.2f}{says}", flush=True)
    return wrong


def print_alarms(name: str, args: argparse.Namespace) -> int:
    """Of how many figures equal runs differ too often."""
    random = np.random.default_rng([args.seed, *name.encode()])
    found = alarms(lambda: runs(random, args.images, "good", name), args.times, args.resamples)
    print(f"{name + ':':13} p <= 0.05   interval of the difference holds 0")
    for figure, (share, held) in found.items():
        print(f"  {figure:12} {share:6.1f} {held:14.1f}", flush=True)
    return 0 if name == "better" else sum(share > 7 for share, _ in found.values())


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--images", type=int, default=500)
    options.add_argument("--times", type=int, default=1000)
    options.add_argument("--resamples", type=int, default=500)
    options.add_argument("--only", help="populations, folds, matrices, same, unequal, better")
    options.add_argument("--seed", type=int, default=0)
    args = options.parse_args()
    tests = ("same", "unequal", "better")
    chosen = args.only.split(",") if args.only else [*POPULATIONS, "folds", "matrices", *tests]
    return 1 if sum((print_alarms if name in tests else print_coverage)(name, args) for name in chosen) else 0


if __name__ == "__main__":
    sys.exit(main())
