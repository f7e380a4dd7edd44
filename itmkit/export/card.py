"""The card of an exported run, README.md as the hub shows it: data, features, settings, figures, limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import itmkit
from itmkit.cache.manifest import Manifest, read_manifest
from itmkit.errors import ItmkitError
from itmkit.matchers import method
from itmkit.runs.facts import RunFacts, evaluated_on
from itmkit.runs.made import FOLDER as MADE
from itmkit.runs.place import IMPORTED
from itmkit.runs.settings import RunConfig, own_settings
from itmkit.typed import read_strict_json, sealed
from itmkit.workspace import Workspace

RECALLS = [(side, k) for side in ("i2t", "t2i") for k in ("R@1", "R@5", "R@10")]
LICENCE = "fill in: whoever publishes a matcher decides under which licence, within those of its data and models"


@dataclass(frozen=True)
class _Card:
    """What the sections of a card are written from."""

    name: str
    config: RunConfig
    facts: RunFacts
    made: Mapping[str, Manifest]
    data: Mapping[str, Any]  # kind and counts of the data set; empty where it is not known any more
    evaluations: Mapping[str, Mapping[str, Any]]  # split or protocol -> eval-*.json
    origin: Mapping[str, Any]  # where imported weights come from; empty where the run was trained


def card_of(export: Path, name: str, workspace: Workspace, config: RunConfig, facts: RunFacts) -> str:
    """The text of the card.

    Args:
        export: the folder, in which everything but the card is.
        workspace: where the run was trained. If its data set is still that of training, the card tells its counts.
    """
    made = {cache: found for cache in facts.caches if (found := read_manifest(export / MADE / cache)) is not None}
    evaluations = {
        split: sealed(export / f"eval-{split}.json", "evaluate the run again") for split in evaluated_on(export)
    }
    origin = read_strict_json(export / IMPORTED) if (export / IMPORTED).is_file() else {}
    card = _Card(name, config, facts, made, _data(workspace, facts), evaluations, origin)
    try:
        came = _origin(card) if origin else _training(card)
        sections = [_use(card), _data_section(card), _features(card), came, _figures(card), _limits(card)]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ItmkitError(
            f"{name}: a file of the run is not as itmkit writes it ({type(error).__name__}: {error}); evaluate it again"
        ) from None
    return "\n\n".join([_header(card), *sections, f"## Licence\n\n({LICENCE})"]) + "\n"


def _data(workspace: Workspace, facts: RunFacts) -> dict[str, Any]:
    try:
        found = workspace.dataset_facts()
    except ItmkitError:
        return {}
    return {"kind": found.kind, "counts": found.counts} if found.captions_digest == facts.captions else {}


def _header(card: _Card) -> str:
    from huggingface_hub import ModelCardData

    about = ModelCardData(
        library_name="itmkit", tags=["image-text-matching", "image-text-retrieval", card.config.method]
    )
    licence = f"# license: ...  ({LICENCE})"
    return f"---\n{about.to_yaml().strip()}\n{licence}\n---"


def _use(card: _Card) -> str:
    summary = method(card.config.method).SUMMARY
    weights = f"with the published weights of {in_cell(card.origin['source'])}, imported" if card.origin else "trained"
    return f"""# {in_cell(card.name)}

A matcher of images with captions, {weights} with itmkit {itmkit.__version__}. Method: {card.config.method} ({summary}).

    import itmkit

    with itmkit.open("path/to/{in_cell(card.name)}") as matcher:  # or "hf:owner/name" for a repository on the hub
        scores = matcher.score(["beach.jpg", "street.jpg"], ["two dogs in the snow"])  # (2, 1)

`itmkit evaluate --run path/to/{in_cell(card.name)}` scores a split of another data set with it."""


def _data_section(card: _Card) -> str:
    lines = ["## Data", ""]
    if card.data:
        counts = card.data["counts"].items()
        rows = [[split, f"{each['images']:,}", f"{each['captions']:,}"] for split, each in counts]
        lines += [
            f"Data set of the kind {in_cell(card.data['kind'])}.",
            "",
            *_table(["split", "images", "captions"], rows),
        ]
        lines += [""]
    else:
        what = "the import" if card.origin else "training"
        lines += [f"The data set of {what} was no longer at hand when this card was written.", ""]
    return "\n".join([*lines, f"Digest of its captions: `{card.facts.captions}`."])


def _features(card: _Card) -> str:
    rows = []
    for cache, manifest in card.made.items():
        made, model = manifest.made_by, manifest.made_by.model or {}
        settings = ", ".join(f"{key} {value}" for key, value in made.settings.items() if value is not None)
        weights = f"`{model['sha256']}`" if "sha256" in model else ""
        rows.append([cache, made.stage, settings, str(model.get("id", "")), weights, f"`{manifest.fingerprint[:16]}`"])
    columns = ["cache", "made by", "settings", "model", "sha256 of its weights", "fingerprint"]
    told = "New pictures and captions are read by the same models. They are not part of this folder."
    return "\n".join(["## Features and models", "", told, "", *_table(columns, rows)])


def _training(card: _Card) -> str:
    config, facts = card.config, card.facts
    own = own_settings(config)
    other = ", ".join(f"{key} {value}" for key, value in own.items()) or "none"
    minutes = "" if facts.core_minutes is None else f", {facts.core_minutes:.3g} core minutes"
    unfinished = "" if facts.finished else " The training was not finished when this was exported."
    return f"""## Training

