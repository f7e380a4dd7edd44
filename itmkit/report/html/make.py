"""`itmkit report`: gathers what the page shows, as one JSON value, and writes it."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import itmkit
from itmkit.dataset import ImageRecord
from itmkit.errors import ItmkitError
from itmkit.evaluation.protocols import Protocol, protocol
from itmkit.progress import SILENT, Progress
from itmkit.report.html import figures
from itmkit.report.html.boxes import add_boxes
from itmkit.report.html.pictures import Pictures, check_folder
from itmkit.report.html.queries import caption_queries, chosen_lists, image_queries, walked, wrong_pairs
from itmkit.report.html.scored import Scored, scored
from itmkit.report.html.write import Written, check_target, whole_folder, write_page
from itmkit.runs.facts import RunFacts, no_such_run
from itmkit.trained import open_matcher
from itmkit.workspace import Workspace

QUERIES = 24
LONGEST = 240  # bytes of a name: most file systems have room for 255, and it is written under a longer one at first


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a report is to show.

    Attributes:
        runs: the first is shown query by query, beside the second if there is one; all are in tables and charts.
        scores: {run: a file of `itmkit evaluate --save-scores`}; its name may then be that of no run.
        queries: shown of each direction, at most.
        images: a folder of pictures, for those that the workspace does not know.
        pages: write a folder, whose pictures are files; else one file.
        out: where; by default in `reports/` of the workspace.
        command: how to make it again, for the footer.
        models, device: as for `itmkit.trained.open_matcher`.
    """

    runs: Sequence[str]
    split: str = "test"
    scores: dict[str, Path] = field(default_factory=dict)
    queries: int = QUERIES
    images: Path | None = None
    pages: bool = False
    out: Path | None = None
    command: str = ""
    models: dict[str, str] = field(default_factory=dict)
    device: str | None = None

    def target(self, workspace: Workspace) -> Path:
        name = "+".join(self.runs) + f"-{self.split}"
        return self.out or workspace.root / "reports" / (name if self.pages else f"{name}.html")


def make_report(workspace: Workspace, asked: Asked, progress: Progress = SILENT) -> Written:
    """Writes the report.

    Scores come from the files of `asked.scores`, else from `runs/NAME/scores-SPLIT.h5`; where there is none, the run
    scores the split once and keeps them there.

    Raises:
        ItmkitError: everything that is wrong with what was asked, before anything is scored; a page would be too large.
    """
    chosen = _checked(workspace, asked)
    every = [
        scored(workspace, run, chosen, asked.scores.get(run), device=asked.device, progress=progress)
        for run in asked.runs
    ]
    _check_alike(every)
    data = _data(workspace, asked, chosen, every, progress)
    target = asked.target(workspace)
    if not asked.pages:
        return write_page(target, data, _pictures(workspace, asked, every, data, None, progress))
    with whole_folder(target) as partial:
        made = _pictures(workspace, asked, every, data, partial, progress)
        written = write_page(partial / "index.html", data, made, beside=True)
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    return Written(target / "index.html", size, written.notes)


def _checked(workspace: Workspace, asked: Asked) -> Protocol:
    """Raises ItmkitError with all problems that are known before anything is read."""
    twice = sorted({run for run in asked.runs if asked.runs.count(run) > 1})
    problems = [f"{run}: named twice; a report compares different runs" for run in twice]
    problems += _told(lambda: _check_split(asked.split))
    for run in dict.fromkeys(asked.runs):
        problems += _told(partial(_check_run, workspace, run, run in asked.scores))
    for run, file in asked.scores.items():
        if run not in asked.runs:
            problems.append(f"--scores {run}={file}: {run!r} is none of the runs of this report")
        elif not file.is_file():
            problems.append(f"--scores {run}={file}: no such file")
    problems += _told(lambda: _check_target(asked.target(workspace), folder=asked.pages))
    if asked.images is not None:
        problems += _told(partial(check_folder, asked.images))
    if problems:
        raise ItmkitError(problems)
    return protocol(asked.split)


def _told(check: Callable[[], None]) -> list[str]:
    try:
        check()
    except ItmkitError as error:
        return error.problems
    return []


def _check_split(name: str) -> None:
    chosen = protocol(name)
    if chosen.folds > 1:
        raise ItmkitError(
            f"--split {name}: compares within {chosen.folds} folds only, so there is no one ranking to show; take"
            f" --split {chosen.split}"
        )


def _check_run(workspace: Workspace, run: str, has_scores: bool) -> None:
    if not RunFacts.exist(workspace.run(run)) and not has_scores:  # a name that no run can have is an error anyway
        raise no_such_run(workspace, run, option="", nor="")


def _check_target(target: Path, *, folder: bool) -> None:
    if len(os.fsencode(target.name)) > LONGEST:  # as one made of the names of many runs may be
        raise ItmkitError(f"{target.name[:40]}...: is too long for the name of a file; -o names a shorter one")
    check_target(target, folder=folder)


