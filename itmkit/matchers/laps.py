"""LAPS: Linguistic-Aware Patch Slimming (Fu, Zhang, Xia, Mao; CVPR 2024), on cached patches.

Read top to bottom like section 3 of the paper:

    patches, words       `Matcher.encode_images`, `Matcher.encode_texts`
    slimming             the patches that matter to the image and to the caption are kept, the rest    `Matcher._kept`
                         becomes one vector
    aggregation          the kept ones become few tokens, each a weighted sum of them                  `TokenWeights`
    alignment            each word with its best token, each token with its best word                  `Matcher._align`

Which patches are kept depends on the pair, and so do the tokens. What they are made of does not: the weight of every
patch in every token is computed once an image, and a caption only decides which of them count. A token has unit
length, so that the sum its weights are divided by falls out; its cosine with a word, and its length, follow from the
products of patches with words and with each other. No token is ever formed.

It was written from the equations: the published code has no licence. Shape letters: see `itmkit.inputs`; here R
patches, J tokens, U tokens with the one of the rest.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from itmkit.inputs import IMAGES, ImageBatch, Needs, Sizes, TextBatch, image_problems
from itmkit.matchers import Encoded
from itmkit.matchers.parts.attention import FlatWords, cosines, gram, inverse_length
from itmkit.matchers.parts.blocks import in_blocks
from itmkit.matchers.parts.encoders import (
    Regions,
    WordEncoder,
    Words,
    class_needs,
    class_problems,
    led,
    region_encoder,
    word_needs,
)
from itmkit.matchers.parts.norms import barrier, l2norm
from itmkit.matchers.parts.pooling import masked_mean

SUMMARY = "LAPS: the patches that matter to a caption are kept and become few tokens, which its words are aligned with"


@dataclass(config=ConfigDict(extra="forbid"), frozen=True, kw_only=True)
class Config:
    """Settings of LAPS. Defaults are those of its runs with ViT-B/16, but for the class token."""

    images: str = Field(default="patches", description=IMAGES)
    class_vectors: Literal["none", "image"] = Field(
        default="none", description="image: the [CLS] vector of a picture is one more token"
    )
    region_encoder: Regions = Field(default="linear", description="of regions: a linear map, or an MLP beside it")
    embed: int = Field(default=512, ge=1, le=65_536, description="D, size of the common space")
    words: Words = Field(default="bert", description="learned words, or frozen vectors with or without a GRU")
    words_cache: str = Field(default="", description="NAME of caches/words-NAME")
    word: int = Field(default=300, ge=1, le=65_536, description="size of a word vector that the GRU reads")
    keep: float = Field(default=0.5, gt=0, le=1, description="rho, share of the patches that are kept")
    aggregate: float = Field(default=0.4, gt=0, le=1, description="tokens, as a share of the kept patches")
    caption_chooses: bool = Field(default=True, description="the caption has a say in which patches are kept")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="dropout on word vectors")


def needs(config: Config) -> Needs:
    words = word_needs(config.words, config.words_cache)
    return Needs(images=config.images, **words, **class_needs(config.class_vectors, config.words_cache))


def members(config: Config) -> dict[str, float]:
    return {"local": 1.0}


ABLATIONS: dict[str, dict[str, Any]] = {
    "all patches kept": {"keep": 1.0},
    "chosen by the image alone": {"caption_chooses": False},
}


def problems(config: Config, training: Any) -> list[str]:
    return image_problems(config.images) + class_problems(config.class_vectors, config.images)


class TokenWeights(nn.Module):
    """How much of each patch goes into each token: a softmax over patches, before it is made to sum to one."""

    LEAST = -60.0  # of a logit beside the largest: of patches far below it something is left, should only they be kept

    def __init__(self, embed: int, tokens: int) -> None:
        super().__init__()
        hidden = max(1, embed // 5)
        # A last bias would be the same for all patches, and fall out of the softmax.
        last = nn.Linear(hidden, tokens, bias=False)
        self.logits = nn.Sequential(nn.LayerNorm(embed), nn.Linear(embed, hidden), nn.GELU(), last)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, patches: Tensor, mask: Tensor) -> Tensor:
        """patches (Bi, R, D), mask (Bi, R) bool -> (Bi, J, R), zero for missing patches."""
        logits = (self.scale * self.logits(patches) + barrier(mask, patches.dtype).unsqueeze(-1)).transpose(1, 2)
        powers = (logits - logits.amax(dim=2, keepdim=True)).clamp_min(self.LEAST).exp()
        return powers * mask.unsqueeze(1)


class Matcher(nn.Module):
    def __init__(self, config: Config, *, member: str, sizes: Sizes) -> None:
        super().__init__()
        self.config = config
        self.patches = region_encoder(config.region_encoder, sizes.feature, config.embed, unit=False)
        self.words = WordEncoder(sizes, config.words, word=config.word, embed=config.embed, dropout=config.dropout)
        self.tokens = TokenWeights(config.embed, max(1, int(sizes.regions * config.aggregate * config.keep)))

    def encode_images(self, batch: ImageBatch) -> Encoded:
        """All that needs no caption.

        Returns:
            "nodes" (Bi, R, D) patches of unit length, "mask" (Bi, R) bool, "length" (Bi, R) that they had, "gram" (Bi,
            R, R), "own" (Bi, R) cosines with the mean patch, "shares" (Bi, J, R) of each patch in each token, with its
            length, and with class vectors "class" (Bi, D).
        """
        mask, whole = batch.mask, None
        if self.config.class_vectors == "image":
            together = self.patches(*led(batch.features, mask, batch.whole))
            whole, patches = together[:, 0], together[:, 1:]
        else:
            patches = self.patches(batch.features, mask)
        nodes, length = l2norm(patches), patches.norm(dim=-1)
        encoded = {"nodes": nodes, "mask": mask, "length": length, "gram": gram(nodes)}
        mean = l2norm(masked_mean(patches, mask))
        encoded["own"] = (nodes @ mean.unsqueeze(-1)).squeeze(-1).detach()
        encoded["shares"] = self.tokens(patches, mask) * length.unsqueeze(1)
        if whole is not None:
            encoded["class"] = l2norm(whole)
        return encoded

    def encode_texts(self, batch: TextBatch) -> Encoded:
        """-> {"nodes": (Bt, L, D) unit length, "mask": (Bt, L) bool, "inverse": (Bt,) of the length of their sum}"""
        nodes = self.words(batch)
        return {
            "nodes": nodes,
            "mask": batch.mask,
            "inverse": inverse_length(nodes.sum(dim=1).square().sum(dim=-1)).detach(),
        }

    def apart(self) -> bool:
        """Nothing but the pair itself counts in a score."""
        return True

    def views(self, images: Encoded, texts: Encoded) -> tuple[Tensor, ...]:
        return (self.score(images, texts),)

    def score(self, images: Encoded, texts: Encoded) -> Tensor:
        """(Bi, Bt), at most 2: means of cosines over words and over tokens, added."""
        words = FlatWords.of(texts["nodes"], texts["mask"])
        names = [name for name in ("nodes", "mask", "length", "gram", "own", "shares", "class") if name in images]
        patches, (texts_here, _) = images["nodes"].shape[1], texts["mask"].shape
        # The cosines of words and patches, and twice the weights of the patches in the tokens of each pair.
        numbers = patches * (len(words.vectors) + 2 * texts_here * (images["shares"].shape[1] + 1))

        def block(*parts: Tensor) -> Tensor:
            return self._align(dict(zip(names, parts, strict=True)), words, texts["inverse"])

        return in_blocks(block, *(images[name] for name in names), numbers=numbers)

    def explain(self, images: Encoded, texts: Encoded) -> dict[str, Tensor]:
        """Each word looks at the patches of its best token, with the weights that they have in it.

        [CLS] is left out, though a word may score by it: it has no place that could be shown.
        """
        words = FlatWords.of(texts["nodes"], texts["mask"])
        cosine = self._by_text(images, words)
        shares, present = self._tokens(images, cosine, texts["inverse"])
        best = self._alike(images, shares, cosine)[0, 0].masked_fill(~present[0, 0, :, None], -torch.inf).argmax(dim=0)
        weights = shares[0, 0] / images["length"].clamp_min(1e-12)  # (U, R)
        return {"words_to_regions": (weights / weights.sum(dim=1, keepdim=True).clamp_min(1e-12))[best]}

    def _align(self, images: Encoded, words: FlatWords, inverse: Tensor) -> Tensor:
        """(n, Bt) scores of a few images with every text."""
        cosine = self._by_text(images, words)
        shares, present = self._tokens(images, cosine, inverse)
        alike = self._alike(images, shares, cosine)  # (n, Bt, U, L)
        if "class" in images:
            whole = words.pad(images["class"] @ words.vectors.T, dim=1)
            alike = torch.cat([alike, whole.unsqueeze(2)], dim=2)
            present = functional.pad(present, (0, 1), value=True)
        best_token = (alike + barrier(present, alike.dtype).unsqueeze(-1)).amax(dim=2)  # (n, Bt, L)
        best_word = (alike + barrier(words.mask, alike.dtype).unsqueeze(1)).amax(dim=3)  # (n, Bt, U)
        # LeakyReLU keeps the order, so that it may come after the maximum.
        there = words.mask * present.any(dim=2, keepdim=True)
        of_words = _mean(functional.leaky_relu(best_token, 0.1), there)
        return of_words + _mean(functional.leaky_relu(best_word, 0.1), present)

    @staticmethod
    def _by_text(images: Encoded, words: FlatWords) -> Tensor:
        """(n, Bt, L, R) cosines of words and patches, zero for padding."""
        cosine = words.pad(cosines(images["nodes"], words), dim=0).movedim(2, 0)
        return cosine.contiguous() if words.even else cosine * words.mask[..., None]

    def _tokens(self, images: Encoded, cosine: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor]:
        """What each patch adds to each token of a pair, (n, Bt, U, R), and which tokens there are, (n, Bt, U) bool."""
        mask = images["mask"].unsqueeze(1)
        with torch.no_grad():
            relevance = images["own"].unsqueeze(1).expand(-1, cosine.shape[1], -1)
            if self.config.caption_chooses:  # the cosine with the mean word
                relevance = torch.addcmul(relevance, cosine.sum(dim=2), inverse.unsqueeze(-1))
            kept = self._kept(relevance, images["mask"])
            rest = mask & ~kept
        of_rest = relevance.exp() * rest * images["length"].unsqueeze(1)
        shares = torch.cat([images["shares"].unsqueeze(1) * kept.unsqueeze(2), of_rest.unsqueeze(2)], dim=2)
        some = mask.any(dim=2, keepdim=True).expand(-1, cosine.shape[1], shares.shape[2] - 1)
        return shares, torch.cat([some, rest.any(dim=2, keepdim=True)], dim=2)

    def _kept(self, relevance: Tensor, mask: Tensor) -> Tensor:
        """The share `keep` of an image's patches, rounded up, with the largest relevance (n, Bt, R) -> bool."""
        counts = (mask.sum(dim=1) * self.config.keep - 1e-4).ceil().long()  # 0.8 * 5 is not quite 4
        barred = relevance.masked_fill(~mask.unsqueeze(1), -torch.inf)
        patches, least = mask.shape[1], int(counts.min())
        if least and least == int(counts.max()):
            threshold = barred.kthvalue(patches - least + 1, dim=2, keepdim=True).values
        else:
            places = (patches - counts).clamp_max(patches - 1).view(-1, 1, 1).expand(-1, barred.shape[1], 1)
            threshold = barred.sort(dim=2).values.gather(2, places)
        return (barred >= threshold) & mask.unsqueeze(1)

    @staticmethod
    def _alike(images: Encoded, shares: Tensor, cosine: Tensor) -> Tensor:
        """(n, Bt, U, L) cosines of each token with each word: with `t = sum_r s_r v_r`, `s . C / sqrt(s^T G s)`."""
        squared = ((shares.flatten(1, 2) @ images["gram"]).view_as(shares) * shares).sum(dim=-1, keepdim=True)
        return (shares @ cosine.transpose(2, 3)) * inverse_length(squared)


def _mean(x: Tensor, mask: Tensor) -> Tensor:
    """x (n, Bt, N) -> (n, Bt), over what `mask`, broadcast to it, leaves; zero where that is nothing."""
    return (x * mask).sum(dim=2) / mask.sum(dim=2).clamp_min(1)