{facts.epochs_done} of {facts.epochs} epochs{minutes}, seed {config.training.seed}.{unfinished}

Recipe `{in_cell(config.recipe)}`; settings that differ from it: {in_cell(other)}. All settings are in `config.toml`."""


def _origin(card: _Card) -> str:
    origin = card.origin
    rows = [[what, str(origin[what]), f"`{origin[f'{what}_sha256']}`"] for what in ("checkpoint", "vocabulary")]
    told = f"Weights of {in_cell(origin['source'])}, published by another project and not trained here:"
    settings = "`config.toml` has the settings that decide a score; those of training are not the project's."
    return "\n".join(["## Origin", "", told, "", *_table(["", "file", "sha256"], rows), "", settings])


def _figures(card: _Card) -> str:
    kept = "By validation, each member kept the weights of its best epoch:"
    if card.origin:
        kept = (
            f"By the validation of {in_cell(card.origin['source'])}'s project, on its images, as the checkpoint says:"
        )
    best = [
        [name, str(each["epoch"]), f"{each['rsum']:.1f}"]
        for name, each in card.facts.best.items()
        if "rsum" in each and (each["rsum"] or not card.origin)  # a checkpoint need not say it
    ]
    lines = ["## Figures", ""]
    if best:
        lines += [kept, ""]
        lines += _table(["member", "epoch", "val rsum"], best)
    for split, found in card.evaluations.items():
        lines += ["", f"On `{in_cell(split)}`, {found['images']:,} images and {found['captions']:,} captions"]
        lines[-1] += f" (chance: rsum {found['chance_rsum']:.1f}):"
        columns = ["", *(f"{side} {k}" for side, k in RECALLS), "rsum"]
        lines += ["", *_table(columns, [_row(each) for each in found["results"]])]
    if any("intervals" in each for found in card.evaluations.values() for each in found["results"]):
        lines += ["", "In brackets: 95 % intervals of a bootstrap over images."]
    if not card.evaluations:
        lines += ["", "It was not evaluated on a test split before it was exported."]
    return "\n".join(lines)


def _row(result: Mapping[str, Any]) -> list[str]:
    figures = {f"{side} {k}": result[side][k] for side, k in RECALLS} | {"rsum": result["rsum"]}
    between = result.get("intervals", {})
    return [str(result["name"]), *(_with_interval(value, between.get(name)) for name, value in figures.items())]


def _with_interval(value: float, interval: Mapping[str, Any] | None) -> str:
    if interval is None or interval.get("low") is None or interval.get("high") is None:
        return f"{value:.1f}"
    return f"{value:.1f} ({interval['low']:.1f} to {interval['high']:.1f})"


def _limits(card: _Card) -> str:
    limits = [
        "Scores tell better from worse for one image or one caption. They are no probabilities, and scores of different"
        " matchers are not comparable.",
        "It knows what its data showed it. Figures on one data set say little about pictures and captions of another"
        " kind.",
    ]
    if method(card.config.method).needs(card.config.matcher).words:
        limits.append("Words that the captions of training lack count as one unknown word (`vocabulary.json`).")
    for cache, manifest in card.made.items():
        if manifest.made_by.stage == "import-features":
            limits.append(f"The features of {cache} were imported: there is no model that reads new pictures.")
        if manifest.made_by.settings.get("parser") == "conllu":
            limits.append("The captions were parsed by another program: there is no parser for new captions.")
    return "\n".join(["## Limits", "", *(f"- {limit}" for limit in limits)])


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [[in_cell(cell) for cell in row] for row in (columns, *rows)]
    return ["| " + " | ".join(row) + " |" for row in (lines[0], ["---"] * len(columns), *lines[1:])]


def in_cell(text: object) -> str:
    """On one line, and without what would end a cell or begin a tag."""
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")
