from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from itmkit.cache import MadeBy, Manifest, read_manifest
from itmkit.cache.command import command_of
from itmkit.cache.name import CacheName
from itmkit.commands import cli
from itmkit.commands.console import run
from itmkit.commands.parse_text import command as parse_text
from itmkit.commands.status import command
from itmkit.files import write_json
from itmkit.status import next_command
from itmkit.status import status as states
from itmkit.training.epochs import Epochs
from itmkit.workspace import Workspace
from tests.import_features.feature_files import data_set, drawn, write_npz, write_tsv
from tests.import_features.scan_folder import write_scan
from tests.workspaces import make_dataset, make_graphs, make_regions, make_run, make_text


def status(capsys: pytest.CaptureFixture[str], root: Path, *arguments: str) -> str:
    assert run(command, ["-w", str(root), *arguments]) == 0
    return capsys.readouterr().out


def test_table_and_what_is_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = status(capsys, tmp_path)
    assert f"next: itmkit quickstart -w {tmp_path}\n" in told and "`itmkit prepare --help`" in told
    workspace = make_dataset(tmp_path)
    assert f"next: itmkit extract-regions -w {tmp_path}" in status(capsys, tmp_path)
    make_regions(workspace)
    make_text(workspace)
    make_graphs(workspace)
    assert "next: itmkit train --method mpsm" in status(capsys, tmp_path)
    make_run(workspace)
    told = status(capsys, tmp_path)
    assert f"next: itmkit evaluate --run first --split test -w {tmp_path}" in told and told.count("done") == 6
    assert "vsepp, recipe small, 2 of 2 epochs" in told
    write_json(workspace.run("first") / "eval-test.json", {})
    told = status(capsys, tmp_path)
    assert "next" not in told and "evaluated on test" in told


def test_what_is_next_runs_as_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def follow() -> str:
        """Runs what status prints, and returns its name."""
        found = re.search(r"^next: itmkit (.*)$", status(capsys, tmp_path), re.MULTILINE)
        if not found:
            return ""
        assert run(cli, shlex.split(found[1])) == 0, capsys.readouterr().err
        return found[1].partition(" ")[0]

    where = ["-w", str(tmp_path)]
    assert run(cli, ["prepare", "scenes", "--train", "12", "--val", "3", "--test", "3", *where]) == 0
    assert run(cli, ["extract-regions", "--regions", "4", "--shard", "0/2", *where]) == 0
    for stage in ("extract-regions", "merge", "parse-text", "build-graphs"):
        assert follow() == stage
    assert "next: itmkit train --method mpsm --recipe scenes" in status(capsys, tmp_path)
    epoch = Epochs._epoch

    def killed(self: Epochs) -> None:
        if self.state.epoch == 1:
            raise KeyboardInterrupt
        epoch(self)

    small = ["--epochs", "2", "--batch-size", "8", "--embed", "8", "--word", "6", "--seed", "3", "--run", "mine"]
    with monkeypatch.context() as patch:
        patch.setattr(Epochs, "_epoch", killed)
        assert run(cli, ["train", "--method", "vsepp", *small, *where]) == 130
    assert "vsepp, recipe small, 1 of 2 epochs, best val rsum" in status(capsys, tmp_path)
    assert (follow(), follow(), follow()) == ("train", "evaluate", "")
    assert run(cli, ["inspect", str(tmp_path / "runs" / "mine")]) == 0
    told = capsys.readouterr().out
    assert "epochs = 2" in told and "seed = 3" in told and "2 of 2" in told
    assert told.index("best of global") < told.index("eval-test.json: results") < told.index("caches.regions")


def test_stale_after_the_captions_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = make_dataset(tmp_path)
    make_regions(workspace)
    make_text(workspace)
    make_dataset(tmp_path, text="three dogs run")
    told = status(capsys, tmp_path)
    assert "stale" in told and f"next: itmkit parse-text --force -w {tmp_path}" in told
    rows = {row["stage"]: row for row in json.loads(status(capsys, tmp_path, "--json"))}
    assert rows["text"]["state"] == "stale" and rows["text"]["detail"] == "captions changed since"
    assert rows["regions"]["state"] == "done" and rows["regions"]["count"] == 4 and rows["regions"]["skipped"] == 1
    assert rows["regions"]["bytes"] > 0 and rows["text"]["command"] == "itmkit parse-text --force"


