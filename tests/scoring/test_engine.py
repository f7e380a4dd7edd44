from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from itmkit.cache import WHOLE, Part, merge_parts
from itmkit.errors import ItmkitError
from itmkit.inputs import Inputs, Sizes
from itmkit.inputs.vocabulary import Vocabulary
from itmkit.matchers import build, method
from itmkit.scoring import engine, tiles
from itmkit.scoring.engine import Scoring, rows_of, score_to_disk
from itmkit.scoring.matrix import score_matrix
from itmkit.scoring.stored import Kept
from tests.training.tiny import FAST, FEATURES, GRAPHS, THINGS, make_workspace

CPU = torch.device("cpu")
VOCABULARY = Vocabulary.build([*THINGS, "a", "left"], minimum=1)
IMAGES, TEXTS = 12, 24


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    workspace = make_workspace(tmp_path_factory.mktemp("engine"))
    return Inputs(workspace, workspace.dataset().split("train"), VOCABULARY, GRAPHS)


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """3 images x about 5 captions a tile, 6 images a shard."""
    for name, value in {"IMAGE_TILE": 3, "WORDS_TILE": 20, "ENCODE_TILES": 2, "VECTORS_TILE": 5}.items():
        monkeypatch.setattr(tiles, name, value)
    monkeypatch.setattr(engine, "IMAGE_TILE", 3)
    monkeypatch.setattr(engine, "ROWS", 6)


def matchers(name: str, seed: int = 0) -> dict[str, nn.Module]:
    config = method(name).Config(**FAST[name])
    return build(name, config, sizes=Sizes(feature=FEATURES, vocabulary=len(VOCABULARY)), seed=seed)


def scored(folder: Path, inputs: Inputs, built: dict[str, nn.Module], **options: Any) -> dict[str, np.ndarray]:
    rest = {"images": np.arange(IMAGES), "texts": np.arange(TEXTS), "made_from": {"weights": "1"}} | options
    how = {name: rest.pop(name) for name in ("memory", "part") if name in rest}
    score_to_disk(built, inputs, folder, scoring=Scoring("cpu", precision="float32", **how), **rest)
    return read(folder, built) if options.get("part", WHOLE) == WHOLE else {}


def read(folder: Path, built: dict[str, nn.Module]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([rows for _, rows in Kept(folder / name).blocks()]) for name in built}


def same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name in found:
        np.testing.assert_array_equal(found[name], expected[name])


@pytest.mark.parametrize("name", ["mpsm", "vsepp"])
def test_the_matrix_of_all_pairs(name: str, inputs: Inputs, tmp_path: Path) -> None:
    built = matchers(name)
    found, expected = scored(tmp_path, inputs, built), score_matrix(built, inputs)
    for member, matrix in found.items():
        assert matrix.shape == (IMAGES, TEXTS) and matrix.dtype == np.float32
        np.testing.assert_allclose(matrix, expected[member], rtol=0, atol=1e-6)
    some = {"images": np.array([7, 2, 3]), "texts": np.array([23, 0, 5, 1])}
    for member, matrix in scored(tmp_path / "some", inputs, built, **some).items():
        expected_some = expected[member][np.ix_(some["images"], some["texts"])]
        np.testing.assert_allclose(matrix, expected_some, rtol=0, atol=1e-6)


def test_the_same_to_the_last_bit_however_the_work_is_done(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = matchers("mpsm")
    whole = scored(tmp_path / "whole", inputs, built)
    for index in (1, 0):
        scored(tmp_path / "ranks", inputs, built, part=Part(index, 2))
    for member in built:
        merge_parts(tmp_path / "ranks" / member)
    same(read(tmp_path / "ranks", built), whole)
    with monkeypatch.context() as patch:
        patch.setattr(engine, "ROWS", 3)
        same(scored(tmp_path / "rows", inputs, built), whole)
    with monkeypatch.context() as patch:
        patch.setattr(engine, "TEXTS_SHARE", 0.0)  # no room for captions in memory
        same(scored(tmp_path / "spilled", inputs, built), whole)
    assert not list((tmp_path / "spilled").glob(".captions*"))


def test_captions_go_to_files_only_where_memory_is_short(inputs: Inputs, tmp_path: Path, monkeypatch: Any) -> None:
    saved: list[Any] = []
    real = engine.save

    def counted(tile: Any) -> bytes:
        saved.append(tile)
        return real(tile)

    monkeypatch.setattr(engine, "save", counted)
    scored(tmp_path / "roomy", inputs, matchers("vsepp"))
    assert not saved
    monkeypatch.setattr(engine, "resident", lambda: engine.MEMORY - 400)  # 160 bytes are left for them
    scored(tmp_path / "short", inputs, matchers("vsepp"))
    assert (
        0 < len(saved) < len(tiles.text_tiles(inputs, np.arange(TEXTS), CPU))
    )  # a tile of 5 vectors of 8 numbers fits


def test_killed_and_run_again(inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = matchers("mpsm")
    whole = scored(tmp_path / "whole", inputs, built)
    real = method("mpsm").Matcher.score
    for after in (1, 5, 9, 14, 21):
        calls = 0

        def killed(self: Any, *args: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == after:  # noqa: B023  (called within this round only)
                raise KeyboardInterrupt
            return real(self, *args)

        with monkeypatch.context() as patch:
            patch.setattr(method("mpsm").Matcher, "score", killed)
            with pytest.raises(KeyboardInterrupt):
                scored(tmp_path / str(after), inputs, built)
        same(scored(tmp_path / str(after), inputs, built), whole)


def test_everything_is_encoded_once_and_what_is_finished_not_again(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, list[int]] = {"images": [], "texts": []}

    def counting(side: str) -> Any:
        real = getattr(Inputs, f"{side[:-1]}_batch")

        def batch(self: Inputs, which: np.ndarray) -> Any:
            seen[side] += which.tolist()
            return real(self, which)

        return batch

    monkeypatch.setattr(Inputs, "image_batch", counting("images"))
    monkeypatch.setattr(Inputs, "text_batch", counting("texts"))
    built = matchers("vsepp")
    scored(tmp_path, inputs, built)
    assert sorted(seen["images"]) == list(range(IMAGES)) and sorted(seen["texts"]) == list(range(TEXTS))
    scored(tmp_path, inputs, built)
    assert len(seen["images"]) == IMAGES and len(seen["texts"]) == TEXTS


def test_scores_of_other_weights_are_begun_anew(inputs: Inputs, tmp_path: Path) -> None:
    scored(tmp_path, inputs, matchers("vsepp"))
    other = matchers("vsepp", seed=1)
    same(
        scored(tmp_path, inputs, other, made_from={"weights": "2"}),
        scored(tmp_path / "alone", inputs, other, made_from={"weights": "2"}),
    )


def test_scores_that_are_no_numbers_name_the_member(inputs: Inputs, tmp_path: Path) -> None:
    built = matchers("mpsm")
    with torch.no_grad():
        built["direction"].get_parameter("perspectives.direction.predict.bias").fill_(torch.nan)
    with pytest.raises(ItmkitError, match="member 'direction' gives scores that are NaN"):
        scored(tmp_path, inputs, built)


def test_a_process_that_uses_more_already_keeps_no_captions(inputs: Inputs, tmp_path: Path) -> None:
    """As after a training in the same process."""
    built = matchers("vsepp")
    same(scored(tmp_path / "short", inputs, built, memory=1000), scored(tmp_path / "whole", inputs, built))


def test_rows_of_a_shard_are_whole_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert rows_of(25_000) == 128 and rows_of(500_000) == 32 and rows_of(10_000_000) == 32 and rows_of(0) == 128
