"""A workspace: where the files of each stage lie, and which stages are done, missing or stale.

dataset.jsonl, dataset.info.json     the data set              (prepare, import-features)
workspace.toml                       optional settings, one table a stage
caches/regions/                      region features           (extract-regions, import-features)
caches/text/                         parsed captions           (parse-text)
caches/graphs/images, .../texts      graphs                    (build-graphs)
caches/patches/                      patches of pictures       (extract-patches), also under other names
caches/vectors-<name>/images, ../texts  pooled vectors         (embed)
caches/words-<name>/texts, ../tags   vectors of words          (encode-text)
runs/<name>/                         trained models            (train, evaluate)
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from itmkit.cache import Manifest, read_manifest
from itmkit.cache.begin import begun_manifest
from itmkit.cache.parts import part_manifest, parts_in
from itmkit.dataset import Dataset, info_path, read_dataset
from itmkit.errors import ItmkitError
from itmkit.files import read_json, read_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

State = Literal["done", "partial", "missing", "stale", "damaged"]


@dataclass(frozen=True)
class StageState:
    """One row of `itmkit status`."""

    stage: str
    path: Path
    state: State
    detail: str = ""
    count: int = 0
    skipped: int = 0
    bytes: int = 0
    command: str = ""  # what to run next where the state is not "done"


class Workspace:
    """A folder in which the stages of one data set lie."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    @property
    def dataset_path(self) -> Path:
        return self.root / "dataset.jsonl"

    @property
    def dataset_info_path(self) -> Path:
        return info_path(self.dataset_path)

    def cache(self, name: str) -> Path:
        """Folder of a cache: "regions", "text", "graphs/images", "graphs/texts", "patches", "vectors-clip/images"."""
        return self.root / "caches" / name

    def run(self, name: str) -> Path:
        if not name or "/" in name or name.startswith("."):
            raise ItmkitError(
                f"--run {name!r}: a run's name is one folder name, without / and not beginning with a dot"
            )
        return self.root / "runs" / name

    def runs(self) -> list[str]:
        """The names of all runs, those under way too."""
        return sorted(path.parent.name for path in (self.root / "runs").glob("*/run.json"))

    def comparison(self, prefix: str, split: str) -> Path:
        """The table that `itmkit compare` writes."""
        return self.root / "runs" / f"{prefix}-{split}.json"

    def image_path(self, file: str) -> Path:
        """The place of a picture: `file` of the data set is relative to the workspace, or absolute."""
        return self.root / file

    def dataset(self) -> Dataset:
        return read_dataset(self.dataset_path)

    def settings(self, stage: str) -> dict[str, Any]:
        """The table `[stage]` of workspace.toml; empty where there is none."""
        path = self.root / "workspace.toml"
        if not path.exists():
            return {}
        try:
            table = tomllib.loads(read_text(path)).get(stage, {})
        except tomllib.TOMLDecodeError as error:
            raise ItmkitError(f"{path}: not TOML ({error})") from None
        if not isinstance(table, dict):
            raise ItmkitError(f"{path}: {stage!r} must be a table, written [{stage}]")
        return table

    # What each cache was made from, as it is now. A stage writes the same values into its manifest.

    def inputs(self, cache: str, dataset: Dataset) -> dict[str, str]:
        """The current inputs of a named cache: digests of the data set, fingerprints of earlier caches."""
        if cache == "regions" or (cache.endswith("/images") and cache.startswith(VECTORS)) or named(cache):
            return {"images": dataset.images_digest}
        if cache == "text" or (cache.endswith("/texts") and cache.startswith(VECTORS)):
            return {"captions": dataset.captions_digest}
        if base := made_from(cache):
            return {base: self.fingerprint(base)}
        raise ValueError(f"unknown cache {cache!r}")

    def fingerprint(self, cache: str) -> str:
        manifest = read_manifest(self.cache(cache))
        return manifest.fingerprint if manifest is not None and manifest.complete else "missing"

    def _fingerprint_or_none(self, cache: str) -> str | None:
        try:
            return self.fingerprint(cache)
        except ItmkitError:  # a damaged manifest, reported in the row of that cache
            return None

    def cache_state(self, cache: str, command: str, dataset: Dataset | None) -> StageState:
        """Whether a cache is done, partial, missing, stale (its inputs changed since) or damaged."""
        path = self.cache(cache)
        try:
            manifest = read_manifest(path)
        except ItmkitError as error:
            return StageState(cache, path, "damaged", error.problems[0], command=f"{command} --force")
        if manifest is None:
            return self._state_in_parts(cache, path, command)
        facts: dict[str, Any] = {"count": manifest.count, "skipped": len(manifest.skipped), "bytes": manifest.bytes}
        if manifest.made_by.stage == "import-features":
            command = "itmkit import-features"
        if dataset is not None:
            base = made_from(cache)
            below = self.cache_state(base, "", dataset).state if base else "done"
            changed = self.stale_inputs(cache, manifest, dataset) if below == "done" else []
            detail = f"{' and '.join(changed)} changed since" if changed else f"{base} is {below}"
            if changed or below != "done":
                return StageState(cache, path, "stale", detail, **facts, command=f"{command} --force")
        gone = [s["file"] for s in manifest.shards if not (path / s["file"]).exists()]
        if gone:
            return StageState(cache, path, "damaged", f"missing {gone[0]}", **facts, command=f"{command} --force")
        cut = [s["file"] for s in manifest.shards if (path / s["file"]).stat().st_size != s["bytes"]]
        if cut:
            detail = f"{cut[0]} has not the size it was written with"
            return StageState(cache, path, "damaged", detail, **facts, command=f"{command} --force")
        if not manifest.complete:
            done = manifest.count + len(manifest.skipped)
            return StageState(cache, path, "partial", f"{done} of {manifest.planned}", **facts, command=command)
        return StageState(cache, path, "done", **facts)

    @staticmethod
    def _state_in_parts(cache: str, path: Path, command: str) -> StageState:
        """The state of a cache that several jobs write and nobody has merged yet, or that nobody has begun."""
        parts = parts_in(path)
        if not parts:
            return StageState(cache, path, "missing", command=command)
        of = parts[0].of
        found = {part.index: read_manifest(path, part_manifest(part)) for part in parts}
        finished = sorted(index for index, manifest in found.items() if manifest is not None and manifest.complete)
        count = sum(manifest.count for manifest in found.values() if manifest is not None)
        detail = f"{len(finished)} of {of} parts are finished"
        left = next((index for index in range(of) if index not in finished), None)
        command = "itmkit merge" if left is None else f"{command} --shard {left}/{of}"
        return StageState(cache, path, "partial", detail, count=count, command=command)

    def stale_inputs(self, cache: str, manifest: Manifest, dataset: Dataset) -> list[str]:
        """Names of the inputs that differ from those the cache was made from."""
        now = self.inputs(cache, dataset)
        return [name for name, value in now.items() if manifest.made_by.inputs.get(name) != value]

    def named_caches(self) -> list[str]:
        """The caches that carry a name of the user's, of extract-patches, embed, encode-text, finished or not."""
        folders = self.root / "caches"
        found = [
            path for way in ("*", f"{VECTORS}*/*", f"{WORDS}*/*") for path in folders.glob(f"{way}/manifest*.json")
        ]
        names = sorted({manifest.parent.relative_to(folders).as_posix() for manifest in found})
        return [name for name in names if self._is_named(name)]

    def _is_named(self, name: str) -> bool:
        of_embed = name.startswith(VECTORS) and name.endswith(("/images", "/texts"))
        of_encode = name.startswith(WORDS) and name.endswith(("/texts", "/tags"))
        if not (named(name) or of_embed or of_encode):
            return False
        try:
            manifest = begun_manifest(self.cache(name))
        except ItmkitError:  # damaged, which status says
            return True
        return manifest is not None and manifest.made_by.stage == command_for(name).split()[0]

    def require(self, *caches: str) -> None:
        """Raises ItmkitError naming every cache that is not done, each with the command to run."""
        dataset = self.dataset()
        states = [self.cache_state(name, f"itmkit {command_for(name)}", dataset) for name in caches]
        problems = [
            f"{state.path} is {state.state}{f' ({state.detail})' if state.detail else ''}: run `{state.command}`"
            for state in states
            if state.state != "done"
        ]
        if problems:
            raise ItmkitError(problems)

    def status(self) -> list[StageState]:
        """The state of every stage, in the order of the pipeline, runs last."""
        dataset: Dataset | None = None
        try:
            dataset = self.dataset()
        except ItmkitError as error:
            state: State = "damaged" if self.dataset_path.exists() else "missing"
            detail = error.problems[0] if state == "damaged" else ""
            if not self.root.is_dir():
                detail = f"there is no folder {self.root}"
            command = "itmkit prepare --force" if state == "damaged" else "itmkit prepare"
            rows = [StageState("dataset", self.dataset_path, state, detail, command=command)]
        else:
            counts = dataset.info["counts"].items()
            detail = ", ".join(f"{split} {c['images']} images {c['captions']} captions" for split, c in counts)
            size = self.dataset_path.stat().st_size
            rows = [StageState("dataset", self.dataset_path, "done", detail, len(dataset.images), bytes=size)]
        rows += [self.cache_state(name, f"itmkit {command}", dataset) for name, command in COMMANDS.items()]
        rows += [self.cache_state(name, f"itmkit {command_for(name)}", dataset) for name in self.named_caches()]
        return rows + [self._run_state(self.root / "runs" / name / "run.json", dataset) for name in self.runs()]

    def _run_state(self, path: Path, dataset: Dataset | None) -> StageState:
        name = f"run {path.parent.name}"
        try:
            facts = read_json(path)
            again = f"itmkit train --method {facts['method']} --run {path.parent.name}"
            detail = f"{facts['method']}, {facts['epochs_done']} of {facts['epochs']} epochs"
            changed = [cache for cache, value in facts["caches"].items() if self._fingerprint_or_none(cache) != value]
            changed += ["captions"] if dataset and facts["captions"] != dataset.captions_digest else []
            done = bool(facts["finished"])
        except ItmkitError as error:
            return StageState(name, path.parent, "damaged", error.problems[0], command="itmkit train --force")
        except (KeyError, TypeError, AttributeError) as error:
            detail = f"run.json is not what training writes ({type(error).__name__}: {error})"
            return StageState(name, path.parent, "damaged", detail, command="itmkit train --force")
        size = sum(file.stat().st_size for file in path.parent.rglob("*") if file.is_file())
        if changed:
            why = f"{detail}; {' and '.join(changed)} changed since"
            return StageState(name, path.parent, "stale", why, bytes=size, command=f"{again} --force")
        command = "" if done else again
        return StageState(name, path.parent, "done" if done else "partial", detail, bytes=size, command=command)


