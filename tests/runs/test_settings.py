from __future__ import annotations

import math
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from itmkit.errors import ItmkitError
from itmkit.matchers import METHODS, method
from itmkit.methods.about import about
from itmkit.methods.recipe import recipe_text, recipes
from itmkit.runs.settings import Training, read_config, resolve

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", METHODS)
def test_every_recipe_is_valid(name: str) -> None:
    assert "small" in recipes(name)
    for recipe in recipes(name):
        config = resolve(name, recipe=recipe)
        assert config.method == name and config.recipe == recipe


def test_a_method_without_recipes_has_its_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "plain", METHODS["vsepp"])
    assert recipes("plain") == ["small"] and recipe_text("plain", "small") == ""
    config = resolve("plain")
    assert config.matcher == method("plain").Config() and config.training == Training()
    assert about("plain").recipes == {"small": "the defaults"}
    with pytest.raises(ItmkitError, match="--recipe 'paper': plain has no such recipe; it has small"):
        resolve("plain", recipe="paper")


def test_on_the_scenes_all_methods_train_alike() -> None:
    """A comparison there would otherwise be one of how long and how the methods were trained."""
    scenes = {name: resolve(name, recipe="scenes").training for name in METHODS if "scenes" in recipes(name)}
    assert len(scenes) > 10
    mpsm, scl = scenes["mpsm"], scenes.pop("scl")
    for name, training in scenes.items():
        assert training == mpsm, name
    # SCL's losses are not the triplet loss: it chooses no negatives and has a temperature of its own.
    own = {"negatives": scl.negatives, "temperature": scl.temperature, "warmup_steps": scl.warmup_steps}
    assert scl == replace(mpsm, **own)


def test_the_papers_recipe_is_the_papers() -> None:
    config = resolve("mpsm", recipe="paper")
    matcher, training = config.matcher, config.training
    assert (matcher.embed, matcher.similarity, matcher.kgid_layers, matcher.sharpness) == (1024, 256, 3, 9)
    assert (training.epochs, training.margin, training.negatives) == (30, 0.2, "hardest")
    assert (training.learning_rate, training.batch_size) == (2e-4, 128)


def test_settings_override_the_recipe_as_text_and_as_values() -> None:
    config = resolve("mpsm", settings={"embed": "128", "text_kgid": "false", "margin": "3e-1", "seed": 4})
    assert (config.matcher.embed, config.matcher.text_kgid) == (128, False)
    assert (config.training.margin, config.training.seed) == (0.3, 4)
    plain = resolve("mpsm")
    assert config.matcher.similarity == plain.matcher.similarity
    assert config.training.negatives == plain.training.negatives


def test_everything_wrong_is_told_at_once() -> None:
    settings = {"embde": "8", "dropout": "2", "epochs": "many", "negatives": "hard", "srgr": "maybe", "colour": "red"}
    with pytest.raises(ItmkitError) as error:
        resolve("mpsm", settings=settings)
    told = error.value.problems
    assert len(told) == len(settings)
    assert "setting 'embde': mpsm has no such setting; did you mean 'embed'?" in told
    for name in ("dropout", "epochs", "negatives", "srgr"):
        assert any(f"setting {name!r} = {settings[name]!r}" in problem for problem in told), told
    assert any("'colour'" in problem and "embed" in problem for problem in told)
    with pytest.raises(ItmkitError, match="setting 'kgid_layers': vsepp has no such setting"):
        resolve("vsepp", settings={"kgid_layers": 1})


def test_unknown_recipes_and_methods() -> None:
    with pytest.raises(ItmkitError, match=r"--recipe 'huge': mpsm has no such recipe; it has .*paper, .*small"):
        resolve("mpsm", recipe="huge")
    with pytest.raises(ItmkitError, match="--method 'mps'"):
        resolve("mps")


@pytest.mark.parametrize("name", METHODS)
def test_config_toml_says_everything(name: str, tmp_path: Path) -> None:
    config = resolve(name, settings={"learning_rate": 1e-5, "stop_on_collapse": False})
    config.write(tmp_path / "config.toml")
    assert read_config(tmp_path / "config.toml") == config


@pytest.mark.parametrize(
    "text",
    [
        "",
        "method = 'mpsm'",
        "not toml at all [",
        "method = 'mpsm'\nrecipe = 's'\n[matcher]\nembed = 0\n[training]",
        "method = 'mpsm'\nrecipe = 's'\n[matcher]\nembed = true\n[training]",
        "method = 'mpsm'\nrecipe = 's'\n[matcher]\n[training]\nmargin = '0.2'",
        "method = 'mpsm'\nrecipe = 's'\n[matcher]\n[training]\nmargin = inf",
        "method = 'mpsm'\nrecipe = 's'\nrecipes = 's'\n[matcher]\n[training]",
        "method = ['mpsm']\nrecipe = 's'\n[matcher]\n[training]",
        "method = 'clip'\nrecipe = 's'\n[matcher]\n[training]",
        "seed = " + "9" * 5000,
        "seed = " + "[" * 20_000,
    ],
)
def test_a_damaged_config(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(ItmkitError, match=r"config\.toml: "):
        read_config(tmp_path / "config.toml")


def test_numbers_that_cannot_be_settings(tmp_path: Path) -> None:
    config = resolve("vsepp")
    with pytest.raises(ItmkitError, match="'margin' is inf; a finite number is needed"):
        replace(config, training=replace(config.training, margin=math.inf)).write(tmp_path / "config.toml")
    with pytest.raises(ItmkitError, match="'speed' is nan; a finite number is needed"):
        replace(config, measured={"speed": math.nan}).write(tmp_path / "config.toml")
    assert not any(tmp_path.iterdir())
    with pytest.raises(ItmkitError, match="setting 'margin' = 'inf'"):
        resolve("vsepp", settings={"margin": "inf"})


def described(kind: Any) -> dict[str, tuple[str, str]]:
    """{setting: (default, description)} as the pages write them."""
    written = {True: "true", False: "false"}
    found = {}
    for setting in fields(kind):
        default: Any = setting.default
        value = default.default
        text = written[value] if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
        # A cache is chosen when the run begins, a file is not.
        text = text or ("the only one" if setting.name.endswith("_cache") else "none")
        found[setting.name] = (text, default.description)
    return found


@pytest.mark.parametrize(
    ("page", "kind"),
    [*((f"{name}.md", None) for name, place in METHODS.items() if place.endswith(name)), ("train.md", Training)],
)
def test_pages_list_every_setting_with_its_default(page: str, kind: Any) -> None:
    kind = kind or method(page.removesuffix(".md")).Config
    rows = re.findall(r"^\| `--([a-z0-9-]+)` \| ([^|]*) \| ([^|]*) \|$", (DOCS / page).read_text("utf-8"), re.MULTILINE)
    listed = {name.replace("-", "_"): (default, says) for name, default, says in rows}
    assert listed == described(kind)
