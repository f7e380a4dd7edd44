"""Shards of WebDataset: tar archives in which the files of a sample stand together and share a name.

s0000001.jpg  s0000001.txt                    CLIP_benchmark: a caption a line; folders say the splits (test/0.tar)
000000012.jpg 000000012.txt 000000012.json    img2dataset: `caption` in the JSON

Only plain files are read, and only from tar archives that are not packed. Links, devices and sparse files count as
damaged records; no name in an archive is ever used as a path.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

from itmkit.datasets.draft import split_named, split_of_name
from itmkit.datasets.pair_drafts import PICTURE_ENDINGS
from itmkit.datasets.pair_rows import USUAL_COLUMNS, Columns, PairRow, caption_names
from itmkit.datasets.prepared import PreparedDataset
from itmkit.datasets.skip import NOTHING, Problems, Skip
from itmkit.datasets.unpacked import MOST_BYTES, names_of_files, prepare_packed
from itmkit.datasets.walk import files_called
from itmkit.errors import ItmkitError, first_line
from itmkit.progress import SILENT, Progress
from itmkit.workspace import Workspace

MOST_TEXT = 1 << 20  # bytes of the captions of a sample, and of the long names of a member
_EXTENDED = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME,
             tarfile.GNUTYPE_LONGLINK)  # fmt: skip
_TEXTS = ("txt", "json")


@dataclass
class _Sample:
    """The parts of a sample: the name and size of its picture, and its texts by ending."""

    key: str
    picture: str | None = None
    texts: dict[str, bytes] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


def prepare_webdataset(
    workspace: Workspace,
    places: Sequence[Path],
    *,
    split: str | None = None,
    columns: Columns = USUAL_COLUMNS,
    skip: Skip = NOTHING,
    add: bool = False,
    force: bool = False,
    progress: Progress = SILENT,
) -> PreparedDataset:
    """Reads shards, and folders of them, and keeps their pictures as files of the workspace.

    An image's id is `SHARD/NAME`, such as `test/0/s0000001.jpg`. Every line of a .txt is a caption.

    Args:
        split: of all images. If None, the names of files and folders say it, else `default_splits` divides them.
        columns: the keys of captions in .json, where they are not among the usual names.

    Raises:
        ItmkitError: everything that is wrong with the shards and the pictures, in one error.
    """
    closed, notes = list[str](), list[str]()
    shards = _shards(places, closed, notes)

    def rows(file: Path, problems: Problems) -> Iterator[PairRow]:
        return _rows(file, *shards[file], split, columns, problems)

    def pictures(file: Path) -> Iterator[tuple[str, bytes]]:
        return _pictures(file, shards[file][0])

    return prepare_packed(
        workspace, list(shards), rows, pictures, closed, notes, kind="webdataset", skip=skip, add=add,
        force=force, progress=progress,
    )  # fmt: skip


def shards_in(folder: Path, closed: list[str], notes: list[str]) -> list[Path]:
    """The tar archives in a folder and in those below it, 2.tar before 10.tar; the rest is as in `files_below`."""
    found = files_called(folder, lambda name: name.endswith(".tar"), closed, notes)
    # Text and digits take turns, so that like is compared with like.
    return sorted(found, key=lambda path: [int(p) if p.isdecimal() else p for p in re.split(r"([0-9]+)", str(path))])


def _shards(places: Sequence[Path], closed: list[str], notes: list[str]) -> dict[Path, tuple[str, str | None]]:
    """{shard: (what ids of its images begin with, the split that its name says)}."""
    shards: dict[Path, tuple[str, str | None]] = {}
    problems = []
    for place in places:
        within = shards_in(place, closed, notes) if place.is_dir() else [place]
        root = place if place.is_dir() else place.parent
        if not within:
            problems.append(". ".join([f"{place}: holds no .tar files", *closed, *notes]))
        for file in within:
            inside = file.relative_to(root)
            said = [split_of_name(Path(part)) for part in reversed(inside.parts)]
            said.append(split_named(root.name))
            shards[file] = inside.with_suffix("").as_posix(), next((name for name in said if name), None)
    if len({name for name, _ in shards.values()}) < len(shards):  # the same names in several folders
        names = names_of_files(list(shards))
        shards = {file: (names[file], said) for file, (_, said) in shards.items()}
    if problems:
        raise ItmkitError(problems)
    return shards


class _Member(tarfile.TarInfo):
    """A member whose long names and attributes take little memory."""

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        if self.type in _EXTENDED and self.size > MOST_TEXT:
            raise tarfile.HeaderError(f"a name or attributes of {self.size:,} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]


@contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    """A plain tar archive. Raises ItmkitError where it is none, or ends too early."""
    if not path.is_file():
        raise ItmkitError(f"{path}: {'is not a regular file' if path.exists() else 'no such file'}")
    with open(path, "rb") as file:
        if file.read(4)[:2] == b"\x1f\x8b":
            raise ItmkitError(f"{path}: is packed with gzip; unpack it (gunzip) and name the .tar")
    try:
        with tarfile.open(path, "r:", tarinfo=_Member) as archive:
            yield archive
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        raise ItmkitError(f"{path}: is no tar archive, or a damaged one ({first_line(error)})") from None


def _members(archive: tarfile.TarFile, path: Path) -> Iterator[tarfile.TarInfo]:
    last = "its beginning"
    while (member := archive.next()) is not None:
        archive.members = []  # type: ignore[attr-defined]  # else the archive keeps all of them
        last = member.name
        if not member.isdir():
            yield member
    with open(path, "rb") as file:  # a damaged header ends the reading without an error
        file.seek(archive.offset)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise ItmkitError(f"{path}: is cut short or damaged after {last}")


def _is_picture(member: tarfile.TarInfo) -> bool:
    return member.isreg() and not member.issparse() and PurePosixPath(member.name).suffix.lower() in PICTURE_ENDINGS


def _rows(
    path: Path, prefix: str, of_name: str | None, split: str | None, columns: Columns, problems: Problems
) -> Iterator[PairRow]:
    with _opened(path) as archive:
        for sample in _samples(archive, path):
            place = f"{path}: {sample.key}"
            captions = [] if sample.wrong else _captions(sample, columns)
            if sample.wrong:
                problems.damaged.append(f"{place}: {'; '.join(sample.wrong)}")
            elif sample.picture is None:
                problems.damaged.append(f"{place}: has no picture ({', '.join(PICTURE_ENDINGS)})")
            elif captions is None:
                problems.damaged.append(f"{place}: its .txt or .json is not UTF-8 text, or no JSON object")
            elif not captions:
                problems.empty.append(f"{place}: has no caption (a .txt, or `caption` in a .json)")
            else:
                yield PairRow(place, f"{prefix}/{sample.picture}", captions, split or of_name, ())


def _samples(archive: tarfile.TarFile, path: Path) -> Iterator[_Sample]:
    for key, members in groupby(_members(archive, path), key=lambda member: _key(member.name)):
        sample = _Sample(key)
        for member in members:
            _add_member(archive, member, sample)
        if not PurePosixPath(key).name.startswith("._") and (sample.picture or sample.texts or sample.wrong):
            yield sample


def _key(name: str) -> str:
    """All before the first point of the file's name."""
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{last.partition('.')[0]}"


