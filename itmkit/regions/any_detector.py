"""Loads a detector of any kind: one with classes of its own, or one that looks for the names it is given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from itmkit.errors import ItmkitError
from itmkit.models.hub import find_model
from itmkit.regions.detector import WAYS_OUT, Detector, load_detector
from itmkit.regions.grounding import CLASSES, GroundedDetector, load_grounded_detector
from itmkit.regions.open_vocabulary import OWLS, OpenDetector, load_open_detector
from itmkit.regions.vg_vocabulary import names_to_find
from itmkit.typed import model_json

if TYPE_CHECKING:
    import torch

OPEN_DETECTORS = (OpenDetector, GroundedDetector)
_WITH_NAMES = "OWLv2, OWL-ViT, Grounding DINO and MM Grounding DINO"


def load_any_detector(
    model: str, names: Path | Sequence[str] | None, *, device: str | torch.device, allow_download: bool
) -> Detector | OpenDetector | GroundedDetector:
    """Loads a detector of any kind.

    Args:
        names: those to look for, or their file; None: those of Visual Genome, or those that the model was trained on.

    Raises:
        ItmkitError: the model cannot be loaded, or it names its own classes and is given names.
    """
    folder = find_model(model, allow_download=allow_download, ways_out=WAYS_OUT)
    kind = str(model_json(folder / "config.json").get("model_type"))
    if kind == "omdet-turbo":
        raise ItmkitError(
            f"{model}: looks for names that it is given (model type {kind!r}); of such models, {_WITH_NAMES} are"
            f" supported. {WAYS_OUT}"
        )
    if kind in OWLS or kind in CLASSES:
        names = names_to_find(names) if names is None or isinstance(names, Path) else names
        if kind in OWLS:
            return load_open_detector(model, names, kind=kind, device=device, allow_download=allow_download)
        return load_grounded_detector(model, names, kind=kind, device=device, allow_download=allow_download)
    if names is not None:
        raise ItmkitError(
            f"{model}: takes no --vocabulary, since this detector names the classes that it was trained on;"
            f" {_WITH_NAMES} take one, and so does --backend detectron2"
        )
    return load_detector(model, device=device, allow_download=allow_download)
