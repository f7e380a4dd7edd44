"""The made data set: pictures of simple objects with captions that are hard to match. See docs/scenes.md."""

from itmkit.datasets.scenes.grammar import scene_trees

__all__ = ["scene_trees"]
