from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from itmkit.errors import ItmkitError
from itmkit.inputs import Inputs, Sizes
from itmkit.inputs.vocabulary import Vocabulary
from itmkit.matchers import as_matcher, build, method, preset
from itmkit.scoring import tiles
from itmkit.scoring.matrix import score_matrix
from itmkit.scoring.tiles import text_tiles
from tests.training.tiny import FAST, FEATURES, GRAPHS, THINGS, make_workspace

CPU = torch.device("cpu")
VOCABULARY = Vocabulary.build([*THINGS, "a", "left"], minimum=1)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    workspace = make_workspace(tmp_path_factory.mktemp("blocks"))
    return Inputs(workspace, workspace.dataset().split("train"), VOCABULARY, GRAPHS)


def matchers(name: str) -> dict[str, torch.nn.Module]:
    words = {"words": "gru"} if name == "mefn" else {}
    config = method(name).Config(**preset(name), **FAST[name], **words)
    return build(name, config, sizes=Sizes(feature=FEATURES, vocabulary=len(VOCABULARY)), seed=0)


@pytest.mark.parametrize("name", ["mpsm", "sgraf", "scan", "mefn", "vsepp"])
def test_scores_do_not_depend_on_tiles(name: str, inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    built = matchers(name)
    whole = score_matrix(built, inputs)
    assert list(whole) == list(built)
    for image_tile, words_tile, encode_tiles in ((1, 1, 1), (5, 20, 2)):
        monkeypatch.setattr(tiles, "IMAGE_TILE", image_tile)
        monkeypatch.setattr(tiles, "WORDS_TILE", words_tile)
        monkeypatch.setattr(tiles, "ENCODE_TILES", encode_tiles)
        found = score_matrix(built, inputs)
        for member, matrix in found.items():
            assert matrix.shape == (12, 24) and matrix.dtype == np.float32
            np.testing.assert_allclose(matrix, whole[member], rtol=0, atol=1e-5)


def test_scores_do_not_depend_on_threads(inputs: Inputs) -> None:
    built, before = matchers("mpsm"), torch.get_num_threads()
    found = []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            found.append(score_matrix(built, inputs))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(before)
    for member in built:
        np.testing.assert_array_equal(found[0][member], found[1][member])


def test_scores_of_some_are_those_of_all_in_the_order_asked_for(inputs: Inputs) -> None:
    built = matchers("mpsm")
    whole = score_matrix(built, inputs)
    images, texts = np.array([7, 2, 3]), np.array([23, 0, 5, 1])
    some = score_matrix(built, inputs, images=images, texts=texts)
    for member in built:
        np.testing.assert_allclose(some[member], whole[member][np.ix_(images, texts)], rtol=0, atol=1e-5)


def test_one_pair_at_a_time_gives_the_same(inputs: Inputs) -> None:
    for member, matcher in matchers("mpsm").items():
        whole = score_matrix({member: matcher}, inputs)[member]
        parts = as_matcher(matcher)
        with torch.no_grad():
            for image, text in ((0, 0), (3, 17), (11, 23)):
                one = parts.encode_images(inputs.image_batch(np.array([image])))
                other = parts.encode_texts(inputs.text_batch(np.array([text])))
                assert abs(float(parts.score(one, other)) - whole[image, text]) < 1e-5


def test_scores_that_are_no_numbers_name_the_member(inputs: Inputs) -> None:
    built = matchers("mpsm")
    with torch.no_grad():
        built["direction"].get_parameter("perspectives.direction.predict.bias").fill_(torch.nan)
    with pytest.raises(ItmkitError, match="member 'direction' gives scores that are NaN"):
        score_matrix(built, inputs)


def test_tiles_hold_captions_of_one_length(inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "WORDS_TILE", 10)
    texts = np.array([23, 0, 5, 1, 7, 9, 11])
    found = text_tiles(inputs, texts, CPU)
    assert sorted(np.concatenate(found)) == list(range(len(texts)))  # every caption once
    for places in found:
        lengths = inputs.lengths[texts[places]]
        assert len(set(lengths)) == 1 and lengths.sum() <= 10 and (np.diff(places) > 0).all()
    monkeypatch.setattr(tiles, "WORDS_TILE", 1)  # a caption is never cut
    assert all(len(places) == 1 for places in text_tiles(inputs, texts, CPU))
    assert text_tiles(inputs, texts[:0], CPU) == []


def test_nothing_is_learned_from_scoring(inputs: Inputs) -> None:
    built = matchers("mpsm")
    before = {key: value.clone() for key, value in built["distance"].state_dict().items()}
    built["distance"].train()
    score_matrix(built, inputs)
    after = built["distance"].state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_pictures_without_a_row_are_left_out(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, train=4, val=1, test=1, skipped=("image01", "image05"))
    records = workspace.dataset()
    found = Inputs(workspace, records.split("train"), VOCABULARY, GRAPHS)
    assert found.left_out == 1 and [image.id for image in found.images] == ["image00", "image02", "image03"]
    assert found.image_of.tolist() == [0, 0, 1, 1, 2, 2]
    with pytest.raises(ItmkitError, match="none of the 1 images of this split has a row"):
        Inputs(workspace, records.split("test"), VOCABULARY, GRAPHS)
