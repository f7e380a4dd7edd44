"""Patch vectors of vision models, with [CLS] and its attention to the patches where a model has them.

The picture, squashed to a square, goes through the model once. ViT, DeiT, DINOv2 and DINOv3, BEiT, I-JEPA, ViT-MAE,
AIMv2, YOLOS, Swin, the vision towers of CLIP, SigLIP, BLIP and others that transformers' AutoModel loads.
Shapes: B pictures, D channels, H heads, S x S = P patches, T tokens: [CLS], perhaps more, then the patches.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from itmkit.errors import ItmkitError, first_line
from itmkit.machine.device import Precision, half
from itmkit.models.hub import find_model, quiet_transformers
from itmkit.models.look import check_probes, probes
from itmkit.models.masked import see_whole_pictures
from itmkit.models.pixels import Scaling, first_side, picture_settings, scaling
from itmkit.pictures.decode import Square, squash
from itmkit.regions.attention import LastAttention, norm_of_the_pooled
from itmkit.regions.tokens import MERGING, first_patch, merged_patch
from itmkit.typed import model_json

if TYPE_CHECKING:
    import torch
    from PIL import Image

KINDS = "ViT, DeiT, DINOv2, DINOv3, BEiT, CLIP, SigLIP and Swin will do (docs/models.md lists all)"
CLS, HEAD, MEAN = "[CLS]", "pooling head", "mean of the patches"


@dataclass
class PatchModel:
    """A loaded vision transformer.

    Attributes:
        dim: D; side: S, patches along an edge; size: pixels of the model's input.
        patch: pixels of a patch's edge. Where size is no multiple of it, the model does not see the last rows and
            columns of pixels.
        first: the number of the first patch among the tokens.
        norm: the final layer norm where the model itself applies it to its pooled token only.
        whole: what the vector of the whole picture is: CLS, HEAD or MEAN.
        attention: None where it is not wanted.
        precision: of the model's products.
    """

    model_id: str
    dim: int
    side: int
    size: int
    patch: int
    body: Any
    norm: Any
    whole: str
    scaling: Scaling
    device: torch.device
    attention: LastAttention | None
    first: int = 0
    precision: Precision = "float32"
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def patches(self) -> int:
        return self.side**2

    def boxes(self, size: tuple[int, int]) -> np.ndarray:
        """(P, 4) float32 x1 y1 x2 y2 of the patches, row by row, in pixels of a picture of (width, height) `size`."""
        edges = np.arange(self.side + 1) * (self.patch / self.size)
        row, column = np.divmod(np.arange(self.patches), self.side)
        boxes = np.stack([edges[column], edges[row], edges[column + 1], edges[row + 1]], 1)
        return (boxes * np.array(size * 2)).astype(np.float32)

    @property
    def square(self) -> Square:
        return Square(self.size, self.scaling.resample)

    def prepare(self, image: Image.Image) -> np.ndarray:
        """(size, size, 3) uint8 of an upright RGB picture of any size."""
        return np.asarray(squash(image, self.square))

    def describe(self, squares: Sequence[np.ndarray], *, batch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Runs what `prepare` makes of n pictures, at most `batch` at once.

        Returns:
            features (n, P, D), cls (n, D) and attention (n, P), all float32, as `extract_patches` stores them. Without
            attention its array is (n, 0).
        """
        import torch

        parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for start in range(0, len(squares), batch):
            with torch.inference_mode():
                pixels = self.scaling.normalised(squares[start : start + batch], self.device)
                parts.append(self._forward(pixels))
        features, cls, attention = zip(*parts, strict=True)
        return np.concatenate(features), np.concatenate(cls), np.concatenate(attention)

    def _forward(self, pixels: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        with half(self.device, self.precision):
            output = self.body(pixel_values=pixels, **self.options)
        states = output.last_hidden_state.float()
        states = self.norm(states) if self.norm is not None else states
        patches = slice(self.first, self.first + self.patches)
        share = states.new_zeros((len(states), 0))
        if self.attention is not None:
            share = self.attention.row[:, patches].float()
            share = share / share.sum(1, keepdim=True)
        if self.whole == MEAN:
            cls = states[:, patches].mean(1)
        else:
            cls = output.pooler_output if self.whole == HEAD else states[:, 0]
        return tuple(t.float().cpu().numpy() for t in (states[:, patches], cls, share))  # type: ignore[return-value]


def load_patch_model(
    model: str | Path,
    *,
    size: int | None = None,
    attention: bool = False,
    device: str | torch.device = "cpu",
    precision: Precision = "float32",
) -> PatchModel:
    """Loads a vision model; where attention is wanted, with its plain implementation, which gives the weights.

    Args:
        model: a folder with config.json, preprocessor_config.json and model.safetensors, or a hub name.
        size: side of the square in pixels. Default: the size the model's own preprocessing produces. Positions are
            interpolated if the model can do that.
        attention: whether the attention of [CLS] is wanted.

    Raises:
        ItmkitError: the model cannot be loaded, is not a vision transformer, has no attention of [CLS] or a pooling
            head although it is wanted, does not take pictures of this size, or answers by chance.
    """
    import torch

    folder = find_model(str(model), allow_download=False, ways_out=KINDS)
    settings = picture_settings(folder, str(model))
    config = model_json(folder / "config.json")
    inner = config.get("vision_config")
    vision = inner if inner and isinstance(inner, dict) else config
    crop = settings.get("crop_size") if settings.get("do_center_crop") is not False else None
    network = _loaded(model, folder, eager=attention)
    network.eval().requires_grad_(False).to(device)
    see_whole_pictures(network)
    body = getattr(network, "vision_model", network)
    side = size or first_side([crop, settings.get("size"), vision.get("image_size")])
    patch = merged_patch(vision, first_side([vision.get("patch_size")], default=0))
    other = side != first_side([vision.get("image_size")]) and "interpolate_pos_encoding" in _arguments(body)
    if not patch or "pixel_values" not in _arguments(body):
        raise ItmkitError(f"{model}: is no vision transformer (model type {config.get('model_type')!r}); {KINDS}")
    found = PatchModel(
        model_id=str(model),
        dim=0,
        side=side // patch,
        size=side,
        patch=patch,
        body=body,
        norm=None,
        whole=CLS,
        scaling=scaling(settings),
        device=torch.device(device),
        attention=LastAttention(body) if attention else None,
        precision=precision,
        options={"interpolate_pos_encoding": True} if other else {},
    )
    _measure(found, vision)
    if not found.patches:
        raise ItmkitError(f"{model}: gives no patches of a {side} x {side} picture; {KINDS}")
    answers = [found.describe([found.prepare(image) for image in probes()], batch=2)[0] for _ in range(2)]
    check_probes(str(model), *answers)
    return found


def _loaded(model: str | Path, folder: Path, *, eager: bool) -> Any:
    """The network as transformers loads it, with all weights that its patches need; `eager`: with plain attention."""
    import torch
    from transformers import AutoModel

    with quiet_transformers():
        try:
            network, report = AutoModel.from_pretrained(
                folder,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
                local_files_only=True,
                trust_remote_code=False,
                **({"attn_implementation": "eager"} if eager else {}),
            )
        except Exception as error:  # transformers and its tokenisers raise dozens of kinds
            reason = first_line(error)
            raise ItmkitError(f"{model}: is no vision transformer that transformers can load ({reason})") from error
    own = "vision_model." if hasattr(network, "vision_model") else ""  # what the other tower lacks does not matter
    lacking = sorted(
        name
        for name in report["missing_keys"]
        if name.startswith(own) and "pooler" not in name and "mask_token" not in name
    )
    if lacking or report.get("mismatched_keys"):
        raise ItmkitError(f"{model}: the weights do not fit the model ({', '.join(lacking[:3]) or 'shapes'} missing)")
    return network


def _measure(model: PatchModel, config: dict[str, Any]) -> None:
    """Runs a grey picture: learns D, where the patches are and what stands for [CLS]; fails now, not hours later."""
    import torch

    name, size, merging = model.model_id, model.size, config.get("model_type") in MERGING
    try:
        pixels = torch.full((1, 3, size, size), 0.1, device=model.device)
        with torch.inference_mode():
            with half(model.device, model.precision):  # not every layer of every model can
                model.body(pixel_values=pixels, **model.options)
            model.norm = norm_of_the_pooled(model.body, lambda: model.body(pixel_values=pixels, **model.options))
            output = model.body(pixel_values=pixels, **model.options)
        states = output.last_hidden_state
        tokens, model.dim = states.shape[1:]
        if not merging:
            model.first = first_patch(model.body, size, model.patch, tokens, model.device, model.options)
        elif size % model.patch:
            raise ValueError(f"its patches have {model.patch} pixels; --size must be a multiple of it")
        elif tokens - model.patches not in (0, 1):
            raise ValueError(f"it gives {tokens} tokens where {model.patches} are expected")
        else:
            model.first = tokens - model.patches
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
        raise ItmkitError(
            f"{name}: gives no patches of a {size} x {size} picture ({first_line(error)}); {KINDS}"
        ) from error
    _find_whole(model, output, tokens)


def _find_whole(model: PatchModel, output: Any, tokens: int) -> None:
    """What stands for [CLS]; refuses a model without its attention where that is wanted."""
    listener, pooler = model.attention, getattr(output, "pooler_output", None)
    has_cls = any(key.endswith(("cls_token", "class_embedding")) for key, _ in model.body.named_parameters())
    has_head = hasattr(model.body, "head") and pooler is not None
    if model.first and (has_cls or model.patches + 1 == tokens):
        model.whole = CLS  # of DINOv3-ConvNeXt: the pooled map
    else:
        model.whole = HEAD if has_head else MEAN
        model.norm = None
    if listener is None:
        return
    there = listener.row is not None and listener.row.shape[1] == tokens
    if not there or model.whole == MEAN or listener.by_head != (model.whole == HEAD):
        raise ItmkitError(
            f"{model.model_id}: has neither a [CLS] token nor a pooling head whose attention to the patches can be had;"
            " without --attention its patches are stored without it"
        )


def _arguments(body: Any) -> set[str]:
    return set(inspect.signature(body.forward).parameters)
