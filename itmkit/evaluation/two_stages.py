"""What search gives up by scoring candidates only: recalls of both stages beside those of all pairs.

A query's candidates are what its vector has the largest products with (`itmkit.index.candidates`). The first stage
ranks by these products alone. The second ranks the candidates by the matcher's scores, and everything else behind them.
An answer that is no candidate keeps its rank of the first stage. Ties count against the query, as in
`itmkit.scoring.ranks`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from itmkit.index.candidates import candidate_vectors
from itmkit.inputs import Inputs
from itmkit.matchers import as_matcher
from itmkit.progress import SILENT, Progress
from itmkit.runs.open import Run
from itmkit.scoring.metrics import Direction
from itmkit.scoring.stored import Scores
from itmkit.scoring.tiles import IMAGE_TILE, text_tiles

TEXTS = 256  # captions whose products with all images are in memory at once


@dataclass(frozen=True)
class Stages:
    """0-based ranks of queries: by candidates alone, and after the best candidates are scored.

    found: how many queries have their answer among the candidates, in percent.
    """

    first: np.ndarray
    second: np.ndarray
    rerank: int

    @property
    def found(self) -> float:
        return 100 * float((self.first < self.rerank).mean())

    def to_json(self) -> dict[str, Any]:
        stages = {"candidates": Direction.of(self.first), "two_stages": Direction.of(self.second)}
        figures = {name: {"R@1": d.r1, "R@5": d.r5, "R@10": d.r10} for name, d in stages.items()}
        return figures | {"found": self.found}


def two_stages(
    run: Run, inputs: Inputs, scores: Scores, rerank: int, device: torch.device, progress: Progress = SILENT
) -> dict[str, Any]:
    """Both directions of a split, as JSON: {"rerank": k, "i2t": ..., "t2i": ...}.

    Args:
        scores: of all images of the inputs with all captions, the mean of the run's members.
        rerank: candidates of a query that the matcher scores.
    """
    with progress.task("candidates", len(inputs.images) + len(inputs.caption_texts), unit="vectors") as advance:
        images = _image_vectors(run, inputs, device)
        advance(len(images))
        texts = _text_vectors(run, inputs, device)
        advance(len(texts))
    t2i = text_stages(images, texts, scores, inputs.image_of, rerank)
    i2t = image_stages(images, texts, scores, inputs.image_of, rerank)
    return {"rerank": rerank, "i2t": i2t.to_json(), "t2i": t2i.to_json()}


def text_stages(images: np.ndarray, texts: np.ndarray, scores: Scores, image_of: np.ndarray, rerank: int) -> Stages:
    """Ranks of the image of each caption, (m,) each.

    Args:
        images: (n, C) and texts: (m, C), candidate vectors; scores: (n, m); image_of: (m,).
    """
    rerank = min(rerank, len(images))
    first, chosen = np.empty(len(texts), np.int64), np.empty((len(texts), rerank), np.int32)
    for start in range(0, len(texts), TEXTS):
        own = image_of[start : start + TEXTS]
        products = texts[start : start + TEXTS] @ images.T
        here = slice(start, start + len(own))
        first[here] = (products >= products[np.arange(len(own)), own][:, None]).sum(axis=1) - 1
        chosen[here] = _candidates(products, own, first[here] < rerank, rerank)
    # The scores of candidates are gathered image by image, in the order in which a matrix is read.
    order = np.argsort(chosen, axis=None, kind="stable")
    image = chosen.ravel()[order]
    found, own_score = np.empty(chosen.size, np.float32), np.empty(len(texts), np.float32)
    for start, block in scores.blocks():
        some = slice(*np.searchsorted(image, [start, start + len(block)]))
        found[order[some]] = block[image[some] - start, order[some] // rerank]
        mine = np.flatnonzero((image_of >= start) & (image_of < start + len(block)))
        own_score[mine] = block[image_of[mine] - start, mine]
    better = (found.reshape(chosen.shape) >= own_score[:, None]).sum(axis=1) - 1  # its own image is among them
    return Stages(first, np.where(first < rerank, better, first), rerank)


def image_stages(images: np.ndarray, texts: np.ndarray, scores: Scores, image_of: np.ndarray, rerank: int) -> Stages:
    """Ranks of the best own caption of each image, (n,) each; own captions do not compete with each other."""
    rerank = min(rerank, len(texts))
    first, second = np.empty(len(images), np.int64), np.empty(len(images), np.int64)
    for start, block in scores.blocks():
        products = images[start : start + len(block)] @ texts.T
        mine = image_of == np.arange(start, start + len(block))[:, None]
        best = np.where(mine, products, -np.inf).max(axis=1)
        before = ((products >= best[:, None]) & ~mine).sum(axis=1)
        edge = -np.partition(-products, rerank - 1, axis=1)[:, rerank - 1]
        candidate = products >= edge[:, None]
        own = np.where(mine & candidate, block, -np.inf).max(axis=1)
        after = (candidate & ~mine & (block >= own[:, None])).sum(axis=1)
        here = slice(start, start + len(block))
        first[here], second[here] = before, np.where(before < rerank, after, before)
    return Stages(first, second, rerank)


def _candidates(products: np.ndarray, own: np.ndarray, is_found: np.ndarray, rerank: int) -> np.ndarray:
    """(q, rerank) the columns with the largest products of each row: its own among them if it is found, else others."""
    products[np.arange(len(own)), own] = np.where(is_found, np.inf, -np.inf)
    return np.argpartition(-products, rerank - 1, axis=1)[:, :rerank]


def _image_vectors(run: Run, inputs: Inputs, device: torch.device) -> np.ndarray:
    """(n, C)"""
    found = []
    for start in range(0, len(inputs.images), IMAGE_TILE):
        batch = inputs.image_batch(np.arange(start, min(start + IMAGE_TILE, len(inputs.images)))).to(device)
        with torch.inference_mode():
            encoded = {name: as_matcher(net.eval()).encode_images(batch) for name, net in run.members.items()}
        found.append(candidate_vectors(encoded, run.weights))
    return np.concatenate(found)


def _text_vectors(run: Run, inputs: Inputs, device: torch.device) -> np.ndarray:
    """(m, C); captions of one length at a time, as they are scored and searched."""
    found = np.zeros((0, 0), np.float32)
    for places in text_tiles(inputs, np.arange(len(inputs.caption_texts)), device):
        batch = inputs.text_batch(places).to(device)
        with torch.inference_mode():
            encoded = {name: as_matcher(net.eval()).encode_texts(batch) for name, net in run.members.items()}
        vectors = candidate_vectors(encoded, run.weights)
        if not found.size:
            found = np.empty((len(inputs.caption_texts), vectors.shape[1]), np.float32)
        found[places] = vectors
    return found
