"""Options of --backend detectron2, and what is said where something is wrong. Needs no detectron2."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from itmkit.cache import CacheReader
from itmkit.commands import cli
from itmkit.commands.console import run
from itmkit.dataset import read_dataset
from itmkit.errors import ItmkitError
from itmkit.job import Job
from itmkit.regions import choose, extract
from itmkit.regions.bottom_up import settings
from itmkit.regions.bottom_up.settings import BottomUpOptions
from itmkit.regions.extract import extract_regions
from itmkit.regions.regions import ModelInput, Regions
from itmkit.regions.vg_vocabulary import read_names
from itmkit.workspace import Workspace
from tests.workspaces import make_dataset


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    return make_dataset(tmp_path / "work")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "find_spec", lambda name: object())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Weights and vocabulary, as they come together."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights.pkl").write_bytes(b"weights")
    (folder / "objects_vocab.txt").write_text("".join(f"Thing {n},other\n" for n in range(1600)))
    (folder / "attributes_vocab.txt").write_text("\n".join(f"kind {n}" for n in range(400)))
    return folder


def chosen(work: Workspace, **options: object) -> choose.Choice:
    given = {"backend": "detectron2", "model": None, "regions": None, "size": None} | options
    return choose.choose(work, read_dataset(work.dataset_path), **given)  # type: ignore[arg-type]


def problems(work: Workspace, **options: object) -> str:
    with pytest.raises(ItmkitError) as caught:
        chosen(work, **options)
    return "\n".join(caught.value.problems)


@pytest.mark.usefixtures("installed")
def test_a_folder(work: Workspace, folder: Path) -> None:
    found = chosen(work, model=str(folder)).bottom_up
    assert found is not None
    assert (found.weights, found.config, found.vocabulary) == (folder / "weights.pkl", None, folder)
    assert (found.selection, found.min_regions) == ("original", 36)
    found = chosen(work, model=str(folder), regions=100, min_regions=10, selection="regressed").bottom_up
    assert found is not None and (found.selection, found.min_regions) == ("regressed", 10)


@pytest.mark.usefixtures("installed")
def test_files_one_by_one(work: Workspace, folder: Path, tmp_path: Path) -> None:
    file = str(folder / "weights.pkl")
    found = chosen(work, model=file, vocabulary=folder).bottom_up
    assert found is not None and found.vocabulary == folder and found.config is None
    (tmp_path / "c.yaml").write_text("")
    found = chosen(work, model=file, config=tmp_path / "c.yaml").bottom_up
    assert found is not None and found.selection is None and found.vocabulary is None
    (folder / "config.yaml").write_text("")
    found = chosen(work, model=str(folder)).bottom_up  # a folder may hold a configuration as well
    assert found is not None and found.config == folder / "config.yaml" and found.vocabulary == folder


@pytest.mark.usefixtures("installed")
def test_relative_to_the_workspace(work: Workspace, folder: Path) -> None:
    folder.rename(work.root / "bottom-up")
    (work.root / "workspace.toml").write_text(
        '[extract-regions]\nbackend = "detectron2"\nmodel = "bottom-up"\nmin_regions = 10\nregions = 100\n'
    )
    choice = chosen(work, backend=None)
    assert choice.bottom_up is not None and choice.bottom_up.weights == work.root / "bottom-up" / "weights.pkl"
    assert (choice.regions, choice.bottom_up.min_regions) == (100, 10)


def test_everything_wrong_at_once(work: Workspace, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "find_spec", lambda name: None)
    (folder / "objects_vocab.txt").write_text("one\n\nthree\n")
    (folder / "attributes_vocab.txt").unlink()
    text = problems(work, model="none.pkl", vocabulary=folder, min_regions=40, selection="odd", size=64)
    for part in (
        "at least 40 regions but at most 36",
        "selection 'odd': there is original and regressed",
        "size is a setting of the grid",
        "needs torchvision and detectron2, which are not installed",
        "pip install --no-build-isolation git+https://github.com/facebookresearch/detectron2",
        "none.pkl: no such file",
        "objects_vocab.txt: no name in line 2",
        "objects_vocab.txt: has 3 lines, the model has 1,600",
        "attributes_vocab.txt: no such file",
    ):
        assert part in text, part


@pytest.mark.usefixtures("installed")
def test_what_goes_together(work: Workspace, folder: Path, tmp_path: Path) -> None:
    file = str(folder / "weights.pkl")
    assert "needs --model" in problems(work)
    assert "--vocabulary is needed" in problems(work, model=file)
    text = problems(work, model=file, config=tmp_path / "c.py", selection="original")
    assert "own inference selects" in text and "c.py: no such file" in text
    (tmp_path / "c.py").write_text("")
    assert "a .yaml configuration is needed" in problems(work, model=file, config=tmp_path / "c.py")
    assert "read from .pkl" in problems(work, model=str(folder / "objects_vocab.txt"), vocabulary=folder)
    (folder / "other.pth").write_bytes(b"")
    assert "holds 2 weight files (other.pth, weights.pkl)" in problems(work, model=str(folder))
    (tmp_path / "empty").mkdir()
    text = problems(work, model=str(tmp_path / "empty"))
    assert "holds no weight file (*.pkl, *.pth" in text
    text = problems(work, backend="grid", model="m", config="c.yaml", min_regions=3)
    assert "config, min_regions: for the detectron2 backend only" in text
    (work.root / "workspace.toml").write_text(
        '[extract-regions]\nbackend = "detectron2"\nmodel = 3\nmin_regions = "x"\n'
    )
    text = problems(work, backend=None)
    assert "model is '3'; a text in quotes is needed" in text and "min_regions is 'x'" in text


def test_vocabulary_of_visual_genome(test_data: Path) -> None:
    objects = read_names(test_data / "vg_vocab" / "objects_vocab.txt", 1600)
    attributes = read_names(test_data / "vg_vocab" / "attributes_vocab.txt", 400)
    assert objects[0] == "yolk" and len(set(objects)) == 1600 and len(set(attributes)) == 400


@pytest.mark.skipif(importlib.util.find_spec("detectron2") is not None, reason="detectron2 is installed")
def test_not_installed(work: Workspace, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["extract-regions", "-w", str(work.root), "--backend", "detectron2", "--model", str(folder)]) == 2
    shown = capsys.readouterr().err
    assert "--no-build-isolation" in shown and "Traceback" not in shown
    assert not work.cache("regions").exists()


def test_help() -> None:
    text = CliRunner().invoke(cli, ["extract-regions", "--help"]).output
    for part in ("--config", "--vocabulary", "--selection", "--min-regions", "--backend detectron2 --model"):
        assert part in text


# The stage with a stand-in for the model


@dataclass
class Model:
    sha256: str = "weights"
    settings_sha256: str = "settings"
    dim: int = 4
    names: list[str] = field(default_factory=lambda: ["dog", "cat"])
    attribute_names: list[str] = field(default_factory=lambda: ["red", "wooden", "old"])
    square: None = None

    def prepare(self, image: Image.Image) -> ModelInput:
        return ModelInput(None, image.size)

    def detect(
        self, prepared: Sequence[ModelInput], *, regions: int, labels: Sequence[str] | None, batch: int
    ) -> list[Regions]:
        boxes = np.array([[0, 0, 9, 9], [0, 0, 5, 5]], np.float32)
        found = Regions(boxes, np.array([0.9, 0.4], np.float32), np.ones((2, 4), np.float32), ["cat", "dog"])
        found.attributes = ["wooden", ""]
        return [found] * len(prepared)


@pytest.mark.usefixtures("installed")
def test_attributes_and_settings_in_the_cache(work: Workspace, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extract, "load", lambda choice, *, device, download: Model())
    options = {"backend": "detectron2", "model": str(folder), "job": Job(device="cpu")}
    options["bottom_up"] = BottomUpOptions(min_regions=10)
    extract_regions(work, **options)
    reader = CacheReader.open(work.cache("regions"))
    assert reader.tables == {"tags": ["dog", "cat"], "attributes": ["red", "wooden", "old"]}
    assert reader.read_all("attributes")[0, :3].tolist() == [1, -1, -1]
    made_by = reader.manifest.made_by
    assert made_by.settings == {
        "backend": "detectron2", "regions": 36, "min_regions": 10,
        "selection": "original", "nms": 0.3, "keep": 0.2, "proposals": 300,
    }  # fmt: skip
    assert made_by.model == {"id": "weights.pkl", "sha256": "weights", "settings_sha256": "settings"}
    regressed, more = BottomUpOptions(selection="regressed", min_regions=10), BottomUpOptions(min_regions=36)
    for other in ({"bottom_up": regressed}, {"bottom_up": more}, {"regions": 100}):
        with pytest.raises(ItmkitError, match=r"other data or settings.*--force"):
            extract_regions(work, **(options | other))
    folder.rename(folder.with_name("moved"))
    assert extract_regions(work).unchanged  # with no option: nothing is needed any more
