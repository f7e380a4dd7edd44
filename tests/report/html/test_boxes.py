from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from itmkit.report.html import boxes
from itmkit.report.html.boxes import EncodesOnce
from itmkit.trained.explain import Words


def test_a_picture_is_encoded_once_unless_many_come_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boxes, "KEPT", 2)
    asked: list[str] = []

    def encode(images: list[str]) -> str:
        asked.extend(images)
        return f"{images[0]} encoded"

    matcher: Any = SimpleNamespace(members={}, weights={}, needs=None, texts=None, encode_images=encode)
    once = EncodesOnce(matcher)
    for image in ("a", "b", "a", "c", "a", "b"):
        assert once.encode_images([image]) == f"{image} encoded"  # type: ignore[comparison-overlap]
    assert asked == ["a", "b", "c", "b"]  # b was used longest ago when c came


def test_what_a_run_does_not_read_of_a_long_caption_is_told() -> None:
    words = Words(["two", "dogs"], [(0, 3), (4, 8)])
    assert boxes._unread("two dogs run far", words) == "run far"
    assert boxes._unread("two dogs .", words) == ""
