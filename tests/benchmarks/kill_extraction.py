"""kill -9 at random moments of an extraction, then a rerun: the cache must equal an undisturbed run's, byte for byte.

    python tests/benchmarks/kill_extraction.py [--kills 10] [--seed 0]

Small scenes, the shipped detector, shards of eight pictures. Each attempt is a process of its own, killed after a
random time; one that comes to its end before that is compared, and the next begins anew.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

PICTURES, SHARD = 80, 4


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    import torch

    from itmkit.datasets.scenes.make import make_scenes
    from itmkit.regions import detector, extract
    from itmkit.workspace import Workspace

    torch.set_num_threads(1)  # also lets a child go on with torch after a fork
    moments = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as temporary:
        source = Workspace(Path(temporary) / "whole")
        make_scenes(source, train=PICTURES - 16, val=8, test=8, seed=1)
        model = Path(temporary) / "model"
        shutil.copytree(detector.SCENES_DETECTOR, model)

        def attempt(work: Workspace, after: float | None) -> tuple[bool, float]:
            """Runs the stage in a child; (whether it came to its end, seconds)."""
            start = time.perf_counter()
            child = os.fork()
            if child == 0:
                try:
                    extract.extract_regions(work, model=str(model), shard_size=SHARD, device="cpu", threads=1)
                    os._exit(0)
                except BaseException as error:
                    print(repr(error), file=sys.stderr)
                    os._exit(1)
            if after is not None:
                time.sleep(after)
                os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
            if os.WIFEXITED(status) and os.WEXITSTATUS(status):
                raise SystemExit(f"an attempt failed with exit code {os.WEXITSTATUS(status)}")
            return os.WIFEXITED(status), time.perf_counter() - start

        _, seconds = attempt(source, None)
        killed = Workspace(Path(temporary) / "killed")
        killed.root.mkdir()
        for path in source.root.iterdir():
            if path.name != "caches":
                (killed.root / path.name).symlink_to(path)
        kills, rounds, different = 0, 0, set[str]()
        while kills < args.kills:
            ended, _ = attempt(killed, moments.uniform(0, seconds / 2))
            kills += not ended
            shards = len(list(killed.cache("regions").glob("shard*")))
            print(f"{'it had ended' if ended else f'kill {kills}'}, {shards} shards", flush=True)
            if ended or kills == args.kills:
                attempt(killed, None)
                different |= compare(source.cache("regions"), killed.cache("regions"))
                shutil.rmtree(killed.cache("regions"))
                rounds += 1
    result = f"different: {', '.join(sorted(different))}" if different else "every file byte-identical"
    print(f"{kills} kills, {rounds} finished caches, a run takes {seconds:.1f} s: {result}")
    return int(bool(different))


def compare(first: Path, second: Path) -> set[str]:
    """Names of the files in which two folders differ."""
    a, b = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in (first, second))
    return {name for name in a.keys() | b.keys() if a.get(name) != b.get(name)}


if __name__ == "__main__":
    sys.exit(main())
