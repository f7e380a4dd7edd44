"""The stage extract-patches, with tiny vision transformers on disk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from itmkit.cache import CacheReader
from itmkit.commands import cli
from itmkit.commands.console import run as cli_run
from itmkit.commands.console import run as run_command
from itmkit.errors import ItmkitError
from itmkit.files import sha256_file
from itmkit.pictures import stage as pictures
from itmkit.pictures.load import load_image
from itmkit.regions.patches import PatchesResult, extract_patches
from itmkit.regions.vit import PatchModel, load_patch_model
from itmkit.stages import require
from itmkit.status import status
from itmkit.workspace import Workspace
from tests import jobs
from tests.cache.test_parts import files
from tests.regions.test_extract import make, prepare
from tests.regions.tiny_models import build
from tests.regions.tiny_vits import build_vit


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    return make(tmp_path / "work")


@pytest.fixture
def vit(tmp_path: Path) -> Path:
    return build_vit("vit", tmp_path / "models" / "vit")


def run(work: Workspace, model: Path | None, **options: Any) -> PatchesResult:
    return extract_patches(work, model=None if model is None else str(model), **jobs.options(device="cpu", **options))


def stop_after(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """The model dies before it has seen more than `count` pictures, not counting the two it is tried with, twice."""
    seen, describe = [-4], PatchModel.describe

    def dying(self: PatchModel, images: Any, *, batch: int) -> Any:
        seen[0] += len(images)
        if seen[0] > count:
            raise KeyboardInterrupt
        return describe(self, images, batch=batch)

    monkeypatch.setattr(PatchModel, "describe", dying)


def test_columns(work: Workspace, vit: Path, decoding_children: None) -> None:
    result = run(work, vit, attention=True)
    assert (result.images, result.patches, result.dim, result.size, result.skipped) == (9, 16, 16, 32, [])
    assert result.path == work.cache("patches") and not result.unchanged and result.done_now == 9
    reader = CacheReader.open(work.cache("patches"))
    assert {name: (c.dtype, c.shape) for name, c in reader.columns.items()} == {
        "features": ("float16", (16, 16)), "boxes": ("float32", (16, 4)), "count": ("int16", ()),
        "cls": ("float16", (16,)), "attention": ("float32", (16,)), "size": ("int32", (2,)),
    }  # fmt: skip
    assert reader.ids == [f"p{i}" for i in range(9)] and reader.read_all("count").tolist() == [16] * 9
    image = load_image(work.root / "images" / "4.jpg")
    assert reader.read_all("size")[4].tolist() == list(image.size)
    np.testing.assert_allclose(reader.read_all("boxes")[4, -1, 2:], image.size)
    model = load_patch_model(vit, attention=True)
    features, cls, attention = model.describe([model.prepare(image)], batch=1)
    np.testing.assert_allclose(reader.read("features", [4]), features, atol=1e-2)
    np.testing.assert_allclose(reader.read("cls", [4]), cls, atol=1e-2)
    np.testing.assert_allclose(reader.read("attention", [4]), attention, atol=1e-5)
    made = reader.manifest.made_by
    assert made.model is not None and made.model["id"] == "vit" and made.settings == {"size": 32}
    assert made.model["sha256"] == sha256_file(vit / "model.safetensors")


def test_precision(work: Workspace, vit: Path) -> None:
    run(work, vit)
    exact = CacheReader.open(work.cache("patches")).read_all("features").astype(np.float32)
    with pytest.raises(ItmkitError, match="precision"):
        run(work, vit, precision="bfloat16")
    run(work, vit, precision="bfloat16", force=True)
    reader = CacheReader.open(work.cache("patches"))
    assert reader.manifest.made_by.settings == {"size": 32, "precision": "bfloat16", "attention": False}
    assert 0 < np.abs(reader.read_all("features") - exact).max() < 0.1
    assert run(work, None).unchanged
    with pytest.raises(ItmkitError, match="precision 'half': there are"):
        run(work, vit, precision="half")


def test_attention_is_stored_where_it_was_asked_for(work: Workspace, vit: Path) -> None:
    columns = lambda: set(CacheReader.open(work.cache("patches")).columns)  # noqa: E731
    run(work, vit)
    assert "attention" not in columns() and "cls" in columns()
    with pytest.raises(ItmkitError, match=r"attention.*extract-patches --force"):
        run(work, vit, attention=True)
    run(work, None, attention=True, force=True)  # as --image-nodes of CMFG asks for
    assert "attention" in columns()
    assert run(work, vit).unchanged and run(work, None).unchanged  # as begun, also by versions that always stored it
    with pytest.raises(ItmkitError, match=r"attention is 'nothing' in the cache, False now"):
        run(work, vit, attention=False)
    run(work, build_vit("vit", vit.parent / "other", seed=1), force=True)
    assert "attention" not in columns()


def test_parts_make_the_cache_one_process_makes(tmp_path: Path, work: Workspace, vit: Path) -> None:
    whole = Workspace(shutil.copytree(work.root, tmp_path / "whole"))
    command = ["extract-patches", "--device", "cpu", "--workers", "1"]
    assert cli_run(cli, [*command, "-w", str(whole.root), "--model", str(vit), "--shard-size", "2"]) == 0
    first = [*command, "-w", str(work.root), "--shard", "1/2"]
    assert cli_run(cli, [*first, "--model", str(vit), "--shard-size", "2"]) == 0
    assert cli_run(cli, [*command, "-w", str(work.root), "--shard", "0/2"]) == 0  # as the other part was begun
    assert cli_run(cli, ["merge", "-w", str(work.root)]) == 0
    assert files(work.cache("patches")) == files(whole.cache("patches"))


def test_boxes_of_very_large_pictures_are_in_their_own_pixels(work: Workspace, vit: Path) -> None:
    Image.new("RGB", (4000, 30)).save(work.root / "images" / "0.jpg")
    prepare(work)
    run(work, vit)
    reader = CacheReader.open(work.cache("patches"))
    assert reader.read("size", [0])[0].tolist() == [4000, 30]
    assert reader.read("boxes", [0])[0, -1].tolist() == [3000, 22.5, 4000, 30]


def test_again_and_without_naming_the_model(work: Workspace, vit: Path) -> None:
    run(work, vit, size=40)
    assert run(work, vit, size=40).unchanged
    again = run(work, None)
    assert again.unchanged and again.size == 40 and again.model == str(vit.resolve())
    with pytest.raises(ItmkitError, match=r"settings\.size is 40 in the cache, 32 now.*extract-patches --force"):
        run(work, vit)
    assert run(work, vit, force=True).patches == 16
    moved = vit.parent / "elsewhere" / "vit"
    moved.parent.mkdir()
    shutil.move(vit, moved)
    assert run(work, moved).unchanged  # a model is its weights and settings, wherever it lies
    other = build_vit("vit", vit, seed=1)
    with pytest.raises(ItmkitError, match=r"model\.sha256 changed"):
        run(work, other)


def test_resumed_is_byte_identical(tmp_path: Path, work: Workspace, vit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in the middle of a shard (3, 7) and at its boundary (4)."""
    monkeypatch.setattr(pictures, "LEAST_GROUP", 2)
    (work.root / "images" / "4.jpg").write_bytes(b"no picture")
    prepare(work)
    whole = Workspace(shutil.copytree(work.root, tmp_path / "whole"))
    run(whole, vit, shard_size=4, batch=1)
    for stop, done in ((0, 0), (3, 0), (4, 4), (7, 8)):
        killed = Workspace(shutil.copytree(work.root, tmp_path / str(stop)))
        with monkeypatch.context() as dying:
            stop_after(dying, stop)
            with pytest.raises(KeyboardInterrupt):
                run(killed, vit, shard_size=4, batch=1)
        state = status(killed)[-1]
        assert (state.stage, state.state, state.command) == ("patches", "partial", "itmkit extract-patches")
        result = run(killed, None, shard_size=4, batch=1)
        assert result.done_now == 9 - done and result.skipped[0]["id"] == "p4"
        for name in ("manifest.json", *(f"shard-0000{n}.h5" for n in range(3))):
            assert (killed.cache("patches") / name).read_bytes() == (whole.cache("patches") / name).read_bytes(), name


