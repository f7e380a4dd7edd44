"""A run keeps what made its caches, and reads new pictures and captions without the caches themselves."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import itmkit
from itmkit.cache.manifest import read_manifest
from itmkit.errors import ItmkitError
from itmkit.files import read_json
from itmkit.runs.facts import RunFacts
from itmkit.runs.made import write_made
from itmkit.runs.place import MOVING, Place, clear_run, finish_replacing
from itmkit.workspace import Workspace

CAPTIONS = ["a small red dog left of the car", "a blue ball"]


def copied(trained: Workspace, folder: Path) -> Workspace:
    return Workspace(shutil.copytree(trained.root, folder / "work"))


@pytest.mark.parametrize("method", ["glfn", "dual"])
def test_a_run_scores_the_same_without_the_caches_of_the_workspace(
    trained: Workspace, tmp_path: Path, method: str
) -> None:
    files = [trained.image_path(image.file or "") for image in trained.dataset().split("test")][:2]
    with itmkit.open(trained.run(method)) as matcher:
        expected = matcher.score(files, CAPTIONS)
    alone = shutil.copytree(trained.run(method), tmp_path / "elsewhere" / method)
    with itmkit.open(alone) as matcher:
        assert matcher.workspace is None
        np.testing.assert_array_equal(matcher.score(files, CAPTIONS), expected)


def test_the_manifests_say_what_the_caches_say_and_hold_no_words(trained: Workspace) -> None:
    folder = trained.run("mpsm")
    for cache, fingerprint in RunFacts.read(folder).caches.items():
        kept, whole = (read_manifest(place) for place in (folder / "made" / cache, trained.cache(cache)))
        assert kept is not None and whole is not None
        assert kept.fingerprint == whole.fingerprint == fingerprint
        assert (kept.made_by, kept.notes, kept.columns) == (whole.made_by, whole.notes, whole.columns)
        assert kept.tables == (whole.tables if cache == "regions" else {}), cache
        assert "tables_sha256" not in read_json(folder / "made" / cache / "manifest.json")


def test_a_run_without_them_reads_the_caches_of_the_workspace(trained: Workspace, tmp_path: Path) -> None:
    home = copied(trained, tmp_path)
    shutil.rmtree(home.run("mpsm") / "made")
    image = home.dataset().split("test")[0].id
    assert np.isfinite(itmkit.open(home.run("mpsm")).score([image], CAPTIONS)).all()
    shutil.rmtree(home.cache("text"))
    with pytest.raises(ItmkitError, match=r"caches/text is gone.*`itmkit parse-text`"):
        itmkit.open(home.run("mpsm")).score([image], CAPTIONS)


def test_ids_are_refused_where_the_features_of_the_workspace_are_others_now(trained: Workspace, tmp_path: Path) -> None:
    home = copied(trained, tmp_path)
    image = home.dataset().split("test")[0]
    manifest = read_manifest(home.cache("regions"))
    assert manifest is not None
    manifest.made_by.settings["regions"] = 7
    manifest.write(home.cache("regions"))
    with itmkit.open(home.run("mpsm")) as matcher:
        with pytest.raises(ItmkitError) as error:
            matcher.score([image.id], CAPTIONS)
        assert "caches/regions: made otherwise than in training: settings.regions is 6" in error.value.problems[0]
        assert "give the files" in error.value.problems[-1]
        assert np.isfinite(matcher.score([home.image_path(image.file or "")], CAPTIONS)).all()


def test_a_cache_that_changes_while_training_begins_is_no_silent_mixture(trained: Workspace, tmp_path: Path) -> None:
    with pytest.raises(ItmkitError, match="was made anew while the training began"):
        write_made(trained, tmp_path, {"text": "another"})
    assert not (tmp_path / "made").exists()


def test_a_run_that_replaces_another_brings_its_own_manifests(trained: Workspace, tmp_path: Path) -> None:
    home = copied(trained, tmp_path)
    folder, facts = home.run("dual"), RunFacts.read(home.run("mpsm"))
    place = Place(folder, forced=True)
    place.beside()
    write_made(home, place.now, facts.caches)
    facts.write(place.now)
    place.now.rename(folder / MOVING)  # killed after the old run was removed, before the files were moved
    clear_run(folder)
    place.close()
    finish_replacing(folder)
    kept = {path.parent.relative_to(folder / "made").as_posix() for path in folder.glob("made/**/manifest.json")}
    assert kept == set(facts.caches)
