"""The figures of a report as JSON: results and intervals, papers, differences, courses, slices, labels, histograms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from itmkit.errors import ItmkitError
from itmkit.methods.reported import PROTOCOLS, Reported, not_comparable, reported
from itmkit.report.html.choose import outcomes
from itmkit.report.html.scored import Scored, with_intervals
from itmkit.report.html.walk import Walked
from itmkit.report.results import course
from itmkit.statistics.bootstrap import differences
from itmkit.workspace import Workspace


def results(scored: Sequence[Scored]) -> list[dict[str, Any]]:
    """A row for each run and, above it, for each of its members: as in eval-SPLIT.json, runs with their intervals."""
    rows = []
    for one in scored:
        for row in one.evaluation["results"]:
            figures = {key: row[key] for key in ("name", "kind", "i2t", "t2i", "rsum")}
            whole = row["name"] == one.run
            rows.append(figures | {"run": one.run, "whole": whole})
            if whole:
                rows[-1]["intervals"] = with_intervals(row, one.ranks)
            elif row.get("intervals"):
                rows[-1]["intervals"] = row["intervals"]
    return rows


def papers(methods: Sequence[str], protocol: str) -> dict[str, Any]:
    """What papers report of the methods.

    Returns:
        {"rows": on this protocol, "elsewhere": of whole models on others, "not_comparable": with their caveats}.
    """
    here = [row for method in methods for row in reported(method, protocol)] if protocol in PROTOCOLS else []
    others = [
        row
        for method in methods
        for row in reported(method)
        if not here and not row.caveat and not row.of and row.protocol in PROTOCOLS
    ]
    apart = [row for method in methods for row in not_comparable(method)]
    found = {"rows": here, "elsewhere": others, "not_comparable": apart}
    return {name: [_paper(row) for row in rows] for name, rows in found.items()}


def difference(scored: Sequence[Scored]) -> list[dict[str, Any]]:
    """The first run less each other one, with intervals and p, as `itmkit evaluate --against` gives it."""
    found = []
    for other in scored[1:]:
        figures = {name: one.to_json() for name, one in differences(scored[0].ranks, other.ranks).items()}
        found.append({"first": scored[0].run, "second": other.run, "figures": figures})
    return found


def counts(scored: Sequence[Scored]) -> dict[str, dict[str, int]]:
    """Of two runs, how many queries of each direction are right by which; {} of one run."""
    if len(scored) < 2:
        return {}
    ours, theirs = scored[0].ranks, scored[1].ranks
    return {
        "t2i": outcomes(ours.of_texts, theirs.of_texts),
        "i2t": outcomes(ours.of_images, theirs.of_images),
    }


def courses(workspace: Workspace, runs: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """{run: {member: {"epoch", "stage", "rsum", "loss", ...}}}, null where an epoch has no value; and notes."""
    found, notes = {}, []
    for run in runs:
        try:
            lines, _ = course(workspace, run)
        except ItmkitError as error:
            notes += [f"no training curve of {run}: {problem}" for problem in error.problems]
            continue
        found[run] = {
            member: {key: [_number(value) for value in values] for key, values in line.items()}
            for member, line in lines.items()
        }
    return found, notes


def measured(scored: Sequence[Scored], split: str) -> tuple[dict[str, Any], list[str]]:
    """{"slices": {run: ...}, "by_label": {run: ...}} of the runs that have them, as in eval-SPLIT.json; and notes."""
    found: dict[str, Any] = {}
    notes = []
    for key, option in (("slices", "--slices"), ("by_label", "--labels")):
        found[key] = {one.run: one.row[key] for one in scored if one.row.get(key)}
        lacking = [one.run for one in scored if one.run not in found[key] and one.facts is not None]
        if found[key] or key == "slices":  # many data sets have no labels
            notes += [
                f"no {option.removeprefix('--')} of {run}: `itmkit evaluate --run {run} --split {split} {option}`"
                " measures them"
                for run in lacking
            ]
    return found, notes


def histograms(scored: Sequence[Scored], found: Sequence[Walked]) -> dict[str, Any]:
    """{run: {"edges", "positives", "negatives"}}: how many pairs have a score between one edge and the next."""
    return {
        one.run: {
            "edges": each.edges.tolist(),
            "positives": each.positives.tolist(),
            "negatives": each.negatives.tolist(),
        }
        for one, each in zip(scored, found, strict=True)
    }


def _paper(row: Reported) -> dict[str, Any]:
    return asdict(row) | {"rsum": row.rsum, "in_words": row.figures_in_words, "kind_in_words": row.kind_in_words}


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
