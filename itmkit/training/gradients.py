"""The gradients of a batch: whole, or encoded part by part, or shared by several processes.

The pairs of a batch are images times captions, and a negative may be any of them, so a batch cannot simply be cut into
smaller ones. But its gradients can be computed in parts:

    1  encode each part, keeping only the encoded vectors;
    2  compare all of them, and propagate from the loss back to the encoded vectors;
    3  encode each part again, and propagate from its vectors back to the weights.

The parts may be those of one process with little memory, or of several processes, each of which then compares its own
images with all captions. Either way the gradients are those of the whole batch, up to rounding. (Dropout is drawn part
by part, and encoders with batch normalisation take the statistics of a part.) Where few pairs count in the loss, only
these are compared with gradients (`itmkit.training.few_pairs`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from itmkit.inputs import ImageBatch, TextBatch
from itmkit.matchers import Encoded, Loss, Triplet, as_matcher, batch_loss, loss, pair_loss, pairs
from itmkit.training.few_pairs import add_gradients_of_few, few_are_enough
from itmkit.training.together import Together, least


def add_gradients(
    matcher: nn.Module,
    images: ImageBatch,
    texts: TextBatch,
    image_of: Tensor,
    triplet: Triplet,
    stage: str,
    *,
    seed: int,
    parts: int = 1,
    together: Together | None = None,
    few: bool = False,
) -> Loss:
    """Adds the gradients of a batch to those of the weights; returns its loss, detached.

    Args:
        images, texts: of this process; with `together`, of its share of the batch.
        image_of: (Bt,) int64, of all captions of the batch, those of process 0 first.
        seed: the seed of dropout.
        parts: the number of parts in which images and texts are encoded.
        together: the processes that share the batch; None if this one has all of it.
        few: whether few pairs count in the triplet loss.
    """
    _seed(seed)
    found = batch_loss(matcher, images, texts, image_of, stage)
    few = few and together is None and few_are_enough(matcher, image_of.device)
    if found is None and parts == 1 and together is None and not few:
        found = loss(matcher, images, texts, image_of, triplet, stage)
    if found is not None:
        found.total.backward()  # type: ignore[no-untyped-call]
        return _detached(found)
    contract = as_matcher(matcher)
    if few and parts == 1:
        both = contract.encode_images(images), contract.encode_texts(texts)
        leaves = _leaves(both[0]), _leaves(both[1])
        found = add_gradients_of_few(matcher, *leaves, image_of, triplet)
        for encoded, leaf in zip(both, leaves, strict=True):
            _backward(encoded, {name: value.grad for name, value in leaf.items()})
        return _detached(found)
    image_side = _Side(contract.encode_images, _cut(images, parts), seed)
    text_side = _Side(contract.encode_texts, _cut(texts, parts), seed + 1)
    all_texts = together.join(text_side.encoded) if together else text_side.encoded
    leaves = _leaves(image_side.encoded), _leaves(all_texts)
    _seed(seed)
    if few:
        found = add_gradients_of_few(matcher, *leaves, image_of, triplet)
    else:
        rows = pairs(matcher, *leaves)
        found = pair_loss(matcher, together.rows(rows) if together else rows, image_of, triplet)
        found.total.backward()  # type: ignore[no-untyped-call]
    to_images, to_texts = ({name: leaf.grad for name, leaf in side.items()} for side in leaves)
    image_side.backward(to_images)
    text_side.backward(together.mine(to_texts) if together else to_texts)
    return _detached(found)


def _seed(number: int) -> None:
    """As `torch.manual_seed`, which also keeps a stack trace for every kind of device, whether it is in use or not."""
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(number)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(number)
    if torch.xpu.is_initialized():  # type: ignore[no-untyped-call]
        torch.xpu.manual_seed(number)


def _detached(found: Loss) -> Loss:
    return Loss(found.total.detach(), tuple(view.detach() for view in found.views))


def _cut(batch: ImageBatch | TextBatch, parts: int) -> list[ImageBatch | TextBatch]:
    """The rows in up to `parts` parts of about the same size.

    All processes have as many parts: batch normalisation takes the statistics of a part over all of them.
    """
    count = len(batch.mask)
    if parts > 1:
        parts = least(min(parts, count), batch.mask.device)
    bounds = [count * part // parts for part in range(parts + 1)]
    return [batch.rows(slice(start, stop)) for start, stop in pairwise(bounds)]


def _leaves(encoded: Encoded) -> Encoded:
    """The same numbers, detached, as leaves that collect gradients."""
    return {name: value.detach().requires_grad_(value.is_floating_point()) for name, value in encoded.items()}


def _backward(encoded: Encoded, gradients: dict[str, Tensor | None]) -> None:
    """From the gradients of encoded vectors back to the weights."""
    ends = {name: value for name, value in gradients.items() if value is not None and encoded[name].requires_grad}
    if ends:
        torch.autograd.backward([encoded[name] for name in ends], list(ends.values()))


class _Side:
    """Images or texts, encoded part by part, and the way back from them to the weights."""

    def __init__(self, encode: Callable[..., Encoded], parts: Sequence[ImageBatch | TextBatch], seed: int) -> None:
        self._encode, self._parts, self._seed = encode, parts, seed
        with torch.no_grad():
            encoded = [self._part(number) for number in range(len(parts))]
        self.encoded: Encoded = {name: torch.cat([part[name] for part in encoded]) for name in encoded[0]}

    def _part(self, number: int) -> Encoded:
        _seed(self._seed * 1_000 + number)  # the same dropout both times
        return self._encode(self._parts[number])

    def backward(self, gradients: dict[str, Tensor | None]) -> None:
        first = 0
        for number, part in enumerate(self._parts):
            rows = slice(first, first + len(part.mask))
            first = rows.stop
            some = {name: None if gradient is None else gradient[rows] for name, gradient in gradients.items()}
            _backward(self._part(number), some)
