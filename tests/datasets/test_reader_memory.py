"""Readers take no more memory for a large file than for a small one: they keep no rows that they have given."""

from __future__ import annotations

import json
import tracemalloc
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from itmkit import json_items
from itmkit.datasets import json_rows as json_rows_module
from itmkit.datasets import parquet
from itmkit.datasets.fields import objects_in
from itmkit.datasets.image_folder import prepare_image_folder, prepare_pairs
from itmkit.datasets.json_rows import json_rows
from itmkit.datasets.pair_drafts import drafts_of
from itmkit.datasets.pair_rows import USUAL_COLUMNS, PairRow
from itmkit.datasets.parquet import parquet_rows
from itmkit.datasets.skip import Problems
from itmkit.datasets.tables import table_rows
from itmkit.datasets.webdataset import _rows as shard_rows
from itmkit.datasets.webdataset import prepare_webdataset
from itmkit.workspace import Workspace
from tests.datasets.packed_files import picture, write_tar

FEW, MANY = 20, 100  # rows
CAPTION = "a dog " * 300
GROWTH = 40_000  # bytes that a reader may take for the rows more, each of which has 1,800 characters


def table(file: Path, rows: int, *, header: str, line: str) -> Path:
    file.write_text(header + "".join(line.format(n=n, text=CAPTION) for n in range(rows)))
    return file


def json_list(file: Path, rows: int, key: str | None = None, **options: int) -> Path:
    items = [{"image": f"{n}.jpg", "caption": CAPTION} for n in range(rows)]
    file.write_text(json.dumps({"info": {}, "other": items, key: items} if key else items, **options))  # type: ignore[arg-type]
    return file


def parquet_table(file: Path, rows: int) -> Path:
    pytest.importorskip("pyarrow")
    import pyarrow
    from pyarrow.parquet import write_table

    columns = {"file_name": [f"{n}.jpg" for n in range(rows)], "text": [f"{n} {CAPTION}" for n in range(rows)]}
    write_table(pyarrow.table(columns), file, row_group_size=10)
    return file


def shard(file: Path, rows: int) -> Path:
    parts = [("jpg", bytes(2000)), ("txt", CAPTION.encode())]
    return write_tar(file, [(f"{n}.{ending}", data) for n in range(rows) for ending, data in parts])


def of_table(file: Path) -> Iterator[PairRow]:
    return table_rows(file, USUAL_COLUMNS, file.parent, Problems(), [])


def of_json(file: Path) -> Iterator[PairRow]:
    return json_rows(file, USUAL_COLUMNS, Problems())


READERS: dict[str, tuple[Callable[[Path, int], Path], Callable[[Path], Iterable[object]]]] = {
    "csv": (lambda f, n: table(f, n, header="image,caption\n", line="{n}.jpg,{text}\n"), of_table),
    "csv with line breaks": (lambda f, n: table(f, n, header="image,caption\n", line='{n}.jpg,"{text}\nx"\n'),
                             of_table),
    "tabs": (lambda f, n: table(f, n, header="image\tcaption\n", line="{n}.jpg\t{text}\n"), of_table),
    "Kaggle": (lambda f, n: table(f, n, header="image_name| comment_number| comment\n", line="{n}.jpg| 0| {text}\n"),
               of_table),
    "token file": (lambda f, n: table(f, n, header="", line="{n}.jpg#0\t{text}\n"), of_table),
    "json lines": (lambda f, n: table(f, n, header="", line='{{"image": "{n}.jpg", "caption": "{text}"}}\n'), of_json),
    "json list": (json_list, of_json),
    "json list over lines": (lambda f, n: json_list(f, n, indent=1), of_json),
    "list in an object": (lambda f, n: json_list(f, n, "images"), lambda file: objects_in(file, "images", [])),
    "webdataset": (shard, lambda file: shard_rows(file, "x", None, None, USUAL_COLUMNS, Problems())),
    "parquet": (parquet_table,
                lambda file: parquet_rows(file, None, USUAL_COLUMNS, Problems(), inside=False)),
}  # fmt: skip


@pytest.mark.parametrize("name", READERS)
def test_five_times_as_many_rows_take_the_same_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(json_items, "_BLOCK", 4096)
    monkeypatch.setattr(json_rows_module, "_LOOKED_AT", 4096)
    monkeypatch.setattr(parquet, "BATCH", 10)
    write, read = READERS[name]
    files = {rows: write(tmp_path / f"{rows}.csv", rows) for rows in (FEW, MANY)}
    assert sum(1 for _ in read(files[FEW])) == FEW  # what is imported and compiled counts for none
    peaks = {}
    for rows, file in files.items():
        tracemalloc.start()
        assert sum(1 for _ in read(file)) == rows
        peaks[rows] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[MANY] - peaks[FEW] < GROWTH


def alive_one_by_one(rows: Iterable[PairRow]) -> Iterator[PairRow]:
    """The rows; of those that were given, only the last may be kept, and the first, which a reader may peek at."""
    given: list[weakref.ref[PairRow]] = []
    for row in rows:
        assert not any(one() is not None for one in given[1:-1]), "earlier rows are kept"
        given.append(weakref.ref(row))
        yield row
        del row


def test_rows_are_let_go_of_once_their_images_have_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def some_rows(*_: object, **__: object) -> Iterator[PairRow]:
        return alive_one_by_one(PairRow(f"line {n}", f"{n % 2}.jpg", [f"caption {n}"], "train", ()) for n in range(9))

    drafts = drafts_of([tmp_path / "t.csv"], some_rows, None, None, Problems(), [])
    assert [len(draft.captions) for draft in drafts] == [5, 4]
    for n in range(2):
        (tmp_path / f"{n}.jpg").write_bytes(picture(n))
    (tmp_path / "metadata.csv").touch()
    monkeypatch.setattr("itmkit.datasets.image_folder.table_rows", some_rows)
    monkeypatch.setattr("itmkit.datasets.image_folder._pair_rows", some_rows)
    monkeypatch.setattr("itmkit.datasets.webdataset._rows", some_rows)
    monkeypatch.setattr("itmkit.datasets.webdataset._pictures", lambda *_: ((f"{n}.jpg", picture(n)) for n in range(2)))
    for number, prepare in enumerate(
        (
            lambda work: prepare_image_folder(work, tmp_path),
            lambda work: prepare_pairs(work, tmp_path),
            lambda work: prepare_webdataset(work, [shard(tmp_path / "0.tar", 1)]),
        )
    ):
        assert prepare(Workspace(tmp_path / f"work{number}")).counts == {"train": {"images": 2, "captions": 9}}
