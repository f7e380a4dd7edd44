"""The snippets of docs/python.md run one after another as written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import itmkit
from itmkit.workspace import Workspace

PAGE = Path(itmkit.__file__).parent.parent / "docs" / "python.md"


@pytest.mark.skipif(not PAGE.is_file(), reason="needs a checkout")
def test_every_snippet_runs_as_written(
    trained: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "work").symlink_to(trained.root)
    (tmp_path / "models").symlink_to(trained.root.parent)
    for name in ("beach.jpg", "street.jpg"):
        Image.new("RGB", (120, 90), (200, 180, 160)).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    snippets = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    for number, snippet in enumerate(snippets, 1):
        exec(compile(snippet, f"python.md, snippet {number}", "exec"), names)
    told = capsys.readouterr().out
    assert "(2, 3)" in told and names["best"] in ("beach.jpg", "street.jpg", names["test"][0])
    assert told.count(" -> scene-") == 2 and "nowhere.jpg: no such file" in told and "missing.jpg" in told
    assert Path("explained.svg").is_file()
    for each in names.values():
        if hasattr(each, "close") and hasattr(each, "encode_texts"):
            each.close()
