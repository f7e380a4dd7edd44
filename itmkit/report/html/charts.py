"""Which charts a report has, each drawn from the JSON that stands in the page."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from itmkit.report.curves import ENSEMBLE
from itmkit.report.html import svg

NAMES = tuple(f"{side} R@{k}" for side in ("i2t", "t2i") for k in (1, 5, 10))
SIDES = {"i2t": "image queries", "t2i": "caption queries"}
LABELS = 20  # drawn, those with the most queries


def charts(data: dict[str, Any]) -> dict[str, str]:
    """{name: SVG}: "recalls", "epochs rsum", "epochs loss", "slices i2t", ..., "labels t2i", "histogram RUN"."""
    runs = [run["name"] for run in data["runs"]]
    whole = {row["name"]: row["intervals"] for row in data["results"] if row["whole"]}
    rows = [(name, [whole[run][name] for run in runs]) for name in NAMES]
    found = {"recalls": svg.dots(rows, runs, f"Recalls of {', '.join(runs)} with 95% intervals, in percent", left=66)}
    found |= _epochs(data, runs) | _slices(data, runs) | _labels(data, runs)
    for run, each in data["histograms"].items():
        says = f"Scores of {run}: pairs that belong together, and all others"
        found[f"histogram {run}"] = svg.histogram(each["edges"], each["positives"], each["negatives"], says)
    return {name: drawn for name, drawn in found.items() if drawn}


def trees(data: dict[str, Any]) -> list[str]:
    """The dependency tree of each caption query, "" where there is none."""
    return [svg.tree(query.get("words", [])) for query in data["queries"]["t2i"]]


def _epochs(data: dict[str, Any], runs: list[str]) -> dict[str, str]:
    """rsum of each run, or of its ensemble, and the losses of its members."""
    sums: list[svg.Series] = []
    losses: list[svg.Series] = []
    for number, run in enumerate(runs):
        members = data["courses"].get(run, {})
        for name, line in members.items():
            if name == ENSEMBLE or len(members) == 1:
                sums += _stages(run, number, line, "rsum")
            if name != ENSEMBLE:
                losses += _stages(f"{run}/{name}" if len(members) > 1 else run, number, line, "loss")
    return {
        "epochs rsum": svg.lines(sums, "rsum on the validation images over the epochs"),
        "epochs loss": svg.lines(losses, "training loss over the epochs"),
    }


def _stages(name: str, number: int, line: dict[str, Any], key: str) -> Iterator[svg.Series]:
    """A line of its own for each stage of training: losses of different stages are of different kinds."""
    for stage, found in groupby(range(len(line["epoch"])), key=lambda place: line["stage"][place]):
        places = list(found)
        says = f"{name}, {stage}" if stage else name
        yield says, number, [line["epoch"][place] for place in places], [line[key][place] for place in places]


def _slices(data: dict[str, Any], runs: list[str]) -> dict[str, str]:
    """R@1 of each slice that has queries."""
    found = {}
    for side, says in SIDES.items():
        rows: dict[str, list[Any]] = {}
        counts: dict[str, int] = {}
        for number, run in enumerate(runs):
            for one in data["slices"].get(run, []):
                if one["side"] == side and "R@1" in one["figures"]:
                    rows.setdefault(one["name"], [None] * len(runs))[number] = one["figures"]["R@1"]
                    counts.setdefault(one["name"], one["queries"])
        if rows:
            named = [(f"{name} ({counts[name]:,})", row) for name, row in rows.items()]
            found[f"slices {side}"] = svg.dots(named, runs, f"R@1 of slices of the {says}, in percent", left=150)
    return found


def _labels(data: dict[str, Any], runs: list[str]) -> dict[str, str]:
    """R@1 of the commonest labels, in the order of the first run that has them."""
    found = {}
    for side, says in SIDES.items():
        each = {run: {row["label"]: row for row in sides[side]} for run, sides in data["by_label"].items()}
        first = next(iter(each.values()), {})
        common = sorted(first.values(), key=lambda row: (-row["queries"], row["label"]))[:LABELS]
        rows = []
        for one in sorted(common, key=lambda row: (-row["R@1"], row["label"])):
            of_runs = [each.get(run, {}).get(one["label"]) for run in runs]
            values = [{"value": row["R@1"], "low": None, "high": None} if row else None for row in of_runs]
            rows.append((f"{one['label']} ({one['queries']:,})", values))
        if rows:
            found[f"labels {side}"] = svg.dots(rows, runs, f"R@1 of {says} with a label, in percent", left=150)
    return found
