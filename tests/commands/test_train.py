from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from itmkit.commands import cli
from itmkit.commands.console import run
from itmkit.commands.train import command, in_units, read_settings
from itmkit.errors import ItmkitError
from itmkit.training.step import Learner
from tests.training.tiny import make_workspace

SMALL = ["--embed", "8", "--word", "6", "--epochs=1", "--batch-size", "8", "--minimum-count", "1"]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_workspace(tmp_path_factory.mktemp("train")).root


@pytest.fixture
def root(template: Path, tmp_path: Path) -> Path:
    shutil.copytree(template, tmp_path / "work")
    return tmp_path / "work"


def test_settings_on_the_command_line() -> None:
    assert read_settings(["--kgid-layers", "0", "--seed=1", "--margin", "-1", "--recipe_x", "a=b"]) == {
        "kgid_layers": "0",
        "seed": "1",
        "margin": "-1",
        "recipe_x": "a=b",
    }
    with pytest.raises(ItmkitError) as error:
        read_settings(["word", "--srgr", "--seed", "1", "--last"])
    assert len(error.value.problems) == 3
    assert "--srgr: needs a value" in str(error.value) and "--last: needs a value" in str(error.value)


def test_trains_and_prints_the_best_epochs(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["-w", str(root), "--method", "vsepp", "--run", "first", *SMALL]
    assert run(command, arguments) == 0
    told = capsys.readouterr()
    assert "global" in told.out and "val rsum" in told.out and "epoch 1/1: val rsum global" in told.err
    config = (root / "runs" / "first" / "config.toml").read_text()
    assert "embed = 8" in config and "epochs = 1" in config and 'recipe = "small"' in config
    assert run(command, [*arguments, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["epochs"] == 1 and record["best"]["global"]["epoch"] == 1
    assert run(command, arguments) == 0
    assert "is finished; --force trains it anew" in capsys.readouterr().err
    assert run(command, [*arguments, "--force"]) == 0


def test_options_that_do_not_exist_are_told_at_once(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["-w", str(root), "--method", "mpsm", "--nonsense", "1", "--other", "2", "--embed", "0"]
    assert run(command, arguments) == 2
    told = capsys.readouterr().err
    assert "setting 'nonsense': mpsm has no such setting" in told
    assert "setting 'other': mpsm has no such setting" in told
    assert "setting 'embed' = '0'" in told and "3 problems" in told
    assert not (root / "runs").exists()


def test_settings_and_missing_caches_are_told_in_one_error(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """GLFN on regions without tags, without word vectors, with settings that are wrong beside."""
    assert run(command, ["-w", str(root), "--method", "glfn", "--alpha", "2", "--nonsense", "1"]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "setting 'alpha' = '2'" in told and "setting 'nonsense': glfn has no such setting" in told
    assert "caches/words-NAME is missing: run `itmkit encode-text --model MODEL`" in told
    assert "caches/regions: its regions have no tags, which glfn reads" in told and "--tags false" in told
    assert "4 problems" in told and not (root / "runs").exists()
    # What the other settings make unnecessary is not asked for.
    assert run(command, ["-w", str(root), "--method", "glfn", "--tags", "false", "--words", "gru", "--embed", "0"]) == 2
    told = capsys.readouterr().err
    assert "setting 'embed' = '0'" in told and "problems" not in told and "tags" not in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--method", "scam"], "--method 'scam': no such method; there are mpsm, "),
        ([], "--method"),
        (["--method", "vsepp", "--recipe", "huge"], "--recipe 'huge': vsepp has no such recipe"),
        (["--method", "vsepp", "--run", "../other"], "one folder name"),
        (["--method", "vsepp", "--kgid-layers", "1"], "vsepp has no such setting"),
    ],
)
def test_what_is_refused(arguments: list[str], told: str, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command, ["-w", str(root), *arguments]) == 2
    assert told in " ".join(capsys.readouterr().err.split())


def test_a_stale_cache_names_the_command_to_run(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(root / "caches" / "text")
    assert run(command, ["-w", str(root), "--method", "vsepp", *SMALL]) == 2
    assert "caches/text is missing: run `itmkit parse-text`" in capsys.readouterr().err


def test_an_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command, ["-w", str(tmp_path), "--method", "vsepp"]) == 2
    assert "run `itmkit prepare`" in capsys.readouterr().err


def test_a_dry_run_estimates_and_writes_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["-w", str(root), "--method", "vsepp", "--dry-run", *SMALL]
    assert run(command, arguments) == 0
    told = capsys.readouterr().out
    assert "parameters of a score" not in told  # all of them learn
    for expected in ("trained parameters", "steps an epoch", "pairs/s", "1 epoch", "peak of memory", "GB"):
        assert expected in told
    assert run(command, [*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] > 0
    assert not (root / "runs").exists()


def test_a_dry_run_of_several_processes(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run(command, ["-w", str(root), "--method", "vsepp", "--dry-run", *SMALL]) == 2
    assert "run it without torchrun" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (42, "42 s"),
        (59.7, "1 min"),
        (200, "3 min 20 s"),
        (3599.8, "1 h"),
        (18600, "5 h 10 min"),
        (86400, "1 d"),
        (183600, "2 d 3 h"),
    ],
)
def test_times_as_people_say_them(seconds: float, said: str) -> None:
    assert in_units(seconds) == said


def test_a_stopped_run_is_continued_by_its_name_as_status_says(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Learner.step

    def step(*args: Any, **keywords: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return real(*args, **keywords)

    arguments = ["train", "-w", str(root), "--method", "vsepp", "--run", "my run", *SMALL, "--seed", "3"]
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", step)
        assert run(cli, arguments) == 143
    told = capsys.readouterr().err
    assert told.count("\n") == 2 and told.startswith("only 3 steps in all (1 x 3, epochs x steps an epoch)")
    assert f"stopped by SIGTERM; {root}/runs/my run is saved at epoch 1, step 1. Run the same command to" in told
    assert run(cli, ["status", "-w", str(root)]) == 0
    said = capsys.readouterr().out.partition("next: ")[2].strip()
    assert said == f"itmkit train --run 'my run' -w {root}"
    assert run(cli, shlex.split(said)[1:]) == 0
    told_now = capsys.readouterr()
    assert "continuing" in told_now.err and ", chance 3" in told_now.err and "(chance: rsum 3" in told_now.out
    assert run(cli, [*shlex.split(said)[1:], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["chance_rsum"] > 300
    assert "seed = 3" in (root / "runs" / "my run" / "config.toml").read_text()
    assert run(cli, ["train", "-w", str(root), "--run", "my run", "--embed", "4"]) == 2
    assert "setting embed was 8, is 4 now" in capsys.readouterr().err
    assert run(cli, ["train", "-w", str(root), "--run", "other"]) == 2
    assert "--run other: there is no such run to continue. --method NAME says" in capsys.readouterr().err
    assert run(cli, ["train", "-w", str(root), "--run", "my run", "--recipe", "paper"]) == 2


def test_numbers_beyond_all_use_are_wrong_settings(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = {"--seed": "99999999999999999999", "--embed": "99999999999", "--word": "1" + "0" * 30, "--epochs": "9" * 20}
    wrong |= {"--batch-size": "9" * 19, "--accumulate": "9" * 9, "--length-buckets": "9" * 19}
    options = [word for pair in wrong.items() for word in pair]
    assert run(command, ["-w", str(root), "--method", "vsepp", *options]) == 2
    told = capsys.readouterr().err
    assert all(f"setting {name[2:].replace('-', '_')!r} = " in told for name in wrong) and "7 problems" in told
    assert run(command, ["-w", str(root), "--method", "vsepp", "--seed", "-1"]) == 2
    assert "setting 'seed' = '-1'" in capsys.readouterr().err and not (root / "runs").exists()
