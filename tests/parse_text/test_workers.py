from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

import itmkit
from itmkit.errors import ItmkitError
from itmkit.job import Job
from itmkit.parse_text import workers
from itmkit.parse_text.parse import parse_text
from itmkit.parse_text.shipped import ShippedBackend
from itmkit.workspace import Workspace

MakeWorkspace = Callable[..., Workspace]
CAPTIONS = [f"a dog with {n} cats runs . The man's red cat {'very ' * (n % 9)}" for n in range(60)]
PIECES = ["a", "dog", "with", "cat", "##s", "run", ".", "the", "man", "'", "s", "red", "very"]
ROOT = Path(itmkit.__file__).parents[1]


def shards(workspace: Workspace) -> dict[str, bytes]:
    folder = workspace.cache("text-wordpiece")
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name[0] != "."}


def children() -> list[int]:
    """Processes that parse for this one."""
    listed = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(os.getpid())], capture_output=True, text=True)
    return [int(line.split()[0]) for line in listed.stdout.splitlines() if "itmkit.parse_text.workers" in line]


@pytest.fixture
def light(tmp_path: Path) -> tuple[str, str]:
    """A parser whose children start without torch, for what does not depend on the trees; it finds no caption."""
    (tmp_path / "no-trees.conllu").touch()
    return "conllu", str(tmp_path / "no-trees.conllu")


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("itmkit.parse_text.parse.CHUNK_CHARACTERS", 300)


def test_an_interrupted_run_leaves_no_child_and_any_number_of_workers_gives_the_same_bytes(
    make_workspace: MakeWorkspace, small_chunks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One run by this process; another begun by two children and, after an interruption, ended by this process.

    The pieces of BERT need no torch, so that the children start soon. What a child does with a network is tried below.
    """
    workspace = make_workspace(CAPTIONS, ["👍🏽", "a cat"])
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *PIECES]) + "\n")
    monkeypatch.chdir(tmp_path)  # children find a relative path too

    def parsed(workers: int) -> int:
        return parse_text(
            workspace, parser="wordpiece", model="vocab.txt", job=Job(shard_size=25, workers=workers)
        ).parsed

    parsed(1)
    alone = shards(workspace)
    shutil.rmtree(workspace.cache("text-wordpiece"))
    append, calls = itmkit.parse_text.parse.append, 0

    def interrupted(*args: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 8:
            assert len(children()) == 2
            raise KeyboardInterrupt
        append(*args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr("itmkit.parse_text.parse.append", interrupted)
        with pytest.raises(KeyboardInterrupt):
            parsed(2)
    assert not children()
    assert 0 < parsed(1) < 62
    assert shards(workspace) == alone
    assert parsed(2) == 0


def test_a_child_that_dies_is_one_error(light: tuple[str, str]) -> None:
    def texts() -> Iterator[Sequence[str]]:
        for n in range(100):
            if n == 10:
                os.kill(children()[0], signal.SIGKILL)
            yield []

    with (
        pytest.raises(ItmkitError, match=r"ended \(SIGKILL\).*--workers"),
        workers.parsing_by(2, *light, 8) as parse,
    ):
        assert len(list(parse(texts()))) < 100
    assert not children()


def test_errors_of_a_child_are_told_here(tmp_path: Path) -> None:
    with (
        pytest.raises(ItmkitError, match="nowhere"),
        workers.parsing_by(1, "conllu", str(tmp_path / "nowhere.conllu"), 8) as parse,
    ):
        list(parse([["a"], ["b"]]))


def test_few_results_wait(light: tuple[str, str]) -> None:
    given = 0

    def texts() -> Iterator[Sequence[str]]:
        nonlocal given
        for _ in range(100):
            given += 1
            yield []

    with workers.parsing_by(2, *light, 8) as parse:
        results = parse(texts())
        for taken in range(1, 20):
            next(results)
            assert given - taken <= 2 * workers.AHEAD


def test_children_end_with_a_killed_parent(light: tuple[str, str], tmp_path: Path) -> None:
    script = tmp_path / "parent.py"  # without a guard around what it runs, as scripts of users are
    script.write_text(
        "import sys, time\nfrom itmkit.parse_text.workers import parsing_by\n"
        f"with parsing_by(2, *{light!r}, 8) as parse:\n"
        "    results = parse([[]] * 50)\n    next(results)\n    print('begun', flush=True)\n"
        "    time.sleep(600)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, env=environment)
    assert parent.stdout is not None and parent.stdout.readline() == b"begun\n"
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent.pid)], capture_output=True, text=True, check=True)
    pids = [int(pid) for pid in listed.stdout.split()]
    assert len(pids) == 2
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until = time.monotonic() + 30
    while any(running(pid) for pid in pids) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(running(pid) for pid in pids)


def running(pid: int) -> bool:
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return bool(done.stdout.strip()) and not done.stdout.strip().startswith("Z")


def test_few_captions_are_parsed_here() -> None:
    assert workers.count(None, workers.FEW - 1) == 1 and workers.count(3, 1) == 3
    assert 1 <= workers.count(None, workers.FEW) <= workers.MOST


def test_torch_has_its_threads_back(untrained: Path) -> None:
    import torch

    before = torch.get_num_threads()
    with workers.parsing_here(ShippedBackend(untrained), 8) as parse:
        assert torch.get_num_threads() == 1
        assert [p.lengths.tolist() for p in parse([["a dog"], []])] == [[2], []]
    assert torch.get_num_threads() == before


def test_parsed_captions_come_over_the_pipe_as_they_are(untrained: Path) -> None:
    texts = ["a dog runs", "", "Zoë 👍 \ud800"]
    here = ShippedBackend(untrained).parse(texts, 8)
    request = {"parser": "itmkit", "model": str(untrained), "batch_size": 8, "folder": str(Path.cwd())}
    answers = BytesIO()
    workers._serve(BytesIO(b"".join(json.dumps(line).encode() + b"\n" for line in (request, texts))), answers)
    there = workers._received(BytesIO(answers.getvalue()))
    assert there.words.strings == here.words.strings and there.lemmas.strings == here.lemmas.strings
    for name in ("lengths", "heads", "starts", "ends", "sentences"):
        mine, theirs = getattr(here, name), getattr(there, name)
        assert mine.dtype == theirs.dtype and np.array_equal(mine, theirs)
