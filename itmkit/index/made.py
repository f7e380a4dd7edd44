"""What an index was made from: digests of a run's weights, and of how the caches of images were made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from itmkit.cache.manifest import MadeBy, read_manifest
from itmkit.files import digest, sha256_file
from itmkit.trained import Matcher
from itmkit.workspace import Workspace

WEIGHTS = "weights of "  # a member: keys of `IndexFacts.made_from` beside the names of caches


def weights_of(run: Path, members: Iterable[str]) -> dict[str, str]:
    """Digests of the weights of a run, by its folder."""
    return {f"{WEIGHTS}{member}": sha256_file(run / f"best-{member}.safetensors") for member in members}


def made_digest(made_by: MadeBy) -> str:
    """Of how a cache was made; not of which images are in it."""
    made = asdict(made_by)
    return digest({key: made[key] for key in ("stage", "settings", "model")})


def made_from(workspace: Workspace, matcher: Matcher) -> dict[str, str]:
    """Digests of the run's weights and of how the caches of images were made."""
    found = weights_of(matcher.folder, matcher.members)
    for cache in matcher.needs.image_caches:
        manifest = read_manifest(workspace.cache(cache))
        assert manifest is not None  # `require` has seen it
        found[cache] = made_digest(manifest.made_by)
    return found
