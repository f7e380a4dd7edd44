"""Who takes part in `itmkit compare`: methods with settings of their own, checked before any of them is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from itmkit.cache import read_manifest
from itmkit.cache.name import CacheName
from itmkit.errors import ItmkitError
from itmkit.evaluation.protocols import images_of, protocol
from itmkit.matchers import method
from itmkit.runs.begin import configured
from itmkit.runs.settings import RunConfig
from itmkit.workspace import Workspace


@dataclass(frozen=True)
class Contender:
    """A method with settings of its own, written "mefn" or "mefn:mfe=false:embed=128".

    "cmfg:seeds=1" has fewer seeds than the others, or more; that is no part of its label.
    """

    label: str
    method: str
    settings: Mapping[str, str]
    seeds: int | None = None

    @classmethod
    def read(cls, text: str) -> Contender:
        name, *settings = text.split(":")
        wrong = [one for one in settings if "=" not in one]
        if wrong:
            raise ItmkitError(f"{text!r}: a setting is written NAME:setting=value, and {wrong[0]!r} is none")
        of_seeds = [one.partition("=")[2] for one in settings if one.startswith("seeds=")]
        if any(not one.isdecimal() or not int(one) for one in of_seeds):
            raise ItmkitError(f"{text!r}: seeds={of_seeds[0]} is no number of seeds; write seeds=1 or more")
        settings = [one for one in settings if not one.startswith("seeds=")]
        pairs = (one.split("=", 1) for one in settings)
        chosen = {key.strip().removeprefix("--").replace("-", "_"): value for key, value in pairs}
        return cls(":".join([name, *settings]), name, chosen, int(of_seeds[-1]) if of_seeds else None)

    def numbers(self, seeds: int | Sequence[int]) -> list[int]:
        """Its seeds: its own number of them, the first of those of all where they are enough."""
        every = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
        if self.seeds is None:
            return every
        return every[: self.seeds] if self.seeds <= len(every) else list(range(self.seeds))

    def run(self, seed: int, prefix: str) -> str:
        """The name of its run: a folder name."""
        return Workspace.compared_run(prefix, self.label, seed)


def over_images(methods: Sequence[str], settings: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Methods and settings as they would be written without a list of caches in `images`.

    "chan" with images "patches,regions" becomes "chan:images=patches" and "chan:images=regions". A method that names
    its images itself stays as it is, and so does everything where `images` is a single cache.
    """
    left = dict(settings)
    caches = [name.strip() for name in str(left.get("images", "")).split(",") if name.strip()]
    if len(caches) == 1:
        left["images"] = caches[0]
    if len(caches) < 2:
        return list(methods), left
    del left["images"]
    crossed: list[str] = []
    for text in methods:
        own = any(one.strip().startswith(("images=", "--images=")) for one in text.split(":")[1:])
        crossed += [text] if own else [f"{text}:images={cache}" for cache in caches]
    return crossed, left


def checked(
    workspace: Workspace,
    methods: Sequence[str],
    seeds: int | Sequence[int],
    recipe: str,
    settings: Mapping[str, Any],
    prefix: str,
    split: str,
    against: str | None,
) -> list[tuple[Contender, dict[int, RunConfig]]]:
    """The contenders, and the settings of each seed's run.

    Raises:
        ItmkitError: all that is wrong with any of them. A problem of several methods is told once, with their names.
    """
    problems: list[str] = [] if methods else ["no method named"]
    problems += [] if seeds else ["at least one seed is needed"]
    of_methods: dict[str, list[str]] = {}  # a cache may be missing for many
    configs: dict[str, tuple[Contender, dict[int, RunConfig]]] = {}
    methods, settings = over_images(methods, settings)
    for text in methods:
        try:
            contender = Contender.read(text)
            if contender.label in configs:
                raise ItmkitError("named twice")
            if "seed" in settings or "seed" in contender.settings:
                raise ItmkitError("--seed: a comparison gives each run its seed, 0, 1, ...; --seeds N says how many")
            _, each = configs.setdefault(contender.label, (contender, {}))
            for seed in contender.numbers(seeds):
                chosen = {**settings, **contender.settings, "seed": seed}
                run = contender.run(seed, prefix)
                each[seed] = configured(workspace, contender.method, recipe=recipe, settings=chosen, run=run)
                _check_images(contender, each[seed])
        except ItmkitError as error:
            for problem in error.problems:
                of_methods.setdefault(problem, []).append(text)
    problems += [f"{', '.join(dict.fromkeys(texts))}: {problem}" for problem, texts in of_methods.items()]
    if against is not None and Contender.read(against).label not in configs:
        problems.append(f"--against {against!r}: is none of the methods {', '.join(configs)}")
    if not problems:
        problems = _different_images(
            workspace, [config for _, each in configs.values() for config in each.values()], split
        )
    if problems:
        raise ItmkitError(problems)
    return list(configs.values())


def _check_images(contender: Contender, config: RunConfig) -> None:
    """Raises ItmkitError where a contender reads something else than the images it is named after."""
    wanted, read = contender.settings.get("images"), method(config.method).needs(config.matcher).images
    if wanted is not None and wanted not in (read, read.partition("/")[0], CacheName.of(read).kind):
        raise ItmkitError(f"--images {wanted}: with these settings {config.method} reads {read}")


def _different_images(workspace: Workspace, configs: Sequence[RunConfig], split: str) -> list[str]:
    """Why figures of a split would not be of the same images: a cache skipped some that another one has."""
    every = {image.id for image in images_of(protocol(split), workspace.dataset())}
    lacks: dict[str, set[str]] = {}
    for cache in dict.fromkeys(method(config.method).needs(config.matcher).images for config in configs):
        manifest = read_manifest(workspace.cache(cache))
        assert manifest is not None  # `configured` has seen it
        lacks[cache] = {item["id"] for item in manifest.skipped} & every
    common = set.intersection(*lacks.values())
    alone = {cache: sorted(missing - common) for cache, missing in lacks.items()}
    return [
        f"{workspace.cache(cache)}: lacks {len(ids)} images of --split {split} that other methods have ({ids[0]}, ...):"
        " figures would be of different images. `itmkit inspect` says why; extract them, or compare the caches apart"
        for cache, ids in alone.items()
        if ids
    ]
