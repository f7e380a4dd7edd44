from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import click
import pytest

import itmkit
from itmkit.commands import COMMANDS, HEADINGS, cli
from itmkit.commands.console import in_words, run
from itmkit.errors import ItmkitError, nearest

HEAVY = ("torch", "transformers", "spacy", "scipy", "matplotlib")


def all_commands() -> Iterator[tuple[str, click.Command]]:
    """(name as typed, command) of every command and subcommand."""
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        yield name, command
        for inner in getattr(command, "commands", {}).values():
            yield f"{name} {inner.name}", inner


HELPS = """
import sys
from click.shell_completion import ShellComplete
from itmkit.commands import COMMANDS, HEADINGS, cli
from itmkit.commands.console import run

def help_of(*names):
    assert run(cli, [*names, "--help"]) == 0
    heavy = HEAVY if names else (*HEAVY, "numpy", "h5py")
    assert not [name for name in heavy if name in sys.modules], names

help_of()
for name in COMMANDS:
    help_of(name)
complete = ShellComplete(cli, {}, "itmkit", "_ITMKIT_COMPLETE")
for words in ("train --method", "compare --methods", "evaluate --run", "evaluate --split", "methods"):
    complete.get_completions(words.split(), "")
    assert not [name for name in HEAVY if name in sys.modules], words
import itmkit.inspection.child, itmkit.pictures.decode  # processes of their own, begun for one file or a few
assert not [name for name in HEAVY if name in sys.modules]
"""


