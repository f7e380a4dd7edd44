"""The names of caches, taken apart: a cache's kind, the command that makes it, and what it is made from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["regions", "text", "graphs", "patches", "vectors", "words"]

# What the second part of a cache's name may be.
SIDES: dict[Kind, tuple[str, ...]] = {
    "graphs": ("images", "texts"),
    "vectors": ("images", "texts"),
    "words": ("texts", "tags"),
}
SCAN_TEXT = "text-scan"  # of `itmkit parse-text --parser scan`
PIECES_TEXT = "text-wordpiece"  # of `itmkit parse-text --parser wordpiece`
PUBLISHED_TEXTS = {"scan": SCAN_TEXT, "wordpiece": PIECES_TEXT}  # words as published code makes them, without trees
_FOLDER = re.compile(r"[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class CacheName:
    """The folder of a cache below `caches/`, as one thing instead of a text.

        regions, text
        text-scan, text-wordpiece                 words as published code makes them, without trees
        graphs/images, graphs/texts
        patches, dinov2                           any plain folder name that no other stage uses
        vectors-clip/images, vectors-clip/texts
        words-bert/texts, words-bert/tags

    Attributes:
        name: what the user chose ("dinov2", "clip", "bert"); empty for vectors and words whose name is still open.
        side: "images", "texts" or "tags"; empty for a kind without sides, and for both sides together.
    """

    kind: Kind
    name: str = ""
    side: str = ""

    @classmethod
    def known(cls, text: str) -> CacheName | None:
        """The cache of this name; None where no stage makes one."""
        folder, _, side = text.partition("/")
        kind, dash, name = folder.partition("-")
        if dash and kind in ("vectors", "words"):
            found = cls(kind, name, side)  # type: ignore[arg-type]
        elif folder in ("regions", "text", "graphs"):
            found = cls(folder, "", side)  # type: ignore[arg-type]
        elif folder in PUBLISHED_TEXTS.values():
            found = cls("text", name, side)
        elif _FOLDER.fullmatch(folder):
            found = cls("patches", folder, side)
        else:
            return None
        sides = SIDES.get(found.kind, ("",))
        return found if side in sides and str(found) == text else None

    @classmethod
    def of(cls, text: str) -> CacheName:
        """The cache of this name. Raises ValueError where no stage makes one."""
        found = cls.known(text)
        if found is None:
            raise ValueError(f"unknown cache {text!r}")
        return found

    def __str__(self) -> str:
        named = {"patches": self.name, "vectors": f"vectors-{self.name}", "words": f"words-{self.name}"}
        named["text"] = f"text-{self.name}" if self.name else "text"
        folder = named.get(self.kind, self.kind)
        return f"{folder}/{self.side}" if self.side else folder

    @property
    def is_open(self) -> bool:
        """Whether it lacks the name that the user chooses: "words-/texts"."""
        return self.kind in ("vectors", "words") and not self.name

    @property
    def is_named(self) -> bool:
        """Whether there may be several of its kind, told apart by a name of the user's."""
        return self.kind in ("patches", "vectors", "words") or (self.kind == "text" and bool(self.name))

    @property
    def stage(self) -> str:
        """The command that makes it, alone."""
        stages: dict[Kind, str] = {
            "regions": "extract-regions",
            "text": "parse-text",
            "graphs": "build-graphs",
            "patches": "extract-patches",
            "vectors": "embed",
            "words": "encode-text",
        }
        return stages[self.kind]

    @property
    def command(self) -> str:
        """The command that makes or continues it, without "itmkit"."""
        if self.kind == "text" and self.name:
            return f"{self.stage} --parser {self.name}" + (" --model vocab.txt" if self.name == "wordpiece" else "")
        if str(self) == "graphs/texts":
            return f"{self.stage} --only texts"  # those of images need boxes, and may have settings of their own
        default = not self.is_named or (self.kind, self.name) == ("patches", "patches")
        return self.stage if default else f"{self.stage} --cache {self.name}"

    @property
    def base(self) -> str | None:
        """The cache from which it is computed. It is of no use until that one is done."""
        if self.kind == "graphs":
            return "regions" if self.side == "images" else "text"
        if self.kind == "words":
            return "regions" if self.side == "tags" else "text"
        return None

    @property
    def reads(self) -> Literal["images", "captions"]:
        """The part of the data set it is made from, directly or by way of `base`."""
        return "captions" if self.kind == "text" or self.side == "texts" else "images"

    @property
    def grows(self) -> bool:
        """Whether its stage goes on with what was added at the end of the data set, instead of making it anew."""
        return self.kind in ("regions", "patches", "vectors")


# The caches that every workspace has, in the order of the pipeline.
PIPELINE = ("regions", "text", "graphs/images", "graphs/texts")


def is_patches(text: str) -> bool:
    """Whether a cache of extract-patches may have this name."""
    found = CacheName.known(text)
    return found is not None and found.kind == "patches"


def words_cache(name: str, side: Literal["texts", "tags"]) -> str:
    """The cache of encode-text of this name."""
    return str(CacheName("words", name, side))


def vectors_cache(name: str, side: Literal["images", "texts"]) -> str:
    """The cache of embed of this name."""
    return str(CacheName("vectors", name, side))
