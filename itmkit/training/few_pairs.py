"""The gradients of a loss in which few pairs of a batch count, such as that of the hardest negatives.

Of Bi x Bt pairs at most three a caption count there: its own, and the hardest negative of each direction. So every pair
is compared without gradients, the loss says how much each score counts, and the pairs that count are compared again,
with gradients. They are the gradients of the whole, up to rounding. It is exact where a pair is compared in training as
if it were alone (`itmkit.matchers.apart`).
"""

from __future__ import annotations

import torch

from itmkit.matchers import Encoded, Loss, Triplet, apart, pair_loss, pairs

# Images that are compared again together, with all captions that count for one of them. With fewer the calls take the
# time, with more the pairs that do not count.
TOGETHER = 4


def few_are_enough(matcher: torch.nn.Module, device: torch.device) -> bool:
    """Whether steps on the hardest negatives leave pairs out.

    Unmeasured on a GPU, where the calls for a few pairs each may take more time than the pairs that they leave out.
    """
    return device.type == "cpu" and apart(matcher)


def add_gradients_of_few(
    matcher: torch.nn.Module, images: Encoded, texts: Encoded, image_of: torch.Tensor, triplet: Triplet
) -> Loss:
    """Adds the gradients to those of the encoded images and texts, and of the weights that compare them.

    Args:
        images, texts: Bi and Bt of them, leaves (`requires_grad`).
        image_of: (Bt,) int64, the place among `images` of each text's image.

    Returns:
        The loss, and the views that it was computed from.
    """
    with torch.no_grad():
        compared = pairs(matcher, images, texts)
    ends = tuple(view.detach().clone().requires_grad_() for view in compared)
    found = pair_loss(matcher, ends, image_of, triplet)
    found.total.backward()  # type: ignore[no-untyped-call]
    weights = [torch.zeros_like(end) if end.grad is None else end.grad for end in ends]
    counts = torch.stack([weight != 0 for weight in weights]).any(dim=0)  # (Bi, Bt)
    if not counts.any():
        counts[0, 0] = True  # its weight is zero: every weight of the matcher has a gradient then, as without this
    for rows in counts.any(dim=1).nonzero()[:, 0].split(TOGETHER):  # type: ignore[no-untyped-call]
        columns = counts[rows].any(dim=0).nonzero()[:, 0]
        again = pairs(matcher, _some(images, rows), _some(texts, columns))
        torch.autograd.backward(again, [weight[rows][:, columns] for weight in weights])
    return found


def _some(encoded: Encoded, places: torch.Tensor) -> Encoded:
    return {name: value[places] for name, value in encoded.items()}