def test_help_and_completion_import_nothing_heavy() -> None:
    """All in one process: a heavy module shows at the first command that imports it."""
    done = subprocess.run(
        [sys.executable, "-c", f"HEAVY = {HEAVY!r}\n{HELPS}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Usage:") == 1 + len(COMMANDS)


def test_help_lists_every_command_once_under_a_heading(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["--help"]) == 0
    told = capsys.readouterr().out
    listed = [line.split()[0] for line in told.partition("Data:")[2].splitlines() if line.startswith("  ")]
    assert sorted(name for name in listed if name in COMMANDS) == sorted(COMMANDS)
    assert all(f"\n{heading}:\n" in told for heading in HEADINGS) and "Other commands" not in told
    for module, _ in COMMANDS.values():
        assert find_spec(f"itmkit.commands.{module}") is not None


def test_every_help_fits_80_columns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for name in ["", *(name for name, _ in all_commands())]:
        assert run(cli, [*name.split(), "--help"]) == 0
        wide = [line for line in capsys.readouterr().out.splitlines() if len(line) > 80]
        assert not wide, (name, wide)


def test_every_help_has_an_example_and_explains_every_option() -> None:
    for name, command in all_commands():
        text = command.help or ""
        assert "Example" in text and f"itmkit {name.split()[0]}" in text, name
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.help, f"{name} {option.name}"


def test_every_command_has_a_page() -> None:
    docs = Path(itmkit.__file__).parent.parent / "docs"
    if not docs.is_dir():
        pytest.skip("installed without its docs")
    pages = "".join(page.read_text(encoding="utf-8") for page in docs.glob("*.md"))
    for name in COMMANDS:
        assert f"itmkit {name}" in pages, name


def test_links_between_pages_lead_somewhere() -> None:
    root = Path(itmkit.__file__).parent.parent
    if not (root / "docs").is_dir():
        pytest.skip("installed without its docs")
    for page in (root / "README.md", *(root / "docs").glob("*.md")):
        for target in page.read_text(encoding="utf-8").split("](")[1:]:
            link = target.partition(")")[0].partition("#")[0]
            if link and "://" not in link:
                assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["--version"]) == 0
    assert itmkit.__version__ in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [["no-such-command"], ["status", "--no-such-option"], ["prepare", "karpathy"], ["status", "-w", __file__]],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, arguments) == 2
    told = capsys.readouterr()
    assert told.out == "" and "Error" in told.err


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e300", "0"])
@pytest.mark.parametrize("option", [["evaluate", "--memory"], ["extract-regions", "--timeout"]])
def test_an_amount_is_a_finite_number(option: list[str], number: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, [*option, number]) == 2
    assert f"Invalid value for '{option[1]}': " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "close"),
    [
        (["statsu"], "'status'"),
        (["prepare", "karpaty"], "'karpathy'"),
        (["status", "--workspce", "x"], "'--workspace'"),
        (["evaluate", "--slit", "test"], "'--split'"),
    ],
)
def test_a_word_written_wrong_brings_the_right_one(
    arguments: list[str], close: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(cli, arguments) == 2
    told = capsys.readouterr().err
    assert "id you mean" in told and close in told


def test_the_nearest_name() -> None:
    assert nearest("MSPM", ["scan", "mpsm", "vsepp"]) == "; did you mean 'mpsm'?"
    assert nearest("something else", ["scan"]) == ""
    assert nearest("x", []) == ""


@click.command()
@click.argument("kind")
def failing(kind: str) -> None:
    if kind == "problems":
        raise ItmkitError([f"problem {number} [red]" for number in range(60)])
    if kind == "interrupt":
        raise KeyboardInterrupt
    if kind == "hdf5":
        raise OSError("Unable to write (file write failed: time = x, filename = 'a.h5', errno = 28, error message = y)")
    raise OSError(getattr(errno, kind), os.strerror(getattr(errno, kind)), "some/file")


@pytest.mark.parametrize(
    ("kind", "code", "words"),
    [
        ("ENOSPC", 2, "some/file: the disk is full; free space and run the same command again, it continues"),
        ("EACCES", 2, "some/file: no permission"),
        ("EROFS", 2, "some/file: the file system is read-only"),
        ("EISDIR", 2, "some/file: Is a directory"),
        ("hdf5", 2, "the disk is full"),
        ("interrupt", 130, "interrupted; run the same command again to continue"),
        ("problems", 2, "60 problems, 10 more not shown"),
    ],
)
def test_failures_in_words(kind: str, code: int, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(failing, [kind]) == code
    told = capsys.readouterr()
    assert words in told.err and "Traceback" not in told.err and told.out == ""
    if kind == "problems":
        assert "problem 49 [red]" in told.err and "problem 50" not in told.err


def test_an_error_without_a_number_keeps_its_text() -> None:
    assert in_words(OSError("something odd")) == "something odd"


def test_no_write_permission_is_one_clear_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.workspaces import save_picture

    if not Path("/sys/kernel").is_dir():
        pytest.skip("needs a folder in which nobody may write")
    (tmp_path / "t.csv").write_text("image,caption\na.png,A\n")
    save_picture(tmp_path / "a.png")
    assert run(cli, ["prepare", "csv", str(tmp_path / "t.csv"), "--split", "val", "-w", "/sys/kernel/itmkit"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: /sys/kernel/itmkit: ") and ("no permission" in told or "read-only" in told)


def test_a_full_disk_is_one_clear_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A limit on the size of files stands in for the full disk: the same write fails half way."""
    from tests.workspaces import largest_file, make_dataset

    make_dataset(tmp_path, count=30)
    before = (tmp_path / "dataset.jsonl").read_bytes()
    lines = "".join(f"images/{n % 30}.png,{'long caption ' * 50}\n" for n in range(300))
    (tmp_path / "t.csv").write_text("image,caption\n" + lines)
    arguments = ["prepare", "csv", str(tmp_path / "t.csv"), "-w", str(tmp_path), "--force"]
    with largest_file(50_000):
        assert run(cli, arguments) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and "Traceback" not in printed
    assert (tmp_path / "dataset.jsonl").read_bytes() == before
    assert not list(tmp_path.glob(".*.partial"))


WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
WATCHED = """
import os, sys
from importlib.abc import MetaPathFinder

class Watch(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print("torch finds", os.environ.get("OMP_WAIT_POLICY"), flush=True)
            os._exit(0)  # all that is asked; loading torch would take seconds

sys.meta_path.insert(0, Watch())
"""


@pytest.mark.parametrize(
    ("beside", "own", "found"),
    [
        (True, {}, "passive"),
        (False, {}, "None"),
        (True, {"OMP_WAIT_POLICY": "active"}, "active"),
        (True, {"GOMP_SPINCOUNT": "5"}, "None"),
    ],
)
def test_beside_other_programs_waiting_threads_sleep(beside: bool, own: dict[str, str], found: str) -> None:
    """It is settled before torch is loaded, and what the user has set stays as it is."""
    environment = {name: value for name, value in os.environ.items() if name not in (*WAITING, *own)} | own
    code = WATCHED + "sys.argv = ['itmkit', 'methods', 'mpsm']\nimport itmkit.commands\n"
    code += f"itmkit.commands._others_compute = lambda: {beside}\nitmkit.commands.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"torch finds {found}\n"
