"""The parser's network: words and their characters -> bidirectional LSTM -> parts of speech, lemmas, heads, labels.

Biaffine heads and labels after Dozat and Manning (2017, https://arxiv.org/abs/1611.01734), with part of speech and
lemma read off the first layer. Sentences of a batch all have the same length, so there is no padding and no mask, and
a sentence's scores do not depend on its company.

Shapes: b sentences, t words each, w distinct words, c characters of a word (padded with 0).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes. The first five are counts of the vocabularies; words and characters include padding and unknown."""

    words: int
    characters: int
    pos: int
    lemma_scripts: int
    relations: int
    word_size: int = 104
    character_size: int = 32
    filters: int = 52  # for each of the two widths 3 and 5
    pos_size: int = 32
    hidden: int = 144  # each direction
    arc_size: int = 160
    label_size: int = 40
    dropout: float = 0.33


class SharedDropout(nn.Module):
    """Dropout with one mask for all words of a sentence: (b, t, d) -> (b, t, d)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        keep = torch.rand(x.shape[0], 1, x.shape[2]) >= self.rate
        return x * keep.to(x.dtype) / (1 - self.rate)


class Network(nn.Module):
    """See the module docstring. Call `character_vectors` once per distinct word, then `forward` once per batch."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        c = config
        self.config = c
        self.word_embedding = nn.Embedding(c.words, c.word_size)
        self.character_embedding = nn.Embedding(c.characters, c.character_size, padding_idx=0)
        self.narrow = nn.Conv1d(c.character_size, c.filters, 3, padding=1)
        self.wide = nn.Conv1d(c.character_size, c.filters, 5, padding=2)
        self.lower = nn.LSTM(c.word_size + 2 * c.filters, c.hidden, bidirectional=True, batch_first=True)
        self.pos = nn.Linear(2 * c.hidden, c.pos)
        self.lemma = nn.Linear(2 * c.hidden, c.lemma_scripts)
        self.pos_embedding = nn.Linear(c.pos, c.pos_size, bias=False)
        self.upper = nn.LSTM(2 * c.hidden + c.pos_size, c.hidden, bidirectional=True, batch_first=True)
        self.arc_dependent = nn.Linear(2 * c.hidden, c.arc_size)
        self.arc_head = nn.Linear(2 * c.hidden, c.arc_size)
        self.arc = nn.Linear(c.arc_size, c.arc_size, bias=False)
        self.arc_bias = nn.Linear(c.arc_size, 1, bias=False)
        self.root = nn.Linear(c.arc_size, 1)
        self.label_dependent = nn.Linear(2 * c.hidden, c.label_size)
        self.label_head = nn.Linear(2 * c.hidden, c.label_size)
        self.label = nn.Parameter(torch.zeros(c.relations, c.label_size + 1, c.label_size + 1))
        self.drop = SharedDropout(c.dropout)
        nn.init.normal_(self.word_embedding.weight, std=c.word_size**-0.5)
        nn.init.orthogonal_(self.arc.weight)

    def character_vectors(self, characters: Tensor) -> Tensor:
        """Characters (w, c) int64 -> (w, 2 * filters): the strongest response of each filter in the word."""
        x = self.character_embedding(characters).transpose(1, 2)  # (w, e, c)
        outside = (characters == 0)[:, None]  # (w, 1, c)
        pooled = [conv(x).masked_fill(outside, -torch.inf).amax(2) for conv in (self.narrow, self.wide)]
        return torch.cat(pooled, 1).relu()

    def forward(self, words: Tensor, characters: Tensor) -> tuple[Tensor, Tensor]:
        """Word ids (b, t) and character vectors (b, t, 2 * filters) -> states of both layers, (b, t, 2 * hidden)."""
        x = torch.cat((self._drop_words(self.word_embedding(words)), self._drop_words(characters)), 2)
        lower, _ = self.lower(self.drop(x))
        lower = self.drop(lower)
        expected = self.pos_embedding(self.pos(lower).softmax(2))
        upper, _ = self.upper(torch.cat((lower, expected), 2))
        return lower, self.drop(upper)

    def _drop_words(self, x: Tensor) -> Tensor:
        """In training, drops whole vectors of single words: (b, t, d) -> (b, t, d)."""
        if not self.training:
            return x
        return x * (torch.rand(x.shape[0], x.shape[1], 1) >= self.config.dropout / 2).to(x.dtype)

    def arc_scores(self, upper: Tensor) -> Tensor:
        """(b, t, 2 * hidden) -> (b, t, t): [d, h] scores h as head of d, the diagonal scores d as root."""
        dependent = self.drop(nn.functional.leaky_relu(self.arc_dependent(upper), 0.1))
        head = self.drop(nn.functional.leaky_relu(self.arc_head(upper), 0.1))
        scores = self.arc(dependent) @ head.transpose(1, 2) + self.arc_bias(head).transpose(1, 2)
        diagonal = torch.eye(scores.shape[1], dtype=torch.bool)
        return torch.where(diagonal, self.root(dependent), scores)

    def label_scores(self, upper: Tensor, heads: Tensor) -> Tensor:
        """(b, t, 2 * hidden), heads (b, t) int64 -> (b, t, relations) for the arc from each word to its head."""
        dependent = self.drop(nn.functional.leaky_relu(self.label_dependent(upper), 0.1))
        head = self.drop(nn.functional.leaky_relu(self.label_head(upper), 0.1))
        head = head.gather(1, heads[:, :, None].expand(-1, -1, head.shape[2]))
        one = dependent.new_ones((*dependent.shape[:2], 1))
        dependent = torch.cat((dependent, one), 2).flatten(0, 1)  # (b * t, l + 1)
        head = torch.cat((head, one), 2).flatten(0, 1)
        relations, size, _ = self.label.shape
        mixed = (dependent @ self.label.permute(1, 0, 2).reshape(size, -1)).view(-1, relations, size)
        return (mixed @ head[:, :, None]).squeeze(2).view(*heads.shape, relations)
