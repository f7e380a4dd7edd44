from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from itmkit.commands.parse_text import command
from itmkit.errors import ItmkitError
from itmkit.parse_text import conllu_backend
from itmkit.parse_text.conllu_backend import ConlluBackend
from itmkit.parse_text.parse import parse_text
from itmkit.parse_text.parsed import Coded, ParsedTexts
from itmkit.parse_text.penn import universal
from itmkit.parse_text.spelling import spelled, spelled_with_places
from itmkit.parse_text.store import TextCache
from itmkit.workspace import Workspace

MakeWorkspace = Callable[..., Workspace]

# As CoreNLP 3.9 writes `A dog (brown) runs. It's "big".` and `The men don't run.`: no comments, no universal parts of
# speech, Penn's quotes and brackets (newer ones write brackets as they are).
CORENLP = """\
1\tA\ta\t_\tDT\t_\t2\tdet\t_\t_
2\tdog\tdog\t_\tNN\t_\t6\tnsubj\t_\t_
3\t-LRB-\t-lrb-\t_\t-LRB-\t_\t4\tpunct\t_\tSpaceAfter=No
4\tbrown\tbrown\t_\tJJ\t_\t2\tdep\t_\tSpaceAfter=No
5\t-RRB-\t-rrb-\t_\t-RRB-\t_\t4\tpunct\t_\t_
6\truns\trun\t_\tVBZ\t_\t0\troot\t_\tSpaceAfter=No
7\t.\t.\t_\t.\t_\t6\tpunct\t_\t_

1\tIt\tit\t_\tPRP\t_\t4\tnsubj\t_\tSpaceAfter=No
2\t's\tbe\t_\tVBZ\t_\t4\tcop\t_\t_
3\t``\t``\t_\t``\t_\t4\tpunct\t_\tSpaceAfter=No
4\tbig\t_\t_\tJJ\t_\t0\troot\t_\tSpaceAfter=No
5\t''\t''\t_\t''\t_\t4\tpunct\t_\tSpaceAfter=No
6\t.\t.\t_\t.\t_\t4\tpunct\t_\t_

1\tThe\tthe\t_\tDT\t_\t2\tdet\t_\t_
2\tmen\tman\t_\tNNS\t_\t5\tnsubj\t_\t_
3-4\tdon't\t_\t_\t_\t_\t_\t_\t_\t_
3\tdo\tdo\t_\tVBP\t_\t5\taux\t_\t_
4\tn't\tnot\t_\tRB\t_\t5\tneg\t_\t_
5\trun\trun\t_\tVB\t_\t0\troot\t_\tSpaceAfter=No
6\t.\t.\t_\t.\t_\t5\tpunct\t_\t_

"""
FIRST, SECOND = 'A dog (brown)  runs. It\'s "big".', "The men don't run."


def strings(column: Coded) -> list[str]:
    return [column.strings[i] for i in column.codes]


def sentence(*words: str) -> str:
    lines = [f"{i + 1}\t{word}\t_\tX\t_\t_\t{i}\t{'dep' if i else 'root'}\t_\t_" for i, word in enumerate(words)]
    return "\n".join(lines) + "\n\n"


def parse(tmp_path: Path, content: str, texts: Sequence[str]) -> ParsedTexts:
    path = tmp_path / "trees.conllu"
    path.write_text(content, encoding="utf-8")
    return ConlluBackend(path, texts).parse(texts, 8)


def test_what_corenlp_writes(tmp_path: Path) -> None:
    parsed = parse(tmp_path, CORENLP, [SECOND, FIRST])  # in any order
    assert parsed.lengths.tolist() == [6, 13]
    words = strings(parsed.words)
    assert words[:6] == ["The", "men", "do", "n't", "run", "."]
    assert words[6:] == ["A", "dog", "(", "brown", ")", "runs", ".", "It", "'s", '"', "big", '"', "."]
    texts = [SECOND] * 6 + [FIRST] * 13
    assert words == [text[a:b] for text, a, b in zip(texts, parsed.starts, parsed.ends, strict=True)]
    assert parsed.heads.tolist() == [1, 4, 4, 4, 4, 4, 1, 5, 3, 1, 3, 5, 5, 10, 10, 10, 10, 10, 10]
    assert parsed.sentences.tolist() == [0] * 13 + [1] * 6
    assert strings(parsed.pos)[:6] == ["DET", "NOUN", "AUX", "PART", "VERB", "PUNCT"]
    assert strings(parsed.pos)[7:10] == ["NOUN", "PUNCT", "ADJ"] and strings(parsed.pos)[14] == "AUX"
    assert strings(parsed.lemmas)[8] == "(" and strings(parsed.lemmas)[16] == "big"
    assert strings(parsed.relations)[4] == "root"


