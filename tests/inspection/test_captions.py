from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from itmkit.cache import CacheReader, CacheWriter, Column, MadeBy, text_key
from itmkit.dataset import Caption, ImageRecord, write_dataset
from itmkit.errors import ItmkitError
from itmkit.graphs import build_graphs
from itmkit.inspection.captions import inspect_caption
from itmkit.inspection.report import Report
from itmkit.inspection.rows import inspect_row
from itmkit.inspection.trees import MOST
from itmkit.parse_text.parse import COLUMNS, parse_text
from itmkit.workspace import Workspace
from tests.workspaces import TEXT, make_dataset, make_regions, make_text

LONG = " ".join(["dog"] * (MOST + 1))
# Row 0 has the id "3"; rows 3 and 4 are the texts "1" and "2".
CAPTIONS = {"3": "A dog runs. Two cats sleep.", "b": "the dog and the dog", "c": LONG, "d": "1", "99": "2"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = make_dataset(tmp_path_factory.mktemp("work"))
    make_regions(workspace)
    make_text(workspace)
    return workspace


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """CAPTIONS of one image, and of another the second again; parsed by the parser that ships."""
    workspace = Workspace(tmp_path_factory.mktemp("parsed"))
    captions = tuple(Caption(id, text) for id, text in CAPTIONS.items())
    again = Caption("e", CAPTIONS["b"])
    write_dataset(
        workspace.dataset_path,
        [ImageRecord("x", "train", captions), ImageRecord("y", "test", (again,))],
        kind="made",
        settings={},
    )
    parse_text(workspace)
    return workspace


def facts(report: Report) -> dict[str, str]:
    return dict(report.facts)


@pytest.mark.parametrize("caption", ["0", TEXT, "2#0"])
def test_a_caption_by_row_id_or_text_from_anywhere_in_the_workspace(shared: Workspace, caption: str) -> None:
    text = shared.cache("text")
    for path in (shared.root, text, text / "manifest.json", shared.root / "dataset.jsonl", shared.cache("regions")):
        report = inspect_caption(path, caption)
        assert report.kind == "caption" and report.path == text
        assert facts(report)["caption"] == TEXT and facts(report)["row"] == "0" and facts(report)["words"] == "3"
        assert facts(report)["caption ids"] == "0#0, 1#0, 2#0, 3#0, 4#0"
        assert report.lines == [
            "",
            "dependency tree",
            "  run        VERB  root",
            "  └─ dogs    NOUN  nsubj",
            "     └─ two  NUM   nummod",
            "",
            "adjacency  (● edge, ○ the word itself)",
            "          0 1 2",
            "  0 two   ○ ● ·",
            "  1 dogs  ● ○ ●",
            "  2 run   · ● ○",
            "",
            "neighbours  (besides the word itself)",
            "  0 two   dogs",
            "  1 dogs  two  run",
            "  2 run   dogs",
        ]


def test_a_child_says_the_same(shared: Workspace, request: pytest.FixtureRequest) -> None:
    reports = [inspect_caption(shared.root, caption).to_json() for caption in ("0", TEXT)]
    request.getfixturevalue("inspecting_children")
    assert [inspect_caption(shared.root, caption).to_json() for caption in ("0", TEXT)] == reports


def test_as_data(shared: Workspace) -> None:
    assert inspect_caption(shared.root, "1#1").to_json()["data"] == {
        "row": 2,
        "key": text_key("picture 1"),
        "text": "picture 1",
        "captions": ["1#1"],
        "words": ["picture", "1"],
        "pos": ["NUM", "NUM"],
        "relations": ["root", "root"],
        "heads": [0, 1],
        "sentences": [],
        "edges": [],
        "neighbours": [[], []],
    }


def test_the_edges_are_those_of_build_graphs(parsed: Workspace) -> None:
    build_graphs(parsed, parts=["texts"])
    graphs = CacheReader.open(parsed.cache("graphs/texts"))
    for row in range(len(graphs)):
        edges = graphs.read_ragged(["edges"], [row])[0]["edges"].tolist()
        assert [list(edge) for edge in inspect_caption(parsed.root, str(row)).data["edges"]] == edges
    shutil.rmtree(parsed.cache("graphs"))


def test_the_order_in_which_names_are_tried(parsed: Workspace) -> None:
    report = inspect_caption(parsed.root, "3")  # a row, though it is an id too
    assert facts(report)["caption"] == "1" and facts(report)["note"] == "3 is a caption's id too: row 0"
    report = inspect_caption(parsed.root, "1")  # a row, though it is a text too
    assert facts(report)["caption"] == CAPTIONS["b"] and facts(report)["note"] == "1 is a caption's text too: row 3"
    report = inspect_caption(parsed.root, "99")  # no row, so an id
    assert facts(report)["caption"] == "2" and "note" not in facts(report)
    assert "note" not in facts(inspect_caption(parsed.root, "0"))


def test_several_sentences_and_equal_words(parsed: Workspace) -> None:
    report = inspect_caption(parsed.root, CAPTIONS["3"])
    assert facts(report)["words"] == "8 in 2 sentences" and report.data["sentences"] == [0] * 4 + [1] * 4
    assert [line for line in report.lines if "sentence " in line] == [
        "  sentence 0: A dog runs .",
        "  sentence 1: Two cats sleep .",
    ]
    report = inspect_caption(parsed.root, "b")
    assert facts(report)["caption ids"] == "b, e" and report.data["captions"] == ["b", "e"]
    assert any("the₂" in line for line in report.lines) and report.data["words"].count("the") == 2


def test_a_long_caption_has_no_matrix(parsed: Workspace) -> None:
    lines = inspect_caption(parsed.root, "c").lines
    told = f"left out: {MOST + 1} words, drawn up to {MOST}; the neighbours say the same"
    assert f"adjacency  ({told})" in lines
    assert len(lines[lines.index("neighbours  (besides the word itself)") :]) == MOST + 2


def test_a_text_cache_alone(parsed: Workspace, tmp_path: Path) -> None:
    alone = shutil.copytree(parsed.cache("text"), tmp_path / "alone")
    for caption in ("0", CAPTIONS["3"]):
        report = inspect_caption(alone, caption)
        assert report.path == alone and report.data["captions"] == []
        assert facts(report)["caption"] == report.data["text"] == CAPTIONS["3"]
    with pytest.raises(ItmkitError, match=r"'b' is not the number of a row here \(0 to 4\), and neither the id nor"):
        inspect_caption(alone, "b")


@pytest.mark.parametrize("caption", ["never written", "5", "-1", "00", "²", "1.0", "", "9" * 5000, "\x1b[31m"])
def test_unknown_captions(parsed: Workspace, caption: str) -> None:
    for path in (parsed.root, parsed.cache("text")):
        with pytest.raises(ItmkitError, match=r"\(0 to 4\), and neither the id nor the text") as caught:
            inspect_caption(path, caption)
        assert len(caught.value.problems) == 1 and len(str(caught.value)) < 500 and "\x1b" not in str(caught.value)


def test_a_caption_that_is_not_parsed_yet(shared: Workspace, tmp_path: Path) -> None:
    workspace = make_dataset(tmp_path / "work", 4)
    shutil.copytree(shared.cache("text"), workspace.cache("text"))
    with pytest.raises(ItmkitError, match="caption '5#1' of the data set is not parsed here; run `itmkit parse-text`"):
        inspect_caption(workspace.root, "5#1")
    with pytest.raises(ItmkitError, match="no such file or folder"):
        inspect_caption(workspace.root / "no", "0")


@dataclass(frozen=True)
class Made:
    """One row of a cache by hand: n words with these heads."""

    heads: list[int]

    def write(self, folder: Path) -> Path:
        n = len(self.heads)
        columns: dict[str, Column] = {name: COLUMNS[name] for name in ("words", "heads", "sentences")}
        with CacheWriter.open(
            folder,
            made_by=MadeBy("parse-text", {}, None, {}),
            columns=columns,
            keys=["a"],
            tables={"words": ["dog"]},
        ) as writer:
            for shard, keys in writer.pending():
                with writer.shard(shard) as out:
                    zeros = np.zeros(n, np.int32)
                    arrays = {"words": zeros, "heads": np.array(self.heads, np.int32), "sentences": zeros}
                    out.append(keys, arrays, lengths=np.array([n]))
        return folder


def test_captions_without_words_or_with_one(tmp_path: Path) -> None:
    report = inspect_caption(Made([]).write(tmp_path / "none"), "0")
    assert facts(report)["words"] == "0" and report.data["edges"] == report.data["neighbours"] == []
    assert report.lines == ["", "The caption has no words: no tree and no edges. Matchers see one unknown word."]
    report = inspect_caption(Made([0]).write(tmp_path / "one"), "0")
    assert facts(report)["caption"] == "dog" and report.data["neighbours"] == [[]]
    assert report.lines[2] == "  dog" and report.lines[-1] == "  0 dog  (none)" and "  0 dog  ○" in report.lines


def test_heads_outside_the_caption_are_a_problem(tmp_path: Path) -> None:
    report = inspect_caption(Made([0, 7]).write(tmp_path / "wrong"), "0")
    assert "row 0: the head of word 1 is 7, outside the 2 words" in report.problems[0]
    assert "  dog₂  (in no tree: head 7)" in report.lines and "edges" not in report.data


def test_very_long_captions(tmp_path: Path) -> None:
    lines = inspect_caption(Made([0] * 150).write(tmp_path / "long"), "0").lines
    assert "  Matchers take its first 100 words and the edges among them." in lines
    with pytest.raises(ItmkitError, match="has too many words to be drawn"):
        inspect_caption(Made([0] * 20_001).write(tmp_path / "longer"), "0")


def test_words_of_published_code_are_told_without_a_tree(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    captions = (Caption("a", "A dog doesn't run."), Caption("b", " ".join(["dog"] * 120)))
    write_dataset(workspace.dataset_path, [ImageRecord("x", "train", captions)], kind="made", settings={})
    parse_text(workspace, parser="scan")
    report = inspect_caption(tmp_path, "a")  # there is no cache `text`
    assert report.path == workspace.cache("text-scan") and dict(report.facts)["words"] == "8"
    assert report.data["words"] == ["<start>", "a", "dog", "does", "n't", "run", ".", "<end>"]
    assert "heads" not in report.data and "edges" not in report.data
    assert report.lines[1:4] == ["words of published code, which have no tree", "  0 <start>", "  1 a"]
    assert "Matchers take its first 100 words." in inspect_caption(workspace.cache("text-scan"), "1").lines[-1]
    assert inspect_row(workspace.cache("text-scan"), report.data["key"]).lines[2] == "1 a"
    workspace.dataset_path.unlink()
    alone = inspect_caption(workspace.cache("text-scan"), "0")
    assert dict(alone.facts)["caption"] == "a dog doesn't run."
    write_dataset(
        workspace.dataset_path,
        [ImageRecord("x", "train", (*captions, Caption("c", "new")))],
        kind="made",
        settings={},
    )
    with pytest.raises(ItmkitError, match="run `itmkit parse-text --parser scan`"):
        inspect_caption(tmp_path, "c")
    make_text(workspace)
    assert inspect_caption(tmp_path, "a").path == workspace.cache("text")
