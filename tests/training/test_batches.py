from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from itmkit.inputs import Inputs
from itmkit.inputs.vocabulary import Vocabulary
from itmkit.training.batches import epoch_order, pair_batch
from itmkit.workspace import Workspace
from tests.training.tiny import GRAPHS, THINGS

captions_of_images = st.lists(st.integers(1, 7), min_size=1, max_size=12)


def order_of(
    image_of: np.ndarray,
    lengths: np.ndarray | None = None,
    *,
    size: int,
    together: int = 1,
    buckets: int = 1,
    seed: int = 0,
    epoch: int = 1,
) -> list[np.ndarray]:
    lengths = np.ones(len(image_of)) if lengths is None else lengths
    ways = {"batch_size": size, "captions_per_image": together, "length_buckets": buckets}
    return epoch_order(image_of, lengths, seed=seed, epoch=epoch, **ways)


@given(
    captions_of_images, st.integers(2, 12), st.integers(1, 6), st.integers(1, 4), st.integers(0, 3), st.integers(1, 4)
)
@settings(max_examples=80, deadline=None)
def test_order(counts: list[int], size: int, together: int, buckets: int, seed: int, epoch: int) -> None:
    image_of = np.repeat(np.arange(len(counts)), counts)
    lengths = np.random.default_rng(seed).integers(1, 20, len(image_of))
    ways = {"size": size, "together": together, "buckets": buckets, "seed": seed, "epoch": epoch}
    batches = order_of(image_of, lengths, **ways)
    flat = np.concatenate(batches)
    assert len(set(flat.tolist())) == len(flat)  # no caption twice
    left_out = len(image_of) - len(flat)
    # Every caption occurs, but for a last batch of less than half the size beside others.
    assert left_out == 0 or (left_out < max(2, size // 2) and left_out == len(image_of) % size)
    assert sum(len(batch) != size for batch in batches) <= 1 and all(0 < len(batch) <= size for batch in batches)
    assert [batch.tolist() for batch in batches] == [batch.tolist() for batch in order_of(image_of, lengths, **ways)]
    if not left_out and buckets == 1:
        # Captions of an image lie in runs of `together`, the rest of an image in one shorter run. Runs of one image
        # may happen to be neighbours, so what is counted is how often the image changes.
        changes = 1 + int((np.diff(image_of[flat]) != 0).sum())
        assert changes <= sum(-(-count // together) for count in counts)


def test_captions_of_an_image_are_its_neighbours() -> None:
    image_of = np.repeat(np.arange(20), 5)
    for buckets in (1, 2):
        lengths = np.random.default_rng(0).integers(1, 20, 100)
        batches = order_of(image_of, lengths, size=25, together=5, buckets=buckets)
        assert all(len(np.unique(image_of[batch])) == 5 for batch in batches)
    alone = order_of(image_of, size=25)
    assert np.mean([len(np.unique(image_of[batch])) for batch in alone]) > 10


def test_another_epoch_or_seed_has_another_order() -> None:
    image_of = np.repeat(np.arange(20), 5)
    orders = {
        tuple(np.concatenate(order_of(image_of, size=10, seed=s, epoch=e)).tolist())
        for s in range(3)
        for e in range(1, 4)
    }
    assert len(orders) == 9


def test_captions_of_an_image_differ_in_company_from_epoch_to_epoch() -> None:
    """With runs of two, it is not always the same two captions that share a batch."""
    image_of = np.repeat(np.arange(6), 4)
    companions = set()
    for epoch in range(1, 20):
        flat = np.concatenate(order_of(image_of, size=24, together=2, epoch=epoch))
        place = int(np.flatnonzero(flat == 0)[0])
        companions |= {int(flat[k]) for k in (place - 1, place + 1) if 0 <= k < 24 and flat[k] < 4}
    assert companions == {1, 2, 3}


def test_length_buckets_leave_little_padding() -> None:
    image_of, random = np.arange(640), np.random.default_rng(0)
    lengths = random.integers(5, 30, 640)

    def padding(batches: list[np.ndarray]) -> float:
        return 1 - lengths.sum() / sum(len(batch) * lengths[batch].max() for batch in batches)

    mixed, sorted_ = order_of(image_of, size=32), order_of(image_of, lengths, size=32, buckets=10)
    assert padding(mixed) > 0.35 and padding(sorted_) < 0.08
    assert sorted(np.concatenate(sorted_).tolist()) == list(range(640))
    # Long and short batches come in any order, and of the captions any may meet from epoch to epoch.
    means = [lengths[batch].mean() for batch in sorted_]
    assert means != sorted(means)
    another = order_of(image_of, lengths, size=32, buckets=10, epoch=2)
    assert {frozenset(batch.tolist()) for batch in another}.isdisjoint({frozenset(b.tolist()) for b in sorted_})


def test_a_batch_holds_each_image_once(workspace: Workspace) -> None:
    vocabulary = Vocabulary.build(THINGS, minimum=1)
    inputs = Inputs(workspace, workspace.dataset().split("train"), vocabulary, GRAPHS)
    captions = np.array([5, 0, 4, 20])
    batch = pair_batch(inputs, captions)
    assert batch.images.features.shape == (3, 4, 8) and batch.image_of.tolist() == [1, 0, 1, 2]
    images = np.unique(inputs.image_of[captions])[batch.image_of]
    np.testing.assert_array_equal(images, inputs.image_of[captions])
    for place, caption in enumerate(captions):
        alone = inputs.text_batch(np.array([caption]))
        length = alone.words.shape[1]
        assert batch.texts.words[place, :length].tolist() == alone.words[0].tolist()
