"""Runs in a process of its own: opens HDF5 files that may be damaged or hostile, and prints JSON.

    python -m itmkit.inspection.child walk FILE
    python -m itmkit.inspection.child scores FILE
    python -m itmkit.inspection.child row CACHE_FOLDER ID
    python -m itmkit.inspection.child number CACHE_FOLDER ROW

The HDF5 library has crashed on malformed files before; here only this process ends. It never follows a link, never
reads data that a file keeps elsewhere, and is limited in memory and time. See `hdf5.py` for the other side.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

OBJECTS = 2000  # a walk ends after so many
MEMORY = 4 << 30  # bytes of address space
SECONDS = 30  # of processor time
VALUES = 20_000  # larger arrays are told by shape and range only


def walk(file: str) -> dict[str, Any]:
    """Every object that hard links reach: its path, and its shape and type or why it was refused."""
    import h5py

    found: list[dict[str, Any]] = []
    with h5py.File(file, "r", locking=False) as root:
        seen: set[int] = set()
        todo: list[tuple[str, Any]] = [("", root)]
        while todo and len(found) < OBJECTS:
            prefix, group = todo.pop(0)
            try:
                names = list(group)
            except Exception as error:
                found.append(_entry(prefix or "/", f"unreadable ({_words(error)})"))
                continue
            for name in names:
                path = f"{prefix}/{name}"
                if len(found) >= OBJECTS:
                    break
                try:
                    entry, below = _object(group, name, path, seen)
                except Exception as error:
                    entry, below = _entry(path, f"unreadable ({_words(error)})"), None
                found.append(entry)
                if below is not None:
                    todo.append((path, below))
    return {"objects": found, "more": bool(todo)}


def _object(group: Any, name: str, path: str, seen: set[int]) -> tuple[dict[str, Any], Any]:
    import h5py

    link = group.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        target = getattr(link, "filename", "") or getattr(link, "path", "")
        return _entry(path, f"refused: {type(link).__name__} to {str(target)[:100]!r}"), None
    item = group[name]
    if isinstance(item, h5py.Group):
        address = h5py.h5o.get_info(item.id).addr
        if address in seen:
            return _entry(path, "group (seen before)"), None
        seen.add(address)
        return _entry(path, f"group of {len(item)}"), item
    if not isinstance(item, h5py.Dataset):
        return _entry(path, "named type"), None
    if item.is_virtual or item.external:
        return _entry(path, "refused: keeps its data in other files"), None
    filters = ", ".join(filter(None, [item.compression, "shuffle" if item.shuffle else None]))
    kind = "scalar" if item.shape == () else "data"
    return {
        **_entry(path, kind),
        "shape": str(item.shape),
        "type": str(item.dtype)[:60],
        "chunks": str(item.chunks or ""),
        "filters": filters,
    }, None


def _entry(path: str, what: str) -> dict[str, Any]:
    return {"path": _printable(path), "what": _printable(what), "shape": "", "type": "", "chunks": "", "filters": ""}


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text[:300])


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:160]


def row(folder: str, key: str) -> dict[str, Any]:
    """The row with this id, see `_told`; {"row": None} where there is none."""
    from itmkit.cache import CacheReader

    reader = CacheReader.open(Path(folder))
    place = int(reader.find([key])[0])
    return _told(reader, place) if place >= 0 else {"row": None}


def number(folder: str, place: str) -> dict[str, Any]:
    """The row of this number, see `_told`; {"row": None} where there are fewer."""
    from itmkit.cache import CacheReader

    reader = CacheReader.open(Path(folder))
    return _told(reader, int(place)) if 0 <= int(place) < len(reader) else {"row": None}


def scores(file: str) -> dict[str, Any]:
    """Reads a file of scores whole, which compares it with the digest it holds; "digest": whether it holds one."""
    import h5py

    from itmkit.scoring.stored import DIGEST, ScoreFile

    ScoreFile(Path(file))
    with h5py.File(file, "r", locking=False) as root:
        return {"digest": DIGEST in root.attrs}


def _told(reader: Any, place: int) -> dict[str, Any]:
    """Number, id and all columns of one row: {name: {dtype, shape, values (small arrays) and range}}."""
    import numpy as np

    columns: dict[str, Any] = {}
    for name, column in reader.columns.items():
        ragged = column.kind == "ragged"
        values = reader.read_ragged([name], [place])[0][name] if ragged else reader.read(name, [place])[0]
        told: dict[str, Any] = {"dtype": str(values.dtype), "shape": list(values.shape)}
        if values.size:
            told["range"] = [float(np.min(values)), float(np.mean(values, dtype=np.float64)), float(np.max(values))]
        if values.size <= VALUES:
            told["values"] = values.tolist()
        columns[name] = told
    return {"row": place, "id": reader.ids[place], "columns": columns}


def answer(arguments: list[str]) -> dict[str, Any]:
    """What a request such as ["walk", FILE] finds, or {"problems": [...]}."""
    from itmkit.errors import ItmkitError

    answers: dict[str, Callable[..., dict[str, Any]]] = {"walk": walk, "scores": scores, "row": row, "number": number}
    try:
        return answers[arguments[0]](*arguments[1:])
    except ItmkitError as error:
        return {"problems": error.problems}
    except Exception as error:
        return {"problems": [f"{arguments[1]}: cannot be read as HDF5 ({_words(error)})"]}


def main(arguments: list[str]) -> int:
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.stdout.write(json.dumps(answer(arguments), ensure_ascii=True))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
