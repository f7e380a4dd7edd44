"""Figures for parts of the queries: short and long captions, captions that count, pictures with many regions.

Text queries are sliced by what their caption says, image queries by their picture. Every query is still ranked against
all items of the split. Slices differ only in the queries that are averaged.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from itmkit.scoring.metrics import QueryRanks
from itmkit.statistics.bootstrap import RESAMPLES, Interval, direction_intervals

LENGTHS = (8, 10, 12, 15)  # words at which the next slice of captions begins
REGIONS = (10, 20, 36)  # likewise regions of images
CATEGORY = "supercategory "  # how the names of slices by super-category begin

_COLOURS = """
    black white grey gray red green blue yellow orange purple pink brown tan beige gold golden silver maroon
    turquoise teal violet cream khaki navy burgundy magenta lavender blond blonde brunette colored coloured
    colorful colourful multicolored multicoloured reddish greenish bluish yellowish brownish
"""
_NUMBERS = """
    one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred hundreds thousand thousands
    dozen dozens pair pairs
"""
_RELATIONS = """
    on onto in inside into within under underneath below beneath above over atop behind beside besides near
    nearby next between among amongst against around across through along alongside beyond outside past toward
    towards left right top bottom front with without at by off hold holds holding held carry carries carrying
    carried wear wears wearing ride rides riding ridden sit sits sitting seated stand stands standing lie lies
    lying lay lays laying lean leans leaning hang hangs hanging hung cover covers covering covered surround
    surrounds surrounding surrounded contain contains containing fill filled face faces facing pull pulls
    pulling pulled push pushes pushing pushed touch touches touching throw throws throwing kick kicks kicking
    catch catches catching eat eats eating drink drinks drinking
"""
# A caption belongs to a class if it has at least one of its words. Words are compared in lower case, as written.
WORDS = {
    "colour": frozenset(_COLOURS.split()),
    "number": frozenset(_NUMBERS.split()),
    "relation": frozenset(_RELATIONS.split()),
}
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_DIGITS = re.compile(r"\d")


@dataclass(frozen=True)
class Slice:
    """Some queries of one direction. Without queries it has no figures.

    Attributes:
        side: i2t or t2i.
        name: "words 8-9", "with colour", "regions 36 and more".
        queries: how many.
        figures: "R@1", "R@5", "R@10" in percent, "medr", "meanr", each with its 95% interval.
    """

    side: str
    name: str
    queries: int
    figures: dict[str, Interval]

    def to_json(self) -> dict[str, object]:
        figures = {name: interval.to_json() for name, interval in self.figures.items()}
        return {"side": self.side, "name": self.name, "queries": self.queries, "figures": figures}


def text_slices(
    ranks: QueryRanks,
    texts: Sequence[str],
    *,
    lengths: Sequence[int] = LENGTHS,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Slice]:
    """Text queries by the number of words in the caption, and with and without each class of `WORDS`.

    Args:
        ranks: from `itmkit.scoring.metrics.query_ranks`.
        texts: the captions, in the order of the columns.
        lengths: numbers of words at which the next slice begins, in rising order.
    """
    if len(texts) != len(ranks.of_texts):
        raise ValueError(f"{len(texts)} captions, ranks of {len(ranks.of_texts)}")
    counts, found = _read(texts)
    parts = bins("words", counts, lengths)
    for name, there in found.items():
        parts |= {f"with {name}": there, f"without {name}": ~there}
    return slices("t2i", ranks.of_texts, ranks.image_of, parts, resamples=resamples, seed=seed)


def image_slices(
    ranks: QueryRanks,
    regions: np.ndarray,
    *,
    edges: Sequence[int] = REGIONS,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Slice]:
    """Image queries by the number of regions of the image.

    Args:
        ranks: from `itmkit.scoring.metrics.query_ranks`.
        regions: (n_images,) int, in the order of the rows.
        edges: numbers of regions at which the next slice begins, in rising order.
    """
    if regions.shape != ranks.of_images.shape:
        raise ValueError(f"regions of {regions.shape}, ranks of {ranks.of_images.shape} images")
    images = np.arange(len(regions))
    parts = bins("regions", regions, edges)
    return slices("i2t", ranks.of_images, images, parts, resamples=resamples, seed=seed)


def category_slices(
    ranks: QueryRanks, categories: Sequence[Sequence[str]], *, resamples: int = RESAMPLES, seed: int = 0
) -> list[Slice]:
    """Queries of both directions by the super-categories of their image; an image may have several.

    Args:
        ranks: from `itmkit.scoring.metrics.query_ranks`.
        categories: of each image, in the order of the rows.
    """
    names = sorted({name for mine in categories for name in mine})
    has = {CATEGORY + name: np.array([name in mine for mine in categories]) for name in names}
    images = np.arange(len(categories))
    of_images = slices("i2t", ranks.of_images, images, has, resamples=resamples, seed=seed)
    of_texts = {name: there[ranks.image_of] for name, there in has.items()}
    return of_images + slices("t2i", ranks.of_texts, ranks.image_of, of_texts, resamples=resamples, seed=seed)


def slices(
    side: str,
    ranks: np.ndarray,
    images: np.ndarray,
    parts: Mapping[str, np.ndarray],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Slice]:
    """Any parts of the queries of one direction.

    Args:
        side: i2t or t2i.
        ranks: (q,) int, 0-based.
        images: (q,) int, the image of each query. The queries of one image are drawn together for intervals.
        parts: {name: (q,) bool}; they may overlap.
    """
    out = []
    for name, chosen in parts.items():
        queries = int(np.count_nonzero(chosen))
        figures = direction_intervals(ranks[chosen], images[chosen], resamples=resamples, seed=seed) if queries else {}
        out.append(Slice(side, name, queries, figures))
    return out


def bins(what: str, numbers: np.ndarray, edges: Sequence[int]) -> dict[str, np.ndarray]:
    """{"words 8-9": (n,) bool, ...}: every number is in exactly one bin. A bin begins with its edge."""
    if any(later <= earlier for earlier, later in pairwise(edges)):
        raise ValueError(f"edges {list(edges)} do not rise")
    place = np.searchsorted(np.asarray(edges), numbers, side="right")
    names = [f"{what} below {edges[0]}"] if edges else [f"{what}, any number"]
    for begin, end in pairwise(edges):
        names.append(f"{what} {begin}" if end == begin + 1 else f"{what} {begin}-{end - 1}")
    if edges:
        names.append(f"{what} {edges[-1]} and more")
    return {name: place == number for number, name in enumerate(names)}


def _read(texts: Sequence[str]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(n,) int64 numbers of words, and {class: (n,) bool}. Digits count as a number, also within a word ("2nd")."""
    counts = np.zeros(len(texts), np.int64)
    found = {name: np.zeros(len(texts), bool) for name in WORDS}
    for place, text in enumerate(texts):
        words = _WORD.findall(text.lower())
        counts[place] = len(words)
        for name, known in WORDS.items():
            found[name][place] = not known.isdisjoint(words)
        found["number"][place] |= _DIGITS.search(text) is not None
    return counts, found
