"""Regions and words that training leaves out: how many, always the same ones, and none unless asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from itmkit.cache import WHOLE, Part
from itmkit.errors import ItmkitError
from itmkit.inputs import TextBatch
from itmkit.inputs.vocabulary import Vocabulary
from itmkit.runs.settings import Training, resolve
from itmkit.training.batches import pair_batch
from itmkit.training.feeding import Feed
from itmkit.training.thinning import Thinning
from itmkit.training.train import train
from itmkit.workspace import Workspace
from tests.matchers.batches import image_batch, text_batch
from tests.training.test_feeding import CPU, inputs_of, orders
from tests.training.tiny import FAST, FAST_TRAINING

HALF = Thinning(regions=0.5, words=0.5, seed=0)


def long_captions(count: int = 400, longest: int = 20) -> TextBatch:
    """Numbers of words from 1,000, so that what took their place is told apart."""
    words = torch.arange(1000, 1000 + count * longest).view(count, longest)
    mask = torch.arange(longest) < torch.arange(count)[:, None] % longest + 1
    return TextBatch(words * mask, mask, vectors=words.unsqueeze(-1).float() * mask.unsqueeze(-1))


def test_regions_are_left_out_by_their_share() -> None:
    images = image_batch([36] * 100 + [1] * 50 + [0], regions=36)
    kept = Thinning(regions=0.2, words=0, seed=0).images(images).mask
    assert not (kept & ~images.mask).any()
    assert kept[:100].float().mean() == pytest.approx(0.8, abs=0.02)
    assert kept[100:150].sum(dim=1).eq(1).all() and not kept[150].any()  # the only one is never left out
    assert kept[:100].sum(dim=1).unique().numel() > 5  # sizes differ


def test_an_image_keeps_a_region_whatever_the_share() -> None:
    kept = Thinning(regions=0.99, words=0, seed=0).images(image_batch([4] * 50)).mask
    assert kept.any(dim=1).all()


def test_words_are_masked_changed_and_left_out_by_their_shares() -> None:
    texts = long_captions()
    found = Thinning(regions=0, words=0.2, seed=0).texts(texts, 500)
    assert found.words is not None and texts.words is not None
    every = int(texts.mask.sum())
    masked = int((found.words == Vocabulary.UNKNOWN).sum())
    changed = int(((found.words > Vocabulary.UNKNOWN) & (found.words < 500)).sum())
    assert masked / every == pytest.approx(0.10, abs=0.015)
    assert changed / every == pytest.approx(0.02, abs=0.01)
    assert (every - int(found.mask.sum())) / every == pytest.approx(0.08, abs=0.015)
    assert found.mask.shape == texts.mask.shape and found.mask.any(dim=1).all()
    # The words that stay are at the beginning, in their order, and nothing lies behind them.
    assert torch.equal(found.mask, torch.arange(20) < found.mask.sum(dim=1, keepdim=True))
    for words in found.words:
        stayed = words[words >= 1000]
        assert torch.equal(stayed, stayed.sort().values)
    assert not found.words[~found.mask].any()


def test_a_caption_keeps_a_word_that_can_be_read() -> None:
    """Neither masked nor left out: of a caption of nothing else there is nothing to learn."""
    words = torch.arange(1000, 1400).view(400, 1)
    texts = TextBatch(words, torch.ones(400, 1, dtype=torch.bool), vectors=words.unsqueeze(-1).float())
    found = Thinning(regions=0, words=0.9, seed=0).texts(texts, 500)
    assert found.words is not None and found.vectors is not None
    assert (found.words > Vocabulary.UNKNOWN).all() and found.vectors.all()
    assert (found.words < 500).any() and torch.equal(found.mask, texts.mask)  # some are changed nevertheless


def test_vectors_and_edges_go_with_their_words() -> None:
    texts = long_captions()
    found = Thinning(regions=0, words=0.3, seed=0).texts(texts, 500)
    assert found.words is not None and found.vectors is not None
    numbers = found.vectors.squeeze(-1)
    stayed = found.words >= 1000
    assert torch.equal(numbers[stayed], found.words[stayed].float())
    assert not numbers[found.words <= Vocabulary.UNKNOWN].any()  # masked words, and padding
    changed = found.mask & (found.words > Vocabulary.UNKNOWN) & ~stayed
    assert changed.any() and (numbers[changed] >= 1000).all()  # of another word of the batch
    graphs = text_batch([5, 3, 1, 4])
    thinned = HALF.texts(graphs, 20)
    assert thinned.edges is not None
    inside = thinned.mask.unsqueeze(2) & thinned.mask.unsqueeze(1)
    assert torch.equal(thinned.edges & inside, thinned.edges) and torch.equal(thinned.edges, thinned.edges.mT)
    assert torch.equal(thinned.edges.diagonal(dim1=1, dim2=2), thinned.mask)


def test_what_is_left_out_follows_from_seed_epoch_and_step() -> None:
    images, texts = image_batch([4] * 20), long_captions(20)

    def drawn(thinning: Thinning) -> tuple[bytes, bytes]:
        changed = thinning.texts(texts, 500)
        assert changed.words is not None
        return thinning.images(images).mask.numpy().tobytes(), changed.words.numpy().tobytes()

    every = [drawn(one) for one in (HALF, HALF.at(1, 0), HALF.at(0, 1), HALF.at(2, 5), replace(HALF, seed=1))]
    assert drawn(HALF.at(2, 5)) == every[3]
    assert len({images for images, _ in every}) == len({texts for _, texts in every}) == 5


def test_processes_that_share_a_batch_leave_the_same_regions_out(workspace: Workspace) -> None:
    inputs = inputs_of(workspace)
    captions = orders(inputs)[0][0]
    whole = pair_batch(inputs, captions, thinning=HALF)
    shares = [pair_batch(inputs, captions, part=Part(index, 2), thinning=HALF) for index in range(2)]
    assert torch.equal(torch.cat([share.images.mask for share in shares]), whole.images.mask)
    plain = pair_batch(inputs, captions)
    assert whole.images.mask.sum() < plain.images.mask.sum() and whole.texts.mask.sum() < plain.texts.mask.sum()


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_are_thinned_by_their_step_whoever_reads_them(workers: int, workspace: Workspace) -> None:
    inputs = inputs_of(workspace)
    order = orders(inputs)[0]
    feed = Feed(inputs, workers=workers, device=CPU, part=WHOLE, global_negatives=False, thinning=HALF)
    for first in (0, 2):  # from the beginning of an epoch, and as a resume goes on in the middle of it
        for step, batch in enumerate(feed.batches(order[first:], epoch=3, first=first), first):
            expected = pair_batch(inputs, order[step], thinning=HALF.at(3, step))
            assert torch.equal(batch.images.mask, expected.images.mask)
            assert batch.texts.words is not None and expected.texts.words is not None
            assert torch.equal(batch.texts.words, expected.texts.words)


def test_nothing_is_left_out_unless_asked_for(workspace: Workspace) -> None:
    assert Thinning.of(Training()) is None
    inputs = inputs_of(workspace)
    captions = orders(inputs)[0][0]
    plain, same = pair_batch(inputs, captions), pair_batch(inputs, captions, thinning=Thinning(0, 0, seed=0))
    assert torch.equal(plain.images.mask, same.images.mask)
    assert plain.texts.words is not None and same.texts.words is not None
    assert torch.equal(plain.texts.words, same.texts.words)


def test_without_decay_the_optimizer_is_adam(monkeypatch: pytest.MonkeyPatch, workspace: Workspace) -> None:
    """To the last bit; what is left out, and decay, reach the weights."""

    def weights(run: str, **settings: float) -> bytes:
        chosen = {**FAST["vsepp"], **FAST_TRAINING, "epochs": 1, **settings}
        folder: Path = train(workspace, resolve("vsepp", settings=chosen), run=run).run
        return (folder / "best-global.safetensors").read_bytes()

    plain = weights("plain")
    assert len({plain, weights("decayed", weight_decay=0.5), weights("thinned", drop_regions=0.3)}) == 3
    monkeypatch.setattr(torch.optim, "AdamW", torch.optim.Adam)
    assert weights("adam") == plain


def test_nothing_can_be_left_out_of_whole_vectors() -> None:
    with pytest.raises(ItmkitError) as error:
        resolve("scl", settings={"inputs": "pooled", "drop_regions": "0.2", "drop_words": 0.1})
    assert [problem.partition(":")[0] for problem in error.value.problems] == [
        "--drop-regions 0.2",
        "--drop-words 0.1",
    ]
    assert resolve("scl", settings={"drop_regions": 0.2}).training.drop_regions == 0.2
