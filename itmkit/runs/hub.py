"""Exported runs on the Hugging Face hub: uploaded and fetched only when asked for."""

from __future__ import annotations

import re
from pathlib import Path

from itmkit.errors import ItmkitError, first_line

PREFIX = "hf:"
# What an export holds. Nothing else is uploaded or fetched; none of it is a pickle or code.
FILES = (
    "README.md",
    "config.toml",
    "run.json",
    "imported.json",
    "vocabulary.json",
    "metrics.jsonl",
    "best-*.safetensors",
    "eval-*.json",
    "made/*manifest.json",  # in folders below it, too
)
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_REVISION = re.compile(r"[\w./-]+")


def upload(folder: Path, repository: str, *, private: bool) -> str:
    """Uploads an export as one commit. The repository is made if there is none. Returns its address.

    The token is that of the environment or of `hf auth login`, as huggingface_hub finds it.

    Raises:
        ItmkitError: the name is no owner/name, the hub refuses the upload, or it cannot be reached.
    """
    if not _NAME.fullmatch(repository):
        raise ItmkitError(f"--push {repository!r}: a repository on the hub is written owner/name")

    from huggingface_hub import HfApi

    api = HfApi()
    try:
        address = api.create_repo(repository, private=private or None, exist_ok=True)
        api.upload_folder(
            repo_id=repository, folder_path=folder, allow_patterns=list(FILES), commit_message="itmkit export"
        )
    except Exception as error:  # the hub client raises its own, OSError, ValueError and httpx errors
        raise ItmkitError(
            f"--push {repository}: was not uploaded ({first_line(error)}). A token that may write is taken from"
            f" HF_TOKEN or `hf auth login`; the export itself is whole, and the same command uploads it again"
        ) from None
    return str(address)


def fetch(name: str) -> Path:
    """The folder of an exported run on the hub: "hf:owner/name", or "hf:owner/name@revision". Fetched once.

    Raises:
        ItmkitError: the name is wrong, there is no such repository, or it cannot be reached and was not fetched before.
    """
    repository, at, revision = name.removeprefix(PREFIX).partition("@")
    if not _NAME.fullmatch(repository) or (at and not _REVISION.fullmatch(revision)):
        raise ItmkitError(f"{name}: a matcher on the hub is written hf:owner/name, or hf:owner/name@revision")

    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(repository, revision=revision or None, allow_patterns=list(FILES))
    except Exception as error:  # as above
        raise ItmkitError(f"{name}: cannot be fetched ({first_line(error)})") from None
    return Path(folder)
