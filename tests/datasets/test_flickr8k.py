from __future__ import annotations

from pathlib import Path

import pytest

from itmkit.datasets.flickr8k import LISTS, TOKENS, prepare_flickr8k
from itmkit.errors import ItmkitError
from itmkit.workspace import Workspace
from tests.workspaces import save_picture


def make(folder: Path, images: str = "images", **lists: list[str]) -> Path:
    folder.mkdir(exist_ok=True)
    names = [name for listed in lists.values() for name in listed]
    lines = [f"{name}#{n}\tcaption {n} of {name} .\n" for name in names for n in range(5)]
    (folder / TOKENS).write_text("".join(lines), encoding="utf-8")
    for split, listed in lists.items():
        (folder / LISTS[split]).write_text("\n".join([*listed, "", ""]))
    for number, name in enumerate(names):
        save_picture(folder / images / name, colour=number)
    return folder


def test_a_whole_folder(tmp_path: Path) -> None:
    folder = make(tmp_path / "f8k", train=["a.jpg", "b.jpg"], val=["c.jpg"], test=["d.jpg"])
    workspace = Workspace(tmp_path / "work")
    result = prepare_flickr8k(workspace, folder)
    assert {split: count["images"] for split, count in result.counts.items()} == {"train": 2, "val": 1, "test": 1}
    image = workspace.dataset().images[0]
    assert image.id == "a.jpg" and image.file == str(folder / "images" / "a.jpg")
    assert [c.id for c in image.captions] == [f"a.jpg#{n}" for n in range(5)]
    assert image.captions[0].text == "caption 0 of a.jpg ."


@pytest.mark.parametrize(
    "place", ["Flicker8k_Dataset", "../Flicker8k_Dataset", "../Flickr8k_Dataset/Flicker8k_Dataset"]
)
def test_the_folder_of_pictures_is_found(tmp_path: Path, place: str) -> None:
    folder = make(tmp_path / "Flickr8k_text", images=place, train=["a.jpg"])
    prepare_flickr8k(Workspace(tmp_path / "work"), folder)


def test_split_lists_may_be_missing_but_not_all(tmp_path: Path) -> None:
    folder = make(tmp_path / "f8k", val=["a.jpg"])
    assert prepare_flickr8k(Workspace(tmp_path / "work"), folder).counts == {"val": {"images": 1, "captions": 5}}
    (folder / LISTS["val"]).unlink()
    with pytest.raises(ItmkitError, match=r"has no split list \(Flickr_8k\.trainImages"):
        prepare_flickr8k(Workspace(tmp_path / "work"), folder)


def test_images_in_no_list_are_left_out_and_counted(tmp_path: Path) -> None:
    folder = make(tmp_path / "f8k", train=["a.jpg"])
    with open(folder / TOKENS, "a") as out:
        out.write("2258277193_586949ec62.jpg.1#0\tA name as in the real file .\n")
    result = prepare_flickr8k(Workspace(tmp_path / "work"), folder)
    assert result.notes == [f"1 images of {TOKENS} are in no split list and left out"]
    assert result.counts["train"]["images"] == 1


def test_everything_wrong_is_reported_at_once(tmp_path: Path) -> None:
    folder = make(tmp_path / "f8k", train=["a.jpg", "b.jpg"], val=["c.jpg"])
    tokens = folder / TOKENS
    tokens.write_bytes(
        tokens.read_bytes() + b"a.jpg#0\ttwice\nno tab here\nc.jpg#x\tno number\nd.jpg#0\t \n" + b"b.jpg#5\tcaf\xe9\n"
    )
    (folder / LISTS["val"]).write_text("c.jpg\na.jpg\nd.jpg\nnowhere.jpg\n")
    (folder / "images" / "b.jpg").unlink()
    with pytest.raises(ItmkitError) as caught:
        prepare_flickr8k(Workspace(tmp_path / "work"), folder)
    text = str(caught.value)
    for part in (
        f"{tokens}: line 16: a.jpg#0 occurs twice",
        f"{tokens}: line 17: expected NAME#NUMBER, a tab and the caption, found 'no tab here'",
        f"{tokens}: line 18: expected NAME#NUMBER",
        f"{tokens}: line 20: byte 12 (0xe9) is not UTF-8",
        f"{folder / LISTS['val']}: line 2: a.jpg is listed before, at {folder / LISTS['train']}: line 1",
        "line 3: image 'd.jpg': caption 'd.jpg#0' is empty",
        "line 4: image 'nowhere.jpg': has no caption",
        "b.jpg: no such file",
    ):
        assert part in text, part


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(ItmkitError) as caught:
        prepare_flickr8k(Workspace(tmp_path / "work"), tmp_path)
    assert len(caught.value.problems) == 3  # no tokens, no list, no pictures


def test_real_photographs(tmp_path: Path, test_data: Path) -> None:
    result = prepare_flickr8k(Workspace(tmp_path), test_data / "flickr8k")
    assert result.counts == {"train": {"images": 600, "captions": 3000}, "val": {"images": 200, "captions": 1000}}
    assert result.notes == [] and result.skipped == []
    assert prepare_flickr8k(Workspace(tmp_path), test_data / "flickr8k").unchanged
