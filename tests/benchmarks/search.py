"""Search in a large index: candidates, re-ranking, memory and `--add`, warm and cold.

    python tests/benchmarks/search.py [--images 100000] [--embed 256] [--rows float16] [--queries 50] [--folder DIR]

An index of MPSM with random weights: rows of pictures of 36 regions of random features, of which 1,000 are different;
queries of 12 random words. It is written to --folder (4.3 GB at 100,000 images), or to a temporary folder that goes.

    candidates   the product with every vector, and the largest 200
    re-ranking   rows read, unpacked and scored by both members
    floor        the bare read of the same rows, and the bare scoring of tensors that lie in memory
    search       all of a query, its encoding too
    --add        1,000 new images, against encoding them

Cold: the pages of the index are dropped from memory before each query, which opens it anew ("opening"). Memory is what
the process has of its own (RssAnon), without the pages of the mapped files. The machine must be idle.
"""

from __future__ import annotations

import argparse
import gc
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from itmkit.dataset import ImageRecord
from itmkit.index.build import _bring_up
from itmkit.index.candidates import candidate_vectors
from itmkit.index.encode import Source
from itmkit.index.rows import RowFormat
from itmkit.index.search import RERANK, TILE, Searcher
from itmkit.index.store import IndexFacts, Store, chunk_folder, new_chunk
from itmkit.inputs import ImageBatch, Sizes, TextBatch
from itmkit.matchers import as_matcher, build, method
from itmkit.progress import SILENT
from itmkit.trained import Matcher

REGIONS, FEATURE, WORDS, DISTINCT, CHUNK, NEW = 36, 256, 12, 1000, 10_000, 1000


class RandomTexts:
    """Every caption is `WORDS` random words."""

    def batch(self, captions: list[str]) -> TextBatch:
        random = torch.Generator().manual_seed(len(captions[0]))
        words = torch.randint(4, 1000, (len(captions), WORDS), generator=random)
        edges = torch.eye(WORDS, dtype=torch.bool).expand(len(captions), WORDS, WORDS)
        return TextBatch(words, torch.ones(len(captions), WORDS, dtype=torch.bool), edges)


class RandomImages:
    """Images of random features, addressed by position."""

    regions = REGIONS

    def __init__(self, count: int) -> None:
        self.images = [ImageRecord(f"{number:09d}", "test", (), sha256=f"{number:x}") for number in range(count)]

    def batch(self, which: np.ndarray) -> ImageBatch:
        random = torch.Generator().manual_seed(int(which[0]))
        shape = (len(which), REGIONS)
        features = torch.randn(*shape, FEATURE, generator=random)
        places = torch.rand(2, *shape, REGIONS, generator=random)
        return ImageBatch(features, torch.ones(shape, dtype=torch.bool), rho=places[0], theta=places[1] * 6.28)


def random_matcher(embed: int) -> Matcher:
    """MPSM without training, and without the files of a run."""
    config = method("mpsm").Config(embed=embed)
    matcher: Any = Matcher.__new__(Matcher)
    matcher.members = build("mpsm", config, sizes=Sizes(feature=FEATURE, regions=REGIONS, vocabulary=1000), seed=0)
    for network in matcher.members.values():
        network.eval()
    matcher.weights, matcher.device = dict.fromkeys(matcher.members, 1.0), torch.device("cpu")
    matcher.needs, matcher.texts, matcher._cached = method("mpsm").needs(config), RandomTexts(), None
    return matcher  # type: ignore[no-any-return]


def write_index(folder: Path, matcher: Matcher, images: RandomImages, rows: Any) -> None:
    source = Source(matcher, images, [], None, SILENT)  # type: ignore[arg-type]
    parts = [source._images(np.arange(first, first + 50)) for first in range(0, DISTINCT, 50)]
    layout = RowFormat.of(parts[0], rows)
    packed = np.concatenate([layout.pack(part) for part in parts])
    vectors = np.concatenate([candidate_vectors(part, matcher.weights) for part in parts])
    random, facts = np.random.default_rng(0), IndexFacts("random", "mpsm", {}, rows, vectors.shape[1], layout.to_json())
    columns = {"candidates": (vectors.shape[1], "float32"), "rows": (layout.bytes, "uint8")}
    for first in range(0, len(images.images), CHUNK):
        places = range(first, min(first + CHUNK, len(images.images)))
        with new_chunk(chunk_folder(folder, len(facts.chunks)), source.image_keys(places), columns) as append:
            for start in range(0, len(places), DISTINCT):
                count = min(DISTINCT, len(places) - start)
                moved = vectors[:count] + 0.02 * random.standard_normal((count, vectors.shape[1]))
                append(candidates=moved, rows=packed[:count])
        facts = replace(facts, chunks=[*facts.chunks, len(places)])
    facts.write(folder)


def drop_pages(folder: Path) -> None:
    """Asks the system to forget the pages of all files; those that are mapped by an open index stay."""
    gc.collect()
    for path in folder.rglob("*.npy"):
        handle = os.open(path, os.O_RDONLY)
        os.fdatasync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def own_memory() -> float:
    """MB"""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


