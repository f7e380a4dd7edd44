"""Names that a detector looks for, as the tokens of its text tower."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from itmkit.errors import ItmkitError, first_line
from itmkit.models.hub import quiet_transformers


def tokens_of(model: str, tokenizer: Any, texts: Sequence[str], *, framed: bool) -> list[list[int]]:
    """The tokens of each text. framed: with those that stand at the start and the end of every text.

    Raises:
        ItmkitError: the tokeniser fails.
    """
    try:
        with quiet_transformers():
            return [list(tokenizer(text, add_special_tokens=framed)["input_ids"]) for text in texts]
    except Exception as error:  # tokenisers raise dozens of kinds
        raise ItmkitError(f"{model}: its tokeniser fails ({first_line(error)})") from error


def check_lengths(model: str, limit: int, names: Sequence[str], lengths: Sequence[int]) -> None:
    """Raises ItmkitError where a name has more tokens, with what stands around it, than the model takes."""
    long = [name for name, length in zip(names, lengths, strict=True) if length > limit]
    if long:
        raise ItmkitError(
            f"{model}: takes {limit} tokens, and {len(long)} names of the vocabulary have more: {', '.join(long[:5])}"
        )
