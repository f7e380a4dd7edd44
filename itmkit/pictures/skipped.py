"""What a stage says if there are no pictures, or if it could not read some of them."""

from __future__ import annotations

from collections.abc import Sequence

from itmkit.dataset import Dataset, ImageRecord
from itmkit.errors import ItmkitError
from itmkit.workspace import Workspace


def check_files(workspace: Workspace, dataset: Dataset) -> None:
    """Raises ItmkitError where the data set names no picture at all."""
    if not any(image.file for image in dataset.images):
        raise ItmkitError(
            f"{workspace.dataset_path}: names no picture files (its features were imported); nothing can be extracted"
        )


def check_skipped(
    workspace: Workspace, images: Sequence[ImageRecord], skipped: list[dict[str, str]], *, strict: bool
) -> None:
    """Raises ItmkitError if pictures were skipped and `strict` forbids that, or if all were skipped.

    Args:
        skipped: {"id", "reason"} as in the manifest of the cache.
    """
    if strict and skipped:
        files = {image.id: image.file for image in images}
        raise ItmkitError([f"{_place(workspace, files, item['id'])}: {item['reason']}" for item in skipped])
    if images and len(skipped) == len(images):
        shown = "; ".join(f"{item['id']}: {item['reason']}" for item in skipped[:3])
        raise ItmkitError(f"none of the {len(skipped)} pictures can be read ({shown})")


def _place(workspace: Workspace, files: dict[str, str | None], key: str) -> str:
    file = files.get(key)
    return str(workspace.image_path(file)) if file else key
