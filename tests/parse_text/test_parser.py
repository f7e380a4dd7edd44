from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from itmkit.errors import ItmkitError
from itmkit.parse_text.accuracy import on_gold_words, on_raw_text
from itmkit.parse_text.conllu import read_conllu
from itmkit.parse_text.parser import SHIPPED, Parser
from itmkit.parse_text.tokens import tokenise

needs_data = pytest.mark.skipif(
    not os.environ.get("ITMKIT_TEST_DATA"), reason="ITMKIT_TEST_DATA does not name the test data"
)


@pytest.fixture(scope="module")
def shipped() -> Parser:
    return Parser.load()


def sentences(count: int) -> list[list[str]]:
    generator = np.random.default_rng(0)
    words = ["a", "the", "dog", "man", "red", "runs", "on", "with", "Zebra", ".", ",", "supercalifragilistic"]
    return [generator.choice(words, length).tolist() for length in generator.integers(0, 18, count)]


def test_results_do_not_depend_on_company(shipped: Parser) -> None:
    given = sentences(40)
    together = shipped.parse(given)
    order = np.random.default_rng(1).permutation(len(given))
    for batch_words, chosen in ((1, range(len(given))), (64, order), (10_000, order[:25])):
        parse = shipped.parse([given[i] for i in chosen], batch_words=batch_words)
        for k, i in enumerate(chosen):
            mine = slice(parse.offsets[k], parse.offsets[k + 1])
            whole = slice(together.offsets[i], together.offsets[i + 1])
            for name in ("pos", "scripts", "heads", "relations"):
                assert getattr(parse, name)[mine].tolist() == getattr(together, name)[whole].tolist()


def test_every_sentence_is_a_tree_with_one_root(untrained: Path) -> None:
    parser = Parser.load(untrained)
    given = sentences(60)
    parse = parser.parse(given)
    root = parser.labels.relations.index("root")
    for k, words in enumerate(given):
        heads = parse.heads[parse.offsets[k] : parse.offsets[k + 1]]
        relations = parse.relations[parse.offsets[k] : parse.offsets[k + 1]]
        places = np.arange(len(words))
        assert (heads == places).sum() == min(1, len(words))
        assert ((relations == root) == (heads == places)).all()
        for _ in words:
            places = heads[places]
        assert (heads[places] == places).all()


def test_nothing_to_parse(untrained: Path) -> None:
    parser = Parser.load(untrained)
    assert parser.parse([]).offsets.tolist() == [0]
    assert parser.parse([[], []]).offsets.tolist() == [0, 0, 0]


@pytest.mark.parametrize("damage", ["missing", "truncated", "json", "format"])
def test_a_broken_parser_is_one_error(untrained: Path, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "parser"
    shutil.copytree(untrained, folder)
    weights, labels = folder / "parser.safetensors", folder / "parser.json"
    if damage == "missing":
        weights.unlink()
    elif damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:100])
    elif damage == "json":
        labels.write_text("{}")
    else:
        labels.write_text(labels.read_text().replace('"format": 1', '"format": 99'))
    with pytest.raises(ItmkitError):
        Parser.load(folder)


def arcs(parser: Parser, text: str) -> set[tuple[str, str, str]]:
    """(word, relation, head) of every word; captions of these tests name no word twice."""
    tokens = tokenise(text)
    parse = parser.parse([tokens.words])
    relations = [parser.labels.relations[r].split(":")[0] for r in parse.relations]
    return {
        (word, relation, "" if head == i else tokens.words[head])
        for i, (word, relation, head) in enumerate(zip(tokens.words, relations, parse.heads.tolist(), strict=True))
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "A man in a red shirt rides a bike .",
            "man nsubj rides, in case shirt, red amod shirt, shirt nmod man, bike obj rides, rides root",
        ),
        ("two dogs run through the snow", "two nummod dogs, dogs nsubj run, snow obl run, run root"),
        ("a black dog with a ball", "black amod dog, dog root, with case ball, ball nmod dog"),
        ("a black dog and a white cat .", "dog root, cat conj dog, and cc cat, white amod cat, . punct dog"),
        ("A girl is sitting on a bench.", "girl nsubj sitting, is aux sitting, bench obl sitting, sitting root"),
        ("the red car is left of the blue house", "red amod car, blue amod house, of case house"),
        ("The dog's tail is short", "'s case dog, dog nmod tail, tail nsubj short, is cop short, short root"),
    ],
)
def test_shipped_parser_reads_captions(shipped: Parser, text: str, expected: str) -> None:
    wanted = {tuple([*item.split(), ""][:3]) for item in expected.split(", ")}
    found = arcs(shipped, text)
    assert wanted <= found, found


def test_shipped_files_are_small_and_carry_their_licence() -> None:
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 12_000_000
    notice = (SHIPPED / "NOTICE.md").read_text("utf-8")
    assert "CC BY-SA 4.0" in notice and "English Web Treebank" in notice


@needs_data
def test_accuracy_on_the_treebank(shipped: Parser) -> None:
    path = Path(os.environ["ITMKIT_TEST_DATA"]) / "ud_english" / "EWT" / "en_ewt-ud-dev.conllu.gz"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    trees = list(read_conllu(path))[::5]
    gold = on_gold_words(shipped, trees)
    raw = on_raw_text(shipped, trees)
    assert gold.uas > 84.5 and gold.las > 80.5 and gold.pos > 93 and gold.lemmas > 93.5
    assert raw.uas > 82 and raw.words > 98.5


def test_accuracy_on_scene_captions(shipped: Parser) -> None:
    from itmkit.parse_text.conllu import tree_from_rows
    from itmkit.scenes.grammar import scene_trees

    trees = [tree_from_rows(rows) for rows in scene_trees(40, 424_242)]
    assert on_gold_words(shipped, trees).uas > 95
    assert on_raw_text(shipped, trees).uas > 95
