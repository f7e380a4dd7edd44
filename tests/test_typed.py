"""JSON and TOML of a known form, whole, damaged and hostile."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from itmkit import typed
from itmkit.errors import ItmkitError
from itmkit.typed import (
    Count,
    Number,
    model_json,
    parse_json,
    read_checked,
    read_strict_json,
    read_toml,
    sealed,
    toml_text,
    write_sealed,
)


@dataclass
class Person:
    name: str
    age: Count
    height: Number
    friends: list[str]


PERSON = TypeAdapter(Person)
WHOLE = {"name": "ada", "age": 36, "height": 1.6, "friends": ["charles"]}
# What Python's own parser would let pass, or would end in another error.
NO_JSON = [
    *('{"a": NaN}', '{"a": Infinity}', '{"a": -Infinity}', '{"a": 1e999}', "", "{", "[1,]", "nul"),
    *('{"a": 1, "a": 2}', '{"b": {"a": 1, "a": 1}}'),
    *('{"a": ' + "9" * 5000 + "}", '{"a": ' + "9" * 41 + "}"),
    *("[" * 900 + "]" * 900, "[" * 100_000, '{"a":' * 900 + "1" + "}" * 900),
]


@pytest.mark.parametrize("text", NO_JSON, ids=lambda text: text[:14])
def test_what_no_file_of_ours_holds(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(ItmkitError, match=rf"^{re.escape(str(path))}: ") as error:
        read_strict_json(path)
    assert len(error.value.problems) == 1 and len(str(error.value)) < len(str(path)) + 120


def test_the_place_is_told() -> None:
    with pytest.raises(ItmkitError, match=r"^line 3: column 7: not JSON"):
        parse_json('{"a": }', "line 3")
    with pytest.raises(ItmkitError, match=r"^x: line 2, column 6: not JSON"):
        parse_json('{\n"a": }', "x")
    with pytest.raises(ItmkitError, match="the key 'b' occurs twice"):
        parse_json('[{"a": 1, "b": 2, "b": 3}]', "x")


LEAVES = st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=20)
@given(st.recursive(LEAVES | st.text(), lambda one: st.lists(one) | st.dictionaries(st.text(), one), max_leaves=5))
def test_all_other_json_is_read_as_python_reads_it(value: Any) -> None:
    text = json.dumps(value)
    assert parse_json(text, "here") == json.loads(text)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"\xff\xfe{\x00}\x00", "is not UTF-8"),
        (b'{"a": "\xe9"}', "byte 7 .0xe9. is not UTF-8"),
        (b"", "not JSON"),
    ],
)
def test_other_encodings(tmp_path: Path, data: bytes, told: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(data)
    with pytest.raises(ItmkitError, match=told):
        read_strict_json(path)
    path.write_bytes(b"\xef\xbb\xbf{}")  # as an editor on Windows saves it
    assert read_strict_json(path) == {}


def test_no_file_and_a_huge_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ItmkitError, match="no such file"):
        read_strict_json(tmp_path / "a.json")
    with pytest.raises(ItmkitError, match="is a folder"):
        read_strict_json(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ItmkitError, match="is a pipe"):
        read_toml(tmp_path / "pipe")
    with open(tmp_path / "huge.json", "wb") as file:
        file.truncate(typed.MOST_BYTES + 1)  # takes no space
    for read in (read_strict_json, read_toml, model_json):
        with pytest.raises(ItmkitError, match=r"has 268,435,457 bytes; at most"):
            read(tmp_path / "huge.json")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"age": "36"}, "age: .*found '36'"),
        ({"age": True}, "age: .*found True"),
        ({"age": 36.5}, "age: .*found 36.5"),
        ({"age": -1}, "age: .*found -1"),
        ({"age": 10**30}, "age: "),
        ({"height": True}, "height: .*found True"),
        ({"height": None}, "height: .*found None"),
        ({"friends": {"a": 1, "b": 2}}, "friends: .*found an object of 2"),
        ({"friends": ["a", 3]}, r"friends\[1\]: .*found 3"),
        ({"name": ["x" * 900]}, r"name: .*found a list of 1"),
    ],
)
def test_wrong_types_are_told_with_their_place(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    path = tmp_path / "person.json"
    path.write_text(json.dumps(WHOLE))
    assert read_checked(path, PERSON) == Person(**WHOLE)  # type: ignore[arg-type]
    path.write_text(json.dumps(WHOLE | change))
    with pytest.raises(ItmkitError, match=rf"^{re.escape(str(path))}: {told}.*; make it anew$"):
        read_checked(path, PERSON, "make it anew")


def test_everything_wrong_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "person.json"
    for text, problems in ((json.dumps({"age": "x", "height": 1}), 3), ("[]", 1), ("7", 1), ("null", 1)):
        path.write_text(text)
        with pytest.raises(ItmkitError) as error:
            read_checked(path, PERSON)
        assert len(error.value.problems) == problems


@pytest.mark.parametrize(
    "text",
    [
        "a = [",
        "a = inf",
        "a = nan",
        "a = 1e999",
        "a = " + "9" * 5000,
        "a = " + "9" * 41,
        "a = 1\na = 2",
        "[a]\n[a]",
        "a",
        "a = " + "[" * 20_000,
        "a = " + "[" * 90 + "]" * 90,
        "[" + "a." * 200 + "a]",
        "a = 0x" + "f" * 60,
    ],
)
def test_toml_that_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.toml"
    path.write_text(text)
    with pytest.raises(ItmkitError, match=rf"^{re.escape(str(path))}: "):
        read_toml(path)


UNICODE = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = UNICODE | st.booleans() | st.integers(-(10**39), 10**39) | st.floats(allow_nan=False, allow_infinity=False)
KEYS = st.from_regex(r"[a-z][a-z_0-9]*", fullmatch=True)
ODD = st.text("\x00\t\n\r\x1f\x7f\"'\\\x85\u2028=[]#a", max_size=8)


@settings(max_examples=30)
@given(st.dictionaries(KEYS, VALUES | ODD, max_size=4), st.dictionaries(KEYS, VALUES | ODD, max_size=4))
def test_what_is_written_as_toml_is_read_back(values: dict[str, Any], table: dict[str, Any]) -> None:
    text = toml_text(values, {"Table": table})
    assert typed.tomllib.loads(text) == {**values, "Table": table}


def test_toml_of_ordinary_settings() -> None:
    text = toml_text(
        {"method": "mpsm", "seed": 3}, {"training": {"rate": 2e-5, "ema": 0.0, "stop": True, "images": "a-b"}}
    )
    assert text == ('method = "mpsm"\nseed = 3\n\n[training]\nrate = 2e-05\nema = 0.0\nstop = true\nimages = "a-b"\n')
    for value in (float("inf"), float("nan"), "\udcff"):
        with pytest.raises(ItmkitError, match="setting 'a' is "):
            toml_text({"a": value}, {})


def test_a_sealed_file_notices_any_change(tmp_path: Path) -> None:
    path, record = tmp_path / "a.json", {"b": [1, 2.5, None], "é": {"rsum": 185.0}, "by": {2: 1, 10: 2}}
    write_sealed(path, record)
    whole = path.read_text()
    assert sealed(path, "again") == json.loads(json.dumps(record))
    for was, now in (("185.0", "185.5"), ("2.5", "2.6"), ("rsum", "rsun"), ("null", "0")):
        path.write_text(whole.replace(was, now))
        with pytest.raises(ItmkitError, match=r"a\.json: its content is not what was written; again"):
            sealed(path, "again")
    path.write_text('{"rsum": 1}')  # of an older version
    assert sealed(path, "again") == {"rsum": 1}


def test_settings_of_other_programs(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"a": NaN, "a": 1e30, "b": 1000000000000000019884624838656}')
    assert model_json(path) == {"a": 1e30, "b": 1000000000000000019884624838656}
    for text in ("[]", "3", "{", "[" * 900 + "]" * 900, '{"a": ' + "9" * 5000 + "}", '{"a":' * 900 + "1" + "}" * 900):
        path.write_text(text)
        with pytest.raises(ItmkitError, match=rf"^{re.escape(str(path))}: "):
            model_json(path)
