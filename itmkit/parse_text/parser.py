"""The English dependency parser that ships with itmkit: `Parser.load()`, then `parse` lists of words.

Weights and vocabularies lie in `weights/parser` (parser.safetensors, parser.json, NOTICE.md);
`examples/train_parser.py` made them from the UD English Web Treebank and the made scenes' own trees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from itmkit.errors import ItmkitError
from itmkit.files import atomic_path, write_json
from itmkit.parse_text import lemmas
from itmkit.parse_text.network import Network, NetworkConfig
from itmkit.parse_text.trees import best_trees
from itmkit.typed import checked, model_json

SHIPPED = Path(__file__).parent / "weights" / "parser"
FORMAT = 1
UNKNOWN = 1  # id of what is not in the vocabulary; 0 is padding
LONGEST_WORD = 14  # characters seen of a word: its first and last seven

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Labels:
    """The vocabularies, in the order of their ids."""

    words: list[str]  # lower-case; the first two stand for padding and unknown, as in `characters`
    characters: list[str]
    pos: list[str]
    lemma_scripts: list[str]
    relations: list[str]

    @cached_property
    def word_ids(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.words)}

    @cached_property
    def character_ids(self) -> dict[str, int]:
        return {character: i for i, character in enumerate(self.characters)}

    def sizes(self) -> dict[str, int]:
        """How many there are of each, as NetworkConfig takes them."""
        return {name: len(values) for name, values in asdict(self).items()}

    def encode_words(self, words: Sequence[str]) -> tuple[Ints, Ints]:
        """Word ids (w,) and character ids (w, c), padded with 0 to the longest word given."""
        word_ids, character_ids = self.word_ids, self.character_ids
        ids = np.array([word_ids.get(word.lower(), UNKNOWN) for word in words], np.int64)
        spelled = [spelling(word) for word in words]
        characters = np.zeros((len(words), max(map(len, spelled), default=1)), np.int64)
        for row, letters in zip(characters, spelled, strict=True):
            row[: len(letters)] = [character_ids.get(letter, UNKNOWN) for letter in letters]
        return ids, characters


_LABELS, _NETWORK = TypeAdapter(Labels), TypeAdapter(NetworkConfig)


def spelling(word: str) -> list[str]:
    """Characters of a word as the network sees them: boundaries added, the middle of a very long word left out."""
    half = LONGEST_WORD // 2
    letters = word if len(word) <= LONGEST_WORD else word[:half] + word[-half:]
    return ["<", *letters, ">"]


@dataclass
class ParsedSentences:
    """What the parser says of n sentences, flat over their words: sentence k is `offsets[k]:offsets[k + 1]`."""

    offsets: Ints  # (n + 1,)
    pos: NDArray[np.int16]  # index into Labels.pos
    scripts: NDArray[np.int16]  # index into Labels.lemma_scripts
    heads: NDArray[np.int32]  # index within the sentence; a root is its own head
    relations: NDArray[np.int16]  # index into Labels.relations


class Parser:
    """A trained network with its vocabularies. Results do not depend on how sentences are batched."""

    def __init__(self, network: Network, labels: Labels, training: dict[str, Any] | None = None) -> None:
        self.network = network.eval()
        self.labels = labels
        self.training = training or {}  # how the weights were made, as saved

    @classmethod
    def load(cls, folder: str | Path | None = None) -> Parser:
        """Reads a saved parser, by default the shipped one. Raises ItmkitError where files are missing or broken."""
        folder = Path(folder) if folder is not None else SHIPPED
        try:
            saved = model_json(folder / "parser.json")
            if saved["format"] != FORMAT:
                raise ItmkitError(f"{folder}: parser format {saved['format']}, this version of itmkit reads {FORMAT}")
            labels = checked(_LABELS, saved["labels"], folder / "parser.json")
            network = Network(checked(_NETWORK, saved["network"], folder / "parser.json"))
            weights = load_file(folder / "parser.safetensors")
            network.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
        except (OSError, KeyError, TypeError, ValueError, RuntimeError, MemoryError, SafetensorError) as error:
            raise ItmkitError(f"{folder}: not a readable itmkit parser ({error}); reinstall or retrain it") from None
        return cls(network, labels, saved.get("training"))

    def save(self, folder: str | Path) -> None:
        """Writes weights (float16) and vocabularies, each file by rename."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder / "parser.safetensors") as path:
            path.write_bytes(save({name: t.half().contiguous() for name, t in self.network.state_dict().items()}))
        saved = {
            "format": FORMAT,
            "network": asdict(self.network.config),
            "labels": asdict(self.labels),
            "training": self.training,
        }
        write_json(folder / "parser.json", saved)

    def parse(self, sentences: Sequence[Sequence[str]], batch_words: int = 2048) -> ParsedSentences:
        """Parses sentences given as words.

        Sentences of equal length are parsed together, about `batch_words` words at a time; a sentence without words
        is fine. Time and memory grow with the square of a sentence's length.
        """
        lengths = np.array([len(sentence) for sentence in sentences], np.int64)
        offsets = np.concatenate((np.zeros(1, np.int64), lengths.cumsum()))
        total = int(offsets[-1])
        result = ParsedSentences(
            offsets,
            np.zeros(total, np.int16),
            np.zeros(total, np.int16),
            np.zeros(total, np.int32),
            np.zeros(total, np.int16),
        )
        distinct: dict[str, int] = {}
        words = np.fromiter(
            (distinct.setdefault(word, len(distinct)) for sentence in sentences for word in sentence), np.int64, total
        )
        with torch.inference_mode():
            ids, characters = self._word_table(list(distinct))
            for length, members in group_by_length(lengths):
                for first in range(0, len(members), max(1, batch_words // length)):
                    batch = members[first : first + max(1, batch_words // length)]
                    places = offsets[batch][:, None] + np.arange(length)  # (b, t)
                    types = torch.from_numpy(words[places])
                    self._parse_batch(ids[types], characters[types], places, result)
        return result

    def lemma(self, word: str, script: int) -> str:
        """The lemma of a word by the number of its edit script."""
        return lemmas.apply(self.labels.lemma_scripts[script], word)

    def _word_table(self, words: list[str]) -> tuple[Tensor, Tensor]:
        """Word ids (w,) and character vectors (w, 2 * filters) of distinct words."""
        ids, vectors = [torch.zeros(0, dtype=torch.int64)], []
        for first in range(0, len(words), 2048):
            batch_ids, characters = self.labels.encode_words(words[first : first + 2048])
            ids.append(torch.from_numpy(batch_ids))
            vectors.append(self.network.character_vectors(torch.from_numpy(characters)))
        return torch.cat(ids), torch.cat(vectors) if vectors else torch.zeros(0, 2 * self.network.config.filters)

    def _parse_batch(self, ids: Tensor, characters: Tensor, places: Ints, result: ParsedSentences) -> None:
        network = self.network
        lower, upper = network(ids, characters)
        heads = best_trees(network.arc_scores(upper).numpy())
        labels = network.label_scores(upper, torch.from_numpy(heads))
        labels[:, :, self._root_relation] = -torch.inf
        relations = labels.argmax(2).numpy()
        relations[heads == np.arange(heads.shape[1])] = self._root_relation
        result.pos[places] = network.pos(lower).argmax(2).numpy()
        result.scripts[places] = network.lemma(lower).argmax(2).numpy()
        result.heads[places] = heads
        result.relations[places] = relations

    @cached_property
    def _root_relation(self) -> int:
        return self.labels.relations.index("root")


def group_by_length(lengths: Ints) -> list[tuple[int, Ints]]:
    """(length, indexes of that length in order) for every length above 0, shortest first."""
    order = np.argsort(lengths, kind="stable")
    values, starts = np.unique(lengths[order], return_index=True)
    groups = zip(values.tolist(), np.split(order, starts[1:]), strict=True) if len(order) else ()
    return [(length, members) for length, members in groups if length > 0]