def test_the_stage_with_files_of_a_folder(make_workspace: MakeWorkspace, tmp_path: Path) -> None:
    workspace = make_workspace([FIRST, SECOND], [SECOND, "a cat", "a  cat"])
    folder = tmp_path / "trees"
    folder.mkdir()
    (folder / "1.conllu").write_text(CORENLP)
    (folder / "2.conllu.gz").write_bytes(gzip.compress(sentence("a", "cat").encode()))
    options = ["-w", str(workspace.root), "--parser", "conllu", "--model", str(folder), "--shard-size", "2", "--json"]
    done = CliRunner().invoke(command, options)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["model"]["id"] == "trees"
    cache = TextCache.open(workspace.cache("text"))
    arrays = cache.load_texts(["a  cat"])
    assert (arrays.starts.tolist(), arrays.ends.tolist()) == ([0, 3], [1, 6])
    (folder / "2.conllu.gz").write_bytes(gzip.compress(sentence("a", "cat").encode() * 2))
    with pytest.raises(ItmkitError, match="sha256"):
        parse_text(workspace, parser="conllu", model=str(folder))


def test_words_of_a_token_that_are_no_pieces_of_it(tmp_path: Path) -> None:
    content = (
        "# text = wanna go\n1-2\twanna\t_\t_\t_\t_\t_\t_\t_\t_\n1\twant\twant\tVERB\t_\t_\t0\troot\t_\t_\n"
        "2\tto\tto\tPART\t_\t_\t3\tmark\t_\t_\n3\tgo\tgo\tVERB\t_\t_\t1\txcomp\t_\t_\n\n"
    )
    parsed = parse(tmp_path, content, ["wanna go"])
    assert strings(parsed.words) == ["want", "to", "go"]
    assert list(zip(parsed.starts.tolist(), parsed.ends.tolist(), strict=True)) == [(0, 5), (0, 5), (6, 8)]


def test_a_caption_that_begins_another_one(tmp_path: Path) -> None:
    content = sentence("A", "dog", ".") + sentence("It", "runs", ".")
    texts = ["It runs.", "A dog. It runs.", "A dog.", " ", "A dog.It runs ."]
    assert parse(tmp_path, content, texts).lengths.tolist() == [3, 6, 3, 0, 6]


def test_the_full_stop_that_corenlp_writes_twice(tmp_path: Path) -> None:
    content = sentence("in", "the", "U.K.", ".") + sentence("It", "runs", ".")
    texts = ["in the U.K. It runs.", "in the U.K. . It runs.", "in the U.K."]
    parsed = parse(tmp_path, content, texts)
    assert parsed.lengths.tolist() == [7, 7, 4]
    assert strings(parsed.words)[:7] == ["in", "the", "U.K.", ".", "It", "runs", "."]
    assert parsed.starts.tolist()[2:5] == [7, 10, 12] and parsed.ends.tolist()[2:5] == [11, 11, 14]
    assert parsed.starts.tolist()[9:11] == [7, 12] and parsed.ends.tolist()[-1] == 11


def test_captions_do_not_run_from_one_file_into_the_next(tmp_path: Path) -> None:
    (tmp_path / "a.conllu").write_text(sentence("A", "dog", "."))
    (tmp_path / "b.conllu").write_text(sentence("It", "runs", "."))
    with pytest.raises(ItmkitError, match="1 of 1 captions"):
        ConlluBackend(tmp_path, ["A dog. It runs."]).parse(["A dog. It runs."], 8)


