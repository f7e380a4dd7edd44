"""Masked autoencoders in use: they see whole pictures."""

from __future__ import annotations

from typing import Any


def see_whole_pictures(network: Any) -> None:
    """Makes a ViT-MAE, which hides most patches of a picture and shuffles the rest, see all of them in their order.

    Other networks are left as they are.
    """
    if network.config.model_type == "vit_mae":
        network.config.mask_ratio = 0.0
        network.base_model.register_forward_pre_hook(_in_order, with_kwargs=True)


def _in_order(network: Any, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Patches are kept in the order of this noise, which is drawn at random if it is not given."""
    import torch

    pixels = named["pixel_values"]
    patch = network.config.patch_size
    count = (pixels.shape[-2] // patch) * (pixels.shape[-1] // patch)
    rising = torch.arange(count, device=pixels.device, dtype=torch.float32)
    return given, {**named, "noise": rising.expand(len(pixels), count)}
