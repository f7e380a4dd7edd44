"""Folders with one .npz file a picture, as bottom-up-attention.pytorch (MILVLG) writes them.

x (n, D)   bbox (n, 4) x1 y1 x2 y2 in pixels   num_bbox   image_h   image_w   info

`info` is a pickled Python object and is never read. A file may claim anything about itself. Nothing is unpacked unless
the size in its zip directory agrees with that in its array header and stays within a limit.
"""

from __future__ import annotations

import hashlib
import math
import zipfile
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from itmkit.dataset import wrong_id
from itmkit.errors import ItmkitError
from itmkit.import_features.npy import read_header
from itmkit.import_features.region_sets import BoxUnits, Findings, RegionSet, in_pixels, wrong_values
from itmkit.progress import Progress

MOST_BYTES = 64 << 20  # of a file, and of an array in it; 100 boxes of 2,048 numbers take 0.8 million
_ENTRIES = 100
_HEADER = 1 << 16  # bytes an array header may take


class WrongFile(Exception):
    """A file that holds no regions, and why."""


@dataclass
class NpzFiles:
    """The checked files. Lists are by picture. `digests` is one for the whole folder.

    repeated: how many files are equal to another of the same name. damaged: {"place", "reason"} of every file left out.
    """

    vocabulary: None = None
    ids: list[str] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    dim: int = 0
    digests: dict[str, str] = field(default_factory=dict)
    paths: list[Path] = field(default_factory=list)
    pickled: int = 0  # files with an `info`
    shares: bool = False  # of the boxes: not in pixels, but from 0 to 1
    repeated: int = 0
    damaged: list[dict[str, str]] = field(default_factory=list)

    extras = ("boxes", "sizes")

    def read(self, place: int) -> RegionSet:
        """The regions of picture `place`. Raises ItmkitError where the file has changed since it was checked."""
        path = self.paths[place]
        try:
            found, _ = parse_npz(_bytes(path))
            if len(found) != self.counts[place] or wrong_values(found):
                raise WrongFile
        except WrongFile:
            raise ItmkitError(f"{path}: has changed during the import; run the command again") from None
        return in_pixels(found) if self.shares else found

    def leave_out(self, numbers: set[int]) -> None:
        """Drops pictures from all lists."""
        lists: tuple[list[Any], ...] = (self.ids, self.counts, self.sizes, self.paths)
        for values in lists:
            values[:] = [value for number, value in enumerate(values) if number not in numbers]


def check_npz(folder: Path, progress: Progress, *, skip_damaged: bool = False) -> NpzFiles:
    """Reads every .npz file in `folder` and the folders in it; the picture's id is the file's name.

    Args:
        skip_damaged: leave out files that cannot be used, instead of reporting them.

    Raises:
        ItmkitError: everything that is wrong with all files, in one error.
    """
    if not folder.is_dir():
        raise ItmkitError(f"{folder}: no such folder")
    paths = [path for path in sorted(folder.rglob("*.npz")) if not _of_macos(path.relative_to(folder))]
    if not paths:
        raise ItmkitError(f"{folder}: holds no .npz files")
    files, findings, state = NpzFiles(), Findings(skip_damaged=skip_damaged), hashlib.sha256()
    seen: dict[str, tuple[Path, bytes]] = {}
    units = BoxUnits()
    with progress.task("check", len(paths), unit="files") as advance:
        for path in paths:
            key, place = path.name.removesuffix(".npz"), str(path.relative_to(folder))
            try:
                data = _bytes(path)
                digest = hashlib.sha256(data)
                state.update(f"{place}\0{digest.hexdigest()}\n".encode("utf-8", "surrogateescape"))
                found, has_info = parse_npz(data)
            except WrongFile as error:
                findings.add(folder, str(error), "file", place)
                continue
            finally:
                advance(1)
            if key in seen and seen[key][1] == digest.digest():
                files.repeated += 1
                continue
            wrong = _wrong(found, files, key)
            if key in seen:
                wrong.append(f"the name of {seen[key][0].relative_to(folder)} again")
            for what in wrong:
                findings.add(folder, what, "file", place)
            if wrong:
                continue
            seen[key] = path, digest.digest()
            units.add(len(files.ids), found)
            files.ids.append(key)
            files.counts.append(len(found))
            files.sizes.append((found.width, found.height))
            files.paths.append(path)
            files.pickled += has_info
    files.leave_out(units.odd_ones(findings, lambda n: (folder, "file", str(files.paths[n].relative_to(folder)))))
    if findings:
        raise ItmkitError(findings.in_words())
    if not files.ids:
        raise ItmkitError(f"{folder}: holds no picture that can be used ({findings.damaged[0]['reason']})")
    files.shares, files.damaged, files.digests = units.shares, findings.damaged, {"npz": state.hexdigest()}
    return files


