"""Images with a region like a given one: by the cosines of the region vectors that the matcher itself compares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from itmkit.index.candidates import candidate_vectors
from itmkit.index.search import Searcher
from itmkit.matchers import Encoded
from itmkit.matchers.parts.norms import l2norm

READ = 256 << 20  # bytes of rows that are compared; of a larger index those of the best candidates
BLOCK = 512  # images compared together


@dataclass(frozen=True)
class RegionHit:
    """A found image, the place of its most similar region, and their cosine."""

    image: str
    rank: int
    region: int
    score: float


def region_vectors(encoded: dict[str, Encoded], region: int) -> dict[str, torch.Tensor]:
    """member -> (D,) unit vector of one region of an encoded image."""
    return {member: l2norm(each["nodes"][0, region].float()) for member, each in encoded.items()}


def images_with_region(searcher: Searcher, vectors: dict[str, torch.Tensor], count: int) -> list[RegionHit]:
    """The images whose most similar region has the largest cosine with the given one, best first.

    Exact up to `READ` bytes of rows; of a larger index, the images that are nearest by their vector are compared.

    Args:
        vectors: of `region_vectors`; the cosine is the weighted mean of those of the members.
    """
    weights = searcher.matcher.weights
    total = sum(weights[member] for member in vectors)
    (whole,) = candidate_vectors({member: {"vector": vector[None]} for member, vector in vectors.items()}, weights)
    most = max(count, READ // searcher.store.format.bytes)
    positions = np.sort(searcher.nearest(whole, most)[0])  # in the order of the files
    scores, regions = np.empty(len(positions), np.float32), np.empty(len(positions), np.int64)
    with torch.inference_mode():
        for start in range(0, len(positions), BLOCK):
            for rows, encoded in searcher.encoded(positions[start : start + BLOCK]).tiles:
                cosine = sum(
                    l2norm(encoded[member]["nodes"].float()) @ vector * (weights[member] / total)
                    for member, vector in vectors.items()
                )
                assert isinstance(cosine, torch.Tensor)
                real = next(iter(encoded.values()))["mask"]
                best = cosine.masked_fill(~real, -2).max(dim=1)
                at = slice(start + rows.start, start + rows.stop)
                scores[at], regions[at] = best.values.cpu().numpy(), best.indices.cpu().numpy()
    order = np.argsort(-scores, kind="stable")[:count]
    return [
        RegionHit(searcher.store.ids[positions[k]], rank, int(regions[k]), float(scores[k]))
        for rank, k in enumerate(order.tolist(), 1)
    ]
