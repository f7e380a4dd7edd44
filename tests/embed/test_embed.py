"""The stage embed, with tiny dual encoders on disk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from itmkit.cache import CacheReader, Part, merge_parts, text_key
from itmkit.commands import cli
from itmkit.commands.console import run as run_command
from itmkit.dataset import Caption, ImageRecord, read_dataset, write_dataset
from itmkit.embed import embed as stage
from itmkit.embed.dual import DualEncoder, load_dual
from itmkit.embed.embed import EmbedResult, embed
from itmkit.errors import ItmkitError
from itmkit.files import sha256_file
from itmkit.pictures import stage as pictures
from itmkit.pictures.load import load_image
from itmkit.stages import require
from itmkit.status import status
from itmkit.workspace import Workspace
from tests import jobs
from tests.embed.tiny_duals import LIMIT, build_dual
from tests.regions.tiny_vits import build_vit

LONG = "a red dog and a blue ball and the cat and a ball runs"
PICTURES = 7


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    return make(tmp_path / "work")


def make(root: Path, *, first: str = "a dog runs") -> Workspace:
    """Each picture has the caption `first`, one of its own, and a long one of its own: 15 distinct ones."""
    work = Workspace(root)
    (root / "images").mkdir(parents=True, exist_ok=True)
    records = []
    for n in range(PICTURES):
        path = root / "images" / f"{n}.png"
        if not path.exists():
            Image.new("RGB", (40 + 7 * n, 30 + 3 * n), (30 * n, 250 - 20 * n, 10)).save(path)
        texts = (first, f"{'the ' * n}cat", f"{LONG} {'a ' * n}".strip())
        captions = tuple(Caption(f"p{n}#{k}", text) for k, text in enumerate(texts))
        records.append(ImageRecord(f"p{n}", "train", captions, file=f"images/{n}.png", sha256=sha256_file(path)))
    write_dataset(work.dataset_path, records, kind="pairs", settings={})
    return work


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return build_dual("clip", tmp_path / "models" / "tiny-clip")


def run(work: Workspace, model: Path | None, **options: Any) -> EmbedResult:
    return embed(work, model=None if model is None else str(model), **jobs.options(device="cpu", **options))


def distinct(work: Workspace) -> list[str]:
    return list(dict.fromkeys(c.text for image in read_dataset(work.dataset_path).images for c in image.captions))


def test_rows(work: Workspace, clip: Path) -> None:
    result = run(work, clip)
    assert (result.images, result.captions, result.truncated, result.limit) == (7, 15, 7, LIMIT)
    assert result.path == work.cache("vectors-tiny-clip") and result.done_now == 22 and not result.unchanged
    images = CacheReader.open(result.path / "images")
    texts = CacheReader.open(result.path / "texts")
    assert images.ids == [f"p{n}" for n in range(7)] and texts.ids == [text_key(text) for text in distinct(work)]
    assert images.columns["vector"].dtype == texts.columns["vector"].dtype == "float32"
    dual = load_dual(clip)
    for text in ("a dog runs", LONG, "the the cat"):
        (row,) = texts.rows([text_key(text)])
        alone = dual.text_vectors([text], dual.token_counts([text]), batch=1)[0]
        np.testing.assert_allclose(texts.read("vector", [row])[0], alone, atol=1e-5)
        assert texts.read("tokens", [row])[0] == len(text.split()) + 2
    alone = dual.image_vectors([dual.prepare(load_image(work.root / "images" / "5.png"))], batch=1)
    np.testing.assert_allclose(images.read("vector", [5]), alone, atol=1e-5)
    assert not np.allclose(np.linalg.norm(alone), 1)  # not normalised on disk
    made = images.manifest.made_by
    assert made.model is not None and made.model["id"] == "tiny-clip" and made.settings == {"part": "images"}
    assert made.model["sha256"] == sha256_file(clip / "model.safetensors")


def test_precision(work: Workspace, clip: Path) -> None:
    run(work, clip, precision="float16")
    for part in ("images", "texts"):
        made = CacheReader.open(work.cache("vectors-tiny-clip") / part).manifest.made_by
        assert made.settings == {"part": part, "precision": "float16"}
    assert run(work, None).unchanged
    with pytest.raises(ItmkitError, match="precision"):
        run(work, clip)
    with pytest.raises(ItmkitError) as caught:
        run(work, clip, precision="half", only="words")
    assert len(caught.value.problems) == 2


def test_again_and_without_naming_the_model(work: Workspace, clip: Path) -> None:
    with pytest.raises(ItmkitError, match="--model is needed"):
        run(work, None)
    run(work, clip)
    again = run(work, clip)
    assert again.unchanged and (again.images, again.captions, again.truncated) == (7, 15, 7)
    assert run(work, None).unchanged and run(work, None, cache="tiny-clip").unchanged
    run(work, clip, cache="other")
    with pytest.raises(ItmkitError, match="--model is needed"):
        run(work, None)  # which of the two?
    with pytest.raises(ItmkitError, match=r"model\.sha256 changed"):
        run(work, build_dual("clip", clip.parent / "2" / "tiny-clip", seed=1))
    settings = json.loads((clip / "tokenizer_config.json").read_text())
    (clip / "tokenizer_config.json").write_text(json.dumps({**settings, "model_max_length": 7}))
    with pytest.raises(ItmkitError, match=r"model\.settings_sha256 changed"):
        run(work, clip)
    assert run(work, clip, force=True).limit == 7


def test_captions_that_are_the_same_to_the_model(work: Workspace, clip: Path) -> None:
    cut = ("a dog " * LIMIT, "a dog " * LIMIT + "runs")
    for texts in (("a dog runs", "A dog runs"), cut):
        captions = tuple(Caption(f"p#{n}", text) for n, text in enumerate(texts))
        write_dataset(work.dataset_path, [ImageRecord("p", "train", captions)], kind="pairs", settings={})
        assert run(work, clip, only="texts", force=True).captions == 2


def test_only_one_part(work: Workspace, clip: Path) -> None:
    result = run(work, clip, only="texts")
    assert (result.images, result.captions, result.done_now) == (None, 15, 15)
    assert not (result.path / "images").exists()
    assert [row.stage for row in status(work)][-1] == "vectors-tiny-clip/texts"
    result = run(work, clip)
    assert result.done_now == 7
    with pytest.raises(ItmkitError, match="images and texts"):
        run(work, clip, only="words")


@pytest.mark.parametrize("stop", [4, 6])
def test_resumed_images_are_byte_identical(
    tmp_path: Path, work: Workspace, clip: Path, stop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at the boundary of a shard (4) and in the middle of the second one (6)."""
    monkeypatch.setattr(pictures, "LEAST_GROUP", 2)
    whole = Workspace(shutil.copytree(work.root, tmp_path / "whole"))
    run(whole, clip, shard_size=4, batch=1)
    seen, vectors = [-5], DualEncoder.image_vectors

    def dying(self: DualEncoder, images: Any, *, batch: int) -> Any:
        seen[0] += len(images)  # from -5: the pictures it is tried with do not count
        if seen[0] > stop:
            raise KeyboardInterrupt
        return vectors(self, images, batch=batch)

    with monkeypatch.context() as patch:
        patch.setattr(DualEncoder, "image_vectors", dying)
        with pytest.raises(KeyboardInterrupt):
            run(work, clip, shard_size=4, batch=1)
    row = status(work)[-1]
    assert (row.stage, row.state, row.command) == (
        "vectors-tiny-clip/images", "partial", "itmkit embed --cache tiny-clip",
    )  # fmt: skip
    assert run(work, None, shard_size=4, batch=1).done_now == 22 - 4
    same(work, whole)


