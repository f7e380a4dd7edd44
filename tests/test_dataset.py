from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from itmkit.dataset import SPLITS, Caption, ImageRecord, check_records, dataset_info, read_dataset, write_dataset
from itmkit.errors import ItmkitError
from itmkit.files import sha256_file
from itmkit.workspace import Workspace
from tests.workspaces import make_dataset

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(str.strip)
ids = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(str.strip)
numbers = st.none() | st.integers(0, 10**9)


@st.composite
def records(draw: st.DrawFn) -> list[ImageRecord]:
    found = []
    count = 0
    for id in draw(st.lists(ids, min_size=1, max_size=5, unique=True)):
        captions = draw(st.lists(texts, min_size=1, max_size=4))
        numbered = tuple(Caption(f"{count + n}", text) for n, text in enumerate(captions))
        count += len(numbered)
        found.append(
            ImageRecord(
                id=id,
                split=draw(st.sampled_from(SPLITS)),
                captions=numbered,
                file=draw(st.none() | texts),
                labels=tuple(draw(st.lists(texts, max_size=3))),
                width=draw(numbers),
                height=draw(numbers),
                bytes=draw(numbers),
                sha256=draw(st.none() | st.text("0123456789abcdef", min_size=64, max_size=64)),
            )
        )
    return found


@given(records())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
def test_what_is_written_is_read(tmp_path: Path, images: list[ImageRecord]) -> None:
    workspace = Workspace(tmp_path)
    info = write_dataset(workspace.dataset_path, images, kind="made", settings={"a": 1})
    dataset = read_dataset(workspace.dataset_path)
    assert dataset.images == images and dataset.info == info and dataset.kind == "made"
    written = json.loads(workspace.dataset_info_path.read_text(encoding="utf-8"))
    assert written == info | {"jsonl_sha256": sha256_file(workspace.dataset_path)}
    assert len(workspace.dataset_path.read_bytes().split(b"\n")) == len(images) + 1
    assert sum(c["captions"] for c in info["counts"].values()) == sum(len(image.captions) for image in images)


def image(id: str = "a", split: str = "train", **more: object) -> ImageRecord:
    return ImageRecord(id=id, split=split, captions=(Caption(f"{id}#0", "text"),), **more)  # type: ignore[arg-type]


def test_digests_say_what_changed() -> None:
    def digests(*images: ImageRecord) -> tuple[str, str]:
        info = dataset_info(images, kind="made", settings={})
        return info["images_digest"], info["captions_digest"]

    pictures, captions = digests(image(sha256="1"), image("b", sha256="2"))
    assert digests(image(sha256="1"), image("b", sha256="3")) == (digests(image(sha256="1"), image("b", sha256="3")))
    assert digests(image(sha256="1"), image("b", sha256="3"))[0] != pictures
    assert digests(image(sha256="1"), image("b", sha256="3"))[1] == captions
    moved = digests(image(sha256="1"), image("b", "val", sha256="2"))
    assert moved[0] == pictures and moved[1] != captions
    assert digests(image(sha256="1", file="x"), image("b", sha256="2", file="y"))[0] == pictures  # moved, same bytes


def test_all_wrong_records_are_named_at_once(tmp_path: Path) -> None:
    wrong = [
        image(),
        image(),
        image("b", "nowhere"),
        ImageRecord("c", "val", ()),
        ImageRecord("d", "val", (Caption("x", " "), Caption("x", "nul \0"), Caption("", "half \ud800"))),
        image("e\n"),
        image(" "),
        image("f", file="\ud800.jpg"),
    ]
    with pytest.raises(ItmkitError) as caught:
        write_dataset(Workspace(tmp_path / "w").dataset_path, wrong, kind="made", settings={})
    text = str(caught.value)
    for part in (
        "image 'a': this id occurs before",
        "caption id 'a#0' occurs before",
        "unknown split 'nowhere'",
        "image 'c': has no caption",
        "caption 'x' is empty",
        "caption 'x' contains NUL",
        "caption '' contains NUL or half a surrogate",
        "the caption id '' is empty",
        "image 'e\\n': the id contains control characters",
        "image ' ': the id is empty",
        "image 'f': its file name or a label contains",
    ):
        assert part in text, part
    assert not (tmp_path / "w").exists()
    assert check_records([]) == ["no images were found"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "line 2: not an image record"),
        ("{", "not an image record"),
        ("[]", "not an image record"),
        ('{"id": "x", "split": "val"}', "line 2: has no key 'captions'"),
        ('{"id": 7, "split": "val", "captions": []}', "7 is no string"),
        ('{"id": "x", "split": "val", "captions": {}}', "is no list"),
        ('{"id": "x", "split": "val", "captions": [], "labels": "dog"}', "'dog' is no list"),
        ('{"id": "x", "split": "val", "captions": [], "width": "9"}', "width is '9'"),
        ('{"id": "x", "split": "val", "captions": [], "height": -1}', "height is -1"),
        ('{"id": "x", "split": "val", "captions": [], "bytes": true}', "bytes is True"),
        ('{"id": "x", "split": "val", "captions": []}', "has no caption"),
        ('{"id": "0", "split": "val", "captions": [{"id": "y", "text": "t"}]}', "this id occurs before, at "),
        ("[" * 100_000, "not an image record"),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    workspace = make_dataset(tmp_path)
    lines = workspace.dataset_path.read_text().splitlines()
    lines[1] = line
    workspace.dataset_path.write_text("\n".join(lines) + "\n")
    with pytest.raises(ItmkitError, match=message):
        read_dataset(workspace.dataset_path)


def test_not_utf8_and_not_there(tmp_path: Path) -> None:
    workspace = make_dataset(tmp_path)
    workspace.dataset_path.write_bytes(workspace.dataset_path.read_bytes().replace(b"picture 1", b"picture \xff"))
    with pytest.raises(ItmkitError, match="line 2: byte .* is not UTF-8"):
        read_dataset(workspace.dataset_path)
    with pytest.raises(ItmkitError, match="has no data set; run `itmkit prepare`"):
        read_dataset(Workspace(tmp_path / "no").dataset_path)


def test_digests_are_computed_not_believed(tmp_path: Path) -> None:
    workspace = make_dataset(tmp_path)
    before = read_dataset(workspace.dataset_path).captions_digest
    path = workspace.dataset_path
    path.write_text(path.read_text().replace("picture 1", "a picture by hand"))
    assert read_dataset(workspace.dataset_path).captions_digest != before
    workspace.dataset_info_path.unlink()
    assert read_dataset(workspace.dataset_path).kind == "hand-made"
    workspace.dataset_info_path.write_text("[]")
    with pytest.raises(ItmkitError, match="should be an object"):
        read_dataset(workspace.dataset_path)


def test_a_split_without_images_names_those_there_are(tmp_path: Path) -> None:
    dataset = read_dataset(make_dataset(tmp_path).dataset_path)
    assert [image.id for image in dataset.split("val")] == ["3"]
    with pytest.raises(ItmkitError, match=r"split 'coco9k' has no images .*train \(3\), val \(1\), test \(1\)"):
        dataset.split("coco9k")
