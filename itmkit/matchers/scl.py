"""SCL: Rethinking Semantic Contrastive Learning and Content Fusion in Multimodal Retrieval (Shi, Li).

Each modality learns by itself before the two meet. One command trains three stages, in the order of section 3:

    3.1  text semantics     eqs 1, 2   `Transformer`, `within_modality`; captions of one image (or like ones) are alike
    3.2  image semantics    eqs 3, 4   the same; images with like labels, and two views of an image, are alike
    3.3  shared space       no print   one linear map each on the two encoders, which stay as they are; `contrast`

With `inputs = "pooled"` the encoders are residual MLPs on the vectors of a vision-language model instead (section 4.1
names ALIGN, AltCLIP, CLIP and GroupViT).

Equations 2 and 4, `sum_i |dist(F_i, F_i+1) + F_i . F_i+1|`, have no negatives, and for unit vectors with cosine c their
term is `sqrt(2 - 2c) + c`: as small for opposite vectors as for equal ones. The text speaks of positive and negative
sets and of contrastive learning, so the loss is read as supervised contrastive (InfoNCE with all positives, Khosla et
al. 2020); `loss = "printed"` keeps the print for study. Sizes and settings of training are not in the paper.
Shape letters: see `itmkit.inputs`. W is the size of a representation, N stands for R or L.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from itmkit.inputs import IMAGES, MAX_WORDS, ImageBatch, Needs, Sizes, TextBatch, image_problems
from itmkit.matchers import Encoded, Loss, Stage, Triplet
from itmkit.matchers.parts.encoders import (
    ClassVectors,
    Regions,
    ResidualMLPs,
    ResidualRegionEncoder,
    class_needs,
    class_problems,
    led,
    vector_needs,
    word_needs,
)
from itmkit.matchers.parts.losses import contrast
from itmkit.matchers.parts.norms import l2norm
from itmkit.matchers.parts.transformer import Transformer

SUMMARY = "each modality learns by itself before the two meet, in three stages"
Form = Literal["infonce", "printed"]


@dataclass(config=ConfigDict(extra="forbid"), frozen=True, kw_only=True)
class Config:
    """Settings of SCL. The paper gives none; sizes are those of the original transformer, which it says it follows."""

    embed: int = Field(default=512, ge=1, le=65_536, description="D, size of the shared space")
    width: int = Field(
        default=512, ge=1, le=65_536, description="size of a token; with pooled inputs, of an MLP's hidden layer"
    )
    layers: int = Field(default=6, ge=1, le=10_000, description="layers of a transformer; with pooled inputs, MLPs")
    heads: int = Field(default=8, ge=1, le=10_000, description="attention heads of a transformer")
    inputs: Literal["words", "pooled"] = Field(
        default="words", description="words and patches (or regions), or one vector a caption and a picture"
    )
    words: Literal["bert", "learned"] = Field(default="bert", description="frozen or learned vectors of words")
    words_cache: str = Field(default="", description="NAME of caches/words-NAME")
    images: str = Field(default="patches", description=IMAGES)
    region_encoder: Regions = Field(default="linear", description="of regions: a linear map, or an MLP beside it")
    class_vectors: ClassVectors = Field(
        default="none", description="sides whose class token begins as x_class plus the stored [CLS] vector"
    )
    vectors_cache: str = Field(default="", description="NAME of caches/vectors-NAME, read with pooled inputs")
    text_epochs: int = Field(default=10, ge=0, le=10_000, description="epochs of the text stage (section 3.1)")
    image_epochs: int = Field(default=10, ge=0, le=10_000, description="epochs of the image stage (section 3.2)")
    freeze_encoders: bool = Field(default=True, description="the last stage trains the two linear maps alone")
    loss: Form = Field(default="infonce", description="of the text and image stage: contrastive, or eqs 2 and 4")
    contrast_temperature: float = Field(default=0.07, gt=0, description="tau of the contrastive losses")
    text_positives: Literal["image", "labels"] = Field(
        default="image", description="captions that are alike: of one image, or of images with like labels too"
    )
    alike_by: Literal["labels", "tags"] = Field(
        default="labels", description="what images have in common: the data set's labels, or the tags of caches/regions"
    )
    label_overlap: float = Field(default=0.5, gt=0, le=1, description="Jaccard index from which images are alike")
    backup: bool = Field(default=True, description="a slow copy of the encoder gives the vectors compared with")
    backup_decay: float = Field(default=0.999, ge=0, lt=1, description="share that the slow copy keeps at each step")
    region_dropout: float = Field(
        default=0.2, ge=0, lt=1, description="share of its patches (pooled: numbers) that a view of an image lacks"
    )
    dropout: float = Field(default=0.1, ge=0, lt=1, description="dropout within the encoders")


def needs(config: Config) -> Needs:
    labels = config.image_epochs > 0 or (config.text_epochs > 0 and config.text_positives == "labels")
    alike: dict[str, Any] = {"labels": labels}
    if labels and config.alike_by == "tags":
        alike["labels_from"] = "regions"
    if config.inputs == "pooled":
        return Needs(**alike, **vector_needs(config.vectors_cache, config.images))
    kind = word_needs("bert" if config.words == "bert" else "gru", config.words_cache)
    return Needs(images=config.images, **alike, **kind, **class_needs(config.class_vectors, config.words_cache))


def members(config: Config) -> dict[str, float]:
    return {"global": 1.0}


# The paper has none; these are its claims. An encoder without a stage of its own is trained in the last one.
ABLATIONS: dict[str, dict[str, int | str]] = {
    "without the text stage": {"text_epochs": 0, "freeze_encoders": False},
    "without the image stage": {"image_epochs": 0, "freeze_encoders": False},
    "without both stages": {"text_epochs": 0, "image_epochs": 0, "freeze_encoders": False},
    "encoders trained on": {"freeze_encoders": False},
    "without backup": {"backup": False},
    "printed loss": {"loss": "printed"},
}


def stages(config: Config, epochs: int) -> tuple[Stage, ...]:
    return (Stage("text", config.text_epochs), Stage("image", config.image_epochs), Stage("shared", epochs))


def problems(config: Config, training: Any) -> list[str]:
    found = []
    if config.text_epochs and config.text_positives == "image" and training.captions_per_image < 2:
        found.append(
            "--captions-per-image 1: the text stage learns from captions of one image that share a batch, so at least 2"
            " are needed (or --text-positives labels, or --text-epochs 0, without that stage)"
        )
    if config.inputs == "pooled":
        if config.class_vectors != "none":
            found.append(f"--class-vectors {config.class_vectors}: with --inputs pooled there is no class token")
        if config.region_encoder != "linear":
            found.append(f"--region-encoder {config.region_encoder}: with --inputs pooled there are no regions")
        return found
    if config.class_vectors in ("text", "both") and config.words == "learned":
        found.append(f"--class-vectors {config.class_vectors}: [CLS] of captions goes with --words bert")
    found += class_problems(config.class_vectors, config.images)
    if config.width % config.heads:
        found.append(f"--width {config.width} cannot be divided among --heads {config.heads}")
    found += image_problems(config.images)
    for side in ("text", "image"):
        if config.freeze_encoders and not getattr(config, f"{side}_epochs"):
            found.append(
                f"--{side}-epochs 0: the {side} encoder would stay random; give it epochs, or"
                " --freeze-encoders false to train it in the last stage"
            )
    return found


def _word_entrance(sizes: Sizes, config: Config) -> nn.Module:
    if config.words == "bert":
        return nn.Linear(sizes.word_vector, config.width)
    embedding = nn.Embedding(sizes.vocabulary, config.width, padding_idx=0)
    nn.init.normal_(embedding.weight[1:], std=0.02)
    return embedding


def _region_entrance(sizes: Sizes, config: Config) -> nn.Module:
    if config.region_encoder == "linear":
        return nn.Linear(sizes.feature, config.width)
    return ResidualRegionEncoder(sizes.feature, config.width, unit=False)


def within_modality(queries: Tensor, keys: Tensor, alike: Tensor, form: Form, temperature: float) -> Tensor:
    """Eqs 2 and 4 for a batch of one modality, summed over the anchors that have a positive.

    Args:
        queries: (n, W), the anchors; keys: (n, W), the same items as the backup model sees them. Unit length.
        alike: (n, n) bool. An item is neither positive nor negative of itself.
    """
    itself = torch.eye(len(queries), dtype=torch.bool, device=queries.device)
    cosine, positive = queries @ keys.T, alike & ~itself
    if form == "infonce":
        # A finite bar: a batch of one item has nothing else to compare with.
        return contrast((cosine / temperature).masked_fill(itself, torch.finfo(cosine.dtype).min), positive)
    # F_i+1 is read as any positive of F_i, each counted alike: a batch has no order of its own.
    printed = ((2 - 2 * cosine).clamp_min(1e-12).sqrt() + cosine).abs()
    return (printed * (positive / positive.sum(dim=1, keepdim=True).clamp_min(1))).sum()


def like_labels(images: ImageBatch, overlap: float) -> Tensor:
    """(Bi, Bi) bool: an image and itself, and two whose labels have a Jaccard index of at least `overlap`."""
    same = torch.eye(len(images.mask), dtype=torch.bool, device=images.mask.device)
    if images.labels is None:
        return same
    labels = images.labels.float()
    both, count = labels @ labels.T, labels.sum(dim=1)
    either = count[:, None] + count - both
    return same | ((both >= overlap * either) & (both > 0))


class Matcher(nn.Module):
    def __init__(self, config: Config, *, member: str, sizes: Sizes) -> None:
        super().__init__()
        self.config, self.stage = config, ""
        widths = {"text": config.width, "image": config.width}
        if config.inputs == "pooled":
            widths = {"text": sizes.word_vector, "image": sizes.feature}
            # A reading: the paper does not say what it puts on the models it names.
            mlps = partial(ResidualMLPs, hidden=config.width, blocks=config.layers, dropout=config.dropout)
            self.encoders = nn.ModuleDict({side: mlps(size) for side, size in widths.items()})
        else:
            read = needs(config)
            transformer = partial(
                Transformer, width=config.width, layers=config.layers, heads=config.heads, dropout=config.dropout
            )
            text = transformer(_word_entrance(sizes, config), MAX_WORDS, led=bool(read.sentence))
            image = transformer(_region_entrance(sizes, config), sizes.regions, led=read.whole)
            self.encoders = nn.ModuleDict({"text": text, "image": image})
        self.maps = nn.ModuleDict({side: nn.Linear(size, config.embed, bias=False) for side, size in widths.items()})
        for shared in self.maps.values():
            nn.init.orthogonal_(shared.weight)  # type: ignore[arg-type]
        if config.inputs == "pooled" and widths["text"] == widths["image"]:
            # The vectors share a space already: one map for both keeps their cosines.
            self.maps["text"].load_state_dict(self.maps["image"].state_dict())
        learned = [stage.name for stage in stages(config, 0) if stage.epochs and config.backup]
        self.backups = nn.ModuleDict({side: copy.deepcopy(self.encoders[side]) for side in learned})
        self.backups.requires_grad_(False)

    # The stages: what learns in each, and from what.

    def begin(self, stage: str) -> None:
        self.stage = stage
        self.requires_grad_(False)
        for part in self._learning():
            part.requires_grad_(True)

    def train(self, mode: bool = True) -> Matcher:
        """Dropout in the parts that learn only: frozen parts and backup models give the vectors that they are for."""
        super().train(False)
        for part in self._learning():
            part.train(mode)
        self.training = mode
        return self

    def _learning(self) -> Sequence[nn.Module]:
        if self.stage in ("text", "image"):
            return (self.encoders[self.stage],)
        frozen = self.stage == "shared" and self.config.freeze_encoders
        return (self.maps,) if frozen else (self.maps, self.encoders)

    def training_only(self) -> Sequence[nn.Module]:
        return (self.backups,)

    @torch.no_grad()
    def after_step(self, stage: str) -> None:
        """The backup model follows its encoder slowly."""
        if stage in self.backups:
            pairs = zip(self.backups[stage].parameters(), self.encoders[stage].parameters(), strict=True)
            for slow, fast in pairs:
                slow.lerp_(fast, 1 - self.config.backup_decay)
            # The statistics of a batch normalisation, which move slowly by themselves.
            for mine, its in zip(self.backups[stage].buffers(), self.encoders[stage].buffers(), strict=True):
                mine.copy_(its)

    def batch_loss(self, images: ImageBatch, texts: TextBatch, image_of: Tensor, stage: str) -> Loss | None:
        form, temperature = self.config.loss, self.config.contrast_temperature
        if stage == "text":
            alike = image_of[:, None] == image_of  # (Bt, Bt)
            if self.config.text_positives == "labels":
                alike = like_labels(images, self.config.label_overlap)[image_of][:, image_of]
            return Loss(within_modality(*self._seen_twice("text", *self._tokens(texts)), alike, form, temperature))
        if stage == "image":
            alike = like_labels(images, self.config.label_overlap).repeat(2, 2)  # of (2 Bi, 2 Bi) views
            return Loss(within_modality(*self._seen_twice("image", *self._views(images)), alike, form, temperature))
        return None

    def pair_loss(self, found: tuple[Tensor, ...], image_of: Tensor, triplet: Triplet) -> Loss:
        """Captions of one image are all its positives."""
        (scores,) = found
        own = torch.arange(len(scores), device=image_of.device)[:, None] == image_of  # (Bi, Bt)
        logits = scores / self.config.contrast_temperature
        return Loss(contrast(logits, own) + contrast(logits.T, own.T))

    def _seen_twice(self, side: str, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, W) by the encoder that learns, and by its backup model where there is one."""
        queries: Tensor = self.encoders[side](tokens, mask)
        if side not in self.backups:
            return queries, queries
        with torch.no_grad():
            return queries, self.backups[side](tokens, mask)

    def _views(self, images: ImageBatch) -> tuple[Tensor, Tensor]:
        """(2 Bi, R, F), (2 Bi, R): two views of each image, each without some of its regions."""
        features, mask = images.features.repeat(2, 1, 1), images.mask.repeat(2, 1)
        if self.config.inputs == "pooled":
            return functional.dropout(features, self.config.region_dropout), mask
        kept = mask & (torch.rand(mask.shape, device=mask.device) >= self.config.region_dropout)
        kept = torch.where(kept.any(dim=1, keepdim=True), kept, mask)  # a view has at least one region
        return self._patches(features, kept, images.whole)

    def _patches(self, features: Tensor, mask: Tensor, whole: Tensor | None) -> tuple[Tensor, Tensor]:
        return led(features, mask, whole) if needs(self.config).whole else (features, mask)

    def _tokens(self, texts: TextBatch) -> tuple[Tensor, Tensor]:
        learned = self.config.inputs == "words" and self.config.words == "learned"
        tokens = texts.words if learned else texts.vectors
        assert tokens is not None
        return led(tokens, texts.mask, texts.sentence) if needs(self.config).sentence else (tokens, texts.mask)

    # The contract of every matcher.

    def encode_images(self, batch: ImageBatch) -> Encoded:
        """-> {"vector": (Bi, D), unit length}"""
        seen = self._patches(batch.features, batch.mask, batch.whole)
        return {"vector": l2norm(self.maps["image"](self.encoders["image"](*seen)))}

    def encode_texts(self, batch: TextBatch) -> Encoded:
        """-> {"vector": (Bt, D), unit length}"""
        return {"vector": l2norm(self.maps["text"](self.encoders["text"](*self._tokens(batch))))}

    def score(self, images: Encoded, texts: Encoded) -> Tensor:
        """(Bi, Bt) cosines."""
        return images["vector"] @ texts["vector"].T

    def views(self, images: Encoded, texts: Encoded) -> tuple[Tensor, ...]:
        return (self.score(images, texts),)
