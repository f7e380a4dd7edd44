"""A workspace: where the files of each stage lie, and what each cache there is made from.

dataset.jsonl, dataset.info.json     the data set              (prepare, import-features)
dataset.index.json                   its counts and digests    (the first command that reads it)
workspace.toml                       optional settings, one table a stage
caches/regions/                      region features           (extract-regions, import-features)
caches/text/                         parsed captions           (parse-text)
caches/text-scan/, text-wordpiece/   words of published code   (parse-text)
caches/graphs/images, .../texts      graphs                    (build-graphs)
caches/patches/                      patches of pictures       (extract-patches), also under other names
caches/vectors-<name>/images, ../texts  pooled vectors         (embed)
caches/words-<name>/texts, ../tags   vectors of words          (encode-text)
runs/<name>/                         trained models            (train, evaluate)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from itmkit.cache import Manifest, read_manifest
from itmkit.cache.anew import NEW
from itmkit.cache.begin import begun_manifest
from itmkit.cache.name import CacheName, Kind
from itmkit.dataset import Dataset, read_dataset
from itmkit.dataset_digests import digests_of_beginnings
from itmkit.dataset_index import DatasetFacts, dataset_state, read_index, write_index
from itmkit.dataset_info import info_path
from itmkit.errors import ItmkitError, nearest
from itmkit.machine.lock import lock
from itmkit.typed import read_toml

# What workspace.toml may hold: {stage: {setting: type}}. Which values a setting may have is said by its stage.
SETTINGS: dict[str, dict[str, type]] = {
    "extract-regions": {
        "backend": str,
        "model": str,
        "regions": int,
        "size": int,
        "precision": str,
        "config": str,
        "vocabulary": str,
        "selection": str,
        "min_regions": int,
    },
    "parse-text": {"parser": str, "model": str},
    "build-graphs": {"blocks": int, "keep": int},
}


class Workspace:
    """A folder in which the stages of one data set lie."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self._read: tuple[tuple[int, ...], Dataset] | None = None  # the state of the files, and what they hold

    @property
    def dataset_path(self) -> Path:
        return self.root / "dataset.jsonl"

    @property
    def dataset_info_path(self) -> Path:
        return info_path(self.dataset_path)

    @contextmanager
    def preparing(self) -> Iterator[None]:
        """Held by the one process that writes the data set. Raises ItmkitError naming it if another one does."""
        held, there = self.root / ".lock", self.root.exists()
        try:
            with lock(held, f"{self.dataset_path}: another process is preparing this data set"):
                yield
        except ItmkitError:
            if not there and list(self.root.iterdir()) == [held]:  # a wrong data set leaves no folder behind
                held.unlink()
                self.root.rmdir()
            raise

    def cache(self, name: str) -> Path:
        """Folder of a cache: "regions", "text", "graphs/images", "graphs/texts", "patches", "vectors-clip/images"."""
        return self.root / "caches" / name

    def run(self, name: str) -> Path:
        if not name or "/" in name or name.startswith("."):
            raise ItmkitError(f"run {name!r}: a run's name is one folder name, without / and not beginning with a dot")
        return self.root / "runs" / name

    def comparison(self, prefix: str, split: str) -> Path:
        """The table that `itmkit compare` writes."""
        return self.root / "runs" / f"{prefix}-{split}.json"

    @staticmethod
    def compared_run(prefix: str, label: str, seed: int) -> str:
        """The run that `itmkit compare` trains for a method with settings, "mefn:mfe=false", and a seed."""
        return f"{prefix}-{label.replace(':', '+').replace('/', '_')}-seed{seed}"

    def image_path(self, file: str) -> Path:
        """The place of a picture: `file` of the data set is relative to the workspace, or absolute."""
        return self.root / file

    def dataset(self) -> Dataset:
        """The data set. It is read and checked once, and again only if its files have changed since."""
        path, state = self.dataset_path, dataset_state(self.dataset_path)
        if self._read is None or self._read[0] != state:
            self._read = state, read_dataset(path)
            if read_index(path) != DatasetFacts.of(self._read[1]):
                write_index(path, self._read[1], state)
        return self._read[1]

    def dataset_facts(self) -> DatasetFacts:
        """Counts and digests of the data set, from its index if that is of this very file, else by reading it all."""
        return read_index(self.dataset_path) or DatasetFacts.of(self.dataset())

    @property
    def settings_path(self) -> Path:
        return self.root / "workspace.toml"

    def settings(self, stage: str) -> dict[str, Any]:
        """The table `[stage]` of workspace.toml; empty if there is none.

        Raises:
            ItmkitError: everything in the file that is no setting of any stage, or not of the type of the setting.
        """
        path = self.settings_path
        if not path.exists():
            return {}
        found = read_toml(path)
        if problems := _wrong_settings(found):
            raise ItmkitError([f"{path}: {problem}" for problem in problems])
        table: dict[str, Any] = found.get(stage, {})
        return table

    # What each cache was made from, as it is now. A stage writes the same values into its manifest.

    def inputs(self, cache: str, dataset: Dataset | DatasetFacts) -> dict[str, str]:
        """The current inputs of a cache: digests of the data set, fingerprints of earlier caches."""
        name = CacheName.of(cache)
        if name.base is not None:
            return {name.base: self.fingerprint(name.base)}
        digests = {"images": dataset.images_digest, "captions": dataset.captions_digest}
        return {name.reads: digests[name.reads]}

    def stale_inputs(self, cache: str, manifest: Manifest, dataset: Dataset | DatasetFacts) -> list[str]:
        """Names of the inputs that differ from those the cache was made from."""
        now = self.inputs(cache, dataset)
        return [name for name, value in now.items() if manifest.made_by.inputs.get(name) != value]

    def has_grown(self, cache: str, manifest: Manifest, dataset: Dataset) -> bool:
        """Whether a cache was made from the images that come first in the data set, before others were added."""
        name, before = CacheName.of(cache), manifest.made_by.inputs
        if name.base is not None or before == self.inputs(cache, dataset):
            return False
        beginnings = digests_of_beginnings(dataset.images)
        now = (each.images if name.reads == "images" else each.captions for each in beginnings)
        return any(digest == before.get(name.reads) for digest in now)

    def fingerprint(self, cache: str) -> str:
        manifest = read_manifest(self.cache(cache))
        return manifest.fingerprint if manifest is not None and manifest.complete else "missing"

    def caches_with(self, manifest: str) -> list[Path]:
        """The folders of caches with a manifest of such a name ("manifest*.json"), also where one is made anew.

        The folders may be links, to another disk for instance.
        """
        ways = ("*", "*/*", "*/*/*")  # unlike **, these enter links
        places = {path.parent for way in ways for path in (self.root / "caches").glob(f"{way}/{manifest}")}
        return sorted({place.parent if place.name == NEW else place for place in places})

    def named_caches(self) -> list[CacheName]:
        """The caches of extract-patches, embed and encode-text, which the user names, finished or not."""
        begun = self.caches_with("manifest*.json")
        texts = sorted(folder.relative_to(self.root / "caches").as_posix() for folder in begun)
        names = [name for text in texts if (name := CacheName.known(text)) is not None]
        return [name for name in names if name.is_named and self._made_by_its_stage(name)]

    def names_of(self, kind: Kind) -> list[str]:
        """The names that the caches of one kind carry: "clip" of "vectors-clip/images"."""
        return sorted({name.name for name in self.named_caches() if name.kind == kind})

    def _made_by_its_stage(self, name: CacheName) -> bool:
        try:
            manifest = begun_manifest(self.cache(str(name)))
        except ItmkitError:  # damaged, which status says
            return True
        return manifest is not None and manifest.made_by.stage == name.stage


