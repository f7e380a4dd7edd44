"""Imported weights score as the published code does, worked out in plain loops."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from itmkit.commands import cli
from itmkit.commands.console import run
from itmkit.errors import ItmkitError
from itmkit.evaluation.evaluate import evaluate
from itmkit.import_checkpoint.write import import_checkpoint
from itmkit.inputs import Inputs
from itmkit.inputs.vocabulary import Vocabulary
from itmkit.runs.open import open_run
from itmkit.scoring.engine import Scoring
from itmkit.trained import open_matcher
from itmkit.workspace import Workspace
from tests.import_checkpoint import literal
from tests.import_checkpoint.published import (
    CAPTIONS,
    RCAR,
    READ,
    chan_model,
    features,
    options,
    rcar_model,
    save,
    scan_model,
    scan_options,
    sgraf_model,
    vocabulary,
    vseinf_model,
    workspace_of,
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    workspace_of(folder)
    vocabulary(folder / "vocab.json")
    return folder


def scored(place: Path, name: str) -> np.ndarray:
    """What the run of this name scores the images and captions of test."""
    workspace = Workspace(place / "work")
    opened = open_run(workspace, name, device=torch.device("cpu"))
    inputs = Inputs(workspace, workspace.dataset().split("test"), opened.vocabulary, opened.needs)
    (matcher,) = opened.members.values()
    matcher.eval()
    with torch.inference_mode():
        images: Any = matcher.encode_images(inputs.image_batch(np.arange(4)))
        return matcher.score(images, matcher.encode_texts(inputs.text_batch(np.arange(4)))).numpy()


SCAN = [(way, pool) for way in ("t2i", "i2t") for pool in ("Mean", "LogSumExp")]
CHAN = {"text_enc_type": "bigru", "coding_type": "VHACoding", "belta": 0.1, "alpha": None}
CASES: dict[str, tuple[Any, Any, Any]] = {
    **{
        f"scan-{way}-{pool}": (scan_model(), scan_options(way, pool), partial(literal.scan, way=way, pool=pool))
        for way, pool in SCAN
    },
    **{
        f"sgraf-{module}": (
            sgraf_model(module), options(module_name=module, sgr_step=2), partial(literal.sgraf, module=module)
        )
        for module in ("SGR", "SAF")
    },
    "vseinf": (vseinf_model(), options(), literal.vseinf),
    **{
        f"rcar-{way}-{kind}": (
            rcar_model(kind, steps),
            options(**{**RCAR, "attn_type": way, "self_regulator": kind, step: steps}),
            partial(literal.rcar, way=way, regulators=here, steps=steps),
        )
        for way, kind, step, here, steps in (
            ("t2i", "coop_rcar", "rcar_step", "both", 2), ("i2t", "coop_rcar", "rcar_step", "both", 3),
            ("t2i", "only_rcr", "rcr_step", "rcr", 2), ("i2t", "only_rar", "rar_step", "rar", 2),
        )
    },
    **{
        f"chan-{kind}-{pool}": (
            chan_model(attention=kind == "selfattention"),
            options(**{**CHAN, "precomp_enc_type": kind, "pooling_type": pool}),
            partial(literal.chan, pool=pool, attention=kind == "selfattention"),
        )
        for kind, pool in (("selfattention", "LSEPooling"), ("basic", "MeanPooling"))
    },
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_scores_are_those_of_the_published_model(place: Path, name: str) -> None:
    model, opt, score = CASES[name]
    file = save(place / f"{name}.pth.tar", model, opt)
    import_checkpoint(Workspace(place / "work"), file, vocabulary=place / "vocab.json", run=name)
    expected = score(model, features(place))
    assert np.abs(scored(place, name)[: len(expected)] - expected).max() < 1e-5


def test_a_weight_of_two_factors_is_their_product(place: Path) -> None:
    images, texts = scan_model()
    v, g = images.pop("fc.weight"), torch.tensor(1.7)
    file = save(place / "wn.pth.tar", [{**images, "fc.weight_v": v, "fc.weight_g": g}, texts],
                scan_options(precomp_enc_type="weight_norm"))  # fmt: skip
    import_checkpoint(Workspace(place / "work"), file, vocabulary=place / "vocab.json", run="wn")
    plain = [{**images, "fc.weight": literal.merged(g, v)}, texts]
    assert np.abs(scored(place, "wn") - literal.scan(plain, features(place), "t2i", "Mean")).max() < 1e-5


def test_a_run_that_every_command_takes(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, work = save(place / "model_best.pth.tar", scan_model(), scan_options()), str(place / "work")
    command = ["import-checkpoint", str(file), "--vocabulary", str(place / "vocab.json"), "-w", work]
    assert run(cli, [*command, "--as", "scan"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "SCAN t2i as scan, epoch 3, validated at rsum 411.5, 15 words" in told
    assert run(cli, ["evaluate", "--run", "published-scan-t2i", "-w", work, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["results"][0]["captions"] == 4
    folder = place / "work" / "runs" / "published-scan-t2i"
    assert json.loads((folder / "imported.json").read_text())["checkpoint"] == "model_best.pth.tar"
    assert "/home/someone" not in "".join(
        path.read_text() for path in folder.glob("*.*") if path.suffix != ".safetensors"
    )
    with open_matcher(folder) as matcher:  # new captions are cut into the same words
        ids = [image.id for image in Workspace(place / "work").dataset().split("test")]
        same = matcher.score(ids, list(CAPTIONS))
        explained = matcher.explain(ids[0], CAPTIONS[0])
    assert np.abs(same - literal.scan(scan_model(), features(place), "t2i", "Mean")).max() < 1e-5
    assert explained.words.words == ["<start>", "a", "dog", "runs", ".", "<end>"]
    assert explained.words.heads == []
    assert run(cli, command) == 2  # the name is taken
    assert "--force" in capsys.readouterr().err
    assert run(cli, [*command, "--force"]) == 0


def test_scores_are_not_rounded_on_hardware_that_could(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("itmkit.machine.precision.has_bfloat16", lambda device: True)
    workspace = Workspace(place / "work")
    file = save(place / "exact.pth.tar", scan_model(), scan_options())
    folder = import_checkpoint(workspace, file, vocabulary=place / "vocab.json", run="exact").run
    assert evaluate(workspace, ["exact"]).precision == "float32"
    assert evaluate(workspace, ["exact"], scoring=Scoring(precision="bfloat16")).precision == "bfloat16"
    own = Path(shutil.copytree(folder, folder.with_name("own")))
    (own / "imported.json").unlink()
    assert evaluate(workspace, ["own"]).precision == "bfloat16"
    assert evaluate(workspace, ["own"], against="exact").precision == "float32"


def test_words_are_numbered_as_published(place: Path) -> None:
    workspace = Workspace(place / "work")
    file = save(place / "numbers.pth.tar", scan_model(), scan_options())
    import_checkpoint(workspace, file, vocabulary=place / "vocab.json", run="numbers")
    opened = open_run(workspace, "numbers", device=torch.device("cpu"))
    batch = Inputs(workspace, workspace.dataset().split("test"), opened.vocabulary, opened.needs).text_batch(
        np.arange(4)
    )
    assert batch.words is not None
    found = [row[mask].tolist() for row, mask in zip(batch.words, batch.mask, strict=True)]
    assert found == [list(caption) for caption in READ]
    assert (
        Vocabulary.read(place / "work/runs/numbers/vocabulary.json").lower is False
    )  # only ASCII letters were made small


def test_places_among_regions_need_all_of_them(tmp_path: Path) -> None:
    workspace = workspace_of(tmp_path, regions=20)
    file = save(tmp_path / "x.pth", sgraf_model("SAF"), options(module_name="SAF"))
    with pytest.raises(ItmkitError, match="needs 36 regions in the published order"):
        import_checkpoint(workspace, file, vocabulary=vocabulary(tmp_path / "v.json"))
    assert not (workspace.root / "runs").exists()


def test_a_method_that_reads_trees_says_what_is_missing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["train", "--method", "mpsm", "-w", str(place / "work")]) == 2
    assert "text-scan has the words of published code, without trees" in " ".join(capsys.readouterr().err.split())
    assert (
        run(cli, ["train", "--method", "scan", "--tokens", "scan", "--words", "bert", "-w", str(place / "work")]) == 2
    )
    assert "--tokens scan: frozen vectors are of the words of parse-text" in " ".join(capsys.readouterr().err.split())
