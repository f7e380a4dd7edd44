from __future__ import annotations

from pathlib import Path

import pytest

from itmkit.dataset import Caption, ImageRecord
from itmkit.errors import ItmkitError
from itmkit.relevance.ratings import agreement, read_ratings

HEADER = "caption,image,agg_score,sampling_method\n"
LINE = "COCO_val2014:sentid:{},COCO_val2014_{:012}.jpg,{},{}\n"
ROWS = [
    (732091, 365325, 2.2, "c2i_intrasim"),
    (262300, 391895, 4.97, "c2i_intrasim"),
    (770337, 391895, 5.0, "c2i_original"),
    (5, 6, 1.0, "c2i_intrasim"),
]
IMAGES = [
    ImageRecord("391895", "test", (Caption("770337", "A man."), Caption("732091", "A bus."))),
    ImageRecord("x", "test", (Caption("262300", "A dog."),), file="val2014/COCO_val2014_000000365325.jpg"),
]


def published(folder: Path, rows: list[tuple[int, int, float, str]] = ROWS, more: str = "") -> Path:
    file = folder / "sits_test.csv"
    file.write_text(HEADER + "".join(LINE.format(*row) for row in rows) + more)
    return file


def test_ratings_are_found_by_the_numbers_of_coco(tmp_path: Path) -> None:
    found = read_ratings(published(tmp_path), "cxc", IMAGES)
    assert found.images.tolist() == [1, 0, 0] and found.captions.tolist() == [1, 2, 0]
    assert found.values.tolist() == [[2.2], [4.97], [5.0]]
    assert (found.rated, found.absent, found.own) == (4, 1, 0)
    agreed = agreement(found, [0.1, 0.7, 0.9])
    assert agreed.reported == agreed.tau_b == pytest.approx(1) and agreed.ratings == 3
    assert read_ratings(published(tmp_path), "cxc", IMAGES, keep_own=False).own == 1


def test_everything_wrong_is_reported_at_once(tmp_path: Path) -> None:
    more = "a dog,COCO_val2014_000000000006.jpg,1,x\n5,6\n5,6,5.5,x\n\n5,6,nan,x\n5,6,2,x\n"
    with pytest.raises(ItmkitError) as caught:
        read_ratings(published(tmp_path, more=more), "cxc", IMAGES)
    told = [problem.partition("sits_test.csv: ")[2] for problem in caught.value.problems]
    assert [line.split(":")[0] for line in told] == ["line 6", "line 7", "line 8", "line 10", "line 11"]
    assert "a rating from 0 to 5; found 'a dog,COCO" in told[0] and "are rated before, in line 5" in told[4]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("caption1,caption2,agg_score,sampling_method\n", "rates pairs of two captions, .* name sits_val.csv"),
        ("image1,image2,agg_score,sampling_method\n", "rates pairs of two images"),
        ("caption,score\n", "line 1: has no column image and no column agg_score"),
        ("", "is empty"),
        (HEADER + "x" * 140_000 + ",b,1,c\n", "line 2: expected COCO_val2014"),
        (HEADER + LINE.format(1, 2, 3.0, "x"), "none of its 1 pairs .*`karpathy dataset_coco.json"),
    ],
)
def test_other_files_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ItmkitError, match=message):
        read_ratings(tmp_path / "a.csv", "cxc", IMAGES)


def test_numbers_that_are_not_cocos_are_noticed(tmp_path: Path) -> None:
    rows = [(732091, 365325, 4.0, "c2i_original"), *ROWS]
    with pytest.raises(ItmkitError, match=r"caption 732091 is one of image 365325, and of another image in this data"):
        read_ratings(published(tmp_path, rows[:1] + rows[2:]), "cxc", IMAGES)
