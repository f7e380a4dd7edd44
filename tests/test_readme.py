"""The commands of README.md run as written, in a folder of drawn pictures."""

from __future__ import annotations

import csv
import re
import shlex
from pathlib import Path

import pytest

import itmkit
from itmkit.commands import cli
from itmkit.commands.console import run
from itmkit.scenes import make_scenes
from itmkit.workspace import Workspace

README = Path(itmkit.__file__).parent.parent / "README.md"
# What takes too long for a test, or fetches: (as written, as run here).
SMALLER = (
    ("--model facebook/detr-resnet-50@no_timm", "--model scenes-detector --regions 6"),
    ("train --method mpsm", "train --method mpsm --epochs 1 --embed 8 --word 6 --similarity 4 --kernels 2"),
    ("train --method scan --recipe scenes", "train --method scan --recipe scenes --epochs 1 --embed 8 --word 6"),
)


def commands(block: str) -> list[list[str]]:
    """The `itmkit` lines between <!-- block --> and <!-- /block -->."""
    text = README.read_text(encoding="utf-8")
    (found,) = re.findall(rf"<!-- {block} -->(.*?)<!-- /{block} -->", text, re.DOTALL)
    for written, here in SMALLER:
        found = found.replace(written, here)
    lines = [shlex.split(line, comments=True) for line in found.splitlines()]
    return [words[1:] for words in lines if words[:1] == ["itmkit"]]


@pytest.mark.skipif(not README.is_file(), reason="needs a checkout")
def test_from_a_folder_of_pictures_to_a_table_and_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    drawn = Workspace(tmp_path / "photos")
    make_scenes(drawn, train=20, val=0, test=0)
    with open(tmp_path / "photos" / "captions.csv", "w", encoding="utf-8", newline="") as file:
        rows = [(image.file, caption.text) for image in drawn.dataset().images for caption in image.captions[:2]]
        csv.writer(file).writerows([("image", "caption"), *rows])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ITMKIT_WORKSPACE", "work")
    written = commands("photographs")
    assert len(written) <= 7
    for command in written:
        assert run(cli, command) == 0, capsys.readouterr().err
    told = capsys.readouterr().out
    assert "rsum" in told and "mpsm/distance" in told
    assert {path.name for path in Path("work/plots").glob("*.png")} == {"epochs.png", "cmc-test.png"}
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda address, *_: opened.append(address))
    Path("photos/images").rename("more")
    for command in commands("others"):
        assert run(cli, command) == 0, capsys.readouterr().err
    assert "the best 20 candidates scored by mpsm" in capsys.readouterr().out and len(opened) == 1
