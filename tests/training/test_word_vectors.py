"""Words begin with the vectors of a file: those it has, whatever form it has, and a clear word where it cannot be."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from itmkit.errors import ItmkitError
from itmkit.inputs.vocabulary import Vocabulary
from itmkit.matchers import build
from itmkit.matchers.parts.encoders import WordEncoder
from itmkit.runs.facts import RunFacts
from itmkit.runs.settings import RunConfig, resolve
from itmkit.training.train import train
from itmkit.training.word_vectors import LONGEST, WordVectors, read_word_vectors
from itmkit.workspace import Workspace
from tests.matchers.batches import SIZES
from tests.matchers.settings import config_of
from tests.training.test_resume import interrupt, results
from tests.training.test_train import Notes
from tests.training.tiny import FAST, FAST_TRAINING

VOCABULARY = Vocabulary.build(["dog", "cat", "straße", "."], minimum=1)
GLOVE = "the 1 2 3\ndog 4 5 6.5\n. . . 7 8 9\n<unk> 1 1 1\nstraße -1e-3 0 1\ndog 9 9 9\nDog 8 8 8\n"


def written(folder: Path, text: str | bytes, name: str = "vectors.txt") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    "text",
    [
        GLOVE,
        "7 3\n" + GLOVE,
        "\ufeff7 3\n" + GLOVE,
        GLOVE.replace("\n", " \r\n"),
        GLOVE.replace(" ", "\t").replace(".\t.\t.", ". . ."),
    ],
)
def test_what_is_read(tmp_path: Path, text: str) -> None:
    """By spelling; the first of two; neither a phrase whose first word is known, nor a special word."""
    path = written(tmp_path, text)
    found = read_word_vectors(path, VOCABULARY, 3)
    by_word = {
        VOCABULARY.words[number]: vector.tolist() for number, vector in zip(found.numbers, found.vectors, strict=True)
    }
    assert by_word == {"dog": [4, 5, 6.5], "straße": [pytest.approx(-1e-3), 0, 1]}
    assert found.vectors.dtype == np.float32 and found.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.note(path, VOCABULARY) == f"{path}: 2 of 4 words begin with its vectors; the other 2 begin at random"


def test_every_member_gets_them_and_the_rest_stays() -> None:
    members, untouched = (build("scan", config_of("scan"), sizes=SIZES, seed=0) for _ in range(2))
    found = WordVectors(np.array([5, 7]), np.ones((2, 7), np.float32), "")
    found.give(members)
    for name, matcher in members.items():
        before, after = untouched[name].words.embedding.weight, matcher.words.embedding.weight  # type: ignore[union-attr]
        assert isinstance(matcher.words, WordEncoder) and after[[5, 7]].eq(1).all()  # type: ignore[index, union-attr]
        others = [place for place in range(SIZES.vocabulary) if place not in (5, 7)]
        assert torch.equal(before[others], after[others])  # type: ignore[index, arg-type]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("the 1 2\ndog 1 2\n", "its vectors have 2 numbers, and --word is 3: train with --word 2"),
        ("400000 300\ndog 1 2 3\n", "its vectors have 300 numbers, and --word is 3: train with --word 300"),
        ("the 1 2 3\ndog 1 2\ncat 1 x 2\n", "line 2: 2 numbers instead of 3"),
        ("the 1 2 3\ncat 1 nan 2\n", "line 2: holds NaN or infinity"),
        ("the 1 2 3\ncat 1 1e99 2\n", "line 2: holds NaN or infinity, or a number too large"),
        ("die 1 2 3\n", "has none of the 4 words of the training captions"),
        ("", "has none of the 4 words"),
        ("word,vector\ndog,1\n", "line 1: is no word with its numbers"),
        (b"PK\x03\x04 \x00\xff\n", "line 1: is no word with its numbers"),
        (b"3 3\n</s> \x00\x01\x02\xff\n", "line 2: is no word with its numbers"),
        ("dog " + "1 " * LONGEST, "line 1: longer than 1,048,576 bytes"),
    ],
)
def test_a_file_that_is_none_or_does_not_fit(tmp_path: Path, text: str | bytes, told: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ItmkitError) as error:
        read_word_vectors(path, VOCABULARY, 3)
    assert told in str(error.value) and str(path) in str(error.value)


def test_all_wrong_lines_are_told_up_to_a_few(tmp_path: Path) -> None:
    with pytest.raises(ItmkitError) as error:
        read_word_vectors(written(tmp_path, "the 1 2 3\ndog 1 2\ncat 1 x 2\n. 1\n"), VOCABULARY, 3)
    assert [problem.split(": ")[1] for problem in error.value.problems] == ["line 2", "line 3", "line 4"]


def test_methods_that_learn_no_such_vectors_say_so_before_anything(tmp_path: Path) -> None:
    there, gone = str(written(tmp_path, GLOVE)), str(tmp_path / "gone.txt")
    with pytest.raises(ItmkitError) as error:
        resolve("mefn", settings={"words": "bert", "word_vectors": gone})
    assert "it does with --words gru" in error.value.problems[0] and "no such file" in error.value.problems[1]
    with pytest.raises(ItmkitError, match="scl does not learn a vector of --word numbers"):
        resolve("scl", settings={"word_vectors": there})
    assert resolve("mefn", settings={"words": "gru", "word_vectors": there}).training.word_vectors == there


def configured(path: Path, **settings: Any) -> RunConfig:
    chosen = {"dropout": 0.2, "checkpoint_steps": 2, "ema": 0.5, "drop_words": 0.2, "drop_regions": 0.2}
    chosen |= {"epochs": 2, "directions": "t2i"}
    rates = {"text_rate": 0.1, "region_rate": 2, "region_encoder": "linear+mlp"}
    return resolve(
        "scan", settings={**FAST["scan"], **FAST_TRAINING, **chosen, **rates, "word_vectors": str(path), **settings}
    )


def test_a_resumed_run_equals_an_uninterrupted_one(
    tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the vectors, rates by part, the MLP of regions, what is dropped. A saved state needs the file no more."""
    path = written(tmp_path, "dog 1 2 3 4 5 6\ncat 6 5 4 3 2 1\n")
    progress = Notes()
    whole = results(train(workspace, configured(path), run="whole", progress=progress).run)
    assert any("2 of 14 words begin with its vectors" in note for note in progress.notes)
    assert RunFacts.read(workspace.run("whole")).files["word-vectors"] == hashlib.sha256(path.read_bytes()).hexdigest()
    other = results(train(workspace, configured(path, text_rate=1), run="other").run)
    assert other["best-t2i.safetensors"] != whole["best-t2i.safetensors"]

    def stopped(call: int) -> None:
        with monkeypatch.context() as patch:
            interrupt(patch, "step", call, after=False)
            with pytest.raises(KeyboardInterrupt):
                train(workspace, configured(path), run="again")

    stopped(2)  # before anything is saved
    content = path.read_bytes()
    path.write_bytes(content + b"bird 1 1 1 1 1 1\n")
    with pytest.raises(ItmkitError, match="has changed since the run began"):
        train(workspace, configured(path), run="again")
    path.write_bytes(content)
    stopped(5)  # after a state
    path.write_bytes(b"of no use any more")
    assert results(train(workspace, configured(path), run="again").run) == whole
