"""Patch vectors of vision transformers, with [CLS] and its attention to the patches.

The picture, squashed to a square, goes through the model once. ViT, DeiT, DINOv2 (with and without registers), BEiT,
the vision towers of CLIP, SigLIP and others that transformers' AutoModel loads.
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
from itmkit.models.pixels import Scaling, first_side, picture_settings, scaling
from itmkit.pictures.decode import Square, squash
from itmkit.typed import model_json

if TYPE_CHECKING:
    import torch
    from PIL import Image

KINDS = "ViT, DeiT, DINOv2, BEiT, CLIP and SigLIP will do"
_MOST_EXTRA_TOKENS = 16  # [CLS], distillation and register tokens that stand before the patches


@dataclass
class PatchModel:
    """A loaded vision transformer.

    Attributes:
        dim: D; side: S, patches along an edge; size: pixels of the model's input.
        patch: pixels of a patch's edge. Where size is no multiple of it, the model does not see the last rows and
            columns of pixels.
        norm: the final layer norm where the model itself applies it to its pooled token only.
        pooled: there is no [CLS]; the pooling head stands for it.
        precision: of the model's products.
    """

    model_id: str
    dim: int
    side: int
    size: int
    patch: int
    body: Any
    norm: Any
    pooled: bool
    scaling: Scaling
    device: torch.device
    attention: LastAttention
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
            features (n, P, D), cls (n, D) and attention (n, P), all float32, as `extract_patches` stores them.
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
        cls = output.pooler_output if self.pooled else states[:, 0]
        share = self.attention.row[:, -self.patches :].float()
        share = share / share.sum(1, keepdim=True)
        return tuple(t.float().cpu().numpy() for t in (states[:, -self.patches :], cls, share))  # type: ignore[return-value]


class LastAttention:
    """Listens to the attention layers of a model and keeps, of the last one that ran, one row a picture.

    row: (B, T) weights of the first token, [CLS], mean over heads; for a pooling head those of its query. What earlier
    layers leave is overwritten at once, so no layer's (B, H, T, T) outlives the layer.
    """

    def __init__(self, body: Any) -> None:
        self.row: Any = None
        self.by_head = False  # it came from a pooling head
        for module in body.modules():
            if type(module).__name__.endswith("Attention"):
                module.register_forward_hook(self._keep)

    def _keep(self, module: Any, inputs: Any, output: Any) -> None:
        weights = output[1] if isinstance(output, tuple) and len(output) > 1 else None
        if weights is None or getattr(weights, "ndim", 0) not in (3, 4):
            return
        self.by_head = weights.ndim == 3  # torch's own layer, of pooling heads, gives (B, 1, T)
        self.row = weights[:, 0] if self.by_head else weights[:, :, 0].mean(1)


def load_patch_model(
    model: str | Path,
    *,
    size: int | None = None,
    device: str | torch.device = "cpu",
    precision: Precision = "float32",
    allow_download: bool = False,
) -> PatchModel:
    """Loads a vision transformer, with the plain implementation of attention, which gives its weights.

    Args:
        model: a folder with config.json, preprocessor_config.json and model.safetensors, or a hub name.
        size: side of the square in pixels. Default: the size the model's own preprocessing produces. Positions are
            interpolated if the model can do that.

    Raises:
        ItmkitError: the model cannot be loaded, is not a vision transformer, has neither [CLS] nor a pooling head with
            attention, or does not take pictures of this size.
    """
    import torch

    folder = find_model(str(model), allow_download=allow_download, ways_out=KINDS)
    settings = picture_settings(folder, str(model))
    config = model_json(folder / "config.json")
    inner = config.get("vision_config")
    vision = inner if inner and isinstance(inner, dict) else config
    crop = settings.get("crop_size") if settings.get("do_center_crop") is not False else None
    network = _loaded(model, folder)
    network.eval().requires_grad_(False).to(device)
    body = getattr(network, "vision_model", network)
    side = size or first_side([crop, settings.get("size"), vision.get("image_size")])
    patch = first_side([vision.get("patch_size")], default=0)
    options = {}
    if side != first_side([vision.get("image_size")]) and "interpolate_pos_encoding" in _arguments(body):
        options["interpolate_pos_encoding"] = True
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
        pooled=False,
        scaling=scaling(settings),
        device=torch.device(device),
        attention=LastAttention(body),
        precision=precision,
        options=options,
    )
    _measure(found)
    return found


def _loaded(model: str | Path, folder: Path) -> Any:
    """The network as transformers loads it, with plain attention and all weights that its patches need."""
    import torch
    from transformers import AutoModel

    with quiet_transformers():
        try:
            network, report = AutoModel.from_pretrained(
                folder,
                use_safetensors=True,
                dtype=torch.float32,
                attn_implementation="eager",
                output_loading_info=True,
                local_files_only=True,
                trust_remote_code=False,
            )
        except Exception as error:  # transformers and its tokenisers raise dozens of kinds
            reason = first_line(error)
            raise ItmkitError(f"{model}: is no vision transformer that transformers can load ({reason})") from error
    lacking = sorted(name for name in report["missing_keys"] if "pooler" not in name and "mask_token" not in name)
    if lacking or report.get("mismatched_keys"):
        raise ItmkitError(f"{model}: the weights do not fit the model ({', '.join(lacking[:3]) or 'shapes'} missing)")
    return network


def _measure(model: PatchModel) -> None:
    """Runs a grey picture: learns D and what stands for [CLS], and fails now, not in the middle of a data set."""
    import torch

    name, size = model.model_id, model.size
    try:
        pixels = torch.full((1, 3, size, size), 0.1, device=model.device)
        with torch.inference_mode():
            with half(model.device, model.precision):  # not every layer of every model can
                model.body(pixel_values=pixels, **model.options)
            output = model.body(pixel_values=pixels, **model.options)
        states = output.last_hidden_state
        tokens, model.dim = states.shape[1:]
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise ItmkitError(
            f"{name}: gives no patches of a {size} x {size} picture ({first_line(error)}); {KINDS}"
        ) from error
    extra = tokens - model.patches
    if states.ndim != 3 or not 0 <= extra <= _MOST_EXTRA_TOKENS:
        raise ItmkitError(
            f"{name}: gives {tokens} tokens for the {model.side} x {model.side} patches of a {size} x {size} picture;"
            f" such a model is not supported. {KINDS}"
        )
    row, pooler = model.attention.row, getattr(output, "pooler_output", None)
    has_cls = any(key.endswith(("cls_token", "class_embedding")) for key, _ in model.body.named_parameters())
    model.pooled = extra == 0 and model.attention.by_head and pooler is not None
    if row is None or row.shape[1] != tokens or not (model.pooled or (extra and has_cls)):
        raise ItmkitError(
            f"{name}: has neither a [CLS] token nor a pooling head whose attention to the patches can be had. {KINDS}"
        )
    if not model.pooled and pooler is not None:
        model.norm = _norm_of_the_pooled(model.body, states, pooler)


def _norm_of_the_pooled(body: Any, states: Any, pooler: Any) -> Any:
    """The final layer norm of a model that applies it to [CLS] (CLIP) or to the mean of the patches (BEiT) only."""
    import torch

    ways = (
        (getattr(body, "post_layernorm", None), states[:, 0]),
        (getattr(getattr(body, "pooler", None), "layernorm", None), states[:, 1:].mean(1)),
    )
    with torch.inference_mode():
        for norm, token in ways:
            if norm is None:
                continue
            found = norm(token)
            if found.shape == pooler.shape and bool(torch.isclose(found, pooler, atol=1e-4).all()):
                return norm
    return None


def _arguments(body: Any) -> set[str]:
    return set(inspect.signature(body.forward).parameters)
