"""MEFN's entropies of regions and words, and the weights that follow from them: section 3.4 of its paper.

Shape letters: see `itmkit.inputs`.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from itmkit.matchers.parts.attention import FlatWords
from itmkit.matchers.parts.norms import masked_softmax

Entropy = Literal["pair", "conditional"]
Certainty = Literal["either", "match"]


class ModalityFusionEntropy(nn.Module):
    """MFE, eq 1: `sum_ij H(v_i, t_j)`, and the weights that follow from it. The paper leaves H open; the readings:

    "pair"         `q = sigmoid((cos(v_i, t_j) - b) / tau)` is the probability that the two belong together, H its
                   binary entropy in bits, high where that is undecided. b begins at 0: a region and a word without
                   relation, their cosine near 0, are undecided, so that low entropy means relevance (section 3.4).
                   H is low as well where they certainly do not belong together. With certainty "match" H is 1 wherever
                   `q < 1/2`, and only a certain match is low.
    "conditional"  H(T | v_i) of `softmax_j(cos / tau)` for regions, H(V | t_j) of `softmax_i` for words, each over its
                   largest value, log L or log R. Cell (i, j) holds both terms, so that means over cells are entropies.
    """

    def __init__(self, kind: Entropy, *, certainty: Certainty, weight_temperature: float) -> None:
        super().__init__()
        self.kind, self.certainty, self.weight_temperature = kind, certainty, weight_temperature
        self.log_tau = nn.Parameter(torch.tensor(math.log(0.1)))
        if self.kind == "pair":
            self.threshold = nn.Parameter(torch.zeros(()))  # b

    def forward(self, cosine: Tensor, region_mask: Tensor, words: FlatWords) -> tuple[Tensor, Tensor]:
        """What regions, and what words, have their entropy from: cosine (T, Bi, R), mask (Bi, R) -> twice (T, Bi, R).

        Zero for missing regions. With "pair" both are the same tensor.
        """
        scaled = cosine * torch.exp(-self.log_tau)
        if self.kind == "pair":
            # One exponential e = exp(-|logit|) gives the smaller of q and 1 - q, e / (1 + e), and H.
            logit = scaled - self.threshold * torch.exp(-self.log_tau)
            logit = logit.abs() if self.certainty == "either" else logit.relu()
            odds = torch.exp(-logit)
            entropy = (torch.log1p(odds) + logit * (odds / (1 + odds))) * (region_mask / math.log(2))
            return entropy, entropy
        regions, lengths = region_mask.sum(1), words.mask.sum(1)
        of_words = _surprise(masked_softmax(scaled, region_mask)) * _over_maximum(regions)[:, None]
        padded = words.mask[:, :, None, None]
        chosen = masked_softmax(words.pad(scaled, dim=0), padded, dim=1)[words.mask]  # softmax_j
        of_regions = words.scale(_surprise(chosen), _over_maximum(lengths)[:, None, None] * region_mask)
        return of_regions, of_words

    def weights(self, cosine: Tensor, region_mask: Tensor, words: FlatWords) -> tuple[Tensor, Tensor, Tensor]:
        """Fusion weights of regions (Bt, Bi, R) and words (Bi, Bt, L), 1 on average, and the mean of H (Bi, Bt)."""
        of_regions, of_words = self(cosine, region_mask, words)
        regions, lengths = region_mask.sum(1).clamp_min(1)[:, None], words.mask.sum(1)
        region_entropy = words.mean(of_regions)  # (Bt, Bi, R) mean over words
        word_entropy = words.pad(of_words.sum(-1).T / regions, dim=1)  # (Bi, Bt, L) mean over regions
        region_weights = masked_softmax(-region_entropy / self.weight_temperature, region_mask)
        word_weights = masked_softmax(-word_entropy / self.weight_temperature, words.mask)
        mean = (region_entropy.sum(-1).T / regions + (word_entropy * words.mask).sum(-1) / lengths) / 2
        return region_weights * regions, word_weights * lengths[:, None], mean


def _surprise(p: Tensor) -> Tensor:
    return -p * p.clamp_min(1e-12).log()


def _over_maximum(count: Tensor) -> Tensor:
    """n / log n: the mean over n cells times this is a share of the largest entropy. (One cell has none anyway.)"""
    return count / count.clamp_min(2).log()
