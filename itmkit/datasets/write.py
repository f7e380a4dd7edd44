"""From what a reader found to `dataset.jsonl`: checks it, looks at the pictures, reports all problems at once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itmkit.caption_text import evenly_spelled, is_blank
from itmkit.dataset import Caption, ImageRecord, check_described
from itmkit.datasets.add import Adding
from itmkit.datasets.draft import SPLIT_NAMES, Draft, exists, split_named
from itmkit.datasets.prepared import PreparedDataset, Skipped, write_or_keep
from itmkit.datasets.skip import NOTHING, Problems, Skip, leave_out
from itmkit.errors import ItmkitError
from itmkit.pictures.facts import Facts, all_picture_facts
from itmkit.progress import SILENT, Progress
from itmkit.workspace import Workspace


def write_drafts(
    workspace: Workspace,
    drafts: Sequence[Draft],
    problems: Problems,
    *,
    kind: str,
    settings: dict[str, Any],
    captions: int | None = None,
    notes: Iterable[str] = (),
    skip: Skip = NOTHING,
    force: bool = False,
    progress: Progress = SILENT,
) -> PreparedDataset:
    """Checks the drafts, looks at every picture and writes the data set.

    Args:
        problems: what the reader already found wrong. It is reported together with what is found here.
        captions: how many captions of an image are taken, in their order; None takes all.
        skip: what is left out and listed, instead of being reported.
        force: replace a data set that differs. An equal one is always left as it is.

    Raises:
        ItmkitError: every problem, before anything is written; or a different data set is there.
    """
    found = _looked_at(workspace, drafts, problems, captions, skip, progress)
    return write_or_keep(
        workspace,
        found.records,
        kind=kind,
        settings=settings | skip.settings(),
        skipped=found.skipped,
        left_out=found.left_out,
        notes=[*notes, *found.notes, *_shared_between_splits(found.records)],
        force=force,
    )


def write_or_add(
    workspace: Workspace,
    drafts: Sequence[Draft],
    problems: Problems,
    adding: Adding | None,
    *,
    kind: str,
    settings: dict[str, Any],
    notes: Iterable[str] = (),
    skip: Skip = NOTHING,
    force: bool = False,
    progress: Progress = SILENT,
) -> PreparedDataset:
    """`write_drafts`; or with `adding`, adds the images to the data set that is there."""
    if adding is None:
        return write_drafts(
            workspace, drafts, problems, kind=kind, settings=settings, notes=notes, skip=skip, force=force,
            progress=progress,
        )  # fmt: skip
    found = _looked_at(workspace, drafts, problems, None, skip, progress)
    records, told = adding.together(found.records)
    return write_or_keep(
        workspace,
        records,
        kind=adding.kind or kind,
        settings=settings | skip.settings(),
        skipped=found.skipped,
        left_out=found.left_out,
        notes=[*notes, *found.notes, *_shared_between_splits(records), told],
        force=records != adding.old,
    )


@dataclass(frozen=True)
class _LookedAt:
    """Images whose pictures are there, and what was left out or is worth a note."""

    records: list[ImageRecord]
    skipped: list[Skipped]
    left_out: list[str]
    notes: list[str]


def _looked_at(
    workspace: Workspace,
    drafts: Sequence[Draft],
    problems: Problems,
    captions: int | None,
    skip: Skip,
    progress: Progress,
) -> _LookedAt:
    """Checks the drafts and looks at every picture. Raises ItmkitError with every problem."""
    told, left_out = problems.divided(skip)
    other = _spell(drafts)
    drafts = leave_out(drafts, skip, left_out)
    for draft in drafts:
        draft.captions = draft.captions[:captions]
        draft.split = split_named(draft.split) or draft.split
    told += _wrong_drafts(drafts)
    if not drafts and left_out:
        told += left_out
    paths = [draft.path() for draft in drafts]
    # If there are problems, nothing will be written. Reading only headers then reports them sooner.
    facts = all_picture_facts(paths, content=not told, progress=progress)
    wrong = [(draft, fact) for draft, fact in zip(drafts, facts, strict=True) if isinstance(fact, ItmkitError)]
    told += _wrong_pictures(drafts, wrong, skip)
    if told:
        raise ItmkitError(told)
    records = [
        _record(workspace, draft, path, fact)
        for draft, path, fact in zip(drafts, paths, facts, strict=True)
        if isinstance(fact, Facts)
    ]
    left_out += [f"{draft.place}: image {draft.id!r}: {error}" for draft, error in wrong]
    notes = [*_spelled(drafts, other), *_deep(drafts, facts)]
    if problems.repeated:
        notes.append(f"{problems.repeated:,} records repeat an earlier one and were taken once")
    return _LookedAt(records, [Skipped(draft.id, str(error)) for draft, error in wrong], left_out, notes)


def _wrong_pictures(drafts: Sequence[Draft], wrong: Sequence[tuple[Draft, ItmkitError]], skip: Skip) -> list[str]:
    """Problems, in words, of the pictures that are no use and that nothing leaves out."""
    if drafts and len(wrong) == len(drafts):
        return [_all_wrong(drafts, wrong[0][1])]
    refused = [
        (draft, error) for draft, error in wrong if not (skip.missing or (skip.damaged and exists(draft.path())))
    ]
    if not refused:
        return []
    told = [f"{len(refused)} of {len(drafts)} pictures are no use; --skip-missing leaves such images out"]
    return told + [f"{draft.place}: image {draft.id!r}: {error}" for draft, error in refused]


def _wrong_drafts(drafts: Sequence[Draft]) -> list[str]:
    """What is wrong with the drafts, in words."""
    found = check_described(drafts, splits=SPLIT_NAMES, places=[draft.place for draft in drafts])
    found += [
        f"{draft.place}: image {draft.id!r}: caption {caption.id!r} is empty: its characters are invisible"
        for draft in drafts
        for caption in draft.captions
        if caption.text.strip() and is_blank(caption.text)
    ]
    for option, endings in (
        ("--skip-empty leaves such captions and images out", ("is empty", "are invisible", "has no caption")),
        ("--skip-damaged leaves such records out", ("surrogate pair",)),
    ):
        first = next((number for number, text in enumerate(found) if text.endswith(endings)), None)
        if first is not None:
            found[first] += f" ({option})"
    return found


def _all_wrong(drafts: Sequence[Draft], error: ItmkitError) -> str:
    places = " or ".join(str(path) for path in drafts[0].candidates)
    count = len(drafts)
    if "http:/" in places or "https:/" in places:
        return f"{drafts[0].place}: the picture is an address ({places}); download the pictures and name the files"
    return f"none of the {count} pictures can be read (the first: {error}; looked for {places}); is --images right?"


def _record(workspace: Workspace, draft: Draft, path: Path, facts: Facts) -> ImageRecord:
    return ImageRecord(
        id=draft.id,
        split=draft.split,
        captions=tuple(draft.captions),
        file=stored_path(workspace, path),
        labels=draft.labels,
        width=facts.width,
        height=facts.height,
        bytes=facts.bytes,
        sha256=facts.sha256,
        supercategories=draft.supercategories,
    )


def _spell(drafts: Sequence[Draft]) -> set[str]:
    """Gives every caption the text that is stored, which may be empty. Returns the ids of those that were otherwise."""
    other = set()
    for draft in drafts:
        for number, caption in enumerate(draft.captions):
            text = evenly_spelled(caption.text).strip()
            if text != caption.text:
                draft.captions[number] = Caption(caption.id, text)
                other.add(caption.id)
    return other


def _spelled(drafts: Sequence[Draft], other: set[str]) -> list[str]:
    """A note if captions are not stored as they were written; `other` are the ids of those."""
    count = sum(caption.id in other for draft in drafts for caption in draft.captions)
    if not count:
        return []
    return [
        f"{count:,} captions are stored in one spelling: composed accents (NFC), ' for ’, characters for HTML entities"
    ]


def _deep(drafts: Sequence[Draft], facts: Sequence[Facts | ItmkitError]) -> list[str]:
    """A note if pictures have more than 8 bits a pixel."""
    deep = [draft.id for draft, fact in zip(drafts, facts, strict=True) if isinstance(fact, Facts) and fact.deep]
    if not deep:
        return []
    return [
        f"{len(deep):,} grey pictures are stored with 16 bits a pixel (the first: {deep[0]}); white is the most that"
        " the bits in use can say: 4095 where no value needs more than 12"
    ]


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
