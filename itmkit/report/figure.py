"""The look of every figure, its size, its legend, and how it is saved. Nothing else imports matplotlib."""

from __future__ import annotations

import io
import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from itmkit.errors import ItmkitError
from itmkit.files import atomic_path, check_replaces
from itmkit.visible import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 3.5  # inches: a column of a paper
# Okabe and Ito's colours, which people who confuse red and green tell apart too; without yellow, too pale for lines,
# and with grey for black, which a dark page would swallow.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#666666")
GREY = "#767676"  # has a contrast of 4.5 to white and to black
HALO = "white"  # around thin dark strokes over bars
DASHES: tuple[Any, ...] = ("solid", (0, (4, 1.5)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
MOST = len(COLOURS) * len(DASHES)  # series that can be told apart
METADATA: dict[str, dict[str, None]] = {
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
Format = Literal["svg", "png", "pdf"]

_DOTS = 300  # an inch, of a PNG
_TEXT, _LINE = 6.5, 0.135  # points; inches from one line of the legend to the next
_LETTER = 0.054  # inches, about, of one in such a text
_BREAKS = (" :;,+/", "_-=")  # rather after one of the former
_STYLE = {
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.labelsize": 7,
    "figure.titlesize": 7.5,
    "xtick.labelsize": _TEXT,
    "ytick.labelsize": _TEXT,
    "legend.fontsize": _TEXT,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.5",
    "grid.alpha": 0.2,
    "grid.linewidth": 0.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 3,
    "legend.frameon": False,
    "text.parse_math": False,  # names of runs may hold dollar signs
    "savefig.dpi": _DOTS,
    "svg.fonttype": "none",
    "svg.hashsalt": "itmkit",
    "pdf.fonttype": 42,  # TrueType: journals refuse the other
}


def drawing_package() -> Any:
    """matplotlib. Raises ItmkitError where it is not installed."""
    log = logging.getLogger("matplotlib")
    level = log.level
    log.setLevel(logging.ERROR)  # of a home without room for its cache, and that this cache takes a moment
    try:
        import matplotlib
        import matplotlib.figure
        import matplotlib.font_manager
        import matplotlib.lines
        import matplotlib.patches
        import matplotlib.patheffects
        import matplotlib.spines
        import matplotlib.text
        import matplotlib.textpath
        import matplotlib.ticker
    except ImportError:
        raise ItmkitError("drawing needs the package matplotlib: pip install 'itmkit[report]'") from None
    finally:
        log.setLevel(level)
    return matplotlib


@contextmanager
def style() -> Iterator[Any]:
    """matplotlib with the look of these figures, whatever its settings are outside, which stay as they are."""
    matplotlib = drawing_package()
    ours = {name: value for name, value in matplotlib.rcParamsDefault.items() if not name.startswith("backend")}
    with matplotlib.rc_context({**ours, **_STYLE}):
        yield matplotlib


def sheet(
    matplotlib: Any,
    title: str,
    rows: int,
    columns: int,
    *,
    height: float,
    legend: Sequence[tuple[Any, str]] = (),
    **grid: Any,
) -> tuple[Figure, Any]:
    """An empty figure one column wide, and its axes (rows, columns).

    Args:
        matplotlib: of `style`.
        height: inches of all panels together; title and legend come in addition.
        legend: (what stands for a series, its name), drawn below the panels, where it covers no data.
        grid: further arguments of `Figure.subplots`.
    """
    across = int(WIDTH / _LETTER * _TEXT / 7.5)
    says = title if len(title) <= across else title.replace(": ", ":\n", 1)  # what is drawn, then of which data
    says = "\n".join(wrapped(line, across) for line in says.split("\n"))
    names = [wrapped(name, int((WIDTH - 0.5) / _LETTER)) for _, name in legend]
    longest = max((len(line) for name in names for line in name.split("\n")), default=1)
    across = max(1, min(len(names), int(WIDTH / (longest * _LETTER + 0.45))))
    lines = [1 + name.count("\n") for name in names]
    down = math.ceil(len(names) / across)
    deep = max((sum(lines[i : i + down]) for i in range(0, len(lines), down)), default=0) if names else 0
    tall = height + 0.12 * (1 + says.count("\n")) + 0.08 + (_LINE * deep + 0.1 if deep else 0)
    figure = matplotlib.figure.Figure(figsize=(WIDTH, tall), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03)
    figure.suptitle(says)
    axes = figure.subplots(rows, columns, squeeze=False, **grid)
    if names:
        drawn = figure.legend(
            [handle for handle, _ in legend],
            [str(number) for number in range(len(names))],
            loc="outside lower center",
            ncols=across,
            handlelength=2.2,
            columnspacing=1.2,
            labelspacing=0.3,
            borderaxespad=0.2,
        )
        for text, name in zip(drawn.get_texts(), names, strict=True):
            text.set_text(name)  # legend() itself leaves out what begins with an underscore
    return figure, axes


def look(number: int) -> dict[str, Any]:
    """Colour, dashes and marks of the line of the series `number`, no two alike below `MOST`."""
    return mark(number) | {"linestyle": DASHES[number // len(COLOURS) % len(DASHES)], "markersize": 3}


def mark(number: int) -> dict[str, Any]:
    """Colour and shape of the marks of the series `number`; neighbours differ in both."""
    colour, shape = COLOURS[number % len(COLOURS)], MARKERS[(number + number // len(COLOURS)) % len(MARKERS)]
    return {"color": colour, "marker": shape, "markersize": 3.2, "markeredgecolor": "white", "markeredgewidth": 0.3}


def pale(colour: str) -> tuple[float, float, float]:
    """A colour of `COLOURS` mixed with white, for bars on which marks stand out."""
    red, green, blue = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    return 1 - 0.4 * (1 - red), 1 - 0.4 * (1 - green), 1 - 0.4 * (1 - blue)


def heading(axis: Any, title: str, rows: str) -> None:
    """The title of a panel whose rows have names, and what those are; such rows need no grid and no ticks."""
    axis.set_title(title)
    if rows:
        above = {"xy": (0, 1), "xycoords": "axes fraction", "xytext": (-4, 5), "textcoords": "offset points"}
        axis.annotate(rows, **above, ha="right", fontsize=_TEXT)  # a title is not given room beside the panel
    axis.grid(visible=False, axis="y")
    axis.tick_params(axis="y", length=0)


def wrapped(text: str, width: int) -> str:
    """The text in lines of at most `width` letters, broken after a space or sign if one is in a line's second half."""
    lines = []
    while len(text) > width:
        breaks = [max((i + 1 for i in range(width // 2, width) if text[i] in signs), default=0) for signs in _BREAKS]
        place = next((one for one in breaks if one), width)
        lines.append(text[:place].rstrip())
        text = text[place:].lstrip()
    return "\n".join([*lines, text])


def save(figure: Figure, path: Path, *, transparent: bool = False) -> None:
    """Writes an SVG or PDF (with text as text) or a PNG of 300 dots an inch, by the ending of `path`.

    Args:
        transparent: no background, and text and axes in a grey that is read on white and on dark pages. The figure
            itself is changed so.

    The same data give the same bytes, with the same version of matplotlib: no dates, no random names.

    Raises:
        ItmkitError: another ending.
    """
    kind = path.suffix.removeprefix(".").lower()
    if kind not in METADATA:
        raise ItmkitError(f"{path}: figures are written as {' or '.join('.' + one for one in METADATA)}")
    out = io.BytesIO()
    with style() as matplotlib, warnings.catch_warnings():
        if transparent:
            _in_grey(matplotlib, figure)
        for text in figure.findobj(matplotlib.text.Text):  # names of runs and data sets may hold controls
            if (plain := visible(text.get_text(), keep="\n")) != text.get_text():
                text.set_text(plain)
        # Letters that the font lacks: an SVG keeps them as text, a PNG has boxes in their place.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        lay_out(figure)  # or savefig would do so, and draw the whole figure for it once more
        figure.savefig(out, format=kind, metadata=METADATA[kind], transparent=transparent)
    check_replaces(path, is_figure, "a figure")
    with atomic_path(path) as partial:
        partial.write_bytes(out.getvalue())


def lay_out(figure: Figure) -> None:
    """Gives every panel its place, for good. Within `style()`, as drawing is."""
    if (engine := figure.get_layout_engine()) is not None:
        figure.set_dpi(_DOTS)  # text is measured as it will be drawn
        engine.execute(figure)
        figure.set_layout_engine(None)


def is_figure(path: Path) -> bool:
    """Whether a file is an SVG, a PNG or a PDF, by its first bytes."""
    with open(path, "rb") as file:
        head = file.read(16)
    return head.startswith((b"\x89PNG", b"<?xml", b"<svg", b"%PDF-"))


def _in_grey(matplotlib: Any, figure: Figure) -> None:
    """Text, ticks and spines in `GREY`, in place of black."""
    for text in figure.findobj(matplotlib.text.Text):
        text.set_color(GREY)
    for spine in figure.findobj(matplotlib.spines.Spine):
        spine.set_edgecolor(GREY)
    for axis in figure.axes:
        axis.tick_params(color=GREY, labelcolor=GREY)
