"""What is asked of a matrix beside recalls: all of it against loops over one query after the other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from itmkit.dataset import Caption, ImageRecord
from itmkit.errors import ItmkitError
from itmkit.evaluation.measures import CMC_RANKS, Measures, Wanted
from itmkit.evaluation.protocols import PROTOCOLS
from itmkit.scoring.metrics import query_ranks
from itmkit.scoring.stored import InMemory

IMAGES, EACH = 9, 2
SPLIT = PROTOCOLS["test"]


def records() -> list[ImageRecord]:
    """Image k has labels "even" or "odd", and "small" up to the fourth; the last image has none."""
    made = []
    for k in range(IMAGES):
        labels = () if k == IMAGES - 1 else ("odd" if k % 2 else "even", *(("small",) if k < 4 else ()))
        texts = [f"a {'red ' if k % 2 else ''}thing number {k}", "two of them"]
        captions = tuple(Caption(f"{k}.jpg#{n}", text) for n, text in enumerate(texts))
        made.append(ImageRecord(id=f"{k}.jpg", split="test", captions=captions, labels=labels))
    return made


@pytest.fixture
def scores() -> np.ndarray:
    matrix = np.random.default_rng(0).normal(size=(IMAGES, IMAGES * EACH)).round(1)  # some ties
    return matrix.astype(np.float32)


IMAGE_OF = np.repeat(np.arange(IMAGES), EACH)


def measured(scores: np.ndarray, wanted: Wanted, **more: Any) -> tuple[dict[str, Any], Measures]:
    measures = Measures(wanted, records(), SPLIT, **more)
    found = measures.of(InMemory(scores), query_ranks(scores, IMAGE_OF))
    return json.loads(json.dumps(found, allow_nan=False)), measures  # it is JSON


def average_precision(scores: np.ndarray, relevant: np.ndarray) -> float:
    order = sorted(range(len(scores)), key=lambda item: (-scores[item], relevant[item]))  # a tie counts against
    hits, total = 0, 0.0
    for rank, item in enumerate(order, 1):
        if relevant[item]:
            hits += 1
            total += hits / rank
    return total / hits


def test_nothing_more_where_nothing_is_wanted(scores: np.ndarray) -> None:
    assert measured(scores, Wanted())[0] == {}


def test_retrieval_by_labels(scores: np.ndarray) -> None:
    found, measures = measured(scores, Wanted(labels=True))
    assert measures.notes == ["labels: 1 of 9 images have none and are no queries"]
    sets = [set(record.labels) for record in records()]
    shared = np.array([[bool(sets[i] & sets[IMAGE_OF[t]]) for t in range(len(IMAGE_OF))] for i in range(IMAGES)])
    i2t = [average_precision(scores[i], shared[i]) for i in range(IMAGES - 1)]
    t2i = [average_precision(scores[:, t], shared[:, t]) for t in range(len(IMAGE_OF)) if IMAGE_OF[t] != IMAGES - 1]
    assert found["labels"]["i2t"]["mAP"] == pytest.approx(100 * np.mean(i2t))
    assert found["labels"]["t2i"]["mAP"] == pytest.approx(100 * np.mean(t2i))
    assert (found["labels"]["i2t"]["queries"], found["labels"]["i2t"]["without"]) == (8, 1)
    assert {"P@10", "mAP@50", "P@100"} <= set(found["labels"]["t2i"])
    first = query_ranks(scores, IMAGE_OF)
    for side, ranks, owner in (("i2t", first.of_images, np.arange(IMAGES)), ("t2i", first.of_texts, IMAGE_OF)):
        for row in found["by_label"][side]:
            mine = [ranks[q] == 0 for q in range(len(ranks)) if row["label"] in sets[owner[q]]]
            assert row["queries"] == len(mine) and row["R@1"] == pytest.approx(100 * np.mean(mine))
        assert [row["label"] for row in found["by_label"][side]] == ["even", "odd", "small"]


def test_curves_end_in_the_recalls(scores: np.ndarray) -> None:
    found, _ = measured(scores, Wanted(curves=True))
    result = query_ranks(scores, IMAGE_OF).retrieval()
    for side, direction in (("i2t", result.i2t), ("t2i", result.t2i)):
        curve = found["curves"][side]["cmc"]
        assert len(curve) == CMC_RANKS and (np.diff(curve) >= 0).all() and curve[-1] == 100
        assert (curve[0], curve[4], curve[9]) == pytest.approx((direction.r1, direction.r5, direction.r10))
        eleven = found["curves"][side]["eleven"]
        assert len(eleven) == 11 and (np.diff(eleven) <= 0).all()
    reciprocal = [1 / int((scores[:, t] >= scores[IMAGE_OF[t], t]).sum()) for t in range(len(IMAGE_OF))]
    assert found["curves"]["t2i"]["eleven"] == pytest.approx([100 * np.mean(reciprocal)] * 11)  # one answer a query


def test_slices_of_captions_and_of_images(scores: np.ndarray) -> None:
    regions = np.arange(IMAGES) * 5
    found, _ = measured(scores, Wanted(slices=True), regions=regions)
    ranks = query_ranks(scores, IMAGE_OF)
    by_name = {(one["side"], one["name"]): one for one in found["slices"]}
    red = np.array(["red" in caption.text for record in records() for caption in record.captions])
    colour = by_name["t2i", "with colour"]
    assert colour["queries"] == red.sum() == 4
    assert colour["figures"]["R@5"]["value"] == pytest.approx(100 * (ranks.of_texts[red] < 5).mean())
    few = by_name["i2t", "regions below 10"]
    assert few["queries"] == 2 and few["figures"]["R@1"]["value"] == 100 * (ranks.of_images[:2] < 1).mean()
    without, _ = measured(scores, Wanted(slices=True))
    assert {one["side"] for one in without["slices"]} == {"t2i"}


def test_judgements_of_others(scores: np.ndarray, tmp_path: Path) -> None:
    """COCO's images 0 to 8, whose captions are 100, 101, ... in order; ECCV finds caption 103 right for image 0 too."""
    images = [
        ImageRecord(id=str(k), split="test", captions=tuple(Caption(str(100 + 2 * k + n), "a") for n in (0, 1)))
        for k in range(IMAGES)
    ]
    own = {str(100 + t): [int(IMAGE_OF[t])] for t in range(18)}
    back = {str(k): [100 + 2 * k, 101 + 2 * k] for k in range(IMAGES)}
    for name in ("original", "cxc"):
        (tmp_path / f"{name}_caption_to_image.json").write_text(json.dumps(own))
        (tmp_path / f"{name}_image_to_caption.json").write_text(json.dumps(back))
    (tmp_path / "eccv_caption_to_image.json").write_text(json.dumps({"103": [0, 1]}))
    (tmp_path / "eccv_image_to_caption.json").write_text(json.dumps({"0": [100, 101, 103]}))
    measures = Measures(Wanted(judgements=tmp_path, intervals=True), images, SPLIT)
    ranks = query_ranks(scores, IMAGE_OF)
    found = json.loads(json.dumps(measures.of(InMemory(scores), ranks)["judgements"]))
    assert measures.notes == ["judgements: captions are found by the data set's caption ids"]
    for side, direction in (("i2t", ranks.retrieval().i2t), ("t2i", ranks.retrieval().t2i)):
        assert found["original"][side]["R@1"] == pytest.approx(direction.r1)
        interval = found["original"][side]["intervals"]["R@1"]
        assert interval["low"] <= direction.r1 <= interval["high"]
    relevant = np.isin(np.arange(18), [0, 1, 3])
    assert found["eccv"]["i2t"]["mAP"] == pytest.approx(100 * average_precision(scores[0], relevant))
    assert (found["eccv"]["i2t"]["queries"], found["eccv"]["t2i"]["without"]) == (1, 17)


