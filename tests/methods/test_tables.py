"""The lists of methods in the docs are those of the registry."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import pytest

from itmkit.errors import ItmkitError
from itmkit.matchers import METHODS, method
from itmkit.methods import tables

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def test_the_lists_are_up_to_date() -> None:
    assert not tables.written(ROOT), "run: python -m itmkit.methods.tables --write"
    for entry in tables.entries():
        assert (ROOT / "docs" / entry.page).is_file()


def test_a_method_more_is_listed_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = tables.method
    trial = SimpleNamespace(SUMMARY="a new one", ABLATIONS={"without play": {}})
    monkeypatch.setitem(METHODS, "trial", "tests.trial")
    monkeypatch.setattr(tables, "method", lambda name: trial if name == "trial" else plain(name))
    stale = {path.relative_to(ROOT).as_posix(): text for path, text in tables.written(ROOT).items()}
    assert stale.keys() == tables.PAGES.keys()
    assert "| `trial` | a new one ([docs/trial.md](docs/trial.md)) |" in stale["README.md"]
    assert "| [trial](trial.md) | a new one |" in stale["docs/index.md"]
    assert ", [trial](trial.md)<!-- /methods -->" in stale["docs/train.md"]
    assert "| [trial](trial.md) | without play |" in stale["docs/ablate.md"]


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


@pytest.mark.parametrize("name", [name for name in METHODS if (DOCS / f"{name}.md").is_file()])
def test_the_page_of_a_method_names_its_settings(name: str) -> None:
    table = (DOCS / f"{name}.md").read_text().partition("\n## Settings\n")[2].partition("\n## ")[0]
    options = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `--")]
    named = {word.replace("-", "_") for option in options for word in re.findall(r"`--([a-z0-9-]+)`", option)}
    assert named == {setting.name for setting in fields(method(name).Config)}
