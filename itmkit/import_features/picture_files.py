"""Folders with one file a picture (.npz, .npy or .pt), checked; boxes may lie in a folder of their own."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from itmkit.dataset import wrong_id
from itmkit.errors import ItmkitError
from itmkit.import_features.box_units import BoxUnits
from itmkit.import_features.named_arrays import WrongFile
from itmkit.import_features.npz import npy_array, parse_npy, parse_npz
from itmkit.import_features.region_sets import Findings, RegionSet, odd_units, wrong_values
from itmkit.import_features.torch_files import parse_pt
from itmkit.progress import Progress

MOST_BYTES = 64 << 20  # of a file; 100 boxes of 2,048 numbers take 0.8 million
_INFO = "_info.npy"  # MMF's and Pythia's files beside the features: pickles, which are never read
Parse = Callable[[bytes, np.ndarray | None], tuple[RegionSet, bool]]
PARSERS: Mapping[str, Parse] = {".npz": parse_npz, ".npy": parse_npy, ".pt": parse_pt}


@dataclass
class PictureFiles:
    """The checked files of a folder. Lists are by picture. `digests` is one for the whole folder.

    repeated: how many files are equal to another of the same name. damaged: {"place", "reason"} of every file left out.
    with_boxes, with_sizes: whether the files say them.
    """

    ending: str
    boxes: Path | None = None  # the folder of the boxes
    vocabulary: None = None
    ids: list[str] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    dim: int = 0
    digests: dict[str, str] = field(default_factory=dict)
    paths: list[Path] = field(default_factory=list)
    pickled: int = 0  # files with an `info`, or beside one
    shares: bool = False  # of the boxes: not in pixels, but from 0 to 1
    with_boxes: bool | None = None  # None: not known yet
    repeated: int = 0
    damaged: list[dict[str, str]] = field(default_factory=list)

    @property
    def extras(self) -> tuple[str, ...]:
        """Which columns there are besides the features."""
        return ("boxes", "sizes") if self.with_boxes else ("sizes",)

    def read(self, place: int) -> RegionSet:
        """The regions of picture `place`. Raises ItmkitError where the file has changed since it was checked."""
        path = self.paths[place]
        try:
            found, _ = self.parse(*self.load(path)[:2])
            if len(found) != self.counts[place] or wrong_values(found):
                raise WrongFile
        except WrongFile:
            raise ItmkitError(f"{path}: has changed during the import; run the command again") from None
        return found

    def load(self, path: Path) -> tuple[bytes, bytes | None, bytes]:
        """(the bytes of a file, those of its boxes where they lie elsewhere, a digest of both). Raises WrongFile."""
        data = _bytes(path)
        state, boxes = hashlib.sha256(data), None
        if self.boxes is not None:
            boxes = _bytes(self.boxes / f"{path.name.removesuffix(self.ending)}.npy")
            state.update(boxes)
        return data, boxes, state.digest()

    def parse(self, data: bytes, boxes: bytes | None) -> tuple[RegionSet, bool]:
        """(the regions, whether there is a pickled `info`) of what `load` gives. Raises WrongFile."""
        return PARSERS[self.ending](data, None if boxes is None else npy_array(boxes, "the file of boxes"))

    def leave_out(self, numbers: set[int]) -> None:
        """Drops pictures from all lists."""
        lists: tuple[list[Any], ...] = (self.ids, self.counts, self.sizes, self.paths)
        for values in lists:
            values[:] = [value for number, value in enumerate(values) if number not in numbers]


def check_picture_files(
    folder: Path, ending: str, progress: Progress, *, boxes: Path | None = None, skip_damaged: bool = False
) -> PictureFiles:
    """Reads every file with the ending in `folder` and the folders in it; the picture's id is the file's name.

    Args:
        ending: one of PARSERS.
        boxes: a folder with the boxes (n, 4) of each picture as an .npy file of the same name.
        skip_damaged: leave out files that cannot be used, instead of reporting them.

    Raises:
        ItmkitError: everything that is wrong with all files, in one error.
    """
    problems = [f"{place}: no such folder" for place in (folder, boxes) if place is not None and not place.is_dir()]
    if problems:
        raise ItmkitError(problems)
    paths = [path for path in sorted(_below(folder, ending, boxes)) if not _of_macos(path.relative_to(folder))]
    files, findings = PictureFiles(ending, boxes), Findings(skip_damaged=skip_damaged)
    if ending == ".npy":
        files.pickled = sum(path.name.endswith(_INFO) for path in paths)
        paths = [path for path in paths if not path.name.endswith(_INFO)]
    if not paths:
        raise ItmkitError(f"{folder}: holds no {ending} files{_others(folder, ending)}")
    check = _Check(folder, files, findings)
    with progress.task("check", len(paths), unit="files") as advance:
        for path in paths:
            check.file(path)
            advance(1)
    files.leave_out(odd_units(check.units, findings, check.place_of))
    if findings:
        raise ItmkitError(findings.in_words())
    if not files.ids:
        raise ItmkitError(f"{folder}: holds no picture that can be used ({findings.damaged[0]['reason']})")
    files.shares, files.damaged = check.units.shares, findings.damaged
    files.digests = {ending[1:]: check.state.hexdigest()}
    return files


class _Check:
    """What the first reading gathers."""

    def __init__(self, folder: Path, files: PictureFiles, findings: Findings) -> None:
        self._folder, self._files, self._findings = folder, files, findings
        self._seen: dict[str, tuple[Path, bytes]] = {}
        self.units = BoxUnits()
        self.state = hashlib.sha256()

    def file(self, path: Path) -> None:
        """Adds the picture of one file to the files, or what is wrong with it to the findings."""
        files = self._files
        key, place = path.name.removesuffix(files.ending), str(path.relative_to(self._folder))
        try:
            data, boxes, digest = files.load(path)
            self.state.update(f"{place}\0{digest.hex()}\n".encode("utf-8", "surrogateescape"))
            found, has_info = files.parse(data, boxes)
        except WrongFile as error:
            self._findings.add(self._folder, str(error), "file", place)
            return
        if key in self._seen and self._seen[key][1] == digest:
            files.repeated += 1
            return
        wrong = self._wrong(found, key)
        if key in self._seen:
            wrong.append(f"the name of {self._seen[key][0].relative_to(self._folder)} again")
        for what in wrong:
            self._findings.add(self._folder, what, "file", place)
        if wrong:
            return
        self._seen[key] = path, digest
        found.add_to(self.units, len(files.ids))
        files.ids.append(key)
        files.counts.append(len(found))
        files.sizes.append((found.width, found.height))
        files.paths.append(path)
        files.pickled += has_info

    def place_of(self, number: int) -> tuple[Path, str, str]:
        """The folder, and the file in words, of picture `number`."""
        return self._folder, "file", str(self._files.paths[number].relative_to(self._folder))

    def _wrong(self, found: RegionSet, key: str) -> list[str]:
        """What is wrong with the values of one file; the first good one decides D, and whether there are boxes."""
        files = self._files
        wrong, dim = wrong_values(found), found.features.shape[1]
        if len(found):
            files.dim = files.dim or (0 if wrong else dim)
            if files.dim and dim != files.dim:
                wrong.append(f"{dim} numbers a box, {files.dim} in the first")
            has_boxes = found.boxes is not None
            if files.with_boxes is None and not wrong:
                files.with_boxes = has_boxes
            if files.with_boxes not in (None, has_boxes):
                wrong.append("boxes, while the first has none" if has_boxes else "no boxes, while the first has some")
        if why := wrong_id(key):
            wrong.append(f"a name that {why}")
        return wrong


def _below(folder: Path, ending: str, boxes: Path | None = None) -> Iterator[Path]:
    """What has the ending in `folder` and the folders in it, which may be links; the folder of boxes is left out."""
    seen = {place.resolve() for place in (folder, boxes) if place is not None}
    for place, folders, names in os.walk(folder, followlinks=True):
        inside = Path(place)
        yield from (inside / name for name in (*folders, *names) if name.endswith(ending))
        entered = []
        for name in sorted(folders):
            if (real := (inside / name).resolve()) not in seen:  # links may lead round in a circle
                seen.add(real)
                entered.append(name)
        folders[:] = entered


def _others(folder: Path, ending: str) -> str:
    """Which other command reads the folder, if one does."""
    for other in (*PARSERS, ".hdf5", ".h5", ".tsv"):
        if other != ending and next(_below(folder, other), None) is not None:
            command = {".hdf5": "hdf5", ".h5": "hdf5", ".tsv": "bottom-up"}.get(other, other[1:])
            return f", but {other} files: `itmkit import-features {command}` reads such"
    return ""


def _of_macos(path: Path) -> bool:
    """Whether it is one of the files about files that macOS puts into archives."""
    return path.name.startswith("._") or "__MACOSX" in path.parts


def _bytes(path: Path) -> bytes:
    if not path.is_file():  # opening a named pipe would wait for ever
        raise WrongFile("no regular file" if path.exists() else f"no {path.name} in the folder of boxes")
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise WrongFile(f"more than {MOST_BYTES >> 20} MiB")
    try:
        return path.read_bytes()
    except OSError as error:
        raise WrongFile(f"cannot be read ({error.strerror})") from None
