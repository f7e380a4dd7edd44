"""The result of an evaluation: a row for each matrix of scores, and the comparison of two rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from itmkit.errors import ItmkitError
from itmkit.evaluation.measures import Measures, mean_of_folds
from itmkit.evaluation.protocols import Protocol
from itmkit.scoring.metrics import QueryRanks, Retrieval, chance_of, mean_over, query_ranks
from itmkit.scoring.stored import Scores
from itmkit.statistics.bootstrap import Difference, differences, intervals
from itmkit.statistics.seeds import Spread, over_seeds


@dataclass(frozen=True)
class EvaluationRow:
    """One line of the table: a member of a run, or the mean of several score matrices.

    Attributes:
        kind: "single", or "ensemble of N".
        method: the run's method; "" for files and for means over runs of several methods.
        ranks: the ranks of every query, fold by fold.
        more: what else was asked for, by its name in JSON; see `itmkit.evaluation.measures`.
    """

    name: str
    kind: str
    result: Retrieval
    method: str = ""
    ranks: Sequence[QueryRanks] = ()
    more: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "kind": self.kind, **self.result.to_json(), **self.more}


@dataclass(frozen=True)
class Against:
    """Two rows on the same images: the first minus the second, figure by figure, and whether that may be chance."""

    first: str
    second: str
    figures: dict[str, Difference]

    def to_json(self) -> dict[str, Any]:
        figures = {name: one.to_json() for name, one in self.figures.items()}
        return {"first": self.first, "second": self.second, "figures": figures}


@dataclass(frozen=True)
class Evaluation:
    protocol: Protocol
    rows: list[EvaluationRow]
    images: int
    captions: int
    left_out: int  # images of the split without features, or without scores in the files
    chance_rsum: float
    precision: str  # of the matrix products behind the scores, the least of all runs; "" if the scores come from files
    against: Against | None = None
    over_runs: dict[str, Spread] | None = None  # over several runs of one method, such as runs of several seeds
    notes: tuple[str, ...] = ()  # what could not be placed

    def to_json(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"split": self.protocol.name, "folds": self.protocol.folds, "left_out": self.left_out}
        if self.precision:
            facts["precision"] = self.precision
        facts |= {"images": self.images, "captions": self.captions, "chance_rsum": self.chance_rsum}
        facts["results"] = [row.to_json() for row in self.rows]
        if self.over_runs:
            facts["over_runs"] = {figure: spread.to_json() for figure, spread in self.over_runs.items()}
        return facts | ({"against": self.against.to_json()} if self.against else {})


def check_different(named: Sequence[tuple[str, Path | None]], option: str, what: str) -> None:
    """Raises ItmkitError if two names are of one folder or file, however they are written."""
    names = dict[tuple[int, int], list[str]]()
    for name, place in named:
        if place is not None and place.exists():
            found = place.stat()
            names.setdefault((found.st_dev, found.st_ino), []).append(name)
    problems = [
        f"{option}{', '.join(dict.fromkeys(same))}: named twice; an ensemble, or a comparison, needs different {what}"
        for same in names.values()
        if len(same) > 1
    ]
    if problems:
        raise ItmkitError(problems)


@dataclass
class _Folds:
    """A row while its folds are added: their ranks, and what else was found in each (`found`) or once (`more`).

    weighted: the ranks of each fold for each weight of the member `weighed`.
    """

    kind: str
    method: str
    ranks: list[QueryRanks] = field(default_factory=list)
    found: list[dict[str, Any]] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)
    weighed: str = ""
    weighted: dict[float, list[QueryRanks]] = field(default_factory=dict)


def _mean(folds: Sequence[QueryRanks]) -> Retrieval:
    return mean_over([fold.retrieval() for fold in folds])


class Table:
    """Rows of an evaluation, fold by fold."""

    def __init__(self, measures: Measures) -> None:
        self._measures = measures
        self._rows: dict[str, _Folds] = {}

    def add(
        self, name: str, kind: str, scores: Scores, image_of: np.ndarray, *, fold: int = 0, method: str = ""
    ) -> None:
        """Adds one fold of a row. image_of: (n_texts,), the row of `scores` of each caption's image.

        Raises:
            ItmkitError: the fold has a row of this name already; the mean of the two would be taken for one run's.
        """
        row = self._rows.setdefault(name, _Folds(kind, method))
        if len(row.ranks) != fold:
            raise ItmkitError(f"{name}: two rows of the table would have this name; rename the folder of one run")
        row.ranks.append(query_ranks(scores, image_of))
        row.found.append(self._measures.of(scores, row.ranks[-1]))

    def add_more(self, name: str, key: str, found: dict[str, Any]) -> None:
        """Adds what else was found for a row, under a key of its JSON."""
        self._rows[name].more[key] = found

    def add_weighted(self, name: str, member: str, alpha: float, scores: Scores, image_of: np.ndarray) -> None:
        """Adds one fold of a row's scores in which `member` has the weight alpha, and another member the rest."""
        row = self._rows[name]
        row.weighed = member
        row.weighted.setdefault(alpha, []).append(query_ranks(scores, image_of))

    def difference(self, first: str, second: str) -> Against:
        return Against(first, second, differences(self._rows[first].ranks, self._rows[second].ranks))

    def summary(
        self,
        chosen: Protocol,
        images: int,
        captions: int,
        left_out: int,
        precision: str = "",
        against: Against | None = None,
        runs: Sequence[str] = (),
    ) -> Evaluation:
        """runs: the row names of several runs of one method, over which figures are averaged too."""
        rows = []
        for name, row in self._rows.items():
            more = mean_of_folds(row.found) | row.more
            if self._measures.wanted.intervals or self._measures.wanted.slices:  # beside which slices are read
                more = {"intervals": {figure: found.to_json() for figure, found in intervals(row.ranks).items()}} | more
            if row.weighted:
                values = [{"alpha": alpha, **_mean(ranks).to_json()} for alpha, ranks in row.weighted.items()]
                more["alpha"] = {"weight_of": row.weighed, "values": values}
            rows.append(EvaluationRow(name, row.kind, _mean(row.ranks), row.method, row.ranks, more))
        # As in training, of exactly these captions; the same of every row. Without rows there is none.
        folds = next(iter(self._rows.values())).ranks if self._rows else []
        expected = float(np.mean([chance_of(fold.image_of) for fold in folds])) if folds else 0.0
        notes = tuple(self._measures.notes)
        spread = over_seeds([row.result for row in rows if row.name in runs]) if rows and len(runs) > 1 else None
        return Evaluation(chosen, rows, images, captions, left_out, expected, precision, against, spread, notes)
