"""The files of the SCAN family (`f30k_precomp`, `coco_precomp`): found, checked, and put in order.

{name}_ims.npy    (N, R, D) float16 or float32, one row a picture or one row a caption
{name}_caps.txt   UTF-8, one caption a line, those of a picture in a row
{name}_ids.txt    one id a row, a picture or a caption                            (optional)
{name}_boxes.npy  (N, R, 4) x1 y1 x2 y2 in pixels, or block positions (scan_blocks) (optional)
                  GSMN and RCAR call it {name}_ims_bbx.npy, with a row a picture or a row a caption
{name}_sizes.npy  (N, 2) width, height in pixels                                  (optional)
{name}_scores.npy (N, R) confidence                                               (optional)
{name}_tags.json  N lists of R strings "colour class", split at the first space   (optional)

`name` is train, dev, val, test, testall or restval. Everything is read in blocks of rows.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from itmkit.caption_text import evenly_spelled, has_words, is_blank
from itmkit.dataset import SPLITS
from itmkit.errors import ItmkitError
from itmkit.files import decode_utf8
from itmkit.import_features.npy import NpyRows

SizeOrder = Literal["width-height", "height-width"]
DEFAULT_SPLITS = {"train": "train", "restval": "train", "dev": "val", "val": "val", "test": "test", "testall": "test"}
SPLIT_WORDS = {"valid": "val", "validation": "val", "training": "train", "trainval": "train"}  # only suggested
OPTIONAL_ARRAYS = ("boxes", "sizes", "scores")
FLOAT16_LIMIT = 65520.0  # the smallest magnitude that rounds to infinity in float16
_SHOWN = 5  # rows named per kind of problem; the rest is counted


@dataclass
class ScanSplit:
    """The files of one name. `rows[i]`, `ids[i]` and `captions[i]` belong to the i-th distinct picture."""

    name: str
    split: str
    features: NpyRows
    arrays: dict[str, NpyRows] = field(default_factory=dict)
    tags: Path | None = None
    rows: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    ids: list[str] = field(default_factory=list)
    captions: list[list[str]] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)
    shares: bool = False  # of the boxes: not in pixels, but from 0 to 1
    damaged: dict[int, str] = field(default_factory=dict)  # {row that is left out: why}
    empty: int = 0  # captions left out because they hold no words

    def __len__(self) -> int:
        return len(self.ids)

    def keep(self, which: np.ndarray) -> None:
        """Drops the pictures for which `which` (n,) is false."""
        self.rows = self.rows[which]
        self.ids = [key for key, keep in zip(self.ids, which, strict=True) if keep]
        self.captions = [texts for texts, keep in zip(self.captions, which, strict=True) if keep]

    @property
    def extras(self) -> tuple[str, ...]:
        """Which of boxes (or blocks), sizes, scores and tags there are."""
        return (*self.arrays, *(["tags"] if self.tags else []))


def find_splits(folder: Path, split_map: Mapping[str, str] | None = None) -> tuple[dict[str, str], list[str]]:
    """({name: split} to import, in the order of the splits; notes for the user).

    `split_map` overrides the usual meaning of names; the split "-" leaves a name out.
    """
    if not folder.is_dir():
        raise ItmkitError(f"{folder}: no such folder")
    # Names that begin with ._ are files about files, which macOS puts into archives.
    found = sorted(p.name[: -len("_ims.npy")] for p in folder.glob("*_ims.npy") if not p.name.startswith("._"))
    if not found:
        raise ItmkitError(f"{folder}: holds no *_ims.npy; the SCAN layout has train_ims.npy, dev_ims.npy and so on")
    wanted, problems, notes = dict(split_map or {}), [], []
    problems += [f"--split-map {n}={s}: the folder has no {n}_ims.npy" for n, s in wanted.items() if n not in found]
    chosen = {}
    for name in found:
        split = wanted.get(name, DEFAULT_SPLITS.get(name))
        if split is None:
            meant = SPLIT_WORDS.get(name.lower(), "test")
            problems.append(
                f"{folder}: what split is {name!r}? Say --split-map {name}={meant}, or {name}=- to leave it out"
            )
        elif split in SPLITS:
            chosen[name] = split
        elif split != "-":
            problems.append(f"--split-map {name}={split}: unknown split {split!r} (train, val, test, or - for none)")
    if "test" in chosen and "testall" in chosen and "test" not in wanted:
        del chosen["test"]
        notes.append(
            "test_* is left out: testall_* holds the whole test split (--split-map test=test takes it all the same)"
        )
    if not chosen and not problems:
        problems.append(f"{folder}: every file is left out by --split-map")
    if problems:
        raise ItmkitError(problems)
    return dict(sorted(chosen.items(), key=lambda item: (SPLITS.index(item[1]), item[0]))), notes


def array_path(folder: Path, name: str, what: str) -> Path:
    """The file of an optional array, whether there is one or not."""
    path = folder / f"{name}_{what}.npy"
    other = folder / f"{name}_ims_bbx.npy"
    return other if what == "boxes" and not path.exists() and other.exists() else path


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file, the last with or without its newline. Only a newline ends a line: captions may
    hold other characters (U+2028, U+0085) that Python would also split at."""
    lines = decode_utf8(path.read_bytes(), path).split("\n")
    if lines and not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def read_captions(path: Path, rows: int, *, skip_empty: bool = False) -> list[str]:
    """The captions of `rows` rows of features, or ItmkitError naming empty lines, or captions that some program spoilt.

    With `skip_empty`, captions without words are "" instead, which keeps their places. Blank lines at the end are no
    captions where they are too many for the rows.
    """
    lines = read_lines(path)
    while lines and len(lines) % max(1, rows) and is_blank(lines[-1]):
        lines.pop()
    if not lines:
        raise ItmkitError(f"{path}: holds no captions")
    if skip_empty:
        lines = [line if has_words(evenly_spelled(line)) else "" for line in lines]
    else:
        empty = [str(number) for number, line in enumerate(lines, 1) if is_blank(evenly_spelled(line))]
        if empty:
            raise ItmkitError(f"{path}: {some('line', empty)} without a caption (--skip-empty leaves them out)")
    spoilt = sum(1 for line in lines if re.fullmatch(r"""b(['"]).*\1""", line.strip()))
    if lines and spoilt > len(lines) // 2:
        raise ItmkitError(
            f"{path}: {spoilt} of {len(lines)} captions are written b'...': a program printed bytes instead of text."
            " Take the original caption file"
        )
    return lines


