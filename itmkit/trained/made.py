"""What made the caches that a run was trained on: the models, and their settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itmkit.cache.manifest import MadeBy, Manifest
from itmkit.errors import ItmkitError
from itmkit.runs.made import made_in_training


@dataclass(frozen=True)
class Made:
    """The manifests of a run's caches.

    Attributes:
        folder: of the run, or of an exported matcher.
        fingerprints: name -> fingerprint of each cache at the time of training.
        places: cache ("regions", "text", "words-bert") -> where its model lies now; the others lie where they lay then.
    """

    folder: Path
    fingerprints: Mapping[str, str]
    places: Mapping[str, str]

    def manifest(self, cache: str) -> Manifest:
        """Of a cache that the run was trained on. Raises ItmkitError if it is gone or was made otherwise since."""
        return made_in_training(self.folder, cache, self.fingerprints.get(cache))

    def model(self, cache: str, manifest: Manifest) -> str:
        """Where the model of a cache lies: as `places` says, else where it lay when the cache was made."""
        return self.places.get(folder_of(cache)) or str(manifest.notes["model"])

    def check(self, cache: str, made_by: MadeBy, found: Mapping[str, Any]) -> None:
        """Raises ItmkitError if a loaded model is another than that of training: other weights or settings."""
        wanted = made_by.model or {}
        other = [key for key in wanted if key != "id" and found.get(key) != wanted[key]]
        if other:
            what = "weights" if "sha256" in other else "settings"
            raise ItmkitError(
                f"{found.get('id')}: has other {what} than {wanted.get('id')!r}, the model that made {cache} for"
                f" training; {option(cache)} gives the place of the right one"
            )


def folder_of(cache: str) -> str:
    """The folder of a cache without its side: "words-bert" of "words-bert/texts"."""
    return cache.partition("/")[0]


def option(cache: str) -> str:
    """How the user says where the model of a cache lies."""
    name = folder_of(cache)
    return f"--model-of {name}=FOLDER (in Python: models={{{name!r}: FOLDER}})"
