"""What `itmkit.visible` does to text, for text and for JSON documents that go to a terminal."""

from __future__ import annotations

from itmkit.visible import NOT_SHOWN, visible

__all__ = ["visible", "visible_json"]


def visible_json(text: str) -> str:
    """The same for a JSON document with line breaks: it still means the same, since escapes stand only in strings."""
    return NOT_SHOWN.sub(lambda found: found[0] if found[0] == "\n" else _json_escape(found[0]), text)


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