def _check_alike(every: Sequence[Scored]) -> None:
    first = [image.id for image in every[0].images]
    other = [one for one in every[1:] if [image.id for image in one.images] != first]
    if other:
        raise ItmkitError(
            [
                f"{one.file}: has scores of {len(one.images):,} images of the split, {every[0].file} of"
                f" {len(first):,}; runs are compared on the same images"
                for one in other
            ]
        )


def _data(
    workspace: Workspace, asked: Asked, chosen: Protocol, every: Sequence[Scored], progress: Progress
) -> dict[str, Any]:
    """Everything that the page shows, but for the pictures."""
    lists = chosen_lists(every, asked.queries)
    found = walked(every, lists)
    queries = {
        "t2i": caption_queries(every, lists["t2i"], found),
        "i2t": image_queries(every, lists["i2t"], found),
    }
    regions, layers, notes = _boxes(workspace, asked, every[0], queries["t2i"], progress)
    curves, more = figures.courses(workspace, [one.run for one in every if one.facts is not None])
    asked_for, unmeasured = figures.measured(every, chosen.name)
    methods = list(dict.fromkeys(one.facts.method for one in every if one.facts is not None))
    ours = every[0]
    return {
        "schema": 1,
        "split": chosen.name,
        "says": chosen.says,
        "images": len(ours.images),
        "captions": len(ours.ranks.of_texts),
        "left_out": ours.evaluation.get("left_out", 0),
        "chance_rsum": ours.evaluation["chance_rsum"],
        "runs": [{"name": one.run, "method": one.facts.method if one.facts else ""} for one in every],
        "results": figures.results(every),
        "papers": figures.papers(methods, chosen.name),
        "difference": figures.difference(every),
        "counts": figures.counts(every),
        "courses": curves,
        **asked_for,
        "histograms": figures.histograms(every, found),
        "lists": {side: [{"title": one.title, "says": one.says} for one in each] for side, each in lists.items()},
        "layers": layers,
        "queries": queries,
        "regions": regions,
        "pairs": wrong_pairs(ours, found[0].wrong),
        "notes": [*more, *unmeasured, *notes],
        "made": _made(asked, every),
    }


def _boxes(
    workspace: Workspace, asked: Asked, ours: Scored, queries: list[dict[str, Any]], progress: Progress
) -> tuple[dict[str, Any], list[str], list[str]]:
    """Regions, layers and notes; a page without boxes says why."""
    if ours.facts is None:
        return {}, [], [f"no boxes of words: {ours.run} is a file of scores, without a model that could be asked"]
    try:
        with open_matcher(workspace.run(ours.run), device=asked.device, models=asked.models) as matcher:
            return add_boxes(matcher, queries, progress)
    except ItmkitError as error:
        return {}, [], [f"no boxes of words: {problem}" for problem in error.problems]


def _pictures(
    workspace: Workspace,
    asked: Asked,
    every: Sequence[Scored],
    data: dict[str, Any],
    beside: Path | None,
    progress: Progress,
) -> dict[str, dict[str, str | int]]:
    """{image: its small picture} of all that the page shows; adds a note on those that have none."""
    records = {image.id: image for image in every[0].images}
    wanted = _shown_images(data, records)
    made: dict[str, dict[str, str | int]] = {}
    pictures = Pictures(workspace, images=asked.images, beside=beside)
    try:
        with progress.task("pictures", len(wanted), unit="pictures") as advance:
            for record in wanted:
                if (found := pictures.get(record)) is not None:
                    made[record.id] = found
                advance()
    finally:
        pictures.close()
    if pictures.lacking:
        where = "" if asked.images is not None else "; --images FOLDER says where pictures lie"
        data["notes"].append(f"{pictures.lacking} of {len(wanted)} pictures are not there or cannot be read{where}")
    return made


def _shown_images(data: dict[str, Any], records: dict[str, ImageRecord]) -> list[ImageRecord]:
    """In the order in which the page shows them first."""
    ids: dict[str, None] = {}
    for query in data["queries"]["t2i"]:
        ids |= dict.fromkeys(shown["image"] for shown in [*query["shown"], *query.get("baseline_shown", ())])
    ids |= dict.fromkeys(query["image"] for query in data["queries"]["i2t"])
    for pair in data["pairs"]:
        ids |= dict.fromkeys((pair["image"], pair["caption_image"]))
    return [records[image] for image in ids]


def _made(asked: Asked, every: Sequence[Scored]) -> dict[str, Any]:
    """How the page came about; no dates, so that the same runs give the same page."""
    versions = {"itmkit": itmkit.__version__, "python": platform.python_version(), "torch": str(torch.__version__)}
    caches = {one.run: dict(one.facts.caches) for one in every if one.facts is not None}
    return {"command": asked.command, "versions": versions | {"numpy": np.__version__}, "caches": caches}
