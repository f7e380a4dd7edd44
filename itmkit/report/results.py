"""What runs left behind, read for drawing: metrics.jsonl, eval-SPLIT.json, PREFIX-SPLIT.json."""

from __future__ import annotations

import math
from dataclasses import field
from typing import Annotated, Any

from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass

from itmkit.errors import ItmkitError
from itmkit.evaluation.stored import FirstRecall, stored_evaluation
from itmkit.report.curves import ENSEMBLE
from itmkit.runs.records import records
from itmkit.typed import Count, Number, sealed, wrong
from itmkit.workspace import Workspace, result_path


@dataclass(frozen=True)
class _Member:
    """One member, or the ensemble, in a line of metrics.jsonl. In a stage before the last it has the loss alone."""

    loss: Number | None = None
    rsum: Number | None = None
    i2t: FirstRecall | None = None
    t2i: FirstRecall | None = None

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


_EPOCH, _MEMBERS, _COMPARISON = TypeAdapter(_Epoch), TypeAdapter(dict[str, _Member]), TypeAdapter(_Comparison)


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
    for number, raw in records(workspace.run(run)):
        place = f"{path}: line {number}"
        members = {key: value for key, value in raw.items() if isinstance(value, dict)}
        found = [*wrong(_EPOCH, raw, place), *wrong(_MEMBERS, members, place)]
        if not found and (not members or raw["epoch"] <= last):
            found = [f"{place}: epoch {raw['epoch']} after epoch {last}" if members else f"{place}: has no member"]
        problems += found
        if found:
            continue
        last, images = raw["epoch"], raw.get("validation_images") or images
        for name, figures in _MEMBERS.validate_python(members).items():
            values = {"epoch": last, "stage": raw.get("stage", ""), **figures.values()}
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
    return stored_evaluation(path, f"run `itmkit evaluate --run {run} --split {split}` again")


def comparison(workspace: Workspace, prefix: str, split: str) -> dict[str, Any]:
    """The table that `itmkit compare` wrote. Raises ItmkitError as `evaluation`."""
    path = workspace.comparison(prefix, split)
    command = f"`itmkit compare --methods A,B,... --prefix {prefix} --split {split}`"
    if not path.exists():
        have = sorted(p.name.removesuffix(f"-{split}.json") for p in path.parent.glob(f"*-{split}.json"))
        there = f"; --comparison may be {', '.join(have)}" if have else ""
        raise ItmkitError(f"{path}: no such file; {command} makes it{there}")
    raw: dict[str, Any] = sealed(path, f"run {command} again")
    if problems := wrong(_COMPARISON, raw, path):
        raise ItmkitError([f"{problem}; run {command} again" for problem in problems])
    return raw
