"""Small pictures of a report: in the page itself, or as files beside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from PIL import Image

from itmkit.dataset import ImageRecord
from itmkit.errors import ItmkitError
from itmkit.pictures.decode import Decoder
from itmkit.pictures.load import ChangedImage, UnreadableImage
from itmkit.workspace import Workspace

SIDE = 320  # pixels, of the longer side
FOLDER = "pictures"
_ENDINGS = ("", ".jpg", ".jpeg", ".png", ".webp")


class Pictures:
    """Makes the picture of an image small when it is first asked for. Close it in the end."""

    def __init__(self, workspace: Workspace, *, images: Path | None = None, beside: Path | None = None) -> None:
        """
        Args:
            images: a folder of pictures, for those that the workspace does not know or has no more.
            beside: the folder of the page, whose pictures are to be files; None: they become part of the page.
        """
        self._workspace, self._images, self._beside = workspace, images, beside
        self._decoder = Decoder()
        self._made: dict[str, dict[str, str | int] | None] = {}

    def get(self, record: ImageRecord) -> dict[str, str | int] | None:
        """{"src": address, "width", "height": pixels}; None where there is no picture that can be read."""
        if record.id not in self._made:
            self._made[record.id] = self._make(record)
        return self._made[record.id]

    @property
    def lacking(self) -> int:
        """Images that were asked for and have no picture."""
        return sum(made is None for made in self._made.values())

    def close(self) -> None:
        self._decoder.close()

    def _make(self, record: ImageRecord) -> dict[str, str | int] | None:
        for path, sha256 in self._places(record):
            try:
                image = self._decoder.decode(path, sha256).image
            except (UnreadableImage, ChangedImage):
                continue
            image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
            out = io.BytesIO()
            image.save(out, "JPEG", quality=78, optimize=True)
            return {"src": self._address(out.getvalue()), "width": image.width, "height": image.height}
        return None

    def _places(self, record: ImageRecord) -> Iterator[tuple[Path, str | None]]:
        if record.file is not None:
            yield self._workspace.image_path(record.file), record.sha256
        if self._images is None:
            return
        names = [record.id + ending for ending in _ENDINGS]
        if record.file is not None:
            names += [record.file, PurePosixPath(record.file).name]
        for name in dict.fromkeys(names):
            inside = PurePosixPath(name)
            # An id may hold any characters; none leads out of the folder.
            if not inside.is_absolute() and ".." not in inside.parts and "\0" not in name:
                yield self._images / name, record.sha256

    def _address(self, data: bytes) -> str:
        if self._beside is None:
            return f"data:image/jpeg;base64,{base64.b64encode(data).decode('ascii')}"
        name = f"{len(self._made):05d}.jpg"
        place = self._beside / FOLDER / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        return f"{FOLDER}/{name}"


def check_folder(folder: Path) -> None:
    """Raises ItmkitError unless it is a folder."""
    if not folder.is_dir():
        raise ItmkitError(f"--images {folder}: {'is no folder' if folder.exists() else 'no such folder'}")
