"""Peak memory of training on 1,000 and on 20,000 images.

    python -m tests.benchmarks.training_memory [--method mpsm] [--images 1000 20000] [--workers 0] [--folder DIR]

Random features of 36 regions, five captions an image (`tests.benchmarks.synthetic`; 20,000 images take 1.5 GB on
disk), a small model, one whole epoch with its validation. Each size trains in a process of its own. Exits with 1
where the larger one needs over 100 MB more.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from itmkit.runs.settings import resolve
from itmkit.training.train import train
from itmkit.workspace import Workspace
from tests.benchmarks.synthetic import synthetic_workspace

FEATURE, LIMIT_MB = 512, 100
# Captions that have nothing to do with their images: what is learnt from them is that all pairs are alike.
SETTINGS = {"embed": 16, "word": 16, "epochs": 1, "captions_per_image": 5, "validation_images": 50, "minimum_count": 1}
SETTINGS |= {"stop_on_collapse": False}


def learn(folder: Path, method: str, workers: int) -> None:
    began = time.perf_counter()
    similarity = {"similarity": 8} if method in ("mpsm", "sgraf") else {}
    train(Workspace(folder), resolve(method, settings={**SETTINGS, **similarity, "workers": workers}), device="cpu")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    below = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000
    also = f", a worker {below:,.0f} MB" if workers else ""
    print(f"{peak:.0f} peak in MB{also}, {time.perf_counter() - began:.0f} s")


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--method", default="mpsm")
    options.add_argument("--images", type=int, nargs="+", default=[1000, 20_000])
    options.add_argument("--workers", type=int, default=0)
    options.add_argument("--folder", type=Path, help="where the caches go (a temporary folder)")
    options.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    args = options.parse_args()
    if args.one:
        learn(args.one, args.method, args.workers)
        return 0
    peaks = []
    for images in args.images:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            workspace = synthetic_workspace(Path(folder) / "work", train=images, feature=FEATURE)
            given = ["--one", str(workspace.root), "--method", args.method, "--workers", str(args.workers)]
            command = [sys.executable, "-m", "tests.benchmarks.training_memory", *given]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            shutil.rmtree(workspace.root)
        print(f"{args.method}, {images:,} images: {done.stdout.strip()}", flush=True)
        peaks.append(float(done.stdout.split()[0]))
    return 1 if max(peaks) - min(peaks) > LIMIT_MB else 0


if __name__ == "__main__":
    sys.exit(main())
