from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from itmkit import json_items
from itmkit.errors import ItmkitError
from itmkit.json_items import list_items, one_value

ITEMS: list[Any] = [1234.5, -1e300, 'ä"\\\n', {"a": [1, {"b": None}], "c": True}, [], {}, "\U0001f600", 7]


@pytest.mark.parametrize("block", [1, 2, 7, 1 << 20])
def test_items_are_those_of_the_file_wherever_a_block_of_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(json_items, "_BLOCK", block)
    file = tmp_path / "a.json"
    for options in ({}, {"indent": 1}, {"ensure_ascii": False}):
        file.write_text("\ufeff" + json.dumps(ITEMS, **options), encoding="utf-8")
        assert list(list_items(file)) == ITEMS and one_value(file) == ITEMS
        whole = {"before": ITEMS, "x": 1e300, "items": ITEMS, "after": {"items": []}}
        file.write_text(json.dumps(whole, **options) + "\n", encoding="utf-8")
        assert list(list_items(file, "items")) == ITEMS
    for text, key in (("[ ]", None), ('{"a": []}', "a")):
        file.write_text(text)
        assert list(list_items(file, key)) == []


@pytest.mark.parametrize("block", [3, 1 << 20])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"items": [1,\n 2 3]}', r"line 2, column 4: not JSON"),
        ('{"items": [1,\n\n "ab', r"line 3, column 2: not JSON \(Unterminated string"),
        ('{"items": [1, 2]', "line 1, column 17: not JSON"),
        ('{"items": [1, 2]} {}', r"line 1, column 19: not JSON \(Extra data"),
        ('{"items": [1, ]}', "line 1, column 15: not JSON"),
        ('{"items": {}}', "'items' is no list"),
        ('{"other": []}', "'items' is missing"),
        ("{}", "'items' is missing"),
        ("[1]", "a.json: is a list; an object with a list under 'items' is needed"),
        ("7", "a.json: is no JSON object; an object with a list"),
        (" \n", "a.json: is empty; an object with a list"),
        ('{"items": ' + "[" * 100_000, "nested too deeply"),
        ('{"items": [' + "1" * 5000 + "]}", "a number of thousands of digits"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str, block: int
) -> None:
    monkeypatch.setattr(json_items, "_BLOCK", block)
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ItmkitError, match=message):
        list(list_items(tmp_path / "a.json", "items"))


@pytest.mark.parametrize("block", [2, 3, 5, 1 << 20])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'["a",\n"\xff"]', r"line 2: byte 2 \(0xff\) is not UTF-8; convert"),
        ('["ä\n\n", "€'.encode() + b'\xc3"]', r"line 3: byte 8 \(0xc3\) is not UTF-8; convert"),
        ('["ä'.encode() + b"\xe2\x82", r"line 1: byte 5 \(0xe2\) is not UTF-8; convert"),
        ('["a"]'.encode("utf-16"), "is UTF-16; convert"),
    ],
)
def test_the_byte_that_is_not_utf8_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, message: str, block: int
) -> None:
    monkeypatch.setattr(json_items, "_BLOCK", block)
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(ItmkitError, match=rf"a\.json: {message}"):
        list(list_items(tmp_path / "a.json"))


def test_files_that_are_no_files(tmp_path: Path) -> None:
    for path, message in ((tmp_path, "is a folder"), (tmp_path / "gone.json", "no such file")):
        with pytest.raises(ItmkitError, match=message):
            list(list_items(path))


def test_an_item_that_does_not_end_is_not_looked_for_through_the_whole_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_items, "_BLOCK", 64)
    monkeypatch.setattr(json_items, "MOST", 500)
    (tmp_path / "a.json").write_text('["' + "x" * 100_000)
    with pytest.raises(ItmkitError, match="an item of more than"):
        list(list_items(tmp_path / "a.json"))
