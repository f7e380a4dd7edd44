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
from itmkit.files import read_text


def json_rows(file: Path, columns: Columns, problems: Problems) -> Iterator[PairRow]:
    """The rows of a file with an object a line, or with one list of objects.

    Raises:
        ItmkitError: the file is no text, or no JSON of this kind.
    """
    check_is_text(file)
    for place, value in _values(file, problems):
        if not isinstance(value, dict):
            problems.damaged.append(f"{place}: not an object in braces")
        elif isinstance(value.get("images"), list) or isinstance(value.get("annotations"), list):
            kind = "karpathy" if _has_sentences(value) else "coco"
            raise ItmkitError(f"{place}: is a whole data set in one object; read it with `itmkit prepare {kind}`")
        elif row := _row(place, value, columns, problems):
            yield row


def _values(file: Path, problems: Problems) -> Iterator[tuple[str, Any]]:
    """(place, value) of every line, or of every item of the list."""
    lines = readable_lines(file, problems)
    number, first = next(((n, text) for n, text in lines if text.strip()), (0, ""))
    if first.lstrip()[:1] in ("[", "{") and not _is_json(first):
        whole = _whole(file)
        if isinstance(whole, list):
            yield from ((f"{file}: [{place}]", value) for place, value in enumerate(whole))
            return
        if whole is not None:
            yield str(file), whole
            return
    elif first.lstrip()[:1] == "[" and isinstance(values := json.loads(first), list):
        if not any(text.strip() for _, text in lines):
            yield from ((f"{file}: [{place}]", value) for place, value in enumerate(values))
            return
        lines = readable_lines(file, Problems())
        number, first = 0, ""
    if first:
        yield from _of_line(file, number, first, problems)
    for number, text in lines:
        yield from _of_line(file, number, text, problems)


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


def _whole(file: Path) -> Any:
    """The file as one JSON value; None where it is none, and so has to be read line by line."""
    try:
        return json.loads(read_text(file))
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" or not read_text(file).lstrip().startswith("["):
            return None
        raise ItmkitError(f"{file}: line {error.lineno}, column {error.colno}: not JSON ({error.msg})") from None
    except (RecursionError, ItmkitError):
        return None


def _has_sentences(value: dict[str, Any]) -> bool:
    images = value.get("images")
    return isinstance(images, list) and bool(images) and isinstance(images[0], dict) and "sentences" in images[0]


def _row(place: str, raw: dict[str, Any], columns: Columns, problems: Problems) -> PairRow | None:
    keys = {key.lower(): key for key in raw if raw[key] is not None}
    image_key, caption_keys = image_name(list(keys), columns), caption_names(list(keys), columns)
    if not columns.captions and {"caption", "captions"} <= set(keys):
        caption_keys = ["caption", "captions"]
    image = raw[keys[image_key]] if image_key else ""
    split = raw.get("split")
    captions: list[Any] = []
    for key in caption_keys:
        value = raw[keys[key]]
        captions += value if isinstance(value, list) else [value]
    labels = raw.get("labels") or []
    labels = list(labels_of(labels)) if isinstance(labels, str) else labels
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
        others = [key for key in raw if key not in (*CAPTION_NAMES, "split", "labels")]
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
