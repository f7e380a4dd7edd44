"""Scores every image with every caption of a split in memory, for validation and for small data."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from itmkit.errors import ItmkitError
from itmkit.inputs import Inputs
from itmkit.progress import SILENT, Progress
from itmkit.scoring.tiles import encoded_images, encoded_texts, score_tiles, text_tiles, workers


def score_matrix(
    matchers: Mapping[str, nn.Module],
    inputs: Inputs,
    *,
    images: np.ndarray | None = None,
    texts: np.ndarray | None = None,
    device: torch.device | None = None,
    progress: Progress = SILENT,
) -> dict[str, np.ndarray]:
    """Each member's scores of the given images with the given texts, in the order given.

    Args:
        images, texts: positions within `inputs`; all by default.

    Returns:
        {member: (n_images, n_texts) float32}.

    Raises:
        ItmkitError: a score is NaN or infinite. The error names the member.
    """
    weights = (parameter for matcher in matchers.values() for parameter in matcher.parameters())
    device = device or next((weight.device for weight in weights), torch.device("cpu"))  # there may be no weights
    images = np.arange(len(inputs.images)) if images is None else images
    texts = np.arange(len(inputs.caption_texts)) if texts is None else texts
    tiles = text_tiles(inputs, texts, device)
    out = {name: np.empty((len(images), len(texts)), np.float32) for name in matchers}
    pairs = len(images) * len(texts) * len(matchers)
    with progress.task("scoring", pairs, unit="pairs") as advance, workers(device) as in_order:
        for name, matcher in matchers.items():
            matcher.eval()
            rows = encoded_images(matcher, inputs, images, device, in_order)
            columns = encoded_texts(matcher, inputs, texts, tiles, device, in_order)
            score_tiles(matcher, rows, columns, out[name], in_order, advance)
            check_finite(name, out[name])
    return out


def check_finite(member: str, scores: np.ndarray) -> None:
    """Raises ItmkitError where a score is NaN or infinite."""
    if not np.isfinite(scores).all():
        raise ItmkitError(f"member {member!r} gives scores that are NaN or infinite; train it anew")


def ensemble_of(scores: Mapping[str, np.ndarray], weights: Mapping[str, float]) -> np.ndarray:
    """The weighted mean of the members' score matrices."""
    return np.average(list(scores.values()), axis=0, weights=[weights[name] for name in scores])
