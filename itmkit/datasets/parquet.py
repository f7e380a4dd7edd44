"""Parquet files with a picture and captions a row, as Hugging Face and img2dataset write them (needs pyarrow).

image {bytes, path}   caption, text, sentences, ...   split      Hugging Face: pictures inside, or paths
jpg (bytes)           caption   key                              img2dataset

Files are read a batch of rows at a time. The column of pictures is read only when they are written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from itmkit.datasets.draft import split_named, split_of_name
from itmkit.datasets.pair_rows import IMAGE_NAMES, USUAL_COLUMNS, Columns, PairRow, caption_names, labels_of
from itmkit.datasets.prepared import PreparedDataset
from itmkit.datasets.skip import NOTHING, Problems, Skip
from itmkit.datasets.unpacked import MOST_BYTES, names_of_files, prepare_packed
from itmkit.datasets.walk import files_called
from itmkit.errors import ItmkitError, first_line
from itmkit.progress import SILENT, Progress
from itmkit.workspace import Workspace

BATCH, PICTURES = 4096, 16  # rows read at once, without and with their pictures
MOST_TEXT = 1 << 30  # bytes of the other columns of a row group, unpacked
_BYTES = ("image", "jpg", "jpeg", "png", "webp", "img", "image_bytes", "picture")
_KEYS = ("key", "filename", "file_name", "image_id", "id")


@dataclass(frozen=True)
class _Columns:
    """Which columns are used.

    pictures: their bytes, None where there are paths alone. inside: the field of it that has the bytes. name: what the
    picture is called; `named` if the user said so.
    """

    pictures: str | None
    inside: str | None
    name: str | None
    named: bool
    captions: list[str]
    split: str | None
    labels: str | None


def prepare_parquet(
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
    """Reads files whose rows hold pictures, and folders of them, and keeps the pictures as files of the workspace.

    An image's id is what the row calls it (the path in `image`, `key`, `filename`, ...), else `FILE/ROW`. Rows of one
    name are one image. Where files call other pictures alike, all ids begin with the file.

    Args:
        split: of what has none. If None, a column `split` or the names of the files say it (train-00000-of-00002).

    Raises:
        ItmkitError: pyarrow is missing, or everything that is wrong with the files, in one error.
    """
    closed, notes = list[str](), list[str]()
    files = [file for place in places for file in (_in(place, closed, notes) if place.is_dir() else [place])]
    if not files:
        raise ItmkitError(". ".join([f"{places[0]}: holds no .parquet files", *closed, *notes]))

    names = names_of_files(files)
    alike = len(names) > 1 and _call_others_alike(names, columns)

    def whole(file: Path, name: str) -> str:
        return f"{names[file]}/{name}" if alike else name

    def rows(file: Path, problems: Problems) -> Iterator[PairRow]:
        usual = split or split_of_name(file) or split_named(file.parent.name)
        for row in parquet_rows(file, usual, columns, problems, unnamed=names[file]):
            yield replace(row, image=whole(file, row.image))

    def pictures(file: Path) -> Iterator[tuple[str, bytes]]:
        return ((whole(file, name), data) for name, data in parquet_pictures(file, columns, unnamed=names[file]))

    return prepare_packed(
        workspace, files, rows, pictures, closed, notes, kind="parquet", skip=skip, add=add, force=force,
        progress=progress,
    )  # fmt: skip


def _call_others_alike(names: dict[Path, str], columns: Columns) -> bool:
    """Whether several files have a row of one name, with other pictures."""
    first: dict[str, Path] = {}
    again: set[str] = set()
    for file, unnamed in names.items():
        with suppress(ItmkitError):  # which is told when the file is read
            rows = parquet_rows(file, None, columns, Problems(), unnamed=unnamed)
            again.update(row.image for row in rows if first.setdefault(row.image, file) != file)
    content: dict[str, bytes] = {}
    for file, unnamed in names.items() if again else ():
        with suppress(ItmkitError):
            for name, data in parquet_pictures(file, columns, unnamed=unnamed):
                digest = hashlib.sha256(data).digest()
                if name in again and content.setdefault(name, digest) != digest:
                    return True
    return False


def parquet_rows(
    file: Path,
    split: str | None,
    columns: Columns,
    problems: Problems,
    *,
    inside: bool = True,
    unnamed: str | None = None,
) -> Iterator[PairRow]:
    """The rows of a file.

    Args:
        split: of rows that say none.
        inside: the pictures are in the file; else rows name files.
        unnamed: what the ids of rows without a name begin with; None: the file's name.

    Raises:
        ItmkitError: the file is no parquet, has no such columns, or row groups that are too large.
    """
    with _opened(file) as table:
        found = _columns(file, table, columns, inside=inside)
        number = 0
        for batch in table.iter_batches(batch_size=BATCH, columns=_texts(table, found)):
            for row in batch.to_pylist():
                number += 1
                name = _name(unnamed or file.stem, number, row, found)
                if made := _row(f"{file}: row {number}", name, row, found, split, problems):
                    yield made


def parquet_pictures(file: Path, columns: Columns = USUAL_COLUMNS, *, unnamed: str) -> Iterator[tuple[str, bytes]]:
    """(the name that `parquet_rows` gives it, bytes) of each picture in a file."""
    with _opened(file) as table:
        found = _columns(file, table, columns, inside=True, captions=False)
        number = 0
        wanted = [*_texts(table, found), found.pictures if found.inside is None else f"{found.pictures}.{found.inside}"]
        for batch in table.iter_batches(batch_size=PICTURES, columns=list(dict.fromkeys(wanted))):
            for row in batch.to_pylist():
                number += 1
                held = row.get(found.pictures)
                held = held.get(found.inside) if isinstance(held, dict) else held
                if isinstance(held, bytes) and len(held) <= MOST_BYTES:
                    yield _name(unnamed, number, row, found), held


def _in(folder: Path, closed: list[str], notes: list[str]) -> list[Path]:
    return sorted(files_called(folder, lambda name: name.endswith(".parquet"), closed, notes))


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ItmkitError(f"{file}: reading parquet needs pyarrow: pip install 'itmkit[parquet]'") from None
    if not file.is_file():
        raise ItmkitError(f"{file}: {'is not a regular file' if file.exists() else 'no such file'}")
    try:
        with parquet.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False) as table:
            yield table
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise ItmkitError(f"{file}: is no Parquet file, or a damaged one ({first_line(error)[:200]})") from None


def _columns(file: Path, table: Any, columns: Columns, *, inside: bool, captions: bool = True) -> _Columns:
    import pyarrow

    schema = table.schema_arrow
    lower = {name.lower(): name for name in schema.names}
    pictures = fields = None
    for name in _BYTES if inside else ():
        kind = schema.field(lower[name]).type if name in lower else None
        if kind is not None and pyarrow.types.is_struct(kind):
            names = [kind.field(n).name for n in range(kind.num_fields)]
            if "bytes" in names:
                pictures, fields = lower[name], "bytes"
                break
        elif kind is not None and (pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind)):
            pictures = lower[name]
            break
    named = [name for name in lower if lower[name] != pictures]
    texts = [lower[name] for name in caption_names(named, columns)] if captions else []
    if columns.image is not None:
        of_pictures = columns.image.lower()
    else:
        keys = (*_KEYS, *IMAGE_NAMES) if inside else IMAGE_NAMES
        of_pictures = next((name for name in keys if name in named), "")
    problems = []
    if inside and pictures is None:
        problems.append(
            f"{file}: holds no pictures (no column {', '.join(_BYTES[:3])} ...; found {schema.names[:20]}); for"
            " pictures in files, use `itmkit prepare imagefolder DIR`, `prepare pairs DIR` or `prepare webdataset DIR`"
        )
    if not inside and of_pictures not in named:
        problems.append(f"{file}: has no column {columns.image or 'file_name'}; found {schema.names[:20]}")
    if captions and not texts:
        wanted = " or ".join(columns.captions) or "caption"
        problems.append(f"{file}: has no column {wanted}; found {schema.names[:20]}; --caption-column says which it is")
    if problems:
        raise ItmkitError(problems)
    called = lower[of_pictures] if of_pictures in named else None
    found = _Columns(
        pictures, fields, called, columns.image is not None, texts, lower.get("split"), lower.get("labels")
    )
    _check_size(file, table, found)
    return found


def _texts(table: Any, found: _Columns) -> list[str]:
    """The columns that are read besides the bytes of pictures."""
    names = [found.name, *found.captions, found.split, found.labels]
    paths = [f"{found.pictures}.path"] if found.inside and "path" in _fields(table, found.pictures) else []
    return list(dict.fromkeys([name for name in names if name is not None] + paths))


def _fields(table: Any, column: str | None) -> list[str]:
    kind = table.schema_arrow.field(column).type
    return [kind.field(number).name for number in range(kind.num_fields)]


def _check_size(file: Path, table: Any, found: _Columns) -> None:
    """Raises ItmkitError where a row group would unpack to more text than anybody writes."""
    wanted = tuple(_texts(table, found))
    for number in range(table.metadata.num_row_groups):
        group = table.metadata.row_group(number)
        chunks = (group.column(place) for place in range(group.num_columns))
        size = sum(one.total_uncompressed_size for one in chunks if one.path_in_schema.startswith(wanted))
        if size > MOST_TEXT:
            raise ItmkitError(f"{file}: row group {number} unpacks to {size >> 20:,} MiB of text; write smaller ones")


def _name(unnamed: str, number: int, row: dict[str, Any], found: _Columns) -> str:
    held = row.get(found.pictures) if found.pictures else None
    path = held.get("path") if isinstance(held, dict) else None
    named = row.get(found.name) if found.name and (found.named or not path) else path
    return str(named) if named not in (None, "") else f"{unnamed}/{number}"


def _row(
    place: str, name: str, row: dict[str, Any], found: _Columns, split: str | None, problems: Problems
) -> PairRow | None:
    captions = [text for name in found.captions for text in _listed(row.get(name))]
    said = row.get(found.split) if found.split else None
    labels = row.get(found.labels) if found.labels else None
    if not all(isinstance(text, str) for text in captions) or not isinstance(said, str | None):
        problems.damaged.append(f"{place}: captions and the split must be text")
    elif not any(text.strip() for text in captions):
        problems.empty.append(f"{place}: {name} has no caption")
    elif found.pictures is None and not row.get(found.name or ""):
        problems.damaged.append(f"{place}: {found.name!r} is empty")
    else:
        listed = (str(label) for label in _listed(labels) if label is not None)
        of_row = labels_of(labels) if isinstance(labels, str) else tuple(listed)
        texts = [text.strip() for text in captions]
        return PairRow(place, name, texts, said or split, of_row)
    return None


def _listed(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, list) else [value]
