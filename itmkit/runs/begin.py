"""The folder of a run: what it was trained on, whether it may be continued, the words it knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from itmkit.cache import WHOLE, Part
from itmkit.cache.name import CacheName
from itmkit.dataset import Dataset
from itmkit.errors import ItmkitError
from itmkit.files import digest, sha256_file
from itmkit.inputs.needs import missing, the_one
from itmkit.inputs.vocabulary import Vocabulary
from itmkit.machine.precision import WantedProducts, precision_of
from itmkit.matchers import method
from itmkit.parse_text.store import TextCache
from itmkit.runs.facts import CONFIG, VOCABULARY, RunFacts
from itmkit.runs.made import write_made
from itmkit.runs.place import clear_run
from itmkit.runs.settings import RunConfig, read_config, resolve
from itmkit.workspace import Workspace

# Settings that do not change the result of a run. A run may be continued with other values of these.
FREE = ("stop_on_collapse", "checkpoint_steps", "workers")


def configured(
    workspace: Workspace,
    name: str,
    *,
    recipe: str,
    settings: Mapping[str, Any],
    run: str | None = None,
    dataset: Dataset | None = None,
) -> RunConfig:
    """The settings of a run in this workspace: `resolve`, then `settled`.

    Args:
        dataset: the workspace's data set, if it has been read already; likewise below.

    Raises:
        ItmkitError: unknown settings, values out of range and missing caches, all in one error.
    """
    problems: list[str] = []
    try:
        config = resolve(name, recipe=recipe, settings=settings)
    except ItmkitError as error:
        problems += error.problems
        config = resolve(name, recipe=recipe, settings=_sound(name, recipe, settings))
    try:
        config = settled(workspace, config, workspace.run(run or name), dataset)
    except ItmkitError as error:
        problems += error.problems
    if problems:
        raise ItmkitError(problems)
    return config


def _sound(name: str, recipe: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are valid, each taken by itself. They decide which caches are looked for."""
    kept: dict[str, Any] = {}
    for key, value in settings.items():
        try:
            resolve(name, recipe=recipe, settings={**kept, key: value})
        except ItmkitError:
            continue
        kept[key] = value
    return kept


def settled(workspace: Workspace, config: RunConfig, folder: Path, dataset: Dataset | None = None) -> RunConfig:
    """The same settings, with the names of caches that the user left open filled in.

    A name is taken from the run in `folder`, if there is one, else from the only cache of its kind.

    Raises:
        ItmkitError: every cache that is missing or not done, and every name that has to be given, in one error.
    """
    module, chosen, problems = method(config.method), config.matcher, []
    before = None
    if RunFacts.exist(folder):
        with suppress(ItmkitError):  # `continues` tells of it, and --force replaces the run
            before = read_config(folder / CONFIG).matcher
    names = [CacheName.of(name) for name in module.needs(chosen).caches]
    left_open = {name.kind for name in names if name.is_open}
    kinds: tuple[Literal["words", "vectors"], ...] = ("words", "vectors")
    for kind in kinds:
        if kind in left_open:
            setting = f"{kind}_cache"
            try:
                name = getattr(before, setting, "") or the_one(workspace, kind, setting)
                chosen = replace(chosen, **{setting: name})
            except ItmkitError as error:
                problems += error.problems
    problems += missing(workspace, module.needs(chosen), config.method, dataset)
    if problems:
        raise ItmkitError(problems)
    return replace(config, matcher=chosen)


@dataclass(frozen=True)
class Plan:
    """A run that is about to be trained. found: the facts of the run it continues, None where it begins."""

    config: RunConfig
    facts: RunFacts
    found: RunFacts | None


def plan_run(
    workspace: Workspace,
    dataset: Dataset,
    config: RunConfig,
    folder: Path,
    device: torch.device,
    part: Part = WHOLE,
    *,
    force: bool = False,
) -> Plan:
    """The full settings of the run, and whether it continues the one in `folder`. Changes nothing.

    Args:
        part: this process among those that will train the run.
        force: ignore whatever the folder holds.
    """
    config = with_precision(settled(workspace, config, folder, dataset), folder, device, force=force)
    least = 2 * part.of * config.training.captions_per_image  # the last batch of an epoch may be half as large
    if config.training.batch_size < least and part.of > 1:
        raise ItmkitError(f"--batch-size {config.training.batch_size}: {part.of} processes need at least {least}")
    facts = facts_before(workspace, dataset, config)
    return Plan(config, facts, None if force else continues(folder, facts, config))


def with_precision(config: RunConfig, folder: Path, device: torch.device, *, force: bool = False) -> RunConfig:
    """Replaces `auto` by the precision of the run in `folder`, if there is one, else by the best of this device.

    Args:
        force: ignore the run in `folder`, which is replaced.
    """
    precision: WantedProducts = config.training.precision
    if precision == "auto" and not force and RunFacts.exist(folder):
        precision = read_config(folder / CONFIG).training.precision
    return replace(config, training=replace(config.training, precision=precision_of(precision, device)))


