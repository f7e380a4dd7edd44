"""An exported run opens anywhere, says what it is, and goes to the hub and back only when asked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import itmkit
from itmkit.commands import cli
from itmkit.commands.console import run
from itmkit.errors import ItmkitError
from itmkit.evaluation.evaluate import evaluate
from itmkit.evaluation.measures import Wanted
from itmkit.export.export import export_run, push
from itmkit.export.files import without_local_places
from itmkit.files import sha256_file
from itmkit.import_checkpoint.write import import_checkpoint
from itmkit.runs.facts import RunFacts
from itmkit.runs.settings import read_config
from itmkit.workspace import Workspace
from tests.export.fake_hub import Hub, fake_hub
from tests.import_checkpoint.published import save, scan_model, scan_options, vocabulary, workspace_of

CAPTIONS = ["a small red dog left of the car", "a blue ball"]


@pytest.fixture(scope="module")
def exported(trained: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "glfn"
    home = Workspace(shutil.copytree(trained.root, folder.parent / "work"))
    evaluate(home, ["glfn"], wanted=Wanted(intervals=True))
    export_run(home, "glfn", folder)
    shutil.rmtree(home.root)
    return folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    from huggingface_hub import constants

    with fake_hub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        template = server.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        yield server


def test_an_export_scores_as_the_run_does(trained: Workspace, exported: Path) -> None:
    files = [trained.image_path(image.file or "") for image in trained.dataset().split("test")][:2]
    with itmkit.open(trained.run("glfn")) as matcher:
        expected = matcher.score(files, CAPTIONS)
    with itmkit.open(exported) as matcher:
        assert matcher.workspace is None
        np.testing.assert_array_equal(matcher.score(files, CAPTIONS), expected)


def test_evaluate_takes_an_export(trained: Workspace, exported: Path, tmp_path: Path) -> None:
    home = Workspace(shutil.copytree(trained.root, tmp_path / "work"))
    shutil.rmtree(home.root / "runs")
    found = evaluate(home, [str(exported)])
    written = json.loads((home.root / "transfer/glfn/eval-test.json").read_text())
    here = json.loads((exported / "eval-test.json").read_text())
    assert written["results"][-1]["rsum"] == here["results"][-1]["rsum"] == found.rows[-1].result.rsum
    assert found.notes == () and not list(exported.glob("*.lock*"))


def test_a_figure_that_was_changed_by_hand_comes_into_no_card(trained: Workspace, tmp_path: Path) -> None:
    home = Workspace(shutil.copytree(trained.root, tmp_path / "work"))
    evaluate(home, ["glfn"])
    path = home.run("glfn") / "eval-test.json"
    path.write_text(path.read_text().replace('"images": 4', '"images": 5', 1))
    with pytest.raises(ItmkitError, match=r"eval-test.json: its content is not what was written"):
        export_run(home, "glfn", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_it_holds_no_pickle_and_its_card_says_what_it_is(exported: Path) -> None:
    kinds = {path.suffix for path in exported.rglob("*") if path.is_file()}
    assert kinds == {".json", ".jsonl", ".toml", ".safetensors", ".md"}
    card = (exported / "README.md").read_text()
    header = card.split("---")[1]
    assert "library_name: itmkit" in header and "- glfn" in header and "# license:" in header
    regions = json.loads((exported / "made/regions/manifest.json").read_text())
    assert f"`{regions['made_by']['model']['sha256']}`" in card and "scenes-detector" in card
    assert "| train | 8 |" in card and "Data set of the kind scenes." in card
    assert "epochs 1" in card and "words_cache bert" in card  # what differs from the recipe
    assert "On `test`, 4 images and" in card and "intervals of a bootstrap" in card and " to " in card
    assert "val rsum" in card and "## Limits" in card and "## Licence" in card
    assert 'itmkit.open("path/to/glfn")' in card


def test_published_weights_are_not_told_as_trained_here(tmp_path: Path, hub: Hub) -> None:
    workspace = workspace_of(tmp_path)
    file = save(tmp_path / "model_best.pth.tar", scan_model(), scan_options())
    import_checkpoint(workspace, file, vocabulary=vocabulary(tmp_path / "v.json"), run="scan")
    export_run(workspace, "scan", tmp_path / "out")
    kept = (workspace.run("scan") / "imported.json").read_bytes()
    assert (tmp_path / "out/imported.json").read_bytes() == kept
    card = (tmp_path / "out/README.md").read_text()
    assert "with the published weights of SCAN t2i, imported with itmkit" in card and "not trained here" in card
    assert f"| checkpoint | model_best.pth.tar | `{sha256_file(file)}` |" in card and "| vocabulary | v.json |" in card
    assert "trained with" not in card and "## Training" not in card and "core minutes" not in card
    assert "By the validation of SCAN t2i's project" in card and "| t2i | 3 | 411.5 |" in card
    push(tmp_path / "out", "me/scan")
    assert hub.files["me/scan"]["imported.json"] == kept


def test_a_second_export_keeps_an_edited_card_and_another_run_is_not_replaced(
    trained: Workspace, tmp_path: Path
) -> None:
    folder = tmp_path / "kept"
    assert run(cli, ["export", "dual", str(folder), "-w", str(trained.root)]) == 0
    (folder / "README.md").write_text("license: mit")
    assert export_run(trained, "dual", folder).unchanged
    assert (folder / "README.md").read_text() == "license: mit"
    with pytest.raises(ItmkitError, match="holds an export of another run or state"):
        export_run(trained, str(trained.run("mpsm")), folder)
    assert (folder / "README.md").read_text() == "license: mit"
    assert not export_run(trained, "mpsm", folder, force=True).unchanged
    assert "## Licence" in (folder / "README.md").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_files_beside_an_export_do_not_count_and_stay(trained: Workspace, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    export_run(trained, "dual", folder)
    files = {path.relative_to(folder) for path in folder.rglob("*")}
    (folder / ".git/refs/heads").mkdir(parents=True)
    for name in ("LICENSE", ".git/config", "made/.DS_Store"):
        (folder / name).write_text("mine")
    (folder / "latest").symlink_to("nowhere")
    found = export_run(trained, "dual", folder)
    assert found.unchanged and found.files == len([name for name in files if (folder / name).is_file()])
    (folder / "eval-val.json").write_text("of an earlier state")
    with pytest.raises(ItmkitError, match=r"another run or state \(eval-val.json differ\)"):
        export_run(trained, "dual", folder)
    export_run(trained, "dual", folder, force=True)
    others = {path.relative_to(folder).as_posix() for path in folder.rglob("*")} - {str(name) for name in files}
    assert others == {"LICENSE", "latest", ".git", ".git/config", ".git/refs", ".git/refs/heads"}
    folder.rename(tmp_path / ".kept.old")  # where a kill between two renames leaves it
    assert export_run(trained, "dual", folder).unchanged
    assert (folder / "LICENSE").read_text() == "mine"


def test_what_cannot_be_exported_is_one_clear_error(trained: Workspace, tmp_path: Path) -> None:
    with pytest.raises(ItmkitError, match="no such run.*did you mean 'mpsm'"):
        export_run(trained, "mpms", tmp_path / "new")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years")
    with pytest.raises(ItmkitError, match="is there already and is no export"):
        export_run(trained, "mpsm", tmp_path / "mine", force=True)
    broken = Path(shutil.copytree(trained.run("mpsm"), tmp_path / "broken"))
    (broken / "best-distance.safetensors").unlink()
    shutil.rmtree(broken / "made/text")
    with pytest.raises(ItmkitError) as error:
        export_run(trained, str(broken), tmp_path / "new")
    assert "best-distance.safetensors: is missing" in error.value.problems[0] and "text" in error.value.problems[1]
    assert not (tmp_path / "new").exists()


def test_to_the_hub_and_back(trained: Workspace, exported: Path, hub: Hub) -> None:
    address, notes = push(exported, "me/glfn")
    assert address == f"{hub.address}/me/glfn" and hub.tokens == {"Bearer hf_secret"}
    assert any("words-bert/texts lies on this machine" in note for note in notes)
    there = hub.files["me/glfn"]
    assert {path.relative_to(exported).as_posix() for path in exported.rglob("*") if path.is_file()} == set(there)
    secret = str(trained.root.parent).encode()
    assert not [name for name, content in there.items() if secret in content]  # no place of this machine
    there["code.py"], there["weights.pkl"] = b"import os", b"pickle"

    models = {"words-bert": trained.root.parent / "bert"}
    matcher = itmkit.open("hf:me/glfn@first", models=models)
    assert matcher.name == "me/glfn@first" and not list(matcher.folder.glob("*.p*"))
    files = [trained.image_path(trained.dataset().split("test")[0].file or "")]
    with matcher, itmkit.open(exported) as local:
        np.testing.assert_array_equal(matcher.score(files, CAPTIONS), local.score(files, CAPTIONS))


def test_places_of_files_stay_on_this_machine(trained: Workspace, tmp_path: Path) -> None:
    source = Path(shutil.copytree(trained.run("mpsm"), tmp_path / "mpsm"))
    config, vectors = read_config(source / "config.toml"), str(tmp_path / "secret|one" / "glove.txt")
    replace(config, training=replace(config.training, word_vectors=vectors)).write(source / "config.toml")
    facts = RunFacts.read(source)
    replace(facts, files={**facts.files, "config.toml": sha256_file(source / "config.toml")}).write(source)
    manifest = source / "made/regions/manifest.json"
    record = json.loads(manifest.read_text())
    places = {
        "paths": [str(tmp_path / "x.tsv")],
        "damaged": [{"place": f"{tmp_path / 'x.tsv'}: line 3", "reason": "-"}],
    }
    manifest.write_text(json.dumps({**record, "notes": {**record["notes"], **places}}))
    export_run(trained, str(source), tmp_path / "out")

    without_local_places(tmp_path / "out", tmp_path / "published")
    files = [path for path in (tmp_path / "published").rglob("*") if path.is_file()]
    assert not [path for path in files if str(tmp_path).encode() in path.read_bytes()]
    assert "word_vectors glove.txt" in (tmp_path / "published/README.md").read_text()
    assert read_config(tmp_path / "published/config.toml").training.word_vectors == "glove.txt"
    with itmkit.open(tmp_path / "published") as matcher:  # digests are those of the files
        assert matcher.method == "mpsm"


def test_the_hub_says_no(exported: Path, hub: Hub) -> None:
    with pytest.raises(ItmkitError, match="hf:me/none: cannot be fetched"):
        itmkit.open("hf:me/none")
    with pytest.raises(ItmkitError, match="is written hf:owner/name"):
        itmkit.open("hf:../../etc")
    hub.asked.clear()
    with pytest.raises(ItmkitError, match="is written owner/name"):
        push(exported, "glfn")
    with pytest.raises(ItmkitError, match="holds no run"):
        itmkit.open("me/none")  # a path: nobody asked for the hub
    assert not hub.asked
