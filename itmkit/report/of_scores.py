"""Figures of score matrices: what queries find, and how scores are spread."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from itmkit.dataset import ImageRecord, image_of_captions, label_matrix
from itmkit.errors import ItmkitError
from itmkit.evaluation.protocols import images_of, protocol
from itmkit.report.choice import Choice, Drawing, data_name, titled
from itmkit.report.histograms import histogram, histograms
from itmkit.report.photographs import Photographs
from itmkit.report.retrieved import MOST_RUNS, Found, Query, Side, finds
from itmkit.report.retrieved import retrieved as draw_retrieved
from itmkit.runs.facts import run_names
from itmkit.scoring.ranks import check_finite
from itmkit.scoring.stored import ScoreFile, Scores
from itmkit.workspace import Workspace

OF_SCORES = ("scores", "retrieved")


def scores_path(workspace: Workspace, run: str, split: str) -> Path:
    """Where the scores of a run are looked for: in its folder, so that they are gone when it is replaced."""
    return workspace.run(run) / f"scores-{split}.h5"


def keeps(workspace: Workspace, run: str, split: str) -> str:
    """The command that puts them there."""
    place = shlex.quote(str(scores_path(workspace, run, split)))
    return f"itmkit evaluate --run {shlex.quote(run)} --split {split} --save-scores {place}"


@dataclass(frozen=True)
class Stored:
    """Scores of several series for the same images.

    Attributes:
        images: in the order of the rows; their captions are the columns.
        series: {name of a run, or of a file: its scores}. numbers: of the look of each.
    """

    images: list[ImageRecord]
    series: dict[str, Scores]
    numbers: list[int]

    @property
    def image_of(self) -> np.ndarray:
        return image_of_captions(self.images)


def scores(workspace: Workspace, choice: Choice) -> Drawing:
    """Histograms of the scores of matching pairs and of all others."""
    stored = _stored(workspace, choice)
    title, named = _title("scores of pairs", workspace, choice, stored)
    found = {named[name]: histogram(one, stored.image_of) for name, one in stored.series.items()}
    figure = histograms(found, title, numbers=stored.numbers)
    return Drawing("scores", f"scores-{choice.split}", title, list(found), figure)


def retrieved(workspace: Workspace, choice: Choice) -> Drawing:
    """The best finds of some queries, in both directions."""
    stored = _stored(workspace, choice)
    if len(stored.series) > MOST_RUNS:
        raise ItmkitError(
            f"retrieved: {len(stored.series)} runs side by side cannot be read; name {MOST_RUNS} of"
            f" {', '.join(stored.series)}, at most, with --run or --scores"
        )
    if choice.by == "labels" and not any(image.labels for image in stored.images):
        raise ItmkitError("--by labels: the images of this split have no labels; see `itmkit prepare`")
    rows, columns = _queries(choice, stored)
    found = {name: _finds(one, stored, rows, columns, choice) for name, one in stored.series.items()}
    what = "what shares a label" if choice.by == "labels" else "what belongs to it"
    title, named = _title(f"the best {choice.best} of a query; \u2713 is {what}", workspace, choice, stored)
    with Photographs(workspace) as photographs:
        asked: list[tuple[Side, int]] = [*(("i2t", row) for row in rows), *(("t2i", column) for column in columns)]
        queries = [
            Query(*query, stored.images, {named[run]: mine[query] for run, mine in found.items()}) for query in asked
        ]
        figure = draw_retrieved(queries, title, photographs.of, numbers=stored.numbers)
    return Drawing("retrieved", f"retrieved-{choice.split}", title, list(named.values()), figure)


def _title(says: str, workspace: Workspace, choice: Choice, stored: Stored) -> tuple[str, dict[str, str]]:
    images = f"{len(stored.images):,} images"
    title = f"{says}: {data_name(workspace)}, {choice.split}, {images}"
    titled(says, dict.fromkeys(stored.series, images), dict.fromkeys(stored.series, ""))  # refuses too many
    return title, {name: name for name in stored.series}


def _stored(workspace: Workspace, choice: Choice) -> Stored:
    """The scores that were named, or those in the folders of runs.

    Raises:
        ItmkitError: what is missing, with the command that makes it; or a file is damaged or of other images.
    """
    chosen = protocol(choice.split)
    if chosen.folds > 1:
        raise ItmkitError(f"--split {chosen.name}: compares within {chosen.folds} folds; take --split {chosen.split}")
    files = _files(workspace, choice)
    records = images_of(chosen, workspace.dataset())
    common = set.intersection(*(set(one.images) for one in files.values()))
    images = [image for image in records if image.id in common]
    if not images:
        place = next(iter(files.values())).path
        raise ItmkitError(f"{place}: has scores of none of the {len(records)} images of split {chosen.split!r}")
    captions = [caption.id for image in images for caption in image.captions]
    ids = [image.id for image in images]
    series: dict[str, Scores] = {name: one.places(ids, captions) for name, one in files.items()}
    return Stored(images, series, choice.colours.of(list(series)))


def _files(workspace: Workspace, choice: Choice) -> dict[str, ScoreFile]:
    if choice.scores and choice.runs:
        raise ItmkitError("--run and --scores: give one of them")
    found: dict[str, ScoreFile] = {}
    problems: list[str] = []
    if choice.scores:
        for path in choice.scores:
            try:
                one = ScoreFile(path)
            except ItmkitError as error:
                problems += error.problems
                continue
            name = one.made_by.strip() or path.name
            found[name if name not in found else str(path)] = one
    else:
        split = choice.split
        there = [run for run in run_names(workspace) if scores_path(workspace, run, split).exists()]
        for run in choice.runs or there:
            path = scores_path(workspace, run, split)
            if path.exists():
                found[run] = ScoreFile(path)
            else:
                problems.append(
                    f"{path}: no such file; run `{keeps(workspace, run, split)}`, or name one with --scores"
                )
        if not found and not problems:
            command = keeps(workspace, next(iter(run_names(workspace)), "NAME"), split)
            problems.append(
                f"{workspace.root / 'runs'}: no run has kept its scores of split {split!r}; run `{command}`, or name a"
                " file with --scores"
            )
    if problems:
        raise ItmkitError(problems)
    return found


def _queries(choice: Choice, stored: Stored) -> tuple[list[int], list[int]]:
    """Rows and columns of the queries: those that were named, else some by lot.

    Raises:
        ItmkitError: an image or a caption that has no scores.
    """
    captions = [caption for image in stored.images for caption in image.captions]
    if not choice.images and not choice.captions:
        draw = np.random.default_rng(choice.seed)
        by_lot = [draw.permutation(count)[: choice.queries] for count in (len(stored.images), len(captions))]
        return sorted(by_lot[0].tolist()), sorted(by_lot[1].tolist())
    rows = {image.id: row for row, image in enumerate(stored.images)}
    columns: dict[str, int] = {}
    for column, caption in enumerate(captions):
        columns.setdefault(caption.text, column)
    columns |= {caption.id: column for column, caption in enumerate(captions)}
    problems = [f"--image {one}: no such image among those with scores" for one in choice.images if one not in rows]
    problems += [
        f"--caption {one}: neither the id nor the text of a caption among those with scores"
        for one in choice.captions
        if one not in columns
    ]
    if problems:
        raise ItmkitError(problems)
    return [rows[one] for one in dict.fromkeys(choice.images)], [columns[one] for one in dict.fromkeys(choice.captions)]


def _finds(
    scores: Scores, stored: Stored, rows: Sequence[int], columns: Sequence[int], choice: Choice
) -> dict[tuple[Side, int], Found]:
    """{(side, query): what it finds}. The scores are read once."""
    kept_rows: dict[int, np.ndarray] = {}
    kept_columns = np.empty((scores.shape[0], len(columns)), np.float64)
    for start, block in scores.blocks():
        check_finite(start, block)
        kept_rows |= {row: block[row - start] for row in rows if start <= row < start + len(block)}
        kept_columns[start : start + len(block)] = block[:, list(columns)]
    image_of, images = stored.image_of, np.arange(len(stored.images))
    labels = label_matrix(stored.images)[1] if choice.by == "labels" else None

    def right(image: int, of: np.ndarray) -> np.ndarray:
        """Which of some items, each the image or a caption of an image `of`, are right for a query about `image`."""
        return of == image if labels is None else (labels[of] & labels[image]).any(axis=1)

    found: dict[tuple[Side, int], Found] = {
        ("i2t", row): finds(kept_rows[row], right(row, image_of), choice.best) for row in rows
    }
    for place, column in enumerate(columns):
        found["t2i", column] = finds(kept_columns[:, place], right(int(image_of[column]), images), choice.best)
    return found
