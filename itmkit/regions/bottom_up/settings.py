"""What the user chose for `--backend detectron2`, and whether its files are there. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from itmkit.errors import ItmkitError
from itmkit.regions.bottom_up.selection import KEEP, ORIGINAL_NMS, REGRESSED_NMS
from itmkit.regions.bottom_up.weights import SUFFIXES
from itmkit.regions.vg_vocabulary import ATTRIBUTES, OBJECTS, read_names

CLASSES, ATTRIBUTE_COUNT = 1600, 400  # of the Visual Genome model
PROPOSALS = 300  # of the Visual Genome model, best first, from which the regions are selected
SELECTIONS = ("original", "regressed")
INSTALL = (
    "pip install torchvision (of the same build as torch), then"
    " pip install --no-build-isolation git+https://github.com/facebookresearch/detectron2"
)


@dataclass(frozen=True)
class BottomUpOptions:
    """What may be asked for with detectron2. Each option is also a setting of workspace.toml; None means not given.

    Args:
        config: the model's .yaml configuration; without it, the Visual Genome model with attributes.
        vocabulary: folder of the class names.
        selection: "original" or "regressed", of the Visual Genome model.
        min_regions: regions kept even if their scores are low.
    """

    config: str | Path | None = None
    vocabulary: str | Path | None = None
    selection: str | None = None
    min_regions: int | None = None


@dataclass(frozen=True)
class BottomUpSettings:
    """Settings of one extraction.

    `config` None: the Visual Genome model with attributes, and `selection` is set. Otherwise any model of detectron2,
    and `selection` is None: its own inference says which boxes there are. `vocabulary`: folder of the class names.
    """

    weights: Path
    config: Path | None
    vocabulary: Path | None
    selection: Literal["original", "regressed"] | None
    min_regions: int

    @property
    def recorded(self) -> dict[str, Any]:
        """What the cache records beside the digests of the files."""
        settings: dict[str, Any] = {"min_regions": self.min_regions}
        if self.selection == "original":
            settings |= {"selection": "original", "nms": ORIGINAL_NMS, "keep": KEEP, "proposals": PROPOSALS}
        elif self.selection == "regressed":
            settings |= {"selection": "regressed", "nms": list(REGRESSED_NMS), "proposals": PROPOSALS}
        return settings

    @property
    def places(self) -> dict[str, str]:
        """Where the files lie: noted in the cache so that the same extraction can go on, no part of its identity."""
        found = {"config": self.config, "vocabulary": self.vocabulary}
        return {name: str(path) for name, path in found.items() if path is not None}


def resolve(
    *,
    model: str | None,
    config: Path | None,
    vocabulary: Path | None,
    selection: Any,
    min_regions: Any,
    regions: int,
    problems: list[str],
) -> BottomUpSettings | None:
    """Completes the options; adds to `problems` whatever is wrong with them.

    `model` is a weight file, or a folder that holds one, and maybe the configuration (.yaml) and the vocabulary.
    Returns None where the weights cannot be found.
    """
    least = regions if min_regions is None else min_regions
    if not isinstance(least, int) or isinstance(least, bool) or least < 1:
        problems.append(f"min_regions is {least!r}; a whole number from 1 is needed")
    elif least > regions:
        problems.append(f"at least {least} regions but at most {regions} a picture are asked for; raise --regions")
    if selection not in (None, *SELECTIONS):
        problems.append(f"selection {selection!r}: there is {' and '.join(SELECTIONS)}")
    weights: Path | None = None
    if model is None:
        problems.append(
            "--backend detectron2 needs --model: a weight file such as faster_rcnn_from_caffe_attr.pkl, or a folder"
            " that holds it with its vocabulary"
        )
    elif Path(model).is_dir():
        folder = Path(model)
        weights = _only(folder, SUFFIXES, "weight file", problems)
        if config is None and any(folder.glob("*.yaml")):
            config = _only(folder, (".yaml",), "configuration", problems)
        if vocabulary is None and ((folder / OBJECTS).exists() or config is None):
            vocabulary = folder
    else:
        weights = Path(model)
    if config is not None and selection is not None:
        problems.append(
            "selection is a setting of the Visual Genome model; with --config the model's own inference selects"
        )
    if config is None and model is not None and vocabulary is None:
        problems.append(f"--vocabulary is needed: the folder with {OBJECTS} and {ATTRIBUTES} that came with {model}")
    if weights is None:
        return None
    return BottomUpSettings(weights, config, vocabulary, (selection or "original") if config is None else None, least)


def check_files(settings: BottomUpSettings, problems: list[str]) -> None:
    """Adds to `problems` what is missing: detectron2, weights, configuration, vocabulary."""
    lacking = [name for name in ("torchvision", "detectron2") if find_spec(name) is None]
    if lacking:
        problems.append(f"--backend detectron2 needs {' and '.join(lacking)}, which are not installed: {INSTALL}")
    if not settings.weights.is_file():
        problems.append(f"{settings.weights}: no such file; --model names the weights, or a folder that holds them")
    elif settings.weights.suffix not in SUFFIXES:
        problems.append(f"{settings.weights}: weights are read from {', '.join(SUFFIXES)} files")
    if settings.config is not None:
        if not settings.config.is_file():
            problems.append(f"{settings.config}: no such file; --config names a .yaml file of detectron2")
        elif settings.config.suffix not in (".yaml", ".yml"):
            problems.append(f"{settings.config}: a .yaml configuration is needed (one in Python would be run)")
    if settings.vocabulary is not None:
        for name, count in ((OBJECTS, CLASSES), (ATTRIBUTES, ATTRIBUTE_COUNT)):
            if settings.config is None or name == OBJECTS:
                try:
                    read_names(settings.vocabulary / name, count if settings.config is None else None)
                except ItmkitError as error:
                    problems += error.problems


def _only(folder: Path, suffixes: tuple[str, ...], what: str, problems: list[str]) -> Path | None:
    found = sorted(path for path in folder.iterdir() if path.suffix in suffixes and path.is_file())
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.name for path in found[:5])
        problems.append(f"{folder}: holds {len(found)} {what}s ({names}); name the one that is meant")
    else:
        problems.append(f"{folder}: holds no {what} ({', '.join('*' + suffix for suffix in suffixes)})")
    return None
