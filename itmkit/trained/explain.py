"""Why a matcher scores an image and a caption as it does: from what the method itself computes between the two."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from itmkit.cache.name import PUBLISHED_TEXTS, is_patches
from itmkit.caption_text import evenly_spelled, has_words
from itmkit.errors import ItmkitError
from itmkit.inputs import MAX_WORDS, Needs
from itmkit.inputs.texts import most_words
from itmkit.matchers import explain as quantities_of
from itmkit.trained.encoded import AnyImage, EncodedImages, EncodedTexts
from itmkit.trained.pictures import PictureRows
from itmkit.trained.texts import NewTexts


class Scorer(Protocol):
    """What an explanation asks of a matcher; `itmkit.trained.Matcher` has it."""

    members: dict[str, nn.Module]
    weights: dict[str, float]
    needs: Needs
    texts: NewTexts

    def encode_images(self, images: Sequence[AnyImage]) -> EncodedImages: ...

    def encode_texts(self, texts: Sequence[str]) -> EncodedTexts: ...

    def score_members(self, images: EncodedImages, texts: EncodedTexts) -> Mapping[str, np.ndarray]: ...


@dataclass(frozen=True)
class Words:
    """The words of a caption as the matcher reads them.

    spans: characters (start, end) of each. heads, relations: its dependency tree; a root is its own head. Empty where
    the method reads captions without parsing them.
    """

    words: list[str]
    spans: list[tuple[int, int]]
    heads: list[int] = field(default_factory=list)
    relations: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.words)


@dataclass(frozen=True)
class Explanation:
    """One image and one caption.

    Attributes:
        text: the caption as the matcher reads it, with straight apostrophes and composed accents.
        score: as `Matcher.score` gives it; members: that of each member.
        words: L words of the caption.
        regions: names of the R regions ("" without one); boxes: (R, 4) x1 y1 x2 y2 in pixels of the upright picture, or
            (0, 4) where the method knows no regions; size: (width, height) of the picture, (0, 0) where not known.
        quantities: member -> what `itmkit.matchers.explain` names, without regions that are not there.
        importance: (L,) by how much the score falls when the word is left out of the caption. It is measured, by
            scoring the caption again without the word, and so means the same for every method.
        part: what a region is called: "region", or "patch" of a vision transformer.
    """

    image: str
    text: str
    score: float
    members: dict[str, float]
    words: Words
    regions: list[str]
    boxes: np.ndarray
    size: tuple[int, int]
    quantities: dict[str, dict[str, np.ndarray]]
    importance: np.ndarray
    part: str = "region"

    @property
    def attention(self) -> np.ndarray | None:
        """(L, R) how much each word looks at each region, every row summing to one: the mean over members.

        From the attention of words to regions where a method has it, else from that of regions to words, read the
        other way round. None for methods without attention.
        """
        found = []
        for each in self.quantities.values():
            weights = each.get("words_to_regions", each.get("regions_to_words"))
            if weights is not None and weights.shape == (len(self.words), len(self.boxes)):
                found.append(weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-12))
        return np.mean(found, axis=0) if found else None

    def to_json(self) -> dict[str, Any]:
        """The same as plain lists and numbers."""
        return {
            "image": self.image,
            "text": self.text,
            "score": self.score,
            "members": self.members,
            "size": list(self.size),
            "words": [
                {"word": word, "start": start, "end": end, "importance": round(float(importance), 6)}
                | ({"head": self.words.heads[k], "relation": self.words.relations[k]} if self.words.heads else {})
                for k, (word, (start, end), importance) in enumerate(
                    zip(self.words.words, self.words.spans, self.importance, strict=True)
                )
            ],
            "regions": [
                {"name": name, "box": [round(float(x), 2) for x in box]}
                for name, box in zip(self.regions, self.boxes, strict=True)
            ],
            "attention": None if self.attention is None else np.round(self.attention, 6).tolist(),
            "quantities": {
                member: {name: np.round(values, 6).tolist() for name, values in each.items()}
                for member, each in self.quantities.items()
            },
        }


def explain(matcher: Scorer, image: AnyImage | EncodedImages, text: str, *, words: Words | None = None) -> Explanation:
    """Explains the score of one image with one caption.

    Args:
        image: a path, a PIL image, an id of the run's workspace, or what `encode_images` made of one image.
        words: `words_of` the caption where they are known, so that it is not parsed again for every image.

    Raises:
        ItmkitError: the caption holds no word; or as `Matcher.score` does.
    """
    text = evenly_spelled(text)
    if not has_words(text):
        raise ItmkitError("the caption holds no word, so there is nothing to explain")
    images = image if isinstance(image, EncodedImages) else matcher.encode_images([image])
    words = words_of(matcher, text) if words is None else words
    captions = with_each_word_left_out(text, words)
    texts = matcher.encode_texts(captions)
    by_member = matcher.score_members(images, texts)
    scores = np.average(list(by_member.values()), axis=0, weights=[matcher.weights[name] for name in by_member])[0]
    rows, (_, encoded_image) = images.rows[0], images.tiles[0]
    encoded_text = texts.one(0)
    count = int(rows.columns["count"][0]) if "count" in rows.columns else rows.features[0].shape[0]
    with torch.inference_mode():
        quantities = {
            name: {key: _real(value.float().cpu().numpy(), rows, count) for key, value in found.items()}
            for name, network in matcher.members.items()
            if (found := quantities_of(network, encoded_image[name], encoded_text[name]))
        }
    boxes = rows.columns["boxes"][0, :count] if "boxes" in rows.columns else np.zeros((0, 4), np.float32)
    width, height = rows.columns["size"][0].tolist() if "size" in rows.columns else (0, 0)
    return Explanation(
        image=images.names[0],
        text=text,
        score=float(scores[0]),
        members={name: float(each[0, 0]) for name, each in by_member.items()},
        words=words,
        regions=rows.names[0][: len(boxes)],
        boxes=boxes,
        size=(int(width), int(height)),
        quantities=quantities,
        importance=falls_without(captions, scores).astype(np.float32),
        part="patch" if is_patches(matcher.needs.images) else "region",
    )


def _real(values: np.ndarray, rows: PictureRows, count: int) -> np.ndarray:
    """Without the columns of regions that are not there."""
    most = rows.features.shape[1] if rows.features.ndim == 3 else 1
    return values[:, :count] if values.ndim == 2 and values.shape[1] == most else values


def words_of(matcher: Scorer, text: str) -> Words:
    """The words of a caption, at most `most_words` of them, by the parser of training where the method needs one.

    Their characters are those of `evenly_spelled(text)`.
    """
    text = evenly_spelled(text)
    if matcher.needs.text not in matcher.needs.caches:
        found = list(re.finditer(r"\S+", text))[:MAX_WORDS]
        return Words([match.group() for match in found], [match.span() for match in found])
    parsed = matcher.texts.parse([text])
    count = min(int(parsed.lengths[0]), most_words(matcher.needs))
    words = [parsed.words.strings[code] for code in parsed.words.codes[:count]]
    spans = list(zip(parsed.starts[:count].tolist(), parsed.ends[:count].tolist(), strict=True))
    if matcher.needs.text in PUBLISHED_TEXTS.values():  # words without trees
        return Words(words, spans)
    heads = [head if head < count else place for place, head in enumerate(parsed.heads[:count].tolist())]
    relations = [parsed.relations.strings[code] for code in parsed.relations.codes[:count]]
    return Words(words, spans, heads, relations)


def with_each_word_left_out(text: str, words: Words) -> list[str]:
    """The caption itself, and then without its first word, without its second one, and so on.

    A word that is all of a caption cannot be left out.
    """
    without = [" ".join(f"{text[:start]} {text[end:]}".split()) for start, end in words.spans]
    return [text, *(other or text for other in without)]


def falls_without(captions: Sequence[str], scores: np.ndarray) -> np.ndarray:
    """By how much scores fall without each word.

    Args:
        captions: those of `with_each_word_left_out`, 1 + L.
        scores: (..., 1 + L), of these.

    Returns:
        (..., L), zero where the word is all of the caption: two scores of one caption may differ by rounding.
    """
    falls: np.ndarray = scores[..., :1] - scores[..., 1:]
    falls[..., [other == captions[0] for other in captions[1:]]] = 0
    return falls
