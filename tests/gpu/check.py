"""Every command on a GPU: equal to the processor's results, how fast, and in how much memory. Takes a few minutes.

    python -m tests.gpu.check [--device cuda] [--out gpu.json] [--only commands,scoring,training,memory] [--tiny]

Without CUDA it says so and ends with 0. With results further apart than rounding explains it ends with 1. Models have
random weights; scoring is measured at the size of COCO's 5K test (5,000 images of 36 regions, 25,000 captions), as many
of its images as fit into the time. `--tiny` tries the script itself, on a processor too.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.synthetic import synthetic_workspace
from tests.gpu.pipeline import check_commands
from tests.gpu.rates import METHODS, memory_of_training, scoring_rates, training_rates

PARTS = ("commands", "scoring", "training", "memory")
FULL = {
    "scenes": 64,
    "train": 1280,
    "val": 5000,
    "feature": 2048,
    "embed": 1024,
    "batch": 128,
    "side": 8192,
    "limit": 20,
}
TINY = {"scenes": 8, "train": 12, "val": 3, "feature": 16, "embed": 16, "batch": 8, "side": 64, "limit": 0}


def check(
    folder: Path, device: str, *, sizes: dict[str, int], methods: Sequence[str], only: Sequence[str]
) -> dict[str, Any]:
    """One record of all that was found. A part that fails is told in it and does not stop the others."""
    name = torch.cuda.get_device_name() if device.startswith("cuda") else "processor"
    found: dict[str, Any] = {"device": name, "torch": torch.__version__, "sizes": sizes, "seconds": {}, "failed": {}}
    embed, batch = sizes["embed"], sizes["batch"]
    if set(only) - {"commands"}:
        began = time.perf_counter()
        shape = {key: sizes[key] for key in ("train", "val", "feature")}
        synthetic = synthetic_workspace(folder / "synthetic", **shape)
        found["seconds"]["synthetic"] = time.perf_counter() - began
    parts: dict[str, Callable[[], Any]] = {
        "commands": lambda: check_commands(folder / "commands", device, train=sizes["scenes"]),
        "scoring": lambda: scoring_rates(
            synthetic, device, methods, embed=embed, side=sizes["side"], limit=sizes["limit"]
        ),
        "training": lambda: training_rates(synthetic, device, methods, embed=embed, batch=batch),
        "memory": lambda: memory_of_training(synthetic, device, embed=embed, batch=batch),
    }  # fmt: skip
    for part in only:
        began = time.perf_counter()
        try:
            found[part] = parts[part]()
        except Exception as error:
            found["failed"][part] = f"{type(error).__name__}: {error}"
        found["seconds"][part] = time.perf_counter() - began
    apart = [row["what"] for row in found.get("commands", []) if not row["ok"]]
    return found | {"apart": apart, "ok": not apart and not found["failed"]}


def main(arguments: Sequence[str] | None = None) -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--device", default="cuda")
    options.add_argument("--out", type=Path, default=Path("gpu.json"))
    options.add_argument("--only", default=",".join(PARTS))
    options.add_argument("--tiny", action="store_true")
    args = options.parse_args(arguments)
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        print("there is no CUDA device here; nothing was checked")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        sizes, methods = (TINY, ("scan",)) if args.tiny else (FULL, METHODS)
        found = check(Path(folder), args.device, sizes=sizes, methods=methods, only=args.only.split(","))
    args.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))
    return 0 if found["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
