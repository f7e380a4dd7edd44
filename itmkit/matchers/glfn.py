"""GLFN: Generative Label Fused Network (Zhao et al., Knowledge-Based Systems 2023), with its ancestors PFAN and SCAN.

Read top to bottom like section 3 of the paper:

    3.2  image representation     eqs 1, 13, 14   `Matcher.encode_images`
         position attention       eqs 2-12        `BlockPositions`; eqs 2-5 are cached by `itmkit build-graphs`
    3.3  sentence representation  eqs 15-27       `WordEncoder`
    3.4  stacked cross attention  eqs 28-33       `itmkit.matchers.parts.attention`, `members`
    3.5  loss                     eq 34           `itmkit.matchers.parts.losses`

Two members, `t2i` and `i2t`, share this code and no parameter; eq 33 weighs their scores.
SCAN (Lee et al., ECCV 2018) is this without tags, positions and BERT; PFAN (Wang et al., IJCAI 2019) is SCAN with the
positions. Where the paper is silent or its print cannot be meant, the reading is said beside the line.
Shape letters: see `itmkit.inputs`. K slots for the blocks of a region, M - 1 blocks of an image, P size of a position.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from itmkit.cache.name import words_cache
from itmkit.inputs import IMAGES, ImageBatch, Needs, Sizes, TextBatch, image_problems
from itmkit.matchers import Encoded
from itmkit.matchers.parts.attention import (
    MAX_LSE,
    MAX_SHARPNESS,
    FlatWords,
    cosines,
    gram,
    image_to_text,
    text_to_image,
    weigh_regions,
    weigh_words,
)
from itmkit.matchers.parts.encoders import (
    TOKENS,
    Regions,
    Tokens,
    WordEncoder,
    Words,
    region_encoder,
    token_problems,
    word_needs,
)

Pool = Literal["mean", "lse"]
SUMMARY = "stacked cross attention of regions and words; with the regions' tags and places, with places, without"


PRESETS: dict[str, dict[str, Any]] = {
    "pfan": {"tags": False, "words": "gru", "dropout": 0.0},
    "scan": {"tags": False, "positions": False, "words": "gru", "dropout": 0.0},
}


@dataclass(config=ConfigDict(extra="forbid"), frozen=True, kw_only=True)
class Config:
    """Settings of GLFN. Defaults are the paper's; the switches are the rows of its table 3 and figures 4-6."""

    embed: int = Field(default=1024, ge=1, le=65_536, description="D, size of the common space (figure 4)")
    word: int = Field(default=300, ge=1, le=65_536, description="size of a word vector that the GRU reads (figure 5)")
    words: Words = Field(
        default="bert+gru", description="learned words, or frozen vectors with or without a GRU (table 3)"
    )
    words_cache: str = Field(default="", description="NAME of caches/words-NAME")
    compress: bool = Field(
        default=True,
        description="a linear map before the GRU, to --word numbers; false: the GRU reads frozen vectors (figure 5)",
    )
    tokens: Tokens = Field(default="parsed", description=TOKENS)
    images: str = Field(default="regions", description=IMAGES)
    region_encoder: Regions = Field(default="linear", description="of regions: a linear map, or an MLP beside it")
    tags: bool = Field(default=True, description="vectors of the regions' tag phrases (table 3)")
    positions: bool = Field(default=True, description="where a region lies, from blocks it attends to")
    position: int = Field(default=200, ge=1, le=65_536, description="size of a block's vector")
    position_training: bool = Field(
        default=True,
        description="blocks' vectors and attention are learned; false: random ones, as in the released code",
    )
    directions: Literal["both", "t2i", "i2t"] = Field(default="both", description="members (tables 1-3)")
    alpha: float = Field(default=0.5, ge=0, le=1, description="weight of i2t in the score, t2i has the rest (figure 6)")
    sharpness_t2i: float = Field(
        default=9.0, gt=0, le=MAX_SHARPNESS, description="lambda of a word's attention over regions"
    )
    sharpness_i2t: float = Field(
        default=4.0, gt=0, le=MAX_SHARPNESS, description="lambda of a region's attention over words"
    )
    pool_t2i: Pool = Field(default="mean", description="how a caption's words become one score: mean or LogSumExp")
    pool_i2t: Pool = Field(default="mean", description="how an image's regions become one score: mean or LogSumExp")
    lse_sharpness_t2i: float = Field(default=6.0, gt=0, le=MAX_LSE, description="lambda of LogSumExp over words")
    lse_sharpness_i2t: float = Field(
        default=5.0,
        gt=0,
        le=MAX_LSE,
        description="lambda of LogSumExp over regions; SCAN has 5 on Flickr30K, 20 on COCO",
    )
    attention_bonus: float = Field(
        default=0.0,
        ge=0,
        description="times its largest attention is added to a word's similarity (t2i); the released code has 0.5",
    )
    dropout: float = Field(default=0.5, ge=0, lt=1, description="dropout on word vectors")


