"""Bottom-up TSV files: one picture a line, its arrays as base64, no header.

image_id image_w image_h num_boxes boxes features                             (bottom-up attention)
img_id img_h img_w objects_id objects_conf attrs_id attrs_conf num_boxes boxes features               (LXMERT)

boxes (n, 4) and features (n, D) are float32, ids are int64, confidences float32, all little-endian. A line may have
megabytes, and a file tens of gigabytes. Files are read line by line once, to check them and to note where each picture
lies, and then by seeking.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from itmkit.dataset import wrong_id
from itmkit.errors import ItmkitError
from itmkit.file_kinds import check_is_text
from itmkit.import_features.region_sets import BoxUnits, Findings, RegionSet, in_pixels, wrong_values
from itmkit.progress import Progress

BOTTOM_UP = ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features")
LXMERT = ("img_id", "img_h", "img_w", "objects_id", "objects_conf", "attrs_id", "attrs_conf", "num_boxes", "boxes",
          "features")  # fmt: skip
FORMS = {"bottom-up": BOTTOM_UP, "lxmert": LXMERT}
FeatureType = Literal["float32", "float16"]
_FEW = 10  # numbers, which say nothing about their type
LONGEST_LINE = 64 << 20  # bytes; 100 boxes of 2,048 numbers take 1.1 million


class WrongLine(Exception):
    """A line that holds no regions, and why."""


@dataclass
class BottomUpFiles:
    """The checked files. Lists are by picture, in the order of files and lines.

    ids, counts, sizes: each picture's id, number of boxes, and width and height. dim: D. form: "bottom-up" or "lxmert".
    digests: file name -> sha256. repeated: how many lines repeat an earlier one byte for byte. damaged: {"place",
    "reason"} of every line left out.
    """

    form: str
    vocabulary: Mapping[str, list[str]] | None
    ids: list[str] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    dim: int = 0
    digests: dict[str, str] = field(default_factory=dict)
    places: list[tuple[Path, int, int, int]] = field(default_factory=list)  # file, line, offset, length
    dtype: FeatureType = "float32"
    shares: bool = False  # of the boxes: not in pixels, but from 0 to 1
    seems_float16: bool = False  # though read as float32
    repeated: int = 0
    damaged: list[dict[str, str]] = field(default_factory=list)

    @property
    def extras(self) -> tuple[str, ...]:
        """Which columns there are besides the features."""
        if self.form == "bottom-up":
            return ("boxes", "sizes")
        return ("boxes", "sizes", "scores", *(["tags", "attributes"] if self.vocabulary else []))

    def read(self, place: int) -> RegionSet:
        """The regions of picture `place`. Raises ItmkitError where the file has changed since it was checked."""
        path, number, offset, length = self.places[place]
        with open(path, "rb") as file:
            file.seek(offset)
            line = file.read(length)
        try:
            key, found = parse_line(line, FORMS[self.form], self.vocabulary, self.dtype)
            if key != self.ids[place] or len(found) != self.counts[place] or wrong_values(found):
                raise WrongLine
        except WrongLine:
            raise ItmkitError(f"{path}: line {number} has changed during the import; run the command again") from None
        return in_pixels(found) if self.shares else found

    def place_of(self, place: int) -> tuple[Path, str, str]:
        """The file, and the line in words, of picture `place`."""
        path, number, _, _ = self.places[place]
        return path, "line", f"{number} (picture {self.ids[place]})"

    def leave_out(self, numbers: set[int]) -> None:
        """Drops pictures from all lists."""
        lists: tuple[list[Any], ...] = (self.ids, self.counts, self.sizes, self.places)
        for values in lists:
            values[:] = [value for number, value in enumerate(values) if number not in numbers]


def check_bottom_up(
    paths: Sequence[Path],
    vocabulary: Mapping[str, list[str]] | None,
    progress: Progress,
    *,
    dtype: FeatureType = "float32",
    skip_damaged: bool = False,
) -> BottomUpFiles:
    """Reads every line of the files of one set.

    Args:
        vocabulary: tables "tags" and "attributes" that LXMERT's ids are indexes into.
        dtype: of the numbers in the field `features`.
        skip_damaged: leave out lines that cannot be used, instead of reporting them.

    Raises:
        ItmkitError: everything that is wrong with all files, in one error.
    """
    findings = Findings(skip_damaged=skip_damaged)
    forms = {path: form for path in paths if (form := _form(path, findings)) is not None}
    if len(set(forms.values())) > 1:
        first = next(iter(forms))
        for path in (path for path, form in forms.items() if form != forms[first]):
            findings.add(path, f"is a {forms[path]} file, {first} is a {forms[first]} file: import one kind at a time")
    if vocabulary is not None and "bottom-up" in forms.values():
        path = next(path for path, form in forms.items() if form == "bottom-up")
        findings.add(path, "holds no ids of objects, so --vocabulary names nothing; leave it out")
    files = BottomUpFiles(next(iter(forms.values()), "bottom-up"), vocabulary, dtype=dtype)
    check = _Check(files, findings)
    with progress.task("check", sum(path.stat().st_size >> 20 for path in forms), unit="MiB") as advance:
        for path, form in forms.items():
            _check_file(path, form, check, advance)
    files.leave_out(check.units.odd_ones(findings, files.place_of))
    files.seems_float16 = check.halves > len(files.ids) // 2
    files.shares, files.damaged = check.units.shares, findings.damaged
    if not files.ids and not findings:
        why = "".join(f" that can be used ({one['place']}: {one['reason']})" for one in files.damaged[:1])
        findings.add(paths[0], f"holds no picture{why}")
    if findings:
        raise ItmkitError(findings.in_words())
    return files


def _form(path: Path, findings: Findings) -> str | None:
    """Which of the two kinds a file is, by the fields of its first row."""
    if not path.is_file():
        findings.add(path, "is not a regular file" if path.exists() else "no such file")
        return None
    try:
        check_is_text(path)
    except ItmkitError as error:  # an archive, as released features are packed
        findings.add(path, error.problems[0].removeprefix(f"{path}: "))
        return None
    with open(path, "rb") as file:
        fields = file.readline(LONGEST_LINE).count(b"\t") + 1
    form = next((form for form, names in FORMS.items() if len(names) == fields), None)
    if form is None:
        expected = f"{len(BOTTOM_UP)} (bottom-up) or {len(LXMERT)} (LXMERT)"
        findings.add(path, f"its first line has {fields} fields between tabs; {expected} are needed")
    return form


@dataclass
class _Check:
    """What the first reading gathers. `seen`: {id: file, line and digest of the line}."""

    files: BottomUpFiles
    findings: Findings
    units: BoxUnits = field(default_factory=BoxUnits)
    halves: int = 0  # pictures whose features look like float16
    seen: dict[str, tuple[Path, int, bytes]] = field(default_factory=dict)


def _check_file(path: Path, form: str, check: _Check, advance: Callable[[int], None]) -> None:
    state, offset, number = hashlib.sha256(), 0, 0
    with open(path, "rb") as file:
        while line := file.readline(LONGEST_LINE):
            number += 1
            state.update(line)
            if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
                what = f"has lines longer than {LONGEST_LINE >> 20} MiB; nothing was read from line {number} on"
                check.findings.add(path, what)
                return
            advance(((offset + len(line)) >> 20) - (offset >> 20))
            if line.strip():  # a blank line at the end is no fault
                _check_line(path, form, number, offset, line, check)
            offset += len(line)
    check.files.digests[path.name] = state.hexdigest()


def _check_line(path: Path, form: str, number: int, offset: int, line: bytes, check: _Check) -> None:
    files, place = check.files, (path, "line", _place(number, line))
    try:
        key, found = parse_line(line, FORMS[form], files.vocabulary if form == "lxmert" else None, files.dtype)
    except WrongLine as error:
        check.findings.add(path, str(error), *place[1:])
        return
    digest = hashlib.sha256(line.rstrip(b"\r\n")).digest()
    if key in check.seen:
        other, before, same = check.seen[key]
        if same == digest:
            files.repeated += 1
        else:
            check.findings.add(path, f"the id of line {before} of {other.name} again", *place[1:])
        return
    wrong, dim = wrong_values(found), found.features.shape[1]
    if len(found):
        files.dim = files.dim or (0 if wrong else dim)
        if files.dim and dim != files.dim:
            wrong.append(f"{dim} numbers a box, {files.dim} in the first")
    for what in wrong:
        check.findings.add(path, what, *place[1:])
    if wrong:
        return
    check.seen[key] = path, number, digest
    check.units.add(len(files.ids), found)
    check.halves += len(found) > 0 and _may_be_float16(found.features)
    files.ids.append(key)
    files.counts.append(len(found))
    files.sizes.append((found.width, found.height))
    files.places.append((path, number, offset, len(line)))


def _place(number: int, line: bytes) -> str:
    key = line[:200].split(b"\t")[0].decode("utf-8", "replace")[:60]
    return f"{number} (picture {''.join(char if char.isprintable() else '?' for char in key)})"


def parse_line(
    line: bytes,
    names: Sequence[str],
    vocabulary: Mapping[str, list[str]] | None = None,
    dtype: FeatureType = "float32",
) -> tuple[str, RegionSet]:
    """(picture's id, its regions) of a line with the fields `names`.

    Raises:
        WrongLine: the line does not have these fields, or lengths disagree. Values are not checked here (see
            `wrong_values`), except for ids beyond the vocabulary.
    """
    fields = line.rstrip(b"\r\n").split(b"\t")
    if len(fields) != len(names):
        raise WrongLine(f"{len(fields)} fields between tabs instead of {len(names)}; cut short?")
    named = {name.replace("img_", "image_"): value for name, value in zip(names, fields, strict=True)}
    try:
        key = named["image_id"].decode("utf-8").strip()
    except UnicodeDecodeError:
        raise WrongLine("an id that is not UTF-8") from None
    if why := wrong_id(key):
        raise WrongLine(f"an id that {why}")
    width, height, count = (_integer(named, name) for name in ("image_w", "image_h", "num_boxes"))
    boxes = _array(named, "boxes", "<f4", count, 4)
    features = _array(named, "features", "<f4" if dtype == "float32" else "<f2", count, None)
    found = RegionSet(width, height, features, boxes)
    if "objects_id" in named:
        found.scores = _array(named, "objects_conf", "<f4", count, 1)[:, 0]
        _array(named, "attrs_conf", "<f4", count, 1)
        found.tags = _ids(named, "objects_id", count, vocabulary, "tags")
        found.attributes = _ids(named, "attrs_id", count, vocabulary, "attributes")
    return key, found


def _may_be_float16(features: np.ndarray) -> bool:
    """Whether numbers read as float32 are more alike as twice as many of float16.

    A tenfold float16 is a ten thousand million times larger float32, if its bits are read as such.
    """
    if features.dtype != np.float32 or not len(features):
        return False
    halves = features.view(np.float16).astype(np.float32)
    return bool(np.isfinite(halves).all()) and _spread(features) > 1e5 and _spread(halves) < 1e4


def _spread(values: np.ndarray) -> float:
    """How many times larger than the smaller ones the larger ones of the numbers are, without zeros and outliers."""
    sizes = np.abs(values[values != 0])
    if len(sizes) < _FEW:
        return 1.0
    low, high = np.percentile(sizes, [10, 90])
    return float(high / low)


def _integer(named: Mapping[str, bytes], name: str) -> int:
    text = named[name].strip()
    if not text.isdigit() or len(text) > 9:
        raise WrongLine(f"{name} is {text[:20].decode('utf-8', 'replace')!r}, a whole number is needed")
    return int(text)


def _array(named: Mapping[str, bytes], name: str, dtype: str, count: int, width: int | None) -> np.ndarray:
    """(count, width) numbers of a base64 field; `width` None: whatever divides evenly."""
    text = named[name].strip()
    if text[:2] in (b"b'", b'b"') and text[-1:] == text[1:2]:  # str() of the bytes, which Python 3 writes
        text = text[2:-1]
    text = text.rstrip(b"=")  # some programs write no padding
    try:
        data = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise WrongLine(f"{name} that is not base64") from None
    size = np.dtype(dtype).itemsize
    if width is None:
        width = len(data) // (size * max(1, count))
        if count and not width:
            raise WrongLine(f"num_boxes is {count}, {name} holds {len(data)} bytes")
    if len(data) != count * width * size:
        held = f"{len(data) / (size * width):g} boxes" if width else f"{len(data)} bytes"
        held = held if name != "features" else f"{len(data)} bytes, not a whole number of numbers a box"
        raise WrongLine(f"num_boxes is {count}, {name} holds {held}")
    return np.frombuffer(data, dtype).reshape(count, width)


def _ids(
    named: Mapping[str, bytes], name: str, count: int, vocabulary: Mapping[str, list[str]] | None, table: str
) -> np.ndarray | None:
    ids = _array(named, name, "<i8", count, 1)[:, 0]
    if vocabulary is None:
        return None
    size = len(vocabulary[table])
    if ((ids < 0) | (ids >= size)).any():
        raise WrongLine(f"{name} beyond the {size} names of the vocabulary")
    return ids
