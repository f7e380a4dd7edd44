"""A folder of photographs is searched after one command, and again after others have come, moved or gone."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from PIL import Image

import itmkit
from itmkit.cache import CacheReader
from itmkit.commands import cli
from itmkit.commands.console import run
from itmkit.embed.dual import DualEncoder
from itmkit.errors import ItmkitError
from itmkit.index.search import Searcher
from itmkit.index.store import Store
from itmkit.job import Job
from itmkit.photos import photos
from itmkit.regions.extract import extract_regions
from itmkit.runs.settings import resolve
from itmkit.training.untrained import write_untrained
from itmkit.workspace import Workspace
from tests.embed.tiny_duals import build_dual


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_dual("clip", tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    for number in range(5):
        paint(folder / f"{number % 2}/{number}.png", number)
    return folder


def paint(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (24, 32, 3), np.uint8)).save(path)


TRIED = [1, 2, 2]  # a grey picture, and two unlike ones twice: what a model is looked at with when it is loaded


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures the model is given each time."""
    given: list[int] = []
    whole = DualEncoder.image_vectors

    def counting(self: DualEncoder, prepared: list, *, batch: int) -> np.ndarray:
        given.append(len(prepared))
        return whole(self, prepared, batch=batch)

    monkeypatch.setattr(DualEncoder, "image_vectors", counting)
    return given


def found(workspace: Workspace, query: str) -> list[str]:
    with itmkit.open(workspace.run("photos")) as matcher:
        return [hit.image for hit in Searcher(Store(workspace.root / "index"), matcher).text(query)]


def test_photos_are_found_and_new_ones_alone_are_encoded(
    pictures: Path, clip: Path, tmp_path: Path, encoded: list[int]
) -> None:
    home, job = Workspace(tmp_path / "work"), Job(workers=1, shard_size=2)
    (pictures / "broken.jpg").write_bytes(b"no picture")
    result = photos(home, pictures, model=str(clip), job=job)
    assert (result.images, result.encoded) == (5, 5) and "broken.jpg" in result.left_out[0]
    query = "a red dog"
    files = [home.image_path(image.file or "") for image in home.dataset().images]
    with itmkit.open(home.run("photos")) as matcher:
        scores = matcher.score(files, [query])[:, 0]
    ids = [image.id for image in home.dataset().images]
    assert found(home, query) == [ids[place] for place in np.argsort(-scores)]

    shard = (home.cache("vectors-clip/images") / "shard-00000.h5").stat()
    paint(pictures / "0/00 first of all.png", 9)
    (pictures / "1/1.png").unlink()
    (pictures / "0/2.png").rename(pictures / "0/moved.png")
    encoded.clear()
    result = photos(home, pictures, model=str(clip), job=job)
    assert (result.images, result.encoded) == (5, 1)
    assert encoded == [*TRIED, 2] and (home.cache("vectors-clip/images") / "shard-00000.h5").stat() == shard
    assert "no longer indexed: 1" in result.notes[-1]
    assert sorted(found(home, query)) == ["0/0.png", "0/00 first of all.png", "0/2.png", "0/4.png", "1/3.png"]
    encoded.clear()
    assert photos(home, pictures, model=str(clip), job=job).encoded == 0 and encoded == TRIED


def test_the_command_says_what_comes_next_and_status_knows(
    pictures: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = ["-w", str(tmp_path / "work")]
    assert run(cli, ["photos", str(pictures), "--model", str(clip), "--workers", "1", *work]) == 0
    told = capsys.readouterr().out
    assert (
        "5 photographs, 5 of them new" in told
        and f'next: itmkit search "two dogs in the snow" {" ".join(work)}' in told
    )
    assert run(cli, ["status", *work]) == 0
    told = capsys.readouterr().out
    assert "all 5 images 0 captions" in told and "next:" not in told and "text " not in told
    paint(pictures / "new.png", 9)
    assert run(cli, ["prepare", "images", str(pictures), "--add", *work]) == 0
    assert run(cli, ["status", *work]) == 0
    told = capsys.readouterr().out
    assert re.search(r"vectors-clip/images +│ partial .* images were added since", told)
    assert "next: itmkit embed --cache clip" in told and "--force" not in told.rpartition("next:")[2]
    for command in (
        ["parse-text"], ["train", "--method", "mpsm"], ["evaluate", "--run", "photos"], ["embed", "--only", "texts"],
        ["encode-text", "--model", str(clip)], ["build-graphs", "--only", "texts"],
    ):  # fmt: skip
        assert run(cli, [*command, *work]) == 2
        told = capsys.readouterr().err
        assert told.count("error: ") == 1 and "needs captions" in told and "`itmkit prepare csv --force`" in told


def test_regions_of_photographs_grow_too(pictures: Path, tmp_path: Path) -> None:
    from itmkit.datasets.pictures import prepare_images
    from itmkit.graphs import build_graphs

    home, ways = Workspace(tmp_path / "work"), {"model": "scenes-detector", "regions": 3}
    prepare_images(home, pictures)
    extract_regions(home, **ways, job=Job(workers=1, shard_size=2))  # type: ignore[arg-type]
    names = ("features", "boxes", "tags", "attributes")
    reader = CacheReader.open(home.cache("regions"))
    before = {name: reader.read_all(name) for name in names}
    paint(pictures / "new.png", 9)
    prepare_images(home, pictures, add=True)
    result = extract_regions(home, **ways, job=Job(workers=1))  # type: ignore[arg-type]
    assert (result.images, result.done_now) == (6, 2)
    grown = CacheReader.open(home.cache("regions"))
    assert list(grown.ids) == [image.id for image in home.dataset().images]
    for name in names:
        np.testing.assert_allclose(grown.read_all(name)[:5], before[name], atol=1e-3)
    assert build_graphs(home).texts is None


def test_a_model_is_fetched_only_after_asking(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    fetched: list[str] = []

    def embed(workspace: Workspace, *, model: str, **_: object) -> None:
        fetched.append(model)
        raise ItmkitError("enough")

    monkeypatch.setattr("itmkit.photos.embed", embed)
    command = ["photos", str(pictures), "-w", str(tmp_path / "work")]
    assert run(cli, command) == 2
    assert "--yes fetches it from the Hugging Face hub (about 1.5 GB)" in capsys.readouterr().err and not fetched
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    for answer in (False, True):
        monkeypatch.setattr(click, "confirm", lambda text, answer=answer, **_: answer)
        assert run(cli, command) == 2
        assert ("nothing was fetched" in capsys.readouterr().err) is not answer
    assert run(cli, [*command, "--yes"]) == 2
    assert fetched == ["google/siglip2-base-patch16-224"] * 2


def test_no_other_process_writes_the_data_set_meanwhile(pictures: Path, tmp_path: Path) -> None:
    home = Workspace(tmp_path / "work")
    with home.preparing(), pytest.raises(ItmkitError, match="another process is preparing this data set"):
        photos(home, pictures, model="none")


def test_a_method_that_trains_is_not_written_untrained(tmp_path: Path) -> None:
    with pytest.raises(ItmkitError, match="run `itmkit train --method vsepp`"):
        write_untrained(Workspace(tmp_path), resolve("vsepp"), "run")
