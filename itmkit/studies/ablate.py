"""`itmkit ablate`: turns off each switch of a method in turn, trains it like the whole method, and compares the two."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from itmkit.errors import ItmkitError, nearest
from itmkit.evaluation.protocols import images_of, protocol
from itmkit.matchers import METHODS, method
from itmkit.methods.published import Published, published
from itmkit.progress import SILENT, Progress
from itmkit.runs.begin import configured, settled
from itmkit.runs.facts import RunFacts, run_names
from itmkit.runs.settings import RunConfig, changed, read_config
from itmkit.statistics.bootstrap import Difference
from itmkit.studies.comparison import FIGURES
from itmkit.studies.kept_ranks import Evaluated, Folds, evaluated
from itmkit.studies.over_runs import mean_differences
from itmkit.training.budget import asked_for
from itmkit.training.train import train
from itmkit.typed import write_sealed
from itmkit.workspace import Workspace

FULL = "full"


@dataclass(frozen=True)
class AblationRow:
    """One row: the whole method ("full"), or the method with some settings changed.

    Attributes:
        figures: the six recalls and rsum.
        core_minutes: spent on its training; None for runs older than that figure.
        difference: its figures minus those of the whole method; empty for the whole method itself.
        published: what a paper reports for the same change; None if no paper does.
    """

    label: str
    settings: Mapping[str, Any]
    run: str
    kind: str
    figures: dict[str, float]
    epochs: int
    core_minutes: float | None
    difference: dict[str, Difference]
    published: Published | None

    def to_json(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"row": self.label, "settings": dict(self.settings), "run": self.run}
        facts |= {"kind": self.kind, "figures": self.figures, "epochs": self.epochs, "core_minutes": self.core_minutes}
        if self.difference:
            facts["difference"] = {name: one.to_json() for name, one in self.difference.items()}
        return facts | ({"reported": self.published.to_json()} if self.published else {})


@dataclass(frozen=True)
class Ablation:
    """rows: in the order in which the method declares them. left_out: why a row is missing, by its label."""

    run: str
    method: str
    split: str
    says: str
    images: int
    captions: int
    full: AblationRow
    rows: list[AblationRow]
    left_out: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"run": self.run, "method": self.method, "split": self.split}
        facts |= {"images": self.images, "captions": self.captions}
        rows = [row.to_json() for row in (self.full, *self.rows)]
        return facts | {"rows": rows, "left_out": self.left_out}


def ablate(
    workspace: Workspace,
    name: str,
    *,
    recipe: str | None = None,
    settings: Mapping[str, Any] | None = None,
    only: Sequence[str] = (),
    split: str = "test",
    device: str | None = None,
    force: bool = False,
    progress: Progress = SILENT,
) -> Ablation:
    """Trains a method once for each row of its `ABLATIONS`, with the settings and seed of a run, and compares them.

    Rows are the runs `<name>+<row>`. What is finished is not done again. The result is also written to
    `runs/<name>-ablation-<split>.json`.

    Args:
        name: a run, whose settings the rows share; or a method, in which case a run of that name is trained first.
        recipe, settings: of that run, as in training. If the run exists, they must be the ones it was trained with.
        only: labels of rows; all of them by default.
        force: train the rows anew. The run itself is left as it is.

    Raises:
        ItmkitError: `name` is neither a run nor a method, rows or settings are unknown, or caches are missing. This is
            raised before any training.
    """
    images_of(protocol(split), workspace.dataset())  # now, not after all that is trained
    config = _base(workspace, name, recipe, settings or {})
    rows, left_out = _planned(workspace, config, name, only)
    if not rows:
        raise ItmkitError([f"{label}: {why}" for label, why in left_out.items()])
    for label, why in left_out.items():
        progress.note(f"{label}: left out ({why})")
    progress.note(f"{FULL}: runs/{name}")
    train(workspace, config, run=name, device=device, progress=progress)
    for label, row in rows.items():
        run = row_run(name, label)
        progress.note(f"{label}: runs/{run}")
        train(workspace, row, run=run, device=device, force=force, progress=progress)

    def found(label: str, run: str, whole: Folds | None = None) -> tuple[AblationRow, Evaluated]:
        evaluation = evaluated(workspace, run, split, device=device, progress=progress)
        return _row(workspace, config, label, run, split, evaluation, whole), evaluation

    full, evaluation = found(FULL, name)
    whole = evaluation.ranks[name]
    result = Ablation(
        run=name,
        method=config.method,
        split=split,
        says=protocol(split).says,
        images=evaluation.facts["images"],
        captions=evaluation.facts["captions"],
        full=full,
        rows=[found(label, row_run(name, label), whole)[0] for label in rows],
        left_out=left_out,
    )
    write_sealed(workspace.comparison(f"{name}-ablation", split), result.to_json())
    return result


def row_run(name: str, label: str) -> str:
    """The folder name of a row's run."""
    return f"{name}+{re.sub(r'[^A-Za-z0-9.]+', '-', label)}"