def _of_macos(path: Path) -> bool:
    """Whether it is one of the files about files that macOS puts into archives."""
    return path.name.startswith("._") or "__MACOSX" in path.parts


def _wrong(found: RegionSet, files: NpzFiles, key: str) -> list[str]:
    """What is wrong with the values of one file; the first good one decides D."""
    wrong, dim = wrong_values(found), found.features.shape[1]
    if len(found):
        files.dim = files.dim or (0 if wrong else dim)
        if files.dim and dim != files.dim:
            wrong.append(f"{dim} numbers a box, {files.dim} in the first")
    if why := wrong_id(key):
        wrong.append(f"a name that {why}")
    return wrong


def _bytes(path: Path) -> bytes:
    if not path.is_file():  # opening a named pipe would wait for ever
        raise WrongFile("no regular file")
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise WrongFile(f"more than {MOST_BYTES >> 20} MiB")
    try:
        return path.read_bytes()
    except OSError as error:
        raise WrongFile(f"cannot be read ({error.strerror})") from None


def parse_npz(data: bytes) -> tuple[RegionSet, bool]:
    """(the regions, whether there is a pickled `info`) of the bytes of a file.

    Raises:
        WrongFile: this is not such a file, or its arrays disagree. Values are not checked here (see `wrong_values`).
    """
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            entries = archive.infolist()
            names = [entry.filename for entry in entries]
            if len(entries) > _ENTRIES or len(set(names)) != len(names):
                raise WrongFile("too many arrays, or two of one name")
            x, bbox = (_array(archive, name) for name in ("x", "bbox"))
            count, height, width = (_whole(_array(archive, name), name) for name in ("num_bbox", "image_h", "image_w"))
    except (WrongFile, MemoryError):
        raise
    except Exception as error:  # zipfile and zlib raise dozens of kinds on damaged files
        raise WrongFile(f"not an .npz file, or a damaged one ({type(error).__name__})") from None
    if x.ndim != 2 or x.shape[1] == 0 or x.dtype not in (np.float16, np.float32) or x.shape[0] != count:
        turned = "; it seems transposed" if x.ndim == 2 and x.shape[1] == count else ""
        needed = f"float32 ({count}, D) is needed for num_bbox {count}{turned}"
        raise WrongFile(f"x has shape {x.shape} of {x.dtype}, {needed}")
    if bbox.shape != (count, 4) or bbox.dtype.kind not in "fiu":
        raise WrongFile(f"bbox has shape {bbox.shape} of {bbox.dtype}, ({count}, 4) is needed for num_bbox {count}")
    with np.errstate(over="ignore"):
        return RegionSet(width, height, x, bbox.astype(np.float32)), "info.npy" in names


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """One array, unpacked only after its declared sizes were found equal and small."""
    try:
        entry = archive.getinfo(f"{name}.npy")
    except KeyError:
        raise WrongFile(f"no array {name!r}") from None
    # numpy writes no others, and of these two zipfile never unpacks more than it is asked for.
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise WrongFile(f"{name!r} is packed in a way that numpy does not use")
    if entry.file_size > MOST_BYTES:
        raise WrongFile(f"{name!r} would unpack to more than {MOST_BYTES >> 20} MiB")
    with archive.open(entry) as file:
        head = file.read(_HEADER)
        try:
            header = BytesIO(head)
            shape, fortran, dtype = read_header(header, name)
        except ItmkitError as error:
            raise WrongFile(error.problems[0]) from None
        start, wanted = header.tell(), math.prod(shape) * dtype.itemsize
        if start + wanted != entry.file_size:
            raise WrongFile(f"{name!r} has {entry.file_size:,} bytes, its header says {start + wanted:,}")
        # One byte more than there is: only at the end does zipfile compare the checksum.
        held = head[start:] + file.read(entry.file_size - len(head) + 1)
    if len(held) != wanted:
        raise WrongFile(f"{name!r} is cut short")
    values = np.frombuffer(held, dtype).reshape(shape, order="F" if fortran else "C")
    return values.astype(dtype.newbyteorder("="), copy=False)


def _whole(value: np.ndarray, name: str) -> int:
    """A single number; some programs wrote it as a list of one, or as a float."""
    if value.size != 1 or value.dtype.kind not in "iuf" or not float(value.reshape(())).is_integer():
        raise WrongFile(f"{name} is no whole number")
    number = int(value.reshape(()))
    if not 0 <= number < 1 << 31:
        raise WrongFile(f"{name} is {number}")
    return number
