"""run.json: written, read, and refused in words."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from itmkit.errors import ItmkitError
from itmkit.runs.facts import RunFacts, remove_facts, run_names
from itmkit.workspace import Workspace

FACTS = RunFacts(
    method="vsepp",
    recipe="small",
    caches={"regions": "12"},
    captions="34",
    epochs=2,
    members={"vsepp": 1.0},
    sizes={"regions": 3},
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    folder = workspace.run("first")
    assert not RunFacts.exist(folder) and run_names(workspace) == []
    for facts in (FACTS, replace(FACTS, epochs_done=2, finished=True, core_minutes=1.5)):
        facts.write(folder)
        assert RunFacts.read(folder) == facts
    assert RunFacts.exist(folder) and run_names(workspace) == ["first"]
    remove_facts(folder)
    assert not RunFacts.exist(folder)


def test_the_file(tmp_path: Path) -> None:
    FACTS.write(tmp_path)
    raw = json.loads((tmp_path / "run.json").read_text())
    assert list(raw) == [
        *("schema", "method", "recipe", "caches", "captions", "epochs", "members", "sizes", "epochs_done", "best"),
        "finished",
    ]
    assert raw["schema"] == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ("[]", "an object .found a list"),
        ('{"method": "mpsm", "epochs": "3"}', "finished: Field required.*recipe: Field required.*epochs: .*found '3'"),
        (json.dumps(FACTS.to_json() | {"finished": 1}), "finished: .*found 1"),
        (json.dumps(FACTS.to_json() | {"epochs_done": True}), "epochs_done: .*found True"),
        (json.dumps(FACTS.to_json() | {"core_minutes": "3"}), "core_minutes: .*found '3'"),
        (json.dumps(FACTS.to_json() | {"sizes": {"regions": "3"}}), "sizes.regions: .*found '3'"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ItmkitError, match=rf"(?s)run\.json.*{says}"):
        RunFacts.read(tmp_path)
