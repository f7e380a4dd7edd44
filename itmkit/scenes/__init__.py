"""The made data set: pictures of simple objects with captions that are hard to match. See docs/scenes.md."""

from itmkit.scenes.grammar import scene_trees
from itmkit.scenes.make import make_scenes

__all__ = ["make_scenes", "scene_trees"]
