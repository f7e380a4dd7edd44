"""MPSM: Fine-Grained Matching with Multi-Perspective Similarity Modeling (Xie, Hou, Li; UAI 2022).

Read top to bottom like section 3 of the paper:

    3.1  semantic knowledge graphs     eqs 1-4     `itmkit.matchers.parts.spatial`, `semantic_edges`
    3.2  KGID                          eqs 5-9     `itmkit.matchers.parts.dissemination`
    3.3  similarity representations    eqs 10-15   `itmkit.matchers.parts.similarity`
    3.4  SRGR                          eqs 16-20   `itmkit.matchers.parts.relations`
    3.5  training objective            eq 21       `itmkit.matchers.parts.losses`

Two members, `distance` and `direction`, share this code and no parameter; the mean of their scores is MPSM*.
Where the paper is silent or its print cannot be meant, the reading is said beside the line.
Shape letters: see `itmkit.inputs`. N stands for R or L where a module serves both modalities.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from itmkit.inputs import IMAGES, ImageBatch, Needs, Sizes, TextBatch, image_problems
from itmkit.matchers import Encoded
from itmkit.matchers.parts.attention import MAX_SHARPNESS, FlatWords, attend_regions, gram
from itmkit.matchers.parts.blocks import each_block
from itmkit.matchers.parts.dissemination import (
    Affinity,
    KnowledgeDissemination,
    Shortcut,
    Softmax,
    Weight,
    semantic_edges,
)
from itmkit.matchers.parts.encoders import Regions, WordEncoder, Words, region_encoder, word_needs
from itmkit.matchers.parts.norms import l2norm
from itmkit.matchers.parts.pooling import MeanQueryPooling, Pooling
from itmkit.matchers.parts.relations import Edges, RelationReconstruction
from itmkit.matchers.parts.similarity import Kind, SimilarityRepresentation, local_similarities, score_of
from itmkit.matchers.parts.spatial import SpatialKernels

SUMMARY = "multi-perspective matching: regions and words compared along their visual, spatial and syntactic graphs"


@dataclass(config=ConfigDict(extra="forbid"), frozen=True, kw_only=True)
class Config:
    """Settings of MPSM. Defaults are the paper's; the switches are the rows of its tables 2-4 and figure 3."""

    embed: int = Field(default=1024, ge=1, le=65_536, description="D, size of the common space")
    word: int = Field(default=300, ge=1, le=65_536, description="size of a word vector that the GRU reads")
    words: Words = Field(default="gru", description="learned words, or frozen vectors with or without a GRU")
    words_cache: str = Field(default="", description="NAME of caches/words-NAME")
    images: str = Field(default="regions", description=IMAGES)
    region_encoder: Regions = Field(default="linear", description="of regions: a linear map, or an MLP beside it")
    similarity: int = Field(default=256, ge=3, le=65_536, description="S, size of a similarity vector")
    similarity_bias: bool = Field(default=False, description="a bias in the maps of eqs 10 and 13")
    plain_start: bool = Field(default=False, description="begin as a plain similarity")
    sharpness: float = Field(
        default=9.0, gt=0, le=MAX_SHARPNESS, description="lambda of eqs 1, 3, 9 and of the cross attention"
    )
    kgid_layers: int = Field(default=3, ge=0, le=10_000, description="N, layers of KGID (table 3); 0 = without KGID")
    visual_kgid: bool = Field(default=True, description="KGID on the image side (table 2)")
    text_kgid: bool = Field(default=True, description="KGID on the text side (table 2)")
    affinity: Affinity = Field(
        default="all", description="eqs 1 and 3: softmax over all nodes, over the other nodes, or the prior alone"
    )
    kernels: int = Field(default=8, ge=1, le=65_536, description="K, Gaussian kernels of the spatial graph")
    spatial: Literal["sum", "heads"] = Field(
        default="sum", description="P_v adds its kernels up, or each kernel carries its share of the numbers of a node"
    )
    kgid_softmax: Softmax = Field(
        default="feature", description="axis of the softmax in eq 5; none = what a node gathers, as it is"
    )
    kgid_weight: Weight = Field(
        default="sum", description="what equals 1 over the weights of eq 5: their sum or their mean"
    )
    kgid_logits: float = Field(
        default=0.0, ge=0, description="deviation of the logits of eq 5 at the start; 0 = as torch starts"
    )
    kgid_shortcut: Shortcut = Field(default="inside", description="of the ReLU in eq 8")
    kgid_start: float = Field(default=0.1, ge=0, le=1, description="factor of eq 8's map at the start")
    pooling: Pooling = Field(
        default="print", description="global vectors as printed, or as SGRAF published them: normed, tanh, dropout"
    )
    srgr: bool = Field(default=True, description="similarity-relation graph reconstruction (table 2)")
    srgr_steps: int = Field(default=1, ge=1, le=10_000, description="times the similarity graph is reconstructed")
    srgr_edges: Edges = Field(
        default="sum",
        description="eq 16: a sum of one number of each end, or a product of two vectors (eq 17)",
    )
    alignment: Literal["both", "global", "local"] = Field(default="both", description="nodes compared (figure 3)")
    similarities: Literal["both", "distance", "direction"] = Field(default="both", description="members (table 4)")
    training: Literal["independent", "joint"] = Field(
        default="independent", description="two members, or one whose encoders both similarities share (table 4)"
    )
    unit_nodes: bool = Field(default=True, description="compare unit vectors in eqs 11 and 12 (a reading)")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="dropout on word vectors")


