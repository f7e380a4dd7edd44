"""The method on the page docs/new-method.md is one: it trains, is evaluated, and keeps the contract."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from itmkit.evaluation.evaluate import evaluate
from itmkit.matchers import METHODS
from itmkit.runs.begin import configured
from itmkit.training.train import train
from tests.matchers import test_contract as contract
from tests.training.tiny import FAST_TRAINING, make_workspace

PAGE = Path(__file__).parents[2] / "docs" / "new-method.md"
CASE: contract.Case = ("toy", "local", {})


@pytest.fixture(autouse=True)
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    (tmp_path / "toy_of_the_page.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(METHODS, "toy", "toy_of_the_page")


def test_it_is_trained_and_evaluated(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "work")
    config = configured(workspace, "toy", recipe="small", settings={**FAST_TRAINING, "embed": 8, "epochs": 1})
    assert list(train(workspace, config).best) == ["local"]
    assert evaluate(workspace, ["toy"]).rows[-1].name == "toy"


def test_it_keeps_the_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    contract.test_a_method_module_has_what_the_contract_asks("toy")
    contract.test_shapes("toy")
    contract.test_padding_does_not_change_scores(CASE)
    contract.test_a_pair_scores_the_same_in_any_company_and_order(CASE)
    contract.test_a_method_says_whether_training_compares_a_pair_as_if_it_were_alone(CASE)
    contract.test_scores_depend_on_both_sides_and_gradients_reach_every_parameter_that_a_stage_trains(CASE)
    contract.test_a_batch_without_any_region_has_finite_scores_and_gradients(CASE)
