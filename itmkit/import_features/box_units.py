"""Whether the boxes of a set of features are in pixels or in shares of their pictures: one rule for all kinds of files.

A single picture does not tell: a box of one pixel lies between 0 and 1 as well. So the whole set decides. If most
pictures have no value above 1, the boxes are shares, and the pictures whose boxes are larger are wrong; and the other
way round.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

WITHIN_ONE = 1.01  # shares of a picture may exceed 1 by what was lost in rounding
LARGER = 2  # pixels; in a picture no larger than that, a box may lie between 0 and 1 and be in pixels
SCALED = "all box values lie between 0 and 1: they were taken as shares of the width and height of their pictures"
NO_AREA = "no box with an area (all zero?)"
NOT_ORDERED = "x2 < x1 or y2 < y1 (corners x1 y1 x2 y2 are needed)"
AROUND_ZERO = "box values between -1 and 1 (pixels are needed, or shares of the picture from 0 to 1)"
_MIXED = "boxes between 0 and 1, while those of most pictures are in pixels,"
_MIXED_SHARES = "boxes in pixels, while those of most pictures lie between 0 and 1,"


@dataclass
class BoxUnits:
    """What the boxes of a set look like.

    in_shares, in_pixels: the numbers of the pictures whose boxes look like the one or the other.
    """

    in_shares: list[int] = field(default_factory=list)
    in_pixels: list[int] = field(default_factory=list)

    def add(self, number: int, largest: float, longest_side: float = math.inf) -> None:
        """Takes in picture `number`: the largest value of its boxes, and its width or height, whichever is longer."""
        if largest > WITHIN_ONE:
            self.in_pixels.append(number)
        elif largest > 0 and longest_side > LARGER:
            self.in_shares.append(number)

    @property
    def shares(self) -> bool:
        return len(self.in_shares) > len(self.in_pixels)

    def odd_ones(self) -> tuple[list[int], str]:
        """(the pictures whose boxes are not in the unit of most others, what is wrong with them in words)."""
        if self.shares:
            return self.in_pixels, _MIXED_SHARES
        return (self.in_shares if self.in_pixels else []), _MIXED
