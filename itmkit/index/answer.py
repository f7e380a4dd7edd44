"""An answer to a query as commands and pages show it: hits with their files, a title, and what the user should know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from itmkit.dataset import ImageRecord
from itmkit.errors import ItmkitError
from itmkit.index.search import CaptionHit, Hit, Searcher
from itmkit.workspace import Workspace


@dataclass(frozen=True)
class Answer:
    """What was found.

    Attributes:
        title, captions_title: what the hits, and the captions, are.
        records: image id -> what the data set knows of the hits; images that it lost are missing.
        unknown: words of the query that training did not know; notes: what the user should know, in words.
    """

    kind: Literal["text", "image", "region"]
    query: str
    run: str
    images: int
    rerank: int
    title: str
    hits: list[Hit]
    records: dict[str, ImageRecord]
    captions: list[CaptionHit] = field(default_factory=list)
    captions_title: str = ""
    unknown: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def file_of(self, hit: Hit) -> Path | str:
        """The picture's file as the data set names it; "" where only features were imported."""
        record = self.records.get(hit.image)
        return Path(record.file) if record is not None and record.file else ""

    def to_json(self) -> dict[str, Any]:
        facts = {name: getattr(self, name) for name in ("kind", "query", "run", "images", "rerank", "unknown", "notes")}
        hits = [_without(asdict(hit), "position") | {"file": str(self.file_of(hit)) or None} for hit in self.hits]
        return facts | {"hits": hits, "captions": [_without(asdict(hit), "position") for hit in self.captions]}


def answer_text(workspace: Workspace, searcher: Searcher, query: str, *, count: int, rerank: int) -> Answer:
    """The images that belong to a few words. See `Searcher.text`."""
    hits = searcher.text(query, count=count, rerank=rerank)
    unknown = searcher.unknown(query)
    notes = []
    if unknown:
        notes.append(
            f"training did not know {', '.join(unknown)}: the matcher reads {'it' if len(unknown) == 1 else 'each'} as"
            " an unknown word"
        )
    images = searcher.store.images_side.alive
    title = f"{query}: {_of(hits, images)}, {_stages(searcher, min(rerank, images))}"
    return Answer(
        "text",
        query,
        searcher.matcher.name,
        images,
        rerank,
        title,
        hits,
        _records(workspace, hits),
        unknown=unknown,
        notes=notes,
    )


def answer_image(workspace: Workspace, searcher: Searcher, image: str, *, count: int, rerank: int) -> Answer:
    """The images like a picture, and the captions of the workspace that belong to it. See `Searcher.image`."""
    hits = searcher.image(image, count=count)
    store, captions, notes = searcher.store, list[CaptionHit](), list[str]()
    if store.captions_side.alive:
        captions = searcher.captions(image, count=count, rerank=rerank)
    else:
        notes.append("the index has no captions; `itmkit parse-text` and then `itmkit index --add` bring them in")
    images = store.images_side.alive
    scored = _stages(searcher, min(rerank, store.captions_side.alive))
    return Answer(
        "image",
        image,
        searcher.matcher.name,
        images,
        rerank,
        f"pictures like {image}: {_of(hits, images)}, by one vector an image",
        hits,
        _records(workspace, hits),
        captions=captions,
        captions_title=f"captions of {image}: {len(captions)} of {store.captions_side.alive:,}, {scored}",
        notes=notes,
    )


def answer_region(workspace: Workspace, searcher: Searcher, region: str, *, count: int) -> Answer:
    """The images with a region like one of an image of the index. See `Searcher.region`.

    Args:
        region: ID:NUMBER.
    """
    image, colon, number = region.rpartition(":")
    if not colon or not image or not number.isdecimal():
        raise ItmkitError(
            f"--region {region}: is written ID:NUMBER, such as 1012212859.jpg:3; `itmkit inspect --image ID` lists the"
            " regions of an image"
        )
    hits = searcher.region(image, int(number), count=count)
    images = searcher.store.images_side.alive
    title = f"pictures with a region like {region}: {_of(hits, images)}, by the cosine of their most similar region"
    return Answer("region", region, searcher.matcher.name, images, 0, title, hits, _records(workspace, hits))


def _of(hits: Sequence[Hit], images: int) -> str:
    return f"{len(hits)} of {images:,} images"


def _stages(searcher: Searcher, scored: int) -> str:
    engine = "" if searcher.store.facts.engine == "exact" else f" ({searcher.store.facts.engine})"
    return (
        f"the best {scored:,} candidates{engine} scored by {searcher.matcher.name}" if scored else f"candidates{engine}"
    )


def _records(workspace: Workspace, hits: Sequence[Hit]) -> dict[str, ImageRecord]:
    if not workspace.dataset_path.is_file():
        return {}
    wanted = {hit.image for hit in hits}
    return {image.id: image for image in workspace.dataset().images if image.id in wanted}


def _without(record: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key != name}
