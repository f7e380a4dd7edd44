from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from itmkit.dataset import SPLITS
from itmkit.datasets.pair_drafts import default_splits
from itmkit.datasets.pair_rows import Columns
from itmkit.datasets.pairs import prepare_csv, prepare_jsonl
from itmkit.datasets.prepared import LEFT_OUT
from itmkit.datasets.skip import Skip
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
        {"image": 3, "caption": [4], "split": "train"},
        {"image": "b.png", "caption": " ", "split": "nowhere"},
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
        "line 6: 'image' and 'caption' must be text",
        "line 7: image 'b.png': unknown split 'nowhere'",
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
        ('image,caption\na.jpg,A\na.jpg,"never closed\nb.png,B\n', "line 3: not a readable table"),
        ("image,caption\na.jpg," + "x" * 2_000_000 + "\n", "line 2: .*more than 1,048,576 characters"),
        ("filepath\ttitle\n", "no images were found"),
        (
            "picture\twords\n",
            "no column image and no column caption; found .* between tabs.*--image-column.*--delimiter",
        ),
        ("image,image,caption\n", "several columns are called image"),
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


def captions(workspace: Workspace) -> dict[str, list[str]]:
    return {image.id: [caption.text for caption in image.captions] for image in workspace.dataset().images}


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("t.tsv", 'image\tcaption\na.jpg\t"quote of a man\nb.png\ta cat sits"\n',
         {"a.jpg": ['"quote of a man'], "b.png": ['a cat sits"']}),
        ("t.tsv", 'image\tcaption\na.jpg\t"a ""big"" dog, wet"\nb.png\t"stop" and "go"\n',
         {"a.jpg": ['a "big" dog, wet'], "b.png": ['"stop" and "go"']}),
        ("t.csv", "image,caption,caption\na.jpg,a cat,a black cat\nb.png,,a dog\n",
         {"a.jpg": ["a cat", "a black cat"], "b.png": ["a dog"]}),
        ("t.csv", "filepath\ttitle\na.jpg\ta dog runs\n", {"a.jpg": ["a dog runs"]}),
        ("t.csv", 'Image;caption\na.jpg;"a dog; wet"\n', {"a.jpg": ["a dog; wet"]}),
        ("t.csv", 'image_name| comment_number| comment\na.jpg| 0| A "red" hat , here .\na.jpg| 1| "Two" .\n',
         {"a.jpg": ['A "red" hat , here .', '"Two" .']}),
        ("r.token", "a.jpg#0\tTwo men .\na.jpg#1\tMen .\nb.png#0\tA dog .\n",
         {"a.jpg": ["Two men .", "Men ."], "b.png": ["A dog ."]}),
        ("t.csv", "sep=;\nimage;caption\na.jpg;a dog\n", {"a.jpg": ["a dog"]}),
        ("t.csv", ",image,caption_1,caption_2\n0,a.jpg,a dog,a wet dog\n", {"a.jpg": ["a dog", "a wet dog"]}),
        ("t.csv", "image_id,caption\na,a dog\n", {"a": ["a dog"]}),
        ("t.csv", "image,caption,\na.jpg,a dog,\n", {"a.jpg": ["a dog"]}),
        ("t.csv", "image,caption\na.jpg," + "x" * 200_000 + "\n", {"a.jpg": ["x" * 200_000]}),
        ("t.csv", "image,caption\nsub\\a.jpg,a dog\n", {"sub\\a.jpg": ["a dog"]}),
        ("t.csv", "image,caption\nu\u0308 c.jpg,a dog\n", {"u\u0308 c.jpg": ["a dog"]}),
    ],
)  # fmt: skip
def test_tables_as_they_are_met(photos: Path, name: str, content: str, found: dict[str, list[str]]) -> None:
    save_picture(photos / "sub" / "a.jpg")
    (photos / name).write_text(content, encoding="utf-8")
    prepare_csv(Workspace(photos), photos / name, split="train")
    assert captions(Workspace(photos)) == found


def test_columns_and_delimiter_that_the_user_names(photos: Path) -> None:
    (photos / "t.csv").write_text("where~en~alt\na.jpg~a, dog~one dog\n")
    columns = Columns("~", "Where", ("en", "alt"))
    prepare_csv(Workspace(photos), photos / "t.csv", split="train", columns=columns)
    assert captions(Workspace(photos)) == {"a.jpg": ["a, dog", "one dog"]}
    with pytest.raises(ItmkitError, match="no column nowhere"):
        prepare_csv(Workspace(photos), photos / "t.csv", columns=Columns("~", "nowhere", ("en",)))


