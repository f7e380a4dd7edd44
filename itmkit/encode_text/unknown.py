"""Whether a language model's tokeniser knows the words of the captions at all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from itmkit.encode_text.encoder import LanguageModel
from itmkit.errors import ItmkitError

MANY, NEARLY_ALL = 0.2, 0.9  # shares of the pieces
_LOOKED_AT = 2000  # texts


def check_known(encoder: LanguageModel, texts: Sequence[str]) -> str | None:
    """A note if many pieces of the texts are unknown to the tokeniser, which gives all of them one vector.

    Raises:
        ItmkitError: nearly all are.
    """
    unknown = encoder.tokenizer.unk_token_id
    ids, _ = encoder.pieces(texts[:: max(1, len(texts) // _LOOKED_AT)])
    share = float(np.mean(ids == unknown)) if len(ids) and unknown is not None else 0.0
    told = f"{encoder.model_id}: its tokeniser does not know {share:.0%} of the captions' words"
    if share >= NEARLY_ALL:
        raise ItmkitError(f"{told}; name a model of their language, or one of many languages, with --model")
    return f"{told}, which all get one vector" if share >= MANY else None
