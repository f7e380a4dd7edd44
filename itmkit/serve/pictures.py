"""Pictures for the page: those of the index, made small, and those that the user gives. Decoded by child processes."""

from __future__ import annotations

import io
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from itmkit.dataset import ImageRecord
from itmkit.pictures.decode import Decoder
from itmkit.pictures.load import ChangedImage, UnreadableImage
from itmkit.serve.worker import Worker

SIDES = (320, 960)  # pixels of the longer side: in the grid, and alone
KEPT = 64 << 20  # bytes of small pictures kept
TIMEOUT = 20.0  # seconds for one picture; somebody waits for it
WAITING = 512  # a page asks for up to 200 at once


class NoPicture(Exception):
    """There is no picture to show. The message says why, without the path."""


def version_of(record: ImageRecord) -> str:
    """What tells the picture of an image from another one, in an address; empty where nothing does."""
    return (record.sha256 or "")[:16]


class Thumbnails:
    """Small JPEGs of the pictures of the index, made when first asked for and kept."""

    def __init__(self, workspace_file: Callable[[str], Path]) -> None:
        """workspace_file: the place of a file of the data set."""
        self._place, self._worker, self._decoder = (
            workspace_file,
            Worker("thumbnails", WAITING),
            Decoder(timeout=TIMEOUT),
        )
        self._kept: OrderedDict[tuple[str, int], bytes | str] = OrderedDict()
        self._bytes = 0

    async def get(self, record: ImageRecord, side: int) -> bytes:
        """The picture of an image as JPEG. Raises NoPicture, and Busy as `Worker.run` does."""
        key = record.id, side
        if key not in self._kept:
            self._keep(key, await self._worker.run(self._make, record, side))
        self._kept.move_to_end(key)
        found = self._kept[key]
        if isinstance(found, str):
            raise NoPicture(found)
        return found

    def close(self) -> None:
        self._worker.close()
        self._decoder.close()

    def _keep(self, key: tuple[str, int], made: bytes | str) -> None:
        self._bytes += len(made) - len(self._kept.get(key, b""))  # two may have asked for it at once
        self._kept[key] = made
        while self._bytes > KEPT and len(self._kept) > 1:
            self._bytes -= len(self._kept.popitem(last=False)[1])

    def _make(self, record: ImageRecord, side: int) -> bytes | str:
        """The JPEG, or why there is none: it is kept, too, so that a file that hangs its decoder does so once."""
        if record.file is None:
            return "the data set has features of this image, but no picture"
        try:
            image = self._decoder.decode(self._place(record.file), record.sha256).image
        except UnreadableImage as error:
            return f"the picture cannot be read: {error.reason}"
        except ChangedImage as error:
            return f"the picture is {error.what} since the data set was prepared"
        image.thumbnail((side, side), reducing_gap=2.0)
        file = io.BytesIO()
        image.save(file, "JPEG", quality=85)
        return file.getvalue()


class GivenPictures:
    """Decodes pictures that the user gives, apart from thumbnails: a slow one holds up only its kind."""

    def __init__(self, prepare: Callable[[Image.Image], object]) -> None:
        """prepare: called with each picture in this thread, so that nobody else waits while it loads a detector."""
        self._worker, self._decoder = Worker("given pictures", WAITING), Decoder(timeout=TIMEOUT)
        self._prepare = prepare

    async def read(self, data: bytes) -> Image.Image:
        """The upright picture, at most 2,000 pixels a side. Raises NoPicture, and Busy as `Worker.run` does."""
        return await self._worker.run(self._read, data)

    def close(self) -> None:
        self._worker.close()
        self._decoder.close()

    def _read(self, data: bytes) -> Image.Image:
        image = self._decode(data)
        self._prepare(image)
        return image

    def _decode(self, data: bytes) -> Image.Image:
        with tempfile.NamedTemporaryFile(prefix="itmkit-") as file:
            file.write(data)
            file.flush()
            try:
                return self._decoder.decode(Path(file.name), None).image
            except UnreadableImage as error:
                raise NoPicture(f"the picture cannot be read: {error.reason}") from None
            except ChangedImage:
                raise NoPicture("the picture is gone") from None
