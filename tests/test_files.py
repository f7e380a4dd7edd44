from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itmkit.errors import ItmkitError
from itmkit.files import (
    atomic_path,
    check_replaces,
    digest,
    read_json,
    read_text,
    remove_folder,
    sha256_file,
    size_in_words,
    utf8_lines,
    write_json,
    write_text,
)
from tests.workspaces import largest_file


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"
    with pytest.raises(RuntimeError), atomic_path(path) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert list(path.parent.iterdir()) == []
    write_text(path, "ü")
    with pytest.raises(RuntimeError), atomic_path(path) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert path.read_bytes() == "ü".encode() and list(path.parent.iterdir()) == [path]


def test_a_partial_file_of_a_killed_run_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / ".a.txt.partial").write_text("left by a killed run, longer than the new text")
    write_text(tmp_path / "a.txt", "new")
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"] and read_text(tmp_path / "a.txt") == "new"


def test_json_refuses_nan_and_keeps_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"ü": [1, 2.5]})
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert read_json(tmp_path / "a.json") == {"ü": [1, 2.5]}


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{", "a.json: line 1, column 2: not JSON"), (b"[1,\n,]", "line 2, column 1"), (b'["\xff"]', "line 1: byte 2")],
)
def test_damaged_json_names_file_and_place(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ItmkitError, match=message):
        read_json(tmp_path / "a.json")


def test_missing_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ItmkitError, match="no such file"):
        read_text(tmp_path / "no")
    with pytest.raises(ItmkitError, match="is a folder"):
        read_text(tmp_path)


def test_lines_that_are_not_utf8_are_all_reported_and_the_rest_still_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("\ufeffgood ü\r\n".encode() + b"b\xe9d\nfine\n\xff")
    problems: list[str] = []
    assert [line for _, line in utf8_lines(tmp_path / "a.txt", problems)] == ["good ü", "b\ufffdd", "fine", "\ufffd"]
    assert [problem.split(": ", 1)[1][:28] for problem in problems] == [
        "line 2: byte 2 (0xe9) is not",
        "line 4: byte 1 (0xff) is not",
    ]


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 3_000_000)
    assert sha256_file(tmp_path / "a") == hashlib.sha256(b"x" * 3_000_000).hexdigest()


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.lists(st.booleans())))
def test_digest_ignores_the_order_of_keys(value: dict[str, object]) -> None:
    assert digest(dict(reversed(value.items()))) == digest(value)
    assert digest(json.loads(json.dumps(value))) == digest(value)
    assert digest({**value, "one more": 1}) != digest(value)


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (9940, "9.9 kB"), (9960, "10 kB"), (999_499, "999 kB"),
     (999_500, "1.0 MB"), (23_000_000, "23 MB"), (4_200_000_000, "4.2 GB"), (5 * 10**15, "5000 TB")],
)  # fmt: skip
def test_sizes_in_words(count: int, words: str) -> None:
    assert size_in_words(count) == words


def test_a_link_at_the_temporary_name_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("precious")
    (tmp_path / "w").mkdir()
    for name in ("a.txt", ".a.txt.partial", ".b.txt.partial"):
        (tmp_path / "w" / name).symlink_to(outside)
    (tmp_path / "w" / ".c.txt.partial").symlink_to(tmp_path / "not there")
    for name in ("a.txt", "b.txt", "c.txt"):
        write_text(tmp_path / "w" / name, name)
        assert (tmp_path / "w" / name).read_text() == name and not (tmp_path / "w" / name).is_symlink()
    assert outside.read_text() == "precious" and not (tmp_path / "not there").exists()
    (tmp_path / "folder").symlink_to(tmp_path / "w")  # a folder that the user has linked is the user's choice
    write_text(tmp_path / "folder" / "d.txt", "d")
    assert (tmp_path / "w" / "d.txt").read_text() == "d"


def test_a_full_disk_names_the_file_and_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with largest_file(100), pytest.raises(OSError) as caught:
        write_text(path, "x" * 1000)
    assert caught.value.filename in (str(path), str(tmp_path / ".a.txt.partial"))
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"] and path.read_text() == "old"


def test_only_files_of_the_kind_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a"
    check_replaces(path, lambda _: False, "a figure")
    path.write_text("text")
    check_replaces(path, lambda _: True, "a figure")
    check_replaces(path, lambda _: False, "a figure", force=True)
    with pytest.raises(ItmkitError, match="is there already and is not a figure; name another file"):
        check_replaces(path, lambda _: False, "a figure")
    with pytest.raises(ItmkitError, match="is a folder"):
        check_replaces(tmp_path, lambda _: True, "a figure", force=True)


def test_of_a_linked_folder_only_the_link_goes(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "a").write_text("a")
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    remove_folder(tmp_path / "link")
    assert not (tmp_path / "link").exists() and (tmp_path / "kept" / "a").exists()
    remove_folder(tmp_path / "kept")
    remove_folder(tmp_path / "kept")
    assert not (tmp_path / "kept").exists()
