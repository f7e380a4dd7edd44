"""Every value of every JSON and TOML file of a workspace, damaged in every way: only ItmkitErrors come out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch

from itmkit.cache import CacheReader
from itmkit.errors import ItmkitError
from itmkit.evaluation.evaluate import evaluate
from itmkit.inspection.what import inspect
from itmkit.report.results import course
from itmkit.runs.open import open_run
from itmkit.runs.settings import resolve
from itmkit.status import status
from itmkit.studies.kept_ranks import evaluated
from itmkit.training.train import train
from itmkit.workspace import Workspace
from tests.training.tiny import FAST, FAST_TRAINING, make_workspace

CPU = torch.device("cpu")
# JSON texts that take the place of a value; None: its key is left out.
MUTATIONS = (
    *(None, "null", "true", "-1", "1e20", '"\\u0000/../x"', "[[1]]", "{}", '{"x": "y"}', "NaN"),
    *("9" * 5000, "9" * 30, "[" * 900 + "]" * 900),
)
MARK = "the place of a mutation"


def mutated(value: Any, depth: int = 3) -> Iterator[str]:
    """The JSON with one of its values at a time replaced by each mutation; of a long list or object the first alone."""
    yield from (text for text in MUTATIONS if text is not None)
    for path in _paths(value, depth):
        copy = json.loads(json.dumps(value))
        inner = copy
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = MARK
        marked = json.dumps(copy)
        yield from (marked.replace(json.dumps(MARK), text) for text in MUTATIONS if text is not None)
        del inner[path[-1]]
        yield json.dumps(copy)


def _paths(value: Any, depth: int) -> Iterator[tuple[Any, ...]]:
    if depth and isinstance(value, (dict, list)):
        keys = list(value) if isinstance(value, dict) else range(len(value))
        for key in keys if isinstance(value, dict) and len(value) < 14 else list(keys)[:1]:
            yield (key,)
            yield from ((key, *rest) for rest in _paths(value[key], depth - 1))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = make_workspace(tmp_path_factory.mktemp("mutations") / "work", train=4, val=2, test=2)
    settings = {**FAST["vsepp"], **FAST_TRAINING, "epochs": 1, "batch_size": 4}
    train(workspace, resolve("vsepp", settings=settings))
    evaluate(workspace, ["vsepp"])
    run = workspace.run("vsepp")
    for file in (run / "run.json", run / "eval-test.json"):  # as of an older version: a digest would tell at once
        raw = json.loads(file.read_text())
        for key in ("files", "sha256"):
            raw.pop(key, None)
        file.write_text(json.dumps(raw))
    return workspace


def told(what: Callable[[], Any]) -> bool:
    """Whether it ended in an ItmkitError. Any other exception fails the test."""
    try:
        what()
    except ItmkitError as error:
        assert all(len(problem) < 1500 for problem in error.problems)
        return True
    return False


CHECKS: dict[str, tuple[Callable[[Workspace], Any], ...]] = {
    "runs/vsepp/run.json": (lambda w: open_run(w, "vsepp", device=CPU),),
    "runs/vsepp/vocabulary.json": (lambda w: open_run(w, "vsepp", device=CPU),),
    "runs/vsepp/eval-test.json": (
        lambda w: evaluated(w, "vsepp", "test", with_ranks=False),
        lambda w: inspect(w.run("vsepp") / "eval-test.json"),
    ),
    "runs/vsepp/metrics.jsonl": (lambda w: course(w, "vsepp"), lambda w: inspect(w.run("vsepp") / "metrics.jsonl")),
    "caches/regions/manifest.json": (
        lambda w: CacheReader.open(w.cache("regions")).ids,
        lambda w: inspect(w.cache("regions")),
    ),
}


@pytest.mark.parametrize("name", CHECKS)
def test_json(workspace: Workspace, name: str) -> None:
    path = workspace.root / name
    whole = path.read_text()
    refused = 0
    try:
        for number, text in enumerate(mutated(json.loads(whole))):
            path.write_text(text + "\n")
            refused += sum(told(partial(check, workspace)) for check in CHECKS[name])
            if number % 60 == 0:
                rows = status(workspace)  # tells of the damage, and of the rest
                assert len(rows) >= 6 and rows[0].state == "done"
    finally:
        path.write_text(whole)
    assert refused > 50
    assert not any(told(partial(check, workspace)) for check in CHECKS[name])


def test_toml(workspace: Workspace) -> None:
    run, settings = workspace.run("vsepp"), workspace.settings_path
    whole = (run / "config.toml").read_text()
    values = [text for text in MUTATIONS if text not in (None, "null", "NaN", "{}", '{"x": "y"}')]
    values += ["nan", "inf", "{}", "{x = 1}", "2020-01-01", "[" * 20_000]
    lines = whole.splitlines()
    try:
        for place in [
            0,
            1,
            *[n for n, line in enumerate(lines) if line.startswith(("[", "embed", "margin", "words_c"))],
        ]:
            for value in values:
                changed = lines.copy()
                changed[place] = f"{lines[place].partition(' = ')[0].strip('[]')} = {value}"
                (run / "config.toml").write_text("\n".join(changed) + "\n")
                told(lambda: open_run(workspace, "vsepp", device=CPU))
            (run / "config.toml").write_text("\n".join(lines[:place] + lines[place + 1 :]) + "\n")
            told(lambda: open_run(workspace, "vsepp", device=CPU))
        for value in values:
            for text in (f"[parse-text]\nmodel = {value}", f"parse-text = {value}", f"[x]\ny = {value}"):
                settings.write_text(text)
                assert (
                    told(lambda: workspace.settings("parse-text")) or text.startswith("[parse-text]") or value == "{}"
                )
    finally:
        (run / "config.toml").write_text(whole)
        settings.unlink(missing_ok=True)
    open_run(workspace, "vsepp", device=CPU)
