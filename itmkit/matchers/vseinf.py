"""VSE-infinity (Chen et al., CVPR 2021): one vector an image, one a caption, pooled by an operator that is learned.

Read top to bottom like sections 3 and 4 of the paper: regions and words of D numbers, pooled into one vector each,
compared by their cosine. What pools is `--pooling`, in `itmkit.matchers.parts.pooling`:

    gpo     the paper's generalized pooling operator                          `GeneralizedPooling`
    esa     the attention of ESA (Zhu et al., TCSVT 2023)                     `ElementwiseAttention`
    top2    the two largest and a transformer layer, as HREM (CVPR 2023)      `TopTwoPooling`
    mean    the mean, which is VSE++

Shape letters: see `itmkit.inputs`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from itmkit.inputs import IMAGES, ImageBatch, Needs, Sizes, TextBatch, image_problems
from itmkit.matchers import Encoded
from itmkit.matchers.parts.encoders import (
    TOKENS,
    WORDS,
    Regions,
    Tokens,
    WordEncoder,
    WordsOrBert,
    region_encoder,
    token_problems,
    word_needs,
)
from itmkit.matchers.parts.norms import l2norm
from itmkit.matchers.parts.pooling import ElementwiseAttention, GeneralizedPooling, TopTwoPooling, masked_mean

SUMMARY = "VSE-infinity: one vector an image, one a caption, by a pooling that is learned; ESA's and HREM's too"


@dataclass(config=ConfigDict(extra="forbid"), frozen=True, kw_only=True)
class Config:
    """Settings of VSE-infinity. Defaults are the paper's with a GRU over words."""

    embed: int = Field(default=1024, ge=2, le=65_536, description="D, size of the common space")
    word: int = Field(default=300, ge=1, le=65_536, description="size of a word vector that the GRU reads")
    words: WordsOrBert = Field(default="gru", description=WORDS)
    words_cache: str = Field(default="", description="NAME of caches/words-NAME")
    tokens: Tokens = Field(default="parsed", description=TOKENS)
    pooling: Literal["gpo", "esa", "top2", "mean"] = Field(
        default="gpo", description="how regions, and words, become one vector"
    )
    images: str = Field(default="regions", description=IMAGES)
    region_encoder: Regions = Field(default="linear+mlp", description="of regions: a linear map, or an MLP beside it")
    heads: int = Field(default=16, ge=1, le=1024, description="of the transformer layer of `top2`")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="on word vectors, and in the layer of `top2`")


def needs(config: Config) -> Needs:
    return Needs(images=config.images, **word_needs(config.words, config.words_cache, config.tokens))


def members(config: Config) -> dict[str, float]:
    return {"global": 1.0}


def problems(config: Config, training: Any) -> list[str]:
    found = token_problems(config.words, config.tokens) + image_problems(config.images)
    if config.pooling == "top2" and config.embed % config.heads:
        found.append(f"--heads {config.heads}: must divide --embed {config.embed}")
    return found


ABLATIONS: dict[str, dict[str, Any]] = {
    "mean instead of GPO": {"pooling": "mean"},
    "without the MLP of regions": {"region_encoder": "linear"},
}


class MeanPooling(nn.Module):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return masked_mean(x, mask)


def pooling_of(config: Config) -> nn.Module:
    """A module (B, N, D), mask (B, N) -> (B, D)."""
    if config.pooling == "gpo":
        return GeneralizedPooling()
    if config.pooling == "esa":
        return ElementwiseAttention(config.embed)
    if config.pooling == "top2":
        return TopTwoPooling(config.embed, config.heads, config.dropout)
    return MeanPooling()


class Matcher(nn.Module):
    def __init__(self, config: Config, *, member: str, sizes: Sizes) -> None:
        super().__init__()
        self.regions = region_encoder(config.region_encoder, sizes.feature, config.embed, unit=False)
        form: dict[str, Any] = {"word": config.word, "embed": config.embed, "dropout": config.dropout}
        self.words = WordEncoder(sizes, config.words, **form, unit=False)
        self.image_pooling, self.text_pooling = pooling_of(config), pooling_of(config)

    def encode_images(self, batch: ImageBatch) -> Encoded:
        """-> {"vector": (Bi, D), unit length}"""
        return {"vector": l2norm(self.image_pooling(self.regions(batch.features, batch.mask), batch.mask))}

    def encode_texts(self, batch: TextBatch) -> Encoded:
        """-> {"vector": (Bt, D), unit length}"""
        return {"vector": l2norm(self.text_pooling(self.words(batch), batch.mask))}

    def score(self, images: Encoded, texts: Encoded) -> Tensor:
        """(Bi, Bt) cosines."""
        return images["vector"] @ texts["vector"].T

    def views(self, images: Encoded, texts: Encoded) -> tuple[Tensor, ...]:
        return (self.score(images, texts),)
