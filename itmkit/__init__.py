"""itmkit: image-text matching from photographs and captions to retrieval scores.

The pipeline, each stage a module and a command of the same name:

    prepare -> extract-regions -> parse-text -> build-graphs -> train -> evaluate
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from itmkit.trained import Matcher

__version__ = "0.1.0"


def open(path: Any, *, device: str | None = None, models: Any = None) -> Matcher:
    """Opens a trained matcher for new pictures and captions. See `itmkit.trained.open_matcher` and docs/python.md.

    with itmkit.open("work/runs/mpsm") as matcher:
        scores = matcher.score(["beach.jpg", "street.jpg"], ["two dogs in the snow"])  # (2, 1)
    """
    from itmkit.trained import open_matcher  # torch is loaded here, not by `import itmkit`

    return open_matcher(path, device=device, models=models)