def facts_before(workspace: Workspace, dataset: Dataset, config: RunConfig) -> RunFacts:
    """The facts of a run that has not begun. The `sizes` of its inputs are not known yet."""
    module = method(config.method)
    needs = module.needs(config.matcher)
    labelled = needs.labels and not needs.labels_from
    return RunFacts(
        method=config.method,
        recipe=config.recipe,
        caches={name: workspace.fingerprint(name) for name in needs.caches},
        captions=dataset.captions_digest,
        labels=digest([sorted(image.labels) for image in dataset.split("train")]) if labelled else "",
        epochs=sum(stage.epochs for stage in config.stages),
        members=module.members(config.matcher),
        sizes={},
    )


def has_learnt(folder: Path) -> bool:
    """Whether the folder holds a run that has saved something, which could be lost."""
    return RunFacts.exist(folder) and (
        bool(RunFacts.read(folder).epochs_done) or (folder / "last" / "state.safetensors").exists()
    )


def continues(folder: Path, facts: RunFacts, config: RunConfig) -> RunFacts | None:
    """The facts of the run in `folder`, or None: there is none, or it has other settings and has not saved anything.

    Raises:
        ItmkitError: it has other data or settings, or its files are not those that training wrote.
    """
    if not RunFacts.exist(folder):
        return None
    found = RunFacts.read(folder)
    before, now = read_config(folder / CONFIG).to_json(), config.to_json()
    problems = []
    for table in ("matcher", "training"):
        mine, yours = before[table], now[table]
        if before["method"] == now["method"]:
            changed = [key for key in yours if mine.get(key) != yours[key] and key not in FREE]
            problems += [f"setting {key} was {mine.get(key)!r}, is {yours[key]!r} now" for key in changed]
    if before["method"] != now["method"]:
        problems.append(f"method was {before['method']}, is {now['method']} now")
    problems += [f"cache {key} has changed" for key, value in facts.caches.items() if found.caches.get(key) != value]
    if found.captions != facts.captions:
        problems.append("the captions have changed")
    if found.labels and found.labels != facts.labels:
        problems.append("the labels of the training images have changed")
    if problems and not has_learnt(folder):
        return None
    if problems:
        raise ItmkitError(
            [f"{folder}: {problem}" for problem in problems]
            + [f"{folder} holds a run of other data or settings; use another --run NAME, or --force to replace it"]
        )
    found.check_files(folder, CONFIG, *[name for name in (VOCABULARY,) if (folder / name).exists()])
    return found


def begin_run(
    workspace: Workspace, folder: Path, facts: RunFacts, config: RunConfig, vocabulary: Vocabulary | None
) -> RunFacts:
    """Writes the settings and the words of a run, and what made its caches: all but its facts.

    Leftovers of a run without a run.json are removed.

    Returns:
        The facts with the id of the run and the digests of both files. They are not written yet.
    """
    clear_run(folder)
    write_made(workspace, folder, facts.caches)
    config.write(folder / CONFIG)
    if vocabulary is not None:
        vocabulary.write(folder / VOCABULARY)
    return _begun(facts, config, folder)


def _begun(facts: RunFacts, config: RunConfig, folder: Path) -> RunFacts:
    """The facts of a run whose settings and vocabulary have been written, with its id and the digests of both files."""
    settings = {table: dict(values) for table, values in config.to_json().items() if isinstance(values, dict)}
    for free in FREE:
        settings["training"].pop(free, None)
    what = {"method": config.method, "caches": dict(facts.caches), "captions": facts.captions, "settings": settings}
    what |= {"labels": facts.labels} if facts.labels else {}
    files = {name: sha256_file(folder / name) for name in (CONFIG, VOCABULARY) if (folder / name).is_file()}
    return replace(facts, id=digest(what), files=files)


def training_words(workspace: Workspace, dataset: Dataset, config: RunConfig) -> Counter[str] | None:
    """How often each word occurs in the training captions. None if the method reads no words by their numbers."""
    needs = method(config.method).needs(config.matcher)
    if not needs.words:
        return None
    text = TextCache.open(workspace.cache(needs.text))
    return text.word_counts(caption.text for image in dataset.split("train") for caption in image.captions)


def training_vocabulary(workspace: Workspace, dataset: Dataset, config: RunConfig) -> Vocabulary | None:
    """The vocabulary of the training captions, counting a caption as often as it occurs. None if none is used."""
    counts = training_words(workspace, dataset, config)
    return None if counts is None else Vocabulary.build(counts, minimum=config.training.minimum_count)
