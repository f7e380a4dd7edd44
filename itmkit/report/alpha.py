"""R@1 over the weight of one of two members, both ways: figure 6 of GLFN."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from itmkit.report.curves import SIDES
from itmkit.report.figure import look, sheet, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def alpha(sweeps: Mapping[str, Mapping[str, Any]], title: str, *, numbers: Sequence[int] | None = None) -> Figure:
    """R@1 of each direction over alpha, a line a run and a mark a value that was tried.

    Args:
        sweeps: {name: what `itmkit evaluate --alpha` writes of a run: "weight_of", and "values" with "alpha", "i2t" and
            "t2i"}.
        numbers: of the look of each run, see `itmkit.report.figure.look`; 0, 1, ... by default.
    """
    looks = [
        look(number) | {"linewidth": 1.1, "marker": "o", "markersize": 2.5} for number in numbers or range(len(sweeps))
    ]
    members = list(dict.fromkeys(str(sweep["weight_of"]) for sweep in sweeps.values()))
    with style() as matplotlib:
        entries = [(matplotlib.lines.Line2D([], [], **kind), name) for name, kind in zip(sweeps, looks, strict=True)]
        figure, axes = sheet(matplotlib, title, 1, 2, height=1.8, legend=entries)
        for axis, (side, (says, _)) in zip(axes[0], SIDES.items(), strict=True):
            for sweep, kind in zip(sweeps.values(), looks, strict=True):
                rows = sorted(sweep["values"], key=lambda one: one["alpha"])
                axis.plot([one["alpha"] for one in rows], [one[side]["R@1"] for one in rows], **kind)
            axis.set_title(says)
            axis.set_xlabel(f"alpha, the weight of {' or '.join(members)}")
            axis.set_xlim(-0.03, 1.03)
        axes[0][0].set_ylabel("R@1 (%)")
        return figure
