"""The tables of `itmkit evaluate`: recalls, what papers report, intervals, slices, labels, judgements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from itmkit.evaluation.results import Against, Evaluation, EvaluationRow
from itmkit.methods.reported import NAMES, Reported

# What else may count as right, and its name in JSON.
RANKINGS = {
    "own": "its own captions, or image, count as right",
    "labels": "a shared label counts as right",
    "judgements": "as people judged COCO's captions",
}


@dataclass(frozen=True)
class Shown:
    """A table, ready to be printed in any form."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    words: int = 1  # columns of words; the others are figures, aligned to the right

    @property
    def right(self) -> list[str]:
        return self.columns[self.words :]


def tables(
    result: Evaluation, papers: Sequence[Reported] = (), apart: Sequence[Reported] = (), *, wide: bool = True
) -> list[Shown]:
    """Every table of an evaluation. apart: rows of papers that do not compare. wide: with median ranks and mR."""
    found = [_recalls(result, papers, wide)]
    found += [_not_comparable(caveat, apart) for caveat in dict.fromkeys(paper.caveat for paper in apart)]
    if result.against is not None:
        found.append(_against(result.against))
    asked = result.rows[0].more  # the same of every row
    if "intervals" in asked:
        found.append(_intervals(result.rows))
    found += [_alphas(row) for row in result.rows if "alpha" in row.more]
    if any("rerank" in row.more for row in result.rows):
        found.append(_two_stages(result.rows))
    if "slices" in asked:  # of the row of all runs together alone: one is long enough
        name = result.against.first if result.against else result.rows[-1].name
        found.append(_slices(next(row for row in result.rows if row.name == name)))
    for key, says in RANKINGS.items():
        if key in asked:
            found += _rankings(result.rows, key, says)
    if "ratings" in asked:
        found.append(_ratings(result.rows))
    return found


def _recalls(result: Evaluation, papers: Sequence[Reported], wide: bool) -> Shown:
    columns = ["run", "kind", *NAMES, "rsum", *(["mR", "medr i2t", "medr t2i"] if wide else [])]
    rows = []
    for row in result.rows:
        i2t, t2i = row.result.i2t, row.result.t2i
        cells = [f"{x:.1f}" for x in (i2t.r1, i2t.r5, i2t.r10, t2i.r1, t2i.r5, t2i.r10, row.result.rsum)]
        if wide:
            cells += [f"{row.result.mean_recall:.1f}", f"{i2t.medr:.0f}", f"{t2i.medr:.0f}"]
        rows.append([row.name, row.kind, *cells])
    if result.over_runs:
        names = [*NAMES, "rsum", *(["mR", "i2t medr", "t2i medr"] if wide else [])]
        spreads = [result.over_runs[name] for name in names]
        cells = [f"{spread.mean:.1f} ±{spread.deviation:.1f}" for spread in spreads]
        rows.append([f"each of {spreads[0].n} runs", "mean and deviation", *cells])
    for paper in papers:
        six = [f"{paper.figures[name]:.1f}" if name in paper.figures else "-" for name in NAMES]
        rsum = f"{paper.rsum:.1f}" if paper.rsum is not None else "-"
        kind = f"reported, {paper.kind_in_words or 'single or ensemble not said'}"
        rows.append([f"{paper.model} ({paper.source})", kind, *six, rsum, *(["-"] * 3 if wide else [])])
    folds = f", mean of {result.protocol.folds} folds" if result.protocol.folds > 1 else ""
    title = f"{result.protocol.says}: {result.images:,} images, {result.captions:,} captions{folds}"
    return Shown(title, columns, rows, words=2)


def _not_comparable(caveat: str, papers: Sequence[Reported]) -> Shown:
    rows = [
        [f"{paper.model} ({paper.source})", paper.protocol, paper.figures_in_words]
        for paper in papers
        if paper.caveat == caveat
    ]
    title = f"reported, not comparable with the figures above: {caveat}"
    return Shown(title, ["in the paper", "on", "figures"], rows, words=3)


def _against(found: Against) -> Shown:
    rows = []
    for name, one in found.figures.items():
        p = "< 0.001" if one.p < 0.001 else f"{one.p:.3f}"
        rows.append([name, f"{one.value:+.2f}", _span(one.low, one.high, "+.2f"), p])
    title = f"{found.first} less {found.second}, on the same images; p: how often luck alone gives as much"
    return Shown(title, ["figure", "difference", "95% interval", "p"], rows)


