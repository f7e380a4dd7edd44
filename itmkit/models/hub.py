"""Finds a transformers model on this machine, or fetches it from the Hugging Face hub when the user asked for that.

Only configuration and safetensors files are ever looked at: pickled weights are refused, and code that comes with a
model is not run.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from itmkit.errors import ItmkitError
from itmkit.files import digest, sha256_file
from itmkit.typed import model_json

WANTED = (
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*.safetensors",
)
# A tokeniser: its vocabulary in one of these forms, none of them a pickle, and what goes with it.
VOCABULARIES = (
    "tokenizer.json", "vocab.json", "vocab.txt", "spiece.model", "tokenizer.model", "sentencepiece.bpe.model",
    "spm.model",
)  # fmt: skip
TOKENIZER = (*VOCABULARIES, "merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_NO_LIMIT = 100_000  # tokenisers that know no limit say 1e30
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(@[\w./-]+)?")


def find_model(model: str, *, allow_download: bool, ways_out: str = "", tokenizer: bool = False) -> Path:
    """The folder with a model's files.

    Args:
        model: a folder, or a name on the hub (`owner/name`, with `@revision` for a branch, tag or commit).
        allow_download: look on the hub when the model is not in the local hub cache.
        ways_out: what else the user can do, added to the error when the model cannot be had.
        tokenizer: the files of a tokeniser are wanted too.

    Raises:
        ItmkitError: the folder does not exist or lacks files, the weights are not safetensors, or the model is not in
            the local hub cache and may not or cannot be fetched.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        _check_files(path, model, tokenizer)
        return path
    if path.exists():
        raise ItmkitError(f"{model}: is a file; name the folder that holds config.json and model.safetensors")
    if not _HUB_NAME.fullmatch(model) or model.startswith((".", "~", os.sep)):
        raise ItmkitError(f"{model}: no such folder, and not a name on the Hugging Face hub (owner/name)")

    from huggingface_hub import snapshot_download

    name, _, revision = model.partition("@")
    failure = ""
    wanted = [*WANTED, *(TOKENIZER if tokenizer else ())]
    for offline in (True, False) if allow_download else (True,):
        try:
            folder = Path(
                snapshot_download(
                    name, revision=revision or None, allow_patterns=wanted, local_files_only=offline,
                )
            )  # fmt: skip
        except Exception as error:  # the hub client raises its own, OSError, ValueError and httpx errors
            failure = str(error).strip().split("\n")[0]
            continue
        # a snapshot in the cache may be partial (only its config was fetched); the hub can complete it
        if offline and allow_download and _problem(folder, tokenizer):
            continue
        _check_files(folder, model, tokenizer)
        return folder
    if allow_download:
        raise ItmkitError(
            f"{model}: not in the local hub cache, and fetching it failed ({failure}). {ways_out}".rstrip()
        )
    message = (
        f"{model}: no such folder, and not in the local hub cache. Ways out: give the path of a folder with"
        f" config.json, preprocessor_config.json and model.safetensors; or where there is internet, run the stage"
        f" that reads it with --model {model}, which fetches it. {ways_out}"
    )
    raise ItmkitError(message.rstrip())


def _problem(folder: Path, tokenizer: bool) -> str:
    if not (folder / "config.json").is_file():
        return "has no config.json, so it is no transformers model"
    if weight_files(folder):
        if tokenizer and not any((folder / name).is_file() for name in VOCABULARIES):
            return f"has no tokeniser ({', '.join(VOCABULARIES)})"
        return ""
    if any(folder.glob("pytorch_model*.bin")) or any(folder.glob("*.pth")) or any(folder.glob("*.pt")):
        return (
            "has its weights only as a pickle, which can run code when loaded and is refused; convert them once to"
            " model.safetensors with the tool of whoever made them, or name another revision (owner/name@revision)"
        )
    return "has no model.safetensors"


def _check_files(folder: Path, model: str, tokenizer: bool) -> None:
    if problem := _problem(folder, tokenizer):
        raise ItmkitError(f"{model}: the folder {folder} {problem}")


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files transformers would load from a folder, in order; empty where there are none."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if not index.is_file():
        return []
    weight_map = model_json(index).get("weight_map")
    parts = sorted(set(map(str, weight_map.values()))) if isinstance(weight_map, dict) else []
    outside = [part for part in parts if Path(part).name != part or not part.endswith(".safetensors")]
    if outside or not parts:
        found = f"names {outside[0][:80]!r}" if outside else "has no weight_map that names files"
        raise ItmkitError(f"{index}: {found}; safetensors files of this folder are needed")
    files = [folder / part for part in parts]
    return files if all(file.is_file() for file in files) else []


def weights_sha256(folder: Path) -> str:
    """Hex sha256 of a model's weight file; for weights in several files, of their digests in order."""
    digests = [sha256_file(file) for file in weight_files(folder)]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def settings_sha256(folder: Path, *, tokenizer: bool = False) -> str:
    """Digest of the files that say what the layers are, how pictures are scaled and, if asked, how words are cut.

    Only files that the stage uses count: more may come into a folder of the hub cache later.
    """
    names = ["config.json", "preprocessor_config.json", *(TOKENIZER if tokenizer else ())]
    if tokenizer or not (folder / "preprocessor_config.json").is_file():
        names.append("processor_config.json")
    if (folder / "tokenizer.json").is_file():  # then it is not read
        names = [name for name in names if name != "spm.model"]
    return digest({name: sha256_file(folder / name) for name in names if (folder / name).is_file()})


def model_place(model: str, folder: Path) -> str:
    """Where a run without options finds a model again: its absolute folder, or its name on the hub."""
    return str(folder.resolve()) if Path(model).expanduser().is_dir() else model


def short_name(model: str) -> str:
    """The last part of a model's name, as the name of a cache."""
    path = Path(model).expanduser()
    last = path.resolve().name if path.is_dir() else model.partition("@")[0].rstrip("/").rpartition("/")[2]
    return re.sub(r"[^\w.-]+", "-", last)


def model_record(model: str, folder: Path, *, tokenizer: bool = False) -> dict[str, str]:
    """What a cache records of a model: the place of a local one is no part of it, its name and contents are."""
    return {
        "id": folder.resolve().name if Path(model).expanduser().is_dir() else model,
        "sha256": weights_sha256(folder),
        "settings_sha256": settings_sha256(folder, tokenizer=tokenizer),
    }


def token_limit(network: Any, tokenizer: Any) -> int:
    """The most tokens of a text: what the tokeniser says, and no more than the model has positions for."""
    text = getattr(network.config, "text_config", network.config)
    positions = getattr(text, "max_position_embeddings", None) or _NO_LIMIT
    for name, module in network.named_modules():
        # RoBERTa's way: positions up to that of the padding are not for tokens.
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            positions = min(positions, module.num_embeddings - module.padding_idx - 1)
    return int(min(positions, tokenizer.model_max_length, _NO_LIMIT))


def wants_lower(kind: str, folder: Path, tokenizer: Any) -> bool:
    """Whether a model was trained on captions in lower case, and its tokeniser, Gemma's, does not see to that."""
    settings = folder / "tokenizer_config.json"
    named = model_json(settings).get("tokenizer_class") if settings.is_file() else None
    gemma = any("Gemma" in str(name) for name in (named, type(tokenizer).__name__))
    return kind == "siglip2" or (kind == "siglip" and gemma)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keeps transformers from writing bars and notes to the terminal while a model loads."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
