from __future__ import annotations

import io
import json
import tracemalloc
from pathlib import Path

import pytest

from itmkit.datasets.image_folder import _pair_rows, prepare_image_folder, prepare_pairs
from itmkit.datasets.pair_rows import USUAL_COLUMNS, Columns
from itmkit.datasets.parquet import prepare_parquet
from itmkit.datasets.skip import Problems, Skip
from itmkit.errors import ItmkitError
from itmkit.workspace import Workspace
from tests.datasets.packed_files import img2dataset_sample, picture
from tests.workspaces import close, save_picture

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "work")


def captions(work: Workspace) -> dict[str, list[str]]:
    return {image.id: [caption.text for caption in image.captions] for image in work.dataset().images}


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_imagefolder_with_metadata_in_the_folder_of_each_split(tmp_path: Path, work: Workspace, form: str) -> None:
    folder = tmp_path / "hub"
    for number, split in enumerate(("train", "validation", "test")):
        save_picture(folder / "data" / split / "0001.png", colour=number)
        place = folder / "data" / split / f"metadata.{form}"
        row = {"file_name": "0001.png", "text": f"A picture, of {split}."}
        if form == "csv":
            place.write_text(f'file_name,text\n0001.png,"{row["text"]}"\n')
        elif form == "jsonl":
            place.write_text(json.dumps(row) + "\n")
        else:
            parquet.write_table(pyarrow.Table.from_pylist([row]), place)
    prepare_image_folder(work, folder)
    assert captions(work)["data/validation/0001.png"] == ["A picture, of validation."]
    assert {image.id: image.split for image in work.dataset().images} == {
        "data/train/0001.png": "train", "data/validation/0001.png": "val", "data/test/0001.png": "test",
    }  # fmt: skip


def test_imagefolder_with_one_metadata_file(tmp_path: Path, work: Workspace) -> None:
    for name in ("train/a.png", "test/b.png"):
        save_picture(tmp_path / "hub" / name)
    lines = [{"file_name": "train/a.png", "additional_feature": "x", "text": ["A", "Aa"]}]
    lines += [{"file_name": "test/b.png", "additional_feature": "y", "text": "B"}]
    (tmp_path / "hub" / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = prepare_image_folder(work, tmp_path / "hub")
    assert captions(work) == {"train/a.png": ["A", "Aa"], "test/b.png": ["B"]} and set(result.counts) == {
        "train",
        "test",
    }
    with pytest.raises(ItmkitError, match=r"holds no metadata\.csv"):
        prepare_image_folder(work, tmp_path / "hub" / "train")


def test_folders_of_img2dataset(tmp_path: Path, work: Workspace) -> None:
    place = tmp_path / "out" / "00000"
    place.mkdir(parents=True)
    for number in range(4):
        for name, data in img2dataset_sample(number, None if number == 3 else f"A caption of {number}"):
            (place / name).write_bytes(data)
    (tmp_path / "out" / "00000_stats.json").write_text("{}")
    with pytest.raises(ItmkitError, match=r"000000003\.jpg: has no caption .*--skip-empty"):
        prepare_pairs(work, tmp_path / "out", split="train")
    prepare_pairs(work, tmp_path / "out", split="train", skip=Skip(empty=True))
    assert captions(work)["00000/000000002.jpg"] == ["A caption of 2"] and len(captions(work)) == 3


def test_pairs_with_a_caption_a_line_and_what_is_wrong(tmp_path: Path, work: Workspace) -> None:
    folder = tmp_path / "photos"
    for name in ("train/a.jpg", "val/b.jpg", "val/c.jpg", "val/d.jpg"):
        save_picture(folder / name)
    (folder / "train" / "a.txt").write_text("A dog.\r\n\nA wet dog.\n")
    (folder / "val" / "b.json").write_text('{"title": "B", "note": "x"}')
    (folder / "val" / "c.txt").write_bytes(b"caf\xe9")
    (folder / "val" / "d.txt").write_bytes(b"x" * (1 << 21))
    with pytest.raises(ItmkitError) as caught:
        prepare_pairs(work, folder)
    assert len(caught.value.problems) == 2 and "d.txt: has more than 1 MiB" in caught.value.problems[1]
    prepare_pairs(work, folder, skip=Skip(damaged=True))
    assert captions(work) == {"train/a.jpg": ["A dog.", "A wet dog."], "val/b.jpg": ["B"]}
    prepare_pairs(work, folder, skip=Skip(damaged=True, empty=True), columns=Columns(captions=("note",)), force=True)
    assert captions(work)["val/b.jpg"] == ["x"]


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        ({"title": "IMG_2040"}, ["A dog.", "A wet dog."]),
        ({"comment": 5, "text": "x"}, ["A dog.", "A wet dog."]),
        ({"title": "IMG_2040", "caption": "C"}, ["C"]),
        ({"captions": ["C", "D"]}, ["C", "D"]),
        ({"caption_1": "C"}, ["C"]),
    ],
)
def test_a_title_beside_a_text_is_no_caption(
    tmp_path: Path, work: Workspace, facts: dict[str, object], found: list[str]
) -> None:
    save_picture(tmp_path / "photos" / "a.jpg")
    (tmp_path / "photos" / "a.txt").write_text("A dog.\nA wet dog.\n")
    (tmp_path / "photos" / "a.json").write_text(json.dumps(facts))
    prepare_pairs(work, tmp_path / "photos", split="train")
    assert captions(work) == {"a.jpg": found}


