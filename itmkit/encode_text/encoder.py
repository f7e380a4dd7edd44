"""Encoders of words: BERT, RoBERTa, DistilBERT, MPNet, T5, the text towers of CLIP and SigLIP, ..., frozen.

Shapes: P pieces of some texts, B windows run at once, L tokens of the longest, D width of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from itmkit.encode_text.alignment import Ints, Spans, means
from itmkit.errors import ItmkitError, first_line
from itmkit.machine.device import Precision, half
from itmkit.models.hub import find_model, quiet_transformers, token_limit, wants_lower
from itmkit.models.tokenizer import load_tokenizer
from itmkit.typed import model_json

if TYPE_CHECKING:
    import torch

KINDS = "BERT, RoBERTa, DistilBERT, MPNet, DeBERTa, T5, CLIP, SigLIP and others that AutoModel loads will do"
LONGEST = 512  # tokens of a window, whatever the model could take: attention grows with the square
LAST_FOUR = "last4"
# Each token of these sees only those before it: the first one is the same for every text.
CAUSAL = ("clip", "clip_text_model", "metaclip_2", "metaclip_2_text_model", "groupvit", "aimv2")
ENCODER_DECODERS = ("t5", "mt5", "umt5", "longt5", "switch_transformers")  # their encoders read texts
Whole = Literal["start", "end", "last"]
Layer = int | str  # a number as in a list of the layers' outputs, embeddings first; or LAST_FOUR, their mean


@dataclass
class Padding:
    """Counts tokens that were run: all of them, and those that only fill a window up to the longest of its batch."""

    tokens: int = 0
    padding: int = 0


@dataclass
class LanguageModel:
    """A loaded encoder.

    Attributes:
        dim: D; limit: the most tokens of a window, including the special ones.
        before, after: the special tokens at the ends of a window ([CLS], [SEP]).
        layer: which output is taken.
        whole: the token whose vector is that of a text: the special one at the start of a window, the one at the end of
            its words (CLIP), or the last one of a full window (SigLIP).
        fill: windows are filled to the limit without a mask, as SigLIP was trained.
        lower: texts are put in lower case first (SigLIP 2).
    """

    model_id: str
    dim: int
    limit: int
    before: list[int]
    after: list[int]
    layer: Layer
    model: Any
    tokenizer: Any
    device: torch.device
    precision: Precision = "float32"
    whole: Whole = "start"
    fill: bool = False
    lower: bool = False

    def pieces(self, texts: Sequence[str]) -> tuple[Ints, Spans]:
        """The tokeniser's pieces of texts, special ones left out: their numbers (P,), and their characters."""
        with quiet_transformers():  # it warns of texts beyond the limit, which are cut into windows here
            made = self.tokenizer(
                [self._cased(text) for text in texts],
                add_special_tokens=False,
                return_offsets_mapping=True,
                return_attention_mask=False,
            )
        counts = [len(ids) for ids in made["input_ids"]]
        ids = np.fromiter((i for one in made["input_ids"] for i in one), np.int64, sum(counts))
        spans = np.array([span for one in made["offset_mapping"] for span in one], np.int64).reshape(-1, 2)
        offsets = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        return ids, Spans(offsets.astype(np.int64), spans[:, 0], spans[:, 1])

    @property
    def ways(self) -> dict[str, Any]:
        """What a cache records of how texts are read, where it is not the usual way."""
        ways = {} if self.whole == "start" else {"sentence": self.sentence}
        return {**ways, **({"lower_case": True} if self.lower else {})}

    def _cased(self, text: str) -> str:
        """In lower case where that is wanted and moves no character: pieces are found again by their places."""
        low = text.lower() if self.lower else text
        return low if len(low) == len(text) else text

    @property
    def sentence(self) -> str:
        """What stands for a whole text: a special token of its windows ("[CLS]"), "last token", or "mean"."""
        if self.whole == "end":
            return str(self.tokenizer.convert_ids_to_tokens(self.after[0]))
        if self.whole == "last":
            return "last token"
        return str(self.tokenizer.convert_ids_to_tokens(self.before[0])) if self.before else "mean"

    @property
    def in_context(self) -> bool:
        """Whether a token's vector depends on the others. At layer 0 it does not, and [CLS] is always the same."""
        return self.layer == LAST_FOUR or int(self.layer) not in (0, -1 - self.model.config.num_hidden_layers)

    def vectors(
        self, ids: Ints, pieces: Spans, *, batch_tokens: int, padding: Padding | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The vector of each piece within its text, (P, D) float32, and one of each whole text, (n, D) float32.

        A text longer than the limit is run in consecutive windows, cut at white space if there is some. Windows of
        similar length are run together, about `batch_tokens` tokens at once. This changes nothing beyond rounding. The
        vector of a text is that of the token that `whole` says, or the mean over several windows. If the model has no
        such token, it is the mean of the text's pieces. A text without pieces has a zero vector.
        """
        import torch

        found = np.empty((len(ids), self.dim), np.float32)
        special = len(self.before) + len(self.after)
        cuts = windows(pieces, self.limit - special)
        cuts = cuts[np.argsort(cuts[:, 1] - cuts[:, 0], kind="stable")]
        wholes = [np.empty((0, self.dim), np.float32)]  # the vector of each window, in this order
        filler = self.tokenizer.pad_token_id or 0
        for some in _batches(cuts, special, batch_tokens):
            lengths, rows = some[:, 1] - some[:, 0], np.arange(len(some))
            row = np.repeat(rows, lengths)
            within = np.arange(len(row)) - np.repeat(lengths.cumsum() - lengths, lengths)
            source, column = some[row, 0] + within, len(self.before) + within
            width = self.limit if self.fill else int(lengths.max()) + special
            tokens = np.full((len(some), width), filler)
            tokens[:, : len(self.before)] = self.before
            tokens[row, column] = ids[source]
            for place, number in enumerate(self.after):
                tokens[rows, len(self.before) + lengths + place] = number
            mask = np.arange(width) < (lengths + special)[:, None]
            seen = np.ones_like(mask) if self.fill else mask
            at = {"start": lengths * 0, "end": lengths + len(self.before), "last": lengths * 0 + width - 1}[self.whole]
            arrays = (tokens, seen.astype(np.int64), row, column, rows, at)
            ready = [torch.from_numpy(array).to(self.device) for array in arrays]
            with torch.inference_mode(), half(self.device, self.precision):
                states = self._states(ready[0], ready[1])
                found[source] = states[ready[2], ready[3]].float().cpu().numpy()
                wholes.append(states[ready[4], ready[5]].float().cpu().numpy())
            if padding is not None:
                padding.tokens += mask.size
                padding.padding += int(mask.size - mask.sum())
        texts = len(pieces.offsets) - 1
        if self.whole == "start" and not self.before:
            return found, means(found, pieces.texts, np.arange(len(found)), texts)
        text_of = np.searchsorted(pieces.offsets, cuts[:, 0], side="right") - 1
        members = np.argsort(text_of, kind="stable")
        return found, means(np.concatenate(wholes), text_of[members], members, texts)

    def _states(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(B, L, D) of the layer that is wanted."""
        import torch

        if self.layer == -1:
            return self.model(input_ids=tokens, attention_mask=mask).last_hidden_state  # type: ignore[no-any-return]
        layers = self.model(input_ids=tokens, attention_mask=mask, output_hidden_states=True).hidden_states
        if self.layer == LAST_FOUR:
            return torch.stack([layer.float() for layer in layers[-4:]]).mean(0)
        return layers[int(self.layer)]  # type: ignore[no-any-return]


def windows(pieces: Spans, most: int) -> Ints:
    """(windows, 2) first piece and one past the last, of at most `most` pieces each; texts without pieces have none."""
    begins, ends = pieces.offsets[:-1], pieces.offsets[1:]
    short = (ends > begins) & (ends - begins <= most)
    found = np.stack([begins[short], ends[short]], 1)
    cut: list[tuple[int, int]] = []
    for begin, end in zip(begins[ends - begins > most].tolist(), ends[ends - begins > most].tolist(), strict=True):
        while end - begin > most:
            last = begin + most
            gaps = np.flatnonzero(pieces.starts[begin + 1 : last + 1] > pieces.ends[begin:last])
            stop = begin + 1 + int(gaps[-1]) if len(gaps) else last
            cut.append((begin, stop))
            begin = stop
        cut.append((begin, end))
    return np.concatenate([found, np.array(cut, np.int64).reshape(-1, 2)])


def _batches(cuts: Ints, special: int, batch_tokens: int) -> list[Ints]:
    """Windows, shortest first, in batches of about so many tokens."""
    batches, begin = [], 0
    lengths = (cuts[:, 1] - cuts[:, 0] + special).tolist()
    for end in range(1, len(cuts) + 1):
        if end == len(cuts) or (end + 1 - begin) * lengths[end] > batch_tokens:
            batches.append(cuts[begin:end])
            begin = end
    return batches


def load_language_model(
    model: str | Path,
    *,
    layer: Layer = -1,
    device: str | torch.device = "cpu",
    precision: Precision = "float32",
    allow_download: bool = False,
) -> LanguageModel:
    """Loads an encoder with the tokeniser that lies beside it.

    Args:
        model: a folder with config.json, a tokeniser and model.safetensors, or a hub name.

    Raises:
        ItmkitError: the model cannot be loaded, does not give a vector for each token, has no such layer, or has a
            tokeniser that does not tell where in the text a piece stands.
    """
    import torch

    folder = find_model(str(model), allow_download=allow_download, ways_out=KINDS, tokenizer=True)
    kind = str(model_json(folder / "config.json").get("model_type"))
    network, tokenizer = _loaded(model, folder, kind)
    network.eval().requires_grad_(False).to(device)
    siglip = kind.startswith("siglip")
    whole: Whole = "end" if kind in CAUSAL else "last" if siglip else "start"
    marked = tokenizer("a")["input_ids"]
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    at = next((i for i in range(len(marked)) if marked[i : i + len(plain)] == plain), 0)
    encoder = LanguageModel(
        model_id=str(model),
        dim=0,
        limit=min(token_limit(network, tokenizer), LONGEST),
        before=list(marked[:at]),
        after=list(marked[at + len(plain) :]),
        layer=layer,
        model=network.text_model if _is_dual(network) else network,
        tokenizer=tokenizer,
        device=torch.device(device),
        precision=precision,
        whole=whole,
        fill=siglip,
        lower=wants_lower(kind, folder, tokenizer),
    )
    _measure(encoder, kind)
    return encoder


def _is_dual(network: Any) -> bool:
    """Whether a text tower is a part of it beside one for pictures."""
    return hasattr(network, "text_model") and hasattr(network, "vision_model")


def _loaded(model: str | Path, folder: Path, kind: str) -> tuple[Any, Any]:
    """Network and tokeniser as transformers loads them, with all weights that texts need."""
    import torch
    from transformers import AutoModel, AutoModelForTextEncoding

    loader = AutoModelForTextEncoding if kind in ENCODER_DECODERS else AutoModel
    offline: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    with quiet_transformers():
        try:
            network, report = loader.from_pretrained(
                folder, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **offline
            )
        except Exception as error:  # transformers raises dozens of kinds
            raise ItmkitError(f"{model}: is no model that transformers can load ({first_line(error)})") from error
    tokenizer = load_tokenizer(folder, str(model))
    tower = "text_model." if _is_dual(network) else ""
    needed = [name for name in report["missing_keys"] if name.startswith(tower)]
    lacking = sorted(name for name in needed if "position_ids" not in name and "pooler" not in name)
    if lacking or report.get("mismatched_keys"):
        raise ItmkitError(f"{model}: the weights do not fit the model ({', '.join(lacking[:3]) or 'shapes'} missing)")
    if not tokenizer.is_fast:
        raise ItmkitError(
            f"{model}: its tokeniser does not tell where in a text its pieces stand; a folder with tokenizer.json does"
        )
    return network, tokenizer


def _measure(encoder: LanguageModel, kind: str) -> None:
    """Runs a short text: learns D, and fails now rather than in the middle of a data set."""
    import torch

    tokens = torch.tensor([[*encoder.before, *encoder.tokenizer("a", add_special_tokens=False)["input_ids"]]])
    tokens = torch.cat([tokens, torch.tensor([encoder.after], dtype=torch.int64)], 1).to(encoder.device)
    try:
        with torch.inference_mode(), half(encoder.device, encoder.precision):
            states = encoder._states(tokens, torch.ones_like(tokens))
    except IndexError:
        raise ItmkitError(
            f"{encoder.model_id}: has no layer {encoder.layer}; there are 0 (the embeddings) to"
            f" {encoder.model.config.num_hidden_layers}, -1 is the last"
        ) from None
    except (AttributeError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise ItmkitError(
            f"{encoder.model_id}: gives no vectors of words (model type {kind!r}: {first_line(error)}); {KINDS}"
        ) from error
    if states.ndim != 3 or states.shape[:2] != tokens.shape:
        raise ItmkitError(f"{encoder.model_id}: gives no vector for each token (model type {kind!r}); {KINDS}")
    encoder.dim = states.shape[2]
