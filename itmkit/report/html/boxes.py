"""Where each word of a caption looks in a picture, as little JSON as the page needs to draw it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from itmkit.caption_text import has_words
from itmkit.progress import SILENT, Progress
from itmkit.report.spotlight import strongest
from itmkit.trained import EncodedImages, EncodedTexts, Explanation, Matcher
from itmkit.trained.encoded import AnyImage
from itmkit.trained.explain import Words, explain, words_of

ATTENTION = "attention"
NAMES = {  # of what methods compute between words and regions
    "words_to_regions": "word to regions",
    "regions_to_words": "region to words",
    "entropy": "entropy (low: decided)",
}


KEPT = 64  # images that stay encoded: several captions find the same ones


class EncodesOnce:
    """A matcher as `explain` uses it, which encodes a caption once for all pictures it is explained in.

    A picture is encoded once for the captions that find it, unless many others come between.
    """

    def __init__(self, matcher: Matcher) -> None:
        self._matcher = matcher
        self.members, self.weights = matcher.members, matcher.weights
        self.needs, self.texts = matcher.needs, matcher.texts
        self._last: EncodedTexts | None = None
        self._images: dict[str, EncodedImages] = {}

    def encode_images(self, images: Sequence[AnyImage]) -> EncodedImages:
        (image,) = images
        assert isinstance(image, str)  # an id of the workspace
        found = self._images.pop(image, None) or self._matcher.encode_images(images)
        self._images[image] = found  # the last one now
        if len(self._images) > KEPT:
            del self._images[next(iter(self._images))]
        return found

    def encode_texts(self, texts: Sequence[str]) -> EncodedTexts:
        if self._last is None or self._last.captions != list(texts):
            self._last = self._matcher.encode_texts(texts)
        return self._last

    def score_members(self, images: EncodedImages, texts: EncodedTexts) -> Mapping[str, np.ndarray]:
        return self._matcher.score_members(images, texts)


def add_boxes(
    matcher: Matcher, queries: Sequence[dict[str, Any]], progress: Progress = SILENT
) -> tuple[dict[str, Any], list[str], list[str]]:
    """Adds to each caption query its words, and to each picture shown for it where they look.

    Args:
        queries: of `itmkit.report.html.queries.caption_queries`; changed in place.

    Returns:
        {image: its regions}, the names of the layers, the first one first, and a note where there are none.
    """
    regions: dict[str, Any] = {}
    layers: dict[str, None] = {}
    once, looks = EncodesOnce(matcher), False
    with progress.task("explaining", len(queries), unit="captions") as advance:
        for query in queries:
            if has_words(query["caption"]):
                caption, words = query["caption"], words_of(once, query["caption"])
                found = [explain(once, shown["image"], caption, words=words) for shown in query["shown"]]
                query["words"] = _words(found[0])
                query["unread"] = _unread(caption, words)
                for shown, each in zip(query["shown"], found, strict=True):
                    looks |= each.attention is not None
                    shown["layers"] = _layers(each)
                    layers |= dict.fromkeys(shown["layers"])
                    regions.setdefault(shown["image"], _regions(each))
            advance()
    if layers or not regions:
        return regions, list(layers), []
    why = "it is not known where regions are: their features were imported without boxes"
    whole = f"{matcher.method} compares whole pictures with whole captions, so no word looks at a region"
    return regions, [], [f"no boxes of words: {why if looks else whole}"]


def _words(found: Explanation) -> list[dict[str, Any]]:
    """As in the JSON of an explanation: importance in the picture that comes first, head and relation of the tree."""
    words: list[dict[str, Any]] = found.to_json()["words"]
    return words


def _unread(caption: str, words: Words) -> str:
    """What stands behind the last word of a caption that the matcher reads; empty where no word does."""
    rest = caption[max((end for _, end in words.spans), default=0) :].strip()
    return rest if has_words(rest) else ""


def _regions(found: Explanation) -> dict[str, Any]:
    """Boxes in thousandths of the picture, and names."""
    if not _have_places(found):
        return {"boxes": [], "names": []}
    shares = np.clip(found.boxes / np.tile(found.size, 2), 0, 1)
    return {"boxes": np.round(1000 * shares).astype(int).tolist(), "names": list(found.regions)}


def _have_places(found: Explanation) -> bool:
    """Features may have been imported without boxes."""
    return bool(min(found.size) > 0 and len(found.boxes) and (found.boxes[:, 2:] > found.boxes[:, :2]).any())


def _layers(found: Explanation) -> dict[str, list[list[list[float]]]]:
    """{layer: a list for each word of [region, weight], the strongest first}: a few regions, or a twelfth of many."""
    if not _have_places(found):
        return {}
    layers = {} if found.attention is None else {ATTENTION: _strongest(found.attention)}
    several = len(found.quantities) > 1
    for member, each in found.quantities.items():
        maps = {name: each[name] for name in NAMES if name in each and each[name].shape[1:] == (len(found.boxes),)}
        if set(maps) == {"words_to_regions"} and not several:
            continue  # this is the attention
        for name, values in maps.items():
            says = f"{NAMES[name]}, {member}" if several else NAMES[name]
            layers[says] = _strongest(values, low=name == "entropy")
    return layers


def _strongest(values: np.ndarray, *, low: bool = False) -> list[list[list[float]]]:
    finite = np.nan_to_num(values, nan=1.0 if low else 0.0)
    orders = [strongest(1 - row if low else row) for row in finite]
    return [
        [[int(region), round(float(row[region]), 4)] for region in order]
        for row, order in zip(finite, orders, strict=True)
    ]
