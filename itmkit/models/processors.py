"""The image processors of transformers, and two that it has only for torchvision, which is not needed here.

RF-DETR and DINOv3 scale values before they resize a picture; everything else is as in other processors.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from itmkit.errors import ItmkitError
from itmkit.models.pixels import check_picture_settings, picture_settings, scaling

if TYPE_CHECKING:
    import torch
    from PIL import Image

# Kinds of image processors -> whether they smooth a picture before it gets smaller.
PLAIN = {"RfDetrImageProcessor": False, "DINOv3ViTImageProcessor": True}


@dataclass(frozen=True)
class PlainProcessor:
    """Scales, resizes to a fixed size and normalises pictures one by one."""

    settings: dict[str, Any]
    antialias: bool

    def __call__(self, images: Image.Image, return_tensors: str = "pt") -> dict[str, torch.Tensor]:
        """pixel_values (1, 3, h, w) float32 of an RGB picture."""
        import torch

        how, size = scaling(self.settings), self.settings["size"]
        values = torch.from_numpy(np.array(images)).permute(2, 0, 1)[None].float() * how.scale
        mode = "bicubic" if how.resample == 3 else "bilinear"
        resized = torch.nn.functional.interpolate(
            values, (size["height"], size["width"]), mode=mode, antialias=self.antialias
        )
        mean, std = (torch.from_numpy(by_channel)[:, None, None] for by_channel in (how.mean, how.std))
        return {"pixel_values": (resized - mean) / std}


def load_processor(folder: Path, model: str) -> Any:
    """What turns a picture into the input of the model in a folder.

    Raises:
        ItmkitError: the folder does not say how. Whatever transformers raises where its own processor fails.
    """
    _, settings = check_picture_settings(folder, model)
    kind = str(settings.get("image_processor_type", "")).removesuffix("Fast")
    if kind in PLAIN:
        size = settings.get("size")
        if not isinstance(size, dict) or not all(isinstance(size.get(edge), int) for edge in ("height", "width")):
            raise ItmkitError(f"{model}: its picture settings have no size with a height and a width ({size!r})")
        return PlainProcessor(_imagenet() | picture_settings(folder, model), PLAIN[kind])
    from transformers import AutoImageProcessor

    return AutoImageProcessor.from_pretrained(folder, backend="pil", local_files_only=True, trust_remote_code=False)


def _imagenet() -> dict[str, Any]:
    return {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