def result_path(run: Path, split: str, together: Sequence[str] = ()) -> Path:
    """The result file in a run's folder. For several runs together, it lies in the folder of the first."""
    suffix = "".join(f"+{Path(name).name}" for name in together[1:])
    return run / f"eval-{split}{suffix}.json"


def _wrong_settings(found: dict[str, Any]) -> list[str]:
    """What in workspace.toml no stage reads, or not as it is written there."""
    problems = []
    for stage, table in found.items():
        if stage not in SETTINGS:
            what = f"table [{stage}]" if isinstance(table, dict) else f"key {stage!r}"
            problems.append(f"unknown {what}{_nearest(stage, SETTINGS, 'the tables are')}")
        elif not isinstance(table, dict):
            problems.append(f"{stage!r} must be a table, written [{stage}]")
        else:
            known = SETTINGS[stage]
            for key, value in table.items():
                if key not in known:
                    problems.append(f"[{stage}] has no setting {key!r}{_nearest(key, known, 'it has')}")
                elif type(value) is not known[key]:
                    kind = "a text in quotes" if known[key] is str else "a whole number"
                    problems.append(f"[{stage}] {key} is {str(value)[:60]!r}; {kind} is needed")
    return problems


def _nearest(name: str, known: Iterable[str], words: str) -> str:
    return nearest(name, known) or f"; {words} {', '.join(known)}"
