"""What a reader may leave out instead of refusing a data set, and what it found wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from itmkit.caption_text import has_words
from itmkit.dataset import NOT_TEXT, Caption, wrong_id
from itmkit.datasets.draft import Draft, split_named
from itmkit.errors import ItmkitError
from itmkit.files import utf8_lines


@dataclass(frozen=True)
class Skip:
    """What is left out and listed instead of being a problem.

    missing: images whose picture is missing or unreadable. damaged: records that cannot be read, and images whose
    picture is unreadable. empty: captions without words, and images without captions.
    """

    missing: bool = False
    damaged: bool = False
    empty: bool = False

    def settings(self) -> dict[str, bool]:
        """For the facts of a data set; the newer two only where they are used."""
        newer = {"skip_damaged": self.damaged, "skip_empty": self.empty}
        return {"skip_missing": self.missing} | {name: used for name, used in newer.items() if used}


NOTHING = Skip()


@dataclass
class Problems:
    """What a reader found wrong. Each line names the file and the place.

    files: what no option helps with. damaged: records that cannot be read. empty: records without a caption.
    repeated: how many records repeat an earlier one; they are taken once and are no problem.
    unreadable: what keeps whole files from being read, so that nothing can be said about their records.
    """

    files: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    repeated: int = 0
    unreadable: list[str] = field(default_factory=list)

    def check_readable(self, skip: Skip) -> None:
        """Raises ItmkitError with everything found so far, if there are files that cannot be read at all."""
        if self.unreadable:
            raise ItmkitError([*self.divided(skip)[0], *self.unreadable])

    def divided(self, skip: Skip) -> tuple[list[str], list[str]]:
        """(what stays a problem, what is left out and listed)."""
        problems, left_out = list(self.files), []
        for found, left, option in (
            (self.damaged, skip.damaged, "--skip-damaged leaves such records out"),
            (self.empty, skip.empty, "--skip-empty leaves such images out"),
        ):
            if left:
                left_out += found
            elif found:
                problems += [f"{found[0]} ({option})", *found[1:]]
        return problems, left_out


@contextmanager
def unreadable_files(problems: Problems) -> Iterator[None]:
    """What keeps a file from being read is noted, so that the other files are looked at too."""
    try:
        yield
    except ItmkitError as error:
        problems.unreadable += error.problems


def readable_lines(path: Path, problems: Problems) -> Iterator[tuple[int, str]]:
    """(line number, line without its end) of a text file; lines that are not UTF-8 count as damaged records."""
    wrong: list[str] = []
    for number, line in utf8_lines(path, wrong):
        if not wrong:
            yield number, line
        problems.damaged += wrong
        wrong.clear()
    problems.files += wrong


def leave_out(drafts: Sequence[Draft], skip: Skip, left_out: list[str]) -> list[Draft]:
    """The drafts without what `skip` leaves out; each thing left out is a line in `left_out`."""
    if not (skip.damaged or skip.empty):
        return list(drafts)
    kept: list[Draft] = []
    images: set[str] = set()
    captions: set[str] = set()
    for draft in drafts:
        where = f"{draft.place}: image {draft.id!r}"
        why = _wrong_image(draft, images) if skip.damaged else None
        if why:
            left_out.append(f"{where}: {why}")
            continue
        good = []
        for caption in draft.captions:
            why = _wrong_caption(caption, captions) if skip.damaged else None
            if why is None and skip.empty and not has_words(caption.text):
                why = "holds no words"
            if why is None:
                good.append(caption)
                captions.add(caption.id)
            else:
                left_out.append(f"{where}: caption {caption.id!r} {why}")
        if not good and (skip.empty or draft.captions):
            left_out.append(f"{where}: has no caption")
            continue
        draft.captions = good
        images.add(draft.id)
        kept.append(draft)
    return kept


def _wrong_image(draft: Draft, seen: set[str]) -> str | None:
    if reason := wrong_id(draft.id):
        return f"the id {reason}"
    if draft.id in seen:
        return "this id occurs before"
    return None if split_named(draft.split) else f"unknown split {draft.split!r}"


def _wrong_caption(caption: Caption, seen: set[str]) -> str | None:
    if NOT_TEXT.search(caption.text):
        return "contains NUL or half a surrogate pair"
    if reason := wrong_id(caption.id):
        return f"has an id that {reason}"
    return "occurs before" if caption.id in seen else None
