"""Whether features are such as a matcher was trained on: a warning where their norms are far from those of training."""

from __future__ import annotations

import warnings

import numpy as np

from itmkit.cache import CacheReader
from itmkit.cache.manifest import read_manifest
from itmkit.errors import ItmkitError
from itmkit.models.norms import Norms, norms, norms_of
from itmkit.trained.made import Made

FAR = 3.0  # times beyond what 90 % of the vectors of training have


def norms_of_training(made: Made, cache: str) -> Norms | None:
    """Of the features a run was trained on, where the cache is still there as it was; else None (as of an export)."""
    folder = made.folder.parent.parent / "caches" / cache
    try:
        manifest = read_manifest(folder)
        if manifest is None or manifest.fingerprint != made.fingerprints.get(cache):
            return None
        return norms(CacheReader(folder, manifest), "vector" if "vector" in manifest.columns else "features")
    except (ItmkitError, OSError):
        return None  # it does not count any more


def warn_of_others(usual: Norms | None, features: np.ndarray, cache: str) -> None:
    """Warns if the median norm of features (n, ..., D) is far from all that training saw; zeros fill up and count not.

    Args:
        usual: the norms of training; None: not known, and nothing is compared.
    """
    vectors = features.reshape(-1, features.shape[-1])
    found = norms_of(vectors[vectors.any(axis=1)])
    if usual is None or found is None or usual.low / FAR <= found.median <= usual.high * FAR:
        return
    warnings.warn(
        f"features of these pictures have norms around {found.median:.3g}, those of training ({cache})"
        f" {usual.low:.3g} to {usual.high:.3g}: scores mean little if another model, or other settings, made them",
        UserWarning,
        stacklevel=2,
    )
