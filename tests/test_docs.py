"""The site of docs/ builds: every page has its place, and no link or anchor leads nowhere."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

import itmkit
from tests.logs import logged

CONFIG = Path(itmkit.__file__).parent.parent / "mkdocs.yml"
mkdocs_config = pytest.importorskip("mkdocs.config")


def build(docs: Path, site: Path) -> list[str]:
    """What the build warns of; the site lies in `site` then."""
    from mkdocs.commands.build import build as build_site

    with logged("mkdocs", logging.WARNING) as lines:
        build_site(mkdocs_config.load_config(str(CONFIG), docs_dir=str(docs), site_dir=str(site), strict=False))
    return lines


@pytest.mark.skipif(not CONFIG.is_file(), reason="needs a checkout")
def test_the_site_has_every_page_and_no_dead_link(tmp_path: Path) -> None:
    docs, site = CONFIG.parent / "docs", tmp_path / "site"
    assert build(docs, site) == []
    assert {path.stem for path in docs.glob("*.md")} <= {path.stem for path in site.glob("*.html")}
    assert "unpkg.com" not in (site / "index.html").read_text()  # nothing is loaded from elsewhere


@pytest.mark.skipif(not CONFIG.is_file(), reason="needs a checkout")
def test_a_dead_link_and_a_page_without_a_place_are_noticed(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "index.md").write_text("# itmkit\n\n[gone](gone.md) [no such part](index.md#gone)\n")
    (docs / "lost.md").write_text("# lost\n")
    found = "\n".join(build(docs, tmp_path / "site"))
    assert "'gone.md'" in found and "#gone" in found and "lost.md" in found
