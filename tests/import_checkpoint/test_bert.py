"""Weights with BERT score as the published code does, worked out in plain numpy; and what is wrong with one is said."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from itmkit.cache.command import command_of
from itmkit.cache.manifest import read_manifest
from itmkit.cache.name import CacheName
from itmkit.commands import cli
from itmkit.commands.console import run
from itmkit.errors import ItmkitError
from itmkit.import_checkpoint.write import import_checkpoint
from itmkit.parse_text.parse import parse_text
from itmkit.trained import open_matcher
from itmkit.workspace import Workspace
from tests.import_checkpoint import literal_bert as literal
from tests.import_checkpoint.published import (
    CAPTIONS,
    features,
    options,
    save,
    vocabulary,
    workspace_of,
)
from tests.import_checkpoint.test_scores import scored

HREM = {"nhead": 4, "residual_weight": 0.8}
CHAN = {"text_enc_type": "bert", "coding_type": "VHACoding", "pooling_type": "MeanPooling", "alpha": 0.1, "belta": 0.1}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    workspace = workspace_of(folder)
    vocabulary(folder / "vocab.json")
    (folder / "vocab.txt").write_text("\n".join(literal.PIECES) + "\n")
    parse_text(workspace, parser="wordpiece", model=str(folder / "vocab.txt"))
    return folder


CASES: dict[str, tuple[Any, Any, Callable[..., np.ndarray]]] = {
    "vseinf": (literal.vseinf_model(), options(), literal.vseinf),
    "esa": (literal.esa_model(bert=True), options(), literal.esa),
    "esa-gru": (literal.esa_model(bert=False), options(), literal.esa),
    "hrem": (literal.hrem_model(), options(**HREM), literal.hrem),
    "chan": (literal.chan_model(), options(**CHAN), literal.chan),
}


@pytest.mark.parametrize("name", CASES)
def test_scores_are_those_of_the_published_model(place: Path, name: str) -> None:
    model, opt, score = CASES[name]
    file = save(place / f"{name}.pth", model, opt)
    words = place / ("vocab.json" if name == "esa-gru" else "vocab.txt")
    import_checkpoint(Workspace(place / "work"), file, vocabulary=words, run=name)
    expected = score(model, features(place))
    assert expected.std() > 0.01  # else anything would do
    assert np.abs(scored(place, name) - expected).max() < 1e-5


def test_a_run_that_reads_new_captions_wherever_it_lies(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, opt, score = CASES["chan"]
    work = str(place / "work")
    file = save(place / "model_best.pth", model, opt)
    command = ["import-checkpoint", str(file), "--vocabulary", str(place), "-w", work, "--run", "own"]  # a folder
    assert run(cli, command) == 0
    assert "CHAN with BERT as chan, epoch 3, validated at rsum 411.5, 16 word pieces" in " ".join(
        capsys.readouterr().out.split()
    )
    assert run(cli, ["evaluate", "--run", "own", "-w", work, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["results"][0]["captions"] == 4
    ids = [image.id for image in Workspace(work).dataset().split("test")]
    with open_matcher(place / "work" / "runs" / "own") as matcher:
        assert np.abs(matcher.score(ids, list(CAPTIONS)) - score(model, features(place))).max() < 1e-5
        assert matcher.explain(ids[0], "Dogs.").words.words == ["[CLS]", "dog", "##s", ".", "[SEP]"]
    shutil.copytree(place / "work" / "runs" / "own", tmp_path / "elsewhere")
    with open_matcher(tmp_path / "elsewhere") as matcher:
        long = matcher.texts.batch(["dog " * 200, "xylophones"])
        assert long.words is not None
        assert long.mask.sum(1).tolist() == [202, 3]  # not cut after 100 words, as others are
        assert long.words[1, :3].tolist() == [2, 1, 3]
        assert matcher.texts.unknown(["a xylophone"]) == ["[UNK]"]


def test_its_bert_is_not_trained_here(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "--method", "vseinf", "--words", "own-bert", "-w", str(place / "work"), "--run", "new"]
    assert run(cli, command) == 2
    assert "its BERT comes with published weights" in " ".join(capsys.readouterr().err.split())
    assert not (place / "work" / "runs" / "new" / "run.json").exists()
    assert run(cli, [*command, "--tokens", "scan"]) == 2
    assert "BERT reads its own pieces of words" in " ".join(capsys.readouterr().err.split())


def without(model: list[Any], *names: str) -> list[Any]:
    return [{name: value for name, value in part.items() if not name.endswith(names)} for part in model]


def changed(model: list[Any], name: str, value: torch.Tensor) -> list[Any]:
    return [model[0], {**model[1], name: value}, *model[2:]]


CHAN_MODEL, ESA_MODEL = literal.chan_model(), literal.esa_model(bert=True)
EMBEDDINGS = "bert.embeddings"
WRONG: dict[str, tuple[Any, Any, str]] = {
    "a layer's tensor": (
        without(ESA_MODEL, "layer.1.output.dense.bias"), options(),
        "bert.encoder.layer.1.output.dense.bias of part 1 is missing",
    ),
    "its words": (without(ESA_MODEL, "word_embeddings.weight"), options(), "word_embeddings.weight of part 1 must be"),
    "its map": (without(CHAN_MODEL, "linear.weight"), options(**CHAN), "linear.weight of part 1 must be a matrix"),
    "more": (
        changed(CHAN_MODEL, "bert.more", torch.ones(2)), options(**CHAN),
        "bert.more of part 1: CHAN with BERT has no such tensor",
    ),
    "positions": (
        changed(ESA_MODEL, f"{EMBEDDINGS}.position_ids", torch.arange(512).flip(0)), options(),
        "position_ids of part 1 are not 0, 1, 2",
    ),
    "fewer positions": (
        changed(ESA_MODEL, f"{EMBEDDINGS}.position_embeddings.weight", torch.ones(40, literal.WIDTH)), options(),
        "position_embeddings.weight of part 1 has the shape (40, 128), (512, 128) is needed",
    ),
    "width": (
        changed(ESA_MODEL, f"{EMBEDDINGS}.word_embeddings.weight", torch.ones(16, 100)), options(),
        "its BERT has 100 numbers a token; a multiple of 64",
    ),
    "layers": (
        changed(ESA_MODEL, "bert.encoder.layer.9999.output.dense.bias", torch.ones(1)), options(),
        "its BERT has 10,000 layers",
    ),
    "a share": (literal.hrem_model(), options(nhead=4, residual_weight=0.7), "opt.residual_weight is not 0.8"),
    "no heads": (literal.hrem_model(), options(), "opt.nhead is missing"),
    "lengths": (ESA_MODEL, options(no_txtnorm=True), "opt.no_txtnorm is True"),
    "ESL": ([*CHAN_MODEL[:2], {"kernel_img_1.weight": torch.ones(4, 1, 4)}], options(), "holds ESL or X-Dim"),
    "ViT": ({"img_enc.visual_encoder.x": torch.ones(1), "txt_enc.bert.x": torch.ones(1)}, options(), "LAPS, D2S-VSE"),
    "no pooling": (CHAN_MODEL[:2], options(), "of no published model known here"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_scored_as_published_is_refused(
    place: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model, opt, said = WRONG[name]
    file = save(place / "wrong.pth", model, opt)
    command = ["import-checkpoint", str(file), "--vocabulary", str(place / "vocab.txt"), "-w", str(place / "work")]
    assert run(cli, [*command, "--run", "wrong"]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert said in error and "Traceback" not in error
    assert not (place / "work" / "runs" / "wrong").exists()


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (literal.PIECES[:-1], "has 15 word pieces, and bert.embeddings.word_embeddings.weight"),
        ((*literal.PIECES[:-1], "other"), "was cut with another vocabulary than"),
        ((*literal.PIECES[:-1], "a"), "has 'a' twice"),
        (literal.PIECES[1:], "begins with '[UNK]', not with [PAD]"),
        ((*literal.PIECES[:3], "sep"), "has no [SEP], so it is no vocabulary of BERT"),
        (None, "no such file; BERT's vocab.txt"),
    ],
)
def test_another_vocabulary_is_refused(place: Path, tmp_path: Path, lines: tuple[str, ...] | None, said: str) -> None:
    file = save(tmp_path / "x.pth", ESA_MODEL, options())
    if lines is not None:
        (tmp_path / "vocab.txt").write_text("\n".join(lines) + "\n")
    with pytest.raises(ItmkitError) as caught:
        import_checkpoint(Workspace(place / "work"), file, vocabulary=tmp_path / "vocab.txt", run="wrong")
    assert said in str(caught.value)
    assert not (place / "work" / "runs" / "wrong").exists()


def test_the_command_that_cuts_captions_again_names_its_vocabulary(place: Path) -> None:
    name = CacheName.of("text-wordpiece")
    manifest = read_manifest(place / "work" / "caches" / "text-wordpiece")
    assert command_of(name, manifest, {}) == f"parse-text --parser wordpiece --model {place / 'vocab.txt'}"
    assert command_of(name, None, {}) == "parse-text --parser wordpiece --model vocab.txt"
