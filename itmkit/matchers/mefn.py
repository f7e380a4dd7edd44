"""MEFN: A Multi-scale Entropy-aware Fusion Network for Image-Text Retrieval (Liu, Fan).

Read top to bottom like section 3 of the paper:

    3.3  feature extraction            `RegionEncoder`, `WordEncoder`
    3.4  entropy-aware modelling       eq 1        `itmkit.matchers.parts.entropy`, `entropy_map` (figure 2)
    3.5  multi-scale attention fusion  figure 3    `Matcher._local`, `Matcher._global`, `itmkit.matchers.parts.fusion`
    3.6  joint representation, loss    eq 2        `Matcher.pair_loss`, `itmkit.matchers.parts.losses`

The paper gives two equations and names the rest, so most of this is a reading, said beside the line.

Both fused vectors depend on the pair, since the entropies do. Yet all that they are made of are weighted sums of the
regions of the image (or of the words of the text) and linear maps of these. So a pair costs R (or L) weights, and D
numbers only where its sums are fused at last: no (Bi, Bt, R, D) or (Bi, T, D) is formed. Attention looks at cosines,
which the positive weights of the entropies leave as they are: they scale only what is gathered.
Shape letters: see `itmkit.inputs`. N stands for R or L, and B, P for Bi, Bt or Bt, Bi.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from itmkit.errors import ItmkitError
from itmkit.inputs import IMAGES, ImageBatch, Needs, Sizes, TextBatch, image_problems
from itmkit.matchers import Encoded, Loss, Triplet
from itmkit.matchers.parts.attention import MAX_SHARPNESS, FlatWords, cosines, weigh_regions, weigh_words
from itmkit.matchers.parts.blocks import in_blocks
from itmkit.matchers.parts.encoders import (
    ClassVectors,
    Regions,
    WordEncoder,
    Words,
    class_needs,
    class_problems,
    region_encoder,
    word_needs,
)
from itmkit.matchers.parts.entropy import Certainty, Entropy, ModalityFusionEntropy
from itmkit.matchers.parts.fusion import SemanticConsistency, WeightedFusion, sources
from itmkit.matchers.parts.norms import l2norm
from itmkit.matchers.parts.pooling import MeanQueryPooling

SUMMARY = "regions and words weighed by entropy, fused at two scales"


@dataclass(config=ConfigDict(extra="forbid"), frozen=True, kw_only=True)
class Config:
    """Settings of MEFN. The three switches are the rows of table 3; the paper gives no numbers for the others."""

    embed: int = Field(default=1024, ge=1, le=65_536, description="D, size of the common space")
    word: int = Field(default=300, ge=1, le=65_536, description="size of a word vector that the GRU reads")
    words: Words = Field(default="bert+gru", description="learned words, or frozen vectors with or without a GRU")
    words_cache: str = Field(default="", description="NAME of caches/words-NAME")
    region_encoder: Regions = Field(default="linear", description="of regions: a linear map, or an MLP beside it")
    images: str = Field(default="regions", description=IMAGES)
    mfe: bool = Field(default=True, description="entropy-aware weights (table 3)")
    local_attention: bool = Field(default=True, description="regions and words attend to each other (table 3)")
    global_attention: bool = Field(default=True, description="vectors of the whole image and sentence (table 3)")
    class_vectors: ClassVectors = Field(default="none", description="[CLS] vectors as t_cls (text), v_global (image)")
    entropy: Entropy = Field(default="pair", description="what H of eq 1 is the entropy of")
    certainty: Certainty = Field(
        default="either", description="what a low entropy of a pair means: certain either way, or a certain match"
    )
    weight_temperature: float = Field(default=0.3, gt=0, description="of the softmax that turns entropies to weights")
    mfe_weight: float = Field(default=0.0, ge=0, description="weight of the matching pairs' mean entropy in the loss")
    sharpness: float = Field(
        default=9.0, gt=0, le=MAX_SHARPNESS, description="lambda of the attention of words to regions"
    )
    sharpness_i2t: float = Field(
        default=4.0, gt=0, le=MAX_SHARPNESS, description="lambda of the attention of regions to words"
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="dropout on word vectors")


def needs(config: Config) -> Needs:
    words, given = word_needs(config.words, config.words_cache), class_needs(config.class_vectors, config.words_cache)
    return Needs(images=config.images, **words, **given)


def members(config: Config) -> dict[str, float]:
    return {"fusion": 1.0}


ABLATIONS: dict[str, dict[str, Any]] = {  # table 3
    "without MFE": {"mfe": False},
    "without local attention": {"local_attention": False},
    "without global attention": {"global_attention": False},
}


def problems(config: Config, training: Any) -> list[str]:
    found = []
    if not (config.local_attention or config.global_attention):
        found.append("--local-attention false, --global-attention false: nothing is left to compare")
    if config.mfe_weight and not config.mfe:
        found.append("--mfe-weight: with --mfe false there is no entropy that could enter the loss")
    if config.certainty == "match" and (config.entropy != "pair" or not config.mfe):
        found.append("--certainty match: is of --entropy pair, with --mfe true; no other entropy knows a match")
    if config.class_vectors != "none" and not (config.local_attention and config.global_attention):
        found.append(
            f"--class-vectors {config.class_vectors}: global attention reads them, and without local attention nothing"
            " looks at the rest of what they stand for; needs --local-attention and --global-attention true"
        )
    return found + image_problems(config.images) + class_problems(config.class_vectors, config.images)


class Matcher(nn.Module):
    """MEFN. It has one member."""

    def __init__(self, config: Config, *, member: str, sizes: Sizes) -> None:
        super().__init__()
        self.config = config
        self.regions = region_encoder(config.region_encoder, sizes.feature, config.embed)
        form = {"word": config.word, "embed": config.embed, "dropout": config.dropout}
        self.words = WordEncoder(sizes, config.words, **form)  # type: ignore[arg-type]
        if config.mfe:
            self.entropy = ModalityFusionEntropy(
                config.entropy, certainty=config.certainty, weight_temperature=config.weight_temperature
            )
        given = needs(config)
        if given.whole:
            self.whole = nn.Linear(sizes.feature, config.embed)
        elif config.global_attention:
            self.image_pooling = MeanQueryPooling(config.embed)
        if given.sentence:
            self.sentence = nn.Linear(sizes.sentence, config.embed)
        both = config.local_attention and config.global_attention
        if both:  # LayerNorm takes the length of a single branch out again, and with it what would scale it
            self.consistency = SemanticConsistency()
        self.image_fusion = WeightedFusion(config.embed, gated=both)
        self.text_fusion = WeightedFusion(config.embed, gated=both)
        self._start_apart()

    @torch.no_grad()
    def _start_apart(self) -> None:
        """Biases begin at zero: random ones give all words one large common part, and attention stays uniform."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias") or ".bias_" in name:  # of linear layers; of the GRU
                parameter.zero_()

    def encode_images(self, batch: ImageBatch) -> Encoded:
        """-> {"nodes": (Bi, R, D) unit vectors, "mask": (Bi, R) bool, and as needed "pooling", "class", "gates"}

        "pooling" (Bi, R) are the weights that pool regions to v_global; "class" (Bi, 1, D) is a stored v_global.
        """
        nodes = self.regions(batch.features, batch.mask)
        encoded = {"nodes": nodes, "mask": batch.mask}
        if needs(self.config).whole:
            encoded["class"] = l2norm(self.whole(batch.whole))[:, None]
        elif self.config.global_attention:
            encoded["pooling"] = self.image_pooling.weights(nodes, batch.mask)
        return encoded | self.image_fusion.gate_parts(encoded)

    def encode_texts(self, batch: TextBatch) -> Encoded:
        """-> {"nodes": (Bt, L, D) unit vectors, "mask": (Bt, L) bool, and as needed "class" (Bt, 1, D), "gates"}"""
        encoded = {"nodes": self.words(batch), "mask": batch.mask}
        if needs(self.config).sentence:
            encoded["class"] = l2norm(self.sentence(batch.sentence))[:, None]
        return encoded | self.text_fusion.gate_parts(encoded)

    def score(self, images: Encoded, texts: Encoded) -> Tensor:
        """(Bi, Bt): `-|f(v) - f(t)|^2`, from -4 to 0."""
        return self.pairs(images, texts)[0]

    def explain(self, images: Encoded, texts: Encoded) -> dict[str, Tensor]:
        words, config = FlatWords.of(texts["nodes"], texts["mask"]), self.config
        cosine, found = cosines(images["nodes"], words), {}
        if config.local_attention:
            found["words_to_regions"] = weigh_regions(cosine, images["mask"], words, config.sharpness)[:, 0]
            found["regions_to_words"] = weigh_words(cosine, images["mask"], words, config.sharpness_i2t)[:, 0]
        return found | ({"entropy": entropy_map(self, images, texts)[0, 0].T} if config.mfe else {})

    def apart(self) -> bool:
        """Nothing but the pair itself counts in a score."""
        return True

    def views(self, images: Encoded, texts: Encoded) -> tuple[Tensor, ...]:
        return (self.score(images, texts),)

    def pairs(self, images: Encoded, texts: Encoded) -> tuple[Tensor, ...]:
        """Scores and mean entropies, (Bi, Bt) each."""
        words = FlatWords.of(texts["nodes"], texts["mask"])
        # What t_cls is a sum of: the words, or the class vector, as if it were a text of one word.
        one = texts["mask"].new_ones(len(texts["mask"]), 1)
        whole = FlatWords.of(texts["class"], one) if "class" in texts else words

        def block(*tensors: Tensor) -> Tensor:
            return self._block(dict(zip(images, tensors, strict=True)), texts, words, whole)

        numbers = texts["nodes"].shape[0] * self.config.embed + len(words.vectors) * images["mask"].shape[1]
        return in_blocks(block, *images.values(), numbers=numbers).unbind(dim=-1)

    def pair_loss(self, found: tuple[Tensor, ...], image_of: Tensor, triplet: Triplet) -> Loss:
        """Eq 2 (both ways, a reading), and where asked for the mean of H over each matching pair, summed as eq 2 is."""
        scores, entropy = found
        total = triplet(scores)
        if self.config.mfe_weight:
            total = total + self.config.mfe_weight * entropy[image_of].diagonal().sum()
        return Loss(total, (scores,))

    def _block(self, images: Encoded, texts: Encoded, words: FlatWords, whole: FlatWords) -> Tensor:
        """(Bi, Bt, 2): score and mean entropy."""
        cosine = cosines(images["nodes"], words)  # (T, Bi, R)
        if self.config.mfe:
            region_weights, word_weights, entropy = self.entropy.weights(cosine, images["mask"], words)
        else:
            # Every region and word as it is: (1, Bi, R) and (1, Bt, L), since no pair has weights of its own.
            region_weights, word_weights = images["mask"][None].to(cosine.dtype), words.mask[None].to(cosine.dtype)
            entropy = cosine.new_zeros(len(images["mask"]), len(words.mask))
        # What f_local and f_global are weighted sums with: weights of the regions, weights of the words.
        sums: list[tuple[Tensor, Tensor]] = []
        if self.config.local_attention:
            sums.append(self._local(cosine, images["mask"], words, region_weights, word_weights))
        if self.config.global_attention:
            sums.append(self._global(cosine, images, whole, region_weights, word_weights))
        image = self.image_fusion([of_regions.transpose(0, 1) for of_regions, _ in sums], images)  # f(v), (Bi, Bt, D)
        text = self.text_fusion([of_words.transpose(0, 1) for _, of_words in sums], texts)  # f(t), (Bt, Bi, D)
        # A reading: after LayerNorm |f|^2 is about D, and squared distances of a thousand leave a margin of 0.2 without
        # meaning. Of unit vectors they are 2 - 2 cos, between 0 and 4.
        lengths = torch.linalg.vector_norm(image, dim=-1) * torch.linalg.vector_norm(text, dim=-1).T
        cosine = (image * text.transpose(0, 1)).sum(dim=-1) / lengths.masked_fill(lengths < 1e-12, torch.inf)
        return torch.stack([2 * cosine - 2, entropy], dim=-1)

    def _local(
        self, cosine: Tensor, mask: Tensor, words: FlatWords, region_weights: Tensor, word_weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """f_local: the mean over words of the F'_img that they see, the mean over regions of the F'_txt."""
        to_regions = weigh_regions(cosine, mask, words, self.config.sharpness)  # (T, Bi, R)
        to_words = weigh_words(cosine, mask, words, self.config.sharpness_i2t)  # (T, Bi, R)
        seen_words = words.pad(to_words.sum(dim=-1).T / mask.sum(dim=1).clamp_min(1)[:, None], dim=1)  # (Bi, Bt, L)
        return words.mean(to_regions) * region_weights, seen_words * word_weights

    def _global(
        self, cosine: Tensor, images: Encoded, whole: FlatWords, region_weights: Tensor, word_weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """f_global: v_global, the pooled F'_img, and t_cls, the mean of F'_txt (a reading), or the class vectors.

        A class vector is one vector, no set that entropies could weigh: it counts 1 for every pair.
        """
        given = needs(self.config)
        pooled = cosine.new_ones(1, len(images["mask"]), 1) if given.whole else images["pooling"] * region_weights
        mean = cosine.new_ones(1, len(whole.mask), 1)
        if not given.sentence:
            mean = word_weights / whole.mask.sum(dim=1)[:, None]
        if not self.config.local_attention:
            return pooled, mean
        if given.whole or given.sentence:
            cosine = cosines(sources(images)[1], whole)
        agree = self.consistency(cosine, pooled, mean, whole)
        return agree.T[..., None] * pooled, agree[..., None] * mean


@torch.no_grad()
def entropy_map(matcher: Matcher, images: Encoded, texts: Encoded) -> Tensor:
    """Figure 2: H(v_i, t_j) of every region with every word, for every pair of a block, (Bi, Bt, R, L).

    0 to 1 with `entropy = "pair"`; NaN where there is no such region or word, which plots leave blank.

    Raises:
        ItmkitError: the matcher was trained without entropies.
    """
    if not matcher.config.mfe:
        raise ItmkitError("trained with --mfe false: there are no entropies to show")
    words = FlatWords.of(texts["nodes"], texts["mask"])
    of_regions, of_words = matcher.entropy(cosines(images["nodes"], words), images["mask"], words)
    padded = words.pad((of_regions + of_words) / 2, dim=0).permute(2, 0, 3, 1)  # (Bt, L, Bi, R) -> (Bi, Bt, R, L)
    real = images["mask"][:, None, :, None] & texts["mask"][None, :, None, :]
    return padded.masked_fill(~real, torch.nan)
