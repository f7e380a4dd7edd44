"""Dual: the cosine of the pooled vectors that a vision-language model gives a picture and a caption, untrained.

The vectors are those of `itmkit embed` (CLIP, ALIGN, AltCLIP, GroupViT, ...). SCL (`itmkit.matchers.scl`) with pooled
inputs starts from them, and theirs is the figure to beat for whatever is trained on them. Nothing is learned: there are
no parameters and no epochs.

Shape letters: see `itmkit.inputs`.
"""

from __future__ import annotations

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from itmkit.errors import ItmkitError
from itmkit.inputs import WHOLE_IMAGES, ImageBatch, Needs, Sizes, TextBatch, vector_problems
from itmkit.matchers import Encoded, Stage
from itmkit.matchers.parts.encoders import vector_needs
from itmkit.matchers.parts.norms import l2norm

SUMMARY = "CLIP and other dual encoders as they are, untrained"


@dataclass(config=ConfigDict(extra="forbid"), frozen=True, kw_only=True)
class Config:
    """Settings of dual."""

    images: str = Field(default="vectors", description=WHOLE_IMAGES)
    vectors_cache: str = Field(default="", description="NAME of caches/vectors-NAME")


def needs(config: Config) -> Needs:
    return Needs(one_space=True, **vector_needs(config.vectors_cache, config.images))


def members(config: Config) -> dict[str, float]:
    return {"global": 1.0}


def problems(config: Config, training: object) -> list[str]:
    return vector_problems(config.images)


def stages(config: Config, epochs: int) -> tuple[Stage, ...]:
    return ()


class Matcher(nn.Module):
    def __init__(self, config: Config, *, member: str, sizes: Sizes) -> None:
        super().__init__()
        if sizes.feature != sizes.word_vector:
            read = needs(config)
            raise ItmkitError(
                f"caches/{read.images}: a picture has {sizes.feature} numbers, and in caches/{read.vectors} a caption"
                f" {sizes.word_vector}, so that they have no cosine; make both with one model (`itmkit embed --force`)"
            )

    def encode_images(self, batch: ImageBatch) -> Encoded:
        """-> {"vector": (Bi, F), unit length}"""
        return {"vector": l2norm(batch.features[:, 0])}

    def encode_texts(self, batch: TextBatch) -> Encoded:
        """-> {"vector": (Bt, V), unit length; V is F}"""
        assert batch.vectors is not None
        return {"vector": l2norm(batch.vectors[:, 0])}

    def score(self, images: Encoded, texts: Encoded) -> Tensor:
        """(Bi, Bt) cosines."""
        return images["vector"] @ texts["vector"].T

    def views(self, images: Encoded, texts: Encoded) -> tuple[Tensor, ...]:
        return (self.score(images, texts),)
