"""Files of a run that changed after they were written are noticed; kills between two writes are no damage."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.numpy import load_file, save_file

from itmkit.errors import ItmkitError
from itmkit.inspection.what import inspect
from itmkit.runs.facts import RunFacts
from itmkit.runs.open import open_run
from itmkit.runs.records import records
from itmkit.runs.settings import RunConfig, resolve
from itmkit.training import epochs as loop
from itmkit.training.train import train
from itmkit.workspace import Workspace
from tests.training.tiny import FAST, FAST_TRAINING, make_workspace

CPU = torch.device("cpu")


def configured(**settings: object) -> RunConfig:
    return resolve("scan", settings={**FAST["scan"], **FAST_TRAINING, "epochs": 2, "checkpoint_steps": 2} | settings)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finished runs of other seeds and vocabularies, and one that was killed in its second epoch."""
    workspace = make_workspace(tmp_path_factory.mktemp("digests") / "work")
    train(workspace, configured(), run="one")
    train(workspace, configured(seed=1, epochs=1), run="two")
    train(workspace, configured(minimum_count=7, epochs=1), run="three")
    with pytest.MonkeyPatch.context() as patch:
        real, calls = loop.save_state, []

        def killed(*args: object) -> None:
            real(*args)  # type: ignore[arg-type]
            calls.append(1)
            if len(calls) == 3:  # epoch 1, and a state within epoch 2
                raise KeyboardInterrupt

        patch.setattr(loop, "save_state", killed)
        with pytest.raises(KeyboardInterrupt):
            train(workspace, configured(), run="killed")
    return workspace.root


