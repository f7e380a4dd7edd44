"""The attention of a vision transformer's last layer, and the norm that it keeps for one token."""

from __future__ import annotations

from typing import Any


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


def norm_of_the_pooled(body: Any, run: Any) -> Any:
    """The final layer norm of a model that applies it to [CLS] (CLIP) or to the mean of the patches (BEiT) only.

    Args:
        run: calls the model on a picture. A norm that saw all its tokens (BLIP) is not to be applied again: None.
    """
    import torch

    norms = (getattr(body, "post_layernorm", None), getattr(getattr(body, "pooler", None), "layernorm", None))
    saw_all: list[bool] = []
    listening = [
        norm.register_forward_hook(lambda norm, given, output: saw_all.append(given[0].ndim == 3))
        for norm in norms
        if norm is not None
    ]
    try:
        output = run()
    finally:
        for one in listening:
            one.remove()
    if any(saw_all) or getattr(output, "pooler_output", None) is None:
        return None
    states, pooler = output.last_hidden_state, output.pooler_output
    with torch.inference_mode():
        for norm, token in zip(norms, (states[:, 0], states[:, 1:].mean(1)), strict=True):
            if norm is None:
                continue
            found = norm(token)
            if found.shape == pooler.shape and bool(torch.isclose(found, pooler, atol=1e-4).all()):
                return norm
    return None
