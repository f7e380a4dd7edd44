"""Your own pictures and captions, as JSON lines or a CSV table. Each line has a picture and a caption.

{"image": "photos/a.jpg", "caption": "A dog on a beach.", "split": "train", "labels": ["dog"]}
image,caption,split,labels
photos/a.jpg,A dog on a beach.,train,dog;beach
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itmkit.dataset import SPLITS, Caption
from itmkit.datasets.draft import Draft, write_drafts
from itmkit.datasets.prepared import PreparedDataset
from itmkit.errors import ItmkitError
from itmkit.files import utf8_lines
from itmkit.progress import SILENT, Progress
from itmkit.workspace import Workspace

LABELS_SEPARATOR = ";"  # between the labels of one CSV cell


@dataclass(frozen=True)
class PairRow:
    """One line: a picture and one or more captions. `split` is None where the line says none."""

    place: str
    image: str
    captions: list[str]
    split: str | None
    labels: tuple[str, ...]


def prepare_jsonl(
    workspace: Workspace,
    file: Path,
    *,
    images: Path | None = None,
    split: str | None = None,
    skip_missing: bool = False,
    force: bool = False,
    progress: Progress = SILENT,
) -> PreparedDataset:
    """Reads JSON lines with `image`, `caption` (or a list `captions`), and optionally `split` and `labels`.

    Lines of one image are put together. An image's id is `image` as written, a caption's `IMAGE#0`, `IMAGE#1`, ...

    Args:
        images: the folder that `image` is relative to. Default: the folder of `file`.
        split: the split of lines that name none. If it is None and no line names one, `default_splits` divides them.

    Raises:
        ItmkitError: everything that is wrong with the file and the pictures, in one error.
    """
    problems: list[str] = []
    rows = list(_jsonl_rows(file, problems))
    options: dict[str, Any] = {"skip_missing": skip_missing, "force": force, "progress": progress}
    return _write(workspace, file, rows, problems, "jsonl", images, split, options)


def prepare_csv(
    workspace: Workspace,
    file: Path,
    *,
    images: Path | None = None,
    split: str | None = None,
    skip_missing: bool = False,
    force: bool = False,
    progress: Progress = SILENT,
) -> PreparedDataset:
    """Reads a table with a header: columns `image` and `caption`, and optionally `split` and `labels` (`dog;beach`).

    Columns are separated by commas, or by tabs if the file's name ends in .tsv. The rest is as in `prepare_jsonl`.
    """
    problems: list[str] = []
    rows = list(_csv_rows(file, problems))
    options: dict[str, Any] = {"skip_missing": skip_missing, "force": force, "progress": progress}
    return _write(workspace, file, rows, problems, "csv", images, split, options)


def default_splits(ids: list[str]) -> dict[str, str]:
    """One image in ten becomes val, one in ten test (at least one each where there are three), the rest train.

    Which ones is decided by the digest of the id: it looks random, and does not depend on the order of the file.
    """
    order = sorted(ids, key=lambda id: hashlib.sha256(id.encode("utf-8", "surrogatepass")).digest())
    share = max(1, len(ids) // 10) if len(ids) >= 3 else 0
    return {id: "val" if n < share else "test" if n < 2 * share else "train" for n, id in enumerate(order)}


def _write(
    workspace: Workspace,
    file: Path,
    rows: list[PairRow],
    problems: list[str],
    kind: str,
    images: Path | None,
    split: str | None,
    options: dict[str, Any],
) -> PreparedDataset:
    notes: list[str] = []
    if any(row.split is None for row in rows) and split is None:
        if any(row.split is not None for row in rows):
            bare = [row.place for row in rows if row.split is None]
            problems.append(f"{bare[0]}: has no split while other lines have one ({len(bare)} such lines); use --split")
        else:
            notes.append("no line says a split: a tenth of the images became val, a tenth test, the rest train")
    drafts = _grouped(rows, images or file.parent, split, problems)
    if notes:
        chosen = default_splits([draft.id for draft in drafts])
        for draft in drafts:
            draft.split = chosen[draft.id]
    settings = {"file": file.name, "split": split, "skip_missing": options["skip_missing"]}
    return write_drafts(workspace, drafts, problems, kind=kind, settings=settings, notes=notes, **options)


def _grouped(rows: list[PairRow], folder: Path, split: str | None, problems: list[str]) -> list[Draft]:
    """One draft an image; its split is the first that a line says, its labels those of all lines."""
    drafts: dict[str, Draft] = {}
    said: dict[str, str] = {}
    for row in rows:
        draft = drafts.get(row.image)
        if draft is None:
            draft = drafts[row.image] = Draft(row.image, split or SPLITS[0], [folder / row.image], [], row.place)
        if row.split is not None:
            first = said.setdefault(row.image, row.split)
            if first != row.split:
                problems.append(f"{row.place}: image {row.image!r}: split {row.split!r} here, {first!r} before")
            draft.split = first
        count = len(draft.captions)
        draft.captions += [Caption(f"{row.image}#{count + n}", text) for n, text in enumerate(row.captions)]
        draft.labels += tuple(label for label in row.labels if label not in draft.labels)
    return list(drafts.values())


def _jsonl_rows(file: Path, problems: list[str]) -> Iterator[PairRow]:
    for number, line in utf8_lines(file, problems):
        place = f"{file}: line {number}"
        if not line.strip():
            continue
        try:
            raw = json.loads(line)
        except (ValueError, RecursionError) as error:
            problems.append(f"{place}: not JSON ({getattr(error, 'msg', error)})")
            continue
        if not isinstance(raw, dict):
            problems.append(f"{place}: not an object in braces")
            continue
        wrong = [key for key in ("image", "split") if not isinstance(raw.get(key, ""), str)]
        lists = {"captions": raw.get("captions", []), "labels": raw.get("labels", [])}
        if isinstance(lists["labels"], str):
            lists["labels"] = [label.strip() for label in lists["labels"].split(LABELS_SEPARATOR) if label.strip()]
        if "caption" in raw:
            lists["captions"] = [raw["caption"]] + (lists["captions"] if isinstance(lists["captions"], list) else [])
        wrong += [key for key, value in lists.items() if not _strings(value)]
        if wrong:
            problems.append(f"{place}: {' and '.join(map(repr, wrong))} must be text, captions and labels lists of it")
        elif not raw.get("image"):
            problems.append(f"{place}: 'image' is missing")
        elif not lists["captions"]:
            problems.append(f"{place}: 'caption' (or a list 'captions') is missing")
        else:
            captions = [text.strip() for text in lists["captions"]]
            yield PairRow(place, raw["image"], captions, raw.get("split"), tuple(lists["labels"]))


def _strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _csv_rows(file: Path, problems: list[str]) -> Iterator[PairRow]:
    lines = (line + "\n" for _, line in utf8_lines(file, problems))
    table = csv.reader(lines, delimiter="\t" if file.suffix.lower() == ".tsv" else ",", strict=True)
    try:
        header = [name.strip().lower() for name in next(table, [])]
        missing = [name for name in ("image", "caption") if name not in header]
        if missing:
            raise ItmkitError(
                [*problems, f"{file}: line 1: has no column {' and no column '.join(missing)}; found {header}"]
            )
        start = table.line_num + 1
        for cells in table:
            place, start = f"{file}: line {start}", table.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                problems.append(f"{place}: has {len(cells)} cells, the header {len(header)}")
                continue
            row = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
            if not row["image"]:
                problems.append(f"{place}: the image cell is empty")
                continue
            labels = [label.strip() for label in row.get("labels", "").split(LABELS_SEPARATOR)]
            split = row.get("split") or None
            yield PairRow(place, row["image"], [row["caption"]], split, tuple(label for label in labels if label))
    except csv.Error as error:
        problems.append(f"{file}: line {table.line_num}: not a readable table ({error})")
