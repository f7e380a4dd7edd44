"""Which caches a method reads with the settings it has, and which of them a workspace lacks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from itmkit.cache import read_manifest
from itmkit.cache.name import PUBLISHED_TEXTS, CacheName, is_patches
from itmkit.dataset import Dataset
from itmkit.errors import ItmkitError
from itmkit.stages import require
from itmkit.workspace import Workspace

# Of the setting `images`, of methods that read parts of a picture, and of those that read one vector.
IMAGES = "vectors of an image: regions, or a cache of patches"
WHOLE_IMAGES = "vectors of pictures: vectors-NAME, a cache of embed; vectors = that of --vectors-cache"


def image_problems(images: str) -> list[str]:
    """What is wrong with the setting `images` of a method."""
    if images == "regions" or is_patches(images):
        return []
    return [f"--images {images!r}: regions, patches or another cache of `itmkit extract-patches`"]


def vector_problems(images: str) -> list[str]:
    """What is wrong with the setting `images` of a method that reads one vector a picture."""
    found = CacheName.known(f"{images}/images")
    if images == "vectors" or (found is not None and found.kind == "vectors" and not found.is_open):
        return []
    return [
        f"--images {images!r}: pictures and captions are compared as one model of `itmkit embed` sees them:"
        " vectors-NAME, or vectors, those of --vectors-cache"
    ]


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a method reads. Names are those of `Workspace.cache`."""

    images: str = "regions"  # vectors of regions; of patches ("patches"); of whole pictures ("vectors-clip/images")
    words: bool = True  # vocabulary numbers of the words
    text: str = "text"  # the cache whose words these are: of a parser, or as published code cuts them ("text-scan")
    vectors: str | None = None  # frozen vectors of words ("words-bert/texts") or of captions ("vectors-clip/texts")
    one_space: bool = (
        False  # vectors of pictures and captions are compared as they are, so one model must have made both
    )
    edges: bool = False  # dependency graphs
    polar: bool = False  # where regions, or patches, lie relative to each other
    blocks: bool = False  # where they lie in the picture
    tags: str | None = None  # frozen vectors of tag phrases ("words-bert/tags")
    attention: bool = False  # of [CLS] to each patch
    whole: bool = False  # the [CLS] vector of each picture
    sentence: str | None = None  # where the [CLS] vectors of captions are ("words-bert/texts")
    labels: bool = False  # labels of the data set, else tags
    labels_from: str | None = None  # the cache of regions whose tags are these labels in any case

    @property
    def pooled(self) -> bool:
        """Whether a caption is one vector, without words."""
        return self.vectors is not None and CacheName.of(self.vectors).kind == "vectors"

    @property
    def caches(self) -> tuple[str, ...]:
        """All caches to be read, in the order of the pipeline."""
        names = [self.images]
        names += [self.text] if not self.pooled or self.words or self.edges else []
        names += [name for name in (self.vectors, self.sentence) if name]
        names += ["regions", self.tags] if self.tags else []
        names += ["graphs/images"] if (self.polar or self.blocks) and not is_patches(self.images) else []
        names += ["graphs/texts"] if self.edges else []
        names += [self.labels_from] if self.labels_from else []
        return tuple(dict.fromkeys(names))

    @property
    def of_scores(self) -> Needs:
        """Without labels, which training alone reads."""
        return replace(self, labels=False, labels_from=None)

    @property
    def image_caches(self) -> tuple[str, ...]:
        """Those of them that hold what is read of images."""
        texts = {self.text, "graphs/texts", self.sentence, self.vectors}
        return tuple(cache for cache in self.caches if cache not in texts)


def missing(workspace: Workspace, needs: Needs, method: str, dataset: Dataset | None = None) -> list[str]:
    """What is missing, each with the command to run. Names that are still open ("words-/texts") are skipped.

    Args:
        dataset: the workspace's data set, if it has been read already.
    """
    untagged = bool(needs.tags) and _untagged(workspace)
    problems = []
    if needs.labels_from and _untagged(workspace):
        problems.append(
            f"{workspace.cache(needs.labels_from)}: its regions have no tags, which --alike-by tags reads: extract"
            " regions with a detector that names them, import features with tags, or train with --alike-by labels"
        )
    passed = [name for name in needs.caches if CacheName.of(name).is_open or (untagged and name == needs.tags)]
    if untagged:
        problems.append(
            f"{workspace.cache('regions')}: its regions have no tags, which {method} reads: extract regions with a"
            " detector that names them, import features with tags, or train with --tags false"
        )
    try:
        dataset = dataset or workspace.dataset()
        dataset.check_captions("`itmkit train`")
        require(workspace, *(name for name in needs.caches if name not in passed), dataset=dataset)
    except ItmkitError as error:
        told = list(error.problems)
        published = [text for text in PUBLISHED_TEXTS.values() if _done(workspace, text)]
        if needs.text == "text" and published:
            wanted = f"{workspace.cache('text')} is missing"
            note = f"; {published[0]} has the words of published code, without trees, and does not replace it"
            told = [each + note if each.startswith(wanted) else each for each in told]
        wanted = f"{workspace.cache(needs.images)} is missing"
        if needs.attention:
            stage = f"itmkit {CacheName.of(needs.images).stage}"
            asked = (stage, f"{stage} --attention")
            told = [each.replace(*asked) if each.startswith(wanted) else each for each in told]
        elif is_patches(needs.images) and _done(workspace, "regions"):
            told = [f"{each}, or train with --images regions" if each.startswith(wanted) else each for each in told]
        problems += told
    return problems + _two_spaces(workspace, needs)


def _two_spaces(workspace: Workspace, needs: Needs) -> list[str]:
    """Why vectors of pictures and of captions have no common space; nothing where one of them is missing."""
    if not needs.one_space or needs.vectors is None:
        return []
    names = (needs.images, needs.vectors)
    made = [read_manifest(workspace.cache(name)) for name in names if not CacheName.of(name).is_open]
    if len({str(manifest.made_by.model) for manifest in made if manifest is not None}) < 2:
        return []
    return [
        f"{workspace.cache(needs.images)} and {workspace.cache(needs.vectors)} were made with different models, so that"
        " their vectors have no common space; name caches of one model, or make both with one (`itmkit embed --force`)"
    ]


def the_one(workspace: Workspace, kind: Literal["words", "vectors"], setting: str) -> str:
    """The name of the only cache of this kind ("bert" for "words-bert/texts").

    Raises:
        ItmkitError: there is none, or there are several and `setting` must say which.
    """
    names = workspace.names_of(kind)
    if len(names) == 1:
        return names[0]
    option = f"--{setting.replace('_', '-')}"
    if names:
        raise ItmkitError(f"{option}: there are several, {', '.join(names)}; say which one")
    models = {"words": "a BERT-like language model", "vectors": "a model such as CLIP"}[kind]
    wanted = CacheName(kind, "NAME")
    raise ItmkitError(
        f"{workspace.cache(str(wanted))} is missing: run `itmkit {wanted.stage} --model MODEL` (the folder or the hub"
        f" name of {models})"
    )


def _untagged(workspace: Workspace) -> bool:
    manifest = read_manifest(workspace.cache("regions"))
    return manifest is not None and manifest.complete and not any(manifest.tables.get("tags", ()))


def _done(workspace: Workspace, cache: str) -> bool:
    manifest = read_manifest(workspace.cache(cache))
    return manifest is not None and manifest.complete
