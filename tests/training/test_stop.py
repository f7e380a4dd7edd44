"""A signal ends training after the step under way; a rerun ends in the same weights."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest

from itmkit.machine import stop
from itmkit.machine.stop import Stopped, stopping
from itmkit.progress import Advance
from itmkit.runs.records import records
from itmkit.runs.settings import resolve
from itmkit.training import epochs as loop
from itmkit.training.train import train
from itmkit.workspace import Workspace
from tests.training.test_resume import results
from tests.training.tiny import FAST, FAST_TRAINING

CONFIG = resolve(
    "vsepp", settings={**FAST["vsepp"], **FAST_TRAINING, "dropout": 0.2, "decay_epoch": 1, "warmup_steps": 2}
)


@pytest.fixture(autouse=True)
def usual_handlers() -> Iterator[None]:
    """Tests that run in the background begin with signals ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler), signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGINT, before[0])
    signal.signal(signal.SIGTERM, before[1])


class Signals:
    """A progress that sends this process a signal while a task is at its n-th step."""

    def __init__(self, number: int, task: str, at: int) -> None:
        self.number, self.named, self.at = number, task, at

    def task(
        self, description: str, total: int | None = None, *, done: int = 0, unit: str = ""
    ) -> AbstractContextManager[Advance]:
        steps = 0

        def advance(n: int = 1, *, status: str | None = None) -> None:
            nonlocal steps
            steps += n
            if description.startswith(self.named) and steps == self.at:
                os.kill(os.getpid(), self.number)

        return nullcontext(advance)

    def note(self, text: str) -> None: ...


def test_stopped_anywhere_it_ends_like_an_undisturbed_run(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    for number, task, at, said in (
        (signal.SIGTERM, "epoch 1", 1, "stopped by SIGTERM; .* is saved at epoch 1, step 1. Run the same command to"),
        (signal.SIGINT, "epoch 1", 2, "stopped by SIGINT; .* is saved at epoch 1, step 3. "),  # not validated yet
    ):
        with pytest.raises(Stopped, match=said) as stopped:
            train(workspace, CONFIG, progress=Signals(number, task, at))
        assert stopped.value.number == number
    real = loop.validate

    def signalled(*args: Any, **keywords: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return real(*args, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "validate", signalled)
        with pytest.raises(Stopped, match="is saved at epoch 1, step 3"):
            train(workspace, CONFIG)
    with pytest.raises(Stopped, match="is saved at epoch 3, step 1. Run the same command without --force to"):
        train(workspace, CONFIG, run="other", force=True, progress=Signals(signal.SIGTERM, "epoch 3", 1))
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    found = results(train(workspace, CONFIG).run)
    # The first epoch was stopped between its steps and while it was validated: it took as long as its steps.
    assert all(line["pairs_per_second"] > 0 for _, line in records(workspace.run("vsepp")))
    assert found == results(train(workspace, CONFIG, run="other").run)
    assert found == results(train(workspace, CONFIG, run="undisturbed").run)


def test_the_second_signal_is_not_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt), stopping() as asked:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)  # what the terminal sent to all, passed on by a launcher
        assert asked.number == signal.SIGINT
        monkeypatch.setattr(stop, "SAME", 0.0)
        os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stopping() as asked:
            os.kill(os.getpid(), signal.SIGINT)
            assert not asked.number
    finally:
        signal.signal(signal.SIGINT, before)
