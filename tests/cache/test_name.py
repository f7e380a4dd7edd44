"""The names of caches, taken apart."""

from __future__ import annotations

import pytest

from itmkit.cache.name import PIPELINE, CacheName, is_patches, vectors_cache, words_cache


@pytest.mark.parametrize(
    ("text", "parts", "command", "base", "reads"),
    [
        ("regions", ("regions", "", ""), "extract-regions", None, "images"),
        ("text", ("text", "", ""), "parse-text", None, "captions"),
        ("graphs/images", ("graphs", "", "images"), "build-graphs", "regions", "images"),
        ("graphs/texts", ("graphs", "", "texts"), "build-graphs --only texts", "text", "captions"),
        ("patches", ("patches", "patches", ""), "extract-patches", None, "images"),
        ("dinov2-b.14", ("patches", "dinov2-b.14", ""), "extract-patches --cache dinov2-b.14", None, "images"),
        ("vectors-clip/images", ("vectors", "clip", "images"), "embed --cache clip", None, "images"),
        ("vectors-a-b/texts", ("vectors", "a-b", "texts"), "embed --cache a-b", None, "captions"),
        ("words-bert/texts", ("words", "bert", "texts"), "encode-text --cache bert", "text", "captions"),
        ("words-bert/tags", ("words", "bert", "tags"), "encode-text --cache bert", "regions", "images"),
    ],
)
def test_a_name_is_taken_apart(
    text: str, parts: tuple[str, str, str], command: str, base: str | None, reads: str
) -> None:
    name = CacheName.of(text)
    assert (name.kind, name.name, name.side) == parts and str(name) == text
    assert (name.command, name.base, name.reads) == (command, base, reads)
    assert not name.is_open and name.is_named == (text not in PIPELINE)


@pytest.mark.parametrize(
    "text",
    ["", "graphs", "graphs/tags", "regions/images", "dinov2/images", "vectors-clip", "words-b/images", ".a", "a b"],
)
def test_names_that_no_stage_makes(text: str) -> None:
    assert CacheName.known(text) is None and not is_patches(text)
    with pytest.raises(ValueError, match="unknown cache"):
        CacheName.of(text)


def test_names_that_the_user_has_not_chosen_yet() -> None:
    assert CacheName.of(words_cache("", "texts")).is_open and CacheName.of(vectors_cache("", "images")).is_open
    assert str(CacheName("vectors", "clip")) == "vectors-clip"
    assert is_patches("patches") and is_patches("vit") and not is_patches("regions") and not is_patches("words-b/texts")
