"""What a data set notes about each picture file: its size as it is seen (upright), its bytes and their digest.

Only headers are read; no picture is decoded. Damaged and overly large pictures are found at extraction, which skips and
lists them.
"""

from __future__ import annotations

import hashlib
import os
import stat
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from itmkit.errors import ItmkitError
from itmkit.pictures.load import FORMATS
from itmkit.progress import SILENT, Progress

BATCH = 512  # pictures handed to the threads at once, so that an interrupt is felt soon
TURNED = (5, 6, 7, 8)  # EXIF orientations that swap width and height


@dataclass(frozen=True, slots=True)
class Facts:
    """`width` and `height` are of the upright picture, in pixels; None where the header claims so many pixels that
    Pillow refuses it as a decompression bomb (extraction will skip it). `deep`: grey with 16 bits a pixel."""

    width: int | None
    height: int | None
    bytes: int
    sha256: str
    deep: bool = False


def picture_facts(path: Path, *, content: bool = True) -> Facts:
    """Reads one picture's header and, with `content`, the digest of its whole file (else `sha256` is empty).

    Raises:
        ItmkitError: the file is missing, empty, not a regular file, not readable, or not a picture in a known format.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a named pipe would wait for ever
            raise ItmkitError(f"{path}: is not a regular file")
        if status.st_size == 0:
            raise ItmkitError(f"{path}: is empty")
        with open(path, "rb") as handle:
            sha256 = _sha256(handle) if content else ""
            handle.seek(0)
            width, height, deep = _upright_size(handle, path)
    except (FileNotFoundError, NotADirectoryError):
        raise ItmkitError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise ItmkitError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    return Facts(width, height, status.st_size, sha256, deep)


def all_picture_facts(
    paths: Sequence[Path], *, content: bool = True, progress: Progress = SILENT
) -> list[Facts | ItmkitError]:
    """`picture_facts` of every path, in order, by several threads. An error stands in the place of its picture."""

    def one(path: Path) -> Facts | ItmkitError:
        try:
            return picture_facts(path, content=content)
        except ItmkitError as error:
            return error

    Image.init()  # loads Pillow's readers before the threads
    found: list[Facts | ItmkitError] = []
    with (
        progress.task("pictures", total=len(paths), unit="pictures") as advance,
        ThreadPoolExecutor(min(8, 2 * (os.cpu_count() or 1))) as threads,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # of Pillow, about odd EXIF and about large pictures
        for start in range(0, len(paths), BATCH):
            batch = list(threads.map(one, paths[start : start + BATCH]))
            found.extend(batch)
            advance(len(batch))
    return found


def _sha256(handle: IO[bytes]) -> str:
    state = hashlib.sha256()
    while block := handle.read(1 << 20):
        state.update(block)
    return state.hexdigest()


def _upright_size(handle: IO[bytes], path: Path) -> tuple[int | None, int | None, bool]:
    """(width, height, whether it is grey with 16 bits a pixel)."""
    try:
        Image.init()
        with Image.open(handle, formats=[name for name in FORMATS if name in Image.OPEN]) as image:
            width, height = image.size
            if isinstance(image, TiffImagePlugin.TiffImageFile):  # its size is turned already in some versions
                width, height = image.tag_v2[TiffImagePlugin.IMAGEWIDTH], image.tag_v2[TiffImagePlugin.IMAGELENGTH]
            turned = _orientation(image, handle) in TURNED
            deep = image.mode.startswith("I;16") or (image.format == "PNG" and image.mode == "I")
    except Image.DecompressionBombError:
        return None, None, False
    except Exception as error:  # Pillow's readers raise many kinds on damaged headers
        unknown = f"not one of {', '.join(FORMATS)}, or damaged at its beginning"
        reason = unknown if isinstance(error, UnidentifiedImageError) else str(error)
        raise ItmkitError(f"{path}: cannot be read as a picture ({reason or type(error).__name__})") from None
    return (height, width, deep) if turned else (width, height, deep)


def _orientation(image: Image.Image, handle: IO[bytes]) -> int:
    """EXIF (or XMP) orientation, 1 where there is none or it is damaged."""
    with suppress(Exception):
        # Not image.getexif(): for a PNG without EXIF before its pixels that decodes the whole picture.
        exif = Image.Image.getexif(image)
        if image.format == "PNG" and ExifTags.Base.Orientation not in exif and (late := _late_png_exif(handle)):
            exif.load(b"Exif\0\0" + late)
        return int(exif.get(ExifTags.Base.Orientation, 1))
    return 1


def _late_png_exif(handle: IO[bytes]) -> bytes | None:
    """The eXIf chunk of a PNG, wherever in the file it stands; other chunks are passed over unread."""
    handle.seek(8)
    while len(head := handle.read(8)) == 8:
        length = int.from_bytes(head[:4], "big")
        if head[4:] == b"eXIf":
            return handle.read(length)
        handle.seek(length + 4, os.SEEK_CUR)
    return None
