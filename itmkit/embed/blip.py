"""The two towers of BLIP's model for retrieval, each with its projection.

Shapes: B pictures or captions, L tokens, D width of the common space.
"""

from __future__ import annotations

from typing import Any

import torch

BLIP_2 = (
    "BLIP-2 gives 32 vectors a picture and scores a caption by the nearest of them, so there is no one vector of a"
    " picture whose cosine is its similarity"
)


def is_blip_retrieval(config: dict[str, Any]) -> bool:
    """Whether a config.json is of BLIP for image-text retrieval (BLIP-ITM), whose layers AutoModel does not name so."""
    named = config.get("architectures")
    return isinstance(named, list) and "BlipForImageTextRetrieval" in named


class BlipTowers(torch.nn.Module):
    """The contrastive half of BLIP-ITM, called as the dual encoders of transformers are.

    The other half, which looks at a picture and a caption together, is left aside: it gives no vectors.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network, self.config = network, network.config

    def get_image_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(B, D)"""
        states = self.network.vision_model(pixel_values=pixel_values).last_hidden_state
        return self.network.vision_proj(states[:, 0])  # type: ignore[no-any-return]

    def get_text_features(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **_: Any) -> torch.Tensor:
        """(B, D) of captions (B, L)"""
        states = self.network.text_encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return self.network.text_proj(states[:, 0])  # type: ignore[no-any-return]