def _base(workspace: Workspace, name: str, recipe: str | None, settings: Mapping[str, Any]) -> RunConfig:
    """The settings of the whole method."""
    folder = workspace.run(name)
    before = read_config(folder / "config.toml") if RunFacts.exist(folder) else None
    if before is None and name not in METHODS:
        have = run_names(workspace)
        neither = f"{name!r} is neither a run ({', '.join(have) or 'none yet'}) nor a method ({', '.join(METHODS)})"
        raise ItmkitError(neither + nearest(name, [*have, *METHODS]))
    if before is not None and recipe is None and not settings:
        return before
    chosen = recipe or (before.recipe if before is not None else "small")
    return configured(workspace, before.method if before else name, recipe=chosen, settings=settings, run=name)


def _planned(
    workspace: Workspace, config: RunConfig, name: str, only: Sequence[str]
) -> tuple[dict[str, RunConfig], dict[str, str]]:
    """The settings of the run of each row, and why others are left out."""
    declared: dict[str, dict[str, Any]] = getattr(method(config.method), "ABLATIONS", {})
    if not declared:
        raise ItmkitError(f"{config.method} declares no ablations: it has no part that could be switched off")
    unknown = [label for label in only if label not in declared]
    if unknown:
        have = ", ".join(declared)
        raise ItmkitError([f"--only {label!r}: {config.method} has no such row; it has {have}" for label in unknown])
    rows, left_out = {}, {}
    for label in only or declared:
        try:
            row = changed(asked_for(config), declared[label])
            if row.matcher == asked_for(config).matcher:
                left_out[label] = f"runs/{name} is like this already"
                continue
            rows[label] = settled(workspace, row, workspace.run(row_run(name, label)))
        except ItmkitError as error:
            left_out[label] = "; ".join(error.problems)
    if only and left_out:
        raise ItmkitError([f"--only {label!r}: {why}" for label, why in left_out.items()])
    return rows, left_out


def _row(
    workspace: Workspace,
    config: RunConfig,
    label: str,
    run: str,
    split: str,
    evaluation: Evaluated,
    whole: Folds | None,
) -> AblationRow:
    """The row of one run, compared with the ranks of the whole method if they are given."""
    mine = next(one for one in evaluation.facts["results"] if one["name"] == run)
    trained = RunFacts.read(workspace.run(run))
    switched = method(config.method).ABLATIONS.get(label, {})
    return AblationRow(
        label=label,
        settings=switched,
        run=run,
        kind=mine["kind"],
        figures={figure: _figure(mine, figure) for figure in FIGURES},
        epochs=trained.epochs_done,
        core_minutes=trained.core_minutes,
        difference=mean_differences([evaluation.ranks[run]], [whole]) if whole is not None else {},
        published=published(config, switched, split) if switched else None,
    )


def _figure(facts: Mapping[str, Any], figure: str) -> float:
    side, _, recall = figure.partition(" ")
    return float(facts[side][recall] if recall else facts["rsum"])
