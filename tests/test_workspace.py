from __future__ import annotations

from pathlib import Path

import pytest

from itmkit.dataset import Caption, ImageRecord, write_dataset
from itmkit.errors import ItmkitError
from itmkit.stages import StageState, require
from itmkit.status import status
from itmkit.workspace import Workspace
from tests.workspaces import make_dataset, make_graphs, make_regions, make_run, make_text


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Everything done, with one run."""
    workspace = make_dataset(tmp_path / "work")
    make_regions(workspace)
    make_text(workspace)
    make_graphs(workspace)
    make_run(workspace)
    return workspace


def states(workspace: Workspace) -> dict[str, StageState]:
    return {row.stage: row for row in status(workspace)}


def all_states(workspace: Workspace) -> dict[str, str]:
    return {row.stage: row.state for row in status(workspace)}


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_everything_done(workspace: Workspace) -> None:
    rows = states(workspace)
    assert {name: row.state for name, row in rows.items()} == {
        "dataset": "done",
        "regions": "done",
        "text": "done",
        "graphs/images": "done",
        "graphs/texts": "done",
        "run first": "done",
    }
    assert rows["regions"].count == 4 and rows["regions"].skipped == 1 and rows["regions"].bytes > 0
    assert rows["dataset"].detail.startswith("train 3 images 6 captions, val 1 images 2 captions")
    require(workspace, "regions", "text", "graphs/images", "graphs/texts")


def test_nothing_there(tmp_path: Path) -> None:
    rows = states(Workspace(tmp_path / "no"))
    assert {row.state for row in rows.values()} == {"missing"}
    assert "there is no folder" in rows["dataset"].detail and rows["dataset"].command == "itmkit quickstart"
    with pytest.raises(ItmkitError, match="run `itmkit prepare`"):
        require(Workspace(tmp_path / "no"), "regions")


def test_changed_captions_make_the_text_cache_stale_and_what_follows_from_it(workspace: Workspace) -> None:
    edit(workspace.dataset_path, "picture 2", "another text")
    rows = states(workspace)
    assert rows["text"].state == "stale" and rows["text"].detail == "captions changed since"
    assert rows["text"].command == "itmkit parse-text --force"
    assert rows["graphs/texts"].state == "stale" and rows["graphs/texts"].detail == "text is stale"
    assert rows["run first"].state == "stale" and "captions changed since" in rows["run first"].detail
    assert rows["regions"].state == rows["graphs/images"].state == "done"
    with pytest.raises(ItmkitError) as caught:
        require(workspace, "regions", "text", "graphs/texts")
    assert len(caught.value.problems) == 2 and "run `itmkit parse-text --force`" in caught.value.problems[0]


def test_changed_pictures_make_the_region_cache_stale(workspace: Workspace) -> None:
    sha256 = workspace.dataset().images[0].sha256
    assert sha256 is not None
    edit(workspace.dataset_path, sha256, "0" * 64)
    found = all_states(workspace)
    assert found["regions"] == found["graphs/images"] == "stale"
    assert found["text"] == found["graphs/texts"] == "done"


def test_regions_made_anew_with_other_settings_make_graphs_and_runs_stale(workspace: Workspace) -> None:
    manifest = workspace.cache("regions") / "manifest.json"
    edit(manifest, '"width": 8', '"width": 9')
    rows = states(workspace)
    assert rows["regions"].state == "done"
    assert rows["graphs/images"].state == "stale" and rows["graphs/images"].detail == "regions changed since"
    assert rows["run first"].state == "stale" and "regions changed since" in rows["run first"].detail


def test_added_images_with_captions_leave_regions_partial_and_texts_stale(workspace: Workspace) -> None:
    added = ImageRecord("added", "train", (Caption("added#0", "a new one"),))
    write_dataset(workspace.dataset_path, [*workspace.dataset().images, added], kind="csv", settings={})
    rows = states(workspace)
    assert (rows["regions"].state, rows["regions"].command) == ("partial", "itmkit extract-regions")
    assert (rows["text"].state, rows["text"].command) == ("stale", "itmkit parse-text --force")
    edit(workspace.cache("regions") / "manifest.json", '"extract-regions"', '"import-features"')
    assert states(workspace)["regions"].state == "stale"


def test_partial_and_then_graphs_are_no_use(tmp_path: Path) -> None:
    workspace = make_dataset(tmp_path)
    make_regions(workspace, finish=False)
    row = states(workspace)["regions"]
    assert (row.state, row.detail, row.command) == ("partial", "2 of 5", "itmkit extract-regions")


@pytest.mark.parametrize("how", ["gone", "cut", "manifest"])
def test_damaged_caches_are_seen(workspace: Workspace, how: str) -> None:
    shard = workspace.cache("regions") / "shard-00001.h5"
    if how == "gone":
        shard.unlink()
    elif how == "cut":
        shard.write_bytes(shard.read_bytes()[:-10])
    else:
        (workspace.cache("regions") / "manifest.json").write_text("{")
    rows = states(workspace)
    assert rows["regions"].state == "damaged" and rows["regions"].command.endswith("--force")
    assert rows["graphs/images"].state == "stale" and rows["graphs/images"].detail == "regions is damaged"
    assert rows["text"].state == "done"


def test_a_damaged_data_set_and_damaged_runs(workspace: Workspace) -> None:
    make_run(workspace, "half", finished=False)
    (make_run(workspace, "odd") / "run.json").write_text('{"method": "mpsm"}')
    (make_run(workspace, "cut") / "run.json").write_text("{")
    found = states(workspace)
    assert found["run half"].state == "partial" and found["run half"].detail == "vsepp, recipe small, 1 of 2 epochs"
    assert found["run half"].command == "itmkit train --run half"
    assert found["run odd"].state == found["run cut"].state == "damaged"
    workspace.dataset_path.write_text("{\n")
    found = states(workspace)
    assert found["dataset"].state == "damaged" and "line 1" in found["dataset"].detail
    assert found["regions"].state == "done"  # as far as can be told


def test_settings(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert workspace.settings("parse-text") == {}
    (tmp_path / "workspace.toml").write_text("[build-graphs]\nkeep = 3\n")
    assert workspace.settings("build-graphs") == {"keep": 3} and workspace.settings("parse-text") == {}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("parse-text = 3", ["'parse-text' must be a table, written [parse-text]"]),
        ("[parse-text", ["not TOML"]),
        ("a = " + "[" * 20_000, ["deep"]),
        ("[parse-txt]", ["unknown table [parse-txt]; did you mean 'parse-text'?"]),
        ("[train]\nepochs = 3", ["unknown table [train]; the tables are extract-regions, parse-text, build-graphs"]),
        ("epochs = 3", ["unknown key 'epochs'; the tables are"]),
        ("[build-graphs]\nblock = 3", ["[build-graphs] has no setting 'block'; did you mean 'blocks'?"]),
        ("[parse-text]\ncolour = 3", ["[parse-text] has no setting 'colour'; it has parser, model"]),
        ("[build-graphs]\nkeep = true", ["[build-graphs] keep is 'True'; a whole number is needed"]),
        ("[build-graphs]\nkeep = 2.0", ["[build-graphs] keep is '2.0'; a whole number is needed"]),
        ("[parse-text]\nmodel = ['a']\n[trian]\n", ["[parse-text] model is", "unknown table [trian]"]),
    ],
)
def test_settings_that_no_stage_reads(tmp_path: Path, text: str, told: list[str]) -> None:
    workspace = Workspace(tmp_path)
    workspace.settings_path.write_text(text)
    for stage in ("parse-text", "embed"):
        with pytest.raises(ItmkitError) as error:
            workspace.settings(stage)
        for problem, words in zip(error.value.problems, told, strict=True):
            assert problem.startswith(f"{workspace.settings_path}: ") and words in problem
    row = next(row for row in status(workspace) if row.stage == "settings")  # and the other rows
    assert row.state == "damaged" and told[0] in row.detail and len(status(workspace)) > 3


@pytest.mark.parametrize("name", ["", "a/b", ".hidden", ".."])
def test_names_of_runs_are_one_folder_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ItmkitError, match="one folder name"):
        Workspace(tmp_path).run(name)
