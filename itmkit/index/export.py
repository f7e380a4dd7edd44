"""The ids and vectors of an index as a Parquet file, which vector databases read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from itmkit.errors import ItmkitError
from itmkit.files import atomic_path, check_replaces
from itmkit.index.store import Store
from itmkit.progress import SILENT, Progress

MAGIC = b"PAR1"  # a Parquet file begins and ends with it


def write_parquet(store: Store, path: Path, *, progress: Progress = SILENT) -> int:
    """Writes a row an image: id (string), sha256 (string), vector (list of C float32). Returns their number.

    Vectors are read and written some megabytes at a time.

    Raises:
        ItmkitError: pyarrow is not installed, or `path` is another kind of file.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ItmkitError("--to parquet needs the package pyarrow: pip install 'itmkit[parquet]'") from None
    check_replaces(path, _is_parquet, "a Parquet file")
    side, size = store.images_side, store.facts.candidates
    vector = pyarrow.list_(pyarrow.float32(), size)
    fields = [("id", pyarrow.string()), ("sha256", pyarrow.string()), ("vector", vector)]
    facts = {"itmkit run": store.facts.run, "itmkit method": store.facts.method}
    schema = pyarrow.schema(fields, metadata=facts)
    with (
        progress.task("parquet", side.alive, unit="images") as advance,
        atomic_path(path) as partial,
        pyarrow.parquet.ParquetWriter(partial, schema) as writer,
    ):
        for first, block in side.blocks():
            alive = np.flatnonzero(~side.dead[first : first + len(block)])
            images = [store.images[first + k] for k in alive.tolist()]
            flat = pyarrow.array(np.ascontiguousarray(block[alive]).reshape(-1))
            columns = [
                pyarrow.array([image for image, _ in images], pyarrow.string()),
                pyarrow.array([sha for _, sha in images], pyarrow.string()),
                pyarrow.FixedSizeListArray.from_arrays(flat, type=vector),
            ]
            if len(alive):
                writer.write_batch(pyarrow.record_batch(columns, schema=schema))
            advance(len(alive))
    return side.alive


def _is_parquet(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(4) == MAGIC
