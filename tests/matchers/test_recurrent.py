"""The GRU of training against PyTorch's own."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from itmkit.machine import precision
from itmkit.machine.precision import products_in
from itmkit.matchers.parts.recurrent import both_directions

WORD, SIZE = 5, 4
CPU = torch.device("cpu")


def drawn(lengths: list[int], seed: int = 0) -> tuple[nn.GRU, Tensor, Tensor]:
    torch.manual_seed(seed)
    gru = nn.GRU(WORD, SIZE, batch_first=True, bidirectional=True).double()
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return gru, torch.randn(*mask.shape, WORD, dtype=torch.float64, requires_grad=True), mask


def one_by_one(gru: nn.GRU, inputs: Tensor, mask: Tensor) -> Tensor:
    """Caption by caption, without padding, by PyTorch."""
    found = torch.zeros(*mask.shape, SIZE, dtype=inputs.dtype)
    for row, count in enumerate(mask.sum(dim=1).tolist()):
        states = gru(inputs[row : row + 1, :count])[0][0]
        found[row, :count] = (states[:, :SIZE] + states[:, SIZE:]) / 2
    return found


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(0, 99))
def test_states_and_gradients_are_those_of_pytorch(lengths: list[int], seed: int) -> None:
    gru, inputs, mask = drawn(lengths, seed)
    weights = torch.randn(*mask.shape, SIZE, dtype=torch.float64)
    wanted = [inputs, *gru.parameters()]
    found, expected = both_directions(gru, inputs, mask), one_by_one(gru, inputs, mask)
    torch.testing.assert_close(found, expected)
    mine = torch.autograd.grad((found * weights).sum(), wanted)
    for gradient, literal in zip(mine, torch.autograd.grad((expected * weights).sum(), wanted), strict=True):
        torch.testing.assert_close(gradient, literal)


def test_without_gradients_it_is_the_same() -> None:
    gru, inputs, mask = drawn([3, 5, 1])
    expected = both_directions(gru, inputs, mask)
    with torch.no_grad():
        torch.testing.assert_close(both_directions(gru, inputs, mask), expected.detach())


@pytest.mark.parametrize("hardware", [False, True])
def test_products_of_the_gru_are_never_rounded(hardware: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of what is around it are, before and after."""
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: hardware)
    gru, inputs, mask = drawn([3, 5, 1])
    gru, inputs = gru.float(), inputs.detach().float()

    def found() -> list[Tensor]:
        states = both_directions(gru, inputs, mask)
        return [states, *torch.autograd.grad(states.square().sum(), list(gru.parameters()))]

    whole = found()
    with products_in("bfloat16", CPU):
        before = inputs @ inputs.mT
        within = found()
        after = inputs @ inputs.mT
        with products_in("bfloat16", CPU):
            deeper = found()
    for each in (within, deeper):
        assert all(torch.equal(one, other) for one, other in zip(each, whole, strict=True))
    assert torch.equal(before, after) and not torch.equal(after, inputs @ inputs.mT)
