"""Peak memory of scoring COCO 5K, 5,000 images x 25,000 captions, with `--memory 2`.

    python tests/benchmarks/scoring_memory.py [--methods scan,mpsm,...] [--memory GB] [--images 32] [--folder DIR]

Random weights at paper size (D 1024), pictures of 36 regions of 2,048 numbers, captions of 6 to 18 words, made as they
are asked for. All captions are encoded; of the images `--images` are scored, since memory does not depend on how many
there are (beside 12.8 MB of scores for 128). Each method runs in a process of its own. Exits with 1 where one uses
more than it was given.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from itmkit.inputs import ImageBatch, Sizes, TextBatch
from itmkit.matchers import build, method, preset
from itmkit.scoring.engine import Scoring, score_to_disk

IMAGES, CAPTIONS, REGIONS, FEATURE, VOCABULARY, VECTOR = 5000, 25_000, 36, 2048, 10_000, 384
# One of each family; settings beside the paper's where those would need caches that nothing is gained from here.
METHODS = {
    "vsepp": {},
    "scan": {},
    "mpsm": {"similarities": "distance"},
    "sgraf": {"modules": "sgr"},
    "mefn": {"words": "gru", "embed": 1024},
    "cmfg": {"words": "gru", "images": "regions"},
}


class RandomInputs:
    """Stands in for `itmkit.inputs.Inputs`: batches that depend on the positions asked for alone."""

    def __init__(self) -> None:
        self.images = [SimpleNamespace(id=f"{number:06d}") for number in range(IMAGES)]
        self.lengths = np.random.default_rng(0).integers(6, 19, CAPTIONS)

    def image_batch(self, which: np.ndarray) -> ImageBatch:
        random = torch.Generator().manual_seed(int(which[0]))
        shape = (len(which), REGIONS, REGIONS)
        return ImageBatch(
            torch.rand(len(which), REGIONS, FEATURE, generator=random),
            torch.ones(len(which), REGIONS, dtype=torch.bool),
            torch.rand(shape, generator=random),
            torch.rand(shape, generator=random),
        )

    def text_batch(self, which: np.ndarray) -> TextBatch:
        random = torch.Generator().manual_seed(int(which[0]))
        lengths = torch.from_numpy(self.lengths[which])
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
        near = torch.arange(mask.shape[1])
        edges = ((near[:, None] - near).abs() <= 1) & mask[:, :, None] & mask[:, None, :]
        return TextBatch(torch.randint(3, VOCABULARY, mask.shape, generator=random) * mask, mask, edges)


def measure(name: str, memory: float, images: int, folder: Path) -> dict[str, float]:
    config = method(name).Config(**{**preset(name), **METHODS[name]})
    sizes = Sizes(feature=FEATURE, regions=REGIONS, vocabulary=VOCABULARY, word_vector=VECTOR)
    built = build(name, config, sizes=sizes, seed=0)
    member = next(iter(built))
    began = time.perf_counter()
    score_to_disk(
        {member: built[member]},
        RandomInputs(),  # type: ignore[arg-type]
        folder,
        made_from={},
        images=np.arange(images),
        texts=np.arange(CAPTIONS),
        scoring=Scoring("cpu", int(memory * 1e9), "float32"),
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {"peak": peak, "seconds": time.perf_counter() - began}


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--methods", default=",".join(METHODS))
    options.add_argument("--memory", type=float, default=2.0, help="GB")
    options.add_argument("--images", type=int, default=32)
    options.add_argument("--folder", type=Path, help="where scores and captions go (a temporary folder)")
    options.add_argument("--one", help=argparse.SUPPRESS)
    args = options.parse_args()
    if args.one:
        print(json.dumps(measure(args.one, args.memory, args.images, args.folder)))
        return 0
    over = False
    for name in args.methods.split(","):
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            given = ["--one", name, "--memory", str(args.memory), "--images", str(args.images), "--folder", folder]
            done = subprocess.run([sys.executable, __file__, *given], capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{name}: failed\n{done.stderr}")
            over = True
            continue
        found = json.loads(done.stdout)
        over |= found["peak"] > args.memory
        print(f"{name:8} peak {found['peak']:.2f} GB of {args.memory:g}, {found['seconds']:.0f} s", flush=True)
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
