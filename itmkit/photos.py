"""`itmkit photos`: from a folder of photographs to an index that finds them, with a dual encoder such as SigLIP."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from itmkit.datasets.pictures import prepare_images
from itmkit.embed.embed import embed
from itmkit.errors import ItmkitError
from itmkit.index.build import build_index
from itmkit.job import USUAL, Job
from itmkit.models.hub import find_model, short_name
from itmkit.runs.settings import resolve
from itmkit.trained import open_matcher
from itmkit.training.untrained import write_untrained
from itmkit.workspace import Workspace

MODEL = "google/siglip2-base-patch16-224"
SIZE = "about 1.5 GB"  # of its files
RUN = "photos"
SHARD = 200  # a shard that is not full is made again when pictures are added


@dataclass(frozen=True)
class PhotosResult:
    """What `photos` did.

    images: in the index now; encoded: by this call. left_out: sentences on files that are not in it.
    notes: worth reading, not wrong.
    """

    run: Path
    index: Path
    images: int
    encoded: int
    left_out: list[str]
    notes: list[str]


def photos(workspace: Workspace, folder: Path, *, model: str = MODEL, job: Job = USUAL) -> PhotosResult:
    """Prepares the pictures of a folder, embeds them, and writes the run `photos` and the index of it.

    Run again it goes on where it was stopped, and adds what the folder has got since. Pictures that cannot be read are
    left out and listed.

    Args:
        model: folder or hub name of a dual encoder. It is fetched if it is not on this machine: ask before.
        job: its `force` makes everything anew.

    Raises:
        ItmkitError: what the stages raise: no pictures, pictures that changed since, a model that cannot be loaded, ...
    """
    progress = job.progress
    with workspace.preparing():
        prepared = prepare_images(
            workspace, folder, add=not job.force, skip_damaged=True, force=job.force, progress=progress
        )
    name = short_name(model)
    embedded = embed(workspace, model=model, cache=name, job=job)
    run = write_untrained(workspace, resolve("dual", settings={"vectors_cache": name}), RUN)
    with open_matcher(run, device=job.device) as matcher:
        built = build_index(workspace, matcher, add=not job.force, force=job.force, progress=progress)
    unread = [f"{item['id']}: {item['reason']}" for item in embedded.skipped]
    return PhotosResult(run, built.path, built.images, built.encoded, prepared.left_out + unread, prepared.notes)


def is_here(model: str) -> bool:
    """Whether a model lies on this machine, so that nothing has to be fetched."""
    try:
        find_model(model, allow_download=False, tokenizer=True)
    except ItmkitError:
        return Path(model).expanduser().exists()  # a folder that lacks something is told as that
    return True
