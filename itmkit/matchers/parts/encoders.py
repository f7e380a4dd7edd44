"""Region features and words into the common space of D dimensions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from itmkit.matchers.parts.norms import l2norm


class RegionEncoder(nn.Module):
    """Linear(F -> D), L2-normalised (methods: "region encoder")."""

    def __init__(self, feature_size: int, embed: int, *, unit: bool = True) -> None:
        super().__init__()
        self.project = nn.Linear(feature_size, embed)
        self.unit = unit
        nn.init.xavier_uniform_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """features (Bi, R, F), mask (Bi, R) -> (Bi, R, D); rows of missing regions are zero."""
        regions = self.project(features)
        if self.unit:
            regions = l2norm(regions)
        return regions * mask.unsqueeze(-1)


class WordEncoder(nn.Module):
    """Learned embedding -> one-layer bidirectional GRU, mean of the directions, L2-normalised."""

    def __init__(self, vocabulary_size: int, word: int, embed: int, *, dropout: float = 0.0, unit: bool = True) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, word, padding_idx=0)
        self.dropout = nn.Dropout(dropout)
        self.gru = nn.GRU(word, embed, batch_first=True, bidirectional=True)
        self.unit = unit
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        with torch.no_grad():
            self.embedding.weight[0].zero_()

    def forward(self, words: Tensor, mask: Tensor) -> Tensor:
        """words (Bt, L) int64, mask (Bt, L) -> (Bt, L, D); rows of padding are zero."""
        lengths = mask.sum(dim=1).cpu()
        inputs = self.dropout(self.embedding(words))
        packed = nn.utils.rnn.pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
        states, _ = nn.utils.rnn.pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=words.shape[1])
        forward, backward = states.chunk(2, dim=-1)
        vectors = (forward + backward) / 2
        if self.unit:
            vectors = l2norm(vectors)
        return vectors * mask.unsqueeze(-1)
