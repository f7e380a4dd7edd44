"""How well members find the right pairs of the validation split, after each epoch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from itmkit.inputs import Inputs
from itmkit.progress import SILENT, Progress
from itmkit.scoring.matrix import ensemble_of, score_matrix
from itmkit.scoring.metrics import Retrieval, retrieval


def validate(
    members: Mapping[str, nn.Module],
    weights: Mapping[str, float],
    inputs: Inputs,
    *,
    limit: int,
    device: torch.device,
    progress: Progress = SILENT,
) -> tuple[dict[str, Retrieval], Retrieval | None, int]:
    """The figures of every member and of their weighted mean (None for a single member), and the number of images.

    Args:
        weights: the weight of each member in the mean of the scores.
        limit: how many images are scored, from the start of the split; 0 = all.
    """
    images = np.arange(min(limit or len(inputs.images), len(inputs.images)))
    texts = np.flatnonzero(inputs.image_of < len(images))
    scores = score_matrix(members, inputs, images=images, texts=texts, device=device, progress=progress)
    image_of = inputs.image_of[texts]
    found = {name: retrieval(matrix, image_of) for name, matrix in scores.items()}
    together = retrieval(ensemble_of(scores, weights), image_of) if len(scores) > 1 else None
    return found, together, len(images)