def some(what: str, items: list[str]) -> str:
    """In words, with the first few items and a count: `rows 3, 8, 9, 11, 12 and 7 more`."""
    shown = ", ".join(items[:_SHOWN]) + (f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else "")
    return f"{what}{'s' if len(items) > 1 else ''} {shown}"


def arrange(
    n_rows: int, n_captions: int, ids: list[str] | None, digests: list[bytes] | None, fallback: str
) -> tuple[list[int], list[str], list[list[int]]]:
    """Finds the distinct pictures among the rows.

    Args:
        ids: one a row, one a caption, or one a picture; None where there is no id file.
        digests: one a row, equal where rows are bit-equal; needed where rows may repeat (`may_repeat`).
        fallback: pictures without ids are called "<fallback>-<number>".

    Returns:
        (first row of each picture, its id, the numbers of its captions)

    Raises:
        ItmkitError: the counts do not fit, or rows of one id differ.
    """
    if ids is not None and n_rows < n_captions == len(ids) and _runs_of(ids) == n_rows:
        return _by_caption_ids(ids)
    if n_rows == 0 or n_captions % n_rows:
        raise ItmkitError(f"{n_captions} captions for {n_rows} rows of features: not a whole number a row")
    each = n_captions // n_rows
    if ids is None:
        same = _runs(digests) if each == 1 and digests is not None else list(range(n_rows))
        row_ids = [f"{fallback}-{number}" for number in same]
    else:
        row_ids = _ids_of_rows(n_rows, each, ids)
        if each == 1 and digests is not None and len(set(row_ids)) == n_rows:
            starts = np.flatnonzero(np.diff(_runs(digests), prepend=-1))
            # Where most rows repeat, these are ids of captions; a few equal neighbours are pictures that are alike.
            if 2 * len(starts) <= n_rows:
                row_ids = [row_ids[starts[run]] for run in _runs(digests)]
    rows: list[int] = []
    captions: list[list[int]] = []
    place: dict[str, int] = {}
    differ: list[str] = []
    for row, key in enumerate(row_ids):
        at = place.get(key)
        if at is None:
            place[key] = len(rows)
            rows.append(row)
            captions.append(list(range(row * each, (row + 1) * each)))
        else:
            captions[at].extend(range(row * each, (row + 1) * each))
            if digests is not None and digests[row] != digests[rows[at]]:
                differ.append(f"{key!r} (rows {rows[at]} and {row})")
    if differ:
        raise ItmkitError(f"different features under the same {some('id', differ)}")
    return rows, list(place), captions


