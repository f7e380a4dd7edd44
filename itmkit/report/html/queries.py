"""Queries of a report as JSON: what is asked, the first five of what is found, and what should have been."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from itmkit.report.html.choose import List, of_one, of_two
from itmkit.report.html.scored import Scored
from itmkit.report.html.walk import Walked, WrongPair, first, walk

FIRST = 5
SIDES = ("t2i", "i2t")


def chosen_lists(scored: Sequence[Scored], count: int) -> dict[str, list[List]]:
    """The lists of each direction: of the first run, beside its baseline if there is a second one."""
    ours, theirs = scored[0].ranks, scored[1].ranks if len(scored) > 1 else None
    if theirs is None:
        return {"t2i": of_one(ours.of_texts, count), "i2t": of_one(ours.of_images, count)}
    return {
        "t2i": of_two(ours.of_texts, theirs.of_texts, count),
        "i2t": of_two(ours.of_images, theirs.of_images, count),
    }


def walked(scored: Sequence[Scored], lists: dict[str, list[List]]) -> list[Walked]:
    """What the lists need of the scores of each run."""
    texts, images = _places(lists["t2i"]), _places(lists["i2t"])
    return [walk(one.scores, one.ranks.image_of, texts=texts, images=images) for one in scored]


def caption_queries(scored: Sequence[Scored], lists: Sequence[List], found: Sequence[Walked]) -> list[dict[str, Any]]:
    """Captions with the images found for them.

    Each has "list", "id", "caption", "image" (its own), "rank", "baseline" (the rank by the second run, or None),
    "shown" and "baseline_shown": the first five images as {"image", "score", "right", "rank"}, and the own one where it
    is lower. Ranks count from 1.
    """
    made = []
    captions = [caption for image in scored[0].images for caption in image.captions]
    for column, (title, place) in enumerate(_queries(lists)):
        own = int(scored[0].ranks.image_of[place])
        right = np.arange(len(scored[0].images)) == own
        ranks = [int(one.ranks.of_texts[place]) + 1 for one in scored[:2]]
        both = [
            [{"image": one.images[k].id, **facts} for k, facts in _shown(each.columns[:, column], right, rank)]
            for one, each, rank in zip(scored, found, ranks, strict=False)
        ]
        query = {"list": title, "id": captions[place].id, "caption": captions[place].text}
        made.append(query | {"image": scored[0].images[own].id} | _both(ranks, both))
    return made


def image_queries(scored: Sequence[Scored], lists: Sequence[List], found: Sequence[Walked]) -> list[dict[str, Any]]:
    """Images with the captions found for them, as `caption_queries`; captions are {"caption", "id", "image", ...}."""
    made = []
    records = [(image, caption) for image in scored[0].images for caption in image.captions]
    for row, (title, place) in enumerate(_queries(lists)):
        right = scored[0].ranks.image_of == place
        ranks = [int(one.ranks.of_images[place]) + 1 for one in scored[:2]]
        both = [
            [
                {"caption": records[k][1].text, "id": records[k][1].id, "image": records[k][0].id, **facts}
                for k, facts in _shown(each.rows[row], right, rank)
            ]
            for each, rank in zip(found, ranks, strict=False)
        ]
        made.append({"list": title, "image": scored[0].images[place].id} | _both(ranks, both))
    return made


def wrong_pairs(ours: Scored, pairs: Sequence[WrongPair]) -> list[dict[str, Any]]:
    """Pairs that may be right, though no annotation says so, with the captions of both images."""
    made = []
    captions = [caption for image in ours.images for caption in image.captions]
    for pair in pairs:
        own = ours.images[int(ours.ranks.image_of[pair.text])]
        image, caption = ours.images[pair.image], captions[pair.text]
        scores = {"score": pair.score, "with_own_image": pair.own_of_text, "with_own_caption": pair.own_of_image}
        facts = {"image": image.id, "captions": [one.text for one in image.captions], "caption": caption.text}
        made.append(facts | {"caption_id": caption.id, "caption_image": own.id, **scores})
    return made


def _shown(scores: np.ndarray, right: np.ndarray, rank: int) -> list[tuple[int, dict[str, Any]]]:
    """(place, {"score", "right", "rank"}) of the first five candidates, and of the best right one behind them."""
    best = first(scores, right, FIRST)
    found = [(place, number) for number, place in enumerate(best, 1)]
    if rank > FIRST:
        found.append((int(np.where(right, scores, -np.inf).argmax()), rank))
    return [
        (place, {"score": float(scores[place]), "right": bool(right[place]), "rank": number}) for place, number in found
    ]


def _both(ranks: Sequence[int], shown: Sequence[list[dict[str, Any]]]) -> dict[str, Any]:
    found: dict[str, Any] = {"rank": ranks[0], "baseline": ranks[1] if len(ranks) > 1 else None, "shown": shown[0]}
    return found | ({"baseline_shown": shown[1]} if len(shown) > 1 else {})


def _queries(lists: Sequence[List]) -> list[tuple[str, int]]:
    return [(each.title, query) for each in lists for query in each.queries]


def _places(lists: Sequence[List]) -> list[int]:
    return [query for _, query in _queries(lists)]
