"""Which caches a method reads with the settings it has, and which of them a workspace lacks."""

from __future__ import annotations

from dataclasses import dataclass

from itmkit.cache import read_manifest
from itmkit.errors import ItmkitError
from itmkit.workspace import VECTORS, WORDS, Workspace, command_for, named


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a method reads. Names are those of `Workspace.cache`."""

    images: str = "regions"  # vectors of regions; of patches ("patches"); of whole pictures ("vectors-clip/images")
    words: bool = True  # vocabulary numbers of the words
    vectors: str | None = None  # frozen vectors of words ("words-bert/texts") or of captions ("vectors-clip/texts")
    edges: bool = False  # dependency graphs
    polar: bool = False  # where regions lie, seen from each other
    blocks: bool = False  # where regions lie in the picture
    tags: str | None = None  # frozen vectors of tag phrases ("words-bert/tags")
    attention: bool = False  # of [CLS] to each patch
    whole: bool = False  # the [CLS] vector of each picture
    sentence: str | None = None  # where the [CLS] vectors of captions are ("words-bert/texts")
    labels: bool = False  # labels of the data set, else tags

    @property
    def pooled(self) -> bool:
        """Whether a caption is one vector, without words."""
        return self.vectors is not None and self.vectors.startswith(VECTORS)

    @property
    def caches(self) -> tuple[str, ...]:
        """All caches to be read, in the order of the pipeline."""
        names = [self.images]
        names += ["text"] if not self.pooled or self.words or self.edges else []
        names += [name for name in (self.vectors, self.sentence) if name]
        names += ["regions", self.tags] if self.tags else []
        names += ["graphs/images"] if self.polar or self.blocks else []
        names += ["graphs/texts"] if self.edges else []
        return tuple(dict.fromkeys(names))


def missing(workspace: Workspace, needs: Needs, method: str) -> list[str]:
    """What is missing, each with the command to run. Names that are still open ("words-/texts") are passed over."""
    untagged = bool(needs.tags) and _untagged(workspace)
    problems = []
    passed = [name for name in needs.caches if is_open(name) or (untagged and name == needs.tags)]
    if untagged:
        problems.append(
            f"{workspace.cache('regions')}: its regions have no tags, which {method} reads: extract regions with a"
            " detector that names them, import features with tags, or train with --tags false"
        )
    try:
        workspace.require(*(name for name in needs.caches if name not in passed))
    except ItmkitError as error:
        told = list(error.problems)
        if named(needs.images) and _done(workspace, "regions"):
            wanted = f"{workspace.cache(needs.images)} is missing"
            told = [f"{each}, or train with --images regions" if each.startswith(wanted) else each for each in told]
        problems += told
    return problems


def is_open(cache: str) -> bool:
    """Whether the name lacks the part that the user chooses: "words-/texts"."""
    return cache.startswith((f"{WORDS}/", f"{VECTORS}/"))


def the_one(workspace: Workspace, prefix: str, setting: str) -> str:
    """The name after `prefix` (of `WORDS` or `VECTORS`) of the only such cache that there is.

    Raises:
        ItmkitError: there is none, or several, so that `setting` must say which.
    """
    found = sorted({name.partition("/")[0] for name in workspace.named_caches() if name.startswith(prefix)})
    names = [name.removeprefix(prefix) for name in found]
    if len(names) == 1:
        return names[0]
    option = f"--{setting.replace('_', '-')}"
    if names:
        raise ItmkitError(f"{option}: there are several, {', '.join(names)}; say which one")
    command = command_for(f"{prefix}NAME/texts").split()[0]
    kinds = {WORDS: "a BERT-like language model", VECTORS: "a model such as CLIP"}[prefix]
    raise ItmkitError(
        f"{workspace.cache(f'{prefix}NAME')} is missing: run `itmkit {command} --model MODEL` (the folder or the hub"
        f" name of {kinds})"
    )


def _untagged(workspace: Workspace) -> bool:
    manifest = read_manifest(workspace.cache("regions"))
    return manifest is not None and manifest.complete and not any(manifest.tables.get("tags", ()))


def _done(workspace: Workspace, cache: str) -> bool:
    manifest = read_manifest(workspace.cache(cache))
    return manifest is not None and manifest.complete
