"""The command: what it needs, and how it ends."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import threading
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

import itmkit
from itmkit.commands import cli
from itmkit.commands.console import run
from itmkit.dataset import Caption, write_dataset
from itmkit.index.build import build_index
from itmkit.workspace import Workspace


def test_it_serves_until_ctrl_c(trained: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("uvicorn")
    home = Workspace(shutil.copytree(trained.root, tmp_path / "work"))
    build_index(home, itmkit.open(home.run("dual")))
    first, *images = home.dataset().images
    changed = replace(first, captions=(Caption("new", "a new caption"),))
    write_dataset(home.dataset_path, [changed, *images], kind="scenes", settings={})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pages: list[str] = []

    def visit() -> None:
        for _ in range(200):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as page:
                    pages.append(page.read().decode())
                break
            except OSError:
                threading.Event().wait(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    visitor = threading.Thread(target=visit)
    visitor.start()
    code = run(cli, ["serve", "-w", str(home.root), "--port", str(port)])
    visitor.join()
    told = capsys.readouterr()
    assert code == 0 and len(pages) == 1 and "run <bdi>dual</bdi>" in pages[0]
    assert f"14 images, run dual: http://127.0.0.1:{port}/" in told.out
    note = "the data set has changed since the index was made; `itmkit index --add` brings it up"
    assert told.err == f"{note}\nended\n"


def test_what_is_lacking_is_named(
    trained: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        for arguments, words in (
            (["-w", str(tmp_path), "--port", "0"], "there is no index; run `itmkit index"),
            (["-w", str(tmp_path), "--port", port], f"--port {port}: cannot listen there (Address already in use)"),
            (["-w", str(tmp_path), "--host", "no.such.host.invalid"], "cannot listen there"),
            (["-w", str(tmp_path), "--model-of", "bert"], "--model-of bert: is written CACHE=FOLDER"),
        ):
            assert run(cli, ["serve", *arguments]) == 2
            told = capsys.readouterr().err
            assert words in told and "Traceback" not in told
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert run(cli, ["serve", "-w", str(tmp_path)]) == 2
    assert "pip install 'itmkit[serve]'" in capsys.readouterr().err
