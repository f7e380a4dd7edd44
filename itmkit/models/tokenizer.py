"""Tokenisers as transformers loads them, also where a folder has them in SentencePiece's form only."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from itmkit.errors import ItmkitError, first_line
from itmkit.models.hub import quiet_transformers

SENTENCEPIECE = ("spm.model", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model")


def load_tokenizer(folder: Path, model: str) -> Any:
    """The tokeniser in a model's folder.

    Raises:
        ItmkitError: transformers cannot load it; the message says what is missing.
    """
    from transformers import AutoTokenizer

    alone = None if (folder / "tokenizer.json").is_file() else _sentencepiece(folder)
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            if type(tokenizer).__name__ == "DebertaV2Tokenizer":
                _give_normaliser(tokenizer, folder, alone)
    except Exception as error:  # transformers and its tokenisers raise dozens of kinds
        if alone and not _can_read():
            raise ItmkitError(
                f"{model}: its tokeniser is only there as {alone.name}, for which packages are not installed. Ways out:"
                " pip install 'itmkit[sentencepiece]' (sentencepiece and protobuf), or a revision with tokenizer.json"
            ) from error
        raise ItmkitError(f"{model}: its tokeniser fails ({first_line(error)})") from error
    return tokenizer


def _sentencepiece(folder: Path) -> Path | None:
    return next((folder / name for name in SENTENCEPIECE if (folder / name).is_file()), None)


def _can_read() -> bool:
    """Whether the packages that read files of SentencePiece are installed."""
    return find_spec("sentencepiece") is not None and find_spec("google") is not None


def _give_normaliser(tokenizer: Any, folder: Path, sentencepiece: Path | None) -> None:
    """Gives DeBERTa's tokeniser the table of characters back that transformers 5 drops when it loads one.

    Without it a ligature or a letter of full width is unknown; DeBERTa was trained with the letters it stands for.
    """
    from tokenizers import Regex, Tokenizer, normalizers

    backend = tokenizer.backend_tokenizer
    if (folder / "tokenizer.json").is_file():
        backend.normalizer = Tokenizer.from_file(str(folder / "tokenizer.json")).normalizer
    elif sentencepiece is not None:
        from sentencepiece import sentencepiece_model_pb2

        proto = sentencepiece_model_pb2.ModelProto.FromString(sentencepiece.read_bytes())
        steps: list[Any] = [normalizers.Lowercase()] if tokenizer.do_lower_case else []
        if table := proto.normalizer_spec.precompiled_charsmap:
            steps.append(normalizers.Precompiled(table))
        steps += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
        backend.normalizer = normalizers.Sequence(steps)
