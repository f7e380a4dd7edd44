"""Models that tests build are built once in each process; other tests get a copy of the files."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any


def built_once(build: Callable[..., Path]) -> Callable[..., Path]:
    """For a function (kind, folder, **settings) that writes a model into a folder and returns the folder."""
    files: dict[str, dict[Path, bytes]] = {}

    @wraps(build)
    def build_or_copy(kind: str, folder: Path, **settings: Any) -> Path:
        key = repr((kind, sorted(settings.items())))
        if key not in files:
            with TemporaryDirectory() as made:
                build(kind, Path(made), **settings)
                found = (path for path in Path(made).rglob("*") if path.is_file())
                files[key] = {path.relative_to(made): path.read_bytes() for path in found}
        for path, content in files[key].items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        return folder

    return build_or_copy


def loaded_once(build: Callable[..., Path], load: Callable[[Path], Any]) -> Callable[[str], Any]:
    """Loads each kind of model once in each process. For tests that change neither the model nor its files."""

    @cache
    def loaded(kind: str) -> Any:
        with TemporaryDirectory() as folder:
            return load(build(kind, Path(folder)))

    return loaded
