"""Pairs a second of the scoring engine, against published code's way of scoring and against what no code can beat.

    python -m tests.benchmarks.scoring [--methods scan,mpsm,...] [--embed 1024] [--images N] [--captions N]
                                       [--rounds 5] [--threads N]

Random weights, pictures of 36 regions, captions of 12 words on average (6 to 18): 64 pictures x 1,300 captions, and
1,000 x 5,000 where each is one vector, since 64 x 1,300 products of two vectors take two milliseconds, of which half a
millisecond is handing work to threads. Of each method and member, in one run:

    engine    tiles as `itmkit.scoring.engine` scores them, everything encoded beforehand
    literal   `literal_scoring`: a loop over captions, shards of 128 x 128, D-vectors formed (on part of the pairs)
    floor     the products of matrices that the method cannot do without (`FLOPS`), at the speed of one large product
              of the same type, measured in turn with the engine; where images and captions are one vector each, the
              bare product of these, written into a matrix

Each is timed in turn, round after round, and its median round counts. The machine must be idle.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from itmkit.inputs import ImageBatch, Sizes, TextBatch
from itmkit.machine.memory import keep_freed_memory
from itmkit.matchers import Encoded, as_matcher, build, method, preset
from itmkit.scoring.tiles import IMAGE_TILE, WORDS_TILE, InOrder, larger_tiles, score_tiles, workers
from tests.benchmarks.literal_scoring import literal_scores

REGIONS, FEATURE, VOCABULARY, VECTOR = 36, 512, 1000, 384
LITERAL_IMAGES, LITERAL_CAPTIONS = 128, 16
PAIRS, ONE_VECTOR = (64, 1300), (1000, 5000)  # images and captions
VECTORS = ("vseinf",)  # one vector an image, one a caption
SIDE = 2048  # of the large product
AT_LEAST = 1.0  # seconds of each way in a round: the speed of a machine changes from moment to moment


def alignment(words: float, d: int, s: int) -> float:
    """Cosines, attended vectors, their length by the Gram matrix, the map to S numbers, and the global pair's map."""
    r = REGIONS
    return 2 * words * r * d + 2 * words * r * d + 2 * words * r * r + 2 * words * d * s + 2 * d * s


def regulated(queries: float, context: float, d: int, c: Any) -> float:
    """RCAR: of each step cosines, attended vectors and their length, the map to S numbers, and RAR's two maps; between
    steps RCR's, from S to 2S to D numbers and to S / 2."""
    s = c.similarity
    step = 4 * queries * context * d + 2 * queries * context**2 + 2 * queries * d * s + 2 * queries * s * s + 2 * s * s
    return c.steps * step + (c.steps - 1) * queries * (5 * s * s + 4 * s * d)


def slimmed(words: float, d: int, c: Any) -> float:
    """LAPS: cosines of words and patches; of the patches that are kept their products with each other, for the length
    of each token, and with words; the same of the one vector of the rest."""
    kept = math.ceil(REGIONS * c.keep)
    tokens, rest = max(1, int(REGIONS * c.keep * c.aggregate)), REGIONS - kept
    return 2 * words * REGIONS * d + tokens * (2 * kept**2 + 2 * kept * words) + 2 * rest**2 + 2 * rest * words


