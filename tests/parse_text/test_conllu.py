from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from itmkit.errors import ItmkitError
from itmkit.parse_text import lemmas
from itmkit.parse_text.conllu import format_conllu, parse_conllu, read_conllu, tree_from_rows

SAMPLE = """\
# sent_id = s1
# text = Dogs don't bark.
1\tDogs\tdog\tNOUN\tNNS\t_\t4\tnsubj\t_\t_
2-3\tdon't\t_\t_\t_\t_\t_\t_\t_\t_
2\tdo\tdo\tAUX\t_\t_\t4\taux\t_\t_
3\tn't\tnot\tPART\t_\t_\t4\tadvmod\t_\t_
4\tbark\tbark\tVERB\t_\t_\t0\troot\t_\tSpaceAfter=No
4.1\tempty\t_\t_\t_\t_\t_\t_\t_\t_
5\t.\t.\tPUNCT\t.\t_\t4\tpunct\t_\t_

"""


def test_reads_words_heads_and_places(tmp_path: Path) -> None:
    path = tmp_path / "a.conllu.gz"
    path.write_bytes(gzip.compress((SAMPLE + SAMPLE).encode()))
    trees = list(read_conllu(path))
    assert len(trees) == 2
    tree = trees[0]
    assert tree.words == ["Dogs", "do", "n't", "bark", "."]
    assert tree.heads == [3, 3, 3, 3, 3] and tree.relations[3] == "root"
    assert [tree.text[a:b] for a, b in tree.spans] == tree.words


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    rows = SAMPLE.partition("# text = Dogs don't bark.\n")[2]
    (tmp_path / "a.conllu").write_text(rows, encoding="utf-8-sig")
    assert next(read_conllu(tmp_path / "a.conllu")).words[0] == "Dogs"


@pytest.mark.parametrize("damage", ["cut off", "changed"])
def test_a_damaged_archive_is_named(tmp_path: Path, damage: str) -> None:
    path, data = tmp_path / "a.conllu.gz", gzip.compress(SAMPLE.encode())
    path.write_bytes(data[:-20] if damage == "cut off" else data[:10] + b"\xff" * 20 + data[30:])
    with pytest.raises(ItmkitError, match=r"a\.conllu\.gz: cannot be unpacked, since it is cut off or damaged"):
        list(read_conllu(path))


def test_writes_what_it_reads() -> None:
    tree = next(parse_conllu(SAMPLE.splitlines()))
    again = next(parse_conllu(format_conllu(tree).splitlines()))
    assert again == tree


def test_rows_make_a_tree_with_text() -> None:
    rows = [line.split("\t") for line in SAMPLE.splitlines() if "\t" in line and "-" not in line.split("\t")[0]]
    tree = tree_from_rows(rows)
    assert tree.text == "Dogs do n't bark." and len(tree.spans) == 5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1\ta\tb\n\n", "line 1: 3 columns"),
        (b"1\ta\ta\tX\t_\t_\t7\tdep\t_\t_\n\n", "head '7'"),
        (b"\xff\xfe\n", "not UTF-8"),
    ],
)
def test_malformed_files_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.conllu"
    path.write_bytes(content)
    with pytest.raises(ItmkitError, match=message) as caught:
        list(read_conllu(path))
    assert "bad.conllu" in str(caught.value)


@pytest.mark.parametrize(
    ("word", "lemma"), [("Flies", "fly"), ("went", "go"), ("Paris", "Paris"), ("dogs", "dog"), ("IS", "be"), ("a", "a")]
)
def test_lemma_scripts(word: str, lemma: str) -> None:
    script = lemmas.script(word, lemma)
    assert lemmas.apply(script, word) == lemma
    assert lemmas.apply("l9|x", "ab") == "ab"