def needs(config: Config) -> Needs:
    visual = config.visual_kgid and config.kgid_layers > 0
    textual = config.text_kgid and config.kgid_layers > 0
    return Needs(images=config.images, polar=visual, edges=textual, **word_needs(config.words, config.words_cache))


def kinds(config: Config) -> tuple[Kind, ...]:
    return ("distance", "direction") if config.similarities == "both" else (config.similarities,)


def members(config: Config) -> dict[str, float]:
    return {"joint": 1.0} if config.training == "joint" else dict.fromkeys(kinds(config), 1.0)


def problems(config: Config, training: object) -> list[str]:
    found = image_problems(config.images)
    if config.plain_start and not config.similarity_bias:
        found += ["--plain-start true measures by a bias: --similarity-bias true, or --plain-start false"]
    if config.spatial == "heads" and config.visual_kgid and config.embed % config.kernels:
        found += [f"--spatial heads: --kernels {config.kernels} must divide --embed {config.embed}"]
    return found


ABLATIONS: dict[str, dict[str, Any]] = {  # tables 2-4 and figure 3
    "without KGID": {"kgid_layers": 0},
    "without visual KGID": {"visual_kgid": False},
    "without text KGID": {"text_kgid": False},
    "without SRGR": {"srgr": False},
    **{f"{layers} KGID": {"kgid_layers": layers} for layers in (1, 2, 3, 4)},
    "global only": {"alignment": "global"},
    "local only": {"alignment": "local"},
    "distance only": {"similarities": "distance"},
    "direction only": {"similarities": "direction"},
    "joint training": {"training": "joint"},
}


def _edges(nodes: Tensor, mask: Tensor, prior: Tensor, config: Config) -> Tensor:
    return semantic_edges(nodes, mask, prior, affinity=config.affinity, sharpness=config.sharpness)


def _kgid(config: Config) -> KnowledgeDissemination:
    return KnowledgeDissemination(
        config.embed,
        config.kgid_layers,
        sharpness=config.sharpness,
        softmax=config.kgid_softmax,
        weight=config.kgid_weight,
        shortcut=config.kgid_shortcut,
    )


