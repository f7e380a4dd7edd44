"""What is printed: text of others as it is, shown and never obeyed; tables that fit; errors as JSON."""

from __future__ import annotations

import io
import json
import os
import re
from pathlib import Path

import pytest

from itmkit.commands import cli, console
from itmkit.commands.console import run, styled, table
from itmkit.commands.visible import visible
from tests.workspaces import make_dataset, make_graphs, make_regions, make_run, make_text

ODD = "dual[a] :smile: [/b] \x1b[31mred\x07 \x9b2J \x1b]8;;http://x\x1b\\ two\nlines\r \u202eleft \udcff"
SHOWN = r"dual[a] :smile: [/b] \x1b[31mred\x07 \x9b2J \x1b]8;;http://x\x1b\ two\nlines\r \u202eleft \udcff"


def terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    """Standard output counts as a terminal of so many columns."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines of standard output, without styles."""
    return re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()


def test_every_way_of_printing_shows_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    console.out.print(ODD)
    console.out.print(ODD, markup=True, emoji=True)
    console.out.print(styled((ODD, "bold")))
    table(ODD, [ODD, "b"], [[ODD, console.Text("a\x1b", "red")]], right=["b"])
    console.skipped_pictures(Path("caches [final]"), [{"id": ODD, "reason": ODD}])
    told = capsys.readouterr().out
    assert told.count(SHOWN) == 3 + 3 + 2 and "/manifest.json" in told and "caches [final]" in told
    console.ConsoleProgress().note(ODD)
    assert capsys.readouterr().err == SHOWN + "\n"
    console.out.print(console.Text("a\x1b[2Jb"))  # made without `styled`
    assert capsys.readouterr().out == "a\\x1b[2Jb\n"


def test_what_is_shown_and_what_is_kept() -> None:
    plain = "Ünïcödé 犬 \u200d🙂 שלום %s {x} \\"
    assert visible(plain) == plain
    assert visible("a\tb\n", keep="\n") == "a\\tb\n"


