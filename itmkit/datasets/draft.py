"""One image as a reader found it, and the names that data sets use for splits."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from itmkit.dataset import Caption

# Names that data sets use for the three splits. COCO's "restval" is the part of val that Karpathy trains on.
SPLIT_NAMES = {
    **dict.fromkeys(("train", "restval", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}

# As a word of its own: "retrieval" and "latest" say nothing.
_SPLIT_IN_NAME = re.compile(rf"(?<![^\W\d_])({'|'.join(SPLIT_NAMES)})(?:set|all)?(?![^\W\d_])")
_CAPITAL_WITHIN = re.compile(r"(?<=[a-z])(?=[A-Z])")  # where a word begins in imagesTrain


@dataclass(slots=True)
class Draft:
    """One image as a data set's own files describe it. `place` is where: file and line, or file and index.

    `candidates` are the paths at which the picture may lie; the first that exists is taken. `split` is one of
    `SPLIT_NAMES`, in upper or lower case.
    """

    id: str
    split: str
    candidates: Sequence[Path]
    captions: list[Caption]
    place: str
    labels: tuple[str, ...] = ()
    supercategories: tuple[str, ...] = ()

    def path(self) -> Path:
        """The first of the candidates that exists, as it is written or in another spelling; else the first."""
        found = (path for path in self.candidates if exists(path))
        spelled = (path for path in _other_spellings(self.candidates) if exists(path))
        return next(found, None) or next(spelled, self.candidates[0])


def split_named(name: str) -> str | None:
    """The split that a data set's own name for it means, in upper or lower case; None where it means none."""
    return SPLIT_NAMES.get(name.strip().lower())


def split_of_name(file: Path) -> str | None:
    """The split that a file's name says, None where it says none or several."""
    words = _CAPITAL_WITHIN.sub(" ", file.stem).lower()
    found = {SPLIT_NAMES[name] for name in _SPLIT_IN_NAME.findall(words)}
    return found.pop() if len(found) == 1 else None


def exists(path: Path) -> bool:
    """Whether there is such a file or folder. What cannot be looked for is none: a long text, a closed folder."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def is_file(path: Path) -> bool:
    """Whether there is such a file. The rest is as in `exists`."""
    return exists(path) and path.is_file()


def _other_spellings(paths: Sequence[Path]) -> Iterator[Path]:
    """The paths with slashes for backslashes, and with accents composed or decomposed as macOS writes them."""
    for path in paths:
        if str(path).isascii() and "\\" not in str(path):
            continue
        text = str(path).replace("\\", "/")
        for form in ("NFC", "NFD"):
            yield Path(unicodedata.normalize(form, text))
            # The folder may be spelled as it is on disk, and only the name in the file differ.
            yield path.parent / unicodedata.normalize(form, path.name)
        yield Path(text)
