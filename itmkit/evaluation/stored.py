"""eval-SPLIT.json, read again: by plots, comparisons and ablations."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass

from itmkit.errors import ItmkitError
from itmkit.typed import Count, Number, Text, sealed, wrong

Side = Literal["i2t", "t2i"]
Percent = Annotated[float, Field(strict=True, ge=0, le=100.001, allow_inf_nan=False)]
Sum = Annotated[float, Field(strict=True, ge=0, le=600.006, allow_inf_nan=False)]
_BOTH = Field(min_length=2)  # of a table that may have the keys of Side alone
_R1, _R5, _R10 = (Field(alias=f"R@{k}") for k in (1, 5, 10))


@dataclass(frozen=True)
class FirstRecall:
    r1: Percent = _R1


@dataclass(frozen=True)
class _Recalls(FirstRecall):
    r5: Percent = _R5
    r10: Percent = _R10


@dataclass(frozen=True)
class _Curves:
    cmc: Annotated[list[Percent], Field(min_length=1)]
    eleven: Annotated[list[Percent], Field(min_length=11, max_length=11)]


@dataclass(frozen=True)
class _Interval:
    value: Number
    low: Number | None
    high: Number | None


@dataclass(frozen=True)
class _Slice:
    side: Side
    name: str
    queries: Count
    figures: dict[str, _Interval]


@dataclass(frozen=True)
class _Label:
    label: str
    queries: Count
    r1: Percent = _R1


@dataclass(frozen=True)
class _Weighed:
    alpha: Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
    i2t: _Recalls
    t2i: _Recalls


@dataclass(frozen=True)
class _Sweep:
    weight_of: Text
    values: Annotated[list[_Weighed], Field(min_length=1)]


@dataclass(frozen=True)
class _ByLabels:
    """By shared labels; older versions had no cmc."""

    eleven: Annotated[list[Percent], Field(min_length=11, max_length=11)]
    cmc: list[Percent] | None = None


@dataclass(frozen=True)
class _Result:
    name: Text
    kind: Text
    i2t: _Recalls
    t2i: _Recalls
    rsum: Sum
    curves: Annotated[dict[Side, _Curves], _BOTH] | None = None
    intervals: dict[str, _Interval] | None = None
    slices: list[_Slice] | None = None
    labels: Annotated[dict[Side, _ByLabels], _BOTH] | None = None
    by_label: Annotated[dict[Side, list[_Label]], _BOTH] | None = None
    alpha: _Sweep | None = None


@dataclass(frozen=True)
class _Evaluation:
    images: Count
    captions: Count
    chance_rsum: Sum
    results: Annotated[list[_Result], Field(min_length=1)]
    folds: Count = 1


_FORM = TypeAdapter(_Evaluation)


def stored_evaluation(path: Path, advice: str, *, rows: Collection[str] = ()) -> dict[str, Any]:
    """What `itmkit evaluate` wrote to `path`.

    Args:
        advice: what to do about a damaged file, added to each problem.
        rows: the names that its results must have, neither more nor fewer; empty for whatever names.

    Raises:
        ItmkitError: it holds something else: every wrong place. Or its content has changed since it was written.
    """
    raw: dict[str, Any] = sealed(path, advice)
    problems = wrong(_FORM, raw, path)
    if rows and not problems:
        names = [row["name"] for row in raw["results"]]
        problems += [f"{path}: results: no row {name!r}" for name in rows if name not in names]
        problems += [f"{path}: results: the row {name!r} is not of this run" for name in names if name not in rows]
        problems += [f"{path}: results: the row {name!r} is there twice" for name in rows if names.count(name) > 1]
    if problems:
        raise ItmkitError([f"{problem}; {advice}" for problem in problems])
    return raw
