"""A report in a browser, from disk: what people do with it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from itmkit.report.html.make import Asked, make_report
from itmkit.workspace import Workspace
from tests.chromium import chromium
from tests.report.html.small import make_nasty, scores_of, write_scores

pytest.importorskip("jinja2")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


def opened(browser: Any, path: Path, faults: list[str], **context: Any) -> Any:
    page = browser.new_context(**context).new_page()
    page.set_default_timeout(20_000)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if said.type in ("error", "warning") else None)
    page.on("dialog", lambda dialog: faults.append(dialog.message))
    page.on("request", lambda asked: faults.append(asked.url) if not asked.url.startswith(("file:", "data:")) else None)
    page.goto(path.as_uri())
    return page


def wait(locator: Any) -> Any:
    """What the locator is to become; the page's policy lets nothing be evaluated there, as other ways of waiting do."""
    from playwright.sync_api import expect

    return expect(locator)


def lit(card: Any) -> list[tuple[str, ...]]:
    return [
        tuple(str(one.get_attribute(name)) for name in ("x", "y", "width", "height"))
        for one in card.locator(".shot .lit.best").all()
    ]


def test_words_switch_boxes_lists_are_filtered_and_a_phone_holds_it(
    browser: Any, trained: Workspace, tmp_path: Path
) -> None:
    home = Workspace(shutil.copytree(trained.root, tmp_path / "work"))
    path = make_report(home, Asked(runs=("mefn", "mpsm"), queries=3, out=tmp_path / "r.html")).path
    faults: list[str] = []
    page = opened(browser, path, faults, viewport={"width": 1100, "height": 800})
    data = page.evaluate("JSON.parse(document.getElementById('data').textContent)")
    card = page.locator("#captions .card").first
    query = data["queries"]["t2i"][0]
    assert data["layers"][0] == "attention" and any(name.startswith("entropy") for name in data["layers"])

    def expected(word: int, layer: str) -> list[tuple[str, ...]]:
        found = []
        for shown in query["shown"]:
            x1, y1, x2, y2 = data["regions"][shown["image"]]["boxes"][int(shown["layers"][layer][word][0][0])]
            found.append((str(x1), str(y1), str(x2 - x1), str(y2 - y1)))
        return found

    strongest = max(range(len(query["words"])), key=lambda k: query["words"][k]["importance"])
    assert card.locator(".chip[aria-pressed=true]").inner_text() == query["words"][strongest]["word"]
    assert lit(card) == expected(strongest, "attention") and len(lit(card)) == len(query["shown"]) >= 4
    for word in range(len(query["words"])):
        if word != strongest:
            card.locator(".chip").nth(word).click()
            assert lit(card) == expected(word, "attention")
    entropy = next(name for name in data["layers"] if name.startswith("entropy"))
    page.locator("#layer").select_option(entropy)
    last = len(query["words"]) - (2 if strongest == len(query["words"]) - 1 else 1)
    assert lit(card) == expected(last, entropy)
    card.locator(".chip").nth(last).click()  # no word: the strongest of all
    assert card.locator(".chip[aria-pressed=true]").count() == 0 and len(lit(card)) == len(query["shown"])
    page.locator("#layer").select_option("")
    assert lit(card) == []
    for choice, fits in (
        ("gain", lambda q: q["rank"] == 1 < q["baseline"]),
        ("wrong", lambda q: q["rank"] > 1 < q["baseline"]),
        ("", lambda q: True),
    ):
        page.locator("#captions .filter").select_option(choice)
        seen = [int(one.get_attribute("data-query")) for one in page.locator("#captions .card:visible").all()]
        assert sorted(seen) == [k for k, each in enumerate(data["queries"]["t2i"]) if fits(each)], choice
    assert page.evaluate("[...document.images].every((image) => image.naturalWidth > 0)") and not faults
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme="dark")
    for summary in page.locator("summary:visible").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 22, 24)"
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert page.locator(".controls:visible").count() == 0
    assert faults == []


def test_nasty_captions_run_nothing_and_pictures_lie_beside(browser: Any, tmp_path: Path) -> None:
    home = make_nasty(tmp_path / "work")
    files = {name: write_scores(home, tmp_path / f"{name}.h5", scores_of(k)) for k, name in enumerate("ab")}
    out = tmp_path / "a <b> #folder"
    path = make_report(home, Asked(runs=("a", "b"), scores=files, pages=True, out=out)).path
    faults: list[str] = []
    page = opened(browser, path, faults, viewport={"width": 390, "height": 844})
    image = page.locator("img:visible").first
    image.scroll_into_view_if_needed()
    wait(image).to_have_js_property("naturalWidth", 30)
    captions = {one.text_content() for one in page.locator("#captions .caption").all()}
    assert any(one.startswith("</script><script>alert(1)</script>") for one in captions)
    assert page.locator("b[onclick], img[src=x]").count() == 0
    page.locator("#images .filter").select_option("loss")
    assert "shown" in page.locator("#images .count").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert faults == []