def needs(config: Config) -> Needs:
    tags = words_cache(config.words_cache, "tags") if config.tags else None
    return Needs(
        images=config.images,
        tags=tags,
        blocks=config.positions,
        **word_needs(config.words, config.words_cache, config.tokens),
    )


def members(config: Config) -> dict[str, float]:
    """Eq 33. A member without weight has no part in the score, so it is not trained."""
    if config.directions != "both":
        return {config.directions: 1.0}
    return {name: weight for name, weight in (("t2i", 1 - config.alpha), ("i2t", config.alpha)) if weight}


def problems(config: Config, training: object) -> list[str]:
    found = token_problems(config.words, config.tokens) + image_problems(config.images)
    if not config.compress and config.words != "bert+gru":
        found.append(
            f"--compress false: is of frozen vectors that a GRU reads (bert+gru), not of --words {config.words}"
        )
    if config.images != "regions" and config.tags:
        found.append(f"--images {config.images}: tags are of regions; needs --tags false")
    return found


ABLATIONS: dict[str, dict[str, Any]] = {  # table 3, and the step from SCAN to PFAN
    "without tags": {"tags": False},
    "without positions": {"positions": False},
    "without tags and positions": {"tags": False, "positions": False},
    "only GRU": {"words": "gru"},
    "only BERT": {"words": "bert"},
    "t2i only": {"directions": "t2i"},
    "i2t only": {"directions": "i2t"},
}


class BlockPositions(nn.Module):
    """Eqs 6-12: where a region lies, the sum of the vectors of those blocks that it overlaps and attends to."""

    def __init__(self, objects: int, blocks: int, size: int, *, learned: bool = True) -> None:
        """objects: size of an object vector; blocks: their highest number; learned: else all stays as it begins."""
        super().__init__()
        self.embedding = nn.Embedding(blocks + 1, size, padding_idx=0)  # M x P, eq 6
        self.query = nn.Linear(objects, size, bias=False)  # f of eq 7
        # The paper does not say how it begins. A tenth of the usual weights keeps tanh off its flat ends, where nothing
        # could be learned, for region features of a length near 20.
        nn.init.xavier_uniform_(self.query.weight, gain=0.1)
        self.requires_grad_(learned)

    def forward(self, objects: Tensor, blocks: Tensor, weights: Tensor) -> Tensor:
        """objects (Bi, R, O), blocks (Bi, R, K) numbers, 0 = none, weights (Bi, R, K) of eq 5 -> (Bi, R, P)."""
        return self.attention(objects, blocks, weights) @ self.embedding.weight  # eq 12

    def attention(self, objects: Tensor, blocks: Tensor, weights: Tensor) -> Tensor:
        """Eqs 7-11: how much each region attends to each block, (Bi, R, M), column 0 for none. Arguments as above."""
        # Each block has its own column, since a product with all M vectors needs no (Bi, R, K, P) copy of K of them.
        shares = weights.new_zeros(*weights.shape[:2], self.embedding.num_embeddings).scatter_(2, blocks, weights)
        logits = torch.tanh(self.query(objects) @ self.embedding.weight.T)  # eqs 7, 8, (Bi, R, M)
        # Eqs 9 to 11: eq 11 cancels the sum that eq 9 divides by, and the weight of a block without overlap is 0.
        attention = shares * logits.exp()
        return attention / attention.sum(dim=-1, keepdim=True).clamp_min(1e-8)


