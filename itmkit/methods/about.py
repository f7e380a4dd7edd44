"""What `itmkit methods NAME` tells of a method: settings, caches, recipes, what its papers report."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, get_args, get_type_hints

from itmkit.cache.command import command_of
from itmkit.cache.name import CacheName
from itmkit.matchers import METHODS, method, preset
from itmkit.methods.recipe import recipe_text, recipes
from itmkit.methods.reported import Reported, reported
from itmkit.stages import cache_state
from itmkit.workspace import Workspace

SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


@dataclass(frozen=True)
class Setting:
    """One setting. values: what it may be, in words."""

    name: str
    default: Any
    values: str
    says: str

    @property
    def option(self) -> str:
        return f"--{self.name.replace('_', '-')}"


@dataclass(frozen=True)
class Cache:
    """A cache that the method reads. state: that of the workspace, "" without one."""

    name: str
    command: str
    state: str = ""


@dataclass(frozen=True)
class About:
    name: str
    says: str
    members: dict[str, float]
    settings: list[Setting]
    caches: list[Cache]
    recipes: dict[str, str]
    reported: list[Reported]


def about(name: str, workspace: Workspace | None = None) -> About:
    """Everything about a method, with its settings at their defaults.

    Args:
        workspace: whose caches are looked at.

    Raises:
        ItmkitError: no such method.
    """
    module = method(name)
    config = module.Config(**preset(name))
    return About(
        name=name,
        says=headline(name),
        members=dict(module.members(config)),
        settings=[_setting(module.Config, field.name, getattr(config, field.name)) for field in fields(module.Config)],
        caches=[_cache(cache, workspace) for cache in module.needs(config).caches],
        recipes={recipe: _purpose(name, recipe) for recipe in recipes(name)},
        reported=reported(name),
    )


def headline(name: str) -> str:
    """The first line of a method's module; of a preset, the settings by which it differs from that method."""
    line = (method(name).__doc__ or "").strip().splitlines()[0]
    chosen = preset(name)
    if not chosen:
        return line
    base = METHODS[name].rpartition(".")[2]
    return f"{base} with " + ", ".join(f"{setting} {_written(value)}" for setting, value in chosen.items())


def _setting(kind: Any, name: str, default: Any) -> Setting:
    info = kind.__dataclass_fields__[name].default  # pydantic's FieldInfo
    hint = get_type_hints(kind)[name]
    limits = [f"{sign} {getattr(m, key):g}" for m in info.metadata for key, sign in SIGNS.items() if hasattr(m, key)]
    return Setting(name, default, _values(hint, limits), info.description)


def _values(hint: Any, limits: list[str]) -> str:
    if hint is bool:
        return "true, false"
    if get_args(hint):  # a Literal
        return ", ".join(str(value) for value in get_args(hint))
    if hint is str:
        return "a name"
    return ", ".join(limits) or "a number"


def _cache(name: str, workspace: Workspace | None) -> Cache:
    """A cache whose name the user chooses ("words-/texts") is done where any of its kind is."""
    cache = CacheName.of(name)
    if not cache.is_open:
        command = f"itmkit {command_of(cache, None, {})}"
        if workspace is None:
            return Cache(name, command)
        state = cache_state(workspace, name, workspace.dataset_facts() if workspace.dataset_path.exists() else None)
        return Cache(name, state.command or command, state.state)
    shown, command = str(replace(cache, name="NAME")), f"itmkit {cache.stage} --model MODEL"
    if workspace is None:
        return Cache(shown, command)
    like = [str(one) for one in workspace.named_caches() if (one.kind, one.side) == (cache.kind, cache.side)]
    states = [_cache(one, workspace) for one in like]
    done = [state for state in states if state.state == "done"]
    return (done or states or [Cache(shown, command, "missing")])[0]


def _purpose(name: str, recipe: str) -> str:
    """The first sentence of a recipe's comment; a recipe without one is told to be the defaults."""
    lines = []
    for line in recipe_text(name, recipe).splitlines():
        if not line.startswith("# "):
            break
        lines.append(line[2:])
    return " ".join(lines).partition(". ")[0].rstrip(".:") or "the defaults"


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
