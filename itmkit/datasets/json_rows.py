"""JSON lines and JSON lists of pictures with captions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from itmkit.datasets.pair_rows import CAPTION_NAMES, Columns, PairRow, caption_names, image_name, labels_of
from itmkit.datasets.skip import Problems, readable_lines
from itmkit.errors import ItmkitError
from itmkit.file_kinds import check_is_text
from itmkit.json_items import has_list, list_items, one_value

_LOOKED_AT = 1 << 16  # characters at the beginning of a file


def json_rows(file: Path, columns: Columns, problems: Problems) -> Iterator[PairRow]:
    """The rows of a file with an object a line, or with one list of objects. One of them is in memory at a time.

    Raises:
        ItmkitError: the file is no text, or no JSON of this kind.
    """
    check_is_text(file)
    for place, value in _values(file, problems):
        if not isinstance(value, dict):
            problems.damaged.append(f"{place}: not an object in braces")
        elif isinstance(value.get("images"), list) or isinstance(value.get("annotations"), list):
            raise _whole_data_set(place, with_sentences=_has_sentences(value))
        elif row := _row(place, value, columns, problems):
            yield row


def _values(file: Path, problems: Problems) -> Iterator[tuple[str, Any]]:
    """(place, value) of every line, or of every item of the list."""
    head = _head(file) if file.is_file() else ""  # what comes through a pipe can be read only once: lines then
    if head[:1] == "[" and not _has_values_on_lines(head):
        yield from ((f"{file}: [{place}]", value) for place, value in enumerate(list_items(file)))
        return
    if head[:1] == "{" and not _is_json(head.split("\n", 1)[0]):
        if _is_data_set(file):
            raise _whole_data_set(str(file), with_sentences='"sentences"' in head)
        if (value := _one_value(file)) is not None:
            yield str(file), value
            return
    for number, text in readable_lines(file, problems):
        yield from _of_line(file, number, text, problems)


def _head(file: Path) -> str:
    """The beginning of the file, without white space before it."""
    with open(file, encoding="utf-8-sig", errors="replace") as text:
        while head := text.read(_LOOKED_AT):
            if head.strip():
                return head.lstrip()
    return ""


def _has_values_on_lines(head: str) -> bool:
    """Whether the first line of a file is a whole list, and others follow."""
    first, _, rest = head.partition("\n")
    return bool(rest.strip()) and _is_json(first)


def _is_data_set(file: Path) -> bool:
    """Whether a file is one object with the lists of COCO's and Karpathy's files."""
    try:
        return has_list(file, ("images", "annotations"))
    except ItmkitError:  # a damaged line, which is reported by its number
        return False


def _one_value(file: Path) -> Any:
    """What a file is that has one value; None where it has several, or is not JSON as a whole."""
    try:
        return one_value(file)
    except ItmkitError:
        return None


def _whole_data_set(place: str, *, with_sentences: bool) -> ItmkitError:
    kind = "karpathy" if with_sentences else "coco"
    return ItmkitError(f"{place}: is a whole data set in one object; read it with `itmkit prepare {kind}`")


def _of_line(file: Path, number: int, text: str, problems: Problems) -> Iterator[tuple[str, Any]]:
    place = f"{file}: line {number}"
    if not text.strip():
        return
    try:
        yield place, json.loads(text)
    except (ValueError, RecursionError) as error:
        problems.damaged.append(f"{place}: not JSON ({getattr(error, 'msg', error)})")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _has_sentences(value: dict[str, Any]) -> bool:
    images = value.get("images")
    return isinstance(images, list) and bool(images) and isinstance(images[0], dict) and "sentences" in images[0]


def _row(place: str, raw: dict[str, Any], columns: Columns, problems: Problems) -> PairRow | None:
    keys = {key.lower(): key for key in raw if raw[key] is not None}
    image_key, caption_keys = image_name(list(keys), columns), caption_names(list(keys), columns)
    if not columns.captions and {"caption", "captions"} <= set(keys):
        caption_keys = ["caption", "captions"]
    image = raw[keys[image_key]] if image_key else ""
    split, labels = (raw[keys[name]] if name in keys else None for name in ("split", "labels"))
    captions: list[Any] = []
    for key in caption_keys:
        value = raw[keys[key]]
        captions += value if isinstance(value, list) else [value]
    labels = list(labels_of(labels)) if isinstance(labels, str) else labels or []
    wrong = [image_key or "image"] if not isinstance(image, str) else []
    wrong += ["split"] if split is not None and not isinstance(split, str) else []
    wrong += caption_keys[:1] if not _strings(captions) else []
    wrong += ["labels"] if not _strings(labels) else []
    if wrong:
        problems.damaged.append(
            f"{place}: {' and '.join(map(repr, wrong))} must be text, captions and labels lists of it"
        )
    elif not image:
        named = f"'{columns.image or 'image'}' is missing"
        others = [key for key in raw if key.lower() not in (*CAPTION_NAMES, "split", "labels")]
        hint = f"; --image-column says which of {', '.join(map(repr, others[:8]))} it is" if others else ""
        problems.damaged.append(f"{place}: {named}{hint}")
    elif not captions:
        problems.empty.append(f"{place}: {_missing_caption(raw, columns)}")
    else:
        return PairRow(place, image, [text.strip() for text in captions], split or None, tuple(labels))
    return None


def _missing_caption(raw: dict[str, Any], columns: Columns) -> str:
    if columns.captions:
        return f"{' or '.join(map(repr, columns.captions))} is missing"
    others = [key for key, value in raw.items() if key.lower() not in ("image", "split", "labels") and value]
    hint = f"; --caption-column says whether it is {' or '.join(map(repr, others[:8]))}" if others else ""
    return f"'caption' (or a list 'captions') is missing{hint}"


def _strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
