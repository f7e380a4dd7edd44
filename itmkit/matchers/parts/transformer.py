"""SCL's encoder of words, patches or regions: sections 3.1 and 3.2 of its paper.

Shape letters: see `itmkit.inputs`. W is the size of a representation, N stands for R or L.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from itmkit.errors import ItmkitError
from itmkit.matchers.parts.encoders import ResidualRegionEncoder
from itmkit.matchers.parts.norms import l2norm


class Transformer(nn.Module):
    """Eqs 1 and 3: a standard transformer over words, patches or regions; the state of its class token is F."""

    def __init__(
        self, enter: nn.Module, places: int, *, width: int, layers: int, heads: int, dropout: float, led: bool
    ) -> None:
        """
        Args:
            enter: tokens into W numbers; `width` is W.
            places: the most tokens there are, each place with a learned one-dimensional position.
            led: the first token is not one of them but the stored [CLS] vector, from which the class token begins.
        """
        super().__init__()
        self.enter, self.led = enter, led
        self.start = nn.Parameter(torch.randn(1, 1, width) * 0.02)  # x_class
        self.positions = nn.Parameter(torch.randn(1 + places, width) * 0.02)
        self.dropout = nn.Dropout(dropout)
        form = {"activation": "gelu", "batch_first": True, "norm_first": True}
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, heads, 4 * width, dropout, **form)  # type: ignore[arg-type]
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """tokens (B, N) numbers of words or (B, N, V) vectors, mask (B, N) -> (B, W), unit length.

        Raises:
            ItmkitError: there are tokens beyond the places: an image of another cache than that of training.
        """
        places = len(self.positions) - 1 + self.led
        if mask[:, places:].any():
            raise ItmkitError(
                f"an image has {int(mask.sum(dim=1).max()) - self.led} regions or patches, and SCL was trained with"
                f" places for {places - self.led}: make a cache of at most so many, or train on this one"
            )
        tokens, mask = tokens[:, :places], mask[:, :places]
        normed = isinstance(self.enter, ResidualRegionEncoder)  # by statistics that leave padding out
        entered = self.enter(tokens, mask) if normed else self.enter(tokens)
        start = self.start.expand(len(tokens), -1, -1)
        if self.led:
            start, entered, mask = start + entered[:, :1], entered[:, 1:], mask[:, 1:]
        x = torch.cat([start, entered], dim=1)  # (B, 1 + N, W)
        x = self.dropout(x + self.positions[: x.shape[1]])
        hidden = functional.pad(~mask, (1, 0), value=False)
        # A resume must repeat gradients bit for bit. The fast kernel that a GPU takes with a mask does not promise to.
        with sdpa_kernel(SDPBackend.MATH):
            for layer in self.layers:
                x = layer(x, src_key_padding_mask=hidden)
        return l2norm(self.norm(x[:, 0]))