def test_cells_and_rows_are_never_lost_silently(photos: Path) -> None:
    file = photos / "t.csv"
    file.write_text(
        "image,caption,\n"
        "a.jpg,a, b\n"
        'a.jpg,"quote of a man,\n'
        'b.png,a cat sits",\n'
        "b.png,B,\n"
        'b.png,"two\nlines, ""fine""",\n'
        'a.jpg,"a dog" runs,\n'
        "b.png,C,\n"
        'a.jpg,"open to the end,\n'
    )
    with pytest.raises(ItmkitError) as caught:
        prepare_csv(Workspace(photos), file)
    text = str(caught.value)
    for part in (
        "line 2: 'b' stands in a column without a name (--skip-damaged",
        "line 3: not a readable table: the quoted cell holds what looks like another row, 'b.png,a cat sits",
        "line 8: not a readable table: a quoted cell begins here, and text follows its end",
        "line 10: not a readable table: a quoted cell begins here and does not end",
    ):
        assert part in text, part
    result = prepare_csv(Workspace(photos), file, split="train", skip=Skip(damaged=True))
    assert captions(Workspace(photos)) == {"b.png": ['a cat sits"', "B", 'two\nlines, "fine"', "C"]}
    assert len(result.left_out) == 4
    assert (photos / LEFT_OUT).read_text().splitlines() == result.left_out
    (photos / "t.tsv").write_text('image\tcaption\na.jpg\t"two\nlines"\n')
    with pytest.raises(ItmkitError, match=r"line 3: has 1 cells, the header 2; does a cell that begins in line 2 hold"):
        prepare_csv(Workspace(photos), photos / "t.tsv", force=True)


def test_split_names_in_use(photos: Path) -> None:
    (photos / "t.csv").write_text(
        "image,caption,split\na.jpg,A,Train\na.jpg,AA,training\nb.png,B,validation\nü c.jpg,C,TESTING\n"
    )
    prepare_csv(Workspace(photos), photos / "t.csv")
    assert [image.split for image in Workspace(photos).dataset().images] == ["train", "val", "test"]


def test_json_lists_and_several_files(photos: Path) -> None:
    """Lists as ALBEF, BLIP and LAVIS have them: a file a split, `caption` as text or as a list."""
    (photos / "f30k_train.json").write_text('[{"image": "a.jpg", "caption": "A", "image_id": "coco_1"},\n'
                                            ' {"image": "a.jpg", "caption": "AA"}]')  # fmt: skip
    (photos / "f30k_val.jsonl").write_text('{"image": "b.png", "caption": ["B", "BB"]}\n')
    (photos / "f30k_test.json").write_text('[{"file_name": "ü c.jpg", "text": "C"}]', encoding="utf-8")
    files = [photos / name for name in ("f30k_train.json", "f30k_val.jsonl", "f30k_test.json")]
    prepare_jsonl(Workspace(photos), files)
    assert captions(Workspace(photos)) == {"a.jpg": ["A", "AA"], "b.png": ["B", "BB"], "ü c.jpg": ["C"]}
    assert [image.split for image in Workspace(photos).dataset().images] == ["train", "val", "test"]
    for content, message in (
        ('{"images": [{"id": 1, "sentences": []}]}', "prepare karpathy"),
        ('{\n"images": [],\n"annotations": []}', "prepare coco"),
        ('[{"image": "a.jpg", "caption": "A"},', "not JSON"),
        ('{"picture": "a.jpg", "caption": "A"}', "'image' is missing; --image-column says which of 'picture' it is"),
    ):
        files[0].write_text(content)
        with pytest.raises(ItmkitError, match=message):
            prepare_jsonl(Workspace(photos), files[0], force=True)


def test_lists_within_a_record_make_it_no_data_set(photos: Path) -> None:
    file = photos / "t.jsonl"
    record = {"image": "a.jpg", "caption": "A", "meta": {"annotations": [1], "images": [2]}}
    file.write_text(json.dumps(record, indent=1))
    prepare_jsonl(Workspace(photos), file)
    assert captions(Workspace(photos)) == {"a.jpg": ["A"]}
    long = record | {"meta": {"annotations": ["x" * 80_000]}}  # longer than what is looked at first
    file.write_text("".join(json.dumps(one) + "\n" for one in (long, {"image": "b.png", "caption": "B"})))
    prepare_jsonl(Workspace(photos), file, force=True)
    assert captions(Workspace(photos)) == {"a.jpg": ["A"], "b.png": ["B"]}
    file.write_text('{"image": "a.jpg", "caption": "x",}\n' + json.dumps(record) + "\n")
    with pytest.raises(ItmkitError, match="line 1: not JSON"):
        prepare_jsonl(Workspace(photos), file, force=True)
    file.write_text(json.dumps({"categories": ["c" * 80_000], "images": []}, indent=1))
    with pytest.raises(ItmkitError, match="prepare coco"):
        prepare_jsonl(Workspace(photos), file, force=True)


