"""A trained matcher reads new pictures and captions as training read those of the caches."""

from __future__ import annotations

import shutil
from dataclasses import fields
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import itmkit
from itmkit.errors import ItmkitError
from itmkit.inputs import Inputs
from itmkit.scoring.matrix import ensemble_of, score_matrix
from itmkit.trained import Matcher
from itmkit.workspace import Workspace
from tests.encode_text.tiny_encoders import build_encoder
from tests.trained.small_runs import RUNS


@cache
def opened(trained: Workspace, method: str) -> tuple[Matcher, Inputs]:
    """Each run is opened once: tests only ask it."""
    matcher = itmkit.open(trained.run(method))
    return matcher, Inputs(trained, trained.dataset().split("test"), matcher.vocabulary, matcher.needs)


@pytest.mark.parametrize("method", RUNS)
def test_new_captions_become_what_the_caches_hold_bit_for_bit(trained: Workspace, method: str) -> None:
    matcher, inputs = opened(trained, method)
    cached = inputs.text_batch(np.arange(len(inputs.caption_texts)))
    new = matcher.texts.batch(inputs.caption_texts)
    for field in fields(cached):
        expected, found = getattr(cached, field.name), getattr(new, field.name)
        assert (expected is None) == (found is None), field.name
        assert expected is None or torch.equal(expected, found), field.name


@pytest.mark.parametrize("method", RUNS)
def test_new_captions_are_spelled_as_those_of_a_data_set(trained: Workspace, method: str) -> None:
    matcher, _ = opened(trained, method)
    plain = matcher.texts.batch(["the dog's café &"])
    odd = matcher.texts.batch(["the dog’s cafe\u0301 &amp;"])
    for field in fields(plain):
        expected, found = getattr(plain, field.name), getattr(odd, field.name)
        assert expected is None or torch.equal(expected, found), field.name


@pytest.mark.parametrize("method", RUNS)
def test_new_pictures_become_what_the_caches_hold(trained: Workspace, method: str) -> None:
    matcher, inputs = opened(trained, method)
    files = [trained.image_path(image.file or "") for image in inputs.images]
    cached = inputs.image_batch(np.arange(len(files)))
    with matcher:
        rows = matcher.pictures.rows([matcher.pictures.load(file) for file in files])
    new = matcher.pictures.batch(rows)
    for field in fields(cached):
        expected, found = getattr(cached, field.name), getattr(new, field.name)
        assert (expected is None) == (found is None), field.name
        assert expected is None or torch.allclose(expected.double(), found.double(), atol=1e-3), field.name


@pytest.mark.parametrize("method", RUNS)
def test_scores_are_those_of_evaluation_for_ids_files_and_pictures(trained: Workspace, method: str) -> None:
    matcher, inputs = opened(trained, method)
    expected = ensemble_of(score_matrix(matcher.members, inputs), matcher.weights)
    ids = [image.id for image in inputs.images]
    files = [trained.image_path(image.file or "") for image in inputs.images]
    with matcher:
        by_id = matcher.score(ids, inputs.caption_texts)
        mixed = matcher.score([files[0], Image.open(files[1]), ids[2], str(files[3])], inputs.caption_texts[:7])
    assert by_id.dtype == np.float32 and by_id.shape == expected.shape
    np.testing.assert_allclose(by_id, expected, atol=1e-6)
    np.testing.assert_allclose(mixed, expected[:, :7], atol=1e-3)


def test_a_caption_scores_the_same_in_any_company(trained: Workspace) -> None:
    matcher, inputs = opened(trained, "mpsm")
    ids, texts = [image.id for image in inputs.images], ["a dog", "a very small red dog left of the big blue car ."]
    together = matcher.score(ids, texts)
    alone = np.concatenate([matcher.score(ids, [text]) for text in texts], axis=1)
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert np.ptp(together) > 0


def test_what_is_encoded_once_is_scored_again(trained: Workspace) -> None:
    matcher, inputs = opened(trained, "mpsm")
    images = matcher.encode_images([image.id for image in inputs.images])
    texts = matcher.encode_texts(inputs.caption_texts[:3])
    assert (len(images), len(texts)) == (4, 3) and images.names[0] == inputs.images[0].id
    np.testing.assert_array_equal(matcher.score(images, texts), matcher.score(images.names, inputs.caption_texts[:3]))


def test_words_that_training_did_not_see_are_named(trained: Workspace) -> None:
    matcher, _ = opened(trained, "mpsm")
    assert "left" in (matcher.vocabulary.words if matcher.vocabulary else ())
    assert matcher.texts.unknown(["a zebra left of a", "Zebra"]) == ["zebra", "Zebra"]
    assert matcher.texts.unknown(["a caf&eacute;"]) == ["café"]


def test_every_picture_that_cannot_be_read_is_one_error(trained: Workspace, tmp_path: Path) -> None:
    matcher, _ = opened(trained, "mpsm")
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with matcher, pytest.raises(ItmkitError) as error:
        matcher.score([tmp_path / "broken.jpg", tmp_path / "none.jpg"], ["a car"])
    assert len(error.value.problems) == 2
    assert "broken.jpg" in error.value.problems[0] and "none.jpg: no such file" in error.value.problems[1]


def test_a_model_that_moved_is_named_and_another_one_refused(trained: Workspace, tmp_path: Path) -> None:
    home = Path(shutil.copytree(trained.root, tmp_path / "work"))
    bert = trained.root.parent / "bert"
    moved = bert.rename(tmp_path / "moved")
    try:
        with pytest.raises(ItmkitError, match="--model-of words-bert=FOLDER"):
            itmkit.open(home / "runs/glfn").score([trained.dataset().split("test")[0].id], ["a red car"])
        other = build_encoder("bert", tmp_path / "other", seed=1)
        with pytest.raises(ItmkitError, match="other weights than 'bert'"):
            itmkit.open(home / "runs/glfn", models={"words-bert": other}).score(
                [trained.dataset().split("test")[0].id], ["a red car"]
            )
        found = itmkit.open(home / "runs/glfn", models={"words-bert": moved}).score(
            [trained.dataset().split("test")[0].id], ["a red car"]
        )
        assert np.isfinite(found).all()
    finally:
        moved.rename(bert)


def test_folders_without_a_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ItmkitError, match="holds no run"):
        itmkit.open(tmp_path)


def test_one_picture_instead_of_a_list_is_a_mistake_of_the_program(trained: Workspace) -> None:
    matcher, _ = opened(trained, "dual")
    with pytest.raises(TypeError, match="give a list"):
        matcher.score("a.jpg", ["a car"])
    with pytest.raises(ValueError, match="at least one"):
        matcher.score([], ["a car"])
