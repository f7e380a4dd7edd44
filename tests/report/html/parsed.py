"""A report, read as a browser reads it."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any


@dataclass
class Parsed(HTMLParser):
    """elements: (name, attributes) in order; text: what is shown; inside: {"style" or "script": [contents]}."""

    elements: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    text: str = ""
    inside: dict[str, list[str]] = field(default_factory=lambda: {"style": [], "script": []})

    def __post_init__(self) -> None:
        super().__init__()
        self._open = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))
        if tag in self.inside:
            self._open = tag
            self.inside[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == self._open:
            self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open:
            self.inside[self._open][-1] += data
        else:
            self.text += data

    def all(self, name: str, **wanted: str) -> list[dict[str, str]]:
        """The attributes of every element of a name, with these among its classes (`class_`) or attributes."""
        found = [attributes for tag, attributes in self.elements if tag == name]
        cls = wanted.pop("class_", "")
        found = [each for each in found if not cls or cls in each.get("class", "").split()]
        return [each for each in found if all(each.get(key) == value for key, value in wanted.items())]

    @property
    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.inside["script"][0])
        return found


def parsed(path: Path) -> Parsed:
    """Reads a report and checks what holds of every one: nothing runs but its script, and nothing is loaded."""
    page = Parsed()
    text = path.read_text(encoding="utf-8")
    page.feed(text)
    policy = page.all("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]
    assert policy.startswith("default-src 'none'; img-src data:") and "unsafe" not in policy
    assert [each.get("type", "") for each in page.all("script")] == ["application/json", ""]
    for source, content in (("script", page.inside["script"][1]), ("style", page.inside["style"][0])):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{source}-src 'sha256-{digest}'" in policy
    assert len(page.inside["style"]) == 1
    names = [(name, key) for name, attributes in page.elements for key in attributes]
    assert not [pair for pair in names if pair[1].startswith("on") or pair[1] in ("style", "srcset", "xlink:href")]
    assert {name for name, _ in page.elements} & {
        "iframe",
        "object",
        "embed",
        "form",
        "base",
        "audio",
        "video",
    } == set()
    addresses = [each[key] for _, each in page.elements for key in ("src", "href") if key in each]
    assert not [one for one in addresses if not one.startswith(("data:", "#", "pictures/"))]
    ids = [each["id"] for _, each in page.elements if "id" in each]
    assert len(ids) == len(set(ids))
    assert not [one for one in text if ord(one) < 32 and one != "\n"] and "\u202e" not in text
    return page
