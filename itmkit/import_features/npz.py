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

import numpy as np

from itmkit.dataset import wrong_id
from itmkit.errors import ItmkitError
from itmkit.import_features.npy import read_header
from itmkit.import_features.region_sets import Findings, RegionSet, wrong_values
from itmkit.progress import Progress

MOST_BYTES = 64 << 20  # of a file, and of an array in it; 100 boxes of 2,048 numbers take 0.8 million
_ENTRIES = 100
_HEADER = 1 << 16  # bytes an array header may take


class WrongFile(Exception):
    """A file that holds no regions, and why."""


@dataclass
class NpzFiles:
    """The checked files. Lists are by picture. `digests` is one for the whole folder."""

    vocabulary: None = None
    ids: list[str] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    dim: int = 0
    digests: dict[str, str] = field(default_factory=dict)
    paths: list[Path] = field(default_factory=list)
    pickled: int = 0  # files with an `info`

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
        return found


def check_npz(folder: Path, progress: Progress) -> NpzFiles:
    """Reads every .npz file in `folder` and the folders in it; the picture's id is the file's name.

    Raises:
        ItmkitError: everything that is wrong with all files, in one error.
    """
    if not folder.is_dir():
        raise ItmkitError(f"{folder}: no such folder")
    paths = sorted(folder.rglob("*.npz"))
    if not paths:
        raise ItmkitError(f"{folder}: holds no .npz files")
    files, findings, state = NpzFiles(), Findings(), hashlib.sha256()
    seen: dict[str, Path] = {}
    with progress.task("check", len(paths), unit="files") as advance:
        for path in paths:
            key = path.name.removesuffix(".npz")
            place = str(path.relative_to(folder))
            try:
                data = _bytes(path)
                state.update(f"{place}\0{hashlib.sha256(data).hexdigest()}\n".encode("utf-8", "surrogateescape"))
                found, has_info = parse_npz(data)
            except WrongFile as error:
                findings.add(folder, str(error), "file", place)
                continue
            finally:
                advance(1)
            for what in wrong_values(found):
                findings.add(folder, what, "file", place)
            if len(found):
                files.dim = files.dim or found.features.shape[1]
                if found.features.shape[1] != files.dim:
                    what = f"{found.features.shape[1]} numbers a box, {files.dim} in the first"
                    findings.add(folder, what, "file", place)
            if why := wrong_id(key):
                findings.add(folder, f"a name that {why}", "file", place)
            if seen.setdefault(key, path) is not path:
                findings.add(folder, f"the name of {seen[key].relative_to(folder)} again", "file", place)
                continue
            files.ids.append(key)
            files.counts.append(len(found))
            files.sizes.append((found.width, found.height))
            files.paths.append(path)
            files.pickled += has_info
    if findings:
        raise ItmkitError(findings.in_words())
    files.digests = {"npz": state.hexdigest()}
    return files


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
        raise WrongFile(f"x has shape {x.shape} of {x.dtype}, float32 ({count}, D) is needed for num_bbox {count}")
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
