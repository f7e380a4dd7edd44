from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from itmkit.errors import ItmkitError
from itmkit.inputs.vocabulary import Vocabulary
from itmkit.runs.settings import resolve
from itmkit.scoring.metrics import chance_of
from itmkit.training.prospects import about_figures, about_steps, about_words
from itmkit.training.train import train
from itmkit.workspace import Workspace
from tests.training.tiny import FAST, FAST_TRAINING

IMAGES = np.repeat(np.arange(4), [1, 4, 2, 1])


def test_chance_counts_every_order_of_the_captions() -> None:
    """By definition: how many of all choices of the first k captions hold one of the image's own."""
    expected = 0.0
    for k in (1, 5, 10):
        choices = list(combinations(range(8), min(k, 8)))
        hits = [
            sum(bool(set(first) & set(np.flatnonzero(np.equal(IMAGES, image)))) for first in choices)
            for image in range(4)
        ]
        expected += 100 * sum(hits) / len(choices) / 4 + 100 * min(1.0, k / 4)
    assert chance_of(IMAGES) == pytest.approx(expected)


def test_what_is_said_of_words() -> None:
    counts = {"a": 60, "Dog": 6, "dog": 4, "rare": 2}
    assert about_words(counts, Vocabulary.build(counts), 4) is None
    counts |= {f"word{number}": 1 for number in range(40)}
    note = about_words(counts, Vocabulary.build(counts), 4)
    assert note is not None and note.startswith("38% of the words of the training captions are unknown")
    alone = {f"caption{number}": 1 for number in range(100)} | {"twice": 4}
    with pytest.raises(ItmkitError, match=r"96% of the words .* are unknown .* `itmkit parse-text --parser stanza`"):
        about_words(alone, Vocabulary.build(alone), 4)


def test_what_is_said_of_steps_and_figures() -> None:
    said = about_steps(3, 3)
    assert said is not None and said.startswith("only 9 steps in all") and "--epochs or lower --batch-size" in said
    assert about_steps(10, 10) is None and about_steps(0, 3) is None
    assert about_figures({"a": {"rsum": 30.0}, "b": {"rsum": 31.0}}, 30.5) is None and about_figures({}, 1) is None
    said = about_figures({"a": {"rsum": 30.0}, "b": {"rsum": 30.5}}, 30.5)
    assert said is not None and "not above chance (30.5)" in said


def test_captions_of_unknown_words_stop_training_before_it_begins(workspace: Workspace, tmp_path: Path) -> None:
    config = resolve("vsepp", settings={**FAST["vsepp"], **FAST_TRAINING, "minimum_count": 1000})
    with pytest.raises(ItmkitError, match="100% of the words of the training captions are unknown"):
        train(workspace, config)
    assert not (workspace.run("vsepp") / "run.json").exists()
