"""The pictures of a workspace, small, for figures that show many."""

from __future__ import annotations

from types import TracebackType

from PIL import Image

from itmkit.dataset import ImageRecord
from itmkit.pictures.decode import Decoder
from itmkit.pictures.load import ChangedImage, UnreadableImage
from itmkit.workspace import Workspace

SIDE = 480  # pixels: sharp at the size of a panel


class Photographs:
    """Decodes pictures in one process, used in a `with` statement."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace, self._decoder = workspace, Decoder()
        self._found: dict[str, Image.Image | None] = {}

    def of(self, record: ImageRecord) -> Image.Image | None:
        """Upright, RGB, at most `SIDE` pixels a side. None where it cannot be had: imported without pictures, gone,
        changed, or damaged."""
        if record.id not in self._found:
            self._found[record.id] = self._read(record)
        return self._found[record.id]

    def _read(self, record: ImageRecord) -> Image.Image | None:
        if record.file is None:
            return None
        try:
            picture = self._decoder.decode(self._workspace.image_path(record.file), record.sha256).image
        except (UnreadableImage, ChangedImage):
            return None
        picture.thumbnail((SIDE, SIDE))
        return picture

    def __enter__(self) -> Photographs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._decoder.close()
