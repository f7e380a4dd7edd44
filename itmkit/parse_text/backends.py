"""The parsers by their names. Each is imported where it is asked for: spaCy and stanza need packages of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from itmkit.parse_text.parsed import Backend

PARSERS = ("itmkit", "spacy", "stanza", "conllu", "scan", "wordpiece")


def load_backend(parser: str, model: str | None, texts: Sequence[str] = ()) -> Backend:
    """The parser with this name in `PARSERS`. Raises ItmkitError if its model or package is missing.

    model: a path may begin with ~.
    texts: all captions that will be parsed. CoNLL-U files are searched for them.
    """
    if model is not None and model.startswith("~"):
        model = str(Path(model).expanduser())
    if parser == "spacy":
        from itmkit.parse_text.spacy_backend import SpacyBackend

        return SpacyBackend(model or "en_core_web_sm")
    if parser == "stanza":
        from itmkit.parse_text.stanza_backend import StanzaBackend

        return StanzaBackend(model)
    if parser == "conllu":
        from itmkit.parse_text.conllu_backend import ConlluBackend

        return ConlluBackend(model, texts)
    if parser == "scan":
        from itmkit.parse_text.scan_backend import ScanBackend

        return ScanBackend(model)
    if parser == "wordpiece":
        from itmkit.parse_text.wordpiece_backend import WordpieceBackend

        return WordpieceBackend(model)
    from itmkit.parse_text.shipped import ShippedBackend

    return ShippedBackend(model)
