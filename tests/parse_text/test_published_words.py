"""The words of published code: what NLTK 3.10's `word_tokenize` gave for these captions in lower case."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from itmkit.commands import cli
from itmkit.commands.console import run
from itmkit.parse_text.published_words import published_words, spans
from itmkit.parse_text.store import TextCache
from itmkit.workspace import Workspace
from tests.workspaces import make_dataset

# Each is a caption, a tab, and its words as NLTK cut them, with spaces between.
BY_NLTK = """\
A man's dog can't "run" fast.	a man 's dog ca n't `` run '' fast .
Two dogs. They run (fast)!	two dogs . they run ( fast ) !
A man in the U.S. army. He salutes.	a man in the u.s. army . he salutes .
Mr. Smith and Dr. Jones at 3 p.m. on St. Mary street.	mr. smith and dr. jones at 3 p.m. on st. mary street .
He says "stop." She goes.	he says `` stop . '' she goes .
Wait... what? A dog, a cat; a bird: 3,000 birds.	wait ... what ? a dog , a cat ; a bird : 3,000 birds .
I'm gonna cannot wanna go 'tis we'll they've he'd	i 'm gon na can not wan na go ' tis we 'll they 've he 'd
'Hello', said the 'old' man-eater -- a T-shirt & $5	' hello ' , said the ' old ' man-eater -- a t-shirt & $ 5
“Curly” quotes — dashes	“ curly ” quotes — dashes
number 3. a dog and b. a cat	number 3. a dog and b. a cat
a truck filled with cotton .	a truck filled with cotton .
don't. it runs. 42. it ends..	do n't . it runs . 42. it ends ..
"""


@pytest.mark.parametrize("line", BY_NLTK.splitlines())
def test_words_are_those_of_nltk(line: str) -> None:
    caption, words = line.split("\t")
    assert published_words(caption) == ["<start>", *words.split(), "<end>"]


def test_letters_beyond_ascii_stay_large() -> None:
    assert published_words(" École ") == ["<start>", "École", "<end>"]
    assert published_words("") == ["<start>", "<end>"]


def test_places_of_words() -> None:
    caption = 'A "dog" runs. "Go"'
    words = published_words(caption)
    found = [caption[start:end] for start, end in spans(caption, words)]
    assert found == ["", "A", '"', "dog", '"', "runs", ".", '"', "Go", '"', ""]


def test_a_cache_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    work = str(make_dataset(tmp_path).root)
    assert run(cli, ["parse-text", "--parser", "itmkit", "-w", work]) == 0
    assert run(cli, ["parse-text", "--backend", "scan", "-w", work]) == 0
    text = TextCache.open(tmp_path / "caches" / "text-scan")
    words, offsets = text.column("words", text.rows(["two dogs run"]))
    assert [text.words[word] for word in words[: offsets[1]]] == ["<start>", "two", "dogs", "run", "<end>"]
    assert set(text.reader.columns) == {"words", "starts", "ends"}  # no trees
    workspace = Workspace(tmp_path)
    assert workspace.fingerprint("text") not in ("missing", workspace.fingerprint("text-scan"))
    capsys.readouterr()
    assert run(cli, ["status", "-w", work, "--json"]) in (0, 1)
    assert {"text", "text-scan"} <= {row["stage"] for row in json.loads(capsys.readouterr().out)}
    assert run(cli, ["parse-text", "--parser", "scan", "--model", "x", "-w", work]) == 2
    assert "the parser scan has no model" in capsys.readouterr().err
    assert run(cli, ["inspect", str(tmp_path / "caches" / "text-scan"), "--caption", "0"]) in (0, 2)
    assert "Traceback" not in capsys.readouterr().err
