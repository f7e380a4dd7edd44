"""VSE++ (Faghri et al., BMVC 2018): one vector an image, one vector a caption, their cosine.

The global baseline: it never compares a region with a word. An image is the mean of its projected region features, a
caption the mean (or the last states) of a bi-GRU over its words.

Shape letters: see `itmkit.inputs`.
"""

from __future__ import annotations

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from itmkit.inputs import IMAGES, ImageBatch, Needs, Sizes, TextBatch, image_problems
from itmkit.matchers import Encoded
from itmkit.matchers.parts.encoders import Regions, WordEncoder, Words, region_encoder, word_needs
from itmkit.matchers.parts.norms import l2norm
from itmkit.matchers.parts.pooling import masked_mean

SUMMARY = "VSE++: one vector an image, one a caption, hardest negatives; the global baseline"


@dataclass(config=ConfigDict(extra="forbid"), frozen=True, kw_only=True)
class Config:
    """Settings of VSE++."""

    embed: int = Field(default=1024, ge=1, le=65_536, description="D, size of the common space")
    word: int = Field(default=300, ge=1, le=65_536, description="size of a word vector that the GRU reads")
    words: Words = Field(default="gru", description="learned words, or frozen vectors with or without a GRU")
    words_cache: str = Field(default="", description="NAME of caches/words-NAME")
    images: str = Field(default="regions", description=IMAGES)
    region_encoder: Regions = Field(default="linear", description="of regions: a linear map, or an MLP beside it")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="dropout on word vectors")


def needs(config: Config) -> Needs:
    return Needs(images=config.images, **word_needs(config.words, config.words_cache))


def members(config: Config) -> dict[str, float]:
    return {"global": 1.0}


def problems(config: Config, training: object) -> list[str]:
    return image_problems(config.images)


class Matcher(nn.Module):
    def __init__(self, config: Config, *, member: str, sizes: Sizes) -> None:
        super().__init__()
        self.regions = region_encoder(config.region_encoder, sizes.feature, config.embed, unit=False)
        form = {"word": config.word, "embed": config.embed, "dropout": config.dropout}
        self.words = WordEncoder(sizes, config.words, **form, unit=False)  # type: ignore[arg-type]

    def encode_images(self, batch: ImageBatch) -> Encoded:
        """-> {"vector": (Bi, D), unit length}"""
        return {"vector": l2norm(masked_mean(self.regions(batch.features, batch.mask), batch.mask))}

    def encode_texts(self, batch: TextBatch) -> Encoded:
        """-> {"vector": (Bt, D), unit length}"""
        return {"vector": l2norm(masked_mean(self.words(batch), batch.mask))}

    def score(self, images: Encoded, texts: Encoded) -> Tensor:
        """(Bi, Bt) cosines."""
        return images["vector"] @ texts["vector"].T

    def views(self, images: Encoded, texts: Encoded) -> tuple[Tensor, ...]:
        return (self.score(images, texts),)
