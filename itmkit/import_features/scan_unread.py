"""Files of a folder in the SCAN layout that nothing reads, and what takes their place."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from itmkit.import_features.scan_layout import OPTIONAL_ARRAYS, array_path, some

# Files of GSMN and RCAR that nothing reads: how they end, and what does their work here.
_REPLACED = (
    ("_ims_bbx.npy", "since NAME_boxes.npy is there, which is read in its place; take that away to have these boxes"),
    (
        "_ims_size.npy",
        "GSMN's and RCAR's sizes, pickled Python objects, which are never read; run `itmkit prepare` on the pictures"
        " first, or make NAME_sizes.npy yourself, with numpy.array([[d['image_w'], d['image_h']] for d in"
        " numpy.load('NAME_ims_size.npy', allow_pickle=True)])",
    ),
    (
        ("_caps.json", "_precaps_stan.txt"),
        "dependencies and word numbers of GSMN; `itmkit parse-text` and `build-graphs` make these of the captions",
    ),
)


def passed_over(folder: Path, names: Iterable[str]) -> list[str]:
    """Notes on the files of the splits `names` that nothing reads, and what takes their place."""
    known = {f"{name}_{ending}" for name in names for ending in ("ims.npy", "caps.txt", "ids.txt", "tags.json")}
    known |= {array_path(folder, name, what).name for name in names for what in OPTIONAL_ARRAYS}
    unread = sorted(path.name for name in names for path in folder.glob(f"{name}_*") if path.name not in known)
    notes = []
    for endings_of, why in _REPLACED:
        found = [name for name in unread if name.endswith(endings_of)]
        unread = [name for name in unread if name not in found]
        notes += [f"passed over: {some('file', found)}, {why}"] if found else []
    if unread:
        notes.append(f"passed over, since nothing here reads them: {some('file', unread)}")
    return notes
