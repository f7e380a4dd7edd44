"""The figure of an explanation: what each word of a caption looks at in a picture, and what it counts for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from itmkit.caption_text import has_words
from itmkit.errors import ItmkitError
from itmkit.files import check_replaces, write_json
from itmkit.report import sentence
from itmkit.report.figure import METADATA, drawing_package, is_figure, save, style
from itmkit.report.page import LETTER, SMALL, WIDE, Block, Place, bare, page, right_to_left, shown, signed
from itmkit.report.spotlight import draw_boxes, draw_lit, fitted, pixels_of, region_name
from itmkit.trained import Explanation
from itmkit.typed import read_strict_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 11  # words with a panel of their own: six beside the picture, and a row
FUNCTION = {"det", "case", "prep", "punct", "cc", "aux", "auxpass", "cop", "mark"}  # relations of words without content
_ACROSS, _GAP, _MARGIN = 5, 0.08, 0.08  # panels side by side; inches
_CELL = (WIDE - 2 * _MARGIN - (_ACROSS - 1) * _GAP) / _ACROSS
_TALLEST = 1.8  # inches of a panel
_ABOVE, _BELOW = 0.16, 0.14  # inches of a panel's title, and of the line below it


def content_words(found: Explanation, most: int = MOST) -> list[int]:
    """The words that a figure shows: those without which the score changes most, in the order of the caption.

    Punctuation is left out, and where the caption was parsed, so are articles, prepositions and conjunctions.
    """
    relations = found.words.relations
    able = [
        number
        for number, word in enumerate(found.words.words)
        if has_words(word) and not (relations and relations[number].partition(":")[0] in FUNCTION)
    ]
    return sorted(sorted(able, key=lambda number: (-abs(found.importance[number]), number))[:most])


def explained(found: Explanation, picture: Image.Image | None = None, *, run: str = "") -> Figure:
    """The figure.

    The picture with its regions; for each content word a panel in which only what it looks at is bright; the caption
    with its tree; the entropies or edges of methods that have them; and the importance of every word.

    Args:
        picture: upright, of any resolution; an even grey stands for None.
        run: its name, for the title.
    """
    with style() as matplotlib:
        into = sentence.columns(found.words.words)
        members = "" if len(found.members) == 1 else ", ".join(f"{k} {v:.3f}" for k, v in found.members.items())
        title = (
            f"{found.image}: score {found.score:.3f}{f' by {run}' if run else ''}{f' ({members})' if members else ''}"
        )
        blocks = [word_panels(matplotlib, found, picture), *_words(matplotlib, found, picture, into)]
        return page(matplotlib, title, blocks, width=into.page)


def write_explained(found: Explanation, path: Path, picture: Image.Image | None = None, *, run: str = "") -> None:
    """Writes an explanation by the ending of `path`: a figure as .svg, .png or .pdf, its numbers as .json.

    Raises:
        ItmkitError: another ending, or a file of another kind is there.
    """
    check_target(path)
    if path.suffix.lower() == ".json":
        write_json(path, found.to_json())
    else:
        save(explained(found, picture, run=run), path)


def check_target(path: Path) -> None:
    """Raises ItmkitError where `write_explained` would: before anything else is done."""
    kind = path.suffix.lower().removeprefix(".")
    if kind not in (*METADATA, "json"):
        raise ItmkitError(f"{path}: an explanation is written as .svg, .png, .pdf or .json")
    if kind == "json":
        check_replaces(path, _is_explanation, "an explanation")
    else:
        drawing_package()
        check_replaces(path, is_figure, "a figure")


def _is_explanation(path: Path) -> bool:
    try:
        kept = read_strict_json(path)
    except ItmkitError:
        return False
    return isinstance(kept, dict) and {"image", "text", "score", "words", "quantities"} <= kept.keys()


def has_boxes(found: Explanation) -> bool:
    """Whether the regions have places: imported features may come without them."""
    return bool(min(found.size) > 0 and len(found.boxes) and (found.boxes[:, 2:] > found.boxes[:, :2]).any())


def word_panels(matplotlib: Any, found: Explanation, picture: Image.Image | None, most: int = MOST) -> Block:
    """The picture with its regions at the left, over two rows; panels of at most so many words beside and below it."""
    placed = has_boxes(found)
    attention = found.attention if placed else None
    words = content_words(found, most) if attention is not None else []
    size = found.size if min(found.size) > 0 else picture.size if picture is not None else (4, 3)
    beside = [(x, y) for y in (0, 1) for x in range(2, _ACROSS)]
    cells = [*beside, *((n % _ACROSS, 2 + n // _ACROSS) for n in range(most))]
    wide, high = fitted(size, _CELL, _TALLEST)
    row = _ABOVE + high + _BELOW
    rows = 2 + max(0, -(-(len(words) - len(beside)) // _ACROSS)) if words else 0
    whole = fitted(size, 2 * _CELL + _GAP, 2 * row - _ABOVE - _BELOW if words else 2.2)
    shares = found.boxes / np.tile(size, 2) if placed else np.zeros((0, 4), np.float32)
    small = pixels_of(picture, size, (wide, high))

    def draw(place: Place) -> None:
        axis = place(_MARGIN + (2 * _CELL + _GAP - whole[0]) / 2, _ABOVE if words else 0, *whole)
        named = [] if attention is None else list(dict.fromkeys(int(attention[word].argmax()) for word in words))
        draw_boxes(axis, matplotlib, pixels_of(picture, size, whole), shares, found.regions, named)
        for word, (x, y) in zip(words, cells, strict=False):
            assert attention is not None
            left = _MARGIN + x * (_CELL + _GAP) + (_CELL - wide) / 2
            panel = place(left, y * row + _ABOVE, wide, high)
            draw_lit(panel, matplotlib, small, shares, attention[word])
            name = shown(found.words.words[word], 14)
            mark = "\u200e" if right_to_left(name) else ""  # of left to right: the number stays behind the word
            panel.set_title(f"{mark}{name}{mark}  {signed(found.importance[word], 3)}", pad=2.5)
            best = shown(region_name(found.regions, int(attention[word].argmax())), int(_CELL / LETTER))
            panel.set_xlabel(best, fontsize=SMALL, labelpad=1.5)
        if not words:
            says = bare(place(_MARGIN + 2 * _CELL + 3 * _GAP, 0, 3 * _CELL, whole[1]))
            says.text(0, 0.5, _why_not(found), va="center", fontsize=7)

    return Block(max(rows * row, whole[1] + 2 * _ABOVE if words else whole[1]), draw)


def _why_not(found: Explanation) -> str:
    if found.attention is None:
        return "The method compares whole pictures with whole captions:\nno word looks at a region."
    return "The features were imported without boxes:\nit is not known where the regions are."


def _words(matplotlib: Any, found: Explanation, picture: Image.Image | None, into: sentence.Columns) -> list[Block]:
    """The caption and what is below it."""
    tree = found.words
    roots = {number for number, head in enumerate(tree.heads) if number == head}
    blocks = [sentence.arcs(matplotlib, into, tree.heads, tree.relations)] if tree.heads and len(tree) > 1 else []
    blocks.append(sentence.names(into, bold=roots))
    regions = found.regions or [""] * (0 if found.attention is None else found.attention.shape[1])
    for member, each in found.quantities.items():
        of = f" ({member})" if len(found.quantities) > 1 else ""
        if "entropy" in each:
            blocks.append(sentence.heat_map(matplotlib, into, each["entropy"], regions, f"entropy{of}", found.part))
        elif {"words_to_regions", "regions_to_words"} <= each.keys():
            hears, heard = each["words_to_regions"], each["regions_to_words"]
            blocks.append(sentence.edges(into, hears, heard, regions, crops_of(found, picture), part=found.part))
    if found.attention is not None and not has_boxes(found):
        blocks.append(sentence.heat_map(matplotlib, into, found.attention, regions, "attention", found.part))
    blocks.append(sentence.bars(into, found.importance, "importance"))
    for member, each in found.quantities.items():
        if "nodes" in each:
            weights = each["nodes"][-len(tree) :]
            blocks.append(sentence.bars(into, weights, f"weight in {shown(member, 8)}", height=0.35))
    return blocks


def crops_of(found: Explanation, picture: Image.Image | None) -> list[Image.Image | None]:
    """Every region cut out of the picture."""
    if picture is None or not has_boxes(found):
        return [None] * len(found.boxes)
    shares = np.clip(found.boxes / np.tile(found.size, 2), 0, 1) * np.tile(picture.size, 2)
    corners = [(int(x1), int(y1), max(int(x2), int(x1) + 1), max(int(y2), int(y1) + 1)) for x1, y1, x2, y2 in shares]
    return [picture.crop(box).resize(_thumb(box)) for box in corners]


def _thumb(box: tuple[int, int, int, int]) -> tuple[int, int]:
    wide, high = fitted((box[2] - box[0], box[3] - box[1]), 84, 84)
    return max(1, round(wide)), max(1, round(high))
