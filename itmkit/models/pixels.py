"""Pictures as a vision model wants them: squashed to a square, scaled and normalised as its own settings say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field, TypeAdapter

from itmkit.errors import ItmkitError
from itmkit.typed import Number, checked, model_json

if TYPE_CHECKING:
    import torch


_ByChannel = Annotated[list[Number], Field(min_length=3, max_length=3)]
_Switch = Annotated[bool, Field(strict=True)]


@dataclass(frozen=True)
class _Written:
    """What `scaling` reads of the settings of pictures."""

    do_normalize: _Switch | None = None
    image_mean: _ByChannel | None = None
    image_std: Annotated[list[Annotated[Number, Field(gt=0)]], Field(min_length=3, max_length=3)] | None = None
    do_rescale: _Switch | None = None
    rescale_factor: Number = 1 / 255
    resample: Annotated[int, Field(strict=True, ge=0, le=5)] = 2


_SCALING = TypeAdapter(_Written)


@dataclass(frozen=True)
class Scaling:
    """From the values 0..255 of a picture: (value * scale - mean) / std, mean and std by channel.

    resample: Pillow's number of the filter that resizes.
    """

    mean: np.ndarray
    std: np.ndarray
    scale: float
    resample: int

    def normalised(self, squares: Sequence[np.ndarray], device: torch.device) -> torch.Tensor:
        """(B, 3, S, S) float32 on the device, of B squares (S, S, 3) uint8."""
        import torch

        values = torch.from_numpy(np.stack(squares)).to(device).permute(0, 3, 1, 2).float()
        mean, std = (torch.from_numpy(by_channel).to(device)[:, None, None] for by_channel in (self.mean, self.std))
        return values.mul_(self.scale).sub_(mean).div_(std)  # channels lie last in memory: convolutions are faster so


def picture_settings(folder: Path, model: str) -> dict[str, Any]:
    """What preprocessor_config.json of a model's folder says, else the part of processor_config.json on pictures.

    Settings of scaling that a file leaves out are those of its kind of image processor, where transformers knows it.

    Raises:
        ItmkitError: there is neither file.
    """
    path, settings = check_picture_settings(folder, model)
    checked(_SCALING, settings, path, "this says how pictures are scaled")
    return _usual(settings) | settings


def check_picture_settings(folder: Path, model: str) -> tuple[Path, dict[str, Any]]:
    """The file of a model's folder that says how to scale pictures, and what it says. Raises as `picture_settings`."""
    path = folder / "preprocessor_config.json"
    if path.is_file():
        return path, model_json(path)
    path = folder / "processor_config.json"
    if path.is_file():
        inner = model_json(path).get("image_processor")
        if isinstance(inner, dict):
            return path, inner
    raise ItmkitError(
        f"{model}: the folder {folder} has no preprocessor_config.json (and no processor_config.json with an"
        " image_processor), which says how to scale pictures"
    )


def _usual(settings: dict[str, Any]) -> dict[str, Any]:
    """Mean, deviation and filter of a kind of image processor: older files do not repeat them."""
    import transformers

    kind = settings.get("image_processor_type") or settings.get("feature_extractor_type") or ""
    name = str(kind).removesuffix("Fast").removesuffix("FeatureExtractor").removesuffix("ImageProcessor")
    known = getattr(transformers, f"{name}ImageProcessorPil", None)
    if not name or known is None:
        return {}
    found = {key: getattr(known, key, None) for key in ("image_mean", "image_std", "resample")}
    return {key: int(value) if key == "resample" else list(value) for key, value in found.items() if value is not None}


def scaling(settings: dict[str, Any]) -> Scaling:
    """The scaling that picture settings ask for."""
    normalised = settings.get("do_normalize") is not False
    mean = (settings.get("image_mean") if normalised else None) or [0.0] * 3
    std = (settings.get("image_std") if normalised else None) or [1.0] * 3
    return Scaling(
        mean=np.array(mean, np.float32),
        std=np.array(std, np.float32),
        scale=float(settings.get("rescale_factor", 1 / 255)) if settings.get("do_rescale", True) else 1.0,
        resample=int(settings.get("resample", 2)),
    )


def first_side(candidates: list[Any], default: int = 224) -> int:
    """The first of several settings that names the side of a picture, in pixels: 224, [224, 224], {"height": 224}."""
    for found in candidates:
        if isinstance(found, dict):
            found = found.get("height") or found.get("shortest_edge")
        if isinstance(found, (list, tuple)) and found:
            found = found[0]
        if isinstance(found, int) and found > 0:
            return found
    return default
