"""A data set whose captions and ids are as nasty as they may be, and files of scores for it: no model is needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from itmkit.dataset import Caption, ImageRecord, write_dataset
from itmkit.scoring.stored import InMemory, save_scores
from itmkit.workspace import Workspace
from tests.workspaces import save_picture

NASTY = (
    "</script><script>alert(1)</script>",
    '<img src=x onerror="alert(2)"> & "quotes" \'too\'',
    "{{ 7 * 7 }} {% for x in y %} &lt;b&gt; ]]> -->",
    "a\x1b[31m red\tdog\u202e gnisrever\x7f \u2028 end",
    "wörter 狗 🐶 </title></style><!-- ",
)
IMAGES = 12


def make_nasty(root: Path) -> Workspace:
    """`IMAGES` images of five captions in test; the first has a picture, and an id that is markup."""
    workspace = Workspace(root)
    records = []
    for number in range(IMAGES):
        name = f'<b onclick="alert(3)">{number}</b>' if number < 2 else f"image {number}.jpg"
        captions = tuple(Caption(f"{name}#{k}", f"{text} {number}") for k, text in enumerate(NASTY))
        file = str(save_picture(root / "images" / f"{number}.png", colour=20 * number).relative_to(root))
        records.append(ImageRecord(name, "test", captions, file=file if number == 0 else None, labels=("dog",)))
    write_dataset(workspace.dataset_path, records, kind="made", settings={})
    return workspace


def scores_of(seed: int, images: int = IMAGES, captions: int = 5) -> np.ndarray:
    """(images, captions of all) float32, better for what belongs together, with some ties."""
    random = np.random.default_rng(seed)
    own = np.repeat(np.arange(images), captions) == np.arange(images)[:, None]
    return np.round(random.normal(size=own.shape) + 1.5 * own, 1).astype(np.float32)


def write_scores(workspace: Workspace, path: Path, matrix: np.ndarray) -> Path:
    images = workspace.dataset().split("test")
    captions = [caption.id for image in images for caption in image.captions]
    save_scores(path, InMemory(matrix), [image.id for image in images], captions, "made")
    return path
