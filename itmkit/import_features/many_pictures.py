"""One file with the features of many pictures: HDF5 (UpDown, M2), or a .pt file with a dict.

train36.hdf5     image_features (N, 36, D)  image_bb (N, 36, 4)                    an index says whose the rows are
trainval.hdf5    image_features (T, D)      image_bb (T, 4)      pos_boxes (N, 2)  rows from .. to of each picture
detections.hdf5  391895_features (n, D)     391895_boxes (n, 4)                    a data set a picture (M2)
features.pt      {id: tensor (n, D), or a dict of tensors by name}

The index of UpDown is a pickle, train36_imgid2idx.pkl, which is never read: converted to JSON once it is
{"391895": 0, ...}, or a list of ids in the order of the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from itmkit.cache.shard_check import DAMAGE, unsafe
from itmkit.dataset import wrong_id
from itmkit.errors import ItmkitError, first_line
from itmkit.files import read_json, sha256_file
from itmkit.import_features.box_units import BoxUnits
from itmkit.import_features.named_arrays import BOXES, FEATURES, WrongFile, region_set
from itmkit.import_features.region_sets import Findings, RegionSet, odd_units, wrong_values
from itmkit.import_features.torch_files import load_pictures, of_value
from itmkit.progress import Progress

_MOST_BYTES = 64 << 20  # of a picture, and of a chunk of HDF5
_POSITIONS = "pos_boxes"
_PER_PICTURE = "_features"  # what the names of data sets end with in files with one for each picture


@dataclass
class ManyPictures:
    """The checked file. Lists are by picture; `keys` are how the file calls each."""

    path: Path
    source: Source
    form: str  # "hdf5" or "pt"
    vocabulary: None = None
    ids: list[str] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    dim: int = 0
    digests: dict[str, str] = field(default_factory=dict)
    shares: bool = False
    with_boxes: bool | None = None
    repeated: int = 0
    damaged: list[dict[str, str]] = field(default_factory=list)

    @property
    def extras(self) -> tuple[str, ...]:
        return ("boxes", "sizes") if self.with_boxes else ("sizes",)

    def read(self, place: int) -> RegionSet:
        """The regions of picture `place`. Raises ItmkitError where the file has changed since it was checked."""
        try:
            found = self.source.read(self.ids[place])
            if len(found) != self.counts[place] or wrong_values(found):
                raise WrongFile
        except WrongFile:
            raise ItmkitError(f"{self.path}: has changed during the import; run the command again") from None
        return found

    def leave_out(self, numbers: set[int]) -> None:
        """Drops pictures from all lists."""
        lists: tuple[list[Any], ...] = (self.ids, self.counts, self.sizes)
        for values in lists:
            values[:] = [value for number, value in enumerate(values) if number not in numbers]


@dataclass(frozen=True)
class Source:
    """An open file: the ids of its pictures, in order, and how one is read (raises WrongFile).

    rows: of the pictures, where an index says it.
    """

    ids: list[str]
    read: Callable[[str], RegionSet]
    rows: list[int] | None = None

    @property
    def whose(self) -> list[Any]:
        """What decides which picture gets which features: ids alone where they are those of row 0, 1, 2, ..."""
        rows = self.rows
        if rows is None or rows == list(range(len(rows))):
            return self.ids
        return [list(pair) for pair in zip(self.ids, rows, strict=True)]


@contextmanager
def hdf5_source(path: Path, index: Path | None) -> Iterator[Source]:
    """The pictures of an HDF5 file.

    Args:
        index: a JSON file with {id: row}, or with the ids in the order of the rows. Default: the file of that name
            beside it (`train36_imgid2idx.json`).

    Raises:
        ItmkitError: the file is not HDF5, or has none of the layouts; there is no index, or it does not fit.
    """
    if not path.is_file():
        raise ItmkitError(f"{path}: {'is not a regular file' if path.exists() else 'no such file'}")
    try:
        file = h5py.File(path, "r", locking=False)
    except DAMAGE as error:
        raise ItmkitError(f"{path}: cannot be read as HDF5 ({first_line(error)})") from None
    with file:
        names = list(file)
        if any(name in names for name in FEATURES):
            yield _rows(path, file, names, index)
        elif ids := [name.removesuffix(_PER_PICTURE) for name in names if name.endswith(_PER_PICTURE)]:
            yield Source(ids, lambda key: _of_datasets(file, key))
        else:
            shown = ", ".join(names[:8]) or "nothing"
            raise ItmkitError(
                f"{path}: holds {shown}; image_features and image_bb (UpDown), or ID_features and ID_boxes for each"
                " picture are needed"
            )


@contextmanager
def pt_source(path: Path) -> Iterator[Source]:
    """The pictures of a file with a dict that torch.save wrote. Raises ItmkitError where it is none."""
    if not path.is_file():
        raise ItmkitError(f"{path}: {'is not a regular file' if path.exists() else 'no such file'}")
    try:
        pictures = load_pictures(path)
    except WrongFile as error:
        raise ItmkitError(f"{path}: {error}") from None
    yield Source(list(pictures), lambda key: of_value(pictures[key]))


def check_many(
    path: Path, source: Source, form: str, progress: Progress, *, skip_damaged: bool = False
) -> ManyPictures:
    """Reads every picture of an open file once.

    Raises:
        ItmkitError: everything that is wrong with the file, in one error.
    """
    files, findings, units = ManyPictures(path, source, form), Findings(skip_damaged=skip_damaged), BoxUnits()
    with progress.task("check", len(source.ids), unit="pictures") as advance:
        for key in source.ids:
            advance(1)
            try:
                found = source.read(key)
            except WrongFile as error:
                findings.add(path, str(error), "picture", key)
                continue
            wrong = _wrong(found, files, key)
            for what in wrong:
                findings.add(path, what, "picture", key)
            if wrong:
                continue
            found.add_to(units, len(files.ids))
            files.ids.append(key)
            files.counts.append(len(found))
            files.sizes.append((found.width, found.height))
    files.leave_out(odd_units(units, findings, lambda number: (path, "picture", files.ids[number])))
    if not files.ids and not findings:
        why = f" that can be used ({findings.damaged[0]['reason']})" if findings.damaged else ""
        findings.add(path, f"holds no picture{why}")
    if findings:
        raise ItmkitError(findings.in_words())
    files.shares, files.damaged, files.digests = units.shares, findings.damaged, {path.name: sha256_file(path)}
    return files


def _wrong(found: RegionSet, files: ManyPictures, key: str) -> list[str]:
    """What is wrong with one picture; the first good one decides D, and whether there are boxes."""
    wrong = wrong_values(found)
    if not wrong and len(found):
        files.dim = files.dim or found.features.shape[1]
        files.with_boxes = found.boxes is not None if files.with_boxes is None else files.with_boxes
        if found.features.shape[1] != files.dim:
            wrong.append(f"{found.features.shape[1]} numbers a box, {files.dim} in the first")
        if files.with_boxes != (found.boxes is not None):
            wrong.append("boxes, while the first has none" if found.boxes is not None else "no boxes")
    if why := wrong_id(key):
        wrong.append(f"an id that {why}")
    return wrong


def _rows(path: Path, file: h5py.File, names: list[str], index: Path | None) -> Source:
    features = next(name for name in FEATURES if name in names)
    boxes = next((name for name in BOXES if name in names), None)
    positions = _POSITIONS if _POSITIONS in names else None
    used = [name for name in (features, boxes, positions) if name is not None]
    if problems := [f"{path}: {problem}" for name in used if (problem := _unreadable(file, name))]:
        raise ItmkitError(problems)
    shape, expected = file[features].shape, 2 if positions else 3
    if len(shape) != expected or (boxes and file[boxes].shape != (*shape[:-1], 4)):
        found = f"{features} {shape}" + (f" and {boxes} {file[boxes].shape}" if boxes else "")
        raise ItmkitError(
            f"{path}: holds {found}; (N, R, D) and (N, R, 4), or with {_POSITIONS} (T, D) and (T, 4) are needed"
        )
    count = len(file[positions]) if positions else len(file[features])
    rows = _index(path, index, count)
    spans = file[positions][:] if positions else None

    def read(key: str) -> RegionSet:
        row = rows[key]
        first, last = (row, row + 1) if spans is None else (int(spans[row][0]), int(spans[row][1]))
        if not 0 <= first <= last <= shape[0]:
            raise WrongFile(f"{_POSITIONS} {first} to {last}, beyond the {shape[0]} regions of the file")
        parts = {"features": _slice(file[features], first, last)}
        if boxes is not None:
            parts["boxes"] = _slice(file[boxes], first, last)
        if spans is None:
            parts = {name: part[0] for name, part in parts.items()}
        return _without_padding(region_set(parts, parts.__getitem__))

    ids = sorted(rows, key=rows.__getitem__)
    return Source(ids, read, [rows[key] for key in ids])


def _of_datasets(file: h5py.File, key: str) -> RegionSet:
    named = {"features": f"{key}{_PER_PICTURE}", "boxes": f"{key}_boxes"}
    present = {name: place for name, place in named.items() if place in file}
    for place in present.values():
        if problem := _unreadable(file, place):
            raise WrongFile(problem)
    return region_set(present, lambda name: _slice(file[present[name]], 0, len(file[present[name]])))


def _unreadable(file: h5py.File, name: str) -> str | None:
    if problem := unsafe(file, name):
        return problem
    data = file[name]
    if data.dtype.kind not in "fiu" or not data.shape:
        return f"{name!r} is {data.dtype} of shape {data.shape}, numbers are needed"
    if data.chunks and np.prod(data.chunks, dtype=np.int64) * data.dtype.itemsize > _MOST_BYTES:
        return f"{name!r} is stored in chunks of more than {_MOST_BYTES >> 20} MiB"
    return None


def _slice(data: h5py.Dataset, first: int, last: int) -> np.ndarray:
    if (last - first) * np.prod(data.shape[1:], dtype=np.int64) * data.dtype.itemsize > _MOST_BYTES:
        raise WrongFile(f"more than {_MOST_BYTES >> 20} MiB of features")
    try:
        return np.asarray(data[first:last])
    except DAMAGE as error:
        raise WrongFile(f"cannot be read ({first_line(error)})") from None


def _without_padding(found: RegionSet) -> RegionSet:
    """Without the rows of zeros that fill a picture with fewer regions."""
    filled = np.flatnonzero(found.features.any(axis=1))
    count = int(filled[-1]) + 1 if len(filled) else 0
    found.features = found.features[:count]
    found.boxes = found.boxes[:count] if found.boxes is not None else None
    return found


def _index(path: Path, index: Path | None, count: int) -> Mapping[str, int]:
    """{id of a picture: its row}."""
    usual = path.with_name(f"{path.stem}_imgid2idx.json")
    index = index or (usual if usual.is_file() else None)
    if index is None:
        raise ItmkitError(_without_index(path, count))
    if index.suffix in (".pkl", ".pickle"):
        raise ItmkitError(
            f"{index}: is a Python pickle, which is never read (it could run any program). {_convert(index)}"
        )
    found = read_json(index)
    if isinstance(found, list):
        repeated = len(found) - len(set(map(str, found)))
        rows = {str(key): row for row, key in enumerate(found)}
        problems = [f"{index}: {repeated} ids occur twice"] if repeated else []
        problems += [f"{index}: {len(found)} ids for {count} rows of {path.name}"] if len(found) != count else []
    elif isinstance(found, dict):
        whole = {key: row for key, row in found.items() if isinstance(row, int) and not isinstance(row, bool)}
        rows = whole
        problems = [f"{index}: {key!r}: {found[key]!r} is no row" for key in found if key not in whole][:10]
        beyond = [key for key, row in whole.items() if not 0 <= row < count]
        problems += [f"{index}: {key!r}: row {whole[key]} of {count}" for key in beyond[:10]]
        if len(set(whole.values())) < len(whole):
            problems.append(f"{index}: several ids have the same row")
    else:
        rows, problems = {}, [f"{index}: neither an object {{id: row}} nor a list of ids"]
    if problems:
        raise ItmkitError(problems)
    return rows


def _without_index(path: Path, count: int) -> str:
    pickle = next((place for place in sorted(path.parent.glob(f"{path.stem}*.pkl"))), None)
    beside = pickle or path.with_name(f"{path.stem}_imgid2idx.pkl")
    told = f"the index beside it, {beside.name}," if pickle else f"its index, {beside.name},"
    return (
        f"{path}: has {count:,} rows and does not say of which pictures; {told} is a Python pickle, which is never read"
        f" (it could run any program). {_convert(beside)}"
    )


def _convert(pickle: Path) -> str:
    converted = pickle.with_suffix(".json")
    return (
        'If you trust it, convert it yourself: python -c "import json, pickle; json.dump({str(k): int(v) for k, v in'
        f" pickle.load(open('{pickle}', 'rb')).items()}}, open('{converted}', 'w'))\"; then --index {converted}"
    )
