from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itmkit.errors import ItmkitError
from itmkit.relevance import ranking
from itmkit.relevance.ranking import Ranking, cmc, image_queries, r1_by_label, text_queries
from itmkit.relevance.relevance import Listed, Relevance, SharedLabels
from itmkit.scoring import stored
from itmkit.scoring.metrics import query_ranks
from itmkit.scoring.stored import InMemory, Mean, ScoreFile, save_scores
from tests.evaluation.test_trec import with_ties, written

KS = (1, 3, 5)


def naive(scores: np.ndarray, relevant: list[set[int]], ks: tuple[int, ...] = KS) -> dict[str, object]:
    """Every figure of queries x items, from the definitions, one item after the other."""
    items = scores.shape[1]
    found: dict[str, list[float]] = {}
    first, eleven, precision, recall = [], [], [], []
    for query, wanted in enumerate(relevant):
        if not wanted:
            continue
        # best first; of equal ones the irrelevant first
        order = sorted(range(items), key=lambda item: (-float(scores[query, item]), item in wanted))
        hits = [item in wanted for item in order]
        at = [sum(hits[: r + 1]) / (r + 1) for r in range(items)]
        size = len(wanted)
        mine = {"mAP": sum(at[r] for r in range(items) if hits[r]) / size, "R-precision": at[size - 1]}
        mine["mAP@R"] = sum(at[r] for r in range(size) if hits[r]) / size
        for k in ks:
            near = [r for r in range(min(k, items)) if hits[r]]
            mine |= {f"R@{k}": float(bool(near)), f"P@{k}": len(near) / k}
            mine[f"mAP@{k}"] = sum(at[r] for r in near) / size
            mine[f"mAP@{k} found"] = sum(at[r] for r in near) / len(near) if near else 0.0
            mine[f"hits/min({k},R)"] = len(near) / min(k, size)
        for name, value in mine.items():
            found.setdefault(name, []).append(100 * value)
        first.append(hits.index(True))
        shares = [sum(hits[: r + 1]) / size for r in range(items)]
        precision.append(at)
        recall.append(shares)
        eleven.append(
            [max(p for p, share in zip(at, shares, strict=True) if share >= tenth / 10 - 1e-9) for tenth in range(11)]
        )
    return {
        "values": found,
        "first": first,
        "relevant": [len(wanted) for wanted in relevant if wanted],
        "queries": [query for query, wanted in enumerate(relevant) if wanted],
        "eleven": 100 * np.mean(eleven, axis=0),
        "precision": 100 * np.mean(precision, axis=0),
        "recall": 100 * np.mean(recall, axis=0),
    }


def same(found: Ranking, expected: dict[str, object], queries: int) -> None:
    assert list(found.values) == list(expected["values"])  # type: ignore[call-overload]
    for name, values in expected["values"].items():  # type: ignore[attr-defined]
        np.testing.assert_allclose(found.values[name], values, atol=1e-9, err_msg=name)
    assert found.first.tolist() == expected["first"] and found.queries.tolist() == expected["queries"]
    assert found.relevant.tolist() == expected["relevant"]
    assert found.without == queries - len(found.queries)
    for name in ("eleven", "precision", "recall"):
        np.testing.assert_allclose(getattr(found, name), expected[name], atol=1e-9, err_msg=name)


def both(scores: np.ndarray, relevance: Relevance, wanted: list[set[int]]) -> None:
    """Rows as queries, and the same matrix on its side with columns as queries."""
    expected = naive(scores, wanted)
    same(image_queries(InMemory(scores), relevance, ks=KS), expected, len(scores))
    side = InMemory(np.ascontiguousarray(scores.T))
    same(text_queries(side, relevance, ks=KS), expected, len(scores))
    same(text_queries(side, relevance, ks=KS, memory=3 * 8 * scores.shape[1]), expected, len(scores))


