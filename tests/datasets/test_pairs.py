from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from itmkit.dataset import SPLITS
from itmkit.datasets.pairs import default_splits, prepare_csv, prepare_jsonl
from itmkit.errors import ItmkitError
from itmkit.workspace import Workspace
from tests.workspaces import save_picture


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number, name in enumerate(("a.jpg", "b.png", "ü c.jpg")):
        save_picture(tmp_path / "photos" / name, colour=number)
    return tmp_path / "photos"


def jsonl(folder: Path, *lines: Any) -> Path:
    file = folder / "captions.jsonl"
    text = "\n".join(line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines)
    file.write_text(text, encoding="utf-8")
    return file


def test_jsonl_lines_of_one_image_are_put_together(photos: Path) -> None:
    file = jsonl(
        photos,
        {"image": "a.jpg", "caption": "A dog.", "split": "train", "labels": ["dog", "beach"]},
        {"image": "ü c.jpg", "captions": ["Ein Café.", "日本"], "split": "val", "labels": "food; café"},
        "",
        {"image": "a.jpg", "caption": "A wet dog.", "captions": ["Sand."], "split": "train", "labels": ["sea", "dog"]},
        {"image": "b.png", "caption": "Nothing", "split": "test"},
    )
    workspace = Workspace(photos)
    prepare_jsonl(workspace, file)
    a, c, b = workspace.dataset().images
    assert (a.id, a.split, a.labels) == ("a.jpg", "train", ("dog", "beach", "sea"))
    assert [(caption.id, caption.text) for caption in a.captions] == [
        ("a.jpg#0", "A dog."),
        ("a.jpg#1", "A wet dog."),
        ("a.jpg#2", "Sand."),
    ]
    assert (c.file, c.labels, c.captions[1].text) == ("ü c.jpg", ("food", "café"), "日本")
    assert b.split == "test"


def test_csv_with_quotes_line_breaks_bom_and_blank_lines(photos: Path) -> None:
    (photos / "t.csv").write_text(
        "\ufeffImage,caption,labels,split\r\n"
        'a.jpg,"A dog, and ""another"",\r\non two lines",dog;beach,train\r\n'
        "\r\nb.png,Nothing,,val\r\na.jpg,A dog.,,train\r\n",
        encoding="utf-8",
        newline="",
    )
    workspace = Workspace(photos)
    result = prepare_csv(workspace, photos / "t.csv")
    a, b = workspace.dataset().images
    assert a.captions[0].text == 'A dog, and "another",\non two lines' and a.captions[1].text == "A dog."
    assert a.labels == ("dog", "beach") and b.labels == () and result.notes == []


