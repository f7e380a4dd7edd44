"""VinVL's labels.tsv: what the regions of features.tsv are, in their order. The features are in the other file.

image_id  [{"class": "dog", "conf": 0.9, "rect": [x1, y1, x2, y2]}, ...]

`rect` is in pixels; `conf` and `rect` may be missing, and the list may be `objects` of an object.
Files are read line by line once, to check them and to note where each picture lies, and then by seeking.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from itmkit.import_features.region_sets import Findings, RegionSet
from itmkit.import_features.tsv_lines import WrongLine, read_id
from itmkit.import_features.vinvl_lines import VinvlNames, confidence, four_numbers, objects_of

_NEAR = 2.0  # pixels between a box of the labels and that of the features


@dataclass
class VinvlLabels:
    """The checked files. lines: {picture's id: file, line, offset and length}. digests: file -> sha256.

    scored: whether every object says how sure the detector is.
    """

    names: VinvlNames
    lines: dict[str, tuple[Path, int, int, int]] = field(default_factory=dict)
    digests: dict[Path, str] = field(default_factory=dict)
    scored: bool = True

    def check(self, path: Path, findings: Findings) -> None:
        """Reads every line of a file. What is wrong is added to the findings."""
        state, offset, number = hashlib.sha256(), 0, 0
        with open(path, "rb") as file:
            for line in file:
                number += 1
                state.update(line)
                if line.strip():
                    self._check_line(path, number, offset, line, findings)
                offset += len(line)
        self.digests[path] = state.hexdigest()

    def _check_line(self, path: Path, number: int, offset: int, line: bytes, findings: Findings) -> None:
        try:
            key, objects = _parse(line)
            sure = [confidence(one) for one in objects]
        except WrongLine as error:
            findings.add(path, str(error), "line", str(number))
            return
        if key in self.lines:
            findings.add(path, f"the id of line {self.lines[key][1]} again", "line", f"{number} (picture {key})")
            return
        self.scored = self.scored and None not in sure
        for one in objects:
            self.names.number(one["class"])
        self.lines[key] = path, number, offset, len(line)

    def add_to(self, key: str, found: RegionSet) -> None:
        """Sets the tags and scores of a picture's regions; a picture without labels has none.

        Raises:
            WrongLine: the labels are not those of these regions.
        """
        found.tags = np.full(len(found), -1, np.int64)
        if key not in self.lines:
            return
        path, number, offset, length = self.lines[key]
        with open(path, "rb") as file:
            file.seek(offset)
            objects = _parse(file.read(length))[1]
        where = f"line {number} of {path.name}"
        if len(objects) != len(found):
            raise WrongLine(f"{len(found)} boxes, and {len(objects)} labels ({where}), which are of another detector")
        if not objects:
            return
        if not _same_boxes([one.get("rect") for one in objects], found.boxes):
            raise WrongLine(f"boxes that are not those of the labels ({where}), or in another order")
        found.tags = np.array([self.names.number(one["class"]) for one in objects], np.int64)
        if self.scored:
            found.scores = np.array([float(one["conf"]) for one in objects], np.float32)


def is_of_labels(line: bytes) -> bool:
    """Whether a line holds labels without features."""
    try:
        return bool(_parse(line)[1])
    except WrongLine:
        return False


def says_nothing(line: bytes) -> bool:
    """Whether a line does not tell what file it is of: it is cut short, or nothing was found in its picture."""
    fields = line.split(b"\t")
    if len(fields) != 2:
        return False
    try:
        return not objects_of(json.loads(fields[1]))
    except (ValueError, RecursionError):
        return True
    except WrongLine:
        return False


def _parse(line: bytes) -> tuple[str, list[dict[str, Any]]]:
    fields = line.rstrip(b"\r\n").split(b"\t")
    if len(fields) != 2:
        raise WrongLine(f"{len(fields)} fields between tabs instead of 2; cut short?")
    key = read_id(fields[0])
    try:
        objects = objects_of(json.loads(fields[1]))
    except (ValueError, RecursionError):
        raise WrongLine("a second field that is not JSON; cut short?") from None
    for one in objects:
        if not isinstance(one.get("class"), str) or "feature" in one:
            raise WrongLine("an object without `class`, or with `feature`, among labels")
    return key, objects


def _same_boxes(rects: list[Any], shares: np.ndarray | None) -> bool:
    """Whether boxes in pixels are the shares of a picture of one size. True where one of the two has none."""
    if shares is None or not all(four_numbers(rect) for rect in rects):
        return True
    pixels = np.array(rects, np.float64)
    for side in (slice(0, 4, 2), slice(1, 4, 2)):  # the numbers of width, and those of height
        inside, outside = shares[:, side].astype(np.float64).ravel(), pixels[:, side].ravel()
        length = float(inside @ outside) / max(float(inside @ inside), 1e-9)
        if np.abs(outside - inside * length).max() > _NEAR:
            return False
    return True