@pytest.mark.parametrize("pieces", [2, 3])
def test_resumed_captions_are_byte_identical(
    tmp_path: Path, work: Workspace, clip: Path, pieces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards of 8 captions in pieces of 4: killed at the boundary of one (2) and in the middle of the second (3)."""
    monkeypatch.setattr(stage, "PIECE", 4)
    whole = Workspace(shutil.copytree(work.root, tmp_path / "whole"))
    run(whole, clip, shard_size=8)
    seen, vectors = [0], DualEncoder.text_vectors

    def dying(self: DualEncoder, texts: Any, counts: Any, *, batch: int) -> Any:
        seen[0] += 1
        if seen[0] > pieces:
            raise KeyboardInterrupt
        return vectors(self, texts, counts, batch=batch)

    with monkeypatch.context() as patch:
        patch.setattr(DualEncoder, "text_vectors", dying)
        with pytest.raises(KeyboardInterrupt):
            run(work, clip, shard_size=8)
    result = run(work, None, shard_size=8)
    assert result.done_now == 15 - 8 and result.truncated == 7
    same(work, whole)


def same(work: Workspace, whole: Workspace) -> None:
    files = sorted(f.relative_to(whole.root) for f in whole.cache("vectors-tiny-clip").rglob("*") if f.is_file())
    assert len(files) >= 6
    for file in files:
        assert (work.root / file).read_bytes() == (whole.root / file).read_bytes(), file


def test_parts_make_the_caches_one_process_makes(tmp_path: Path, work: Workspace, clip: Path) -> None:
    whole = Workspace(shutil.copytree(work.root, tmp_path / "whole"))
    run(whole, clip, shard_size=4)
    assert run(work, clip, shard_size=4, part=Part(1, 2)).images == 3
    row = status(work)[-1]
    assert (row.stage, row.state, row.command) == (
        "vectors-tiny-clip/texts", "partial", "itmkit embed --cache tiny-clip --shard 0/2",
    )  # fmt: skip
    result = run(work, None, part=Part(0, 2))  # as the other part was begun
    assert (result.images, result.captions, result.truncated) == (4, 8, None)
    for side in ("images", "texts"):
        merge_parts(result.path / side)
    same(work, whole)


def test_unreadable_pictures(work: Workspace, clip: Path) -> None:
    (work.root / "images" / "3.png").write_bytes(b"no picture")
    make(work.root)
    with pytest.raises(ItmkitError, match=r"3\.png: not a picture"):
        run(work, clip, strict=True)
    result = run(work, clip)
    assert (result.images, result.captions) == (6, 15) and [item["id"] for item in result.skipped] == ["p3"]
    assert {row.stage: row.skipped for row in status(work)}["vectors-tiny-clip/images"] == 1
    Image.new("RGB", (9, 9)).save(work.root / "images" / "2.png")
    with pytest.raises(ItmkitError, match=r"2\.png: changed since"):
        run(work, clip, force=True)


def test_states(work: Workspace, clip: Path) -> None:
    run(work, clip)
    rows = {row.stage: row for row in status(work)}
    images, texts = "vectors-tiny-clip/images", "vectors-tiny-clip/texts"
    assert rows[images].state == rows[texts].state == "done" and rows[texts].count == 15
    make(work.root, first="a cat runs")
    rows = {row.stage: row for row in status(work)}
    assert (rows[images].state, rows[texts].state) == ("done", "stale")
    assert rows[texts].detail == "captions changed since"
    assert rows[texts].command == "itmkit embed --cache tiny-clip --force"
    with pytest.raises(ItmkitError, match="run `itmkit embed --cache tiny-clip --force`"):
        require(work, images, texts)
    with pytest.raises(ItmkitError, match=r"inputs\.captions changed"):
        run(work, clip, only="texts")
    run(work, clip, only="texts", force=True)
    require(work, images, texts)


def test_wrong_models_and_names(work: Workspace, clip: Path, tmp_path: Path) -> None:
    vit = build_vit("vit", tmp_path / "vit")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(clip / file, vit / file)
    with pytest.raises(ItmkitError, match="is no dual encoder"):
        run(work, vit)
    with pytest.raises(ItmkitError, match="--cache 'a/b'"):
        run(work, clip, cache="a/b")
    assert not (work.root / "caches").exists()


def test_command(
    work: Workspace, clip: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clip.parent)  # a model's path is relative to the current folder
    command = ["embed", "-w", str(work.root), "--device", "cpu"]
    assert run_command(cli, [*command, "--model", "./tiny-clip", "--cache", "c"]) == 0
    told = capsys.readouterr().out
    assert "7 pictures and 15 distinct captions, vectors of 12" in told
    assert "7 captions are longer than 10 tokens and were cut" in told
    assert run_command(cli, command) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert run_command(cli, [*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["truncated"] == 7
    assert run_command(cli, [*command, "--model", "nobody/no-such-model/there"]) == 2
    assert "Traceback" not in capsys.readouterr().err
