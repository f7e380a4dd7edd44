"""Bottom-up TSV files: one picture a line, its arrays as base64, no header.

image_id image_w image_h num_boxes boxes features                             (bottom-up attention)
img_id img_h img_w objects_id objects_conf attrs_id attrs_conf num_boxes boxes features               (LXMERT)

VinVL's files have other fields (`vinvl_lines.py`), and labels in a file of their own (`vinvl_labels.py`). A line may
have megabytes, and a file tens of gigabytes. Files are read line by line once, to check them and to note where each
picture lies, and then by seeking.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from itmkit.errors import ItmkitError
from itmkit.import_features.box_units import BoxUnits
from itmkit.import_features.containers import why_no_lines
from itmkit.import_features.region_sets import Findings, RegionSet, odd_units, wrong_values
from itmkit.import_features.tsv_lines import (
    BOTTOM_UP,
    LXMERT,
    FeatureType,
    Vocabulary,
    WrongLine,
    may_be_float16,
    parse_line,
)
from itmkit.import_features.vinvl_labels import VinvlLabels, is_of_labels, says_nothing
from itmkit.import_features.vinvl_lines import VINVL, VinvlNames, parse_vinvl_line
from itmkit.progress import Progress

FORMS = {"bottom-up": BOTTOM_UP, "lxmert": LXMERT}
LONGEST_LINE = 64 << 20  # bytes; 100 boxes of 2,048 numbers take 1.1 million


@dataclass
class BottomUpFiles:
    """The checked files. Lists are by picture, in the order of files and lines.

    ids, counts, sizes: each picture's id, number of boxes, and width and height. dim: D. form: "bottom-up",
    "lxmert" or "vinvl".
    digests: file name -> sha256. repeated: how many lines repeat an earlier one byte for byte. damaged: {"place",
    "reason"} of every line left out.
    """

    form: str
    vocabulary: Vocabulary | None
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
    unlabelled: int = 0  # pictures of which the files of labels say nothing
    names: VinvlNames = field(default_factory=VinvlNames)  # of VinVL's objects
    labels: VinvlLabels | None = None  # what they are, where other files say it

    @property
    def extras(self) -> tuple[str, ...]:
        """Which columns there are besides the features."""
        if self.form == "bottom-up" or (self.form == "vinvl" and not self.vocabulary):
            return ("boxes", "sizes")
        if self.form == "vinvl":
            scored = self.labels is None or self.labels.scored
            return ("boxes", "sizes", *(["scores"] if scored else []), "tags")
        return ("boxes", "sizes", "scores", *(["tags", "attributes"] if self.vocabulary else []))

    def read(self, place: int) -> RegionSet:
        """The regions of picture `place`. Raises ItmkitError where the file has changed since it was checked."""
        path, number, offset, length = self.places[place]
        with open(path, "rb") as file:
            file.seek(offset)
            line = file.read(length)
        try:
            key, found = self.parse(line)
            if key != self.ids[place] or len(found) != self.counts[place] or wrong_values(found):
                raise WrongLine
        except WrongLine:
            raise ItmkitError(f"{path}: line {number} has changed during the import; run the command again") from None
        return found

    def parse(self, line: bytes) -> tuple[str, RegionSet]:
        """(picture's id, its regions) of a line of these files. Raises WrongLine."""
        if self.form == "vinvl":
            key, found = parse_vinvl_line(line, self.names, self.dtype)
            if self.labels is not None:
                self.labels.add_to(key, found)
            return key, found
        return parse_line(line, FORMS[self.form], self.vocabulary if self.form == "lxmert" else None, self.dtype)

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
    vocabulary: Vocabulary | None,
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
    of_labels = [path for path, form in forms.items() if form == "labels"]
    forms = {path: form for path, form in forms.items() if form != "labels"}
    if len(set(forms.values())) > 1:
        first = next(iter(forms))
        for path in (path for path, form in forms.items() if form != forms[first]):
            findings.add(path, f"is a {forms[path]} file, {first} is a {forms[first]} file: import one kind at a time")
    without_ids = [path for path, form in forms.items() if form != "lxmert"]
    if vocabulary is not None and without_ids:
        path = without_ids[0]
        findings.add(path, "holds no ids of objects, so --vocabulary names nothing; leave it out")
    files = BottomUpFiles(next(iter(forms.values()), "bottom-up"), vocabulary, dtype=dtype)
    if of_labels:
        files.labels = _labels(of_labels, files, findings)
    check = _Check(files, findings)
    with progress.task("check", sum(path.stat().st_size >> 20 for path in forms), unit="MiB") as advance:
        for path, form in forms.items():
            if form == files.form:
                _check_file(path, check, advance)
    files.leave_out(odd_units(check.units, findings, files.place_of))
    files.seems_float16 = check.halves > len(files.ids) // 2
    if files.labels is not None:
        for path, sha256 in files.labels.digests.items():
            _add_digest(files.digests, path, sha256)
        files.unlabelled = sum(key not in files.labels.lines for key in files.ids)
    files.shares, files.damaged = check.units.shares, findings.damaged
    if files.names.tables["tags"]:
        files.vocabulary = files.names.tables
    if not files.ids and not findings:
        why = "".join(f" that can be used ({one['place']}: {one['reason']})" for one in files.damaged[:1])
        findings.add(paths[0], f"holds no picture{why}")
    if findings:
        raise ItmkitError(findings.in_words())
    return files


def _labels(paths: Sequence[Path], files: BottomUpFiles, findings: Findings) -> VinvlLabels:
    """Reads the files of labels that go with those of features."""
    labels = VinvlLabels(files.names)
    for path in paths:
        if files.form == "vinvl":
            labels.check(path, findings)
        else:
            findings.add(path, "holds labels without features; name VinVL's features.tsv as well")
    return labels


def _form(path: Path, findings: Findings) -> str | None:
    """Which of the three kinds a file is, or whether it has VinVL's labels, by the fields of its first row."""
    if not path.is_file():
        findings.add(path, "is not a regular file" if path.exists() else "no such file")
        return None
    if why := why_no_lines(path):
        findings.add(path, why)
        return None
    with open(path, "rb") as file:
        first = telling = file.readline(LONGEST_LINE)
        while telling and says_nothing(telling):
            telling = file.readline(LONGEST_LINE)
    fields = first.count(b"\t") + 1
    if fields in VINVL:
        return "labels" if is_of_labels(telling) else "vinvl"
    form = next((form for form, names in FORMS.items() if len(names) == fields), None)
    if form is None:
        expected = f"{len(BOTTOM_UP)} (bottom-up), {len(LXMERT)} (LXMERT) or 2 or 3 (VinVL)"
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


def _check_file(path: Path, check: _Check, advance: Callable[[int], None]) -> None:
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
                _check_line(path, number, offset, line, check)
            offset += len(line)
    _add_digest(check.files.digests, path, state.hexdigest())


def _add_digest(digests: dict[str, str], path: Path, sha256: str) -> None:
    """By the file's name; by its path where another file of the set has that name."""
    digests[str(path) if path.name in digests else path.name] = sha256


def _check_line(path: Path, number: int, offset: int, line: bytes, check: _Check) -> None:
    files, place = check.files, (path, "line", _place(number, line))
    try:
        key, found = files.parse(line)
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
    found.add_to(check.units, len(files.ids))
    check.halves += len(found) > 0 and may_be_float16(found.features)
    files.ids.append(key)
    files.counts.append(len(found))
    files.sizes.append((found.width, found.height))
    files.places.append((path, number, offset, len(line)))


def _place(number: int, line: bytes) -> str:
    key = line[:200].split(b"\t")[0].decode("utf-8", "replace")[:60]
    return f"{number} (picture {''.join(char if char.isprintable() else '?' for char in key)})"