def test_metadata_files_in_a_folder_a_split(tmp_path: Path) -> None:
    for number, split in enumerate(("train", "validation", "test")):
        save_picture(tmp_path / split / "0001.png", colour=number)
        (tmp_path / split / "metadata.csv").write_text(f"file_name,text\n0001.png,{split}\n")
    files = [tmp_path / split / "metadata.csv" for split in ("train", "validation", "test")]
    prepare_csv(Workspace(tmp_path), files)
    images = Workspace(tmp_path).dataset().images
    assert [(image.id, image.split) for image in images] == [
        ("train/0001.png", "train"),
        ("validation/0001.png", "val"),
        ("test/0001.png", "test"),
    ]


def test_records_without_words_or_that_cannot_be_read_are_left_out(photos: Path) -> None:
    (photos / "b.png").write_bytes(b"no picture")
    file = jsonl(
        photos,
        {"image": "a.jpg", "captions": ["A", " ", "\u200b\ufe0f", "...", "🐶"]},
        "{not json",
        {"image": "ü c.jpg", "caption": None},
        {"image": "b.png", "caption": "B"},
        {"image": "gone.jpg", "caption": "x \x00"},
        {"image": "http://a/b.jpg", "caption": "B"},
    )
    with pytest.raises(ItmkitError) as caught:
        prepare_jsonl(Workspace(photos), file)
    text = str(caught.value)
    assert "caption 'a.jpg#2' is empty: its characters are invisible" in text and "--skip-empty" in text
    result = prepare_jsonl(Workspace(photos), file, split="train", skip=Skip(damaged=True, empty=True))
    assert captions(Workspace(photos)) == {"a.jpg": ["A", "🐶"]}
    told = "\n".join(result.left_out)
    for part in ("line 2: not JSON", "line 3: 'caption'", "b.png: cannot be read as a picture", "caption 'gone.jpg#0'",
                 "'a.jpg#1' holds no words",
                 "'a.jpg#3' holds no words", "line 6: the picture is an address"):  # fmt: skip
        assert part in told, part


def test_captions_are_stored_in_one_spelling(photos: Path) -> None:
    file = jsonl(photos, {"image": "a.jpg", "captions": ["a cafe\u0301 &amp; a man’s R&D", "&quot;x&quot; &copycat"]})
    result = prepare_jsonl(Workspace(photos), file, split="train")
    assert captions(Workspace(photos)) == {"a.jpg": ["a café & a man's R&D", '"x" &copycat']}
    assert "2 captions are stored in one spelling" in result.notes[0]
    path = Workspace(photos).dataset_path  # as an older version wrote it
    path.write_text(path.read_text(encoding="utf-8").replace("a man's", "a man’s"), encoding="utf-8")
    assert prepare_jsonl(Workspace(photos), file, split="train").unchanged
    assert "a man’s" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv.gz", b"\x1f\x8b\x08", "is a gzip archive; unpack it"),
        ("t.parquet", b"PAR1\x15\x04", "is a Parquet file; save it as a table"),
        ("t.xlsx", b"PK\3\4\x14\0[Content_Types].xml", "is an Excel workbook"),
        ("00000.tar", b"a.jpg" + bytes(252) + b"ustar\0", "is a tar archive"),
        ("t.json", b"<!DOCTYPE html><html>", "is a web page"),
    ],
)
def test_archives_and_the_like_are_named_in_one_sentence(photos: Path, name: str, content: bytes, message: str) -> None:
    (photos / name).write_bytes(content)
    for prepare in (prepare_csv, prepare_jsonl):
        with pytest.raises(ItmkitError, match=message) as caught:
            prepare(Workspace(photos), photos / name)
        assert len(caught.value.problems) == 1
    with pytest.raises(ItmkitError, match="is an address; download"):
        prepare_csv(Workspace(photos), Path("https://example.org/t.csv"))
    (photos / "t.csv").write_text("image,caption\nhttp://a/b.jpg,A\nhttp://a/c.jpg,B\n")
    with pytest.raises(ItmkitError, match=r"line 2: the picture is an address .*\(2 such lines\)"):
        prepare_csv(Workspace(photos), photos / "t.csv")
