"""From what a reader found to `dataset.jsonl`: checks it, looks at the pictures, reports all problems at once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itmkit.dataset import Caption, ImageRecord, check_described
from itmkit.datasets.prepared import PreparedDataset, Skipped, write_or_keep
from itmkit.errors import ItmkitError
from itmkit.pictures.facts import Facts, all_picture_facts
from itmkit.progress import SILENT, Progress
from itmkit.workspace import Workspace

# Names that data sets use for the three splits. COCO's "restval" is the part of val that Karpathy trains on.
SPLIT_NAMES = {"train": "train", "restval": "train", "val": "val", "dev": "val", "valid": "val", "test": "test"}


@dataclass(slots=True)
class Draft:
    """One image as a data set's own files describe it. `place` is where: file and line, or file and index.

    `candidates` are the paths at which the picture may lie; the first that exists is taken. `split` is one of
    `SPLIT_NAMES`.
    """

    id: str
    split: str
    candidates: Sequence[Path]
    captions: list[Caption]
    place: str
    labels: tuple[str, ...] = ()

    def path(self) -> Path:
        return next((path for path in self.candidates if path.exists()), self.candidates[0])


def write_drafts(
    workspace: Workspace,
    drafts: Sequence[Draft],
    problems: Iterable[str],
    *,
    kind: str,
    settings: dict[str, Any],
    notes: Iterable[str] = (),
    skip_missing: bool = False,
    force: bool = False,
    progress: Progress = SILENT,
) -> PreparedDataset:
    """Checks the drafts, looks at every picture and writes the data set.

    Args:
        problems: what the reader already found wrong. It is reported together with what is found here.
        skip_missing: leave out images whose picture is missing or unreadable, instead of reporting them.
        force: replace a data set that differs. An equal one is always left as it is.

    Raises:
        ItmkitError: every problem, before anything is written; or a different data set is there.
    """
    places = [draft.place for draft in drafts]
    problems = [*problems, *check_described(drafts, splits=SPLIT_NAMES, places=places)]
    paths = [draft.path() for draft in drafts]
    # If there are problems, nothing will be written. Reading only headers then reports them sooner.
    facts = all_picture_facts(paths, content=not problems, progress=progress)
    wrong = [(draft, fact) for draft, fact in zip(drafts, facts, strict=True) if isinstance(fact, ItmkitError)]
    if drafts and len(wrong) == len(drafts):
        problems.append(_all_wrong(drafts, wrong[0][1]))
    elif wrong and not skip_missing:
        problems.append(f"{len(wrong)} of {len(drafts)} pictures are no use; --skip-missing leaves such images out")
        problems += [f"{draft.place}: image {draft.id!r}: {error}" for draft, error in wrong]
    if problems:
        raise ItmkitError(problems)
    records = [
        _record(workspace, draft, path, fact)
        for draft, path, fact in zip(drafts, paths, facts, strict=True)
        if isinstance(fact, Facts)
    ]
    skipped = [Skipped(draft.id, str(error)) for draft, error in wrong]
    notes = [*notes, *_shared_between_splits(records)]
    return write_or_keep(workspace, records, kind=kind, settings=settings, skipped=skipped, notes=notes, force=force)


def _all_wrong(drafts: Sequence[Draft], error: ItmkitError) -> str:
    places = " or ".join(str(path) for path in drafts[0].candidates)
    count = len(drafts)
    return f"none of the {count} pictures can be read (the first: {error}; looked for {places}); is --images right?"


def _record(workspace: Workspace, draft: Draft, path: Path, facts: Facts) -> ImageRecord:
    return ImageRecord(
        id=draft.id,
        split=SPLIT_NAMES[draft.split],
        captions=tuple(draft.captions),
        file=stored_path(workspace, path),
        labels=draft.labels,
        width=facts.width,
        height=facts.height,
        bytes=facts.bytes,
        sha256=facts.sha256,
    )


def stored_path(workspace: Workspace, path: Path) -> str:
    """How dataset.jsonl writes a path: relative to the workspace when inside it, else absolute. Links are kept."""
    # Path.resolve would follow links, Path.absolute would keep "..".
    whole, root = Path(os.path.abspath(path)), Path(os.path.abspath(workspace.root))  # noqa: PTH100
    return whole.relative_to(root).as_posix() if whole.is_relative_to(root) else str(whole)


def _shared_between_splits(records: Sequence[ImageRecord]) -> list[str]:
    """A note if the same picture, byte for byte, is in several splits, since that would flatter the scores."""
    first: dict[str | None, ImageRecord] = {}
    pairs = []
    for record in records:
        other = first.setdefault(record.sha256, record)
        if other.split != record.split:
            pairs.append(f"{other.id} ({other.split}) and {record.id} ({record.split})")
    if not pairs:
        return []
    return [f"{len(pairs)} pictures are in two splits, byte for byte the same; the first: {pairs[0]}"]
