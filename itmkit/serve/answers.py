"""What the page asks of the matcher and its index, as plain JSON. For one thread at a time."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import numpy as np
from PIL import Image

import itmkit
from itmkit.cache import CacheReader
from itmkit.errors import ItmkitError
from itmkit.index.candidates import candidate_vectors
from itmkit.index.made import made_from
from itmkit.index.open import run_of
from itmkit.index.regions import nearest_regions, vectors_of_regions
from itmkit.index.search import Hit, Searcher
from itmkit.index.store import Store
from itmkit.serve.asking import AskedTexts
from itmkit.serve.indexed import IndexedImages, best_overlap, regions_json
from itmkit.serve.pictures import version_of
from itmkit.stages import require
from itmkit.trained import EncodedImages, Matcher, open_matcher
from itmkit.trained.explain import explain, falls_without
from itmkit.workspace import Workspace

Order = Literal["matcher", "candidates"]
Box = tuple[float, float, float, float]
BEST = 3  # images over which the importance of words is averaged: it means little where the query does not fit
READ = 256 << 20  # bytes of rows whose regions are compared with one
KEPT_PICTURES = 4  # given pictures whose regions are kept, for a second question about them
NO_REGIONS = "this method compares whole pictures: it knows no regions"


class Answers:
    """Answers about one index. `facts` and `images.record` may be asked by any thread."""

    def __init__(self, workspace: Workspace, store: Store, matcher: Matcher) -> None:
        self.matcher, self.searcher = matcher, Searcher(store, matcher)
        self.images = IndexedImages(workspace, store, matcher.needs)
        self.has_regions = _has_regions(store, self.images.regions)
        self._texts = AskedTexts(matcher)
        self._hits = lru_cache(maxsize=32)(self._found)
        self._given: OrderedDict[str, EncodedImages] = OrderedDict()
        self.facts = self._facts(workspace, store)

    def search(self, query: str, count: int, rerank: int, order: Order) -> dict[str, Any]:
        """The images of a caption, and how much each of its words matters to the best of them."""
        words = self._texts.words(query)
        hits = self._hits(query, max(count, rerank), rerank)
        if order == "candidates":
            hits = sorted(hits, key=lambda hit: hit.candidate_rank)
        shown = hits[:count]
        weights = self._importance(query, [hit.position for hit in hits if hit.rank <= BEST])
        unknown = set(self.matcher.texts.unknown([query]))
        return {
            "query": query,
            "order": order,
            "rerank": rerank,
            "words": [
                {"word": word, "start": start, "end": end, "importance": _number(importance)}
                | ({"unknown": True} if word in unknown else {})
                | ({"head": words.heads[k], "relation": words.relations[k]} if words.heads else {})
                for k, (word, (start, end), importance) in enumerate(
                    zip(words.words, words.spans, weights.tolist(), strict=True)
                )
            ],
            "results": [self._text_hit(hit, rank) for rank, hit in enumerate(shown, 1)],
        }

    def explain(self, image: str, query: str) -> dict[str, Any]:
        """Where each word of a caption looks in an image, and what the score loses without it."""
        self._texts.words(query)
        found = explain(self._texts, self._indexed(image), query).to_json()
        del found["quantities"]  # of the methods, for who reads papers: `Matcher.explain` has them
        return found

    def image(self, image: str) -> dict[str, Any]:
        """Captions and regions of an image of the index."""
        record = self.images.record(image)
        rows = self.images.rows([image])
        captions = [caption.text for caption in record.captions] if record else []
        return {
            "image": image,
            "captions": captions,
            **self._seen(regions_json(rows, 0)),
            "picture": self._thumb(image, 960),
        }

    def like_image(self, image: str, count: int) -> dict[str, Any]:
        """The images that look most like one of the index, which itself comes first."""
        return {"like": image, "results": self._like(self._indexed(image), count)}

    def like_picture(self, picture: Image.Image, digest: str, count: int) -> dict[str, Any]:
        """The images that look most like a given picture, and the regions that were found in it."""
        encoded = self._encode(picture, digest)
        seen = self._seen(regions_json(encoded.rows[0], 0)) | {"size": list(picture.size)}
        return {**seen, "results": self._like(encoded, count)}

    def region_of_image(self, image: str, region: int | Box, count: int) -> dict[str, Any]:
        """The images with a region like one of an image of the index; a box stands for the region it covers best."""
        return {"like": image, **self._with_region(self._indexed(image), region, count)}

    def region_of_picture(self, picture: Image.Image, digest: str, region: int | Box, count: int) -> dict[str, Any]:
        """The same for a given picture. A method without regions looks at what is inside the box."""
        if self.has_regions:
            return self._with_region(self._encode(picture, digest), region, count)
        if isinstance(region, int):
            raise ItmkitError(NO_REGIONS)
        part = picture.crop(inside(region, picture.size))
        found = self.like_picture(part, f"{digest} {region}", count)
        return {"region": None, "box": list(region), "results": found["results"]}

    def _with_region(self, encoded: EncodedImages, region: int | Box, count: int) -> dict[str, Any]:
        if not self.has_regions:
            raise ItmkitError(NO_REGIONS)
        regions = regions_json(encoded.rows[0], 0)["regions"]
        if isinstance(region, int):
            chosen: int | None = region if 0 <= region < len(regions) else None
        else:
            chosen = best_overlap(np.array([one["box"] for one in regions], np.float32).reshape(-1, 4), region)
        if chosen is None:
            what = f"has no region {region}" if isinstance(region, int) else "has no region in this box"
            raise ItmkitError(f"the picture {what}; {len(regions)} are known of it")
        hits = self._region_hits(encoded, chosen, count)
        rows = self.images.rows([hit.image for hit in hits]) if hits else None
        return {
            "region": chosen,
            **regions[chosen],
            "results": [
                self._region_hit(hit, regions_json(rows, number)) for number, hit in enumerate(hits) if rows is not None
            ],
        }

    def _region_hits(self, encoded: EncodedImages, region: int, count: int) -> list[Hit]:
        """The images with the region most like one of an encoded image.

        Exact up to `READ` bytes of rows; of a larger index, the images nearest by their vector are compared.
        """
        store, weights = self.searcher.store, self.matcher.weights
        query = vectors_of_regions(encoded.tiles[0][1], weights)[0][0, region]
        most = max(count, READ // store.format.bytes)
        among = np.sort(self.searcher.nearest(query, most)[0])  # in the order of the files
        found = nearest_regions(store, weights, query, count, among=among)
        ranked = enumerate(zip(*(each.tolist() for each in found), strict=True), 1)
        return [Hit(store.ids[place], place, rank, rank, score, None, which) for rank, (place, score, which) in ranked]

    def _importance(self, query: str, positions: list[int]) -> np.ndarray:
        """(L,) by how much the score falls without each word, the mean over the images at some positions."""
        captions = self._texts.with_each_word_left_out(query)
        if not positions:
            return np.zeros(len(captions) - 1, np.float32)
        scores = self.searcher.scores(np.array(positions), self._texts.encode_texts(captions))
        return falls_without(captions, scores).mean(axis=0)  # type: ignore[no-any-return]

    def _like(self, encoded: EncodedImages, count: int) -> list[dict[str, Any]]:
        vector = candidate_vectors(encoded.tiles[0][1], self.matcher.weights)[0]
        positions, products = self.searcher.nearest(vector, count)
        ids = [self.searcher.store.ids[k] for k in positions.tolist()]
        return [
            {"rank": rank, "score": _number(score), **self._shown(image)}
            for rank, (image, score) in enumerate(zip(ids, products.tolist(), strict=True), 1)
        ]

    def _found(self, query: str, count: int, rerank: int) -> list[Hit]:
        return self.searcher.text(query, count=count, rerank=rerank)

    def _indexed(self, image: str) -> EncodedImages:
        """An image of the index: its tensors from there, its regions from the caches."""
        encoded = self.searcher.encoded(np.array([self.images.positions[image]]))
        return EncodedImages(encoded.names, encoded.tiles, [self.images.rows([image])])

    def _encode(self, picture: Image.Image, digest: str) -> EncodedImages:
        if digest not in self._given:
            self._given[digest] = self.matcher.encode_images([picture])
            while len(self._given) > KEPT_PICTURES:
                self._given.popitem(last=False)
        self._given.move_to_end(digest)
        return self._given[digest]

    def _seen(self, regions: dict[str, Any]) -> dict[str, Any]:
        """Without regions where they cannot be asked for."""
        return regions if self.has_regions else {**regions, "regions": []}

    def _text_hit(self, hit: Hit, place: int) -> dict[str, Any]:
        scores = {"score": _number(hit.score), "candidate_score": _number(hit.candidate_score)}
        ranks = {"place": place, "rank": hit.rank, "candidate_rank": hit.candidate_rank}
        return {**ranks, **scores, **self._shown(hit.image)}

    def _region_hit(self, hit: Hit, regions: dict[str, Any]) -> dict[str, Any]:
        assert hit.region is not None  # `_region_hits` says which
        box = regions["regions"][hit.region] if hit.region < len(regions["regions"]) else None
        found = {"rank": hit.rank, "score": _number(hit.candidate_score), **self._shown(hit.image)}
        return {**found, "region": box, "size": regions["size"]}

    def _shown(self, image: str) -> dict[str, Any]:
        record = self.images.record(image)
        caption = record.captions[0].text if record and record.captions else ""
        return {"image": image, "caption": caption, "thumb": self._thumb(image, 320)}

    def _thumb(self, image: str, side: int) -> str:
        """The address of a small picture: another picture, as one of the same id elsewhere, has another one."""
        record = self.images.record(image)
        version = version_of(record) if record else ""
        return f"/thumb/{quote(image, safe='')}?side={side}" + (f"&v={version}" if version else "")

    def _facts(self, workspace: Workspace, store: Store) -> dict[str, Any]:
        records = [record for image in store.ids if (record := self.images.record(image)) is not None]
        some = records[:: max(1, len(records) // 4)][:4]
        return {
            "version": itmkit.__version__,
            "run": self.matcher.name,
            "method": self.matcher.method,
            "members": list(self.matcher.members),
            "device": str(self.matcher.device),
            "workspace": workspace.root.resolve().name,
            "images": len(self.images.positions),
            "rows": store.facts.rows,
            "bytes": len(store) * (store.format.bytes + 4 * store.facts.candidates),
            "regions": self.has_regions,
            "examples": [record.captions[-1].text for record in some if record.captions],
        }


def open_answers(
    workspace: Workspace,
    *,
    run: str | None = None,
    device: str | None = None,
    models: Mapping[str, str | Path] | None = None,
) -> Answers:
    """Opens the index of a workspace with the run that made it. Images that the workspace no longer has are not found.

    Args:
        run: name of the run in this workspace; None means the one that the index names.
        device, models: as `itmkit.trained.open_matcher` takes them.

    Raises:
        ItmkitError: there is no index, its run is gone, or it was made by other weights or features than there are now.
    """
    folder = workspace.root / "index"
    store = Store(folder)
    place = workspace.run(run) if run is not None else run_of(workspace, store.facts, folder)
    matcher = open_matcher(place, device=device, models=models)
    require(workspace, *matcher.needs.image_caches, dataset=workspace.dataset())
    if dict(store.facts.made_from) != made_from(workspace, matcher):
        raise ItmkitError(
            f"{folder}: was made by another run than {place}, or by other weights or features than there are now; run"
            f" `itmkit index --run {matcher.name} --force`"
        )
    return Answers(workspace, _without_lost(workspace, store, matcher), matcher)


def _without_lost(workspace: Workspace, store: Store, matcher: Matcher) -> Store:
    """The store without the images that the data set or the cache of pictures no longer has."""
    known = {image.id for image in workspace.dataset().images}
    has_row = CacheReader.open(workspace.cache(matcher.needs.images)).find(store.ids) >= 0
    lost = [k for k, image in enumerate(store.ids) if image not in known or not has_row[k]]
    return Store(store.folder, replace(store.facts, dead=sorted({*store.facts.dead, *lost}))) if lost else store


def inside(box: Sequence[float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A box in whole pixels that lies inside a picture and is not empty."""
    (x1, y1, x2, y2), (width, height) = box, size
    left, top = min(max(math.floor(x1), 0), width - 1), min(max(math.floor(y1), 0), height - 1)
    return left, top, max(left + 1, min(math.ceil(x2), width)), max(top + 1, min(math.ceil(y2), height))


def _has_regions(store: Store, regions: int) -> bool:
    """Whether every member keeps a vector of each region that the caches have."""
    members = {place.member for place in store.format.places}
    nodes = [place for place in store.format.places if place.name == "nodes"]
    return {place.member for place in nodes} == members and {place.shape[0] for place in nodes} == {regions}


def _number(value: float | None) -> float | None:
    """JSON has no NaN and no infinity."""
    return round(float(value), 6) if value is not None and math.isfinite(value) else None