# Multiplications and additions of a pair, of matrix products alone: w words, d embedding, c the method's config.
FLOPS: dict[tuple[str, str], Callable[[float, int, Any], float]] = {
    # Cosines, and the length of the attended vector: a^T G a.
    ("scan", "t2i"): lambda w, d, c: 2 * w * REGIONS * d + 2 * w * REGIONS * REGIONS,
    ("scan", "i2t"): lambda w, d, c: 2 * w * REGIONS * d + 2 * w * w * REGIONS,
    # SRGR: edges need two numbers a node; the global node alone is gated (2S x S), refined twice and fused (S x S).
    ("mpsm", "distance"): lambda w, d, c: (
        alignment(w, d, c.similarity) + 4 * (w + 1) * c.similarity + 2 * 5 * c.similarity**2
    ),
    ("mpsm", "direction"): lambda w, d, c: FLOPS["mpsm", "distance"](w, d, c),
    # SGR: of all but the last step one map for the edges and one after them a node, M x M edges twice; of the last
    # step the global node alone.
    ("sgraf", "sgr"): lambda w, d, c: (
        alignment(w, d, c.similarity)
        + (c.steps - 1) * (4 * (w + 1) * c.similarity**2 + 4 * (w + 1) ** 2 * c.similarity)
        + 4 * c.similarity**2
        + 4 * (w + 1) * c.similarity
    ),
    ("sgraf", "saf"): lambda w, d, c: alignment(w, d, c.similarity) + 2 * (w + 1) * c.similarity,
    # Cosines; of each side two weighted sums of its nodes, and the gate's two maps of these, taken of the nodes before.
    ("mefn", "fusion"): lambda w, d, c: 2 * w * REGIONS * d + 8 * (REGIONS + w) * d,
    # First layer: logits and messages across, both ways. Of each other layer, of all N nodes: queries, keys, logits,
    # sums along the edges, and their map.
    ("cmfg", "graph"): lambda w, d, c: (
        4 * w * REGIONS * (c.query + d)
        + (c.layers - 1)
        * (4 * (REGIONS + w) * d * c.query + 2 * (REGIONS + w) ** 2 * (c.query + d) + 2 * (REGIONS + w) * d**2)
    ),
    # Cosines; their maxima and means are no products.
    ("chan", "local"): lambda w, d, c: 2 * w * REGIONS * d,
    ("rcar", "t2i"): lambda w, d, c: regulated(w, REGIONS, d, c),
    ("rcar", "i2t"): lambda w, d, c: regulated(REGIONS, w, d, c),
    ("laps", "local"): slimmed,
    # One vector an image, one a caption.
    ("vseinf", "global"): lambda w, d, c: 2 * d,
}

SETTINGS: dict[str, dict[str, Any]] = {
    "mefn": {"words": "gru"},
    "cmfg": {"words": "gru", "images": "regions"},
    "laps": {"words": "gru", "images": "regions"},
}


def random_inputs(images: int, captions: int, seed: int = 0) -> tuple[ImageBatch, TextBatch]:
    random = torch.Generator().manual_seed(seed)
    lengths = torch.randint(6, 19, (captions,), generator=random).sort().values
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    near = torch.arange(mask.shape[1])
    edges = ((near[:, None] - near).abs() <= 1) & mask[:, :, None] & mask[:, None, :]
    shape = (images, REGIONS, REGIONS)
    pictures = ImageBatch(
        torch.randn(images, REGIONS, FEATURE, generator=random),
        torch.ones(images, REGIONS, dtype=torch.bool),
        torch.rand(shape, generator=random),
        torch.rand(shape, generator=random),
    )
    words = torch.randint(3, VOCABULARY, mask.shape, generator=random) * mask
    return pictures, TextBatch(words, mask, edges)


def select(captions: TextBatch, rows: torch.Tensor, length: int) -> TextBatch:
    assert captions.words is not None and captions.edges is not None
    words, edges = captions.words[rows, :length], captions.edges[rows, :length, :length]
    return TextBatch(words, captions.mask[rows, :length], edges)


def image_tiles(encoded: Encoded) -> list[tuple[slice, Encoded]]:
    count = len(next(iter(encoded.values())))
    rows = [slice(start, start + IMAGE_TILE) for start in range(0, count, IMAGE_TILE)]
    return [(row, {name: value[row].clone() for name, value in encoded.items()}) for row in rows]