@st.composite
def listed(draw: st.DrawFn) -> tuple[np.ndarray, list[set[int]]]:
    """Up to 8 queries and 40 items, few different scores of either sign, any number of relevant items."""
    queries, items = draw(st.integers(1, 8)), draw(st.integers(1, 40))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = draw(st.sampled_from([1, 2, 4, 1000]))
    kind = draw(st.sampled_from([np.float32, np.float64]))
    scores = (random.integers(0, levels, (queries, items)) - levels // 2) * draw(st.sampled_from([0.25, 3e4, 1e-40]))
    share = draw(st.sampled_from([0.05, 0.3, 0.9]))
    relevant = [set(np.flatnonzero(row).tolist()) for row in random.random((queries, items)) < share]
    relevant[0].add(0)  # somebody has an answer
    return scores.astype(kind), relevant


@given(listed())
@settings(max_examples=60, deadline=None)
def test_figures_are_those_of_the_definition(drawn: tuple[np.ndarray, list[set[int]]]) -> None:
    scores, relevant = drawn
    both(scores, Listed.of_lists([sorted(one) for one in relevant], scores.shape[1]), relevant)


@given(listed(), st.integers(1, 3), st.integers(1, 60))
@settings(max_examples=25, deadline=None)
def test_they_do_not_depend_on_how_much_is_compared_at_a_time(
    drawn: tuple[np.ndarray, list[set[int]]], rows: int, pairs: int
) -> None:
    scores, relevant = drawn
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored, "ROWS", rows)
        patch.setattr(ranking, "PAIRS", pairs)
        both(scores, Listed.of_lists([sorted(one) for one in relevant], scores.shape[1]), relevant)


@given(listed())
@settings(max_examples=30, deadline=None)
def test_counting_and_sorting_find_the_same_ranks(drawn: tuple[np.ndarray, list[set[int]]]) -> None:
    scores, relevant = drawn
    relevance = Listed.of_lists([sorted(one) for one in relevant], scores.shape[1])
    with pytest.MonkeyPatch.context() as patch:
        for few in (0, scores.shape[1]):
            patch.setattr(ranking, "FEW", few)
            both(scores, relevance, relevant)


@given(st.integers(0, 2**32 - 1), st.integers(1, 70), st.integers(1, 12), st.integers(1, 30))
@settings(max_examples=30, deadline=None)
def test_items_of_a_shared_label_are_relevant(seed: int, labels: int, images: int, texts: int) -> None:
    random = np.random.default_rng(seed)
    ours, theirs = random.random((images, labels)) < 0.1, random.random((texts, labels)) < 0.1
    ours[0, -1] = theirs[0, -1] = True
    relevance = SharedLabels(ours, theirs)
    wanted = [{text for text in range(texts) if (mine & theirs[text]).any()} for mine in ours]
    scores = random.integers(0, 9, (images, texts)).astype(np.float32)
    both(scores, relevance, wanted)
    by_text = [{image for image in range(images) if text in wanted[image]} for text in range(texts)]
    same(text_queries(InMemory(scores), relevance.transposed(), ks=KS), naive(scores.T, by_text), texts)


def test_a_tie_counts_against_the_query() -> None:
    """Of six equal scores the two relevant ones stand at places 5 and 6."""
    found = image_queries(InMemory(np.full((1, 6), 0.5)), Listed.of_lists([[0, 3]], 6), ks=(4, 5))
    assert found.first.tolist() == [4]
    assert found.figures()["mAP"] == pytest.approx(100 * (1 / 5 + 2 / 6) / 2)
    assert found.figures()["R@4"] == 0 and found.figures()["R@5"] == 100 and found.figures()["mAP@R"] == 0


def test_minus_zero_is_a_tie_with_zero() -> None:
    for few in (0, 16):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ranking, "FEW", few)
            for scores in ([[0.0, -0.0]], [[-0.0, 0.0]]):
                found = image_queries(InMemory(np.array(scores, np.float32)), Listed.of_lists([[0]], 2))
                assert found.first.tolist() == [1]