def test_long_captions_take_time_that_grows_with_their_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = 0
    narrowed = conllu_backend._Captions._narrowed

    def counted(self: conllu_backend._Captions, *args: object) -> tuple[int, int, int]:
        nonlocal tries
        tries += 1
        return narrowed(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(conllu_backend._Captions, "_narrowed", counted)
    text = "a . " * 2000
    assert parse(tmp_path, sentence("a", ".") * 2000, [text]).sentences.tolist()[-1] == 1999
    assert tries < 2000 * (conllu_backend.LONG_RUN + 3)


def test_missing_captions_are_counted_and_five_are_named(tmp_path: Path) -> None:
    texts = [f"dog {n}" for n in range(9)]
    with pytest.raises(ItmkitError, match=r"trees.conllu.*8 of 9 captions") as caught:
        parse(tmp_path, sentence("dog", "3"), texts)
    assert "dog 5" in str(caught.value) and "dog 6" not in str(caught.value) and "and 3 more" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1\ta\n", "line 1: 2 columns"),
        ("1\ta\ta\tX\t_\t_\t_\tdep\t_\t_\n\n", "head '_'"),
        ("1-x\tab\t_\t_\t_\t_\t_\t_\t_\t_\n1\ta\ta\tX\t_\t_\t0\troot\t_\t_\n", "'1-x' is no range"),
        ("1-2\tab\t_\t_\t_\t_\t_\t_\t_\t_\n1\ta\ta\tX\t_\t_\t0\troot\t_\t_\n", "fewer words"),
        ("1\t\u00a0\t_\tX\t_\t_\t0\troot\t_\t_\n", "white space"),
    ],
)
def test_malformed_files(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(ItmkitError, match=message) as caught:
        parse(tmp_path, content, ["a"])
    assert "trees.conllu" in str(caught.value)


def test_missing_files(tmp_path: Path, make_workspace: MakeWorkspace) -> None:
    with pytest.raises(ItmkitError, match="no such file"):
        ConlluBackend(tmp_path / "none.conllu", [])
    with pytest.raises(ItmkitError, match=r"no file in this folder ends in \.conllu"):
        ConlluBackend(tmp_path, [])
    with pytest.raises(ItmkitError, match="needs --model"):
        parse_text(make_workspace(["a"]), parser="conllu")


@given(st.text())
def test_each_character_of_a_spelling_has_its_place(text: str) -> None:
    spelling, starts, ends = spelled_with_places(text)
    assert spelling == spelled(text) and len(starts) == len(ends) == len(spelling)
    assert not any(character.isspace() for character in spelling)
    assert "".join(spelled(text[a:b]) for a, b in sorted(set(zip(starts, ends, strict=True)))) == spelling


@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1), min_size=1))
def test_any_words_are_found_and_placed(words: list[str]) -> None:
    trees = conllu_backend._Trees()
    text = "  ".join(words)
    if spelled("".join(words)) != spelled(text):  # an escape made of several words
        return
    for tree in one_word_each(words):
        trees.add(tree, Path("words"))
    captions = conllu_backend._Captions(trees, [text])
    captions.look(0, len(trees))
    found, starts, ends = trees.place(text, captions.run(text))
    assert found == words == [text[a:b] for a, b in zip(starts, ends, strict=True)]


def one_word_each(words: list[str]) -> list[conllu_backend.Tree]:
    return [conllu_backend.Tree([word], ["_"], ["_"], [0], ["root"]) for word in words]


@pytest.mark.parametrize(
    ("tag", "relation", "lemma", "pos"),
    [
        ("VBZ", "aux:pass", "be", "AUX"),
        ("VBZ", "root", "be", "VERB"),
        ("IN", "case", "in", "ADP"),
        ("IN", "mark", "that", "SCONJ"),
        ("TO", "mark", "to", "PART"),
        ("DT", "nsubj", "this", "PRON"),
        ("DT", "det", "this", "DET"),
        ("RB", "advmod", "not", "PART"),
        ("NNPS", "nmod", "Alps", "PROPN"),
        ("-LRB-", "punct", "-lrb-", "PUNCT"),
        ("?", "dep", "?", "_"),
    ],
)
def test_universal_parts_of_speech(tag: str, relation: str, lemma: str, pos: str) -> None:
    assert universal(tag, relation, lemma) == pos
