from __future__ import annotations

import pytest

from itmkit.encode_text.encoder import LanguageModel
from itmkit.encode_text.unknown import check_known
from itmkit.errors import ItmkitError
from tests.encode_text.tiny_encoders import tokenizer_of


def test_a_tokeniser_that_knows_few_words_or_none() -> None:
    encoder = LanguageModel("tiny", 0, 512, [], [], -1, None, tokenizer_of("bert"), None)  # type: ignore[arg-type]
    known = "a dog"
    assert check_known(encoder, [known] * 3) is None
    unknown, _ = encoder.pieces(["\u4e00"])
    assert unknown.tolist() == [encoder.tokenizer.unk_token_id]
    told = check_known(encoder, [known, "\u4e00 \u4e01"])
    assert told is not None and "does not know 50% of the captions" in told
    with pytest.raises(ItmkitError, match="does not know 100% .* --model"):
        check_known(encoder, ["\u4e00 \u4e01"])