def test_scores_that_differ_in_the_last_bit_are_no_tie(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where relevant items are sorted, and numbers are large, small or negative."""
    monkeypatch.setattr(ranking, "FEW", 0)
    for size in (1.0, 1.999, 7.3e5, -3.1, 1e-300, -1e290):
        scores = np.array([[size, np.nextafter(size, np.inf), np.nextafter(size, -np.inf)]])
        for item, rank in ((0, 1), (1, 0), (2, 2)):
            assert image_queries(InMemory(scores), Listed.of_lists([[item]], 3)).first.tolist() == [rank]


def test_curves_by_hand() -> None:
    """Relevant at places 1 and 3 of four."""
    found = image_queries(InMemory(np.array([[4.0, 3, 2, 1]])), Listed.of_lists([[0, 2]], 4), ks=(2,))
    np.testing.assert_allclose(found.precision, [100, 50, 200 / 3, 50])
    np.testing.assert_allclose(found.recall, [50, 50, 100, 100])
    np.testing.assert_allclose(found.eleven, [100] * 6 + [200 / 3] * 5)
    assert found.figures()["mAP"] == pytest.approx(100 * (1 + 2 / 3) / 2)
    assert found.figures()["mAP@2"] == pytest.approx(50) and found.figures()["mAP@2 found"] == pytest.approx(100)
    assert found.figures()["P@2"] == found.figures()["R-precision"] == 50 and found.figures()["mAP@R"] == 50


def test_a_cut_off_beyond_the_last_item_counts_the_missing_as_irrelevant() -> None:
    found = image_queries(InMemory(np.ones((1, 2))), Listed.of_lists([[0, 1]], 2), ks=(10,)).figures()
    assert found["P@10"] == pytest.approx(20) and found["mAP@10"] == found["R@10"] == 100


def test_with_own_captions_the_first_rank_is_that_of_the_recalls() -> None:
    """Texts as queries have one relevant image, and the same rank; the best caption of an image never a worse one."""
    random = np.random.default_rng(0)
    image_of = random.permutation(np.repeat(np.arange(7), [1, 2, 3, 4, 5, 6, 7]))
    scores = random.integers(0, 12, (7, 28)).astype(np.float32)
    relevance = Listed.own_captions(image_of, 7)
    ranks = query_ranks(scores, image_of)
    by_text = text_queries(InMemory(scores), relevance.transposed())
    assert by_text.first.tolist() == ranks.of_texts.tolist()
    assert by_text.figures()["R@1"] == pytest.approx(ranks.retrieval().t2i.r1)
    by_image = image_queries(InMemory(scores), relevance)
    assert by_image.first.tolist() == ranks.of_images.tolist()
    assert by_image.relevant.tolist() == [1, 2, 3, 4, 5, 6, 7]


def test_captions_without_image_and_images_without_caption_are_left_out_and_counted() -> None:
    image_of = np.array([0, -1, 2, 2, -1])
    scores = np.array([[5.0, 6, 1, 1, 0], [9, 9, 9, 9, 9], [1, 2, 4, 3, 0]])
    relevance = Listed.own_captions(image_of, 3)
    by_image = image_queries(InMemory(scores), relevance)
    assert by_image.queries.tolist() == [0, 2] and by_image.without == 1
    assert by_image.first.tolist() == [1, 0]  # a caption without image competes
    by_text = text_queries(InMemory(scores), relevance.transposed())
    assert by_text.queries.tolist() == [0, 2, 3] and by_text.without == 2
    assert by_text.to_json()["without"] == 2 and by_text.to_json()["queries"] == 3
    assert by_text.figures()["R@1"] == 0 and by_text.first.tolist() == [1, 1, 1]


def test_one_image() -> None:
    relevance = Listed.own_captions(np.zeros(3, np.int64), 1)
    found = image_queries(InMemory(np.ones((1, 3))), relevance, ks=(1,)).figures()
    assert found.pop("mAP@1") == pytest.approx(100 / 3)  # one of three is found by then
    assert set(found.values()) == {100}
    assert text_queries(InMemory(np.ones((1, 3))), relevance.transposed(), ks=(1,)).figures()["mAP"] == 100


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0), (2, 2)])
def test_nothing_to_rank(shape: tuple[int, int]) -> None:
    """An empty split, and one where nobody has an answer."""
    nobody = Listed.of_lists([[]] * shape[0], shape[1])
    with pytest.raises(ItmkitError, match="nothing to rank"):
        image_queries(InMemory(np.zeros(shape)), nobody)
    with pytest.raises(ItmkitError, match="nothing to rank"):
        text_queries(InMemory(np.zeros(shape)), nobody.transposed())
    labels = SharedLabels(np.zeros((shape[0], 4), bool), np.ones((shape[1], 4), bool))
    with pytest.raises(ItmkitError, match="nothing to rank"):
        image_queries(InMemory(np.zeros(shape)), labels)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_are_an_error_wherever_they_are(bad: float) -> None:
    """Even of an image and a caption that nobody asks for."""
    scores = np.zeros((3, 4), np.float32)
    scores[1, 2] = bad
    relevance = Listed.of_lists([[0], [], []], 4)
    with pytest.raises(ItmkitError, match="image 1 with caption 2"):
        image_queries(InMemory(scores), relevance)
    with pytest.raises(ItmkitError, match="image 1 with caption 2"):
        text_queries(InMemory(scores), relevance.transposed())


def test_relevance_that_is_wrong_says_where() -> None:
    with pytest.raises(ItmkitError, match="query 1: relevant item 7 does not exist, there are 5"):
        Listed.of_lists([[0], [4, 7]], 5)
    with pytest.raises(ItmkitError, match="query 2: item 3 is listed twice"):
        Listed.of_lists([[0], [], [3, 1, 3]], 5)
    with pytest.raises(ItmkitError, match="query 3 does not exist"):
        Listed.of_pairs(np.array([0, 3]), np.array([0, 0]), (2, 2))
    with pytest.raises(ValueError, match="do not fit"):
        SharedLabels(np.ones((2, 3), bool), np.ones((2, 4), bool))
    with pytest.raises(ValueError, match="queries and items"):
        image_queries(InMemory(np.ones((2, 3))), Listed.of_lists([[0]], 3))
    with pytest.raises(ValueError, match="at least 1"):
        image_queries(InMemory(np.ones((1, 3))), Listed.of_lists([[0]], 3), ks=(0,))


def test_cmc_is_the_share_found_by_then() -> None:
    np.testing.assert_allclose(cmc(np.array([0, 0, 2, 9]), 4), [50, 50, 75, 75])
    random = np.random.default_rng(0)
    found = image_queries(InMemory(random.random((9, 20))), Listed.of_lists([[q, q + 9] for q in range(9)], 20))
    curve = found.cmc(10)
    assert [curve[k - 1] for k in (1, 5, 10)] == pytest.approx([found.figures()[f"R@{k}"] for k in (1, 5, 10)])


def test_r1_of_each_label_is_over_the_queries_that_carry_it() -> None:
    labels = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [1, 0, 0]], bool)
    r1, queries = r1_by_label(np.array([0, 3, 0, 1]), labels)
    np.testing.assert_allclose(r1, [100 / 3, 50, np.nan])
    assert queries.tolist() == [3, 2, 0]


def test_files_and_means_of_scores_are_read_like_a_matrix(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    scores = random.random((30, 60), dtype=np.float32)
    relevance = Listed.own_captions(np.repeat(np.arange(30), 2), 30)
    save_scores(tmp_path / "s.h5", InMemory(scores), [str(n) for n in range(30)], [str(n) for n in range(60)], "test")
    file = ScoreFile(tmp_path / "s.h5")
    for stored_scores in (file, Mean([file], [1.0])):
        for queries, wanted in ((image_queries, relevance), (text_queries, relevance.transposed())):
            assert queries(stored_scores, wanted).to_json() == queries(InMemory(scores), wanted).to_json()


# --- other programs ---


def test_figures_are_those_of_ranx(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ties, for which ranx has no rule."""
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")  # compiling takes longer than it saves
    ranx = pytest.importorskip("ranx")
    random = np.random.default_rng(0)
    queries, items = 30, 100
    scores = random.permutation(queries * items).reshape(queries, items).astype(np.float32) / 7
    relevant = [sorted(random.choice(items, random.integers(1, 41), replace=False).tolist()) for _ in range(queries)]
    found = image_queries(InMemory(scores), Listed.of_lists(relevant, items)).figures()
    qrels = ranx.Qrels({f"q{q}": {f"i{i}": 1 for i in wanted} for q, wanted in enumerate(relevant)})
    run = ranx.Run({f"q{q}": {f"i{i}": float(scores[q, i]) for i in range(items)} for q in range(queries)})
    names = {"mAP": "map", "R-precision": "r-precision"}
    names |= {
        f"{ours}@{k}": f"{theirs}@{k}" for ours, theirs in (("mAP", "map"), ("P", "precision")) for k in (1, 5, 10)
    }
    names |= {f"R@{k}": f"hit_rate@{k}" for k in (1, 5, 10)}
    theirs = ranx.evaluate(qrels, run, list(names.values()))
    assert {name: found[name] for name in names} == pytest.approx({n: 100 * theirs[t] for n, t in names.items()})


def test_ranx_reads_our_rankings_and_right_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here, since importing ranx takes longer than all other tests of the files: tests/evaluation/test_trec.py."""
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    ranx = pytest.importorskip("ranx")
    names = {"mAP": "map", "R@5": "hit_rate@5", "P@10": "precision@10", "R-precision": "r-precision"}
    for name, sides in written(tmp_path, with_ties()).items():
        for side, ours in sides.items():
            qrels = ranx.Qrels.from_file(str(tmp_path / f"{name}-{side}.qrels"), kind="trec")
            run = ranx.Run.from_file(str(tmp_path / f"{name}-{side}.run"), kind="trec")
            theirs = ranx.evaluate(qrels, run, list(names.values()))
            assert {n: ours[n] for n in names} == pytest.approx({n: 100 * theirs[t] for n, t in names.items()})


def test_figures_are_those_of_eccv_caption() -> None:
    """On its own annotations of MS-COCO: 40 of its queries each way, among all 5,000 images or 25,000 captions."""
    package = pytest.importorskip("eccv_caption")
    metric = package.Metrics()
    for side, ask in (("i2t", image_queries), ("t2i", text_queries)):
        wanted = metric.eccv_gts[side]
        other = "t2i" if side == "i2t" else "i2t"
        names = sorted(set(metric.coco_gts[other]))
        place = {name: number for number, name in enumerate(names)}
        asked = sorted(wanted)[:40]
        random = np.random.default_rng(0)
        scores = random.permutation(len(asked) * len(names)).reshape(len(asked), len(names)).astype(np.float64)
        for row, query in enumerate(asked):  # three relevant items are among the best; no score is there twice
            best = [place[item] for item in random.permutation(wanted[query])[:3]]
            scores[row, best] = scores.size - 0.5 - scores[row, best] // 1000
        relevance = Listed.of_lists([[place[item] for item in wanted[query]] for query in asked], len(names))
        found = ask(InMemory(scores if side == "i2t" else scores.T), relevance).figures()
        lists = {q: [names[i] for i in np.argsort(-row)] for q, row in zip(asked, scores, strict=True)}
        gts = {side: {query: wanted[query] for query in asked}}
        metric.eccv_gts = {**metric.eccv_gts, **gts}
        theirs = metric.eccv_metrics({side: lists}, side)
        ours = {"eccv_map_at_r": found["mAP@R"], "eccv_rprecision": found["R-precision"], "eccv_r1": found["R@1"]}
        assert ours == pytest.approx({name: 100 * value[side] for name, value in theirs.items()})
        assert found["R@5"] == pytest.approx(100 * metric.eccv_recalls({side: lists}, side, K=5)[side])