class Matcher(nn.Module):
    """One member: attention from words to regions ("t2i") or from regions to words ("i2t")."""

    def __init__(self, config: Config, *, member: str, sizes: Sizes) -> None:
        super().__init__()
        self.config, self.member = config, member
        objects = sizes.feature + (sizes.tag_vector if config.tags else 0)  # size of o_i, eq 1
        self.positions: BlockPositions | None = None
        if config.positions:
            self.positions = BlockPositions(objects, sizes.blocks, config.position, learned=config.position_training)
        fused = objects + (config.position if config.positions else 0)  # eq 13
        self.regions = region_encoder(config.region_encoder, fused, config.embed)
        form = {"word": config.word, "embed": config.embed, "dropout": config.dropout, "compress": config.compress}
        self.words = WordEncoder(sizes, config.words, **form)  # type: ignore[arg-type]

    def encode_images(self, batch: ImageBatch) -> Encoded:
        """-> {"nodes": (Bi, R, D), "mask": (Bi, R) bool, for t2i "gram": (Bi, R, R)}"""
        fused = objects = self._objects(batch)
        if self.positions is not None:
            assert batch.blocks is not None and batch.block_weights is not None
            # Eq 13 prints the tag twice, in o_i and as t_i; a second copy adds nothing to a linear map.
            fused = torch.cat([objects, self.positions(objects, batch.blocks, batch.block_weights)], dim=-1)
        nodes = self.regions(fused, batch.mask)  # eq 14
        return self._with_gram(nodes, batch.mask, wanted=self.member == "t2i")

    def _objects(self, batch: ImageBatch) -> Tensor:
        """(Bi, R, O), eq 1"""
        if not self.config.tags:
            return batch.features
        assert batch.tags is not None
        return torch.cat([batch.features, batch.tags], dim=-1)

    def block_attention(self, batch: ImageBatch) -> Tensor | None:
        """(Bi, R, M - 1), how much each region attends to each block of its picture; None without positions."""
        if self.positions is None:
            return None
        assert batch.blocks is not None and batch.block_weights is not None
        return self.positions.attention(self._objects(batch), batch.blocks, batch.block_weights)[..., 1:]

    def encode_texts(self, batch: TextBatch) -> Encoded:
        """-> {"nodes": (Bt, L, D), "mask": (Bt, L) bool, for i2t "gram": (Bt, L, L)}"""
        return self._with_gram(self.words(batch), batch.mask, wanted=self.member == "i2t")

    @staticmethod
    def _with_gram(nodes: Tensor, mask: Tensor, *, wanted: bool) -> Encoded:
        encoded = {"nodes": nodes, "mask": mask}
        return encoded | {"gram": gram(nodes)} if wanted else encoded

    def score(self, images: Encoded, texts: Encoded) -> Tensor:
        """(Bi, Bt), eq 31 or 32. Eq 29 prints no softmax: the attention of SCAN, which it cites, is meant."""
        config = self.config
        words = FlatWords.of(texts["nodes"], texts["mask"])
        regions = images["nodes"], images["mask"]
        if self.member == "t2i":
            lse = config.lse_sharpness_t2i if config.pool_t2i == "lse" else None
            how: dict[str, Any] = {"sharpness": config.sharpness_t2i, "attention_bonus": config.attention_bonus}
            return text_to_image(*regions, images["gram"], words, lse=lse, **how)
        lse = config.lse_sharpness_i2t if config.pool_i2t == "lse" else None
        return image_to_text(*regions, words, texts["gram"], sharpness=config.sharpness_i2t, lse=lse)

    def explain(self, images: Encoded, texts: Encoded) -> dict[str, Tensor]:
        words = FlatWords.of(texts["nodes"], texts["mask"])
        cosine = cosines(images["nodes"], words)
        if self.member == "t2i":
            return {"words_to_regions": weigh_regions(cosine, images["mask"], words, self.config.sharpness_t2i)[:, 0]}
        return {"regions_to_words": weigh_words(cosine, images["mask"], words, self.config.sharpness_i2t)[:, 0]}

    def apart(self) -> bool:
        """Nothing but the pair itself counts in a score."""
        return True

    def views(self, images: Encoded, texts: Encoded) -> tuple[Tensor, ...]:
        return (self.score(images, texts),)
