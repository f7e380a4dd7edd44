"""Which of a vision transformer's tokens are its patches.

[CLS] and registers stand before them, detection tokens (YOLOS) behind them. Their place is found by trying it: where
one patch of a picture changes, one token changes before the first layer.
Shapes: B pictures, T tokens, D channels, S x S patches.
"""

from __future__ import annotations

from typing import Any

# Swin and its like merge 2 x 2 patches between stages; DINOv3-ConvNeXt halves its map likewise.
MERGING = ("swin", "swinv2", "dinov3_convnext")


def merged_patch(config: dict[str, Any], patch: int) -> int:
    """Pixels of the edge of what becomes one token in the end, of a model whose first patches have edges of `patch`.

    Args:
        config: of the vision model, as in config.json.
    """
    if config.get("model_type") not in MERGING:
        return patch
    stages = len(config.get("depths") or (1, 1, 1, 1))
    return (patch or 4) * 2 ** (stages - 1)


def first_patch(body: Any, size: int, patch: int, tokens: int, device: Any, options: dict[str, Any]) -> int:
    """The number of the first patch among the tokens of a picture of `size` x `size` pixels; the others follow it.

    Args:
        body: gives hidden_states on request, the first of them what its first layer is given.
        tokens: T after the last layer.

    Raises:
        ValueError: tokens are not one a patch, row by row.
    """
    import torch

    side = size // patch
    tried = sorted({0, min(1, side - 1), side if side > 1 else 0, side * side - 1})
    pixels = torch.zeros((1 + len(tried), 3, size, size), device=device)
    for number, place in enumerate(tried, 1):
        row, column = divmod(place, side)
        pixels[number, :, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch] = 1.0
    with torch.inference_mode():
        states = body(pixel_values=pixels, output_hidden_states=True, **options).hidden_states
    if not states or states[0].ndim != 3:
        raise ValueError("its tokens before the first layer are not to be had")
    if states[0].shape[1] != tokens:
        raise ValueError(f"it makes {tokens} tokens of {states[0].shape[1]}, which are not one a patch any more")
    moved = (states[0][1:] - states[0][:1]).abs().amax(-1)  # (tried, T)
    places = [(row > 1e-3 * row.max().clamp(min=1e-30)).nonzero().flatten().tolist() for row in moved]
    firsts = {found[0] - place if len(found) == 1 else -1 for found, place in zip(places, tried, strict=True)}
    if len(firsts) != 1 or min(firsts) < 0:
        raise ValueError("its tokens are not one a patch, row by row")
    return int(firsts.pop())
