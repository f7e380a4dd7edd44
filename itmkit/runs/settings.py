"""Settings of a training run: those of the method and of the training, from a recipe and from the user."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from itmkit.errors import ItmkitError, nearest
from itmkit.files import write_text
from itmkit.machine.precision import WantedProducts
from itmkit.matchers import METHODS, Stage, method, preset, stages
from itmkit.methods.recipe import SMALL, recipe_text
from itmkit.typed import Text, checked, read_toml, toml_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MOST = 1_000_000_000  # of numbers that something is multiplied with: far beyond use, far below 64 bits
PUBLISHED = ("paper", "coco")  # recipes that repeat a published training, its number of epochs included


def _core_minutes(value: Any) -> Any:
    """Turns 40, "40", "40m" or "1.5h" into minutes."""
    if not isinstance(value, str):
        return value
    written = re.fullmatch(r"(\d+|\d*\.\d+)\s*(m|min|h)?", value.strip())
    if written is None:
        raise ValueError("a budget is written 40 or 40m for core minutes, 1.5h for core hours")
    return float(written[1]) * (60 if written[2] == "h" else 1)


@checked_dataclass(config=ConfigDict(extra="forbid"), frozen=True, kw_only=True)
class Training:
    """Settings of training that every method shares. Defaults are those of the reference runs."""

    epochs: int = Field(default=30, ge=1, le=MOST, description="passes over the training captions")
    budget: Annotated[float, BeforeValidator(_core_minutes)] = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="core minutes to train for instead of `epochs`: 40, 40m or 1.5h; 0 = none",
    )
    batch_size: int = Field(default=128, ge=2, le=MOST, description="captions of a batch; the negatives come from it")
    captions_per_image: int = Field(default=1, ge=1, le=MOST, description="captions of an image that share a batch")
    accumulate: int = Field(
        default=1,
        ge=1,
        le=10_000,
        description="parts in which a batch is encoded, for less memory; its pairs stay those of all",
    )
    global_negatives: bool = Field(
        default=False, description="under torchrun: negatives from all processes, not from each one's share of a batch"
    )
    learning_rate: float = Field(default=2e-4, gt=0, description="of Adam")
    text_rate: float = Field(
        default=1.0, ge=0, le=1000, description="times the learning rate, for the word encoder; 0 = stays as it begins"
    )
    region_rate: float = Field(
        default=1.0, ge=0, le=1000, description="times the learning rate, for the region encoder"
    )
    weight_decay: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="of AdamW: times the rate, what each step takes off a weight; 0 = Adam",
    )
    schedule: Literal["step", "cosine", "linear"] = Field(
        default="step", description="how the learning rate falls: in steps (below), or to zero at the end"
    )
    decay_epoch: int = Field(
        15, ge=0, le=MOST, description="the learning rate is multiplied by `decay` every so many epochs; 0 = never"
    )
    decay: float = Field(default=0.1, gt=0, le=1, description="factor of the learning-rate steps")
    warmup_steps: int = Field(default=0, ge=0, le=MOST, description="steps over which the learning rate rises from 0")
    margin: float = Field(default=0.2, gt=0, description="of the triplet loss")
    negatives: Literal["hardest", "all", "soft"] = Field(
        default="hardest", description="which negatives of a batch count"
    )
    warmup_epochs: int = Field(default=1, ge=0, le=MOST, description="epochs on all negatives before `hardest` begins")
    temperature: float = Field(default=0.1, gt=0, description="tau of soft negatives")
    clip: float = Field(default=2.0, gt=0, description="gradient norm, clipped per member")
    drop_regions: float = Field(
        default=0.0, ge=0, lt=1, description="share of the regions that a training batch leaves out, at random"
    )
    drop_words: float = Field(
        default=0.0, ge=0, lt=1, description="share of the words that a training batch masks, changes or leaves out"
    )
    ema: float = Field(
        default=0.0, ge=0, lt=1, description="what is validated and kept is a moving average of the weights; 0 = off"
    )
    patience: int = Field(
        default=0, ge=0, le=MOST, description="stop when no member has improved on val for so many epochs; 0 = never"
    )
    precision: WantedProducts = Field(
        default="auto", description="of products of matrices; auto = bfloat16 where the hardware has it"
    )
    length_buckets: int = Field(
        default=1,
        ge=1,
        le=MOST,
        description="batches over which captions are sorted by length, for less padding; 1 = off",
    )
    workers: int = Field(default=0, ge=0, le=1024, description="processes that read batches ahead; 0 = a thread")
    word_vectors: str = Field(
        default="", description="a text file of GloVe or word2vec with which learned word vectors begin"
    )
    minimum_count: int = Field(
        default=4, ge=1, le=MOST, description="words rarer than this in the training captions are unknown"
    )
    validation_images: int = Field(
        default=1000, ge=0, le=MOST, description="first images of val scored after each epoch; 0 = all"
    )
    checkpoint_steps: int = Field(default=500, ge=1, le=MOST, description="steps between two saved states")
    stop_on_collapse: bool = Field(default=True, description="stop when all scores have become equal")
    seed: int = Field(default=0, ge=0, le=10**13, description="of weights, order and dropout")


@dataclass(frozen=True)
class RunConfig:
    method: str
    recipe: str
    matcher: Any  # the Config of the method
    training: Training
    # With a budget: the measured speed that decides the epochs, and what was asked for. See `itmkit.training.budget`.
    measured: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stages(self) -> tuple[Stage, ...]:
        return stages(self.method, self.matcher, self.training.epochs)

    def to_json(self) -> dict[str, Any]:
        tables = {"matcher": asdict(self.matcher), "training": asdict(self.training)}
        return {"method": self.method, "recipe": self.recipe, **tables}

    def write(self, path: Path) -> None:
        """config.toml: everything the run was trained with."""
        values = self.to_json()
        tables = {"matcher": values.pop("matcher"), "training": values.pop("training")}
        if self.measured:
            tables["measured"] = dict(self.measured)
        write_text(path, toml_text(values, tables))


def resolve(name: str, *, recipe: str = SMALL, settings: Mapping[str, Any] | None = None) -> RunConfig:
    """The settings of a run: defaults, overridden by the recipe, overridden by `settings`.

    Args:
        settings: {name: value}, where a name is a setting of the method or of the training. Values may be strings,
            as they come from a command line.

    Raises:
        ItmkitError: every unknown name and every value out of range, in one error.
    """
    module = method(name)
    chosen: dict[str, Any] = tomllib.loads(recipe_text(name, recipe))
    chosen["matcher"] = preset(name) | chosen.get("matcher", {})
    fields = {"matcher": _names(module.Config), "training": _names(Training)}
    problems = []
    for key, value in (settings or {}).items():
        place = next((table for table, names in fields.items() if key in names), None)
        if place is None:
            problems.append(f"setting {key!r}: {name} has no such setting{_nearest(key, fields)}")
        else:
            chosen.setdefault(place, {})[key] = value
    built: dict[str, Any] = {}
    for table, kind in (("matcher", module.Config), ("training", Training)):
        try:
            built[table] = _checked(kind, chosen.get(table, {}))
            problems += [
                f"setting {key!r} = {str(value)!r}: a finite number is needed"
                for key, value in asdict(built[table]).items()
                if isinstance(value, float) and not math.isfinite(value)
            ]
        except ValidationError as error:
            for item in error.errors():
                where = ".".join(str(part) for part in item["loc"])
                says = item["msg"].removeprefix("Value error, ")
                problems.append(f"setting {where!r} = {item.get('input')!r}: {says}")
    if len(built) == 2 and hasattr(module, "problems"):
        problems += module.problems(built["matcher"], built["training"])
    if len(built) == 2:
        problems += _beside_whole_vectors(name, module.needs(built["matcher"]).pooled, built["training"])
        problems += _word_vectors(name, built["matcher"], built["training"])
    if "training" in built and built["training"].budget:
        problems += _beside_a_budget(recipe, settings or {})
    if problems:
        raise ItmkitError(problems)
    return RunConfig(name, recipe, built["matcher"], built["training"])


def own_settings(config: RunConfig) -> dict[str, Any]:
    """The settings of a run that are not those of its recipe, by name, without the precision, which the device
    decides.

    Raises:
        ItmkitError: there is no such recipe.
    """
    recipe = resolve(config.method, recipe=config.recipe).to_json()
    mine = config.to_json()
    every = {
        key: (value, recipe[table][key]) for table in ("matcher", "training") for key, value in mine[table].items()
    }
    return {key: value for key, (value, usual) in every.items() if value != usual and key != "precision"}


def _beside_a_budget(recipe: str, settings: Mapping[str, Any]) -> list[str]:
    """Why these settings cannot be combined with a budget of core minutes, which decides the number of epochs."""
    found = ["--epochs, --budget: give one of them; a budget decides how many epochs there are"]
    found = found if "epochs" in settings else []
    if recipe in PUBLISHED:
        found.append(
            f"--recipe {recipe}, --budget: give one of them; the recipe repeats a published training with its number of"
            " epochs. Other recipes follow a budget"
        )
    return found


def _beside_whole_vectors(name: str, pooled: bool, training: Training) -> list[str]:
    """Why nothing can be dropped from a picture, or a caption, that is one vector."""
    options = {"--drop-regions": training.drop_regions, "--drop-words": training.drop_words}
    return [
        f"{option} {share:g}: {name} reads one vector a picture and one a caption, of which nothing can be left out"
        for option, share in options.items()
        if pooled and share
    ]


def _word_vectors(name: str, matcher: Any, training: Training) -> list[str]:
    """Why words cannot begin with the vectors of a file: it is not there, or words do not learn their vectors."""
    if not training.word_vectors:
        return []
    option, found = f"--word-vectors {training.word_vectors}", []
    if not hasattr(matcher, "word") or not method(name).needs(matcher).words:
        advice = "; it does with --words gru" if hasattr(matcher, "word") else ""
        found.append(f"{option}: {name} does not learn a vector of --word numbers of each word{advice}")
    if not Path(training.word_vectors).is_file():
        found.append(f"{option}: no such file")
    return found


def changed(config: RunConfig, settings: Mapping[str, Any]) -> RunConfig:
    """The same run with other settings of its method. Raises ItmkitError if they cannot be combined."""
    module = method(config.method)
    try:
        matcher = _checked(module.Config, asdict(config.matcher) | dict(settings))
    except ValidationError as error:
        raise ItmkitError([f"setting {item['loc'][0]!r}: {item['msg']}" for item in error.errors()]) from None
    problems = module.problems(matcher, config.training) if hasattr(module, "problems") else []
    problems += _beside_whole_vectors(config.method, module.needs(matcher).pooled, config.training)
    problems += _word_vectors(config.method, matcher, config.training)
    if problems:
        raise ItmkitError(problems)
    return replace(config, matcher=matcher)


@checked_dataclass(config=ConfigDict(extra="forbid"))
class _Written:
    """config.toml as it is in the file. The class of the method checks its own table."""

    method: Text
    recipe: Text
    matcher: dict[str, Any]
    training: dict[str, Any]
    measured: dict[str, Any] = field(default_factory=dict)


def read_config(path: Path) -> RunConfig:
    """Reads a run's config.toml. Raises ItmkitError naming every place that is not of such a file."""
    advice = "this is not the configuration of a run"
    found = checked(TypeAdapter(_Written), read_toml(path), path, advice)
    if found.method not in METHODS:
        raise ItmkitError(f"{path}: method: {found.method!r} is none of {', '.join(METHODS)}; {advice}")
    built, problems = {}, []
    for table, kind in (("matcher", method(found.method).Config), ("training", Training)):
        try:
            written = json.dumps(getattr(found, table), default=str)  # as JSON: "strict" has no objects in Python
            built[table] = TypeAdapter(kind).validate_json(written, strict=True)
        except ValidationError as error:
            places = [(".".join(str(part) for part in (table, *item["loc"])), item["msg"]) for item in error.errors()]
            problems += [f"{path}: {place}: {says}; {advice}" for place, says in places]
    if problems:
        raise ItmkitError(problems)
    return RunConfig(found.method, found.recipe, built["matcher"], built["training"], found.measured)


def _names(kind: Any) -> list[str]:
    return list(kind.__dataclass_fields__)


def _nearest(key: str, fields: Mapping[str, list[str]]) -> str:
    names = [name for group in fields.values() for name in group]
    return nearest(key, names) or f"; it has {', '.join(sorted(names))}"


def _checked(kind: Any, values: Mapping[str, Any]) -> Any:
    """An instance of a settings class. One ValidationError holds every problem."""
    return TypeAdapter(kind).validate_python(values)
