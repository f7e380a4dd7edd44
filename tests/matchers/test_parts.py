"""Losses, norms and pooling against versions that loop over every pair."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from itmkit.machine.precision import products_in
from itmkit.matchers.parts.attended import unit_weights
from itmkit.matchers.parts.attention import FlatWords, cosines, gram, powers_of_regions, unit_attention
from itmkit.matchers.parts.losses import triplet_loss
from itmkit.matchers.parts.norms import MaskedBatchNorm, l2norm, masked_softmax
from itmkit.matchers.parts.pooling import MeanQueryPooling, masked_mean
from itmkit.matchers.parts.rows import Rows
from itmkit.matchers.parts.similarity import Kind, SimilarityRepresentation, squared_difference
from tests.matchers.literal_pooling import published_pooling

NEGATIVES = ("hardest", "all", "soft")


def naive_loss(scores: np.ndarray, image_of: list[int], margin: float, negatives: str, temperature: float) -> float:
    total = 0.0
    for caption, own in enumerate(image_of):
        positive = scores[own, caption]
        other_images = [scores[image, caption] for image in range(len(scores)) if image != own]
        other_captions = [scores[own, other] for other, image in enumerate(image_of) if image != own]
        for found in (other_images, other_captions):
            violations = [margin + negative - positive for negative in found]
            if not violations:
                continue
            if negatives == "hardest":
                total += max(0.0, max(violations))
            elif negatives == "all":
                total += sum(max(0.0, violation) for violation in violations)
            else:
                total += temperature * math.log(sum(math.exp(violation / temperature) for violation in violations))
    return total


@st.composite
def batches(draw: st.DrawFn) -> tuple[np.ndarray, list[int]]:
    """Scores with many ties, 1 to 4 images, 1 to 3 captions each, captions in any order."""
    captions = draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    image_of = draw(st.permutations([image for image, count in enumerate(captions) for _ in range(count)]))
    cells = len(captions) * len(image_of)
    values = draw(st.lists(st.integers(-4, 4), min_size=cells, max_size=cells))
    return np.array(values, np.float64).reshape(len(captions), len(image_of)) / 8, list(image_of)


@pytest.mark.parametrize("negatives", NEGATIVES)
@given(batch=batches(), margin=st.sampled_from([0.2, 0.5]), temperature=st.sampled_from([0.1, 0.4]))
@settings(max_examples=40, deadline=None)
def test_triplet_loss(negatives: Any, batch: tuple[np.ndarray, list[int]], margin: float, temperature: float) -> None:
    scores, image_of = batch
    found = triplet_loss(
        torch.from_numpy(scores), torch.tensor(image_of), margin=margin, negatives=negatives, temperature=temperature
    )
    assert float(found) == pytest.approx(naive_loss(scores, image_of, margin, negatives, temperature), abs=1e-9)


@pytest.mark.parametrize("negatives", ["hardest", "all"])
def test_captions_of_the_same_image_are_no_negatives(negatives: Any) -> None:
    """Everything is in order by the margin, but the captions of an image score very differently: no loss."""
    scores = torch.tensor([[0.5, 5.0, 0.1, 0.2], [0.1, 0.2, 0.6, 0.9]])
    assert float(triplet_loss(scores, torch.tensor([0, 0, 1, 1]), margin=0.2, negatives=negatives)) == 0
    assert (
        float(triplet_loss(scores[:, [0, 2, 1, 3]], torch.tensor([0, 1, 0, 1]), margin=0.2, negatives=negatives)) == 0
    )


@pytest.mark.parametrize("negatives", NEGATIVES)
def test_a_batch_of_one_image_has_no_negatives(negatives: Any) -> None:
    scores = torch.rand(1, 3, requires_grad=True)
    loss = triplet_loss(scores, torch.zeros(3, dtype=torch.int64), margin=0.2, negatives=negatives)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0 and scores.grad is not None and not scores.grad.any()


@pytest.mark.parametrize("negatives", NEGATIVES)
def test_gradient_of_the_loss(negatives: Any) -> None:
    scores = torch.rand(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    image_of = torch.tensor([0, 1, 1, 2, 0])
    assert torch.autograd.gradcheck(
        lambda x: triplet_loss(x, image_of, margin=0.2, negatives=negatives), (scores,), eps=1e-7
    )


def test_equal_scores_cost_two_margins_a_pair() -> None:
    """What a collapsed matcher pays with hardest negatives."""
    loss = triplet_loss(torch.full((4, 8), 0.5), torch.arange(8) // 2, margin=0.2, negatives="hardest")
    assert float(loss) == pytest.approx(8 * 2 * 0.2)


def test_l2norm() -> None:
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    unit = l2norm(x)
    np.testing.assert_allclose(unit.detach().numpy(), [[0.6, 0.8], [0, 0]], atol=1e-6)
    unit.sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None and torch.isfinite(x.grad).all()
    np.testing.assert_allclose(l2norm(torch.tensor([[3.0], [4.0]]), dim=0).numpy(), [[0.6], [0.8]], atol=1e-6)


@given(st.lists(st.tuples(st.floats(-50, 50, width=32), st.booleans()), min_size=1, max_size=6))
@settings(max_examples=50, deadline=None)
def test_masked_softmax(entries: list[tuple[float, bool]]) -> None:
    logits, mask = torch.tensor([x for x, _ in entries]), torch.tensor([real for _, real in entries])
    found = masked_softmax(logits, mask)
    kept = [x for x, real in entries if real]
    expected = iter(np.exp(np.array(kept) - max(kept)) / np.exp(np.array(kept) - max(kept)).sum() if kept else [])
    for value, (_, real) in zip(found.tolist(), entries, strict=True):
        assert value == pytest.approx(next(expected), abs=1e-6) if real else value == 0


def test_masked_batch_norm_is_batch_norm_of_the_real_entries() -> None:
    torch.manual_seed(0)
    mine, theirs = MaskedBatchNorm(), nn.BatchNorm1d(1)
    with torch.no_grad():
        for value in (mine.weight, theirs.weight):
            value.fill_(1.5)
        for value in (mine.bias, theirs.bias):
            value.fill_(-0.2)
    mask = torch.tensor([[True, True, False], [True, False, False]])
    for _ in range(3):
        x: Tensor = torch.randn(4, 2, 3) * 2 + 1
        real = x[mask.expand_as(x)]
        torch.testing.assert_close(mine(x, mask)[mask.expand_as(x)], theirs(real[:, None])[:, 0])
    torch.testing.assert_close(mine.running_mean, theirs.running_mean[0])
    torch.testing.assert_close(mine.running_var, theirs.running_var[0])
    mine.eval(), theirs.eval()
    torch.testing.assert_close(mine(x, mask)[mask.expand_as(x)], theirs(real[:, None])[:, 0])


def test_masked_batch_norm_of_each_number_by_itself() -> None:
    torch.manual_seed(0)
    mine, theirs = MaskedBatchNorm(5), nn.BatchNorm1d(5)
    with torch.no_grad():
        for mine_parameter, theirs_parameter in zip(mine.parameters(), theirs.parameters(), strict=True):
            mine_parameter.copy_(torch.randn(5))
            theirs_parameter.copy_(mine_parameter)
    mask = torch.tensor([[True, True, False], [True, False, False]])
    for _ in range(3):
        x = torch.randn(2, 3, 5) * 2 + 1
        torch.testing.assert_close(mine(x, mask.unsqueeze(-1))[mask], theirs(x[mask]))
    assert mine.state_dict().keys() == MaskedBatchNorm().state_dict().keys()
    for name, value in mine.state_dict().items():
        torch.testing.assert_close(value, theirs.state_dict()[name])
    mine.eval(), theirs.eval()
    torch.testing.assert_close(mine(x, mask.unsqueeze(-1))[mask], theirs(x[mask]))


def test_a_batch_without_gradients_leaves_no_statistics() -> None:
    """In parts, or by two processes, a batch is encoded twice and must count once."""
    norm, x, real = MaskedBatchNorm(), torch.randn(4), torch.ones(4, dtype=torch.bool)
    with torch.no_grad():
        first = norm(x, real)
    assert norm.running_mean == 0 and norm.running_var == 1
    assert torch.equal(norm(x, real), first) and norm.running_mean != 0


@pytest.mark.parametrize(("size", "there"), [(None, [False] * 3), (3, [True, False, True])])
def test_what_a_batch_has_nothing_of_keeps_its_statistics(size: int | None, there: list[bool]) -> None:
    """Those of a rare place, which few batches have, would fall to zero."""
    norm, x = MaskedBatchNorm(size), torch.randn(4, 3) * 2 + 1
    norm(x, torch.tensor(there))
    kept = ~torch.tensor(there) if size else torch.tensor(True)
    assert torch.equal(norm.running_mean == 0, kept) and torch.equal(norm.running_var == 1, kept)


def pooling_of(side: Literal["image", "text"]) -> MeanQueryPooling:
    """The published form, none of whose weights and statistics are at their tidy first values."""
    torch.manual_seed(0)
    pooling = MeanQueryPooling(6, form="published", side=side)
    with torch.no_grad():
        for value in pooling.state_dict().values():
            value.add_(torch.rand_like(value) * 0.3)
        pooling.weigh.weight.mul_(5)
    return pooling.double()


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("side", ["image", "text"])
def test_published_pooling(side: Literal["image", "text"], training: bool) -> None:
    pooling, lengths = pooling_of(side).train(training), [3, 1, 4]
    pooling.dropout.p = 0.0
    x, mask = torch.randn(3, 4, 6, dtype=torch.float64), torch.arange(4) < torch.tensor(lengths)[:, None]
    running: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    sets = [[row.numpy() for row in own[:length]] for own, length in zip(x, lengths, strict=True)]
    weights = {name: value.detach().numpy().copy() for name, value in pooling.state_dict().items()}
    expected = published_pooling(weights, sets, training=training, running=running)
    torch.testing.assert_close(pooling(x, mask), torch.from_numpy(np.array(expected)), rtol=0, atol=1e-10)
    assert set(running) == ({"key_norm", "query_norm"} if side == "image" and training else set())
    for name, (mean, variance) in running.items():
        np.testing.assert_allclose(pooling.state_dict()[f"{name}.running_mean"], mean, atol=1e-12)
        np.testing.assert_allclose(pooling.state_dict()[f"{name}.running_var"], variance, atol=1e-12)


@pytest.mark.parametrize("side", ["image", "text"])
def test_published_pooling_does_not_depend_on_order_padding_and_company(side: Literal["image", "text"]) -> None:
    pooling, x = pooling_of(side).eval(), torch.randn(3, 4, 6, dtype=torch.float64)
    mask = torch.arange(4) < torch.tensor([3, 2, 4])[:, None]
    plain = pooling(x, mask)
    padded = torch.cat([x, torch.full((3, 2, 6), 1e3, dtype=torch.float64)], dim=1)
    torch.testing.assert_close(pooling(padded, torch.cat([mask, torch.zeros(3, 2, dtype=torch.bool)], 1)), plain)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(pooling(x[:, order], mask[:, order]), plain)
    for row in range(3):
        torch.testing.assert_close(pooling(x[row : row + 1], mask[row : row + 1])[0], plain[row])
    assert not pooling(x, mask & False).any()


def test_published_pooling_begins_far_from_a_mean() -> None:
    """What it is for: the largest weight of 12 beside the smallest, at the start of training."""
    torch.manual_seed(0)
    ratios = []
    for form in ("print", "published"):
        pooling = MeanQueryPooling(64, form=form).train()  # type: ignore[arg-type]
        weights = pooling.weights(l2norm(torch.randn(32, 12, 64)), torch.ones(32, 12, dtype=torch.bool))
        ratios.append(float((weights.amax(1) / weights.amin(1)).mean().detach()))
    assert ratios[0] < 1.05 and ratios[1] > 2


def test_masked_mean_and_pooling_leave_padding_out() -> None:
    x = torch.randn(2, 3, 4)
    mask = torch.tensor([[True, True, False], [False, False, False]])
    torch.testing.assert_close(masked_mean(x, mask)[0], x[0, :2].mean(0))
    assert not masked_mean(x, mask)[1].any()
    pooling = MeanQueryPooling(4)
    changed = x.clone()
    changed[0, 2] = 100
    torch.testing.assert_close(pooling(x, mask), pooling(changed, mask))
    assert not pooling(x, mask)[1].any()


@pytest.mark.parametrize("lengths", [[3, 1, 2], [3, 3, 3]])
def test_rows_leave_padding_out_and_put_zeros_there(lengths: list[int]) -> None:
    mask = torch.arange(3) < torch.tensor(lengths)[:, None]
    padded = torch.randn(3, 3, 4, dtype=torch.float64, requires_grad=True)
    rows = Rows(mask)
    assert torch.equal(rows.take(padded), padded[mask])
    assert torch.equal(rows.put(rows.take(padded)), padded * mask.unsqueeze(-1))
    assert torch.autograd.gradcheck(lambda x: rows.put(rows.take(x).square()), padded)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("shapes", [((2, 5, 3), (5, 3)), ((4, 1, 3), (5, 3)), ((5, 3), (5, 3)), ((1, 5, 3), (2, 1, 3))])
def test_squared_difference_and_its_gradient(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    x, y = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes)
    expected = (x - y).square()
    assert torch.equal(squared_difference(x, y), expected)
    assert torch.equal(squared_difference(x.detach(), y.detach()), expected)
    assert torch.autograd.gradcheck(squared_difference, (x, y))  # type: ignore[no-untyped-call]
    assert torch.autograd.gradcheck(squared_difference, (x.detach(), y))  # type: ignore[no-untyped-call]


LENGTHS = pytest.mark.parametrize("lengths", [[3, 1, 2], [3, 3, 3]])


def words_and_regions(lengths: list[int]) -> tuple[Tensor, Tensor, FlatWords, Tensor]:
    """Two images, of 3 regions and of 2, and the unit vectors of words."""
    mask, region_mask = (
        torch.arange(3) < torch.tensor(lengths)[:, None],
        torch.tensor([[True] * 3, [True, True, False]]),
    )
    vectors = l2norm(torch.randn(int(mask.sum()), 4, dtype=torch.float64)).requires_grad_()
    regions = l2norm(torch.randn(2, 3, 4, dtype=torch.float64)) * region_mask.unsqueeze(-1)
    return regions.requires_grad_(), region_mask, FlatWords(vectors, mask, bool(mask.all())), vectors


@LENGTHS
def test_weights_of_unit_length_and_their_gradients_written_by_hand(lengths: list[int]) -> None:
    regions, mask, words, vectors = words_and_regions(lengths)

    def by_hand(regions: Tensor, region_gram: Tensor, vectors: Tensor) -> Tensor:
        return unit_weights(regions, mask, region_gram, replace(words, vectors=vectors), 9.0)

    def by_autograd(regions: Tensor, region_gram: Tensor, vectors: Tensor) -> Tensor:
        powers = powers_of_regions(cosines(regions, words), mask, words, 9.0)
        return unit_attention(powers.transpose(0, 1), region_gram)

    inputs = regions, gram(regions).detach().requires_grad_(), vectors
    expected, found = by_autograd(*inputs), by_hand(*inputs)
    torch.testing.assert_close(found, expected)
    assert not found[1, :, 2].any()
    torch.testing.assert_close((found @ regions).norm(dim=-1), torch.ones(2, len(vectors), dtype=torch.float64))
    weights = torch.randn_like(found)
    torch.testing.assert_close(
        torch.autograd.grad((found * weights).sum(), inputs), torch.autograd.grad((expected * weights).sum(), inputs)
    )


@LENGTHS
@pytest.mark.parametrize("kind", ["distance", "direction"])
@pytest.mark.parametrize("bias", [False, True])
def test_similarity_vectors_of_attended_vectors_and_their_gradients(lengths: list[int], kind: Kind, bias: bool) -> None:
    regions, _, _, vectors = words_and_regions(lengths)
    weights = torch.rand(2, len(vectors), 3, dtype=torch.float64, requires_grad=True)
    compare = SimilarityRepresentation(kind, 4, 5, unit=True, bias=bias).double()
    inputs = weights, regions, vectors, *compare.parameters()
    assert torch.autograd.gradcheck(lambda *_: compare.attended(weights, regions, vectors), inputs)  # type: ignore[no-untyped-call]
    found, expected = compare.attended(weights, regions, vectors), compare(weights @ regions, vectors)
    torch.testing.assert_close(found, expected)
    with torch.no_grad():
        torch.testing.assert_close(compare.attended(weights, regions, vectors), expected)


@pytest.mark.parametrize("in_thread", [False, True])
def test_gradients_written_by_hand_are_products_of_the_precision_of_training(in_thread: bool) -> None:
    """Also where another thread computes them, as on a GPU."""
    regions, _, _, vectors = (x.detach().float() if isinstance(x, Tensor) else x for x in words_and_regions([3, 1, 2]))
    weights, compare = torch.rand(2, len(vectors), 3), SimilarityRepresentation("distance", 4, 5, unit=True)

    def gradients(function: Callable[..., Tensor]) -> list[Tensor]:
        inputs = [x.clone().requires_grad_() for x in (weights, regions, vectors)]
        with products_in("bfloat16", torch.device("cpu")):
            total = function(*inputs)[..., 0].sum()
        if in_thread:
            thread = threading.Thread(target=total.backward)
            thread.start()
            thread.join()
        else:
            with products_in("bfloat16", torch.device("cpu")):
                total.backward()  # type: ignore[no-untyped-call]
        return [x.grad for x in inputs]  # type: ignore[misc]

    found, exact = gradients(compare.attended), gradients(lambda w, r, y: compare(w @ r, y))
    torch.testing.assert_close(found, exact, rtol=5e-2, atol=2e-2)
