"""Search in an index: candidates by one vector an image, then the matcher's own scores of the best of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from itmkit.errors import ItmkitError
from itmkit.index.candidates import candidate_vectors
from itmkit.index.store import Store
from itmkit.trained import EncodedImages, EncodedTexts, Matcher
from itmkit.trained.pictures import PictureRows

RERANK = 200  # candidates that the matcher scores
TILE = 64  # images scored together
BLOCK = 1 << 16  # candidates compared at once


@dataclass(frozen=True)
class Hit:
    """A found image. Ranks count from 1; `score` is None for a candidate that the matcher did not score."""

    image: str
    position: int
    rank: int
    candidate_rank: int
    candidate_score: float
    score: float | None


class Searcher:
    """Answers queries on one index with the matcher it was made by."""

    def __init__(self, store: Store, matcher: Matcher) -> None:
        self.store, self.matcher = store, matcher

    def text(self, query: str, *, count: int = 10, rerank: int = RERANK) -> list[Hit]:
        """The images that belong to a caption, best first.

        Args:
            count: how many images; rerank: how many candidates the matcher scores, 0 for none.

        Raises:
            ItmkitError: the query is empty, or a model that reads captions is not to be had.
        """
        if not query.strip():
            raise ItmkitError('the query is empty; give a few words, such as "two dogs in the snow"')
        texts = self.matcher.encode_texts([query])
        vector = candidate_vectors(texts.tiles[0][1], self.matcher.weights)[0]
        return self._ranked(vector, texts, count, rerank)

    def _ranked(self, vector: np.ndarray, texts: EncodedTexts, count: int, rerank: int) -> list[Hit]:
        positions, products = self.nearest(vector, max(count, rerank))
        order: np.ndarray = np.arange(len(positions))
        scores = np.full(len(positions), np.nan)
        if rerank:
            scored = min(rerank, len(positions))
            scores[:scored] = self.scores(positions[:scored], texts)[:, 0]
            # The best score first; of equal ones the better candidate. What was not scored stays behind.
            order = np.argsort(-np.nan_to_num(scores, nan=-np.inf), kind="stable")
        return [
            Hit(
                image=self.store.ids[positions[place]],
                position=int(positions[place]),
                rank=rank,
                candidate_rank=int(place) + 1,
                candidate_score=float(products[place]),
                score=None if np.isnan(scores[place]) else float(scores[place]),
            )
            for rank, place in enumerate(order[:count].tolist(), 1)
        ]

    def nearest(self, vector: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions and products of the images whose vectors have the largest products with `vector` (C,).

        Exact: every vector is compared. Of equal products the earlier position comes first. Dead ones do not count.
        """
        store = self.store
        products = np.empty(len(store), np.float32)
        for start, chunk in zip(store.starts[:-1].tolist(), store.candidates(), strict=True):
            for first in range(0, len(chunk), BLOCK):
                block = chunk[first : first + BLOCK]
                np.matmul(block, vector, out=products[start + first : start + first + len(block)])
        products[store.dead] = -np.inf
        alive = len(store) - int(store.dead.sum())
        count = min(count, alive)
        if not count:
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        edge = np.partition(products, len(products) - count)[len(products) - count]
        # All above the edge, and of those at the edge the earliest ones.
        above, at = np.flatnonzero(products > edge), np.flatnonzero(products == edge)
        chosen = np.concatenate([above, at[: count - len(above)]])
        chosen = chosen[np.lexsort((chosen, -products[chosen]))]
        return chosen, products[chosen]

    def scores(self, positions: np.ndarray, texts: EncodedTexts) -> np.ndarray:
        """(n, m) float32, the matcher's scores of the images at some positions with encoded captions."""
        return self.matcher.score(self.encoded(positions), texts)

    def encoded(self, positions: np.ndarray) -> EncodedImages:
        """The images at some positions as the matcher encoded them."""
        tiles = []
        for start in range(0, len(positions), TILE):
            rows = self.store.read(positions[start : start + TILE])
            tensors = self.store.format.unpack(rows)
            on_device = {
                member: {name: value.to(self.matcher.device) for name, value in each.items()}
                for member, each in tensors.items()
            }
            tiles.append((slice(start, start + len(rows)), on_device))
        nothing = PictureRows(np.zeros((0, 0, 0), np.float16), {}, [])
        return EncodedImages([self.store.ids[k] for k in positions.tolist()], tiles, [nothing] * len(tiles))
