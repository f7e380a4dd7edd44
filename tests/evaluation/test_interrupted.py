"""Evaluations that are killed, that several ranks share, or that meet another one."""

from __future__ import annotations

from typing import Any

import pytest

from itmkit.cache import Part
from itmkit.evaluation.evaluate import evaluate
from itmkit.evaluation.results import Table
from itmkit.machine.lock import Locked
from itmkit.matchers import method
from itmkit.scoring.engine import Scoring
from itmkit.workspace import Workspace


def test_a_killed_evaluation_goes_on_and_leaves_nothing(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = evaluate(workspace, ["mpsm"]).to_json()
    assert not list(workspace.run("mpsm").glob("scores-*"))
    matcher, scored = method("mpsm").Matcher, 0
    real = matcher.score

    def killed(self: object, *args: object) -> object:
        nonlocal scored
        scored += 1
        if scored == 2:  # the second member
            raise KeyboardInterrupt
        return real(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(matcher, "score", killed)
        with pytest.raises(KeyboardInterrupt):
            evaluate(workspace, ["mpsm"])
        assert list(workspace.run("mpsm").glob("scores-test/0/distance/shard-*.h5"))
        assert evaluate(workspace, ["mpsm"]).to_json() == expected
    assert scored == 3  # the finished member was not scored again
    assert not list(workspace.run("mpsm").glob("scores-*"))


def test_ranks_share_the_images(workspace: Workspace) -> None:
    expected = evaluate(workspace, ["mpsm", "vsepp"]).to_json()
    assert evaluate(workspace, ["mpsm", "vsepp"], scoring=Scoring(part=Part(1, 2))).rows == []
    assert evaluate(workspace, ["mpsm", "vsepp"], scoring=Scoring(part=Part(0, 2))).to_json() == expected


def test_another_number_of_ranks_begins_anew_what_was_killed(workspace: Workspace) -> None:
    expected = evaluate(workspace, ["vsepp"]).to_json()
    evaluate(workspace, ["vsepp"], scoring=Scoring(part=Part(1, 2)))
    assert evaluate(workspace, ["vsepp"]).to_json() == expected
    for part in (Part(2, 3), Part(1, 2), Part(0, 2)):
        found = evaluate(workspace, ["vsepp"], scoring=Scoring(part=part))
    assert found.to_json() == expected and not list(workspace.run("vsepp").glob("scores-*"))


def test_a_second_evaluation_of_a_run_and_split_is_refused(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Table.add

    def add(self: Table, *args: Any, **options: Any) -> None:
        monkeypatch.undo()
        with pytest.raises(Locked, match="runs/vsepp: another process evaluates this run on test"):
            evaluate(workspace, ["mpsm"], against="vsepp", scoring=Scoring(precision="bfloat16"))
        assert list(workspace.run("vsepp").glob("scores-test/0/*/shard-*.h5"))
        evaluate(workspace, ["vsepp"], split="val")
        evaluate(workspace, ["mpsm"])
        real(self, *args, **options)

    monkeypatch.setattr(Table, "add", add)
    assert evaluate(workspace, ["vsepp"]).rows