# The caches of the pipeline and the command that makes each.
COMMANDS = {
    "regions": "extract-regions",
    "text": "parse-text",
    "graphs/images": "build-graphs",
    "graphs/texts": "build-graphs",
}
# Caches of embed, vectors-<name>/images and vectors-<name>/texts.
VECTORS = "vectors-"
# Caches of encode-text, words-<name>/texts and words-<name>/tags.
WORDS = "words-"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


def result_path(run: Path, split: str, together: Sequence[str] = ()) -> Path:
    """The file of the results of a run's folder, or of several runs together, in the folder of the first."""
    suffix = "".join(f"+{Path(name).name}" for name in together[1:])
    return run / f"eval-{split}{suffix}.json"


def named(cache: str) -> bool:
    """Whether a cache may be one of extract-patches: any plain folder name that no other stage uses."""
    taken = cache in ("regions", "text", "graphs") or cache.startswith((VECTORS, WORDS))
    return bool(_NAME.fullmatch(cache)) and not taken


def made_from(cache: str) -> str | None:
    """The cache from which another is computed; it is no use where the former is not done."""
    if cache == "graphs/images" or (cache.startswith(WORDS) and cache.endswith("/tags")):
        return "regions"
    if cache == "graphs/texts" or (cache.startswith(WORDS) and cache.endswith("/texts")):
        return "text"
    return None


def command_for(cache: str) -> str:
    """The command that makes or continues a cache, without "itmkit"."""
    if cache in COMMANDS:
        return COMMANDS[cache]
    folder = cache.partition("/")[0]
    if folder.startswith(VECTORS):
        return f"embed --cache {folder.removeprefix(VECTORS)}"
    if folder.startswith(WORDS):
        return f"encode-text --cache {folder.removeprefix(WORDS)}"
    return "extract-patches" if folder == "patches" else f"extract-patches --cache {folder}"
