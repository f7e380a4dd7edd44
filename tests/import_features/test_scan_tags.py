from __future__ import annotations

import json
from pathlib import Path

import pytest

from itmkit.errors import ItmkitError
from itmkit.import_features.scan_tags import read_tags


def test_tags_are_read_row_by_row_across_blocks(tmp_path: Path) -> None:
    rows = [[f"red käse {i} {k} " + "x" * 500 for k in range(20)] for i in range(300)]  # 3 MB: several reads
    path = tmp_path / "tags.json"
    for text in (json.dumps(rows), json.dumps(rows, ensure_ascii=False, indent=1)):
        path.write_text(text, encoding="utf-8")
        assert list(read_tags(path)) == rows
    path.write_text("[]")
    assert list(read_tags(path)) == []


@pytest.mark.parametrize("text", ["", "{}", "[[", '[["a"]', '[["a"], 3]', '[["a", 3]]', "[" * 5000, '[["a" "b"]]'])
def test_tags_that_are_no_list_of_lists(tmp_path: Path, text: str) -> None:
    (tmp_path / "tags.json").write_text(text)
    with pytest.raises(ItmkitError, match=r"tags\.json"):
        list(read_tags(tmp_path / "tags.json"))


def test_tags_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "tags.json").write_bytes(b'[["b\xe4r"]]')
    with pytest.raises(ItmkitError, match="not UTF-8"):
        list(read_tags(tmp_path / "tags.json"))
