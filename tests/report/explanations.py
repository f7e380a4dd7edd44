"""Explanations made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from itmkit.trained import Explanation
from itmkit.trained.explain import Words

TREE = ([1, 2, 2, 5, 5, 2], ["det", "nsubj", "root", "case", "amod", "obl"])


def explanation(
    words: str = "the dog runs past red cars", *, tree: bool = True, regions: int = 5, **changed: Any
) -> Explanation:
    """A caption whose word k looks at region k, in a picture of 80 x 60 pixels with boxes of 10 x 10."""
    found = words.split(" ")
    count = len(found)
    heads, relations = TREE if tree and count == 6 else ([max(0, k - 1) for k in range(count)], ["root"] * count)
    weights = np.full((count, regions), 0.1)
    weights[range(count), np.arange(count) % regions] = 1
    weights /= weights.sum(axis=1, keepdims=True)
    left = np.arange(regions) * 10.0
    facts = {
        "image": "a.jpg",
        "text": words,
        "score": 0.5,
        "members": {"one": 0.5},
        "words": Words(found, [(0, 1)] * count, heads if tree else [], relations if tree else []),
        "regions": [f"thing {k}" for k in range(regions)],
        "boxes": np.stack([left % 70, left // 2, left % 70 + 10, left // 2 + 10], axis=1),
        "size": (80, 60),
        "quantities": {"one": {"words_to_regions": weights}},
        "importance": np.linspace(-0.2, 0.5, count),
    }
    return Explanation(**(facts | changed))
