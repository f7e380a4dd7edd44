from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import h5py
import numpy as np
import pytest
import torch

from itmkit.cache import CacheReader, CacheWriter, text_key
from itmkit.cache.tag_phrases import TagPhrases
from itmkit.errors import ItmkitError
from itmkit.inputs import Inputs, Needs
from itmkit.inputs import texts as module
from itmkit.inputs.images import ImageInputs
from itmkit.inputs.needs import missing
from itmkit.inputs.vocabulary import Vocabulary
from itmkit.workspace import Workspace
from tests.training.tiny import FEATURES, GRAPHS, REGIONS, THINGS, WORD_VECTOR, make_workspace

VOCABULARY = Vocabulary.build(["a", *THINGS], minimum=1)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return make_workspace(tmp_path, train=4, val=1, test=1)


def opened(workspace: Workspace, *, graphs: bool = True) -> Inputs:
    return Inputs(workspace, workspace.dataset().split("train"), VOCABULARY, GRAPHS if graphs else Needs())


def test_images_as_they_lie_in_the_caches(workspace: Workspace) -> None:
    inputs = opened(workspace)
    assert inputs.sizes.feature == FEATURES and inputs.left_out == 0
    batch = inputs.image_batch(np.array([2, 0, 2]))
    regions, polar = CacheReader.open(workspace.cache("regions")), CacheReader.open(workspace.cache("graphs/images"))
    rows = regions.rows(["image02", "image00", "image02"])
    np.testing.assert_array_equal(batch.features.numpy(), regions.read("features", rows).astype(np.float32))
    assert batch.mask.sum(1).tolist() == regions.read("count", rows).tolist()
    assert batch.rho is not None and batch.theta is not None and batch.rho.shape == (3, REGIONS, REGIONS)
    np.testing.assert_array_equal(batch.rho.numpy(), polar.read("polar_rho", rows).astype(np.float32))
    np.testing.assert_array_equal(batch.theta.numpy(), polar.read("polar_theta", rows).astype(np.float32))


def test_texts_as_they_lie_in_the_caches(workspace: Workspace) -> None:
    inputs = opened(workspace)
    which = np.array([1, 0, 6])
    batch = inputs.text_batch(which)
    longest = max(len(inputs.caption_texts[k].split()) for k in which)
    assert batch.words.shape == batch.mask.shape == (3, longest) and batch.edges is not None
    for place, caption in enumerate(which):
        words = inputs.caption_texts[caption].split()
        length = len(words)
        assert inputs.lengths[caption] == length == int(batch.mask[place].sum())
        assert batch.words[place, :length].tolist() == VOCABULARY.encode(words).tolist()
        assert not batch.words[place, length:].any() and not batch.mask[place, length:].any()
        # each word depends on the one before it, and on itself
        apart = np.abs(np.subtract.outer(np.arange(length), np.arange(length)))
        np.testing.assert_array_equal(batch.edges[place, :length, :length].numpy(), apart <= 1)
        assert not batch.edges[place, length:].any() and not batch.edges[place, :, length:].any()


