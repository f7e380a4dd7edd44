"""Every image with every caption of a split, in blocks: each image and each caption is encoded once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from itmkit.errors import ItmkitError
from itmkit.inputs import Inputs
from itmkit.matchers import Encoded, as_matcher
from itmkit.progress import SILENT, Progress

IMAGE_BLOCK = 32
WORDS_BLOCK = 512  # words of one block of texts: with 32 images, pair tensors of (32, 512, D) stay near the caches
ENCODE_BLOCK = 128


def score_matrix(
    matchers: Mapping[str, nn.Module],
    inputs: Inputs,
    *,
    images: np.ndarray | None = None,
    texts: np.ndarray | None = None,
    device: torch.device | None = None,
    image_block: int = IMAGE_BLOCK,
    words_block: int = WORDS_BLOCK,
    progress: Progress = SILENT,
) -> dict[str, np.ndarray]:
    """The scores of the given images with the given texts, by each member.

    Texts are scored in order of length, so that a block holds no padding to speak of; the result is in the order
    asked for. It does not depend on the block sizes beyond rounding (1e-6).

    Args:
        images, texts: positions within `inputs`; all by default.

    Returns:
        {member: (n_images, n_texts) float32}.

    Raises:
        ItmkitError: a score is NaN or infinite; names the member.
    """
    weights = (parameter for matcher in matchers.values() for parameter in matcher.parameters())
    device = device or next((weight.device for weight in weights), torch.device("cpu"))  # there may be no weights
    images = np.arange(len(inputs.images)) if images is None else images
    texts = np.arange(len(inputs.caption_texts)) if texts is None else texts
    order = texts_by_length(inputs, texts)
    blocks = text_blocks(inputs.lengths[texts[order]], words_block)
    out = {name: np.empty((len(images), len(texts)), np.float32) for name in matchers}
    for matcher in matchers.values():
        matcher.eval()
    with (
        torch.inference_mode(),
        progress.task("scoring", len(images) * len(texts) * len(matchers), unit="pairs") as advance,
    ):
        for name, matcher in matchers.items():
            encoded = encode_images(matcher, inputs, images, device)
            for block in blocks:
                places = order[block]
                batch = encode_texts(matcher, inputs, texts[places], device)
                for start in range(0, len(images), image_block):
                    rows = slice(start, start + image_block)
                    scores = as_matcher(matcher).score({key: value[rows] for key, value in encoded.items()}, batch)
                    out[name][rows, places] = scores.float().cpu().numpy()
                advance(len(images) * len(places))
            if not np.isfinite(out[name]).all():
                raise ItmkitError(f"member {name!r} gives scores that are NaN or infinite; train it anew")
    return out


def ensemble_of(scores: Mapping[str, np.ndarray], weights: Mapping[str, float]) -> np.ndarray:
    """The weighted mean of the members' score matrices."""
    return np.average(list(scores.values()), axis=0, weights=[weights[name] for name in scores])


def texts_by_length(inputs: Inputs, texts: np.ndarray) -> np.ndarray:
    """(len(texts),) places within `texts`, shortest caption first; captions of equal length in their own order."""
    return np.argsort(inputs.lengths[texts], kind="stable")


def text_blocks(lengths: np.ndarray, words_block: int) -> list[slice]:
    """Slices of a list of captions, each with at most `words_block` words (and at least one caption)."""
    blocks, start, words = [], 0, 0
    for place, length in enumerate(lengths):
        if words + length > words_block and place > start:
            blocks.append(slice(start, place))
            start, words = place, 0
        words += int(length)
    return [*blocks, slice(start, len(lengths))] if len(lengths) > start else blocks


def encode_images(matcher: nn.Module, inputs: Inputs, which: np.ndarray, device: torch.device) -> Encoded:
    """All given images, encoded block by block: {name: (len(which), ...)}."""
    parts = [
        as_matcher(matcher).encode_images(inputs.image_batch(which[start : start + ENCODE_BLOCK]).to(device))
        for start in range(0, len(which), ENCODE_BLOCK)
    ]
    joined: dict[str, Tensor] = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    return joined


def encode_texts(matcher: nn.Module, inputs: Inputs, which: np.ndarray, device: torch.device) -> Encoded:
    return as_matcher(matcher).encode_texts(inputs.text_batch(which).to(device))
