"""CHAN: Cross-modal Hard Aligning Network (Pan et al., CVPR 2023).

Read top to bottom like section 3 of the paper, which sees a caption as a sentence written in the regions of an image:

    3.1  regions and words     `Matcher.encode_images`, `Matcher.encode_texts`
    3.2  coding                each word is coded by one region, the one most like it    `hard_alignment`
    3.3  pooling               the words' similarities into one score                    `--pool`

With `--pool mean` this is late interaction (MaxSim of ColBERT, divided by the number of words), which vector databases
compute as it stands. Shape letters: see `itmkit.inputs`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from itmkit.inputs import IMAGES, ImageBatch, Needs, Sizes, TextBatch, image_problems
from itmkit.matchers import Encoded
from itmkit.matchers.parts.attention import MAX_LSE, FlatWords
from itmkit.matchers.parts.blocks import in_blocks
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
from itmkit.matchers.parts.norms import barrier, l2norm

SUMMARY = "CHAN: every word is compared with the one region most like it (MaxSim); alignments at the least cost a pair"


@dataclass(config=ConfigDict(extra="forbid"), frozen=True, kw_only=True)
class Config:
    """Settings of CHAN. Defaults are those of its runs with a GRU over words, but for the pooling."""

    embed: int = Field(default=1024, ge=1, le=65_536, description="D, size of the common space")
    word: int = Field(default=300, ge=1, le=65_536, description="size of a word vector that the GRU reads")
    words: WordsOrBert = Field(default="gru", description=WORDS)
    words_cache: str = Field(default="", description="NAME of caches/words-NAME")
    tokens: Tokens = Field(default="parsed", description=TOKENS)
    images: str = Field(default="regions", description=IMAGES)
    region_encoder: Regions = Field(default="linear", description="of regions: a linear map, or an MLP beside it")
    pool: Literal["mean", "lse"] = Field(
        default="mean", description="how a caption's words become one score: mean or LogSumExp"
    )
    lse_sharpness: float = Field(
        default=10.0, gt=0, le=MAX_LSE, description="lambda of `lse`, which is not divided by it again"
    )
    self_attention: bool = Field(default=True, description="regions look at each other before words do")
    heads: int = Field(default=8, ge=1, le=1024, description="of the self-attention of regions")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="dropout on word vectors")


def needs(config: Config) -> Needs:
    return Needs(images=config.images, **word_needs(config.words, config.words_cache, config.tokens))


def members(config: Config) -> dict[str, float]:
    return {"local": 1.0}


def problems(config: Config, training: Any) -> list[str]:
    found = token_problems(config.words, config.tokens) + image_problems(config.images)
    if config.self_attention and config.embed % config.heads:
        found.append(f"--heads {config.heads}: must divide --embed {config.embed}")
    return found


ABLATIONS: dict[str, dict[str, Any]] = {"without self-attention": {"self_attention": False}}


class RegionAttention(nn.Module):
    """`x + attention(norm(x))` among the regions of an image."""

    def __init__(self, embed: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(embed)
        self.attention = nn.MultiheadAttention(embed, heads, batch_first=True)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (Bi, R, D), mask (Bi, R) bool -> (Bi, R, D); rows of missing regions are meaningless."""
        hidden = ~mask & mask.any(dim=1, keepdim=True)  # nothing is hidden in an empty set: a softmax needs something
        normed = self.norm(x)
        # A resume must repeat gradients bit for bit. The fast kernel that a GPU takes with a mask does not promise to.
        with sdpa_kernel(SDPBackend.MATH):
            seen, _ = self.attention(normed, normed, normed, key_padding_mask=hidden, need_weights=False)
        return x + seen  # type: ignore[no-any-return]


def hard_alignment(regions: Tensor, mask: Tensor, words: FlatWords) -> Tensor:
    """The cosine of each word with the region of each image that is most like it.

    Args:
        regions: (n, R, D) of unit length; mask: (n, R) bool; words: T of unit length.

    Returns:
        (T, n); 0 for an image without regions.
    """
    cosine = regions @ words.vectors.T  # (n, R, T): one product, and maxima over rows that lie side by side
    if not mask.all():
        cosine = cosine + barrier(mask, cosine.dtype).unsqueeze(-1)
    best = cosine.amax(dim=1) * mask.any(dim=1, keepdim=True)
    return best.T


class Matcher(nn.Module):
    def __init__(self, config: Config, *, member: str, sizes: Sizes) -> None:
        super().__init__()
        self.config = config
        self.regions = region_encoder(config.region_encoder, sizes.feature, config.embed, unit=False)
        self.attention = RegionAttention(config.embed, config.heads) if config.self_attention else None
        form: dict[str, Any] = {"word": config.word, "embed": config.embed, "dropout": config.dropout}
        self.words = WordEncoder(sizes, config.words, **form)

    def encode_images(self, batch: ImageBatch) -> Encoded:
        """-> {"nodes": (Bi, R, D) of unit length, "mask": (Bi, R) bool}"""
        regions = self.regions(batch.features, batch.mask)
        if self.attention is not None:
            regions = self.attention(regions, batch.mask)
        return {"nodes": l2norm(regions) * batch.mask.unsqueeze(-1), "mask": batch.mask}

    def encode_texts(self, batch: TextBatch) -> Encoded:
        """-> {"nodes": (Bt, L, D) of unit length, "mask": (Bt, L) bool}"""
        return {"nodes": self.words(batch), "mask": batch.mask}

    def score(self, images: Encoded, texts: Encoded) -> Tensor:
        """(Bi, Bt): from -1 to 1 with `mean`; with `lse` from about -10 to 10, and more for more words."""
        words = FlatWords.of(texts["nodes"], texts["mask"])

        def block(regions: Tensor, mask: Tensor) -> Tensor:
            best = hard_alignment(regions, mask, words)
            if self.config.pool == "mean":
                return words.mean(best).T
            # Cosines are at most 1, so no maximum has to be found first.
            return (words.sum((self.config.lse_sharpness * best).exp()).log() * mask.any(dim=1)).T

        # Of each image the cosines of its regions with all words.
        numbers = len(words.vectors) * images["nodes"].shape[1]
        return in_blocks(block, images["nodes"], images["mask"], numbers=numbers)

    def explain(self, images: Encoded, texts: Encoded) -> dict[str, Tensor]:
        """The coding itself: each word has all of its weight on one region."""
        regions, words = images["nodes"][0], texts["nodes"][0]
        cosine = words @ regions.T + barrier(images["mask"], words.dtype)  # (L, R)
        return {"words_to_regions": functional.one_hot(cosine.argmax(dim=1), len(regions)).to(words.dtype)}

    def apart(self) -> bool:
        """Nothing but the pair itself counts in a score."""
        return True

    def views(self, images: Encoded, texts: Encoded) -> tuple[Tensor, ...]:
        return (self.score(images, texts),)