def _runs_of(ids: list[str]) -> int:
    """How many pictures ids of captions name; 0 where the captions of a picture do not stand together."""
    runs = 1 + sum(one != other for one, other in pairwise(ids))
    return runs if runs == len(set(ids)) and all(key.strip() for key in ids) else 0


def _by_caption_ids(ids: list[str]) -> tuple[list[int], list[str], list[list[int]]]:
    """`arrange`, with an id a caption, and a row for each picture in the order in which their ids first occur."""
    captions: dict[str, list[int]] = {}
    for number, key in enumerate(ids):
        captions.setdefault(key, []).append(number)
    return list(range(len(captions))), list(captions), list(captions.values())


def may_repeat(n_rows: int, n_captions: int, ids: list[str] | None) -> bool:
    """Whether rows have to be compared to find the distinct pictures."""
    if n_captions <= n_rows:
        return True
    return ids is not None and (len(ids) < n_rows or len(set(ids)) < min(len(ids), n_rows))


def _runs(digests: list[bytes]) -> list[int]:
    """For each row the number of its run of equal neighbours."""
    numbers, run = [], -1
    for row, value in enumerate(digests):
        run += row == 0 or value != digests[row - 1]
        numbers.append(run)
    return numbers


def _ids_of_rows(n_rows: int, each: int, ids: list[str]) -> list[str]:
    if any(not key.strip() for key in ids):
        raise ItmkitError(f"line {next(n for n, key in enumerate(ids, 1) if not key.strip())} of the ids is empty")
    if len(ids) == n_rows:
        return ids
    if len(ids) == n_rows * each:
        for row in range(n_rows):
            if len(set(ids[row * each : (row + 1) * each])) > 1:
                raise ItmkitError(f"the {each} captions of row {row} have different ids")
        return ids[::each]
    if ids and n_rows % len(ids) == 0:
        return [key for key in ids for _ in range(n_rows // len(ids))]
    raise ItmkitError(f"{len(ids)} ids for {n_rows} rows of features and {n_rows * each} captions")


@dataclass
class BadRows:
    """Rows that cannot be used: {(file, why): {row: how it is named}}, and what may help."""

    found: dict[tuple[Path, str], dict[int, str]] = field(default_factory=dict)
    hints: dict[tuple[Path, str], str] = field(default_factory=dict)

    def add(self, path: Path, why: str, row: int, name: str) -> None:
        self.found.setdefault((path, why), {})[row] = name

    def in_words(self) -> list[str]:
        return [
            f"{path}: {why} in {some('row', [f'{row} ({name})' for row, name in rows.items()])}"
            f"{self.hints.get((path, why), '')} (--skip-damaged leaves such pictures out)"
            for (path, why), rows in self.found.items()
        ]

    def reasons(self) -> dict[int, str]:
        """{row: what is wrong with it}."""
        return {row: f"{path.name}: {why}" for (path, why), rows in self.found.items() for row in rows}


def read_features(
    rows: NpyRows, names: Callable[[int], str], bad: BadRows, *, digest_rows: bool, advance: Callable[[int], None]
) -> tuple[str, list[bytes] | None]:
    """Reads all features once: (digest of the content, a digest of each row if wanted)."""
    state, row_digests = rows.header_digest(), []
    for start, block in rows.blocks():
        state.update(block.tobytes() if not block.flags.c_contiguous else block.data)
        if digest_rows:
            row_digests += [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in block]
        if not _fits_float16(block):
            flat = block.reshape(len(block), -1).astype(np.float32, copy=False)
            wrong = ~(np.abs(flat) < FLOAT16_LIMIT)
            for row in np.flatnonzero(wrong.any(axis=1)):
                name = f"{names(int(start + row))}: {flat[row][wrong[row]][0]:g}"
                bad.add(rows.path, "NaN or values beyond float16's 65504", int(start + row), name)
        advance(len(block))
    return state.hexdigest(), row_digests if digest_rows else None


def _fits_float16(block: np.ndarray) -> bool:
    if block.dtype == np.float16:  # the bits: numpy's comparisons of float16 are slow
        return bool((block.view(np.uint16) & 0x7FFF).max(initial=0) < 0x7C00)
    return bool(block.max(initial=0) < FLOAT16_LIMIT and block.min(initial=0) > -FLOAT16_LIMIT)  # NaN fails both