@pytest.fixture
def workspace(trained: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(trained, tmp_path / "work")
    return Workspace(tmp_path / "work")


def zeroed(path: Path) -> None:
    """One number of one tensor, the header as it was."""
    data = bytearray(path.read_bytes())
    data[-4:] = bytes(4) if data[-4:] != bytes(4) else b"\x00\x00\x80\x3f"
    path.write_bytes(data)


def replaced(path: Path, was: str, now: str) -> None:
    text = path.read_text()
    assert was in text
    path.write_text(text.replace(was, now, 1))


def test_a_change_of_any_file_is_noticed(workspace: Workspace) -> None:
    run = workspace.run("one")
    open_run(workspace, "one", device=CPU)
    assert dict(inspect(run, verify=True).facts)["verified"] == "5 files, all as written"
    for name, change in (
        ("vocabulary.json", lambda path: replaced(path, '"dog"', '"dig"')),
        ("config.toml", lambda path: replaced(path, "margin = 0.2", "margin = 0.3")),
        ("best-t2i.safetensors", zeroed),
        ("best-i2t.safetensors", lambda path: replaced_bytes(path, b'\\"epoch\\": ', b'\\"epocj\\": ')),
    ):
        whole = (run / name).read_bytes()
        change(run / name)
        with pytest.raises(ItmkitError, match=rf"{name}: its content is not what (training wrote|was written)"):
            open_run(workspace, "one", device=CPU)
        assert any(name in problem for problem in inspect(run, verify=True).problems)
        (run / name).write_bytes(whole)
    open_run(workspace, "one", device=CPU)


def replaced_bytes(path: Path, was: bytes, now: bytes) -> None:
    data = path.read_bytes()
    assert was in data
    path.write_bytes(data.replace(was, now, 1))


@pytest.mark.parametrize(
    ("target", "source", "told"),
    [
        ("best-t2i.safetensors", "../two/best-t2i.safetensors", "these weights are those of another run"),
        ("best-t2i.safetensors", "best-i2t.safetensors", "these weights are those of the member 'i2t'"),
        ("vocabulary.json", "../three/vocabulary.json", "its content is not what training wrote"),
        ("config.toml", "../two/config.toml", "its content is not what training wrote"),
    ],
)
def test_files_of_another_run(workspace: Workspace, target: str, source: str, told: str) -> None:
    run = workspace.run("one")
    shutil.copy(run / source, run / target)
    with pytest.raises(ItmkitError, match=rf"{target}: {told}"):
        open_run(workspace, "one", device=CPU)


def test_lines_of_metrics(workspace: Workspace) -> None:
    run = workspace.run("one")
    path = run / "metrics.jsonl"
    whole = path.read_text()
    lines = whole.splitlines(keepends=True)
    assert [number for number, _ in records(run)] == [1, 2]
    for text in (
        lines[1],
        lines[0],
        whole.replace('"rsum": ', '"rsum": 1', 1),
        lines[0] + lines[1][:-9],
        lines[0] + "x\n",
    ):
        path.write_text(text)
        with pytest.raises(ItmkitError, match=r"metrics\.jsonl: "):
            records(run)
    path.write_text(whole + '{"epoch": 3, "neg')  # of a kill
    assert [number for number, _ in records(run)] == [1, 2]


def test_a_damaged_state_is_not_continued(workspace: Workspace) -> None:
    run = workspace.run("killed")
    state = run / "last" / "state.safetensors"
    whole, lines = state.read_bytes(), (run / "metrics.jsonl").read_text()
    zeroed(state)
    with pytest.raises(ItmkitError, match="its content is not what was written"):
        train(workspace, configured(), run="killed")
    tensors = load_file(state)
    for tensor in (name for name in ("adam/0/exp_avg", next(iter(tensors))) if name in tensors):
        save_file({**tensors, tensor: tensors[tensor][..., :1]}, state, {"itmkit": "{}"})  # of an older version
        with pytest.raises(ItmkitError, match=r"state\.safetensors: "):
            train(workspace, configured(), run="killed")
    state.write_bytes(whole)
    (run / "metrics.jsonl").write_text(lines.replace('"rsum": ', '"rsum": 1', 1))
    with pytest.raises(ItmkitError, match="its lines are not what training wrote"):
        train(workspace, configured(), run="killed")
    (run / "metrics.jsonl").write_text(lines)
    assert train(workspace, configured(), run="killed").epochs == 2
    for member in ("t2i", "i2t"):
        name = f"best-{member}.safetensors"
        assert (run / name).read_bytes() == (workspace.run("one") / name).read_bytes()


@pytest.mark.parametrize("at", ["save_weights", "append", "save_state"])
def test_a_kill_between_weights_and_run_json(workspace: Workspace, at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights of an epoch that run.json does not know are evaluated, and the run goes on to the same end."""
    real = getattr(loop, at)

    def killed(*args: object) -> None:
        real(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, at, killed)
        with pytest.raises(KeyboardInterrupt):
            train(workspace, configured(), run="killed")
    assert RunFacts.read(workspace.run("killed")).epochs_done == 1
    assert open_run(workspace, "killed", device=CPU).members.keys() == {"t2i", "i2t"}
    assert records(workspace.run("killed"))[0][1]["epoch"] == 1
    train(workspace, configured(), run="killed")
    open_run(workspace, "killed", device=CPU)
    for name in ("best-t2i.safetensors", "best-i2t.safetensors"):
        assert (workspace.run("killed") / name).read_bytes() == (workspace.run("one") / name).read_bytes()


def test_a_run_of_an_older_version_is_opened_unchecked(workspace: Workspace) -> None:
    run = workspace.run("one")
    facts = json.loads((run / "run.json").read_text())
    del facts["id"], facts["files"]
    (run / "run.json").write_text(json.dumps(facts))
    for member in ("t2i", "i2t"):
        path = run / f"best-{member}.safetensors"
        save_file(load_file(path), path, {"itmkit": json.dumps({"member": member})})
    open_run(workspace, "one", device=CPU)
    assert len(records(run)) == 2 and train(workspace, configured(), run="one").did_nothing
    assert dict(inspect(run, verify=True).facts)["verified"].startswith("nothing")