def _intervals(rows: Sequence[EvaluationRow]) -> Shown:
    names = [name for name in rows[0].more["intervals"] if not name.endswith("meanr")]
    cells = [[name, *(_interval(row.more["intervals"][name]) for row in rows)] for name in names]
    return Shown("95% intervals over images", ["figure", *(row.name for row in rows)], cells)


def _two_stages(rows: Sequence[EvaluationRow]) -> Shown:
    """What `itmkit search` gives up, beside all pairs scored."""
    cells, k = [], 0
    for row in rows:
        found = row.more.get("rerank")
        if found is None:  # members, and several runs together, have no index
            continue
        k = found["rerank"]
        for stage, says in (
            ("candidates", "candidates alone"),
            ("two_stages", f"best {k:,} scored"),
            ("", "all scored"),
        ):
            sides = [found[side] for side in ("i2t", "t2i")]
            exact = [row.result.i2t, row.result.t2i]
            six = [
                f"{side[stage][f'R@{n}'] if stage else getattr(all_scored, f'r{n}'):.1f}"
                for side, all_scored in zip(sides, exact, strict=True)
                for n in (1, 5, 10)
            ]
            among = [f"{side['found']:.1f}" if stage == "two_stages" else "-" for side in sides]
            cells.append([row.name, says, *six, *among])
    title = f"as search finds: answers among the best {k:,} candidates bound what scoring them can reach"
    return Shown(title, ["run", "ranked by", *NAMES, f"i2t in {k:,}", f"t2i in {k:,}"], cells, words=2)


def _slices(row: EvaluationRow) -> Shown:
    cells = []
    for one in row.more["slices"]:
        figures = [_interval(one["figures"][name]) if one["queries"] else "-" for name in ("R@1", "R@5", "R@10")]
        cells.append([one["side"], one["name"], f"{one['queries']:,}", *figures])
    title = f"{row.name}: parts of the queries, with 95% intervals"
    return Shown(title, ["side", "queries", "count", "R@1", "R@5", "R@10"], cells, words=2)


def _alphas(row: EvaluationRow) -> Shown:
    """The figures of a run with other weights of its members."""
    sweep = row.more["alpha"]
    cells = []
    for one in sweep["values"]:
        six = [one[side][f"R@{k}"] for side in ("i2t", "t2i") for k in (1, 5, 10)]
        cells.append([f"{one['alpha']:g}", *(f"{x:.1f}" for x in (*six, one["rsum"], one["mR"]))])
    title = f"{row.name}: alpha is the weight of {sweep['weight_of']}, the other member has the rest"
    return Shown(title, ["alpha", *NAMES, "rsum", "mR"], cells)


def _rankings(rows: Sequence[EvaluationRow], key: str, says: str) -> list[Shown]:
    """A table each direction, and each set of judgements."""
    first = rows[0].more[key]
    sets: list[tuple[str, list[Any]]] = (
        [("", [row.more[key] for row in rows])]
        if key != "judgements"
        else [(f"{name}: ", [row.more[key][name] for row in rows]) for name in first]
    )
    found = []
    for name, each in sets:
        for side in ("i2t", "t2i"):
            facts = each[0][side]
            figures = [f for f, v in facts.items() if isinstance(v, float) and not f.endswith("found")]
            cells = [[row.name, *(f"{one[side][f]:.1f}" for f in figures)] for row, one in zip(rows, each, strict=True)]
            without = f", {facts['without']:,} without an answer left out" if facts["without"] else ""
            title = f"{name}{side}, {says}: {facts['queries']:,} queries{without}"
            found.append(Shown(title, ["run", *figures], cells))
    return found


def _ratings(rows: Sequence[EvaluationRow]) -> Shown:
    cells = []
    for row in rows:
        for kind, facts in row.more["ratings"].items():
            counts = [f"{facts['pairs']:,}", f"{facts['ratings']:,}"]
            cells.append([row.name, kind, *counts, f"{100 * facts['tau_b']:.1f}", f"{100 * facts['tau_c']:.1f}"])
    columns = ["run", "ratings by", "pairs", "ratings", "tau-b", "tau-c"]
    return Shown("agreement with people's ratings (Kendall's tau x 100)", columns, cells, words=2)


def _interval(found: dict[str, Any]) -> str:
    return f"{found['value']:.1f} ({_span(found['low'], found['high'], '.1f')})"


def _span(low: float | None, high: float | None, form: str) -> str:
    return "not known" if low is None or high is None else f"{low:{form}} to {high:{form}}"