def test_tables_that_are_not_what_was_written_are_damage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_regions(make_dataset(tmp_path))
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"dog"', '"dig"'))
    assert "its tables or columns are not what was written" in status(capsys, tmp_path)


def test_the_current_folder_and_the_variable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_dataset(tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    assert run(command, []) == 0
    assert capsys.readouterr().out.endswith("next: itmkit extract-regions\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ITMKIT_WORKSPACE", "work")
    assert run(command, []) == 0
    assert "next: itmkit extract-regions\n" in capsys.readouterr().out


def test_next_is_the_command_with_the_settings_of_the_cache(tmp_path: Path) -> None:
    workspace = make_dataset(tmp_path)
    trees = tmp_path / "trees.conllu"
    words = [c.text.split() for image in workspace.dataset().images for c in image.captions]
    lines = ("".join(f"{n}\t{w}\t_\t_\t_\t_\t0\troot\t_\t_\n" for n, w in enumerate(text, 1)) for text in words)
    trees.write_text("\n".join(lines) + "\n")
    parse = ["-w", str(tmp_path), "--parser", "conllu", "--model", str(trees)]
    assert run(parse_text, parse) == 0
    make_run(workspace)
    fingerprint = workspace.fingerprint("text")
    one = tmp_path / "one.conllu"
    one.write_text(trees.read_text().split("\n\n")[0] + "\n\n")
    assert run(parse_text, ["-w", str(tmp_path), "--parser", "conllu", "--model", str(one), "--force"]) == 2
    assert workspace.fingerprint("text") == fingerprint  # nothing is lost
    assert {row.stage: row.state for row in states(workspace)}["text"] == "done"
    manifest = workspace.cache("text") / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"complete": true', '"complete": false'))
    command = next(row.command for row in states(workspace) if row.stage == "text")
    assert command == f"itmkit parse-text --parser conllu --model {trees}"
    assert run(parse_text, [*command.split()[2:], "-w", str(tmp_path)]) == 0


def test_next_of_an_import_and_of_graphs_names_what_they_were_made_from() -> None:
    def command(name: str, made: MadeBy, settings: dict[str, object] | None = None, **notes: object) -> str:
        return command_of(CacheName.of(name), Manifest(made, {}, notes=notes), settings or {})

    scan = MadeBy("import-features", {"layout": "scan", "splits": {"dev": "val", "x": "test"}, "tag_form": "class"})
    assert command("regions", scan, folder="/a b") == "import-features scan '/a b' --split-map=x=test --tags class"
    bottom_up = MadeBy("import-features", {"layout": "bottom-up", "regions": 36})
    assert command("regions", bottom_up) == "import-features bottom-up FILE --regions 36"
    assert command("graphs/texts", MadeBy("build-graphs")) == "build-graphs --only texts"
    assert command("graphs/images", MadeBy("build-graphs", {"blocks": 8, "keep": 4})) == (
        "build-graphs --blocks 8 --keep 4"
    )
    assert command("graphs/images", MadeBy("build-graphs", {"blocks": 8, "keep": 15}), {"blocks": 8}) == "build-graphs"
    grid = MadeBy("extract-regions", {"backend": "grid", "regions": 9, "size": 64})
    assert command("regions", grid, model="/m") == "extract-regions"  # goes on as the cache was begun
    asked = "extract-regions --backend grid --model /m --regions 9 --size 64"
    assert command("regions", grid, {"backend": "detector"}, model="/m") == asked


def test_an_import_is_advised_as_it_was_made(tmp_path: Path) -> None:
    work = data_set(tmp_path / "work", ["9", "25"])
    rows = [drawn("9"), drawn("25")]
    bad = drawn("25") | {"features": drawn("25")["features"] * np.nan}
    for row in (rows[0], bad):
        write_npz(tmp_path / "npz", row, bbox=None)
    for folder in ("npy", "boxes"):
        (tmp_path / folder).mkdir()
    for row in rows:
        np.save(tmp_path / "npy" / f"{row['id']}.npy", row["features"])
        np.save(tmp_path / "boxes" / f"{row['id']}.npy", row["boxes"])
    (tmp_path / "pt").mkdir()
    torch.save(torch.from_numpy(rows[0]["features"]), tmp_path / "pt" / "9.pt")
    torch.save({row["id"]: torch.from_numpy(row["features"]) for row in rows}, tmp_path / "many.pt")
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["image_features"] = np.stack([row["features"] for row in rows])
    write_json(tmp_path / "rows.json", ["9", "25"])
    half = [row | {"features": row["features"].astype(np.float16)} for row in rows]
    write_tsv(tmp_path / "half.tsv", half)
    for given in (
        f"npz {tmp_path}/npz --regions 5 --boxes {tmp_path}/boxes --skip-damaged",
        f"npy {tmp_path}/npy --regions 5 --boxes {tmp_path}/boxes",
        f"pt {tmp_path}/pt --regions 5",
        f"pt {tmp_path}/many.pt --regions 5",
        f"hdf5 {tmp_path}/a.hdf5 --regions 5 --index {tmp_path}/rows.json",
        f"bottom-up {tmp_path}/half.tsv --regions 5 --dtype float16",
    ):
        assert run(cli, ["import-features", *given.split(), "-w", str(work.root), "--force"]) == 0
        told = command_of(CacheName.of("regions"), read_manifest(work.cache("regions")), {})
        assert told == f"import-features {given}"


def test_a_folder_of_scan_is_advised_as_it_was_imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_scan(tmp_path / "scan", extras=(), captions=1, caps=["a dog", "a cat", "a fish", "?"])
    given = ["import-features", "scan", str(tmp_path / "scan"), "--exact", "--skip-empty"]
    where = ["-w", str(tmp_path / "work")]
    assert run(cli, [*given, *where]) == 0
    manifest = read_manifest(tmp_path / "work" / "caches" / "regions")
    assert command_of(CacheName.of("regions"), manifest, {}).split() == given
    # Without boxes there are no graphs of images to make.
    make_text(Workspace(tmp_path / "work"))
    assert "next: itmkit build-graphs --only texts" in status(capsys, tmp_path / "work")
    assert run(cli, ["build-graphs", "--only", "texts", *where]) == 0
    assert "next: itmkit train --method mpsm --visual-kgid false" in status(capsys, tmp_path / "work")


def test_where_words_are_those_of_published_code_no_trees_are_missing(tmp_path: Path) -> None:
    workspace = make_dataset(tmp_path)
    make_regions(workspace)
    assert run(parse_text, ["-w", str(tmp_path), "--parser", "scan"]) == 0
    rows = states(workspace)
    assert [row.stage for row in rows] == ["dataset", "regions", "text-scan"]
    assert "methods that read trees need `itmkit parse-text` too" in rows[-1].detail
    assert next_command(rows, "made") == "itmkit import-checkpoint --help"
    make_run(workspace)
    facts = json.loads((workspace.run("first") / "run.json").read_text())
    facts["caches"]["text-scan"] = workspace.fingerprint("text-scan")
    write_json(workspace.run("first") / "run.json", facts)
    assert next_command(states(workspace), "made") == "itmkit evaluate --run first --split test"
    write_json(workspace.run("other") / "run.json", facts | {"caches": {"text": "x", "graphs/texts": "x"}})
    missing = [row.stage for row in states(workspace) if row.state == "missing"]
    assert missing == ["text", "graphs/texts"]  # since a run reads them
    make_text(workspace)
    assert [row.detail for row in states(workspace) if row.stage == "text-scan"] == [""]
