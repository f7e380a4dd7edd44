"""The page in a browser: what people do with it."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.chromium import chromium
from tests.serve.conftest import ODD_CAPTION, ODD_ID, Site

QUERY = "a small red dog left of the car"
NAMELESS = """() => [...document.querySelectorAll('button, input, a, summary, [role=button], [tabindex]')]
  .filter((each) => each.checkVisibility() && !(each.getAttribute('aria-label') || each.textContent.trim()
    || each.labels?.[0]?.textContent.trim())).map((each) => each.outerHTML)"""
DROP = """([name, type, data]) => {
  const bytes = Uint8Array.from(atob(data), (each) => each.charCodeAt(0)), carried = new DataTransfer();
  carried.items.add(new File([bytes], name, {type}));
  for (const kind of ['dragenter', 'dragover', 'drop'])
    document.body.dispatchEvent(new DragEvent(kind, {dataTransfer: carried, bubbles: true, cancelable: true}));
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture
def page(browser: Any, site: Site) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1100, "height": 800}, base_url=site.url)
    page, faults = context.new_page(), []
    page.set_default_timeout(20_000)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if said.type in ("error", "warning") else None)
    yield page
    context.close()
    # An answer with an error is one to the console, too; the policy of content would be told there as well.
    assert [fault for fault in faults if "Failed to load resource" not in fault] == []


def wait(locator: Any) -> Any:
    """What the locator is to become; the page's policy lets nothing be evaluated there, as other ways of waiting do."""
    from playwright.sync_api import expect

    return expect(locator)


def spots(page: Any) -> list[str]:
    """The lit region of every result that has one."""
    shown = page.locator("#results .lit").all()
    return ["".join(str(one.get_attribute(name)) + " " for name in ("x", "y", "width", "height")) for one in shown]


def searched(page: Any, query: str = QUERY) -> None:
    page.goto(f"/?q={query}")
    wait(page.locator(".result").first.locator(".lit")).to_be_visible()


def drop(page: Any, name: str, kind: str, data: bytes) -> None:
    page.evaluate(DROP, [name, kind, base64.b64encode(data).decode()])


def test_search_words_order_and_address(page: Any, site: Site) -> None:
    page.goto("/")
    assert "14 images" in page.locator(".facts").inner_text()
    page.get_by_label("Describe a picture").fill(QUERY)
    page.get_by_role("button", name="Search", exact=True).click()
    wait(page.locator(".result").first.locator(".lit")).to_be_visible()
    assert re.search(r"\?q=a\+small\+red\+dog", page.url)
    answer = site.ask("/api/search", q=QUERY).json()
    shown = [one.get_attribute("data-image") for one in page.locator(".result").all()]
    assert shown == [one["image"] for one in answer["results"]]
    strongest = max(range(8), key=lambda word: answer["words"][word]["importance"])
    pressed = page.locator("#chips .chip[aria-pressed=true]")
    assert pressed.inner_text() == QUERY.split()[strongest]
    assert "did not see “dog”" in page.locator("#status").inner_text()
    explained = site.ask("/api/explain", image=shown[0], q=QUERY).json()

    def lit(word: int) -> str:
        weights = explained["attention"][word]
        x1, y1, *_ = explained["regions"][weights.index(max(weights))]["box"]
        return f"{x1:g} {y1:g} "

    other = next(word for word in range(8) if lit(word) != lit(strongest))
    assert spots(page)[0].startswith(lit(strongest))
    page.locator("#chips .chip").nth(other).click()
    assert spots(page)[0].startswith(lit(other))
    page.get_by_label("Candidates").check(force=True)
    wait(page.locator("#status")).to_contain_text("nearest by one vector")
    by_vector = site.ask("/api/search", q=QUERY, order="candidates").json()["results"]
    assert page.locator(".result").first.get_attribute("data-image") == by_vector[0]["image"]
    marks = {"▲": "up", "▼": "down", "=": "unchanged"}
    change = page.locator(".result .marks").first.locator("span").nth(1)
    assert change.get_attribute("aria-label").startswith(marks[change.inner_text()[0]])
    assert "order=candidates" in page.url
    page.go_back()
    wait(page.locator("#status")).to_contain_text("by the matcher")
    page.locator("#tree summary").click()
    assert "dog: root" in page.locator("#tree svg").get_attribute("aria-label")
    assert page.evaluate(NAMELESS) == []


def test_a_tree_of_many_arcs_within_each_other_is_drawn_at_once(page: Any, site: Site) -> None:
    answer = site.ask("/api/search", q=QUERY).json()
    word = {"start": 0, "end": 1, "importance": 0.0, "head": 0, "relation": "conj"}
    answer["words"] = [{"word": f"w{k}", **word} for k in range(48)]  # the arc of each spans those of all before it
    page.route("**/api/search?*", lambda route: route.fulfill(json=answer))
    page.goto(f"/?q={QUERY}")
    page.locator("#tree summary").click()
    assert page.locator("#tree path:not(.head)").count() == 47
    assert page.locator("#tree svg").get_attribute("height") == str(14 + 26 * 47 + 28)


