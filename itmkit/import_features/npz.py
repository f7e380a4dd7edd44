"""An .npz file of one picture, as bottom-up-attention.pytorch (MILVLG) and other programs write it.

x (n, D)   bbox (n, 4) x1 y1 x2 y2 in pixels   num_bbox   image_h   image_w   info

Other names of these arrays are known too (`named_arrays.py`); all but the features may be missing. `info` is a pickled
Python object and is never read. A file may claim anything about itself. Nothing is unpacked unless the size in its zip
directory agrees with that in its array header and stays within a limit.
"""

from __future__ import annotations

import math
import zipfile
from io import BytesIO

import numpy as np

from itmkit.errors import ItmkitError
from itmkit.import_features.named_arrays import NAMES, WrongFile, region_set
from itmkit.import_features.npy import read_header
from itmkit.import_features.region_sets import RegionSet

MOST_BYTES = 64 << 20  # of an array in a file; 100 boxes of 2,048 numbers take 0.8 million
_ENTRIES = 100
_HEADER = 1 << 16  # bytes an array header may take


def parse_npz(data: bytes, boxes: np.ndarray | None = None) -> tuple[RegionSet, bool]:
    """(the regions, whether there is a pickled `info`) of the bytes of a file.

    Args:
        boxes: (n, 4), where they lie in a file of their own.

    Raises:
        WrongFile: this is not such a file, or its arrays disagree. Values are not checked here (see `wrong_values`).
    """
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            entries = archive.infolist()
            names = [entry.filename for entry in entries]
            if len(entries) > _ENTRIES or len(set(names)) != len(names):
                raise WrongFile("too many arrays, or two of one name")
            arrays = {name.removesuffix(".npy") for name in names if name.endswith(".npy")}
            # numpy.savez of one array without a name calls it arr_0.
            only = "arr_0" if arrays == {"arr_0"} else None
            known = {"features"} if only else arrays & set(NAMES)
            found = region_set(known, lambda name: _array(archive, only or name), boxes)
            return found, "info" in arrays
    except (WrongFile, MemoryError):
        raise
    except Exception as error:  # zipfile and zlib raise dozens of kinds on damaged files
        raise WrongFile(f"not an .npz file, or a damaged one ({type(error).__name__})") from None


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """One array, unpacked only after its declared sizes were found equal and small."""
    entry = archive.getinfo(f"{name}.npy")
    # numpy writes no others, and of these two zipfile never unpacks more than it is asked for.
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise WrongFile(f"{name!r} is packed in a way that numpy does not use")
    if entry.file_size > MOST_BYTES:
        raise WrongFile(f"{name!r} would unpack to more than {MOST_BYTES >> 20} MiB")
    with archive.open(entry) as file:
        head = file.read(_HEADER)
        start, shape, fortran, dtype = array_header(head, name)
        wanted = math.prod(shape) * dtype.itemsize
        if start + wanted != entry.file_size:
            raise WrongFile(f"{name!r} has {entry.file_size:,} bytes, its header says {start + wanted:,}")
        # One byte more than there is: only at the end does zipfile compare the checksum.
        held = head[start:] + file.read(entry.file_size - len(head) + 1)
    if len(held) != wanted:
        raise WrongFile(f"{name!r} is cut short")
    return array_of(held, shape, fortran, dtype)


def parse_npy(data: bytes, boxes: np.ndarray | None = None) -> tuple[RegionSet, bool]:
    """(the regions, False) of the bytes of an .npy file with the features (n, D) of one picture."""
    values = npy_array(data, "the array")
    return region_set({"features"}, lambda name: values, boxes), False


def npy_array(data: bytes, name: str) -> np.ndarray:
    """The array of the bytes of an .npy file. Raises WrongFile for a damaged one, or one of Python objects."""
    start, shape, fortran, dtype = array_header(data[:_HEADER], name)
    wanted = math.prod(shape) * dtype.itemsize
    if len(data) - start != wanted:
        raise WrongFile(f"{name} has {len(data):,} bytes, its header says {start + wanted:,}")
    return array_of(data[start:], shape, fortran, dtype)


def array_header(head: bytes, name: str) -> tuple[int, tuple[int, ...], bool, np.dtype]:
    """(where the data begin, shape, whether it is stored column by column, dtype)."""
    header = BytesIO(head)
    try:
        shape, fortran, dtype = read_header(header, name)
    except ItmkitError as error:
        raise WrongFile(error.problems[0]) from None
    return header.tell(), shape, fortran, dtype


def array_of(held: bytes, shape: tuple[int, ...], fortran: bool, dtype: np.dtype) -> np.ndarray:
    values = np.frombuffer(held, dtype).reshape(shape, order="F" if fortran else "C")
    return values.astype(dtype.newbyteorder("="), copy=False)
