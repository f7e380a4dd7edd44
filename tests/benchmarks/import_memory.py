"""Peak memory of the importers and of a shuffled read, for 2,000 and for 20,000 region sets of 36 x 2048.

    python tests/benchmarks/import_memory.py [--folder DIR] [--formats scan bottom-up npz] [--counts 2000 20000]

20,000 sets take 3 GB as a cache, 3 GB in the SCAN layout (float16) and 8 GB as TSV; the npz files are links to one
another, they take nothing. Each import and each read runs in a process of its own. Exits with 1 where a peak is beyond
600 MB.
"""

from __future__ import annotations

import argparse
import base64
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

FORMATS = ("scan", "bottom-up", "npz")
REGIONS, DIM, WIDTH, HEIGHT = 36, 2048, 640, 480
DISTINCT = 8  # features are drawn for so many pictures and repeated: drawing takes longer than writing
LIMIT_MB = 600


def drawn(number: int) -> tuple[np.ndarray, np.ndarray]:
    """(boxes, features) of a picture."""
    rng = np.random.default_rng(number)
    corners = rng.uniform(0, 1, (REGIONS, 2, 2)) * [WIDTH, HEIGHT]
    boxes = np.concatenate([corners.min(1), corners.max(1)], 1).astype(np.float32)
    return boxes, rng.standard_normal((REGIONS, DIM), np.float32)


def prepare(folder: Path, form: str, count: int) -> None:
    """The files to import, and the data set they belong to, in another order."""
    from itmkit.dataset import Caption, ImageRecord, write_dataset
    from itmkit.workspace import Workspace

    sets = [drawn(number) for number in range(DISTINCT)]
    source = folder / "source"
    source.mkdir(parents=True)
    if form == "scan":
        with open(source / "train_ims.npy", "wb") as file:
            head = {"descr": "<f2", "fortran_order": False, "shape": (count, REGIONS, DIM)}
            np.lib.format.write_array_header_1_0(file, head)  # type: ignore[no-untyped-call]
            rows = [features.astype("<f2").tobytes() for _, features in sets]
            for number in range(count):
                file.write(rows[number % DISTINCT])
        np.save(source / "train_boxes.npy", np.stack([sets[number % DISTINCT][0] for number in range(count)]))
        np.save(source / "train_sizes.npy", np.tile([WIDTH, HEIGHT], (count, 1)))
        (source / "train_caps.txt").write_text("a dog\n" * (5 * count))
        (source / "train_ids.txt").write_text("".join(f"{number}\n" for number in range(count)))
        return
    order = np.random.default_rng(0).permutation(count)
    records = [ImageRecord(str(number), "train", (Caption(f"{number}#0", "a dog"),)) for number in order]
    write_dataset(Workspace(folder / "work").dataset_path, records, kind="pairs", settings={})
    if form == "bottom-up":
        rests = [
            b"\t%d\t%d\t%d\t%s\t%s\n" % (WIDTH, HEIGHT, REGIONS, base64.b64encode(boxes), base64.b64encode(features))
            for boxes, features in sets
        ]
        with open(source / "all.tsv", "wb") as file:
            for number in range(count):
                file.write(b"%d" % number + rests[number % DISTINCT])
        return
    for number in range(count):
        path = source / f"{number}.npz"
        if number < DISTINCT:
            boxes, features = sets[number]
            np.savez(path, x=features, bbox=boxes, num_bbox=REGIONS, image_h=HEIGHT, image_w=WIDTH)
        else:
            path.hardlink_to(source / f"{number % DISTINCT}.npz")


def stage(folder: Path, form: str, what: str) -> None:
    """Imports, or reads everything shuffled; prints the peak of this process in MB."""
    from itmkit.workspace import Workspace

    work, source = Workspace(folder / "work"), folder / "source"
    if what == "read":
        from itmkit.cache import CacheReader

        reader = CacheReader.open(work.cache("regions"))
        order, total = np.random.default_rng(1).permutation(len(reader)), 0.0
        for start in range(0, len(order), 128):
            rows = order[start : start + 128]
            total += float(reader.read("features", rows).astype(np.float32)[0, 0, 0])
            reader.read("boxes", rows)
        assert np.isfinite(total)
    elif form == "scan":
        from itmkit.import_features.scan import import_scan

        import_scan(work, source)
    else:
        from itmkit.import_features.sets import import_bottom_up, import_npz

        result = import_bottom_up(work, [source / "all.tsv"]) if form == "bottom-up" else import_npz(work, source)
        assert not result.skipped
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(peak / 1024 if sys.platform != "darwin" else peak / 1024**2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where the files go (a temporary folder)")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS)
    parser.add_argument("--counts", nargs="+", type=int, default=(2000, 20_000))
    parser.add_argument("--stage", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.stage:
        stage(Path(args.stage[0]), *args.stage[1:])
        return 0
    over = 0
    print(f"{'format':10} {'pictures':>8} {'import':>9} {'':>8} {'read':>9}")
    for form in args.formats:
        for count in args.counts:
            folder = Path(tempfile.mkdtemp(dir=args.folder))
            try:
                prepare(folder, form, count)
                peaks, seconds = [], []
                for what in ("import", "read"):
                    start = time.perf_counter()
                    command = [sys.executable, __file__, "--stage", str(folder), form, what]
                    peaks.append(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
                    seconds.append(time.perf_counter() - start)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            told = "   ".join(f"{peak:6.0f} MB {second:5.0f} s" for peak, second in zip(peaks, seconds, strict=True))
            print(f"{form:10} {count:8} {told}", flush=True)
            over += sum(peak > LIMIT_MB for peak in peaks)
    return int(over > 0)


if __name__ == "__main__":
    sys.exit(main())
