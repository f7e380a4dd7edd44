"""The commands of docs/reproduce.md run, on drawn pictures in place of the papers' data.

A command that trains is read and checked as written (settings, caches), and then finds a run that is finished, since
training takes too long here. Figures are made and not drawn. All other commands do what they say.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import itmkit
from itmkit.commands import cli
from itmkit.commands.console import run
from itmkit.evaluation.protocols import PROTOCOLS
from itmkit.files import remove_folder, write_text
from itmkit.runs.begin import settled
from itmkit.runs.facts import RunFacts
from itmkit.runs.settings import RunConfig, read_config
from itmkit.training import train as training
from itmkit.workspace import Workspace
from tests.datasets.test_mirflickr import official
from tests.datasets.test_nuswide import make
from tests.workspaces import save_picture

Capture = pytest.CaptureFixture[str]
PAGE = Path(itmkit.__file__).parent.parent / "docs" / "reproduce.md"
pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="needs a checkout")
# What the data here are too small for, or which needs the network: (as written, as run here).
SMALLER = (
    (
        "--concepts animal,clouds,flowers,food,grass,person,sky,toy,water,window --each 1000",
        "--concepts animal,person --each 1",
    ),
    ("--test 10000", "--test 2 --val 1"),
    ("--test 1000", "--test 1 --val 0"),
    ("ablate mpsm --split flickr1k", 'ablate mpsm --only "without KGID" --split flickr1k'),
    ('--only "global only" --only "local only" --only "joint training"', '--only "joint training"'),
    ("ablate mefn --split", 'ablate mefn --only "without MFE" --split'),
    ('--only "without tags" --only "only GRU" --only "only BERT"', '--only "without tags"'),
    ("glfn:embed=256,glfn:embed=512,glfn,glfn:embed=1536", "glfn:embed=256"),
    ("glfn:word=100,glfn:word=200,glfn,glfn:word=500,glfn:compress=false", "glfn:compress=false"),
    ("--model facebook/detr-resnet-50@no_timm", "--model scenes-detector --regions 6"),
)
# The method whose run stands for that of another.
READY = {"pfan": "glfn", "scan": "glfn", "sgraf": "mpsm", "vsepp": "dual", "cmfg": "mefn", "scl": "dual"}
MODELS = {
    "google/vit-base-patch16-224": "vit",
    "google-bert/bert-base-uncased": "bert",
    "openai/clip-vit-base-patch32": "clip",
}


def commands() -> list[list[str]]:
    """The `itmkit` lines of the page, smaller."""
    text = PAGE.read_text(encoding="utf-8")
    for written, here in SMALLER:
        assert written in text
        text = text.replace(written, here)
    lines = re.findall(r"^    itmkit (.*)$", text, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


@pytest.fixture
def workspaces(trained: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """f30k, coco, f8k, mirflickr and nuswide beside each other, all with the same pictures, labels and runs."""
    for name in ("f30k", "coco", "f8k", "mirflickr", "nuswide"):
        shutil.copytree(trained.root, tmp_path / name, ignore=shutil.ignore_patterns("plots"))
        remove_folder(tmp_path / name / "runs")
    test = len(trained.dataset().split("test"))
    for name in ("flickr1k", "f8k", "coco5k", "coco1k"):
        monkeypatch.setitem(PROTOCOLS, name, replace(PROTOCOLS[name], images=test, folds=2 if name == "coco1k" else 1))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def ready_runs(trained: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that trains checks its settings and caches, and finds a run that is finished."""
    real = training.train

    def train(workspace: Workspace, config: RunConfig, *, run: str | None = None, **options: Any) -> Any:
        name = run or config.method
        folder = workspace.run(name)
        settled(workspace, config, folder)
        if not RunFacts.exist(folder):
            ready = trained.run(READY.get(config.method, config.method))
            shutil.copytree(ready, folder, ignore=shutil.ignore_patterns("eval-*", "ranks-*"))
        return real(workspace, read_config(folder / "config.toml"), run=name)

    for module in ("training.train", "studies.compare", "studies.ablate"):
        monkeypatch.setattr(f"itmkit.{module}.train", train)


def write_downloads(folder: Path) -> None:
    """In small, the files that the page says are needed."""
    for name, images in (("flickr30k", "flickr30k-images"), ("coco", "coco"), ("flickr8k", "flickr8k-images")):
        entries = []
        for number, split in enumerate(("train", "val", "test")):
            file = save_picture(folder / images / f"{number}.jpg", colour=number)
            sentence = {"raw": "a dog", "tokens": ["a", "dog"], "sentid": number, "imgid": number}
            entries.append(
                {"filename": file.name, "split": split, "imgid": number, "sentids": [number], "cocoid": number}
            )
            entries[-1]["sentences"] = [sentence]
        (folder / f"dataset_{name}.json").write_text(json.dumps({"images": entries, "dataset": name}))
    official(folder / "archive")
    (folder / "archive").rename(folder / "mirflickr-25k")
    make(folder / "NUS-WIDE")


def test_every_command_of_the_page(
    workspaces: Path, trained: Workspace, ready_runs: None, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr("itmkit.report.plots.save", lambda figure, path, **options: write_text(path, ""))
    write_downloads(workspaces)
    written = commands()
    assert len(written) > 50
    image = trained.dataset().split("test")[0]
    for words in written:
        words = [str(trained.root.parent / MODELS[word]) if word in MODELS else word for word in words]
        if words[0] == "prepare":  # not over the workspaces of this test
            words = ["mirflickr-25k" if word == "mirflickr" and at == 2 else word for at, word in enumerate(words)]
            words = [*words[: words.index("-w") + 1], f"prepared/{words[-1]}"]
        if "--image" in words:
            words[words.index("--image") + 1], words[words.index("--caption") + 1] = image.id, image.captions[0].text
        if words[:2] == ["plot", "categories"]:  # which the pictures here have not
            assert run(cli, words) == 2 and "by super-category" in capsys.readouterr().err
            continue
        assert run(cli, words) == 0, (words, capsys.readouterr().err)
    assert (workspaces / "f30k/plots/alpha-flickr1k.svg").is_file()
    assert {path.name for path in (workspaces / "trec").iterdir()} >= {"own-i2t.run", "own-t2i.qrels"}
    assert len(Workspace(workspaces / "prepared/mirflickr").dataset().images) == 6
    assert len(Workspace(workspaces / "prepared/nuswide").dataset().images) == 2