def test_a_query_is_shown_in_the_direction_of_its_words(page: Any, site: Site) -> None:
    answer = site.ask("/api/search", q=QUERY).json()
    answer["words"] = [{**answer["words"][k], "word": word} for k, word in enumerate(("שני", "כלבים", "רצים"))]
    for word in answer["words"]:
        word["head"] = 1
    page.route("**/api/search?*", lambda route: route.fulfill(json=answer))
    page.goto(f"/?q={QUERY}")
    page.locator("#tree summary").click()
    for shown in ("#chips .chip", "#tree text:not(.relation)"):
        places = [one.bounding_box()["x"] for one in page.locator(shown).all()]
        assert len(places) == 3 and places == sorted(places, reverse=True), shown


def test_captions_and_names_are_text(page: Any, site: Site) -> None:
    searched(page, "a red car")
    next(one for one in page.locator(".result").all() if one.get_attribute("data-image") == ODD_ID).click()
    page.wait_for_selector("#one .asker img")
    assert page.locator("#one-name").inner_text() == ODD_ID
    assert page.locator("#one .asker img").evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    page.keyboard.press("Escape")
    other = site.workspace.dataset().images[0].id
    next(one for one in page.locator(".result").all() if one.get_attribute("data-image") == other).click()
    page.wait_for_selector("#one-captions li")
    assert page.locator("#one-captions li").first.text_content() == ODD_CAPTION
    assert page.locator("img[src=x]").count() == 0 and page.title() != "1"


def test_by_keyboard_alone(page: Any) -> None:
    searched(page)
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "query"
    page.keyboard.type("a blue boat")
    page.keyboard.press("Enter")
    wait(page.locator("#status")).to_contain_text("14 pictures")
    wait(page.locator("#chips .chip").nth(1)).to_have_text("blue")
    at = "[...document.querySelectorAll('.result')].indexOf(document.activeElement)"
    for key, expected in (("ArrowDown", 0), ("ArrowRight", 1), ("ArrowDown", 5), ("ArrowLeft", 4), ("End", 13)):
        page.keyboard.press(key)
        assert page.evaluate(at) == expected, key
    page.keyboard.press("Enter")
    page.wait_for_selector("#one[open] .region")
    assert page.evaluate(NAMELESS) == []
    page.keyboard.press("Escape")
    assert page.locator("#one[open]").count() == 0 and page.evaluate(at) == 13


def test_a_dropped_picture_its_regions_and_a_drawn_box(page: Any, site: Site) -> None:
    page.goto("/")
    drop(page, "<b>.jpg", "image/jpeg", site.picture())
    wait(page.locator("#status")).to_have_text("14 pictures like this one.")
    first = site.workspace.dataset().images[0].id
    assert page.locator(".result").first.get_attribute("data-image") == first
    assert page.url == site.url  # a picture of one's own has no address
    regions = page.locator("#given .region")
    assert regions.count() == 6
    smallest = regions.last
    smallest.focus()
    page.keyboard.press("Enter")
    wait(page.locator("#status")).to_contain_text("with a region like")
    assert page.locator("#results .lit").count() == 14
    page.get_by_role("button", name="The whole picture").click()
    wait(page.locator("#status")).to_have_text("14 pictures like this one.")
    frame = page.locator("#given .asker svg").bounding_box()
    page.mouse.move(frame["x"] + 3, frame["y"] + 3)
    page.mouse.down()
    page.mouse.move(frame["x"] + frame["width"] - 3, frame["y"] + frame["height"] - 3, steps=3)
    page.mouse.up()
    wait(page.locator("#status")).to_contain_text("with a region like")
    page.goto(f"/?like={first}&region=1")
    page.wait_for_selector("#given .lit")
    assert page.locator(".result").first.get_attribute("data-image") == first


def test_errors_are_told_and_the_page_goes_on(page: Any, site: Site) -> None:
    page.goto("/?like=nothing")
    page.get_by_role("alert").wait_for()
    assert "none of the id 'nothing'" in page.get_by_role("alert").inner_text()
    drop(page, "a.jpg", "image/jpeg", b"no picture")
    wait(page.locator("#error")).to_contain_text("cannot be read")
    drop(page, "a.txt", "text/plain", b"no picture")
    wait(page.locator("#error")).to_have_text("a.txt: is not a picture.")
    page.keyboard.press("/")
    page.keyboard.type("a red car")
    page.keyboard.press("Enter")
    page.wait_for_selector(".result")
    assert page.get_by_role("alert").count() == 0
    changed = site.workspace.dataset().images[2].id
    lost = next(one for one in page.locator(".result").all() if one.get_attribute("data-image") == changed)
    lost.scroll_into_view_if_needed()
    lost.locator(".picture.none").wait_for()


def test_on_a_phone_nothing_lies_beside_the_screen(browser: Any, site: Site) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark", base_url=site.url)
    page = context.new_page()
    page.set_default_timeout(20_000)
    wide = "[document.documentElement.scrollWidth, document.querySelector('#one').scrollWidth]"
    page.goto("/")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    searched(page, "a_very_long_word_without_an_end_" * 3 + " left of the small red car with a big yellow ring")
    page.locator("#tree summary").click()
    page.locator(".result").first.click()
    page.wait_for_selector("#one .region")
    assert max(page.evaluate(wide)) <= 390
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 22, 24)"
    context.close()
