"""What finds candidates: the exact product with every vector, or a list of faiss on disk that looks at some of them.

An engine answers one question, `nearest`. Both give the exact products of what they find; faiss may miss some.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from itmkit.errors import ItmkitError
from itmkit.files import atomic_path
from itmkit.index.vectors import Vectors, largest
from itmkit.progress import SILENT, Progress

Engine = Literal["exact", "faiss"]
SEED = 0  # of the centres of faiss
SAMPLE = 64  # vectors a centre that faiss learns the centres from; it wants 39 at least
PROBE = 16  # one list in so many is looked at
SPARE = 4  # times as many are taken from faiss, whose products are rounded, as are wanted


class Candidates(Protocol):
    """What a search asks of an engine."""

    def nearest(self, vector: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions (n,) and products (n,) of the vectors with the largest products with `vector` (C,), largest first.

        Of equal products the earlier position comes first. Dead vectors do not count.
        """
        ...


class Exact:
    """Compares every vector."""

    def __init__(self, vectors: Vectors) -> None:
        self._vectors = vectors

    def nearest(self, vector: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        vectors = self._vectors
        products = np.empty(len(vectors), np.float32)
        for first, block in vectors.blocks():
            np.matmul(block, vector, out=products[first : first + len(block)])
        products[vectors.dead] = -np.inf
        chosen = largest(products, min(count, vectors.alive))
        return chosen, products[chosen]


class Faiss:
    """Inverted lists with numbers of 8 bits (IVF, SQ8), which stay on disk and are mapped into memory."""

    def __init__(self, path: Path, vectors: Vectors) -> None:
        """Raises ItmkitError if faiss is not installed or the file is not that of these vectors."""
        faiss = faiss_module()
        try:
            self._lists: Any = faiss.read_index(str(path), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
        except RuntimeError as error:
            raise _damaged(path, str(error)) from None
        size = vectors.chunks[0].shape[1] if vectors.chunks else 0
        if not isinstance(self._lists, faiss.IndexIVF) or (self._lists.ntotal, self._lists.d) != (len(vectors), size):
            raise _damaged(path, "it is of other vectors")
        self._vectors, self._faiss = vectors, faiss
        dead = np.flatnonzero(vectors.dead).astype(np.int64)
        self._alive = faiss.IDSelectorNot(faiss.IDSelectorBatch(dead)) if len(dead) else None

    def nearest(self, vector: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        count = min(count, self._vectors.alive)
        if not count:
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        lists = self._lists.nlist
        asked = self._faiss.SearchParametersIVF(nprobe=min(lists, max(8, lists // PROBE)), sel=self._alive)
        query = np.ascontiguousarray(vector[None], np.float32)
        _, found = self._lists.search(query, min(SPARE * count, self._vectors.alive), params=asked)
        positions = np.sort(found[0][found[0] >= 0]).astype(np.int64)
        products = self._vectors.at(positions) @ vector
        best = largest(products, min(count, len(positions)))
        return positions[best], products[best]


def open_engine(engine: Engine, path: Path | None, vectors: Vectors) -> Candidates:
    """The engine of one side of an index. path: the file of faiss; None where there are no vectors."""
    return Exact(vectors) if engine == "exact" or path is None else Faiss(path, vectors)


def write_faiss(path: Path, vectors: Vectors, *, before: Path | None = None, progress: Progress = SILENT) -> None:
    """Writes the lists of all vectors to `path`.

    Args:
        before: the lists of the first of them, which get the others added; their centres stay.

    Raises:
        ItmkitError: faiss is not installed.
    """
    faiss = faiss_module()
    size = vectors.chunks[0].shape[1]
    if before is not None:
        lists = faiss.read_index(str(before))
    else:
        count = lists_for(len(vectors))
        lists = faiss.index_factory(size, f"IVF{count},SQ8", faiss.METRIC_INNER_PRODUCT)
        lists.cp.seed, lists.cp.min_points_per_centroid = SEED, 1
        some = np.random.default_rng(SEED).permutation(len(vectors))[: SAMPLE * count]
        with progress.task("faiss: centres", 1, unit="index") as advance:
            lists.train(vectors.at(np.sort(some)))
            advance(1)
    with progress.task("faiss: lists", len(vectors), done=lists.ntotal, unit="vectors") as advance:
        for _, block in vectors.blocks(lists.ntotal):
            lists.add(np.ascontiguousarray(block))
            advance(len(block))
    with atomic_path(path) as partial:
        faiss.write_index(lists, str(partial))


def lists_for(count: int) -> int:
    """How many lists so many vectors are cut into: four times the root, and at least 39 vectors a list."""
    return max(1, min(int(4 * count**0.5), count // 39))


def faiss_module() -> Any:
    """faiss. Raises ItmkitError if it is not installed."""
    try:
        import faiss
    except ImportError:
        raise ItmkitError(
            "--engine faiss needs the package faiss-cpu: pip install 'itmkit[faiss]', or take --engine exact"
        ) from None
    return faiss


def _damaged(path: Path, what: str) -> ItmkitError:
    return ItmkitError(f"{path}: is damaged ({what}); run `itmkit index --force`")