def test_unreadable_pictures(work: Workspace, vit: Path) -> None:
    (work.root / "images" / "3.jpg").write_bytes(b"no picture")
    prepare(work)
    with pytest.raises(ItmkitError, match=r"3\.jpg: not a picture"):
        run(work, vit, strict=True)
    result = run(work, vit)
    assert result.images == 8 and [item["id"] for item in result.skipped] == ["p3"]
    Image.new("RGB", (9, 9)).save(work.root / "images" / "2.jpg")
    with pytest.raises(ItmkitError) as caught:
        run(work, vit, force=True)
    assert "2.jpg: changed since" in caught.value.problems[0]
    assert "`itmkit extract-patches --force`" in caught.value.problems[1]


def test_several_caches_and_their_states(work: Workspace, vit: Path) -> None:
    assert "patches" not in {row.stage for row in status(work)}  # nobody made one
    run(work, vit)
    run(work, build_vit("dinov2", vit.parent / "dinov2"), cache="dinov2")
    rows = {row.stage: row for row in status(work)}
    assert list(rows)[-2:] == ["dinov2", "patches"]
    assert rows["dinov2"].state == rows["patches"].state == "done" and rows["dinov2"].count == 9
    require(work, "patches", "dinov2")
    Image.new("RGB", (9, 9)).save(work.root / "images" / "2.jpg")
    prepare(work)
    rows = {row.stage: row for row in status(work)}
    assert rows["dinov2"].state == "stale" and rows["dinov2"].detail == "images changed since"
    assert rows["dinov2"].command == "itmkit extract-patches --cache dinov2 --force"
    with pytest.raises(ItmkitError, match="run `itmkit extract-patches --force`"):
        require(work, "patches")
    (work.cache("patches") / "manifest.json").write_text("{")
    assert {row.stage: row.state for row in status(work)}["patches"] == "damaged"


