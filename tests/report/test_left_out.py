from __future__ import annotations

from pathlib import Path

from itmkit.report.left_out import left_out
from tests.report import files
from tests.workspaces import make_dataset, make_run


def test_every_run_that_is_not_drawn_is_named(tmp_path: Path) -> None:
    workspace = make_dataset(tmp_path)
    for name in ("one", "plain", "raw"):
        make_run(workspace, name)
    (workspace.run("raw") / "metrics.jsonl").unlink()
    files.evaluation(workspace, "one", [files.result("one", 20)])
    files.evaluation(workspace, "plain", [files.result("plain", 20, asked=False)])
    assert left_out(workspace, ["epochs", "cmc", "compare"], "val") == [
        "epochs: without raw, which has finished no epoch",
        "cmc: without plain, which has no curves of split val; run `itmkit evaluate --run plain --split val --curves`",
        "cmc: without raw, which has no curves of split val; run `itmkit evaluate --run raw --split val --curves`",
    ]
