"""Peak memory of the stages that move region features, for 500 and for 5,000 pictures x 36 x 2048.

    python tests/benchmarks/memory.py [--folder DIR]        (about 4 GB on disk, a few minutes)

Each stage runs in a process of its own. extract: `extract_regions` over JPEG files with a stand-in for the model that
gives random features at once. import: `import_scan` of float32 files. graphs: `build_graphs`. read: batches of 128
random rows, as training reads them. train: `parse_text`, `build_graphs` and an epoch of MPSM (D 16) on what extract
made. Exits with 1 where a peak grows by more than 200 MB.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

STAGES = ("extract", "import", "graphs", "read", "train")
COUNTS = (500, 5000)
REGIONS, DIM = 36, 2048
LIMIT_MB = 200


class Backend:
    """Random features at once."""

    sha256, dim, names, square = "none", DIM, ["thing"], None
    attribute_names = None

    def prepare(self, image: Any) -> Any:
        from itmkit.regions.regions import ModelInput

        return ModelInput(None, image.size)

    def detect(self, prepared: Any, *, regions: int, labels: Any, batch: int) -> list[Any]:
        from itmkit.regions.regions import Regions

        rng = np.random.default_rng(0)
        found = []
        for one in prepared:
            boxes = np.tile(np.array([0, 0, *one.size], np.float32), (regions, 1))
            features = rng.standard_normal((regions, DIM), np.float32)
            found.append(Regions(boxes, np.ones(regions, np.float32), features, ["thing"] * regions))
        return found


def prepare(folder: Path, count: int) -> None:
    """A data set of small JPEG files, and the same number of pictures in the SCAN layout."""
    from PIL import Image

    from itmkit.dataset import Caption, ImageRecord, write_dataset
    from itmkit.workspace import Workspace

    (folder / "images").mkdir(parents=True)
    Image.new("RGB", (64, 48), (200, 30, 30)).save(folder / "images" / "one.jpg")
    records = []
    for i in range(count):
        (folder / "images" / f"{i}.jpg").hardlink_to(folder / "images" / "one.jpg")
        caption = (Caption(f"{i}#0", "a dog"),)
        file = str(folder / "images" / f"{i}.jpg")
        split = "val" if i < 50 else "train"
        records.append(ImageRecord(str(i), split, caption, file, width=64, height=48))
    write_dataset(Workspace(folder / "extract").dataset_path, records, kind="pairs", settings={})
    scan = folder / "scan"
    scan.mkdir()
    shape = (count, REGIONS, DIM)
    with open(scan / "train_ims.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})  # type: ignore[no-untyped-call]
        for i in range(count):
            file.write(np.random.default_rng(i).standard_normal((REGIONS, DIM), np.float32).tobytes())
    np.save(scan / "train_boxes.npy", np.tile(np.array([0, 0, 64, 48], np.float32), (count, REGIONS, 1)))
    np.save(scan / "train_sizes.npy", np.tile([64, 48], (count, 1)))
    (scan / "train_tags.json").write_text(json.dumps([["red dog"] * REGIONS] * count))
    (scan / "train_caps.txt").write_text("a dog\n" * (5 * count))
    (scan / "train_ids.txt").write_text("".join(f"{i}\n" for i in range(count)))


def stage(name: str, folder: Path) -> None:
    """Runs one stage and prints the peak of this process in MB."""
    from itmkit.workspace import Workspace

    imported = Workspace(folder / "import")
    if name == "extract":
        from itmkit.regions import choose, extract

        extract.load = lambda choice, *, device, download: Backend()  # type: ignore[assignment]
        choose._settings_digest = lambda choice, backend: "none"
        from itmkit.job import Job

        extract.extract_regions(Workspace(folder / "extract"), backend="grid", model="none", job=Job(device="cpu"))
    elif name == "import":
        from itmkit.import_features.scan import import_scan

        import_scan(imported, folder / "scan")
    elif name == "graphs":
        from itmkit.graphs import build_graphs

        build_graphs(imported, parts=["images"])
    elif name == "train":
        from itmkit.graphs import build_graphs
        from itmkit.parse_text.parse import parse_text
        from itmkit.runs.settings import resolve
        from itmkit.training.train import train

        made = Workspace(folder / "extract")
        parse_text(made)
        build_graphs(made)
        small = {"embed": 16, "word": 16, "similarity": 8, "epochs": 1, "batch_size": 128, "minimum_count": 1}
        train(made, resolve("mpsm", settings={**small, "stop_on_collapse": False}))
    else:
        from itmkit.cache import CacheReader

        reader = CacheReader.open(imported.cache("regions"))
        order = np.random.default_rng(0).permutation(len(reader))
        for start in range(0, len(order), 128):
            reader.read("features", order[start : start + 128]).astype(np.float32)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(peak / 1024 if sys.platform != "darwin" else peak / 1024**2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where the files go (a temporary folder)")
    parser.add_argument("--stage", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.stage:
        stage(args.stage[0], Path(args.stage[1]))
        return 0
    folder = Path(tempfile.mkdtemp(dir=args.folder))
    peaks: dict[str, list[float]] = {name: [] for name in STAGES}
    try:
        for count in COUNTS:
            prepare(folder / str(count), count)
            for name in STAGES:
                command = [sys.executable, __file__, "--stage", name, str(folder / str(count))]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                peaks[name].append(float(done.stdout))
            shutil.rmtree(folder / str(count))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{'peak memory':12} {COUNTS[0]:>6} pictures {COUNTS[1]:>6} pictures   growth")
    for name, (small, large) in peaks.items():
        print(f"{name:12} {small:12.0f} MB {large:12.0f} MB {large - small:6.0f} MB")
    return int(any(large - small > LIMIT_MB for small, large in peaks.values()))


if __name__ == "__main__":
    sys.exit(main())
