"""Cross attention between regions and words, as SCAN defines it, and the similarities that follow from it.

The words of all texts of a block are laid end to end, (T, D), so that no time goes into padding.

    `attend_regions`, `attend_words`    the weights, for matchers that go on with attended vectors
    `text_to_image`, `image_to_text`    stacked cross attention: a similarity a pair, no attended vector ever formed
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from itmkit.matchers.parts.blocks import in_blocks
from itmkit.matchers.parts.norms import l2norm, masked_softmax

MAX_SHARPNESS = 30.0  # of attention over words: see `weigh_words`


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


def cosines(regions: Tensor, words: FlatWords) -> Tensor:
    """(Bi, T, R) of every word with every region, both of unit length: what either attention begins with.

    One product of two matrices and a transposed copy, a third faster than a product for each image.
    """
    images, count, size = regions.shape
    flat = words.vectors @ regions.reshape(images * count, size).T  # (T, Bi * R)
    return flat.view(-1, images, count).transpose(0, 1).contiguous()


def weigh_regions(cosine: Tensor, region_mask: Tensor, words: FlatWords, sharpness: float) -> Tensor:
    """`attend_regions` from the cosines (Bi, T, R) on."""
    raised = functional.leaky_relu(cosine, 0.1)
    squares = words.member @ raised.square()  # (Bi, Bt, R) sums over the words of a text
    norm = squares.clamp_min(1e-16).rsqrt().index_select(1, words.text_of)  # (Bi, T, R)
    return masked_softmax(sharpness * raised * norm, region_mask[:, None, :], dim=-1)


def weigh_words(cosine: Tensor, region_mask: Tensor, words: FlatWords, sharpness: float) -> Tensor:
    """`attend_words` from the cosines (Bi, T, R) on."""
    raised = functional.leaky_relu(cosine, 0.1) * region_mask[:, None, :]
    # |normalised| <= 1, so the powers cannot overflow and no maximum has to be found text by text. Nor do all of a
    # text vanish: at the worst they are exp(-2 sharpness), 1e-26 for `MAX_SHARPNESS`.
    powers = torch.exp(sharpness * (l2norm(raised) - 1))
    sums = (words.member @ powers).index_select(1, words.text_of)  # (Bi, T, R)
    return powers / sums * region_mask[:, None, :]


def attend_regions(regions: Tensor, region_mask: Tensor, words: FlatWords, sharpness: float) -> Tensor:
    """Text-to-image attention: how much word t looks at region r of each image.

    `s = cos(v_r, t_j)`, `a = LeakyReLU_0.1(s)`, each region's row L2-normalised over the words of its text, then a
    softmax over the regions with temperature `sharpness` (lambda). SCAN's text-to-image form; MPSM section 3.3.

    Args:
        regions: (Bi, R, D); region_mask: (Bi, R) bool.

    Returns:
        (Bi, T, R) weights, zero for missing regions, summing to one.
    """
    return weigh_regions(_cosines_of_any(regions, words), region_mask, words, sharpness)


def attend_words(regions: Tensor, region_mask: Tensor, words: FlatWords, sharpness: float) -> Tensor:
    """Image-to-text attention: how much region r looks at word t, among the words of its text.

    As `attend_regions` with the roles swapped: each word's row is L2-normalised over the regions, then a softmax over
    the words of each text. SCAN's image-to-text form.

    Args:
        regions: (Bi, R, D); region_mask: (Bi, R) bool; sharpness: at most `MAX_SHARPNESS`.

    Returns:
        (Bi, T, R) weights, zero for missing regions; those of the words of a text sum to one.
    """
    return weigh_words(_cosines_of_any(regions, words), region_mask, words, sharpness)


def _cosines_of_any(regions: Tensor, words: FlatWords) -> Tensor:
    """`cosines` of vectors of any length."""
    return cosines(l2norm(regions), replace(words, vectors=l2norm(words.vectors)))


def unit_attention(weights: Tensor, regions: Tensor) -> Tensor:
    """Scales attention weights so that the attended vectors have unit length, without forming them.

    The attended vector of a word is `V^T a`, its squared length `a^T G a` with the Gram matrix `G = V V^T` of the
    image, which costs R x R instead of D numbers a pair.

    Args:
        weights: (Bi, T, R); regions: (Bi, R, D).
    """
    return weights * _inverse_length(((weights @ gram(regions)) * weights).sum(dim=-1, keepdim=True))


def gram(x: Tensor) -> Tensor:
    """x (B, N, D) -> (B, N, N), the products of its vectors with each other. Once an image or a text."""
    return x @ x.transpose(1, 2)


def text_to_image(
    regions: Tensor,
    region_mask: Tensor,
    region_gram: Tensor,
    words: FlatWords,
    *,
    sharpness: float,
    attention_bonus: float = 0.0,
) -> Tensor:
    """SCAN's text-to-image similarity: the mean over words of their cosine with the regions they attend to.

    With `c_t = sum_i a_ti v_i` and `s_ti = v_i . w_t`, this cosine is `sum_i a_ti s_ti / sqrt(a_t^T G a_t)`.

    Args:
        regions: (Bi, R, D) of unit length, missing ones zero; region_mask: (Bi, R) bool.
        region_gram: (Bi, R, R), `gram(regions)`.
        words: of unit length.
        attention_bonus: times its largest weight is added to each word's cosine.

    Returns:
        (Bi, Bt). An image without regions scores 0.
    """

    def block(regions: Tensor, region_mask: Tensor, region_gram: Tensor) -> Tensor:
        cosine = cosines(regions, words)
        weights = weigh_regions(cosine, region_mask, words, sharpness)  # (Bi, T, R)
        squared = ((weights @ region_gram) * weights).sum(dim=-1)  # (Bi, T) |c_t|^2
        similar = (weights * cosine).sum(dim=-1) * _inverse_length(squared)
        if attention_bonus:
            similar = similar + attention_bonus * weights.amax(dim=-1)
        return similar @ words.member.T / words.member.sum(dim=1)

    return in_blocks(block, regions, region_mask, region_gram, numbers=_numbers(regions, words))


def image_to_text(
    regions: Tensor,
    region_mask: Tensor,
    words: FlatWords,
    word_gram: Tensor,
    *,
    sharpness: float,
    attention_bonus: float = 0.0,
) -> Tensor:
    """SCAN's image-to-text similarity: the mean over regions of their cosine with the words they attend to.

    `text_to_image` with the roles swapped.

    Args:
        word_gram: (Bt, L, L), `gram` of the padded words.
        sharpness: at most `MAX_SHARPNESS`.
    """
    texts, longest = words.mask.shape

    def block(regions: Tensor, region_mask: Tensor) -> Tensor:
        images, count = region_mask.shape
        cosine = cosines(regions, words)
        weights = weigh_words(cosine, region_mask, words, sharpness)  # (Bi, T, R)
        # Words first, so that the Gram matrix of a text meets all regions of all images in one product.
        padded = weights.transpose(0, 1).index_select(0, words.padded.flatten()).view(texts, longest, images * count)
        padded = padded * words.mask.unsqueeze(-1)
        squared = ((word_gram @ padded) * padded).sum(dim=1)  # (Bt, Bi * R) squared length of the attended vectors
        length = _inverse_length(squared).view(texts, images, count).transpose(0, 1)
        similar = (words.member @ (weights * cosine)) * length  # (Bi, Bt, R), 0 for missing regions
        if attention_bonus:
            largest = padded.amax(dim=1).view(texts, images, count).transpose(0, 1)
            similar = similar + attention_bonus * largest
        return similar.sum(dim=-1) / region_mask.sum(dim=1, keepdim=True).clamp_min(1)

    return in_blocks(block, regions, region_mask, numbers=_numbers(regions, words))


def _inverse_length(squared: Tensor) -> Tensor:
    """`1 / sqrt`, finite where the vector is zero."""
    return squared.clamp_min(1e-16).rsqrt()


def _numbers(regions: Tensor, words: FlatWords) -> int:
    """Of an image's words and regions: a cosine and what is being made of it."""
    return 2 * len(words.vectors) * regions.shape[1]