def test_frozen_vectors_tags_and_labels_as_they_lie_in_the_caches(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, train=4, val=1, test=1, tags=True, words=True, vectors=True)
    train = workspace.dataset().split("train")
    frozen = Needs(words=False, vectors="words-tiny/texts", tags="words-tiny/tags", labels=True)
    inputs = Inputs(workspace, train, None, frozen)
    assert (inputs.sizes.word_vector, inputs.sizes.tag_vector, inputs.sizes.vocabulary) == (WORD_VECTOR, WORD_VECTOR, 0)
    texts, images = inputs.text_batch(np.array([1, 0])), inputs.image_batch(np.array([2, 0]))
    words = CacheReader.open(workspace.cache("words-tiny/texts"))
    flat, offsets = words.read_ragged(["vectors"], words.rows([text_key(inputs.caption_texts[k]) for k in (1, 0)]))
    assert texts.words is None and texts.vectors is not None and images.tags is not None
    np.testing.assert_array_equal(texts.vectors[texts.mask].numpy(), flat["vectors"].astype(np.float32))
    assert texts.mask.sum(1).tolist() == np.diff(offsets).tolist() and not texts.vectors[~texts.mask].any()
    regions, phrases = (
        CacheReader.open(workspace.cache("regions")),
        CacheReader.open(workspace.cache("words-tiny/tags")),
    )
    rows = regions.rows(["image02", "image00"])
    tags, colours = regions.read("tags", rows), regions.read("attributes", rows)
    numbers = TagPhrases.of(regions).numbers(tags, colours)
    stored = phrases.read_all("vector").astype(np.float32)
    np.testing.assert_array_equal(images.tags.numpy(), np.where(numbers[..., None] < 0, 0, stored[numbers]))
    assert images.labels is not None
    assert images.labels.sum(1).tolist() == [len(set(row) - {-1}) for row in tags.tolist()]

    pooled = Inputs(
        workspace, train, None, Needs(images="vectors-tiny/images", vectors="vectors-tiny/texts", words=False)
    )
    assert (pooled.sizes.feature, pooled.sizes.regions, pooled.sizes.word_vector) == (FEATURES, 1, FEATURES)
    found = pooled.image_batch(np.array([3])), pooled.text_batch(np.array([0, 5]))
    assert found[0].features.shape == (1, 1, FEATURES) and found[1].mask.shape == (2, 1)
    images_of = CacheReader.open(workspace.cache("vectors-tiny/images"))
    np.testing.assert_array_equal(
        found[0].features[:, 0].numpy(), images_of.read("vector", images_of.rows(["image03"]))
    )


def test_class_vectors_as_they_lie_in_the_caches(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, train=4, val=1, test=1, words=True, patches="dino")
    train = workspace.dataset().split("train")
    needs = Needs(images="dino", whole=True, sentence="words-tiny/texts")
    assert needs.caches == ("dino", "text", "words-tiny/texts")
    inputs = Inputs(workspace, train, VOCABULARY, needs)
    assert (inputs.sizes.sentence, inputs.sizes.word_vector, inputs.sizes.feature) == (WORD_VECTOR, 0, FEATURES)
    images, texts = inputs.image_batch(np.array([2, 0, 2])), inputs.text_batch(np.array([5, 1]))
    assert images.whole is not None and texts.sentence is not None and texts.vectors is None
    patches, words = CacheReader.open(workspace.cache("dino")), CacheReader.open(workspace.cache("words-tiny/texts"))
    stored = patches.read("cls", patches.rows(["image02", "image00", "image02"]))
    np.testing.assert_array_equal(images.whole.numpy(), stored.astype(np.float32))
    stored = words.read("sentence", words.rows([text_key(inputs.caption_texts[k]) for k in (5, 1)]))
    np.testing.assert_array_equal(texts.sentence.numpy(), stored.astype(np.float32))
    assert torch.equal(images.rows(slice(1, 2)).whole, images.whole[1:2])  # type: ignore[arg-type]
    assert torch.equal(texts.rows(slice(1, 2)).sentence, texts.sentence[1:])  # type: ignore[arg-type]


def test_caches_without_class_vectors_are_named(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, train=4, val=1, test=1, words=True)
    train = workspace.dataset().split("train")
    with pytest.raises(ItmkitError, match=r"caches/regions: has no \[CLS\] vectors of whole pictures, which --class-v"):
        Inputs(workspace, train, VOCABULARY, Needs(whole=True))
    path = workspace.cache("words-tiny/texts") / "manifest.json"  # of a version that stored none
    manifest = json.loads(path.read_text())
    del manifest["columns"]["sentence"], manifest["tables_sha256"]
    path.write_text(json.dumps(manifest))
    old = Needs(words=False, vectors="words-tiny/texts")
    assert Inputs(workspace, train, None, old).text_batch(np.array([0])).sentence is None
    with pytest.raises(ItmkitError, match=r"words-tiny/texts: has no vectors of whole captions.*encode-text --force"):
        Inputs(workspace, train, None, replace(old, sentence="words-tiny/texts"))


