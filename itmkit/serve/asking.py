"""The captions that the page asks about, encoded once: every image that is explained asks for the same ones again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from itmkit.errors import ItmkitError
from itmkit.trained import EncodedImages, EncodedTexts, Matcher
from itmkit.trained.encoded import AnyImage
from itmkit.trained.explain import Words, with_each_word_left_out, words_of

KEPT = 16  # queries
MOST_WORDS = 48  # of a query: it is scored again without each of them, which takes the time of their square


class AskedTexts:
    """A matcher as `itmkit.trained.explain.explain` uses it, which keeps what it made of the last captions."""

    def __init__(self, matcher: Matcher) -> None:
        self._matcher = matcher
        self.members, self.weights = matcher.members, matcher.weights
        self.needs, self.texts = matcher.needs, matcher.texts
        self._encoded = lru_cache(maxsize=2 * KEPT)(lambda texts: matcher.encode_texts(list(texts)))
        self._words = lru_cache(maxsize=KEPT)(lambda text: words_of(matcher, text))

    def words(self, text: str) -> Words:
        """The words of a caption as the matcher reads them. Raises ItmkitError if it has more than `MOST_WORDS`."""
        found = self._words(text)
        if len(found) > MOST_WORDS:
            raise ItmkitError(f"the query has {len(found)} words, at most {MOST_WORDS} are read; shorten it")
        return found

    def with_each_word_left_out(self, text: str) -> list[str]:
        """The caption itself, and then without its first word, without its second one, and so on."""
        return with_each_word_left_out(text, self.words(text))

    def encode_images(self, images: Sequence[AnyImage]) -> EncodedImages:
        return self._matcher.encode_images(images)

    def encode_texts(self, texts: Sequence[str]) -> EncodedTexts:
        return self._encoded(tuple(texts))

    def score_members(self, images: EncodedImages, texts: EncodedTexts) -> Mapping[str, np.ndarray]:
        return self._matcher.score_members(images, texts)
