from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from itmkit.relevance.coco_ids import UNKNOWN, CocoIds
from itmkit.relevance.judgements import Placed, read_judgements
from tests.relevance.test_coco_ids import precomp_images


def rows(relevance: Placed) -> list[list[int]]:
    return [part.tolist() for part in np.split(relevance.items, relevance.offsets[1:-1])]


def test_judgements_in_our_order(tmp_path: Path) -> None:
    (tmp_path / "eccv_image_to_caption.json").write_text('{"7": [30, 10, 99, 10], "8": [20], "6": [10], "9": [20]}')
    (tmp_path / "eccv_caption_to_image.json").write_text('{"10": [9, 7], "20": [5], "98": [7]}')
    ids = CocoIds(np.array([9, 8, 7, UNKNOWN]), np.array([10, 20, UNKNOWN, 30]), "")
    found = read_judgements(tmp_path, "eccv", ids)
    assert rows(found.i2t) == [[1], [1], [0, 3], []]
    assert rows(found.t2i) == [[0, 2], [], [], []]
    assert found.i2t.offsets.dtype == found.i2t.items.dtype == np.int64
    assert (found.i2t.judged, found.i2t.unplaced) == (7, 2)  # caption 99, image 6; 7 and 10 are told twice
    assert (found.t2i.judged, found.t2i.unplaced) == (4, 2)
    assert found.i2t.queries.tolist() == [0, 1, 2] and found.t2i.queries.tolist() == [0]
    assert found.notes() == [
        "eccv: 2 of 7 judgements from image to caption are about images or captions that are not among these and are"
        " left out",
        "eccv: 2 of 4 judgements from caption to image are about images or captions that are not among these and are"
        " left out",
    ]


def test_none_of_ours_is_judged(tmp_path: Path) -> None:
    for name in ("cxc_image_to_caption.json", "cxc_caption_to_image.json"):
        (tmp_path / name).write_text('{"7": [1]}')
    for count in (0, 2):
        ids = CocoIds(np.full(count, UNKNOWN), np.full(count, UNKNOWN), "")
        found = read_judgements(tmp_path, "cxc", ids)
        assert found.i2t.offsets.tolist() == [0] * (count + 1) and len(found.i2t.items) == 0
        assert found.i2t.unplaced == 1 and found.t2i.queries.tolist() == []


def test_real_judgements_of_all_captions(test_data: Path) -> None:
    """Every count, and every row against a literal reading of the files."""
    folder = test_data / "karpathy_splits_coco"
    _, ids = precomp_images(test_data)
    image_at = {id: place for place, id in enumerate(ids.images.tolist())}
    caption_at = {id: place for place, id in enumerate(ids.captions.tolist())}
    for name, unplaced in (("original", 0), ("cxc", 0), ("eccv", 2)):
        found = read_judgements(folder, name, ids)  # type: ignore[arg-type]
        for side, file, queries, items in (
            (found.i2t, "image_to_caption", image_at, caption_at),
            (found.t2i, "caption_to_image", caption_at, image_at),
        ):
            content = json.loads((folder / f"eccv_{name}_{file}.json").read_text())
            expected = {
                queries[int(key)]: sorted(items[v] for v in values if v in items) for key, values in content.items()
            }
            assert side.judged == sum(map(len, content.values()))
            assert len(side.queries) == len(content)
            assert {place: part for place, part in enumerate(rows(side)) if part} == expected
            assert side.unplaced == (unplaced if side is found.i2t else 0)
            assert len(side.items) == side.judged - side.unplaced
    assert rows(read_judgements(folder, "original", ids).i2t) == [list(range(5 * n, 5 * n + 5)) for n in range(5000)]