def test_long_captions_are_cut(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WORDS", 3)
    batch = opened(workspace).text_batch(np.arange(4))
    assert batch.words.shape == (4, 3) and batch.mask.all() and batch.edges is not None
    assert batch.edges.shape == (4, 3, 3)
    assert batch.edges[0].int().tolist() == [[1, 1, 0], [1, 1, 1], [0, 1, 1]]


def test_without_graphs_none_is_read(workspace: Workspace) -> None:
    for name in ("graphs/images", "graphs/texts"):
        (workspace.cache(name) / "manifest.json").unlink()
    inputs = opened(workspace, graphs=False)
    assert inputs.image_batch(np.array([0])).rho is None and inputs.text_batch(np.array([0])).edges is None
    with pytest.raises(ItmkitError, match="build-graphs"):
        opened(workspace)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_no_numbers_name_the_image(workspace: Workspace, bad: float) -> None:
    with h5py.File(workspace.cache("regions") / "shard-00000.h5", "r+") as file:
        file["features"][2, 1, 3] = bad
    (workspace.cache("regions") / "manifest.json").touch()  # not changed since, as far as the reader can tell
    inputs = opened(workspace)
    inputs.image_batch(np.array([0, 1, 3]))
    with pytest.raises(ItmkitError, match=r"caches/regions: the features of image 'image02' hold NaN or infinity"):
        inputs.image_batch(np.array([3, 2]))


def test_a_caption_that_was_not_parsed(workspace: Workspace) -> None:
    lines = workspace.dataset_path.read_text()
    workspace.dataset_path.write_text(lines.replace("left of", "right of"))
    with pytest.raises(ItmkitError, match=r"caches/text: no row for 4 of 8 ids"):
        opened(workspace)


def test_vectors_of_two_models_have_no_common_space(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, train=4, val=1, test=1, vectors=True)
    found = CacheReader.open(workspace.cache("vectors-tiny/images"))
    made_by = replace(found.manifest.made_by, model={"id": "another"})
    place, columns = workspace.cache("vectors-other/images"), found.columns
    with CacheWriter.open(place, made_by=made_by, columns=columns, keys=found.ids) as writer, writer.shard(0) as out:
        out.append(found.ids, {"vector": found.read_all("vector")})
    texts = {"vectors": "vectors-tiny/texts", "words": False}
    (told,) = missing(workspace, Needs(images="vectors-other/images", one_space=True, **texts), "dual")
    assert "vectors-other/images and" in told and "different models" in told
    assert not missing(workspace, Needs(images="vectors-other/images", **texts), "scl")
    assert not missing(workspace, Needs(images="vectors-tiny/images", one_space=True, **texts), "dual")


def test_regions_are_offered_where_patches_are_missing(workspace: Workspace) -> None:
    told = missing(workspace, Needs(images="patches"), "cmfg")
    assert told == [
        f"{workspace.cache('patches')} is missing: run `itmkit extract-patches --model MODEL`, or train with --images"
        " regions"
    ]
    (workspace.cache("regions") / "manifest.json").unlink()
    without = missing(workspace, Needs(images="patches"), "cmfg")
    assert without == [f"{workspace.cache('patches')} is missing: run `itmkit extract-patches --model MODEL`"]
    assert all("--images" not in problem for problem in missing(workspace, Needs(), "vsepp"))


def test_attention_is_asked_for_where_it_is_read(workspace: Workspace) -> None:
    """extract-patches stores it only then."""
    needs = Needs(images="vit", attention=True)
    assert missing(workspace, needs, "cmfg") == [
        f"{workspace.cache('vit')} is missing: run `itmkit extract-patches --attention --cache vit --model MODEL`"
    ]
    copytree(workspace.cache("regions"), workspace.cache("vit"))
    images = workspace.dataset().split("train")
    with pytest.raises(
        ItmkitError, match=r"vit: holds no .*extract-patches --cache vit --attention --force`, or train"
    ):
        ImageInputs(workspace, images, needs)
    with pytest.raises(ItmkitError, match=r"regions: holds no .*--model MODEL --attention` and train with --images"):
        ImageInputs(workspace, images, Needs(attention=True))
