"""One step of training: the gradients of a batch for every member, clipped, and the step of the optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from itmkit.cache import WHOLE, Part
from itmkit.machine.precision import precision_of, products_in
from itmkit.matchers import after_step
from itmkit.matchers.parts.losses import Negatives, triplet_loss
from itmkit.runs.settings import Training
from itmkit.training.batches import PairBatch
from itmkit.training.gradients import add_gradients
from itmkit.training.rates import FACTOR, parameter_groups
from itmkit.training.together import add_up


@dataclass(frozen=True)
class Learned:
    """What a member learned from a batch: its loss, summed over all captions, and where a collapse would show."""

    loss: float
    views: Tensor | None  # (V, Bi, Bt) scores of this process's share
    share: float  # the loss of that share
    equal: float  # what it would be if all scores were equal


class NotFinite(Exception):
    """A loss or a gradient is not finite. The weights are as they were before the batch."""

    def __init__(self, member: str, what: str) -> None:
        super().__init__(f"the {what} of member {member!r} is not finite")
        self.member, self.what = member, what


class Learner:
    """The members of a method, and the optimizer of all of them.

    They share no parameter and no random number, so each is trained as if it were alone.
    """

    def __init__(
        self, members: Mapping[str, nn.Module], settings: Training, device: torch.device, part: Part = WHOLE
    ) -> None:
        self.members, self.settings, self.device, self.part = dict(members), settings, device, part
        for matcher in self.members.values():
            matcher.to(device)
        groups = parameter_groups(self.members, settings)
        # A method without parameters is not trained, but Adam wants something to hold.
        groups = groups or [{"params": [nn.Parameter(torch.zeros(1))], FACTOR: 1.0}]
        # Without decay this is Adam, to the last bit.
        rate, decay = settings.learning_rate, settings.weight_decay
        self.optimizer = torch.optim.AdamW(groups, lr=rate, weight_decay=decay, fused=True)
        self._products = precision_of(settings.precision, device)
        # What is validated and kept: the members themselves, or with `ema` a moving average of their weights.
        self.kept = deepcopy(self.members) if settings.ema else self.members

    @property
    def modules(self) -> dict[str, nn.Module]:
        """Everything with weights that a resume needs."""
        averages = {f"average of {name}": average for name, average in self.kept.items()} if self.settings.ema else {}
        return self.members | averages

    def step(
        self, batch: PairBatch, stage: str, negatives: Negatives, rate: float, *, epoch: int, number: int, done: int
    ) -> dict[str, Learned]:
        """Learns from a batch.

        Args:
            rate: the learning rate, of which each part has its factor (`itmkit.training.rates`).
            number: the number of the step in its epoch. With the epoch and the seed it decides what dropout drops.
            done: how many steps of the whole training came before this one.

        Raises:
            NotFinite: the loss or a gradient is not finite. Nothing has changed then.
        """
        # Each process draws its own dropout, which depends on its number too.
        drawn_from = [self.settings.seed, epoch, number, *([self.part.index] if self.part.index else [])]
        seed = int(np.random.SeedSequence(drawn_from).generate_state(1)[0])
        batch = batch.to(self.device)
        margin, temperature = self.settings.margin, self.settings.temperature
        triplet = partial(
            triplet_loss, image_of=batch.image_of, margin=margin, negatives=negatives, temperature=temperature
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group[FACTOR]
        self.optimizer.zero_grad(set_to_none=True)
        learned: dict[str, Learned] = {}
        for name, matcher in self.members.items():
            matcher.train()
            with products_in(self._products, self.device):
                found = add_gradients(
                    matcher,
                    batch.images,
                    batch.texts,
                    batch.image_of,
                    triplet,
                    stage,
                    seed=seed,
                    parts=self.settings.accumulate,
                    together=batch.together,
                    few=negatives == "hardest",
                )
            add_up(parameter.grad for parameter in matcher.parameters() if parameter.grad is not None)
            total = found.total.clone()
            if batch.together is None:  # of this process's share; otherwise all of them have the loss of the batch
                add_up([total])
            if not torch.isfinite(total):
                raise NotFinite(name, "loss")
            if not torch.isfinite(nn.utils.clip_grad_norm_(matcher.parameters(), self.settings.clip)):
                raise NotFinite(name, "gradient")
            views = torch.stack(found.views) if found.views else None
            equal = sum(float(triplet(torch.zeros_like(view))) for view in found.views)
            learned[name] = Learned(float(total), views, float(found.total), equal)
        self.optimizer.step()
        for name, matcher in self.members.items():
            after_step(matcher, stage)
            if self.settings.ema:
                # The first averages cover few steps, so that they forget the random initial weights.
                _move(self.kept[name], matcher, keep=min(self.settings.ema, (1 + done) / (10 + done)))
        return learned


@torch.no_grad()
def _move(average: nn.Module, towards: nn.Module, *, keep: float) -> None:
    """Moves a slow copy of a module: `keep` of the copy and the rest of the module. Counts and the like are copied."""
    slow, fast = average.state_dict(), towards.state_dict()
    moving = [name for name, value in slow.items() if value.is_floating_point()]
    torch._foreach_lerp_([slow[name] for name in moving], [fast[name] for name in moving], 1 - keep)
    for name in slow.keys() - set(moving):
        slow[name].copy_(fast[name])
