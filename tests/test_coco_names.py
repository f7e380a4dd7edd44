from __future__ import annotations

import pytest

from itmkit.coco_names import coco_number


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("391895", "391895"),
        ("000000391895", "391895"),
        ("COCO_val2014_000000391895", "391895"),
        ("COCO_train2017_000000000009", "9"),
        ("0", "0"),
        ("", None),
        ("391895.jpg", None),
        ("coco_val2014_000000391895", None),
        ("COCO_dev2014_000000391895", None),
        ("1234567890123", None),
        ("\u0663\u0669", None),
    ],
)
def test_number_of_a_name(name: str, number: str | None) -> None:
    assert coco_number(name) == number