class _Perspective(nn.Module):
    """One similarity (distance or direction) from two encoded modalities to a score: sections 3.3 and 3.4."""

    def __init__(self, config: Config, kind: Kind) -> None:
        super().__init__()
        self.config, self.kind = config, kind
        size, form = config.similarity, {"unit": config.unit_nodes, "bias": config.similarity_bias}
        if config.alignment != "global":
            self.local_similarity = SimilarityRepresentation(kind, config.embed, size, **form)
        if config.alignment != "local":
            self.global_similarity = SimilarityRepresentation(kind, config.embed, size, **form)
        if config.srgr:
            self.relations = RelationReconstruction(size, config.srgr_steps, edges=config.srgr_edges)
        self.predict = nn.Linear(size, 1)

    @torch.no_grad()
    def start_as_plain_similarity(self) -> None:
        """Initial weights with which the score begins as sigmoid(4 cos) of mostly the global vectors (with the bias).

        The first number of a similarity vector begins as the plain distance or cosine, the second as a constant to
        measure it by, the third marks the global node; the rest are random. SRGR begins as a weighted mean in
        which the global node has about twice the weight of all words. All of it is learned from there.
        """
        for name, similarity in self.named_children():
            if isinstance(similarity, SimilarityRepresentation):
                similarity.start_as_plain_similarity(mark=name == "global_similarity")
        self.predict.weight[0, 0] = -4 if self.kind == "distance" else 4
        if self.config.srgr:
            self.relations.start_as_mean(of_mark=2, constant=1)

    def forward(self, images: Encoded, texts: Encoded, words: FlatWords) -> Tensor:
        """Scores (Bi, Bt) of every image with every text."""
        graphs, mask = self._graphs(images, texts, words)
        # With SRGR the global node has gathered the others. Without it, or without a global node, the mean decides:
        # a reading, since the paper's ablations do not say.
        first = self.config.srgr and self.config.alignment != "local"
        if self.config.srgr:
            graphs = self.relations(graphs, mask, only_first=first)
        weights = mask.to(graphs[0].dtype) / mask.sum(dim=1, keepdim=True)
        final = [nodes[:, :, 0] if first else torch.einsum("tm,itms->its", weights, nodes) for nodes in graphs]
        return score_of(self.predict, torch.cat(final))

    def _graphs(self, images: Encoded, texts: Encoded, words: FlatWords) -> tuple[list[Tensor], Tensor]:
        """The similarity graphs of blocks of images, (n, Bt, M, S) each, and which of their nodes are real, (Bt, M)."""
        whole, mask = [], words.mask
        if self.config.alignment != "local":
            sentences, mask = texts["global"], functional.pad(mask, (1, 0), value=True)

            def compare(image: Tensor) -> Tensor:
                return self.global_similarity(image[:, None], sentences).unsqueeze(2)  # (n, Bt, 1, S)

            whole = each_block(compare, images["global"], numbers=sentences.numel())
        if self.config.alignment == "global":
            return whole, mask[:, :1]
        compare_words = partial(local_similarities, self.local_similarity, sharpness=self.config.sharpness)
        local = [words.pad(nodes, dim=1) for nodes in compare_words(images, words)]  # (n, Bt, L, S)
        if not whole:
            return local, mask
        beside = torch.split(torch.cat(whole), [len(nodes) for nodes in local])
        return [torch.cat(pair, dim=2) for pair in zip(beside, local, strict=True)], mask