@contextmanager
def peak_memory() -> Iterator[list[float]]:
    """Yields a list whose last number is the largest RssAnon so far, in MB."""
    found, ended = [own_memory()], threading.Event()

    def watch() -> None:
        while not ended.wait(0.005):
            found.append(max(found[-1], own_memory()))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Milliseconds, and what came of it."""
    began = time.perf_counter()
    result = work()
    return 1000 * (time.perf_counter() - began), result


def told(name: str, times: list[float]) -> None:
    p50, p95 = np.percentile(times, [50, 95])
    print(f"{name:34} p50 {p50:8.1f} ms   p95 {p95:8.1f} ms")


def bare_read(folder: Path, size: int, positions: np.ndarray) -> np.ndarray:
    """The rows, of `size` bytes, by one read each, in the order of the files."""
    found = np.empty((len(positions), size), np.uint8)
    handles = {}
    for place, position in enumerate(np.sort(positions).tolist()):
        number, within = position // CHUNK, position % CHUNK
        if number not in handles:
            handles[number] = os.open(chunk_folder(folder, number) / "rows.npy", os.O_RDONLY)
        os.preadv(handles[number], [found[place]], 128 + within * size)
    for handle in handles.values():
        os.close(handle)
    return found


def opened_index(folder: Path) -> Store:
    """With its ids, which are read once an index, not once a query."""
    store = Store(folder)
    _ = store.ids
    return store


def one_query(store: Store, matcher: Matcher, number: int, warm: bool) -> dict[str, Any]:
    """Milliseconds of each part, and the positions of the candidates."""
    searcher = Searcher(store, matcher)
    query = "q" * (number + 1)
    texts = matcher.encode_texts([query])
    vector = candidate_vectors(texts.tiles[0][1], matcher.weights)[0]
    found: dict[str, Any] = {}
    if warm:
        found["search"], _ = timed(lambda: searcher.text(query, rerank=RERANK))
    found["candidates"], (positions, _) = timed(lambda: searcher.nearest(vector, RERANK))
    found["re-ranking"], _ = timed(lambda: searcher.scores(positions, texts))
    tensors = [
        store.format.unpack(store.read(positions[start : start + TILE])) for start in range(0, len(positions), TILE)
    ]

    def bare_scores() -> None:
        with torch.inference_mode():
            for tile in tensors:
                for member, network in matcher.members.items():
                    as_matcher(network).score(tile[member], texts.tiles[0][1][member])

    found["bare scoring"], _ = timed(bare_scores)
    found["positions"] = positions
    return found


def measured(folder: Path, matcher: Matcher, queries: int, *, warm: bool) -> None:
    times: dict[str, list[float]] = {}
    store = opened_index(folder)
    if warm:
        one_query(store, matcher, 0, warm)
    for number in range(queries):
        if not warm:
            del store
            drop_pages(folder)
            opened, store = timed(partial(opened_index, folder))
            times.setdefault("opening", []).append(opened)
        found, size = one_query(store, matcher, number, warm), store.format.bytes
        positions = found.pop("positions")
        if not warm:
            del store  # pages that are mapped cannot be dropped
            drop_pages(folder)
        found["bare read"], _ = timed(partial(bare_read, folder, size, positions))
        if not warm:
            store = opened_index(folder)
        for name, value in found.items():
            times.setdefault(name, []).append(value)
    print("warm" if warm else "cold")
    for name, each in times.items():
        told(f"  {name}", each)
    floor = [sum(pair) for pair in zip(times["bare read"], times["bare scoring"], strict=True)]
    ratio = np.median(times["re-ranking"]) / np.median(floor)
    print(f"  re-ranking / (bare read + scoring)  {ratio:.2f} (target: at most 3)")
    if warm:
        print(f"  candidates: {np.median(times['candidates']):.1f} ms (target: 50 on two cores)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--embed", type=int, default=256)
    parser.add_argument("--rows", choices=["float32", "float16", "int8"], default="float16")
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    place = Path(args.folder or tempfile.mkdtemp(prefix="itmkit-search-"))
    folder, matcher, images = place / "index", random_matcher(args.embed), RandomImages(args.images)
    try:
        if not (folder / "manifest.json").is_file():
            write_index(folder, matcher, images, args.rows)
        store = opened_index(folder)
        print(f"{len(store):,} images, {store.format.bytes:,} bytes each, C = {store.facts.candidates}")
        before = own_memory()
        with peak_memory() as memory:
            measured(folder, matcher, args.queries, warm=True)
            measured(folder, matcher, max(3, args.queries // 5), warm=False)
        print(f"memory beside the map: {memory[-1]:.0f} MB at most (target: 1000), {before:.0f} MB before the queries")
        more = Source(matcher, RandomImages(args.images + NEW), [], None, SILENT)  # type: ignore[arg-type]
        bare, _ = timed(lambda: [more._images(np.arange(k, k + 32)) for k in range(0, NEW, 32)])
        taken, (encoded, _) = timed(lambda: _bring_up(store, more, store.facts, CHUNK, add=True))
        print(f"--add of {encoded:,}: {taken / 1000:.2f} s, {taken / bare:.2f} times as long as encoding them")
    finally:
        if args.folder is None:
            shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
