"""Peak memory of `itmkit prepare` and of its readers alone, for 1,000,000 captions of 2,000 pictures.

    python tests/benchmarks/prepare_memory.py [--folder DIR] [--rows 1000000] [--pictures 2000]
        [--formats csv jsonl ...]

Each is measured in a process of its own. A reader alone gives its rows and keeps none of them; the command keeps the
data set. Exits with 1 where a reader alone takes more than 250 MB.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

LIMIT_MB = 250
TEXT = "A caption number {} about a dog, a cat and a red ball on green grass"
FILES = {
    "csv": "t.csv", "csv with line breaks": "breaks.csv", "Kaggle": "results.csv", "token file": "r.token",
    "jsonl": "t.jsonl", "json list": "list.json", "coco": "captions_train2014.json", "karpathy": "dataset_coco.json",
    "parquet": "t.parquet", "webdataset": "train.tar", "imagefolder": "folder",
}  # fmt: skip

COMMANDS = {"csv with line breaks": "csv", "Kaggle": "csv", "token file": "csv", "json list": "jsonl"}


def captions(rows: int, pictures: int) -> Iterator[tuple[int, int, str]]:
    """(number of the picture, number of the caption, its text) of every row."""
    for number in range(rows):
        yield number * pictures // rows, number, TEXT.format(number)


def split(picture: int) -> str:
    return ("train", "val", "test")[picture % 3]


def write_pictures(folder: Path, count: int) -> None:
    from PIL import Image  # not for readers alone

    folder.mkdir()
    for p in range(count):
        Image.new("RGB", (8, 8), (p % 256, p // 256 % 256, 0)).save(folder / f"{p}.png")


def write(folder: Path, form: str, rows: int, pictures: int) -> Path:
    path = folder / FILES[form]
    each = captions(rows, pictures)
    if form == "parquet":
        _write_parquet(folder, path, each)
    elif form == "webdataset":
        _write_shard(folder, path, each)
    elif form in ("csv", "csv with line breaks", "imagefolder"):
        if form == "imagefolder":
            path.mkdir(exist_ok=True)
            (path / "pics").symlink_to(folder / "pics")
        with open(path / "metadata.csv" if form == "imagefolder" else path, "w", newline="") as out:
            table = csv.writer(out)
            table.writerow(["file_name", "text", "split"])
            within = "\n" if form == "csv with line breaks" else " "
            table.writerows((f"pics/{p}.png", text.replace(" dog", f"{within}dog"), split(p)) for p, _, text in each)
    else:
        with open(path, "w") as out:
            out.writelines(_lines(form, each, pictures))
    return path


def _lines(form: str, each: Iterator[tuple[int, int, str]], pictures: int) -> Iterator[str]:
    if form == "Kaggle":
        yield "image_name| comment_number| comment\n"
        yield from (f"pics/{p}.png| {n}| {text}\n" for p, n, text in each)
    elif form == "token file":
        yield from (f"pics/{p}.png#{n}\t{text}\n" for p, n, text in each)
    elif form in ("jsonl", "json list"):
        items = (json.dumps({"image": f"pics/{p}.png", "caption": text, "split": split(p)}) for p, _, text in each)
        yield from (f"{item}\n" for item in items) if form == "jsonl" else _joined("[", items, "]")
    elif form == "coco":
        images = (json.dumps({"id": p, "file_name": f"pics/{p}.png"}) for p in range(pictures))
        yield from _joined('{"images": [', images, "], ")
        items = (json.dumps({"id": n, "image_id": p, "caption": text}) for p, n, text in each)
        yield from _joined('"annotations": [', items, "]}")
    elif form == "karpathy":
        sentences: dict[int, list[dict[str, object]]] = {}
        for p, n, text in each:
            sentences.setdefault(p, []).append({"raw": text, "tokens": text.split(), "sentid": n})
        items = (json.dumps({"cocoid": p, "filename": f"pics/{p}.png", "split": split(p), "sentences": found})
                 for p, found in sentences.items())  # fmt: skip
        yield from _joined('{"images": [', items, '], "dataset": "coco"}')


def _joined(before: str, items: Iterator[str], after: str) -> Iterator[str]:
    yield before
    for number, item in enumerate(items):
        yield f", {item}" if number else item
    yield after


def _write_parquet(folder: Path, path: Path, each: Iterator[tuple[int, int, str]]) -> None:
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    image = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    schema = pyarrow.schema([("image", image), ("caption", pyarrow.string()), ("split", pyarrow.string())])
    with ParquetWriter(path, schema) as out:
        rows: list[dict[str, object]] = []
        for p, _, text in each:
            held = {"bytes": (folder / "pics" / f"{p}.png").read_bytes(), "path": f"{p}.png"}
            rows.append({"image": held, "caption": text, "split": split(p)})
            if len(rows) == 10_000:
                out.write_table(pyarrow.Table.from_pylist(rows, schema))
                rows.clear()
        if rows:
            out.write_table(pyarrow.Table.from_pylist(rows, schema))


def _write_shard(folder: Path, path: Path, each: Iterator[tuple[int, int, str]]) -> None:
    texts: dict[int, list[str]] = {}
    for p, _, text in each:
        texts.setdefault(p, []).append(text)
    with tarfile.open(path, "w") as archive:
        for p, of_picture in texts.items():
            for ending, data in (("png", (folder / "pics" / f"{p}.png").read_bytes()),
                                 ("txt", "\n".join(of_picture).encode())):  # fmt: skip
                member = tarfile.TarInfo(f"{p}.{ending}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))


def read_alone(form: str, path: Path) -> int:
    """Reads the rows, or what they are made of, and keeps none."""
    from itmkit.datasets.fields import objects_in
    from itmkit.datasets.json_rows import json_rows
    from itmkit.datasets.pair_rows import USUAL_COLUMNS
    from itmkit.datasets.parquet import parquet_rows
    from itmkit.datasets.skip import Problems
    from itmkit.datasets.tables import table_rows
    from itmkit.datasets.webdataset import _rows

    problems = Problems()
    rows: Iterator[object]
    if form == "parquet":
        rows = parquet_rows(path, None, USUAL_COLUMNS, problems)
    elif form == "webdataset":
        rows = _rows(path, "x", None, None, USUAL_COLUMNS, problems)
    elif form in ("coco", "karpathy"):
        rows = objects_in(path, "annotations" if form == "coco" else "images", problems.damaged)
    elif form in ("jsonl", "json list"):
        rows = json_rows(path, USUAL_COLUMNS, problems)
    else:
        file = path / "metadata.csv" if path.is_dir() else path
        rows = table_rows(file, USUAL_COLUMNS, file.parent, problems, [])
    return sum(1 for _ in rows)


def peak_of(command: list[str]) -> int:
    """MB, at most, of a command. A process in between starts it, since a child's peak begins with its parent's size."""
    measured = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)"
    measured += "; print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10)"
    return int(subprocess.run([sys.executable, "-c", measured, *command], check=True, capture_output=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--pictures", type=int, default=2_000)
    parser.add_argument("--formats", nargs="+", choices=FILES, default=list(FILES))
    parser.add_argument("--read", nargs=2, metavar=("FORMAT", "FILE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.read:
        read_alone(given.read[0], Path(given.read[1]))
        return
    worst = 0
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        write_pictures(folder / "pics", given.pictures)
        for number, form in enumerate(given.formats):
            path = write(folder, form, given.rows, given.pictures)
            read = peak_of([sys.executable, __file__, "--read", form, str(path)])
            command = {"csv with line breaks": "csv", "Kaggle": "csv", "token file": "csv", "json list": "jsonl"}.get(
                form, form
            )
            more = ["--images", str(folder), "--captions", "all"] if form in ("coco", "karpathy") else []
            prepare = [sys.executable, "-m", "itmkit", "prepare", command, str(path), *more]
            whole = peak_of([*prepare, "-w", str(folder / f"work{number}")])
            print(f"{form:22} reader {read:5} MB, command {whole:5} MB", flush=True)
            worst = max(worst, read)
    sys.exit(worst > LIMIT_MB)


if __name__ == "__main__":
    main()