def test_metadata_that_describes_a_picture_twice_is_refused(tmp_path: Path, work: Workspace) -> None:
    folder = tmp_path / "hub"
    for number in range(2):
        save_picture(folder / "train" / f"{number}.png", colour=number)
    rows = "file_name,text\n0.png,A\n1.png,B\n"
    (folder / "train" / "metadata.csv").write_text(rows)
    (folder / "train" / "metadata.jsonl").write_text('{"file_name": "0.png", "text": "A"}\n')
    (folder / "metadata.csv").write_text(rows.replace("0.png", "train/0.png").replace("1.png", "train/1.png"))
    with pytest.raises(ItmkitError) as caught:
        prepare_image_folder(work, folder)
    several, again = [text for text in caught.value.problems if "keep one of" in text][:2]
    assert several.startswith(f"{folder / 'train'}: holds metadata.csv and metadata.jsonl")
    assert f"'train/0.png' is described in {folder / 'metadata.csv'} too" in again
    (folder / "train" / "metadata.jsonl").unlink()
    (folder / "metadata.csv").unlink()
    prepare_image_folder(work, folder)
    assert captions(work) == {"train/0.png": ["A"], "train/1.png": ["B"]}


def test_what_a_workspace_made_is_no_pair_and_closed_folders_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "plots/recall", "reports/run", "deep/b"):
        save_picture(tmp_path / f"{name}.png", colour=len(name))
        if name in ("a", "deep/b"):
            (tmp_path / f"{name}.txt").write_text("A dog.")
    work = Workspace(tmp_path)
    prepare_pairs(work, tmp_path, split="train")
    assert set(captions(work)) == {"a.png", "deep/b.png"}
    (tmp_path / "link").symlink_to(tmp_path / "deep")
    close(monkeypatch, tmp_path / "deep")
    with pytest.raises(ItmkitError, match=r"deep: cannot be looked into \(Permission denied\).*--skip-damaged"):
        prepare_pairs(work, tmp_path, split="train", force=True)
    result = prepare_pairs(work, tmp_path, split="train", skip=Skip(damaged=True), force=True)
    assert set(captions(work)) == {"a.png"} and len(result.left_out) == 1
    assert result.notes == [f"links to folders are not followed: 1 (the first: {tmp_path / 'link'})"]


def test_parquet_of_hugging_face(tmp_path: Path, work: Workspace) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for number, split in enumerate(("train", "validation", "test")):
        rows = [
            {
                "image": {"bytes": picture(10 * number + n), "path": f"{split}{n}.jpg"},
                "caption": [f"One {n}", f"Two {n}"],
            }
            for n in range(2)
        ]
        table = pyarrow.Table.from_pylist(rows)
        parquet.write_table(table, folder / f"{split}-00000-of-00001.parquet", row_group_size=1)
    result = prepare_parquet(work, [folder])
    assert {split: count["images"] for split, count in result.counts.items()} == {"test": 2, "train": 2, "val": 2}
    assert captions(work)["train1.jpg"] == ["One 1", "Two 1"]
    for image in work.dataset().images:
        assert image.file is not None and image.file.startswith("unpacked/") and image.width == 20
    assert prepare_parquet(work, [folder]).unchanged