class Matcher(nn.Module):
    """One member of MPSM, or the jointly trained model of table 4 (member "joint")."""

    def __init__(self, config: Config, *, member: str, sizes: Sizes) -> None:
        super().__init__()
        self.config = config
        self.regions = region_encoder(config.region_encoder, sizes.feature, config.embed)
        form = {"word": config.word, "embed": config.embed, "dropout": config.dropout}
        self.words = WordEncoder(sizes, config.words, **form)  # type: ignore[arg-type]
        self.visual_kgid = self.text_kgid = None
        if config.visual_kgid and config.kgid_layers:
            self.spatial = SpatialKernels(config.kernels, heads=config.spatial == "heads")
            self.visual_kgid = _kgid(config)
        if config.text_kgid and config.kgid_layers:
            self.text_kgid = _kgid(config)
        if config.alignment != "local":
            self.image_pooling = MeanQueryPooling(config.embed, form=config.pooling, side="image")
            self.text_pooling = MeanQueryPooling(config.embed, form=config.pooling, side="text")
        mine = kinds(config) if member == "joint" else (member,)
        self.perspectives = nn.ModuleDict({kind: _Perspective(config, kind) for kind in mine})  # type: ignore[arg-type]
        self._start_apart()

    @torch.no_grad()
    def _start_apart(self) -> None:
        """Initial weights with which nodes begin different from each other (the paper does not say how it begins).

        With PyTorch's random biases every word and, after the ReLU of eq 8, every region begins with one large common
        part (cosines of 0.95 and 0.79 between different words and regions). The cross attention then sees no
        difference and stays uniform. So biases begin at zero, and KGID near the identity.
        """
        self.words.start_apart()
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
        for side in (self.visual_kgid, self.text_kgid):
            if side is not None:
                side.start(size=self.config.kgid_start, logits=self.config.kgid_logits)
        if self.config.plain_start:
            for view in self.perspectives.values():
                view.start_as_plain_similarity()  # type: ignore[operator]

    def encode_images(self, batch: ImageBatch) -> Encoded:
        """-> {"nodes": (Bi, R, D), "mask": (Bi, R) bool, "gram": (Bi, R, R), "global": (Bi, D)}, last two as needed"""
        nodes = self.regions(batch.features, batch.mask)
        if self.visual_kgid is not None:
            prior = self.spatial(batch.rho, batch.theta)
            edges = _edges(nodes, batch.mask, prior, self.config)
            nodes = self.visual_kgid(nodes, batch.mask, edges)
        encoded = self._with_global(nodes, batch.mask, "image")
        wanted = self.config.unit_nodes and self.config.alignment != "global"
        return encoded | {"gram": gram(encoded["nodes"])} if wanted else encoded

    def encode_texts(self, batch: TextBatch) -> Encoded:
        """-> {"nodes": (Bt, L, D), "mask": (Bt, L) bool, "global": (Bt, D) unless alignment is local}"""
        nodes = self.words(batch)
        if self.text_kgid is not None:
            assert batch.edges is not None
            prior = batch.edges.unsqueeze(1).to(nodes.dtype)
            edges = _edges(nodes, batch.mask, prior, self.config)
            nodes = self.text_kgid(nodes, batch.mask, edges, support=batch.edges)
        return self._with_global(nodes, batch.mask, "text")

    def _with_global(self, nodes: Tensor, mask: Tensor, side: Literal["image", "text"]) -> Encoded:
        # A word is compared with a weighted sum of regions, an image's pooled vector with a text's: their lengths
        # differ for reasons that have nothing to do with meaning, so unit vectors are compared.
        unit = l2norm if self.config.unit_nodes else (lambda x: x)
        nodes = unit(nodes)
        encoded = {"nodes": nodes, "mask": mask}
        if self.config.alignment != "local":
            pooling = self.image_pooling if side == "image" else self.text_pooling
            encoded["global"] = unit(pooling(nodes, mask))
        return encoded

    def apart(self) -> bool:
        """SRGR normalises its edges over all pairs of a batch."""
        return not self.config.srgr

    def views(self, images: Encoded, texts: Encoded) -> tuple[Tensor, ...]:
        """One (Bi, Bt) matrix of scores in 0..1 per perspective."""
        words = FlatWords.of(texts["nodes"], texts["mask"])
        return tuple(view(images, texts, words) for view in self.perspectives.values())

    def explain(self, images: Encoded, texts: Encoded) -> dict[str, Tensor]:
        if self.config.alignment == "global":
            return {}
        words = FlatWords.of(texts["nodes"], texts["mask"])
        return {"words_to_regions": attend_regions(images["nodes"], images["mask"], words, self.config.sharpness)[0]}

    def score(self, images: Encoded, texts: Encoded) -> Tensor:
        """(Bi, Bt), the mean over perspectives."""
        return torch.stack(self.views(images, texts)).mean(dim=0)
