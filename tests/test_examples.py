"""The notebook in examples/ runs as written, its cells one after another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import itmkit

FOLDER = Path(itmkit.__file__).parent.parent / "examples"


@pytest.mark.skipif(not FOLDER.is_dir(), reason="needs a checkout")
def test_the_notebook_draws_trains_scores_and_explains(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    notebook = json.loads((FOLDER / "explain_scenes.ipynb").read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4 and len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [], "stored without outputs"
            exec(compile("".join(cell["source"]), f"explain_scenes.ipynb, {cell['id']}", "exec"), names)
    told = capsys.readouterr().out
    assert told.count(" -> scene-") == 2 and all(word in told for word in names["found"].words.words)
    assert Path("explained.png").read_bytes().startswith(b"\x89PNG")