def test_parquet_of_img2dataset_and_names_that_repeat(tmp_path: Path, work: Workspace) -> None:
    rows = [{"jpg": picture(n), "caption": f"C {n}", "key": f"{n:09}", "status": "success"} for n in range(3)]
    parquet.write_table(pyarrow.Table.from_pylist([*rows, rows[0] | {"caption": "Again"}]), tmp_path / "00000.parquet")
    prepare_parquet(work, [tmp_path / "00000.parquet"], split="train")
    assert captions(work) == {"000000000": ["C 0", "Again"], "000000001": ["C 1"], "000000002": ["C 2"]}
    same = [{"image": {"bytes": picture(n), "path": "image.jpg"}, "text": f"T {n}", "uid": f"u{n}"} for n in range(3)]
    parquet.write_table(pyarrow.Table.from_pylist(same), tmp_path / "same.parquet")
    with pytest.raises(ItmkitError, match=r"another picture is called 'image\.jpg' as well \(of Parquet files"):
        prepare_parquet(work, [tmp_path / "same.parquet"], force=True, split="train")
    prepare_parquet(work, [tmp_path / "same.parquet"], columns=Columns(image="uid"), force=True, split="train")
    assert captions(work) == {"u0": ["T 0"], "u1": ["T 1"], "u2": ["T 2"]}


def splits_of_hub(folder: Path, path: str | None) -> list[Path]:
    """Files as the hub's own conversion lays them out: two rows each, whose pictures are called `path` and a number."""
    for place, split in enumerate(("train", "validation", "test")):
        rows = [
            {
                "image": {"bytes": picture(2 * place + n)} | ({"path": f"{n}{path}"} if path else {}),
                "text": f"{split} {n}",
            }
            for n in (1, 2)
        ]
        (folder / split).mkdir(parents=True)
        parquet.write_table(pyarrow.Table.from_pylist(rows), folder / split / "0000.parquet")
    return sorted(folder.rglob("*.parquet"))


def test_parquet_files_of_one_name_in_the_folder_of_each_split(tmp_path: Path, work: Workspace) -> None:
    splits_of_hub(tmp_path / "hf" / "default", None)
    prepare_parquet(work, [tmp_path / "hf"])
    assert {image.id: image.split for image in work.dataset().images} == {
        f"{folder}/0000/{n}": split
        for folder, split in (("test", "test"), ("train", "train"), ("validation", "val"))
        for n in (1, 2)
    }
    assert captions(work)["validation/0000/2"] == ["validation 2"]


def test_parquet_files_that_call_other_pictures_alike(tmp_path: Path, work: Workspace) -> None:
    files = splits_of_hub(tmp_path / "hf", ".jpg")
    prepare_parquet(work, files)
    assert captions(work)["validation/0000/2.jpg"] == ["validation 2"] and len(captions(work)) == 6
    # The same pictures in two files of one split are the same images, with the captions of both.
    table = parquet.read_table(files[0])
    parquet.write_table(table, tmp_path / "more.parquet")
    prepare_parquet(work, [files[0], tmp_path / "more.parquet"], split="test", force=True)
    assert captions(work) == {f"{n}.jpg": [f"test {n}"] * 2 for n in (1, 2)}


def test_parquet_that_is_refused(tmp_path: Path, work: Workspace) -> None:
    parquet.write_table(pyarrow.Table.from_pylist([{"url": "x", "caption": "y"}]), tmp_path / "a.parquet")
    parquet.write_table(pyarrow.Table.from_pylist([{"jpg": b"x", "words": "y"}]), tmp_path / "b.parquet")
    (tmp_path / "c.parquet").write_bytes(b"PAR1" + bytes(40))
    with pytest.raises(ItmkitError) as caught:
        prepare_parquet(work, [tmp_path / f"{name}.parquet" for name in "abcd"])
    for told, part in zip(
        caught.value.problems,
        (
            "a.parquet: holds no pictures",
            "b.parquet: has no column caption",
            "c.parquet: is no Parquet",
            "no such file",
        ),
        strict=True,
    ):
        assert part in told


def test_memory_of_pairs(tmp_path: Path) -> None:
    data = io.BytesIO(bytes(300_000)).getvalue()
    for number in range(20):
        (tmp_path / f"{number}.jpg").write_bytes(data)
        (tmp_path / f"{number}.txt").write_bytes(b"A dog\n" * 200)
    places = [(tmp_path, [path.name for path in tmp_path.iterdir()])]
    tracemalloc.start()
    try:
        assert sum(1 for _ in _pair_rows(tmp_path, places, "train", USUAL_COLUMNS, Problems())) == 20
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20
