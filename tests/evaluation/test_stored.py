"""eval-SPLIT.json, read again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from itmkit.errors import ItmkitError
from itmkit.evaluation.stored import stored_evaluation
from itmkit.typed import write_sealed

RECALLS = {"R@1": 10.0, "R@5": 20.0, "R@10": 30.0}
ROW = {"kind": "single", "i2t": RECALLS, "t2i": RECALLS, "rsum": 120.0}
ROWS = [{"name": name, **ROW} for name in ("run/a", "run/b", "run")]
FACTS = {"images": 6, "captions": 12, "chance_rsum": 100.0, "results": ROWS}


def read(path: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """As of an older version, without its digest."""
    path.write_text(json.dumps(facts))
    return stored_evaluation(path, "evaluate again", rows=["run/a", "run/b", "run"])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"results": []}, "results: "),
        ({"results": ROWS[1:]}, "results: no row 'run/a'"),
        ({"results": [*ROWS, {"name": "other", **ROW}]}, "results: the row 'other' is not of this run"),
        ({"results": [*ROWS, ROWS[0]]}, "results: the row 'run/a' is there twice"),
        ({"results": [*ROWS[:2], {"name": "run", **ROW, "rsum": 1e20}]}, r"results\[2\]\.rsum: "),
        ({"results": [*ROWS[:2], {"name": "run", **ROW, "i2t": RECALLS | {"R@5": -1}}]}, r"results\[2\]\.i2t\.R@5: "),
        (
            {"results": [*ROWS[:2], {"name": "run", **ROW, "t2i": {"R@1": 3}}]},
            r"results\[2\]\.t2i\.R@5: Field required",
        ),
        ({"images": "6"}, "images: "),
        ({"chance_rsum": True}, "chance_rsum: "),
    ],
)
def test_figures_that_are_none(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    path = tmp_path / "eval-test.json"
    assert read(path, FACTS) == FACTS
    with pytest.raises(ItmkitError, match=rf"eval-test\.json: {told}.*; evaluate again"):
        read(path, FACTS | change)


def test_a_figure_that_was_changed(tmp_path: Path) -> None:
    path = tmp_path / "eval-test.json"
    write_sealed(path, FACTS)
    assert stored_evaluation(path, "evaluate again") == FACTS
    path.write_text(path.read_text().replace("120.0", "125.0", 1))
    with pytest.raises(ItmkitError, match="its content is not what was written; evaluate again"):
        stored_evaluation(path, "evaluate again")
