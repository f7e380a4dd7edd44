"""What is to be drawn, what was drawn, and what a figure is called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from itmkit.errors import ItmkitError
from itmkit.report.colours import Colours
from itmkit.report.figure import MOST
from itmkit.typed import read_strict_json
from itmkit.workspace import Workspace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SINGLE = "single"
NAMELESS = ("csv", "jsonl", "karpathy", "scan", "hand-made", "unknown")  # kinds that say nothing of what it is


@dataclass(frozen=True)
class Choice:
    """What to draw of.

    Attributes:
        runs: which; all that have what is drawn where none is named.
        split: of evaluations and comparisons.
        comparison: the prefix of an `itmkit compare`.
        figure: of that comparison: rsum, "i2t R@1", ...
        members: with the single members of ensembles. Figures over epochs have them in any case.
        labels: how many, those with the most queries.
        by: what is right for a query: its own captions or image, or what shares a label with it.
        scores: files of `itmkit evaluate --save-scores`, in place of those in the folders of runs.
        images, captions: queries; or the picture and the caption that are explained. A caption is an id or a text.
        queries: how many are drawn by lot in each direction where none is named. seed: of the lot.
        best: how many finds of a query are shown.
        device, models: of a matcher that explains, see `itmkit.trained.open_matcher`.
        kept: what several figures of one command share, by its name.
    """

    colours: Colours
    runs: Sequence[str] = ()
    split: str = "test"
    comparison: str = "compare"
    figure: str = "rsum"
    members: bool = False
    labels: int = 20
    by: Literal["own", "labels"] = "own"
    scores: Sequence[Path] = ()
    images: Sequence[str] = ()
    captions: Sequence[str] = ()
    queries: int = 3
    seed: int = 0
    best: int = 5
    device: str | None = None
    models: Mapping[str, str] = field(default_factory=dict)
    kept: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Drawing:
    """A figure, the name of its file without ending, and its series by the names that it shows."""

    what: str
    name: str
    title: str
    series: list[str]
    figure: Figure


def data_name(workspace: Workspace) -> str:
    """What the data set is called: by its kind (flickr8k, scenes, ...), where that says nothing by the workspace."""
    path = workspace.dataset_info_path
    info = read_strict_json(path) if path.exists() else {}
    kind = info.get("kind") if isinstance(info, dict) else None
    return kind if isinstance(kind, str) and kind not in NAMELESS else workspace.root.resolve().name


def titled(split: str, images: dict[str, str], kinds: dict[str, str]) -> tuple[str, dict[str, str]]:
    """A title, and {name: name in the figure}: what all have in common stands in the title, what differs in the names.

    Args:
        images: {name: how many in words}. kinds: {name: "single" or "ensemble of N"}.
    """
    if len(images) > MOST:
        raise ItmkitError(
            f"{len(images)} series: more than {MOST} cannot be told apart in a figure; name some with --run"
        )
    parts, suffixes = [split], dict.fromkeys(images, "")
    for facts, several in ((images, "different numbers of images"), (kinds, "singles and ensembles")):
        same = set(facts.values())
        parts.append(next(iter(same)) if len(same) == 1 else several)
        if len(same) > 1:
            suffixes = {name: f"{said}, {facts[name]}" if said else facts[name] for name, said in suffixes.items()}
    return ", ".join(parts), {name: f"{name} ({said})" if said else name for name, said in suffixes.items()}
