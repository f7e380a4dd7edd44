"""The BERT in a published checkpoint, tensor by tensor: `bert.*` and the linear map after it in the second part."""

from __future__ import annotations

import re
from typing import Any

import torch

from itmkit.import_checkpoint.published import Options, Place, linear
from itmkit.import_checkpoint.read import Checkpoint
from itmkit.matchers.parts.bert import HEAD, MOST_LAYERS

EMBEDDING = "bert.embeddings.word_embeddings.weight"
FIRST = "bert.encoder.layer.0.intermediate.dense.weight"
MATRICES = (EMBEDDING, FIRST, "linear.weight")  # whose shapes say what its sizes are
_LAYER = re.compile(r"bert\.encoder\.layer\.(\d{1,4})\.")
_IN_A_LAYER = (
    *(f"attention.{name}" for name in ("self.query", "self.key", "self.value", "output.dense", "output.LayerNorm")),
    *(f"{name}" for name in ("intermediate.dense", "output.dense", "output.LayerNorm")),
)
# No score reads these. Not every version of transformers saves them.
_UNREAD = ("bert.pooler.dense.weight", "bert.pooler.dense.bias", "bert.embeddings.position_ids")


def has_bert(checkpoint: Checkpoint) -> bool:
    return len(checkpoint.parts) > 1 and any(key.startswith("bert.") for key in checkpoint.parts[1])


def bert_words(checkpoint: Checkpoint, options: Options) -> dict[tuple[int, str], Place | None]:
    """Where its tensors go, and those of the linear map. What cannot be computed here is said to `options`."""
    part, layers = checkpoint.parts[1], bert_sizes(checkpoint)["bert_layers"]
    width = part[EMBEDDING].shape[1]
    if not width or width % HEAD:
        options.say(f"its BERT has {width} numbers a token; a multiple of {HEAD}, the size of a head, is needed")
    if layers > MOST_LAYERS:
        options.say(f"its BERT has {layers:,} layers; at most {MOST_LAYERS} are read")
    ids = part.get("bert.embeddings.position_ids")
    if ids is not None and not torch.equal(ids.flatten(), torch.arange(ids.numel())):
        options.say("bert.embeddings.position_ids of part 1 are not 0, 1, 2, ...; positions are not moved here")
    model = "words.bert.model"
    places: dict[tuple[int, str], Place | None] = {
        (1, f"bert.embeddings.{name}_embeddings.weight"): Place(f"{model}.embeddings.{name}_embeddings.weight")
        for name in ("word", "position", "token_type")
    }
    places |= linear(1, "bert.embeddings.LayerNorm", f"{model}.embeddings.LayerNorm")
    for layer in range(min(layers, MOST_LAYERS)):
        for name in _IN_A_LAYER:
            places |= linear(1, f"bert.encoder.layer.{layer}.{name}", f"{model}.encoder.layer.{layer}.{name}")
    places |= {(1, name): None for name in _UNREAD if name in part}
    return places | linear(1, "linear", "words.reduce")


def bert_sizes(checkpoint: Checkpoint) -> dict[str, int]:
    """As in `itmkit.inputs.Sizes`."""
    part = checkpoint.parts[1]
    layers = {int(found[1]) for key in part if (found := _LAYER.match(key))}
    return {
        "bert_layers": max(layers) + 1,
        "bert_width": part[EMBEDDING].shape[1],
        "bert_hidden": part[FIRST].shape[0],
    }


def bert_settings(checkpoint: Checkpoint) -> dict[str, Any]:
    """The settings of a method whose words are those of this BERT."""
    return {"embed": checkpoint.parts[1]["linear.weight"].shape[0], "words": "own-bert"}
