from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from itmkit.inputs import Inputs, Sizes
from itmkit.inputs.vocabulary import Vocabulary
from itmkit.machine import precision
from itmkit.machine.precision import has_bfloat16, precision_of, products_in
from itmkit.matchers import as_matcher, build, method, preset
from itmkit.scoring.engine import Scoring, score_to_disk
from itmkit.scoring.stored import Kept
from tests.matchers.batches import SIZES, image_batch, text_batch
from tests.matchers.settings import config_of
from tests.training.tiny import FEATURES, GRAPHS, THINGS, make_workspace

VOCABULARY = Vocabulary.build([*THINGS, "a", "left"], minimum=1)
CPU = torch.device("cpu")
SMALL = {
    "mpsm": {"embed": 1024, "similarity": 16},
    "sgraf": {"embed": 1024, "similarity": 16},
    "scan": {"embed": 1024},
    "mefn": {"embed": 1024, "words": "gru"},
    "cmfg": {"embed": 1024, "images": "regions", "words": "gru"},
    "vsepp": {"embed": 1024},
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    workspace = make_workspace(tmp_path_factory.mktemp("precision"))
    return Inputs(workspace, workspace.dataset().split("train"), VOCABULARY, GRAPHS)


def scored(built: dict[str, nn.Module], inputs: Inputs, folder: Path, kind: str) -> dict[str, np.ndarray]:
    ways = {"images": np.arange(12), "texts": np.arange(24), "made_from": {"weights": "1"}}
    score_to_disk(built, inputs, folder, scoring=Scoring("cpu", precision=kind), **ways)  # type: ignore[arg-type]
    return {name: np.concatenate([rows for _, rows in Kept(folder / name).blocks()]) for name in built}


@pytest.mark.parametrize("name", SMALL)
def test_scores_of_rounded_products_are_near(name: str, inputs: Inputs, tmp_path: Path) -> None:
    """And those of whole precision are nearer still to float64."""
    config = method(name).Config(**preset(name), **SMALL[name])
    built = build(name, config, sizes=Sizes(feature=FEATURES, vocabulary=len(VOCABULARY)), seed=0)
    exact = scored(built, inputs, tmp_path, "float32")
    rounded = scored(built, inputs, tmp_path, "bfloat16")  # begun anew, though scores of these weights are there
    for member in built:
        difference = np.abs(rounded[member] - exact[member]).max()
        assert difference < 2e-3 and (difference > 0) == (name != "vsepp")


@pytest.mark.parametrize("name", ["mpsm", "sgraf", "rcar"])
def test_the_last_map_to_a_score_is_not_rounded(name: str) -> None:
    """Logits of 8 bits would make many scores equal, of which ranks then depend on the order of the images."""
    for matcher in map(as_matcher, build(name, config_of(name), sizes=SIZES, seed=0).values()):
        with torch.no_grad(), products_in("bfloat16", CPU):
            images, texts = matcher.encode_images(image_batch([4] * 500)), matcher.encode_texts(text_batch([3]))
            assert matcher.score(images, texts).unique().numel() > 450


@pytest.mark.parametrize("hardware", [False, True])
def test_products_are_rounded_and_nothing_else(hardware: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The processor may or may not have such products: either way the roundings are the same."""
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: hardware)
    random = torch.Generator().manual_seed(0)
    a, b = torch.randn(3, 4, 5, generator=random), torch.randn(3, 5, 2, generator=random)
    linear = nn.Linear(5, 2)
    expected = (a.bfloat16().double() @ b.bfloat16().double()).bfloat16().float()
    with products_in("bfloat16", CPU):
        for product in (a @ b, a.matmul(b), torch.bmm(a, b), torch.einsum("bij,bjk->bik", a, b)):
            assert product.dtype == torch.float32
            torch.testing.assert_close(product, expected, rtol=2**-7, atol=1e-2)
            assert torch.equal(product, product.bfloat16().float())
        mapped = linear(a)
        assert torch.equal(a + a, 2 * a) and torch.equal(a.exp(), torch.exp(a))
        assert (a.double() @ b.double()).dtype == torch.float64  # what is not float32 stays what it is
    assert torch.equal(mapped, mapped.bfloat16().float())
    assert not torch.equal(a @ b, (a @ b).bfloat16().float())


def test_auto_is_what_the_hardware_has(monkeypatch: pytest.MonkeyPatch) -> None:
    assert precision_of("float32", CPU) == "float32" and precision_of("bfloat16", CPU) == "bfloat16"
    for able, expected in (({"avx2": True}, "float32"), ({"amx_bf16": True}, "bfloat16"), ({}, "float32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: able)
        assert precision_of("auto", CPU) == expected
    assert not has_bfloat16(torch.device("meta"))
