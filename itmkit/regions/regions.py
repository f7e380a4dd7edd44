"""What every backend gives back for one picture."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass
class Regions:
    """The regions of one picture, best first.

    boxes: (n, 4) float32, x1 y1 x2 y2 in pixels of the upright picture.
    scores: (n,) float32, the backend's confidence, 0 where it has none.
    tags: n class names; "" where the backend names none.
    features: (n, D) float32.
    """

    boxes: np.ndarray
    scores: np.ndarray
    features: np.ndarray
    tags: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.boxes)
