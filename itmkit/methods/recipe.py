"""The recipes of the methods: files of settings, `recipes/METHOD/RECIPE.toml`."""

from __future__ import annotations

from importlib import resources

from itmkit.errors import ItmkitError, nearest

SMALL = "small"  # the recipe that is taken where none is named


def recipes(name: str) -> list[str]:
    """Names of the recipes of a method. `small` is always there: without a file of its own it means the defaults."""
    folder = resources.files("itmkit.methods") / "recipes" / name
    files = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    return sorted({SMALL, *(file.removesuffix(".toml") for file in files if file.endswith(".toml"))})


def recipe_text(name: str, recipe: str) -> str:
    """The TOML of a recipe; empty for `small` where a method has none. Raises ItmkitError listing those there are."""
    have = recipes(name)
    if recipe not in have:
        close = nearest(recipe, have)
        raise ItmkitError(f"--recipe {recipe!r}: {name} has no such recipe; it has {', '.join(have)}{close}")
    file = resources.files("itmkit.methods") / "recipes" / name / f"{recipe}.toml"
    return file.read_text(encoding="utf-8") if file.is_file() else ""
