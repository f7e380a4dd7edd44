"""How much of the time of an extraction its model computes: with workers, and in a plain loop that decodes in line.

    python tests/benchmarks/extraction.py --model MODEL [--pictures 200] [--side 640]

MODEL is the folder of any vision model (MobileNetV2, ...). The pictures are JPEG files of random blobs, made for
the run. "busy" is the share of the time, from the first picture to the last row on disk, in which the model's
network runs. Both ways in one run, over the same pictures.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from itmkit.dataset import Caption, ImageRecord, write_dataset
from itmkit.job import Job
from itmkit.pictures.load import load_image
from itmkit.regions import extract, grid
from itmkit.regions.choose import load
from itmkit.regions.colours import region_colours
from itmkit.workspace import Workspace

REGIONS = 36


def prepare(folder: Path, count: int, side: int) -> Workspace:
    workspace, records = Workspace(folder), []
    (folder / "images").mkdir(parents=True)
    for number in range(count):
        rng = np.random.default_rng(number)
        small = rng.integers(0, 256, (side // 8, side // 6, 3), np.uint8)
        path = folder / "images" / f"{number}.jpg"
        Image.fromarray(small).resize((side, side * 3 // 4), Image.Resampling.BICUBIC).save(path, quality=90)
        records.append(ImageRecord(str(number), "train", (Caption(f"{number}#0", "a thing"),), str(path)))
    write_dataset(workspace.dataset_path, records, kind="pairs", settings={})
    return workspace


class Clock:
    """Adds up the time within the model: its body (`feature_map`) and its head (`_classify`)."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*args)
            finally:
                self.seconds += time.perf_counter() - began

        return run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--side", type=int, default=640)
    parser.add_argument("--workers", type=int)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        workspace = prepare(folder / "work", args.pictures, args.side)
        clock = Clock()
        grid.feature_map = clock.timed(grid.feature_map)
        grid.Grid._classify = clock.timed(grid.Grid._classify)  # type: ignore[method-assign]
        result = extract.extract_regions(
            workspace, backend="grid", model=args.model, job=Job(device="cpu", workers=args.workers, shard_size=100)
        )
        piped, piped_busy = result.seconds, clock.seconds
        choice = extract.choose(workspace, workspace.dataset(), backend=None, model=None, regions=None, size=None)
        backend = load(choice, device="cpu", download=False)
        clock.seconds, began = 0.0, time.perf_counter()
        for record in workspace.dataset().images:
            image = load_image(workspace.image_path(record.file or ""))
            (found,) = backend.detect([backend.prepare(image)], regions=REGIONS, labels=None, batch=1)
            region_colours(image, found.boxes)
        plain, plain_busy = time.perf_counter() - began, clock.seconds
        print(f"{args.pictures} pictures of {args.side} x {args.side * 3 // 4}")
        for name, seconds, busy in (("extract", piped, piped_busy), ("plain loop", plain, plain_busy)):
            print(f"{name:11} {args.pictures / seconds:6.1f} pictures/s, model busy {busy / seconds:6.1%}")
        print(f"{'ratio':11} {plain / piped:6.2f}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