def test_ratings(scores: np.ndarray, tmp_path: Path) -> None:
    file = tmp_path / "crowd.txt"
    pairs = [(0, 3), (1, 2), (2, 9), (5, 5), (7, 0)]
    answers = zip((0, 1, 2, 3, 1), pairs, strict=True)
    lines = [f"{i}.jpg\t{t // 2}.jpg#{t % 2}\t{yes / 3}\t{yes}\t{3 - yes}\n" for yes, (i, t) in answers]
    file.write_text("".join(lines))
    found, _ = measured(scores, Wanted(ratings={"crowdflower": file}))
    assert found["ratings"]["crowdflower"]["pairs"] == 5
    x, y = [scores[pair] for pair in pairs], (0, 1, 2, 3, 1)
    agree = sum(np.sign(x[a] - x[b]) * np.sign(y[a] - y[b]) for a in range(5) for b in range(a))
    no_tie = [sum(v[a] != v[b] for a in range(5) for b in range(a)) for v in (x, y)]
    assert found["ratings"]["crowdflower"]["tau_b"] == pytest.approx(agree / np.sqrt(no_tie[0] * no_tie[1]))


def test_what_is_refused_before_anything_is_scored(tmp_path: Path) -> None:
    wanted = Wanted(curves=True, labels=True)
    with pytest.raises(
        ItmkitError, match=r"--curves, --labels: coco1k compares within 5 folds only; take --split test"
    ):
        Measures(wanted, records(), PROTOCOLS["coco1k"])
    plain = [ImageRecord(id="a", split="test", captions=(Caption("b", "c"),))]
    with pytest.raises(ItmkitError, match="the images of this split have no labels"):
        Measures(Wanted(labels=True), plain, SPLIT)
    with pytest.raises(ItmkitError, match=r"original_caption_to_image\.json"):
        Measures(Wanted(judgements=tmp_path), records(), SPLIT)
    with pytest.raises(ItmkitError) as caught:
        Measures(Wanted(ratings={"expert": tmp_path / "e.txt", "cxc": tmp_path / "c.csv"}), records(), SPLIT)
    assert [problem.rpartition("/")[2] for problem in caught.value.problems] == [
        "e.txt: no such file",
        "c.csv: no such file",
    ]