def _add_member(archive: tarfile.TarFile, member: tarfile.TarInfo, sample: _Sample) -> None:
    ending = PurePosixPath(member.name).suffix.lower()
    if ending not in PICTURE_ENDINGS and ending[1:] not in _TEXTS:
        return
    if not member.isreg() or member.issparse():
        sample.wrong.append(f"{member.name} is a link, a device or a sparse file, which are never read")
    elif ending in PICTURE_ENDINGS:
        if member.size > MOST_BYTES:
            sample.wrong.append(f"{member.name} has more than {MOST_BYTES >> 20} MiB")
        elif sample.picture is not None:
            sample.wrong.append(f"has two pictures, {sample.picture} and {member.name}")
        sample.picture = sample.picture or member.name
    elif member.size > MOST_TEXT:
        sample.wrong.append(f"{member.name} has more than {MOST_TEXT >> 20} MiB")
    else:
        held = archive.extractfile(member)
        sample.texts[ending[1:]] = held.read(MOST_TEXT) if held is not None else b""


def _captions(sample: _Sample, columns: Columns) -> list[str] | None:
    """The captions of a sample, those of its JSON before those of its text; None where they cannot be read."""
    return captions_beside(sample.texts.get("json"), sample.texts.get("txt"), columns)


def captions_beside(in_json: bytes | None, in_text: bytes | None, columns: Columns) -> list[str] | None:
    """The captions of a picture from the .json and the .txt of the same name; None where they cannot be read.

    A key `caption`, `captions` or `caption_1` of the JSON decides, or what the user named; then every line of the text
    is one. Other keys, such as a title, count only where there is no such line.
    """
    try:
        found = {} if in_json is None else json.loads(in_json)
        if not isinstance(found, dict):
            return None
        keys = {key.lower(): key for key in found if found[key]}
        names = caption_names(list(keys), columns)
        values = [found[keys[name]] for name in names]
        captions = [text for value in values for text in (value if isinstance(value, list) else [value])]
        decides = bool(captions) and (bool(columns.captions) or names[0].startswith("caption"))
        text = "" if in_text is None or decides else in_text.decode("utf-8-sig")
    except (ValueError, RecursionError):
        return None
    if lines := [line.strip() for line in text.split("\n") if line.strip()]:
        return lines
    return [text.strip() for text in captions] if all(isinstance(text, str) for text in captions) else None


def _pictures(path: Path, prefix: str) -> Iterator[tuple[str, bytes]]:
    with _opened(path) as archive:
        for member in _members(archive, path):
            if _is_picture(member) and member.size <= MOST_BYTES:
                held = archive.extractfile(member)
                if held is not None:
                    yield f"{prefix}/{member.name}", held.read()
