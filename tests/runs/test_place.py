"""A new run takes the place of an old one: killed at any moment, one of the two is whole."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from itmkit.machine.lock import Locked
from itmkit.runs import place
from itmkit.runs.place import MOVING, NEW, Place, evaluating, finish_replacing, is_replacing, place_of

OLD = (
    "run.json",
    "config.toml",
    "best-old.safetensors",
    "eval-test.json",
    "last/state.safetensors",
    "scores-val.h5",
    "scores-test/0/local/manifest.json",  # of an evaluation that was stopped
    "notes.txt",
)
FRESH = ("run.json", "config.toml", "best-new.safetensors", "last/state.safetensors", "tensorboard/events")


def write(folder: Path, names: tuple[str, ...], text: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("fails_at", range(13))
def test_killed_between_one_of_the_two_is_whole(fails_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, OLD, "old")
    write(tmp_path / NEW, FRESH, "new")
    calls = 0
    with monkeypatch.context() as patch:
        for name in ("unlink", "rename", "replace"):
            real: Any = getattr(Path, name)

            def killed(self: Path, *args: Any, _real: Any = real, **keywords: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls > fails_at:
                    raise KeyboardInterrupt
                return _real(self, *args, **keywords)

            patch.setattr(Path, name, killed)
        try:
            finish_replacing(tmp_path)
        except KeyboardInterrupt:
            assert is_replacing(tmp_path)
            kept = contents(tmp_path)
            if kept.get("run.json") == "old":
                assert all(kept[name] == "old" for name in OLD)
    finish_replacing(tmp_path)
    assert contents(tmp_path) == {**dict.fromkeys(FRESH, "new"), "notes.txt": "old"}
    assert not (tmp_path / NEW).exists() and not (tmp_path / MOVING).exists()


def test_a_new_run_without_a_state_leaves_the_old_one(tmp_path: Path) -> None:
    write(tmp_path, OLD, "old")
    with pytest.raises(ZeroDivisionError), place_of(tmp_path, force=True) as (where, _):
        where.beside()
        write(where.now, ("config.toml",), "new")
        raise ZeroDivisionError
    write(tmp_path / NEW, ("config.toml",), "new")  # as a kill leaves it
    with place_of(tmp_path, force=False) as (where, _):
        assert where.now == tmp_path
    shutil.rmtree(tmp_path / NEW, ignore_errors=True)
    assert {name: text for name, text in contents(tmp_path).items() if not name.startswith(".lock")} == dict.fromkeys(
        OLD, "old"
    )


def test_a_run_is_trained_by_one_and_not_replaced_while_it_is_evaluated(tmp_path: Path) -> None:
    write(tmp_path, OLD, "old")
    with place_of(tmp_path, force=True) as (where, _):
        with pytest.raises(Locked, match="another process trains this run"), place_of(tmp_path, force=False):
            pass
        with (
            evaluating(tmp_path),
            evaluating(tmp_path),
            pytest.raises(Locked, match="another process evaluates this run, which --force would replace"),
        ):
            where.beside()
        where.beside()
        with pytest.raises(Locked, match="another process trains this run anew"), evaluating(tmp_path):
            pass
        write(where.now, FRESH, "new")
        assert where.settle() and not where.settle()
        with evaluating(tmp_path):
            assert (place.RunFacts.exist(tmp_path), where.now) == (True, tmp_path)


def test_a_run_that_was_not_there_has_nothing_to_settle(tmp_path: Path) -> None:
    assert not Place(tmp_path).settle()