@pytest.mark.parametrize("name", ["regions", "text", "graphs", "vectors-clip", "words-bert", "a/b", "..", ".x", ""])
def test_names_that_cannot_be(work: Workspace, vit: Path, name: str) -> None:
    with pytest.raises(ItmkitError, match="--cache"):
        run(work, vit, cache=name)


def test_no_model_and_wrong_models(work: Workspace, tmp_path: Path) -> None:
    with pytest.raises(ItmkitError, match="--model is needed"):
        run(work, None)
    with pytest.raises(ItmkitError, match="ViT, DeiT"):
        run(work, build("resnet", tmp_path / "resnet"))
    with pytest.raises(ItmkitError, match=r"size is 5"):
        run(work, tmp_path, size=5)
    assert not work.cache("patches").exists()


def test_command(
    work: Workspace, vit: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (work.root / "images" / "3.jpg").write_bytes(b"no picture")
    prepare(work)
    monkeypatch.chdir(vit.parent)  # a model's path is relative to the current folder
    command = ["extract-patches", "-w", str(work.root), "--device", "cpu"]
    assert run_command(cli, [*command, "--model", "vit", "--attention"]) == 0
    told = capsys.readouterr()
    assert "8 pictures, 16 patches x 16" in told.out and "p3: not a picture" in told.out and "vit on cpu" in told.err
    monkeypatch.chdir(work.root)
    assert run_command(cli, command) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert run_command(cli, [*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["patches"] == 16
    assert run_command(cli, [*command, "--model", "no/such/folder/there"]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert run_command(cli, ["inspect", str(work.cache("patches"))]) == 0
    assert "attention of [CLS]" in capsys.readouterr().out
    assert run_command(cli, ["inspect", str(work.root), "--verify"]) == 0
    assert "files, all as written" in capsys.readouterr().out
