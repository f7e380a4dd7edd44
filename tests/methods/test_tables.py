"""The lists of methods in the docs are those of the registry."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from itmkit.errors import ItmkitError
from itmkit.matchers import METHODS
from itmkit.methods import tables

ROOT = Path(__file__).parents[2]


def test_the_lists_are_up_to_date() -> None:
    assert not tables.written(ROOT), "run: python -m itmkit.methods.tables --write"
    for entry in tables.entries():
        assert (ROOT / "docs" / entry.page).is_file()


def test_a_method_more_is_listed_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = tables.method
    toy = SimpleNamespace(SUMMARY="a toy", ABLATIONS={"without play": {}})
    monkeypatch.setitem(METHODS, "toy", "tests.toy")
    monkeypatch.setattr(tables, "method", lambda name: toy if name == "toy" else plain(name))
    stale = {path.relative_to(ROOT).as_posix(): text for path, text in tables.written(ROOT).items()}
    assert stale.keys() == tables.PAGES.keys()
    assert "| `toy` | a toy ([docs/toy.md](docs/toy.md)) |" in stale["README.md"]
    assert "| [toy](toy.md) | a toy |" in stale["docs/index.md"]
    assert "[dual](dual.md), [toy](toy.md)<!-- /methods -->" in stale["docs/train.md"]
    assert "| [toy](toy.md) | without play |" in stale["docs/ablate.md"]


def test_the_command_says_and_writes_what_is_out_of_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "docs").mkdir()
    for name in tables.PAGES:
        (tmp_path / name).write_text("before <!-- methods -->old<!-- /methods --> after")
    monkeypatch.chdir(tmp_path)
    assert tables.main([]) == 1 and "train.md: out of date" in capsys.readouterr().out
    assert tables.main(["--write"]) == 0 and tables.main([]) == 0
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("before <!-- methods -->\n| `--method`") and text.endswith("<!-- /methods --> after")
    (tmp_path / "README.md").write_text("no markers")
    with pytest.raises(ItmkitError, match=r"README.md: needs <!-- methods --> and <!-- /methods -->, once each"):
        tables.written(tmp_path)
    assert tables.main([]) == 2 and tables.main(["--wirte"]) == 2