def test_json_keeps_what_it_means(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_json({ODD: [ODD, "é"]})
    told = capsys.readouterr().out
    assert json.loads(told) == {ODD: [ODD, "é"]}
    assert not set(told) & set("\x1b\x07\x9b\u202e\udcff") and "é" in told


def test_folders_and_runs_with_brackets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As markup, [/b] ended in a traceback after the work, and [a] was not shown."""
    root = tmp_path / "photos [final] [" / "b] c, a name that is longer than most terminals are wide, and then some"
    workspace = make_dataset(root)
    make_regions(workspace)
    make_text(workspace)
    make_graphs(workspace)
    make_run(workspace, "dual[a]")
    make_run(workspace, "it's; rm \x1b[2J", finished=False)
    assert run(cli, ["merge", "-w", str(root)]) == 0
    assert capsys.readouterr().out == f"{root}/caches: no cache lies in parts; nothing to merge\n"
    assert run(cli, ["status", "-w", str(root)]) == 0
    told = capsys.readouterr().out
    assert "run dual[a]" in told and "\x1b" not in told
    assert r"""next: itmkit train --run 'it'"'"'s; rm \x1b[2J' -w '""" + str(root) in told


def test_few_characters_are_no_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """PYTHONIOENCODING=ascii, or LANG=C where Python does not choose UTF-8 by itself."""
    ways: list[list[str]] = [["status"], ["status", "--json"], ["--help"], ["inspect", "no-such-é"]]
    for way in ways:
        stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
        monkeypatch.setattr("sys.stdout", stream)
        code = run(cli, [*way, *(["-w", str(tmp_path / "é犬")] if way[0] == "status" else [])])
        stream.flush()
        told = stream.buffer.getvalue().decode("ascii")  # type: ignore[attr-defined]
        if way[-1] == "--json":
            assert json.loads(told)[0]["path"] == str(tmp_path / "é犬" / "dataset.jsonl")
        assert code == (2 if way[0] == "inspect" else 0)


def test_a_relative_workspace_is_the_same_place_later(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_dataset(tmp_path / "work")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ITMKIT_WORKSPACE", "work")
    for way in (["status", "--json"], ["status", "--json", "-w", "other/../work"], ["inspect", "--json"]):
        assert run(cli, way) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found if way[0] == "inspect" else found[0])["path"].startswith(str(tmp_path / "work"))


@pytest.mark.parametrize("way", [["status"], ["status", "--json"], ["--help"]])
def test_the_reader_may_go_away(way: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`itmkit status | head`: a pipe that nobody reads."""
    reads, writes = os.pipe()
    os.close(reads)
    with open(writes, "w", encoding="utf-8") as stream:
        monkeypatch.setattr("sys.stdout", stream)
        monkeypatch.setattr("sys.__stdout__", stream)
        assert run(cli, [*way, *(["-w", str(tmp_path)] if way[0] == "status" else [])]) == 0


@pytest.mark.parametrize(
    ("way", "words"),
    [
        (["status", "--no-such-option"], "--no-such-option"),
        (["no-such-command"], "no-such-command"),
        (["prepare", "karpathy"], "Missing argument"),
        (["inspect", "no \x1b[31msuch"], "no such file or folder"),
    ],
)
def test_an_error_is_json_where_json_is_asked_for(
    way: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(cli, [*way, "--json"]) == 2
    told = capsys.readouterr()
    error = json.loads(told.out)["error"]
    assert error["exit_code"] == 2 and len(error["problems"]) == 1 and words in error["problems"][0]
    assert words in told.err and "\x1b" not in told.err


def test_what_a_check_finds_stands_in_the_one_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = make_dataset(tmp_path)
    shard = next(make_regions(workspace).glob("*.h5"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    assert run(cli, ["inspect", str(workspace.cache("regions")), "--verify", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["problems"]


FIGURES = ["i2t R@1", "i2t R@5", "t2i R@10", "rsum", "core min", "seed by seed"]
INTERVAL = "+433.3 (-366.7 to +500.0)"
SEEDS = " ".join(f"+{seed}.5" for seed in range(30))
NAME = "compare-vsepp+words=gru-seed"


@pytest.mark.parametrize("columns", [80, 100, 200, None])
def test_no_figure_of_a_table_is_cut(
    columns: int | None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [[NAME + str(seed), "ensemble of 2", *[INTERVAL] * 5, SEEDS] for seed in range(2)]
    if columns is not None:
        terminal(monkeypatch, columns)
    table("a title", ["run", "kind", *FIGURES], rows, right=FIGURES)
    told = lines(capsys)
    printed = "\n".join(told)
    assert printed.count(INTERVAL) == 10 and "…" not in printed and printed.count("ensemble of 2") % 2 == 0
    assert all(printed.count(f"+{seed}.5 ") == 2 for seed in range(30))
    if columns is None:
        assert [line.startswith("│") for line in told].count(True) == 2  # a line a row, however long
    else:
        assert all(len(line) <= columns for line in told)
    assert printed.count(NAME + "1") == printed.count("┃ run ")  # a block says whose figures it shows


def test_words_fold_between_words_and_paths_do_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal(monkeypatch, 60)
    path = Path("/somewhere") / ("my photos " * 5) / "with a long name.svg"
    words = "a sentence that says what is drawn there, in rather many words"
    table(None, ["plot", "of", "series", "file"], [["cmc", words, 3, path]])
    told = lines(capsys)
    assert any(str(path) in line for line in told)
    assert [word for line in told[:8] for word in words.split() if word in line.split()] == words.split()


def test_lines_are_never_folded(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for columns in (None, 40):
        if columns:
            terminal(monkeypatch, columns)
        console.out.print("/a path/" * 30)
        console.out.print(styled(("/a path/" * 30, "bold")))
        assert lines(capsys) == ["/a path/" * 30] * 2


@pytest.mark.parametrize("arguments", [[], ["prepare"], ["import-features"]])
def test_without_a_command_the_help_is_no_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    run(cli, arguments)
    told = capsys.readouterr()  # of older versions of click on standard output
    assert (told.out + told.err).startswith("Usage: ") and "Error" not in told.out + told.err
    assert "Try '" not in told.out + told.err
