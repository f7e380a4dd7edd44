"""JSON in the folders of models, which strangers made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from itmkit.errors import ItmkitError
from itmkit.models.hub import find_model, weight_files
from itmkit.models.pixels import picture_settings, scaling

INDEX = "model.safetensors.index.json"


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", '{"weight_map": []}', '{"weight_map": {}}', '{"weight_map": {"a": 3}}'),
        *(
            '{"weight_map": {"a": [1]}}',
            '{"weight_map": {"a": "../other.safetensors"}}',
            '{"weight_map": {"a": "a.bin"}}',
        ),
        '{"a": ' * 900 + "1" + "}" * 900,
    ],
    ids=range(10),
)
def test_an_index_that_names_no_files_of_the_folder(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / INDEX).write_text(text)
    with pytest.raises(ItmkitError, match=rf"{INDEX}: "):
        find_model(str(tmp_path), allow_download=False)


def test_a_model_that_is_not_here_is_fetched_by_naming_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ItmkitError) as error:
        find_model("nobody/none", allow_download=False)
    assert "with --model nobody/none, which fetches it" in str(error.value) and "--download" not in str(error.value)


def test_weights_in_several_files(tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"b": "2.safetensors", "a": "1.safetensors"}}))
    assert weight_files(tmp_path) == []  # they are not there
    for name in ("1.safetensors", "2.safetensors"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in weight_files(tmp_path)] == ["1.safetensors", "2.safetensors"]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ([], "must be a JSON object; found a list of 0"),
        ({"image_mean": 0.5}, "image_mean: "),
        ({"image_mean": [0.5, "x", 0.5]}, r"image_mean\[1\]: "),
        ({"image_std": [0.5, 0, 0.5]}, r"image_std\[1\]: "),
        ({"image_std": [0.5]}, "image_std: "),
        ({"rescale_factor": "1/255"}, "rescale_factor: "),
        ({"resample": 2.5}, "resample: "),
        ({"do_rescale": "yes"}, "do_rescale: "),
    ],
)
def test_picture_settings(tmp_path: Path, settings: Any, told: str) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    with pytest.raises(ItmkitError, match=rf"preprocessor_config\.json: {told}"):
        picture_settings(tmp_path, "m")
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [1, 0.5, 0], "do_rescale": null, "size": 3}')
    assert scaling(picture_settings(tmp_path, "m")).mean.tolist() == [1, 0.5, 0]
