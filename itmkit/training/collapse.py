"""Notices the collapse of a matcher: every pair scores the same, and the loss stays at what equal scores cost.

Hardest negatives can drive a pairwise matcher into the constant solution, where the loss of a pair is exactly
twice the margin and its gradient nearly vanishes. Some matchers recover by themselves after several epochs, others
never do. Days can pass before anybody looks, so every step is checked. Whether a run then stops is a setting.
"""

from __future__ import annotations

from torch import Tensor

PATIENCE = 100  # steps in a row, or the steps of an epoch if it has fewer
LEAST = 20  # but never fewer than this
GRACE = 100  # extra steps for a member that has not told pairs apart yet: healthy runs begin with equal scores too
NEAR = 0.02  # relative distance of the loss from the loss of equal scores
SPREAD = 0.02  # standard deviation of the scores of a batch, on a scale where pairs are told apart by 0.2


class CollapseWatch:
    """Counts the steps in a row in which a member looks collapsed. The count is part of the resume state.

    It begins below zero, which gives a new member some grace, and returns to zero at every step that looks healthy.
    """

    def __init__(self, count: int = -GRACE) -> None:
        self.count = count

    def step(self, scores: Tensor, loss: float, collapsed_loss: float) -> None:
        """
        Args:
            scores: (Bi, Bt) of the batch.
            loss: of the batch; collapsed_loss: what equal scores would cost it.
        """
        flat = float(scores.detach().float().std()) < SPREAD
        stuck = abs(loss - collapsed_loss) <= NEAR * max(collapsed_loss, 1e-12)
        self.count = self.count + 1 if flat and stuck else 0

    def collapsed(self, steps_of_epoch: int) -> bool:
        return self.count >= min(PATIENCE, max(LEAST, steps_of_epoch))


def advice(member: str, epoch: int, negatives: str) -> str:
    """The message that says what was seen, what it may lead to, and what to try."""
    may, way_out = {
        "hardest": (
            "With hardest negatives this may end by itself after several epochs (7 to 13 in SGRAF's published runs)",
            "train with --negatives soft (or --negatives all), or a longer --warmup-epochs",
        ),
        "all": ("It rarely ends by itself", "lower --learning-rate, or train with --negatives soft"),
        "soft": ("It rarely ends by itself", "lower --learning-rate, or raise --warmup-steps"),
    }[negatives]
    return (
        f"member {member!r} has collapsed in epoch {epoch}: it gives every pair of a batch the same score, and its loss"
        f" rests at what that costs. {may}; where it does not: {way_out}"
    )
