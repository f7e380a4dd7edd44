"""Charts and trees as SVG, which stands in the page itself. Colours and dashes are in page.css, by class."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

import numpy as np

from itmkit.report.page import right_to_left
from itmkit.report.sentence import arc_levels
from itmkit.visible import visible

WIDTH = 360  # units, about pixels on a phone
SERIES = 7  # that differ in colour; page.css has a class for each
_MARKS = ("circle", "square", "triangle", "diamond", "down", "plus", "cross")
Element = ElementTree.Element
Series = tuple[str, int, Sequence[int], Sequence[float | None]]  # of `lines`


def _add(parent: Element, name: str, text: str | None = None, **attributes: object) -> Element:
    """A child; `class_` is written class, and _ in a name is a dash."""
    named = {
        key.rstrip("_").replace("_", "-"): f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)
        for key, value in attributes.items()
    }
    child = ElementTree.SubElement(parent, name, named)
    if text is not None:
        child.text = visible(text)
    return child


def _drawing(width: float, height: float, says: str) -> Element:
    """role="img" makes a reader say `says` in place of the parts."""
    box = f"0 0 {width:.0f} {height:.0f}"
    return Element("svg", {"viewBox": box, "role": "img", "aria-label": visible(says)})


def _text(drawing: Element) -> str:
    return ElementTree.tostring(drawing, encoding="unicode", short_empty_elements=True)


def _mark(parent: Element, number: int, x: float, y: float, says: str = "") -> None:
    """A mark of a series: shape and colour. From the eighth on, colours come again with other shapes."""
    shape, r = _MARKS[(number + number // SERIES) % SERIES], 3.6
    paths = {
        "square": f"M{x - r:.1f} {y - r:.1f}h{2 * r}v{2 * r}h{-2 * r}z",
        "triangle": f"M{x:.1f} {y - 1.2 * r:.1f}l{1.2 * r} {2.1 * r}h{-2.4 * r}z",
        "diamond": f"M{x:.1f} {y - 1.3 * r:.1f}l{1.3 * r} {1.3 * r}l{-1.3 * r} {1.3 * r}l{-1.3 * r} {-1.3 * r}z",
        "down": f"M{x:.1f} {y + 1.2 * r:.1f}l{1.2 * r} {-2.1 * r}h{-2.4 * r}z",
        "plus": f"M{x - r:.1f} {y - 1:.1f}h{r - 1}v{-r + 1}h2v{r - 1}h{r - 1}v2h{-r + 1}v{r - 1}h-2v{-r + 1}h{-r + 1}z",
        "cross": f"M{x - r:.1f} {y - r:.1f}l{2 * r} {2 * r}m0 {-2 * r}l{-2 * r} {2 * r}",
    }
    kind = {"class_": f"mark s{number % SERIES}{' stroke' if shape == 'cross' else ''}"}
    if shape == "circle":
        made = _add(parent, "circle", cx=x, cy=y, r=r, **kind)
    else:
        made = _add(parent, "path", d=paths[shape], **kind)
    if says:
        _add(made, "title", says)


def key(number: int) -> str:
    """The line and mark of a series, for a legend."""
    drawing = Element("svg", {"viewBox": "0 0 28 12", "width": "28", "height": "12", "aria-hidden": "true"})
    _add(drawing, "path", d="M1 6H27", class_=f"line s{number % SERIES}")
    _mark(drawing, number, 14, 6)
    return _text(drawing)


def dots(
    rows: Sequence[tuple[str, Sequence[Mapping[str, Any] | None]]], names: Sequence[str], says: str, *, left: float = 96
) -> str:
    """A row for each thing measured, in it a mark for each series with a stroke for its interval; percent.

    Args:
        rows: (label, [{"value", "low", "high"} of each series; None without one]); low and high may be None.
        names: of the series.
        left: units for the labels.
    """
    there = [number for number in range(len(names)) if any(row[number] for _, row in rows)]
    one, top, right = max(18.0, 9.0 * len(there) + 8), 6.0, WIDTH - 14.0
    deep = top + one * len(rows)
    ends = [end for _, row in rows for each in row if each for end in (each["value"], each["high"]) if end is not None]
    most = _ceiling(max(ends, default=1.0))
    drawing = _drawing(WIDTH, deep + 20, says)
    for tick in [tick for tick in _ticks(0, most) if tick <= most]:
        x = left + (right - left) * tick / most
        _add(drawing, "path", d=f"M{x:.1f} {top}V{deep:.1f}", class_="grid")
        _add(drawing, "text", f"{tick:g}", x=x, y=deep + 14, class_="tick middle")
    for place, (label, row) in enumerate(rows):
        middle = top + one * (place + 0.5)
        short = _short(label, int(left / 5.6))
        named = _add(drawing, "text", short, x=left - 6, y=middle + 4, class_="tick end")
        if short != label:
            _add(named, "title", label)
        for number, each in enumerate(row):
            if each is None:
                continue
            y = middle + 9 * (there.index(number) - (len(there) - 1) / 2)
            at = [left + (right - left) * end / most for end in (each["low"], each["high"]) if end is not None]
            if len(at) == 2:
                _add(drawing, "path", d=f"M{at[0]:.1f} {y:.1f}H{at[1]:.1f}", class_=f"line s{number % SERIES} whole")
            said = f"{names[number]}: {label} {_span(each)}"
            _mark(drawing, number, left + (right - left) * each["value"] / most, y, said)
    return _text(drawing)


def lines(series: Sequence[Series], says: str, *, height: float = 190) -> str:
    """Lines over epochs.

    Args:
        series: (name, number of its look, epochs, values, None where there is none).
    """
    drawn = [
        (name, look, [(x, y) for x, y in zip(xs, ys, strict=True) if y is not None]) for name, look, xs, ys in series
    ]
    points = [point for _, _, line in drawn for point in line]
    if not points:
        return ""
    left, right, top, bottom = 44.0, WIDTH - 10.0, 10.0, height - 24.0
    first, last = min(x for x, _ in points), max(x for x, _ in points)
    ticks = _ticks(min(y for _, y in points), max(y for _, y in points))
    low, high = ticks[0], ticks[-1]

    def at(x: float, y: float) -> tuple[float, float]:
        across = (x - first) / (last - first) if last > first else 0.5
        return left + (right - left) * across, bottom - (bottom - top) * (y - low) / (high - low)

    drawing = _drawing(WIDTH, height, says)
    for tick in ticks:
        _add(drawing, "path", d=f"M{left} {at(first, tick)[1]:.1f}H{right}", class_="grid")
        _add(drawing, "text", f"{tick:g}", x=left - 6, y=at(first, tick)[1] + 4, class_="tick end")
    step = max(1, -(-(last - first) // 6))
    for epoch in range(first, last + 1, step):
        _add(drawing, "text", str(epoch), x=at(epoch, low)[0], y=bottom + 16, class_="tick middle")
    for name, look, line in drawn:
        if len(line) > 1:
            path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in (at(*point) for point in line))
            _add(drawing, "path", d=path, class_=f"line s{look % SERIES}")
        for place, point in enumerate(line):
            if place % max(1, -(-len(line) // 12)) == 0 or place == len(line) - 1:
                _mark(drawing, look, *at(*point), f"{name}: epoch {point[0]}, {point[1]:.4g}")
    return _text(drawing)


def histogram(edges: Sequence[float], positives: Sequence[int], negatives: Sequence[int], says: str) -> str:
    """Shares of the pairs that belong together (filled) and of all others (an outline) over their scores."""
    height, left, right, top = 170.0, 8.0, WIDTH - 8.0, 8.0
    bottom = height - 22
    shares = [np.asarray(counts, float) / max(1, sum(counts)) for counts in (positives, negatives)]
    most = max(float(each.max()) for each in shares) or 1.0
    xs = left + (right - left) * (np.asarray(edges) - edges[0]) / (edges[-1] - edges[0])
    drawing = _drawing(WIDTH, height, says)
    for each, kind in zip(shares, ("positives", "negatives"), strict=True):
        steps = [f"{xs[0]:.1f} {bottom:.1f}"]
        for place, share in enumerate(each.tolist()):
            y = bottom - (bottom - top) * share / most
            steps += [f"{xs[place]:.1f} {y:.1f}", f"{xs[place + 1]:.1f} {y:.1f}"]
        steps.append(f"{xs[-1]:.1f} {bottom:.1f}")
        _add(drawing, "path", d="M" + "L".join(steps), class_=kind)
    _add(drawing, "path", d=f"M{left} {bottom:.1f}H{right}", class_="axis")
    near = 0.01 * (edges[-1] - edges[0])
    for tick in _ticks(edges[0], edges[-1]):
        if edges[0] - near <= tick <= edges[-1] + near:
            x = left + (right - left) * (tick - edges[0]) / (edges[-1] - edges[0])
            half = 3.3 * len(f"{tick:g}")  # of the width of the label, which is to lie in the drawing
            _add(drawing, "text", f"{tick:g}", x=min(max(x, half), WIDTH - half), y=bottom + 14, class_="tick middle")
    return _text(drawing)


def tree(words: Sequence[Mapping[str, Any]]) -> str:
    """The dependency tree of a caption as arcs over its words; "" where it has none."""
    heads = [word.get("head", place) for place, word in enumerate(words)]
    if all(head == place for place, head in enumerate(heads)):
        return ""
    relations = [str(word.get("relation", "")) for word in words]
    names = [_short(str(word["word"]), 24) for word in words]
    wide = [max(8.0 * _letters(name), 34) + 22 for name in names]
    middles = [sum(wide[:place]) + wide[place] / 2 + 4 for place in range(len(wide))]
    if right_to_left(" ".join(names)):
        middles = [sum(wide) + 8 - middle for middle in middles]
    height = arc_levels(heads, relations)
    base = 16 + 24 * max(height.values(), default=1)
    told = [
        f"{name}: {relation} of {names[head]}" if head != place else f"{name}: root"
        for place, (name, head, relation) in enumerate(zip(names, heads, relations, strict=True))
    ]
    drawing = _drawing(sum(wide) + 8, base + 26, "; ".join(told))
    drawing.attrib |= {"width": f"{sum(wide) + 8:.0f}", "height": f"{base + 26}"}  # it scrolls, and is not made small
    for name, middle, word in zip(names, middles, range(len(names)), strict=True):
        root = " root" if heads[word] == word else ""
        _add(drawing, "text", name, x=middle, y=base + 18, class_=f"word middle{root}")
    for (low, high), level in height.items():
        dependent = low if heads[low] == high else high
        head = high if dependent == low else low
        toward = 1 if middles[dependent] > middles[head] else -1
        start, end, top = middles[head] + 5 * toward, middles[dependent] - 2 * toward, base - 24.0 * level
        bend = toward * min(12.0, abs(end - start) / 2)
        path = f"M{start:.1f} {base}V{top + 8:.1f}Q{start:.1f} {top:.1f} {start + bend:.1f} {top:.1f}H{end - bend:.1f}"
        _add(drawing, "path", d=f"{path}Q{end:.1f} {top:.1f} {end:.1f} {top + 8:.1f}V{base}", class_="arc")
        _add(drawing, "path", d=f"M{end - 4:.1f} {base - 4}h8l-4 7z", class_="head")
        _add(drawing, "text", relations[dependent], x=(start + end) / 2, y=top - 3, class_="relation middle")
    return _text(drawing)


def bar(value: float, most: float) -> str:
    """The importance of a word beside that of the strongest one, as a line below its chip."""
    drawing = Element("svg", {"viewBox": "0 0 100 4", "preserveAspectRatio": "none", "aria-hidden": "true"})
    share = 100 * min(1.0, abs(value) / most) if most > 0 else 0.0
    _add(drawing, "rect", width=share, height=4, class_="against" if value < 0 else "for")
    return _text(drawing)


def _span(each: Mapping[str, Any]) -> str:
    known = each["low"] is not None and each["high"] is not None
    return f"{each['value']:.1f}" + (f" ({each['low']:.1f} to {each['high']:.1f})" if known else "")


def _ceiling(value: float) -> float:
    """The axis of percentages ends at a round number, at 100 at most."""
    return next((end for end in (1, 2, 5, 10, 20, 30, 40, 50, 60, 80) if value <= end), 100)


def _ticks(low: float, high: float) -> list[float]:
    """Four to seven round numbers; the first at or below `low`, the last at or above `high`."""
    if not high > low:
        high = low + max(abs(low) * 0.1, 1e-3)
    rough = (high - low) / 4
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(step * size for step in (1, 2, 2.5, 5, 10) if step * size >= rough * 0.999)
    begin, end = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(begin, end + 1)]


def _short(text: str, most: int) -> str:
    plain = visible(text)
    return plain if len(plain) <= most else plain[: max(1, most - 1)] + "…"


def _letters(text: str) -> int:
    """Widths of letters: those of Chinese, Japanese and Korean are twice as wide."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)
