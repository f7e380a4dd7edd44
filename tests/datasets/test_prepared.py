"""A data set is one thing: images and facts belong together whenever a run is killed, and one process writes it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from itmkit.commands.console import run
from itmkit.commands.prepare import command
from itmkit.dataset import Caption, ImageRecord, read_dataset, write_dataset
from itmkit.dataset_info import uneven_captions
from itmkit.datasets.pairs import prepare_csv
from itmkit.datasets.prepared import prepare_scenes
from itmkit.scenes import make
from itmkit.workspace import Workspace
from tests.workspaces import save_picture


def images(text: str) -> list[ImageRecord]:
    return [ImageRecord("a", "train", (Caption("a#0", text),))]


def test_killed_between_the_two_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "dataset.jsonl"
    found = []
    whole = Path.replace
    for moment in range(4):
        write_dataset(path, images("an old one"), kind="scenes", settings={"seed": 1})
        left = [moment]

        def dying(old: Path, new: Path, left: list[int] = left) -> Path:
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
            return whole(old, new)

        with monkeypatch.context() as patched:
            patched.setattr(Path, "replace", dying)
            with suppress(KeyboardInterrupt):
                write_dataset(path, images("a new one"), kind="csv", settings={"split": None})
        now = read_dataset(path)
        found.append((now.images[0].captions[0].text, now.kind, now.info["settings"]))
    old, new = ("an old one", "scenes", {"seed": 1}), ("a new one", "csv", {"split": None})
    assert found == [old, old, new, new]


def test_a_rerun_after_the_kill_gives_the_facts_their_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace(tmp_path / "work")
    prepare_scenes(workspace, train=1, val=0, test=0, seed=0)
    save_picture(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text("image,caption,split\na.png,a dog,train\n")
    with monkeypatch.context() as patched:
        patched.setattr("itmkit.dataset_info.settle", lambda path: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prepare_csv(workspace, tmp_path / "t.csv", force=True)
    assert workspace.dataset().kind == "csv"
    assert prepare_csv(workspace, tmp_path / "t.csv").unchanged
    assert '"csv"' in workspace.dataset_info_path.read_text() and workspace.dataset().kind == "csv"
    # Half a data set of an older version: its facts know nothing of the images, and are those of other ones.
    text = workspace.dataset_info_path.read_text().replace('"csv"', '"scenes"').replace("jsonl_sha256", "x")
    workspace.dataset_info_path.write_text(text)
    assert prepare_csv(workspace, tmp_path / "t.csv").unchanged and workspace.dataset().kind == "csv"


def test_killed_scenes_leave_the_old_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace(tmp_path)
    prepare_scenes(workspace, train=3, val=0, test=0, seed=0)

    def content() -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in (*tmp_path.glob("images/*"), *tmp_path.glob("dataset*"))}

    old, draws = content(), [0]

    def killed(image: object, whole: Callable[..., bytes] = make._jpeg) -> bytes:
        draws[0] += 1
        if draws[0] == 3:
            raise KeyboardInterrupt
        return whole(image)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(make, "_jpeg", killed)
        prepare_scenes(workspace, train=3, val=0, test=0, seed=1, force=True)
    assert content() == old
    prepare_scenes(workspace, train=3, val=0, test=0, seed=1, force=True)
    prepare_scenes(Workspace(tmp_path / "fresh"), train=3, val=0, test=0, seed=1)
    for file in ("images/scene-000000.jpg", "dataset.jsonl", "dataset.info.json"):
        assert (tmp_path / file).read_bytes() == (tmp_path / "fresh" / file).read_bytes()
    assert not (tmp_path / ".scenes.new").exists()


def test_two_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_picture(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text("image,caption,split\na.png,a dog,train\n")
    asked = ["csv", str(tmp_path / "t.csv"), "-w", str(tmp_path / "work"), "--force"]
    with Workspace(tmp_path / "work").preparing():
        assert run(command, asked) == 2
        assert not (tmp_path / "work" / "dataset.jsonl").exists()
    said = capsys.readouterr().err
    assert "another process is preparing this data set" in said and "wait for it to end" in said
    assert run(command, asked) == 0


def test_uneven_captions_are_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in range(10):
        save_picture(tmp_path / f"{name}.png", colour=name)
    lines = [f"{name}.png,a dog {k},train" for name in range(5) for k in range(5)]
    lines += [f"{name}.png,a cat,val" for name in range(5, 10)]
    (tmp_path / "t.csv").write_text("image,caption,split\n" + "\n".join(lines) + "\n")
    asked = ["csv", str(tmp_path / "t.csv"), "-w", str(tmp_path / "work")]
    for _ in range(2):  # also where there is nothing to do
        assert run(command, asked) == 0
        said = " ".join(capsys.readouterr().out.split())
        assert "captions a picture differ between the splits: train 5 (25 captions), val 1 (5 captions)" in said
    even = {"train": {"images": 20, "captions": 100}, "val": {"images": 9, "captions": 36}, "test": {"images": 0}}
    assert uneven_captions(even) == []
