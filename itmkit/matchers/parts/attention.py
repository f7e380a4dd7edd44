"""Cross attention between regions and words, as SCAN defines it.

The words of all texts of a block are laid end to end, (T, D), so that no time goes into padding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from itmkit.matchers.parts.norms import l2norm, masked_softmax


@dataclass(frozen=True)
class FlatWords:
    """The real words of a block of texts, end to end, and how to find back."""

    vectors: Tensor  # (T, D)
    member: Tensor  # (Bt, T) 1 where word t belongs to text b, else 0, in the dtype of `vectors`
    text_of: Tensor  # (T,) int64
    padded: Tensor  # (Bt, L) int64: place of each word in the flat order; 0 for padding
    mask: Tensor  # (Bt, L) bool

    @classmethod
    def of(cls, words: Tensor, mask: Tensor) -> FlatWords:
        """words (Bt, L, D), mask (Bt, L) bool."""
        text_of = mask.nonzero()[:, 0]
        member = (torch.arange(len(mask), device=mask.device)[:, None] == text_of).to(words.dtype)
        padded = (mask.flatten().cumsum(0) - 1).view_as(mask) * mask
        return cls(words[mask], member, text_of, padded, mask)

    def pad(self, x: Tensor) -> Tensor:
        """(Bi, T, S) -> (Bi, Bt, L, S); what lies in padded places is meaningless and must be masked."""
        texts, longest = self.padded.shape
        return x.index_select(1, self.padded.flatten()).view(x.shape[0], texts, longest, x.shape[-1])


def attend_regions(regions: Tensor, region_mask: Tensor, words: FlatWords, sharpness: float) -> Tensor:
    """Text-to-image attention: how much word t looks at region r of each image.

    `s = cos(v_r, t_j)`, `a = LeakyReLU_0.1(s)`, each region's row L2-normalised over the words of its text, then a
    softmax over the regions with temperature `sharpness` (lambda). SCAN's text-to-image form; MPSM section 3.3.

    Args:
        regions: (Bi, R, D); region_mask: (Bi, R) bool.

    Returns:
        (Bi, T, R) weights, zero for missing regions, summing to one.
    """
    cosine = l2norm(words.vectors) @ l2norm(regions).transpose(1, 2)  # (Bi, T, R)
    return attention_over_regions(cosine, region_mask, words, sharpness)


def attention_over_regions(cosine: Tensor, region_mask: Tensor, words: FlatWords, sharpness: float) -> Tensor:
    """`attend_regions` from the cosines (Bi, T, R), for methods that need them for more than this."""
    raised = functional.leaky_relu(cosine, 0.1)
    squares = words.member @ raised.square()  # (Bi, Bt, R) sums over the words of a text
    norm = squares.clamp_min(1e-16).rsqrt().index_select(1, words.text_of)  # (Bi, T, R)
    return masked_softmax(sharpness * raised * norm, region_mask[:, None, :], dim=-1)


def attend_words(regions: Tensor, region_mask: Tensor, words: FlatWords, sharpness: float) -> Tensor:
    """Image-to-text attention: how much region r looks at word t, among the words of its text.

    As `attend_regions` with the roles swapped: each word's row is L2-normalised over the regions, then a softmax over
    the words of each text. SCAN's image-to-text form.

    Args:
        regions: (Bi, R, D); region_mask: (Bi, R) bool.

    Returns:
        (Bi, T, R) weights, zero for missing regions; those of the words of a text sum to one.
    """
    cosine = l2norm(words.vectors) @ l2norm(regions).transpose(1, 2)  # (Bi, T, R)
    return attention_over_words(cosine, region_mask, words, sharpness)


def attention_over_words(cosine: Tensor, region_mask: Tensor, words: FlatWords, sharpness: float) -> Tensor:
    """`attend_words` from the cosines (Bi, T, R), for methods that need them for more than this."""
    raised = functional.leaky_relu(cosine, 0.1) * region_mask[:, None, :]
    # |normalised| <= 1, so the powers cannot overflow and no maximum has to be found text by text.
    powers = torch.exp(sharpness * (l2norm(raised) - 1))
    sums = (words.member @ powers).index_select(1, words.text_of)  # (Bi, T, R)
    return powers / sums * region_mask[:, None, :]


def unit_attention(weights: Tensor, regions: Tensor) -> Tensor:
    """Scales attention weights so that the attended vectors have unit length, without forming them.

    The attended vector of a word is `V^T a`, its squared length `a^T G a` with the Gram matrix `G = V V^T` of the
    image, which costs R x R instead of D numbers a pair.

    Args:
        weights: (Bi, T, R); regions: (Bi, R, D).
    """
    gram = regions @ regions.transpose(1, 2)  # (Bi, R, R)
    squared = ((weights @ gram) * weights).sum(dim=-1, keepdim=True)
    return weights * torch.rsqrt(squared.clamp_min(1e-16))