def text_tiles(encoded: list[tuple[int, Encoded]]) -> list[tuple[np.ndarray, Encoded]]:
    """Tiles as the engine cuts them, of captions that come sorted by length and encoded length by length."""
    tiles, first = [], 0
    for length, same in encoded:
        count, size = len(next(iter(same.values()))), WORDS_TILE // length
        for start in range(0, count, size):
            some = {name: value[start : start + size].clone() for name, value in same.items()}
            tiles.append((np.arange(first, first + min(size, count - start)), some))
            first += min(size, count - start)
    return tiles


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--methods", default=",".join(dict.fromkeys(name for name, _ in FLOPS)))
    options.add_argument("--embed", type=int, default=1024)
    options.add_argument("--images", type=int)
    options.add_argument("--captions", type=int)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = options.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    left, right = torch.randn(SIDE, args.embed), torch.randn(args.embed, SIDE)
    print(f"D {args.embed}, {args.threads} threads")
    print(f"{'':36}{'engine':>12}{'literal':>12}{'':>8}{'floor':>12}")
    with torch.inference_mode(), workers(torch.device("cpu")) as in_order:
        for name, member in FLOPS:
            if name in args.methods.split(","):
                images, captions = ONE_VECTOR if name in VECTORS else PAIRS
                inputs = random_inputs(args.images or images, args.captions or captions)
                measure(name, member, *inputs, args, left, right, in_order)
    return 0


def measure(
    name: str,
    member: str,
    pictures: ImageBatch,
    captions: TextBatch,
    args: argparse.Namespace,
    left: torch.Tensor,
    right: torch.Tensor,
    in_order: InOrder,
) -> None:
    lengths = captions.mask.sum(dim=1).numpy()
    config = method(name).Config(**preset(name) | SETTINGS.get(name, {}), embed=args.embed)
    sizes = Sizes(feature=FEATURE, regions=REGIONS, vocabulary=VOCABULARY, word_vector=VECTOR)
    matcher = build(name, config, sizes=sizes, seed=0)[member].eval()
    parts = as_matcher(matcher)
    images = parts.encode_images(pictures)
    rows = image_tiles(images)
    same = [
        (int(length), select(captions, torch.from_numpy(lengths == length).nonzero()[:, 0], length))
        for length in np.unique(lengths)
    ]
    columns = list(larger_tiles(text_tiles([(length, parts.encode_texts(batch)) for length, batch in same])))
    step = max(1, len(lengths) // LITERAL_CAPTIONS)
    some_images = {k: v[:LITERAL_IMAGES] for k, v in images.items()}
    some_texts = parts.encode_texts(select(captions, torch.arange(0, len(lengths), step), int(lengths.max())))
    scores = np.empty((len(pictures.mask), len(lengths)), np.float32)
    if "vector" in images:
        left, right = images["vector"], torch.cat([tile["vector"] for _, tile in columns]).T
    bare = torch.empty(len(left), right.shape[1])

    def engine() -> None:
        score_tiles(matcher, rows, columns, scores, in_order, lambda pairs: None)

    def literal() -> torch.Tensor:
        return literal_scores(name, member, matcher, some_images, some_texts)

    engine()
    reference = literal()
    difference = float(np.abs(scores[: len(reference), ::step] - reference.numpy()).max())
    ways = {"engine": engine, "literal": literal, "product": lambda: torch.mm(left, right, out=bare)}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(args.rounds):
        for way, run in ways.items():
            began, times = time.perf_counter(), 0
            while not times or time.perf_counter() - began < AT_LEAST:
                run()
                times += 1
            seconds[way].append((time.perf_counter() - began) / times)
    usual = {way: float(np.median(values)) for way, values in seconds.items()}
    speed = scores.size / usual["engine"]
    loop = reference.numel() / usual["literal"]
    rate = 2 * bare.numel() * args.embed / usual["product"]
    floor = rate / FLOPS[name, member](float(lengths.mean()), args.embed, config)
    size = f"{scores.shape[0]} x {scores.shape[1]}"
    print(
        f"{name + ' ' + member:20}{size:16}{speed:12,.0f}{loop:12,.0f}{speed / loop:7.1f}x{floor:12,.0f}"
        f"  {100 * speed / floor:.0f}% of floor ({rate / 1e9:.0f} GFLOP/s; differs by {difference:.0e})"
    )


if __name__ == "__main__":
    sys.exit(main())
