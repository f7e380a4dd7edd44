from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from itmkit.inputs import Inputs
from itmkit.text.vocabulary import Vocabulary
from itmkit.training.batches import epoch_order, pair_batch, pair_batches
from itmkit.workspace import Workspace
from tests.training.tiny import GRAPHS, THINGS

captions_of_images = st.lists(st.integers(1, 7), min_size=1, max_size=12)


@given(captions_of_images, st.integers(2, 12), st.integers(1, 6), st.integers(0, 3), st.integers(1, 4))
@settings(max_examples=80, deadline=None)
def test_order(counts: list[int], batch_size: int, together: int, seed: int, epoch: int) -> None:
    image_of = np.repeat(np.arange(len(counts)), counts)
    batches = epoch_order(image_of, batch_size=batch_size, captions_per_image=together, seed=seed, epoch=epoch)
    flat = np.concatenate(batches)
    assert len(set(flat.tolist())) == len(flat)  # no caption twice
    left_out = len(image_of) - len(flat)
    # Every caption occurs, but for a last batch of less than half the size beside others.
    assert left_out == 0 or (left_out < max(2, batch_size // 2) and left_out == len(image_of) % batch_size)
    assert all(len(batch) == batch_size for batch in batches[:-1]) and 0 < len(batches[-1]) <= batch_size
    again = epoch_order(image_of, batch_size=batch_size, captions_per_image=together, seed=seed, epoch=epoch)
    assert [batch.tolist() for batch in batches] == [batch.tolist() for batch in again]
    if not left_out:
        # Captions of an image lie in runs of `together`, the rest of an image in one shorter run. Runs of one image
        # may happen to be neighbours, so what is counted is how often the image changes.
        changes = 1 + int((np.diff(image_of[flat]) != 0).sum())
        assert changes <= sum(-(-count // together) for count in counts)


def test_captions_of_an_image_are_its_neighbours() -> None:
    image_of = np.repeat(np.arange(20), 5)
    batches = epoch_order(image_of, batch_size=25, captions_per_image=5, seed=0, epoch=1)
    assert all(len(np.unique(image_of[batch])) == 5 for batch in batches)
    alone = epoch_order(image_of, batch_size=25, captions_per_image=1, seed=0, epoch=1)
    assert np.mean([len(np.unique(image_of[batch])) for batch in alone]) > 10


def test_another_epoch_or_seed_has_another_order() -> None:
    image_of = np.repeat(np.arange(20), 5)
    orders = {
        tuple(np.concatenate(epoch_order(image_of, batch_size=10, captions_per_image=1, seed=s, epoch=e)).tolist())
        for s in range(3)
        for e in range(1, 4)
    }
    assert len(orders) == 9


def test_captions_of_an_image_differ_in_company_from_epoch_to_epoch() -> None:
    """With runs of two, it is not always the same two captions that share a batch."""
    image_of = np.repeat(np.arange(6), 4)
    companions = set()
    for epoch in range(1, 20):
        flat = np.concatenate(epoch_order(image_of, batch_size=24, captions_per_image=2, seed=0, epoch=epoch))
        place = int(np.flatnonzero(flat == 0)[0])
        companions |= {int(flat[k]) for k in (place - 1, place + 1) if 0 <= k < 24 and flat[k] < 4}
    assert companions == {1, 2, 3}


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


def test_batches_read_ahead_are_those_of_the_order(workspace: Workspace) -> None:
    inputs = Inputs(workspace, workspace.dataset().split("train"), Vocabulary.build(THINGS, minimum=1), GRAPHS)
    order = epoch_order(inputs.image_of, batch_size=4, captions_per_image=1, seed=0, epoch=1)
    for ahead in (1, 50):
        found = list(pair_batches(inputs, order, ahead=ahead))
        assert [batch.captions.tolist() for batch in found] == [captions.tolist() for captions in order]
        for batch in found:
            torch.testing.assert_close(batch.images.features, pair_batch(inputs, batch.captions).images.features)
    assert list(pair_batches(inputs, [])) == []
