"""Every method through the commands' own functions: trained on caches of all kinds, then evaluated."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from itmkit.errors import ItmkitError
from itmkit.evaluation.evaluate import evaluate
from itmkit.matchers import METHODS, method
from itmkit.runs.begin import configured
from itmkit.training.train import train
from itmkit.workspace import Workspace
from tests.training.tiny import FAST, FAST_TRAINING, make_workspace


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return make_workspace(tmp_path_factory.mktemp("methods"), tags=True, words=True, vectors=True)


@pytest.mark.parametrize("name", METHODS)
def test_trained_and_evaluated(name: str, workspace: Workspace) -> None:
    config = configured(workspace, name, recipe="small", settings={**FAST_TRAINING, **FAST.get(name, {}), "epochs": 1})
    result = train(workspace, config)
    members = method(name).members(config.matcher)
    assert list(result.best) == list(members)
    found = evaluate(workspace, [name])
    kind = "single" if len(members) == 1 else f"ensemble of {len(members)}"
    assert (found.rows[-1].name, found.rows[-1].kind) == (name, kind)
    facts = json.loads((workspace.run(name) / "run.json").read_text())
    assert facts["finished"] and set(facts["caches"]) == set(method(name).needs(result.config.matcher).caches)


def test_names_of_caches_that_were_left_open_are_settled_and_kept(workspace: Workspace, tmp_path: Path) -> None:
    config = configured(workspace, "mefn", recipe="small", settings={"words": "bert"})
    assert config.matcher.words_cache == "tiny"


@pytest.mark.parametrize("name", ["mefn", "scl"])
def test_class_vectors_and_a_patch_cache_of_another_name(name: str, tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, words=True, patches="patches-tiny")
    settings = {**FAST_TRAINING, **FAST[name], "epochs": 1, "images": "patches-tiny", "class_vectors": "both"}
    config = configured(workspace, name, recipe="small", settings={**settings, "words": "bert"})
    assert config.matcher.words_cache == "tiny"
    train(workspace, config)
    assert evaluate(workspace, [name]).rows[-1].name == name
    facts = json.loads((workspace.run(name) / "run.json").read_text())
    assert set(facts["caches"]) == {"patches-tiny", "text", "words-tiny/texts"}
    with pytest.raises(ItmkitError, match="setting class_vectors was 'both', is 'none' now"):
        train(
            workspace,
            configured(
                workspace, name, recipe="small", settings={**settings, "class_vectors": "none", "words": "bert"}
            ),
        )
