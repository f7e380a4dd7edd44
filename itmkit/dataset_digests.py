"""Digests of what later stages depend on in a data set: its pictures, and its captions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol


class _Text(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def text(self) -> str: ...


class _Image(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def split(self) -> str: ...
    @property
    def captions(self) -> Sequence[_Text]: ...
    @property
    def file(self) -> str | None: ...
    @property
    def sha256(self) -> str | None: ...


class Digests:
    """Grows with each image that is added."""

    def __init__(self) -> None:
        self._pictures, self._captions = hashlib.sha256(), hashlib.sha256()

    def add(self, image: _Image) -> None:
        self._pictures.update(f"{image.id}\0{image.sha256 or image.file}\n".encode())
        self._captions.update(f"{image.id}\0{image.split}\n".encode())
        for caption in image.captions:
            self._captions.update(f"{caption.id}\0{caption.text}\0".encode())

    @property
    def images(self) -> str:
        return self._pictures.hexdigest()

    @property
    def captions(self) -> str:
        return self._captions.hexdigest()


def digests_of_beginnings(images: Iterable[_Image]) -> Iterator[Digests]:
    """Those of no image, of the first, of the first two and so on. Each is the same object, which grows."""
    found = Digests()
    yield found
    for image in images:
        found.add(image)
        yield found
