"""Search in an index: candidates by one vector an image, then the matcher's own scores of the best of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from itmkit.errors import ItmkitError
from itmkit.index.candidates import candidate_vectors
from itmkit.index.engines import Candidates, open_engine
from itmkit.index.regions import nearest_regions, region_vector
from itmkit.index.store import Store
from itmkit.trained import EncodedImages, EncodedTexts, Matcher
from itmkit.trained.encoded import AnyImage
from itmkit.trained.pictures import PictureRows

RERANK = 200  # candidates that the matcher scores
TILE = 64  # images scored together


@dataclass(frozen=True)
class Hit:
    """A found image. Ranks count from 1; `score` is None for a candidate that the matcher did not score.

    region: of the region that is like the one asked for; None where no region was.
    """

    image: str
    position: int
    rank: int
    candidate_rank: int
    candidate_score: float
    score: float | None
    region: int | None = None


@dataclass(frozen=True)
class CaptionHit:
    """A found caption; see `Hit`."""

    caption: str
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
        texts, vector = self.encode(query)
        positions, products = self.nearest(vector, max(count, rerank))
        scores = self.scores(positions[:rerank], texts)[:, 0] if rerank and len(positions) else np.zeros(0, np.float32)
        ids = self.store.ids
        return [Hit(ids[ranked[0]], *ranked) for ranked in _ranked(positions, products, scores, count)]

    def encode(self, query: str) -> tuple[EncodedTexts, np.ndarray]:
        """A query as the matcher encodes it, and its candidate vector (C,). Raises as `text` does."""
        if not query.strip():
            raise ItmkitError('the query is empty; give a few words, such as "two dogs in the snow"')
        texts = self.matcher.encode_texts([query])
        return texts, candidate_vectors(texts.tiles[0][1], self.matcher.weights)[0]

    def image(self, image: AnyImage, *, count: int = 10) -> list[Hit]:
        """The images that are like a picture, by their candidate vectors; the matcher compares no image with another.

        Args:
            image: an id of the index, which is not found itself; or a file or a PIL image.

        Raises:
            ItmkitError: the picture cannot be read, or the model that finds its regions is not to be had.
        """
        own = self._position(image)
        vector = candidate_vectors(self._encoded(image).tiles[0][1], self.matcher.weights)[0]
        positions, products = self.nearest(vector, count + (own is not None))
        other = positions != own if own is not None else np.ones(len(positions), bool)
        ranked = _ranked(positions[other], products[other], np.zeros(0, np.float32), count)
        return [Hit(self.store.ids[each[0]], *each) for each in ranked]

    def captions(self, image: AnyImage, *, count: int = 10, rerank: int = RERANK) -> list[CaptionHit]:
        """The captions of the workspace that belong to a picture, best first; see `image` and `text`.

        Raises:
            ItmkitError: as `image` does; or the index has no captions.
        """
        if not len(self.store.captions_side):
            raise ItmkitError(
                f"{self.store.folder}: has no captions; run `itmkit parse-text` and then `itmkit index --add`"
            )
        images = self._encoded(image)
        vector = candidate_vectors(images.tiles[0][1], self.matcher.weights)[0]
        positions, products = self._caption_candidates.nearest(vector, max(count, rerank))
        every, scores = self.store.captions, np.zeros(0, np.float32)
        if rerank and len(positions):
            texts = self.matcher.encode_texts([every[k] for k in positions[:rerank].tolist()])
            scores = self.matcher.score(images, texts)[0]
        return [CaptionHit(every[ranked[0]], *ranked) for ranked in _ranked(positions, products, scores, count)]

    def region(self, image: str, region: int, *, count: int = 10) -> list[Hit]:
        """The images with a region like one of an image of the index: the cosine of the most similar region of each.

        Every region of the index is compared, so this reads all of its rows.

        Args:
            region: its number, as `itmkit inspect --image` counts them, from 0.

        Raises:
            ItmkitError: there is no such image or region, or the method keeps no vectors of regions.
        """
        own = self._position(image)
        if own is None:
            raise ItmkitError(f"--region {image}:{region}: the index has no image {image!r}")
        query = region_vector(self.store, self.matcher.weights, own, region)
        positions, cosines, regions = nearest_regions(self.store, self.matcher.weights, query, count + 1)
        hits = list[Hit]()
        for k in np.flatnonzero(positions != own)[:count].tolist():
            place, rank = int(positions[k]), len(hits) + 1
            hits.append(Hit(self.store.ids[place], place, rank, rank, float(cosines[k]), None, int(regions[k])))
        return hits

    def unknown(self, query: str) -> list[str]:
        """The words of a query that training did not know; the matcher reads all of them as one unknown word."""
        return self.matcher.texts.unknown([query])

    def nearest(self, vector: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions and products of the images whose vectors have the largest products with `vector` (C,).

        Of equal products the earlier position comes first. Dead ones do not count. The engine `exact` compares every
        vector; `faiss` may miss some.
        """
        return self._image_candidates.nearest(vector, count)

    @cached_property
    def _image_candidates(self) -> Candidates:
        return open_engine(self.store.facts.engine, self.store.engine_file("images"), self.store.images_side)

    @cached_property
    def _caption_candidates(self) -> Candidates:
        return open_engine(self.store.facts.engine, self.store.engine_file("captions"), self.store.captions_side)

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

    def _position(self, image: AnyImage) -> int | None:
        """Of an id of the index; None for a picture."""
        return self.store.positions.get(image) if isinstance(image, str) else None

    def _encoded(self, image: AnyImage) -> EncodedImages:
        own = self._position(image)
        return self.matcher.encode_images([image]) if own is None else self.encoded(np.array([own]))


def _ranked(
    positions: np.ndarray, products: np.ndarray, scores: np.ndarray, count: int
) -> list[tuple[int, int, int, float, float | None]]:
    """(position, rank, candidate rank, product, score) of the first `count` of some candidates.

    The best score comes first, of equal ones the better candidate. Those that were not scored stay behind.

    Args:
        scores: of the first candidates, as many as were scored.
    """
    order = [*np.argsort(-scores, kind="stable").tolist(), *range(len(scores), len(positions))]
    return [
        (int(positions[k]), rank, k + 1, float(products[k]), float(scores[k]) if k < len(scores) else None)
        for rank, k in enumerate(order[:count], 1)
    ]
