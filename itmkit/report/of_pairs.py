"""Figures of one image and one caption of a trained run: what the method computes between the two."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from itmkit.errors import ItmkitError
from itmkit.evaluation.protocols import images_of, protocol
from itmkit.report import pairs
from itmkit.report.choice import Choice, Drawing
from itmkit.report.explained import has_boxes
from itmkit.runs.facts import run_folder
from itmkit.trained import Explanation, Matcher, open_matcher
from itmkit.workspace import Workspace

OF_PAIRS = ("attention", "entropy", "edges", "blocks")
# What a run must have, in words.
_NEEDS = {
    "attention": "attention of words to regions whose places are known",
    "entropy": "entropies of regions and words, as MEFN has them",
    "edges": "edges both ways between words and regions, as CMFG has them",
    "blocks": "attention of regions to blocks of the picture, as GLFN and PFAN have it",
}
_SAYS = {
    "attention": "what each word looks at, and how much the score falls without it",
    "entropy": "entropy of regions and words, low where they fit",
    "edges": "edges between words and regions",
    "blocks": f"the {pairs.BLOCKS} blocks that each region attends to most",
}
_FIGURES = {"attention": pairs.attention, "entropy": pairs.entropy, "edges": pairs.edges}


@dataclass(frozen=True)
class Pair:
    """An explanation, and what belongs to it.

    Attributes:
        run, method: names. blocks: as of `Matcher.block_attention`.
        picture: None where it is not to be had.
    """

    run: str
    method: str
    found: Explanation
    blocks: dict[str, np.ndarray]
    picture: Image.Image | None

    def able(self) -> list[str]:
        """Names of the figures that can be drawn of it."""
        quantities = self.found.quantities.values()
        both = {"words_to_regions", "regions_to_words"}
        there = {
            "attention": self.found.attention is not None and has_boxes(self.found),
            "entropy": any("entropy" in each for each in quantities),
            "edges": any(both <= each.keys() for each in quantities),
            "blocks": bool(self.blocks),
        }
        return [name for name in OF_PAIRS if there[name]]


def draw(what: str, workspace: Workspace, choice: Choice) -> Drawing:
    """One of `OF_PAIRS`.

    Raises:
        ItmkitError: several runs, images or captions are named; the run computes nothing of the kind.
    """
    pair = _pair(workspace, choice, what)
    title = f"{_SAYS[what]}: {pair.found.image}, {pair.run}, score {pair.found.score:.3f}"
    if what == "blocks":
        figure = pairs.blocks(pair.found, pair.blocks, title, pair.picture)
    else:
        figure = _FIGURES[what](pair.found, title, pair.picture)
    return Drawing(what, f"{what}-{pair.run}", title, [pair.run], figure)


def _pair(workspace: Workspace, choice: Choice, what: str) -> Pair:
    """The pair that is drawn, explained once for all figures of a command."""
    if "pair" not in choice.kept:
        choice.kept["pair"] = _explained(workspace, choice)
    pair: Pair = choice.kept["pair"]
    able = pair.able()
    if what not in able:
        can = f"{', '.join(able)} can be drawn" if able else f"none of {', '.join(OF_PAIRS)} can be drawn"
        raise ItmkitError(f"{what}: needs {_NEEDS[what]}; of {pair.run}, a run of {pair.method}, {can}")
    return pair


def _explained(workspace: Workspace, choice: Choice) -> Pair:
    several = (("--run", choice.runs), ("--image", choice.images), ("--caption", choice.captions))
    if problems := [
        f"{option}: {len(given)} are named, and {', '.join(OF_PAIRS)} are of one"
        for option, given in several
        if len(given) > 1
    ]:
        raise ItmkitError(problems)
    folder = run_folder(workspace, choice.runs[0] if choice.runs else None)
    image, caption = _image_and_caption(workspace, choice)
    with open_matcher(folder, device=choice.device, models=choice.models) as matcher:
        return Pair(
            matcher.name,
            matcher.method,
            matcher.explain(image, caption),
            matcher.block_attention(image),
            _picture(matcher, image),
        )


def _image_and_caption(workspace: Workspace, choice: Choice) -> tuple[str, str]:
    """An image of the split by lot where none is named, and its first caption where none is."""
    dataset = workspace.dataset()
    records = {record.id: record for record in dataset.images}
    captions = {caption.id: caption.text for record in dataset.images for caption in record.captions}
    if choice.images:
        image = choice.images[0]
    else:
        split = images_of(protocol(choice.split), dataset)
        image = split[int(np.random.default_rng(choice.seed).integers(len(split)))].id
    if choice.captions:
        return image, captions.get(choice.captions[0], choice.captions[0])
    if image not in records or not records[image].captions:
        raise ItmkitError(
            f"--image {image}: is no image of this data set with a caption; name the caption with --caption"
        )
    return image, records[image].captions[0].text


def _picture(matcher: Matcher, image: str) -> Image.Image | None:
    """None where it is not to be had, while its regions are in a cache: the figure is grey there."""
    try:
        return matcher.picture(image)
    except ItmkitError:
        return None
