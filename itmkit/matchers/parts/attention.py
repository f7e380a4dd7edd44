"""Cross attention between regions and words, as SCAN defines it, and the similarities that follow from it.

The words of all texts of a block are laid end to end, (T, D), so that no time goes into padding.

    `attend_regions`, `weigh_words`     the weights, for matchers that go on with attended vectors
    `text_to_image`, `image_to_text`    stacked cross attention: a similarity a pair, no attended vector ever formed
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from itmkit.matchers.parts.blocks import in_blocks
from itmkit.matchers.parts.norms import barrier, l2norm
from itmkit.matchers.parts.rows import Rows

MAX_SHARPNESS = 20.0  # of attention: see `powers_of_regions`
MAX_LSE = 40.0  # of LogSumExp: the sum over a text of exp(40), or of exp(-40), stays far from the ends of float32


@dataclass(frozen=True)
class FlatWords:
    """The real words of a block of texts, end to end, and how to find back.

    Where all texts are equally long, as in the tiles of `itmkit.scoring`, nothing has to be found: words are then
    texts times places, and what else would be a product or a copy is a view.
    """

    vectors: Tensor  # (T, D)
    mask: Tensor  # (Bt, L) bool
    even: bool  # no padding

    @classmethod
    def of(cls, words: Tensor, mask: Tensor) -> FlatWords:
        """words (Bt, L, D), mask (Bt, L) bool."""
        rows = Rows(mask)
        return cls(rows.take(words), mask, rows.even)

    @cached_property
    def text_of(self) -> Tensor:
        """(T,) int64"""
        return self.mask.nonzero()[:, 0]

    @cached_property
    def _member(self) -> Tensor:
        """(Bt, T) 1 where word t belongs to text b, else 0, in the dtype of `vectors`."""
        texts = torch.arange(len(self.mask), device=self.mask.device)
        return (texts[:, None] == self.text_of).to(self.vectors.dtype)

    @cached_property
    def _padded(self) -> Tensor:
        """(Bt * L,) int64: place of each word in the flat order; 0 for padding."""
        return ((self.mask.flatten().cumsum(0) - 1).view_as(self.mask) * self.mask).flatten()

    def pad(self, x: Tensor, dim: int) -> Tensor:
        """Dimension `dim` of x, of size T, becomes two, (Bt, L). In padded places lies the first word, to be masked."""
        x = x if self.even else x.index_select(dim, self._padded)
        return torch.unflatten(x, dim, self.mask.shape)

    def sum(self, x: Tensor) -> Tensor:
        """(T, ...) -> (Bt, ...), over the words of each text."""
        if self.even:
            return torch.unflatten(x, 0, self.mask.shape).sum(dim=1)
        return (self._member @ x.flatten(1)).view(-1, *x.shape[1:])

    @cached_property
    def _bags(self) -> tuple[Tensor, Tensor]:
        """Of `embedding_bag`: (T,) int64 every word once, (Bt,) int64 where each text begins."""
        lengths = self.mask.sum(dim=1)
        return torch.arange(len(self.vectors), device=lengths.device), lengths.cumsum(0) - lengths

    def sum_of_each(self, x: Tensor) -> Tensor:
        """(T, N) -> (Bt, N), over the words of each text: `sum` without gradients, by additions alone."""
        places, begins = self._bags
        return functional.embedding_bag(places, x, begins, mode="sum")

    def of_its_text(self, x: Tensor) -> Tensor:
        """(Bt, ...) -> (T, ...), to every word what its text has."""
        return x.index_select(0, self.text_of)

    def mean(self, x: Tensor) -> Tensor:
        """(T, ...) -> (Bt, ...), over the words of each text."""
        return self.sum(x) / self.mask.sum(dim=1).view(-1, *[1] * (x.ndim - 1))

    def scale(self, x: Tensor, by: Tensor, plus: Tensor | None = None) -> Tensor:
        """x (T, ...) times what its text has, by (Bt, ...); plus (...) is added. -> (T, ...)"""
        if self.even:
            whole, by = torch.unflatten(x, 0, self.mask.shape), by.unsqueeze(1)
        else:
            whole, by = x, self.of_its_text(by)
        return (whole * by if plus is None else torch.addcmul(plus, whole, by)).view_as(x)


def cosines(regions: Tensor, words: FlatWords) -> Tensor:
    """(T, Bi, R) of every word with every region, both of unit length: what either attention begins with.

    Words come first, because then it is one product of two matrices.
    """
    images, count, size = regions.shape
    return (words.vectors @ regions.reshape(images * count, size).T).view(-1, images, count)


def powers_of_regions(cosine: Tensor, region_mask: Tensor, words: FlatWords, sharpness: float) -> Tensor:
    """(T, Bi, R): the weights of `attend_regions` before they are made to sum to one, 0 for missing regions.

    What they are powers of lies between -1 and 1 times the sharpness, so with at most `MAX_SHARPNESS` they and their
    squares, up to exp(40), stay far from the ends of float32, and no maximum has to be found first.
    """
    raised = functional.leaky_relu(cosine, 0.1)
    norm = sharpness * words.sum(raised.square()).clamp_min(1e-16).rsqrt()  # (Bt, Bi, R)
    return words.scale(raised, norm, plus=barrier(region_mask, cosine.dtype)).exp_()


def powers_of_words(cosine: Tensor, sharpness: float) -> Tensor:
    """(T, Bi, R): the weights of `weigh_words` before they are made to sum to one, 1 for missing regions.

    As with `powers_of_regions`, no maximum has to be found text by text.
    """
    raised = functional.leaky_relu(cosine, 0.1)
    norm = sharpness * raised.square().sum(dim=-1, keepdim=True).clamp_min(1e-16).rsqrt()
    return (raised * norm).exp_()


def weigh_regions(cosine: Tensor, region_mask: Tensor, words: FlatWords, sharpness: float) -> Tensor:
    """`attend_regions` from the cosines (T, Bi, R) on, in that order of dimensions."""
    powers = powers_of_regions(cosine, region_mask, words, sharpness)
    return powers / powers.sum(dim=-1, keepdim=True).clamp_min(1e-12)


def weigh_words(cosine: Tensor, region_mask: Tensor, words: FlatWords, sharpness: float) -> Tensor:
    """Image-to-text attention: how much region r looks at word t, among the words of its text.

    As `attend_regions` with the roles swapped: each word's row is L2-normalised over the regions, then a softmax over
    the words of each text. SCAN's image-to-text form.

    Args:
        cosine: (T, Bi, R), of `cosines`; region_mask: (Bi, R) bool; sharpness: at most `MAX_SHARPNESS`.

    Returns:
        (T, Bi, R) weights, zero for missing regions; those of the words of a text sum to one.
    """
    powers = powers_of_words(cosine, sharpness)
    return words.scale(powers, region_mask / words.sum(powers))


def attend_regions(regions: Tensor, region_mask: Tensor, words: FlatWords, sharpness: float) -> Tensor:
    """Text-to-image attention: how much word t looks at region r of each image.

    `s = cos(v_r, t_j)`, `a = LeakyReLU_0.1(s)`, each region's row L2-normalised over the words of its text, then a
    softmax over the regions with temperature `sharpness` (lambda). SCAN's text-to-image form; MPSM section 3.3.

    Args:
        regions: (Bi, R, D); region_mask: (Bi, R) bool; sharpness: at most `MAX_SHARPNESS`.

    Returns:
        (Bi, T, R) weights, zero for missing regions, summing to one.
    """
    return weigh_regions(cosines_of_any(regions, words), region_mask, words, sharpness).transpose(0, 1)


def cosines_of_any(regions: Tensor, words: FlatWords) -> Tensor:
    """`cosines` of vectors of any length."""
    return cosines(l2norm(regions), replace(words, vectors=l2norm(words.vectors)))


def unit_attention(weights: Tensor, region_gram: Tensor) -> Tensor:
    """Scales attention weights so that the attended vectors have unit length, without forming them.

    The attended vector of a word is `V^T a`, its squared length `a^T G a` with the Gram matrix `G = V V^T` of the
    image, which costs R x R instead of D numbers a pair. Weights may have any sum, such as `powers_of_regions`.

    Args:
        weights: (Bi, T, R); region_gram: (Bi, R, R), `gram` of the regions.
    """
    return weights * inverse_length(((weights @ region_gram) * weights).sum(dim=-1, keepdim=True))


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
    lse: float | None = None,
    attention_bonus: float = 0.0,
) -> Tensor:
    """SCAN's text-to-image similarity, of the cosines of words with the regions they attend to.

    With `c_t = sum_i a_ti v_i` and `s_ti = v_i . w_t`, such a cosine is `sum_i a_ti s_ti / sqrt(a_t^T G a_t)`.

    Args:
        regions: (Bi, R, D) of unit length, missing ones zero; region_mask: (Bi, R) bool.
        region_gram: (Bi, R, R), `gram(regions)`.
        words: of unit length.
        sharpness: at most `MAX_SHARPNESS`.
        lse: None for the mean over the words, or lambda of `log(sum exp(lambda x)) / lambda`, SCAN's LogSumExp (which
            grows with the number of words); at most `MAX_LSE`.
        attention_bonus: times it, the largest weights of the words, pooled like their cosines, are added.

    Returns:
        (Bi, Bt). An image without regions scores 0.
    """

    def pool(x: Tensor) -> Tensor:
        return words.mean(x) if lse is None else words.sum((lse * x).exp()).log() / lse  # (T, n) -> (Bt, n)

    def block(regions: Tensor, region_mask: Tensor, region_gram: Tensor) -> Tensor:
        cosine = cosines(regions, words)
        # A cosine is the same for all multiples of a vector, so the powers do for weights.
        powers = powers_of_regions(cosine, region_mask, words, sharpness)  # (T, n, R)
        by_image = powers.transpose(0, 1)
        squared = ((by_image @ region_gram) * by_image).sum(dim=-1).T  # (T, n) squared length of the attended vectors
        found = pool((powers * cosine).sum(dim=-1) * inverse_length(squared))
        if attention_bonus:
            found = found + attention_bonus * pool(powers.amax(dim=-1) / powers.sum(dim=-1).clamp_min(1e-12))
        return (found if lse is None else found * region_mask.any(dim=1)).T

    return in_blocks(block, regions, region_mask, region_gram, numbers=_numbers(regions, words))


def image_to_text(
    regions: Tensor,
    region_mask: Tensor,
    words: FlatWords,
    word_gram: Tensor,
    *,
    sharpness: float,
    lse: float | None = None,
) -> Tensor:
    """SCAN's image-to-text similarity, of the cosines of regions with the words they attend to.

    `text_to_image` with the roles swapped.

    Args:
        word_gram: (Bt, L, L), `gram` of the padded words.
    """

    def pool(x: Tensor, region_mask: Tensor) -> Tensor:  # (Bt, n, R) -> (Bt, n)
        if lse is None:
            return (x * region_mask).sum(dim=-1) / region_mask.sum(dim=1).clamp_min(1)
        powers = ((lse * x).exp() * region_mask).sum(dim=-1)
        return torch.where(region_mask.any(dim=1), powers, 1).log() / lse

    def block(regions: Tensor, region_mask: Tensor) -> Tensor:
        return pool(_seen_by_regions(cosines(regions, words), word_gram, words, sharpness), region_mask).T

    return in_blocks(block, regions, region_mask, numbers=_numbers(regions, words))


def _seen_by_regions(cosine: Tensor, word_gram: Tensor, words: FlatWords, sharpness: float) -> Tensor:
    """(Bt, Bi, R): the cosine of each region with what it attends to; meaningless for missing regions."""
    # A cosine is the same for all multiples of a vector, so the powers do for weights.
    powers = powers_of_words(cosine, sharpness).flatten(1)  # (T, Bi * R)
    # The Gram matrix of a text meets all regions of all images in one product. Padding has no part in it.
    by_text = words.pad(powers, dim=0)  # (Bt, L, Bi * R)
    if not words.even:
        by_text = by_text * words.mask.unsqueeze(-1)
    squared = ((word_gram @ by_text) * by_text).sum(dim=1)  # (Bt, Bi * R) squared length of the attended vectors
    similar = words.sum(powers * cosine.flatten(1)) * inverse_length(squared)
    return torch.unflatten(similar, 1, cosine.shape[1:])


def inverse_length(squared: Tensor) -> Tensor:
    """`1 / sqrt`, finite where the vector is zero, and its gradient, the third power, too."""
    return squared.clamp_min(1e-24).rsqrt()


def _numbers(regions: Tensor, words: FlatWords) -> int:
    """Of an image's words and regions: the cosines, their powers, and one more."""
    return 3 * len(words.vectors) * regions.shape[1]