def test_tsv_and_images_elsewhere(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("caption\timage\nA dog, wet\ta.jpg\n")
    workspace = Workspace(tmp_path / "work")
    prepare_csv(workspace, tmp_path / "t.tsv", images=photos, split="test")
    (image,) = workspace.dataset().images
    assert (image.split, image.captions[0].text, image.file) == ("test", "A dog, wet", str(photos / "a.jpg"))


def test_without_any_split_a_tenth_is_val_and_a_tenth_test(tmp_path: Path) -> None:
    names = [f"{number}.png" for number in range(30)]
    for number, name in enumerate(names):
        save_picture(tmp_path / name, colour=number)
    workspace = Workspace(tmp_path)
    result = prepare_jsonl(workspace, jsonl(tmp_path, *({"image": name, "caption": name} for name in names)))
    assert {split: count["images"] for split, count in result.counts.items()} == {"train": 24, "val": 3, "test": 3}
    assert "no line says a split" in result.notes[0]
    first = {image.id: image.split for image in workspace.dataset().images}
    prepare_jsonl(workspace, jsonl(tmp_path, *({"image": name, "caption": name} for name in names[::-1])), force=True)
    assert {image.id: image.split for image in workspace.dataset().images} == first


def test_default_splits_of_few() -> None:
    assert set(default_splits(["a", "b"]).values()) == {"train"}
    assert sorted(default_splits(["a", "b", "c"]).values()) == sorted(SPLITS)


def test_split_option_is_for_lines_that_say_none(photos: Path) -> None:
    file = jsonl(photos, {"image": "a.jpg", "caption": "A", "split": "dev"}, {"image": "b.png", "caption": "B"})
    with pytest.raises(ItmkitError, match=r"line 2: has no split while other lines have one \(1 such lines\)"):
        prepare_jsonl(Workspace(photos), file)
    prepare_jsonl(Workspace(photos), file, split="train")
    assert [image.split for image in Workspace(photos).dataset().images] == ["val", "train"]


def test_everything_wrong_with_jsonl_is_reported_at_once(photos: Path) -> None:
    file = jsonl(
        photos,
        {"image": "a.jpg", "caption": "A", "split": "train"},
        "{not json",
        "[1]",
        {"caption": "B", "split": "train"},
        {"image": "a.jpg", "split": "train"},
        {"image": 3, "caption": ["x"], "split": "train"},
        {"image": "b.png", "caption": " ", "split": "training"},
        {"image": "a.jpg", "caption": "A", "split": "val"},
        {"image": "gone.jpg", "captions": ["G"], "split": "train"},
        {"image": "a.jpg", "caption": "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"), "split": "train"},
    )
    file.write_bytes(file.read_bytes() + b'\n{"image": "b.png", "caption": "caf\xe9", "split": "train"}')
    with pytest.raises(ItmkitError) as caught:
        prepare_jsonl(Workspace(photos), file)
    text = str(caught.value)
    for part in (
        f"{file}: line 2: not JSON",
        "line 3: not an object",
        "line 4: 'image' is missing",
        "line 5: 'caption' (or a list 'captions') is missing",
        "line 6: 'image' and 'captions' must be text",
        "line 7: image 'b.png': unknown split 'training'",
        "line 7: image 'b.png': caption 'b.png#0' is empty",
        "line 8: image 'a.jpg': split 'val' here, 'train' before",
        "gone.jpg: no such file",
        "line 11: byte 35 (0xe9) is not UTF-8",
    ):
        assert part in text, part


def test_half_surrogates_are_no_text(photos: Path) -> None:
    with pytest.raises(ItmkitError, match="surrogate"):
        prepare_jsonl(Workspace(photos), jsonl(photos, '{"image": "a.jpg", "caption": "x \\ud800", "split": "val"}'))


def test_everything_wrong_with_csv_is_reported_at_once(photos: Path) -> None:
    file = photos / "t.csv"
    file.write_text("image,caption,split\na.jpg,A,train,more\n,B,train\nb.png,,train\ngone.jpg,G,test\nb.png,B,test\n")
    with pytest.raises(ItmkitError) as caught:
        prepare_csv(Workspace(photos), file)
    text = str(caught.value)
    for part in (
        f"{file}: line 2: has 4 cells, the header 3",
        "line 3: the image cell is empty",
        "line 4: image 'b.png': caption 'b.png#0' is empty",
        "line 6: image 'b.png': split 'test' here, 'train' before",
        "gone.jpg: no such file",
    ):
        assert part in text, part


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("picture,caption\n", "line 1: has no column image; found"),
        ("", "has no column image and no column caption"),
        ("image,caption\n", "no images were found"),
        ('image,caption\na.jpg,"never closed\n', "not a readable table"),
        ("image,caption\na.jpg," + "x" * 200_000 + "\n", "not a readable table"),
    ],
)
def test_tables_that_are_something_else(photos: Path, content: str, message: str) -> None:
    (photos / "t.csv").write_text(content)
    with pytest.raises(ItmkitError, match=message):
        prepare_csv(Workspace(photos), photos / "t.csv")


def test_utf16_is_named(photos: Path) -> None:
    (photos / "t.csv").write_text("image,caption\na.jpg,A\n", encoding="utf-16")
    with pytest.raises(ItmkitError, match="is UTF-16; convert"):
        prepare_csv(Workspace(photos), photos / "t.csv")
