"""A folder of photographs becomes a data set without captions, and grows at its end."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from itmkit.commands import cli
from itmkit.commands.console import run
from itmkit.dataset import Caption, ImageRecord, write_dataset
from itmkit.datasets.pictures import prepare_images
from itmkit.datasets.prepared import LEFT_OUT
from itmkit.errors import ItmkitError
from itmkit.files import read_json, write_json
from itmkit.workspace import Workspace
from tests.workspaces import close, save_picture


@pytest.fixture
def home(tmp_path: Path) -> Workspace:
    """photos/work is the workspace of the pictures in photos."""
    for number, name in enumerate(("b.png", "a/z.JPG", "a/y.png", ".hidden/x.png", "work/plots/figure.png")):
        save_picture(tmp_path / "photos" / name, colour=number)
    (tmp_path / "photos/notes.txt").write_text("no picture")
    return Workspace(tmp_path / "photos/work")


def ids(workspace: Workspace) -> list[str]:
    return [image.id for image in workspace.dataset().images]


def test_every_picture_below_a_folder_in_the_order_of_its_name(home: Workspace) -> None:
    photos = home.root.parent
    shutil.copy(photos / "a/y.png", photos / "c.png")
    (photos / "raw.heic").write_bytes(b"unknown")
    result = prepare_images(home, photos)
    assert ids(home) == ["a/y.png", "a/z.JPG", "b.png"]
    assert result.counts == {"all": {"images": 3, "captions": 0}}
    assert [line.partition(": ")[2] for line in result.left_out] == ["is the same picture as a/y.png, byte for byte"]
    assert result.notes == ["files in forms that are not read (.heic): 1; convert them"]
    dataset = home.dataset()
    assert dataset.kind == "images" and not dataset.has_captions
    assert all(home.image_path(image.file or "").samefile(photos / image.id) for image in dataset.images)
    assert prepare_images(home, photos).unchanged


def test_what_is_wrong_is_told_at_once_and_nothing_is_written(home: Workspace, tmp_path: Path) -> None:
    photos = home.root.parent
    for name in ("broken.jpg", "empty.png"):
        (photos / name).write_bytes(b"no picture"[: 10 * (name == "broken.jpg")])
    with pytest.raises(ItmkitError) as error:
        prepare_images(home, photos)
    assert "--skip-damaged" in error.value.problems[0]
    assert [Path(line.partition(":")[0]).name for line in error.value.problems[1:]] == ["broken.jpg", "empty.png"]
    assert not home.dataset_path.exists()
    assert len(prepare_images(home, photos, skip_damaged=True).left_out) == 2
    with pytest.raises(ItmkitError, match="no such folder"):
        prepare_images(home, tmp_path / "none")
    (tmp_path / "bare").mkdir()
    with pytest.raises(ItmkitError, match="holds no pictures"):
        prepare_images(home, tmp_path / "bare")
    with pytest.raises(ItmkitError, match="images --add` adds pictures to it"):
        prepare_images(home, photos / "a")


def test_names_that_can_be_no_id_and_closed_folders_are_left_out(
    home: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = home.root.parent
    odd = Path(os.fsdecode(os.fsencode(photos) + b"/caf\xe9.png"))
    shutil.copy(photos / "b.png", odd)
    (photos / "link").symlink_to(photos / "a")
    close(monkeypatch, photos / "a")
    with pytest.raises(ItmkitError) as error:
        prepare_images(home, photos)
    for told, part in zip(
        error.value.problems, ("cannot be looked", "1 of 2 pictures", "its name contains"), strict=True
    ):
        assert part in told
    asked = ["prepare", "images", str(photos), "--skip-damaged", "-w", str(home.root)]
    for more in ([], ["--json", "--add"]):
        assert run(cli, [*asked, *more]) == 0
        assert "caf\\udce9.png" in capsys.readouterr().out
    assert ids(home) == ["b.png"]
    assert "caf\\udce9.png: its name contains" in (home.root / LEFT_OUT).read_text()
    assert "links to folders are not followed: 1" in prepare_images(home, photos, skip_damaged=True).notes[0]


def test_added_pictures_come_last_and_moved_ones_keep_their_id(home: Workspace, tmp_path: Path) -> None:
    photos = home.root.parent
    prepare_images(home, photos)
    before = home.dataset().images
    save_picture(photos / "a/a.png", colour=50)
    (photos / "b.png").rename(photos / "a/moved.png")
    result = prepare_images(home, photos, add=True)
    assert result.notes == ["new pictures: 1; there already: 3"]
    assert ids(home) == ["a/y.png", "a/z.JPG", "b.png", "a/a.png"]
    assert [image.sha256 for image in home.dataset().images[:3]] == [image.sha256 for image in before]
    assert home.image_path(home.dataset().images[2].file or "").samefile(photos / "a/moved.png")
    assert prepare_images(home, photos, add=True).unchanged
    save_picture(tmp_path / "second/b.png", colour=60)  # another folder, where a name is taken
    shutil.copy(tmp_path / "second/b.png", tmp_path / "second/c.png")
    prepare_images(home, tmp_path / "second", add=True)
    assert ids(home)[4:] == ["b.png (2)"]
    assert all(image.file for image in home.dataset().images)  # those of the first folder are where they were


def test_pictures_that_change_or_go_leave_their_place(home: Workspace) -> None:
    photos = home.root.parent
    prepare_images(home, photos)
    digest = home.dataset().images_digest
    (photos / "b.png").unlink()
    prepare_images(home, photos, add=True)
    assert home.dataset().images[2].file is None and home.dataset().images_digest == digest
    save_picture(photos / "a/y.png", colour=70)
    result = prepare_images(home, photos, add=True)
    assert result.notes == ["new pictures: 1; there already: 1; gone or changed since, and no longer indexed: 2"]
    assert ids(home) == ["a/y.png", "a/z.JPG", "b.png", "a/y.png (2)"]
    assert [image.file is None for image in home.dataset().images] == [True, False, True, False]
    save_picture(photos / "again.png", colour=0)  # b.png, from the bin
    prepare_images(home, photos, add=True)
    assert (home.dataset().images[2].file or "").endswith("again.png") and len(ids(home)) == 4


def test_only_a_data_set_of_pictures_may_lack_captions(home: Workspace, tmp_path: Path) -> None:
    prepare_images(home, home.root.parent)
    info = read_json(home.dataset_info_path)
    write_json(home.dataset_info_path, info | {"kind": "csv"})
    with pytest.raises(ItmkitError, match=r"line 1: image 'a/y.png': unknown split 'all'"):
        Workspace(home.root).dataset()
    write_json(home.dataset_info_path, info)
    assert len(Workspace(home.root).dataset().images) == 3
    other = Workspace(tmp_path / "other")
    with pytest.raises(ItmkitError, match="has no caption"):
        write_dataset(other.dataset_path, [ImageRecord("a", "train", ())], kind="csv", settings={})
    write_dataset(other.dataset_path, [ImageRecord("a", "train", (Caption("a#0", "A dog."),))], kind="csv", settings={})
    with pytest.raises(ItmkitError, match="of the kind csv"):
        prepare_images(other, home.root.parent, add=True)
    assert json.loads(other.dataset_path.read_text())["id"] == "a"
