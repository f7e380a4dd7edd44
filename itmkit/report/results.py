"""What runs left behind, read for drawing: metrics.jsonl, eval-SPLIT.json, PREFIX-SPLIT.json."""

from __future__ import annotations

import json
import math
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from itmkit.errors import ItmkitError
from itmkit.files import read_json, read_text
from itmkit.report.curves import ENSEMBLE
from itmkit.workspace import Workspace, result_path

Side = Literal["i2t", "t2i"]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Percent = Annotated[float, Field(strict=True, ge=0, le=100.001, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True, ge=0)]
_BOTH = Field(min_length=2)  # of a table that may have the keys of Side alone
_R1 = Field(alias="R@1")


@dataclass(frozen=True)
class _Recalls:
    r1: Percent = _R1


@dataclass(frozen=True)
class _Member:
    """One member, or the ensemble, in a line of metrics.jsonl. In a stage before the last it has the loss alone."""

    loss: Number | None = None
    rsum: Number | None = None
    i2t: _Recalls | None = None
    t2i: _Recalls | None = None

    def values(self) -> dict[str, float]:
        r1 = [None if side is None else side.r1 for side in (self.i2t, self.t2i)]
        found = {"rsum": self.rsum, "loss": self.loss, "i2t R@1": r1[0], "t2i R@1": r1[1]}
        return {key: math.nan if value is None else value for key, value in found.items()}


@dataclass(frozen=True)
class _Epoch:
    epoch: Count
    stage: str = ""
    validation_images: Count | None = None


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
class _Result:
    name: str
    kind: str
    i2t: _Recalls
    t2i: _Recalls
    curves: Annotated[dict[Side, _Curves], _BOTH] | None = None
    intervals: dict[str, _Interval] | None = None
    slices: list[_Slice] | None = None
    by_label: Annotated[dict[Side, list[_Label]], _BOTH] | None = None


@dataclass(frozen=True)
class _Evaluation:
    images: Count
    captions: Count
    results: Annotated[list[_Result], Field(min_length=1)]
    folds: Count = 1


@dataclass(frozen=True)
class _Row:
    name: str
    kind: str
    values: dict[str, Annotated[list[Number], Field(min_length=1)]]


@dataclass(frozen=True)
class _Comparison:
    images: Count
    seeds: list[int]
    chance_rsum: Number
    rows: Annotated[list[_Row], Field(min_length=1)]
    members: list[_Row] = field(default_factory=list)


_EPOCH, _MEMBERS = TypeAdapter(_Epoch), TypeAdapter(dict[str, _Member])


def course(workspace: Workspace, run: str) -> tuple[dict[str, dict[str, list[Any]]], int]:
    """The lines of a run as `itmkit.report.curves.epochs` takes them, the ensemble last, and how many validation
    images each of its epochs was scored on (0: none was).

    Raises:
        ItmkitError: no such run, a line that is not of training (which one and what), no finished epoch.
    """
    path = workspace.run(run) / "metrics.jsonl"
    if not path.exists():
        raise ItmkitError(f"{path}: no such file; `itmkit train --run {run}` writes it after the first epoch")
    lines: dict[str, dict[str, list[Any]]] = {}
    images, last, problems = 0, -1, []
    text = read_text(path)
    written = text.splitlines()
    for number, line in enumerate(written, 1):
        place = f"{path}: line {number}"
        try:
            raw = json.loads(line)
        except (json.JSONDecodeError, RecursionError):
            if number < len(written) or text.endswith("\n"):  # else: cut by a kill, and written again on resuming
                problems.append(f"{place}: not JSON; train the run anew with --force")
            continue
        members = {key: value for key, value in raw.items() if isinstance(value, dict)} if isinstance(raw, dict) else {}
        wrong = [*_wrong(_EPOCH, raw, place), *_wrong(_MEMBERS, members, place)]
        if not wrong and (not members or raw["epoch"] <= last):
            wrong = [f"{place}: epoch {raw['epoch']} after epoch {last}" if members else f"{place}: has no member"]
        problems += wrong
        if wrong:
            continue
        last, images = raw["epoch"], raw.get("validation_images") or images
        for name, found in _MEMBERS.validate_python(members).items():
            values = {"epoch": last, "stage": raw.get("stage", ""), **found.values()}
            if not last:
                values["loss"] = math.nan  # nothing was trained
            for key, value in values.items():
                lines.setdefault(name, {}).setdefault(key, []).append(value)
    if problems:
        raise ItmkitError(problems)
    if not lines:
        raise ItmkitError(f"{path}: no epoch is finished yet; `itmkit train --run {run}` goes on")
    ensemble = {ENSEMBLE: lines.pop(ENSEMBLE)} if ENSEMBLE in lines else {}
    return lines | ensemble, images


def evaluation(workspace: Workspace, run: str, split: str) -> dict[str, Any]:
    """The eval-SPLIT.json of a run.

    Raises:
        ItmkitError: it is not there, or holds something else: every place.
    """
    path = result_path(workspace.run(run), split)
    if not path.exists():
        raise ItmkitError(f"{path}: no such file; run `itmkit evaluate --run {run} --split {split}`")
    return _read(path, TypeAdapter(_Evaluation), f"run `itmkit evaluate --run {run} --split {split}` again")


def comparison(workspace: Workspace, prefix: str, split: str) -> dict[str, Any]:
    """The table that `itmkit compare` wrote. Raises ItmkitError as `evaluation`."""
    path = workspace.comparison(prefix, split)
    command = f"`itmkit compare --methods A,B,... --prefix {prefix} --split {split}`"
    if not path.exists():
        have = sorted(p.name.removesuffix(f"-{split}.json") for p in path.parent.glob(f"*-{split}.json"))
        there = f"; --comparison may be {', '.join(have)}" if have else ""
        raise ItmkitError(f"{path}: no such file; {command} makes it{there}")
    return _read(path, TypeAdapter(_Comparison), f"run {command} again")


def _read(path: Path, form: TypeAdapter, command: str) -> Any:
    raw = read_json(path)
    if problems := _wrong(form, raw, str(path)):
        raise ItmkitError([f"{problem}; {command}" for problem in problems])
    return raw


def _wrong(form: TypeAdapter, raw: Any, place: str) -> list[str]:
    """What of a JSON value is not of the form, each with its place in the value."""
    try:
        form.validate_python(raw)
    except ValidationError as error:
        return [f"{place}: {_place(item['loc'])}{item['msg']}" for item in error.errors()]
    return []


def _place(parts: tuple[int | str, ...]) -> str:
    said = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".")
    return f"{said}: " if said else ""
