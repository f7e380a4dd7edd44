"""Rankings and right answers for other programs: what these compute from them are our figures."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itmkit.dataset import Caption, ImageRecord
from itmkit.errors import ItmkitError
from itmkit.evaluation.measures import Measures, Wanted
from itmkit.evaluation.protocols import PROTOCOLS
from itmkit.evaluation.saving import saving
from itmkit.evaluation.trec import Trec, TrecFiles, original, safe
from itmkit.scoring.metrics import query_ranks
from itmkit.scoring.stored import InMemory

IMAGES, EACH, KS = 12, 2, (1, 5, 10)
IMAGE_OF = np.repeat(np.arange(IMAGES), EACH)
STRANGE = ("a b.jpg", "new\nline", "100%", "ünï\x1f", "", "tab\there", "#1.jpg", "plain.jpg#0", "%", "%41", " ", "A")


def records() -> list[ImageRecord]:
    """Names as no format likes them; image k has the label "even" or "odd", the last one none."""
    made = []
    for k, name in enumerate(STRANGE):
        captions = tuple(Caption(f"{name} #{n}", "words") for n in range(EACH))
        labels = () if k == IMAGES - 1 else ("odd" if k % 2 else "even",)
        made.append(ImageRecord(id=name, split="test", captions=captions, labels=labels))
    return made


def written(folder: Path, scores: np.ndarray, depth: int | None = None) -> dict[str, dict[str, dict[str, float]]]:
    """What was measured of the scores, and the files of it."""
    wanted = Wanted(own=True, labels=True, ks=KS, trec=Trec(folder, depth))
    measures, images = Measures(wanted, records(), PROTOCOLS["test"]), records()
    found = measures.of(InMemory(scores), query_ranks(scores, IMAGE_OF))
    with saving(None, wanted.trec, "a run + another") as keep:
        ids = [image.id for image in images], [c.id for image in images for c in image.captions]
        keep(InMemory(scores), measures.answers(IMAGE_OF), *ids)
    return {"own": found["own"], "labels": found["labels"]}


def with_ties() -> np.ndarray:
    """Four different scores; one image and one caption score the same with everything."""
    scores = np.random.default_rng(0).integers(0, 4, (IMAGES, IMAGES * EACH)).astype(np.float32)
    scores[3] = scores[:, 5] = -0.0
    return scores


def read_run(path: Path) -> dict[str, list[str]]:
    """The items of each query by falling score, as trec_eval reads them: not by their rank, ties in its own order."""
    rows: dict[str, list[tuple[float, str]]] = {}
    for line in path.read_text(encoding="ascii").split("\n")[:-1]:
        query, _, item, _, score, run = line.split(" ")
        assert run == "a%20run%20+%20another"
        rows.setdefault(query, []).append((float(np.float32(score)), item))
    return {query: [item for _, item in sorted(items, reverse=True)] for query, items in rows.items()}


def read_qrels(path: Path) -> dict[str, set[str]]:
    rows: dict[str, set[str]] = {}
    for line in path.read_text(encoding="ascii").split("\n")[:-1]:
        query, zero, item, one = line.split(" ")
        assert (zero, one) == ("0", "1")
        rows.setdefault(query, set()).add(item)
    return rows


def test_figures_of_the_files_are_ours_with_any_ties(tmp_path: Path) -> None:
    """From the files alone, in loops, sorting by score only."""
    found = written(tmp_path, with_ties())
    for name, sides in found.items():
        for side, ours in sides.items():
            run, right = read_run(tmp_path / f"{name}-{side}.run"), read_qrels(tmp_path / f"{name}-{side}.qrels")
            assert run.keys() == right.keys() and len(run) == ours["queries"]
            theirs: dict[str, list[float]] = {}
            for query, items in run.items():
                hits = [item in right[query] for item in items]
                at = [sum(hits[: r + 1]) / (r + 1) for r, hit in enumerate(hits) if hit]
                mine = {"mAP": sum(at) / len(right[query])}
                for k in KS:
                    mine |= {f"R@{k}": any(hits[:k]), f"P@{k}": sum(hits[:k]) / k}
                    mine[f"hits/min({k},R)"] = sum(hits[:k]) / min(k, len(right[query]))
                for figure, value in mine.items():
                    theirs.setdefault(figure, []).append(100 * value)
            for figure, values in theirs.items():
                assert ours[figure] == pytest.approx(np.mean(values)), (name, side, figure)


def test_figures_of_ir_measures(tmp_path: Path) -> None:
    other = pytest.importorskip("ir_measures")
    found = written(tmp_path, with_ties())
    names = {"mAP": "AP", "P@10": "P@10", "R-precision": "Rprec", **{f"R@{k}": f"Success@{k}" for k in KS}}
    for name, sides in found.items():
        for side, ours in sides.items():
            qrels = list(other.read_trec_qrels(str(tmp_path / f"{name}-{side}.qrels")))
            run = list(other.read_trec_run(str(tmp_path / f"{name}-{side}.run")))
            theirs = other.calc_aggregate([other.parse_measure(name) for name in names.values()], qrels, run)
            values = {str(measure): 100 * value for measure, value in theirs.items()}
            assert {n: ours[n] for n in names} == pytest.approx({n: values[t] for n, t in names.items()})


def test_a_depth_cuts_rankings_and_keeps_all_right_answers(tmp_path: Path) -> None:
    written(tmp_path / "all", with_ties())
    written(tmp_path / "five", with_ties(), depth=5)
    for file in ("own-i2t", "labels-t2i"):
        whole, cut = (read_run(tmp_path / folder / f"{file}.run") for folder in ("all", "five"))
        assert cut == {query: items[:5] for query, items in whole.items()}
        assert (tmp_path / "all" / f"{file}.qrels").read_text() == (tmp_path / "five" / f"{file}.qrels").read_text()


@given(st.lists(st.text(), unique=True))
@settings(max_examples=50, deadline=None)
def test_ids_become_words_and_come_back(ids: list[str]) -> None:
    words = [safe(id) for id in [*ids, *STRANGE]]
    assert [original(word) for word in words] == [*ids, *STRANGE]
    assert all(word.isascii() and word.isprintable() and len(word.split()) == 1 and '"' not in word for word in words)


def test_nothing_is_left_of_a_failure_and_no_other_file_is_replaced(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), ExitStack() as stack:
        files = TrecFiles(Trec(tmp_path), "run", stack)
        answers = Measures(Wanted(), records(), PROTOCOLS["test"]).answers(IMAGE_OF)
        files.add(InMemory(with_ties()), answers, STRANGE, [f"{k}" for k in range(len(IMAGE_OF))])
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    measures = Measures(Wanted(trec=Trec(tmp_path)), records(), PROTOCOLS["test"])
    (tmp_path / "own-t2i.qrels").write_text("1 0 2\n")
    with pytest.raises(ItmkitError, match="own-t2i.qrels: is there already and is not a file of TREC's qrels"):
        measures.check_trec(force=False)
    measures.check_trec(force=True)
    (tmp_path / "own-t2i.qrels").write_text("1 0 2 1\n")
    measures.check_trec(force=False)
