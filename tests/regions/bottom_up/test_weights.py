"""Weight files: what is read, what is refused without being run, and what is said of those that do not fit."""

from __future__ import annotations

import collections
import os
import pickle
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from itmkit.errors import ItmkitError
from itmkit.regions.bottom_up.weights import file_name, fitted, read_weights

ARRAYS = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a.bias": np.arange(3, dtype=">f8"),
    "by.column": np.asfortranarray(np.arange(12, dtype=np.float16).reshape(3, 4)),
    "count": np.int64(7),
    "flag": np.array([True, False]),
    "empty": np.zeros((0, 4), np.float32),
    "number": np.array(3.5),
}


def pickled(path: Path, value: Any, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(value, protocol))
    return path


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_arrays(tmp_path: Path, protocol: int) -> None:
    ordered = collections.OrderedDict(ARRAYS)
    for value in ({"model": ordered, "__author__": "somebody", "rest": [1, 2.5, ("x", None, b"raw")]}, ordered):
        weights = read_weights(pickled(tmp_path / "w.pkl", value, protocol))
        assert list(weights) == list(ARRAYS)
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(weights[name].numpy(), array)
            assert tuple(weights[name].shape) == np.shape(array)
        weights["a.weight"] += 1  # writable


@pytest.mark.parametrize("core", [b"numpy.core", b"numpy._core"])
def test_names_of_both_numpys(tmp_path: Path, core: bytes) -> None:
    path = tmp_path / "w.pkl"
    data = pickle.dumps({"a": ARRAYS["a.weight"]}, 2)
    path.write_bytes(data.replace(b"numpy._core", core).replace(b"numpy.core", core))
    assert read_weights(path)["a"].shape == (2, 3)


def test_a_pickle_of_python_2(tmp_path: Path) -> None:
    """Its byte strings are read as text; the numbers must survive that."""
    raw = b"".join(bytes([b]) for b in np.array([1.5, -2.25e7], "<f4").tobytes())
    body = (
        b"\x80\x02}q\x00U\x01aq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U" + bytes([len(raw)]) + raw + b"tbs."
    )
    (tmp_path / "w.pkl").write_bytes(body)
    assert read_weights(tmp_path / "w.pkl")["a"].tolist() == [1.5, -2.25e7]


class Runs:
    """Unpickled by pickle itself, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.path),)


class Evaluates(Runs):
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return eval, (f"__import__('os').mkdir({str(self.path)!r})",)


class Loads(Runs):
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return np.load, (str(self.path), None, True)


@pytest.mark.parametrize(("kind", "named"), [(Runs, "mkdir"), (Evaluates, "eval"), (Loads, "load")])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_nothing_is_run(tmp_path: Path, kind: type[Runs], named: str, protocol: int) -> None:
    made = tmp_path / "made"
    path = pickled(tmp_path / "w.pkl", {"model": {"a": ARRAYS["a.weight"], "b": kind(made)}}, protocol)
    with pytest.raises(ItmkitError) as caught:
        read_weights(path)
    assert not made.exists()
    assert str(path) in str(caught.value) and "refused" in str(caught.value)
    assert f".{named}, and a pickle" in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        {"a": np.array([{}, []], dtype=object)},
        {"a": np.zeros(3, dtype=[("x", "f4")])},
        {"a": np.array(["text"])},
        {"a": np.zeros(2, "datetime64[s]")},
        {"a": torch.zeros(2)},
        {"a": Path("x")},
        {"a": slice(3)},
        {"a": "text"},
        {"a": None},
        {3: ARRAYS["a.weight"]},
        {},
        [ARRAYS["a.weight"]],
        {"blobs": {"conv1_w": ARRAYS["a.weight"]}},
    ],
)
def test_other_content(tmp_path: Path, value: Any) -> None:
    with pytest.raises(ItmkitError, match=r"w\.pkl"):
        read_weights(pickled(tmp_path / "w.pkl", value))


@pytest.fixture(scope="module")
def good() -> bytes:
    return pickle.dumps({"model": ARRAYS}, 2)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_pickles(tmp_path: Path, good: bytes, data: st.DataObject) -> None:
    """Cut or with changed bytes: weights or one clear error, nothing else."""
    at = data.draw(st.integers(0, len(good) - 1))
    new = data.draw(st.binary(max_size=4))
    damaged = good[:at] + new if data.draw(st.booleans()) else good[:at] + new + good[at + len(new) :]
    path = tmp_path / "w.pkl"
    path.write_bytes(damaged)
    try:
        read_weights(path)
    except ItmkitError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize(
    "forged",
    [
        b"\x80\x02}r\x00\x00\x00\x10.",  # the empty dictionary is object number 268,435,456: a list of 4 GiB
        b"\x80\x02}p268435456\n.",
        b"\x80\x05\x96\x00\x00\x00\x00\x01\x00\x00\x00\x00.",  # an array of 4 GiB, of which nothing is there
        b"\x80\x05\x8e\x00\x00\x00\x00\x01\x00\x00\x00\x00.",
    ],
)
def test_what_a_pickle_claims_takes_no_memory(tmp_path: Path, forged: bytes) -> None:
    path = tmp_path / "w.pkl"
    path.write_bytes(forged)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB
    with pytest.raises(ItmkitError, match=r"w\.pkl"):
        read_weights(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024


def test_torch_and_safetensors(tmp_path: Path) -> None:
    state = {"a.weight": torch.ones(2, 3), "a.bias": torch.zeros(3)}
    torch.save({"model": state, "iteration": 9}, tmp_path / "a.pth")
    torch.save(state, tmp_path / "b.pt")
    save_file(state, tmp_path / "c.safetensors")
    for name in ("a.pth", "b.pt", "c.safetensors"):
        found = read_weights(tmp_path / name)
        assert found.keys() == state.keys() and found["a.weight"].equal(state["a.weight"])


def test_torch_files_are_refused_as_well(tmp_path: Path) -> None:
    made = tmp_path / "made"
    torch.save({"model": {"a": torch.ones(2)}, "x": Runs(made)}, tmp_path / "w.pth")
    with pytest.raises(ItmkitError, match="mkdir.*nothing of it was run"):
        read_weights(tmp_path / "w.pth")
    assert not made.exists()
    (tmp_path / "w.pth").write_bytes(b"no file of torch")
    (tmp_path / "w.safetensors").write_bytes(b"nothing of the kind")
    (tmp_path / "w.txt").write_bytes(b"")
    for name in ("w.pth", "w.safetensors", "w.txt", "none.pkl"):
        with pytest.raises(ItmkitError, match=name):
            read_weights(tmp_path / name)


# Names

PREDICTOR = "roi_heads.box_predictor."


def model() -> dict[str, torch.Tensor]:
    return {
        "backbone.stem.conv1.norm.weight": torch.zeros(4),
        "backbone.stem.conv1.norm.running_mean": torch.zeros(4),
        "backbone.stem.conv1.norm.running_var": torch.zeros(4),
        f"{PREDICTOR}cls_score.weight": torch.zeros(5, 2),
        f"{PREDICTOR}attributes.cls_embedding.weight": torch.zeros(5, 1),
        f"{PREDICTOR}attributes.fc_attr.bias": torch.zeros(3),
    }


def in_file() -> dict[str, torch.Tensor]:
    return {file_name(name): value + 1 for name, value in model().items()}


def test_names_of_the_attribute_layers() -> None:
    assert file_name(f"{PREDICTOR}attributes.attr_score.weight") == f"{PREDICTOR}attr_score.weight"
    assert file_name(f"{PREDICTOR}cls_score.weight") == f"{PREDICTOR}cls_score.weight"
    beside = {"pixel_mean": torch.ones(3), "proposal_generator.anchor_generator.cell_anchors.0": torch.ones(12, 4)}
    found = fitted(Path("w.pkl"), in_file() | beside, model())
    assert found.keys() == model().keys() and all(bool((value == 1).all()) for value in found.values())


def test_what_does_not_fit_is_said_at_once() -> None:
    weights = in_file() | {"stranger": torch.zeros(1), f"{PREDICTOR}cls_score.weight": torch.zeros(6, 2)}
    del weights[f"{PREDICTOR}fc_attr.bias"]
    with pytest.raises(ItmkitError) as caught:
        fitted(Path("w.pkl"), weights, model())
    text = caught.value.problems
    assert text[0] == f"w.pkl: 1 weights are missing: {PREDICTOR}fc_attr.bias"
    assert text[1] == "w.pkl: 1 weights are not of this model: stranger"
    assert text[2] == f"w.pkl: 1 weights have another shape: {PREDICTOR}cls_score.weight is (6, 2), (5, 2) is needed"


def test_batch_norms_without_statistics() -> None:
    """Where a file has none at all they are folded into scale and shift; where it lacks some they are missing."""
    weights = {name: value for name, value in in_file().items() if "running" not in name}
    found = fitted(Path("w.pkl"), weights, model())
    assert found["backbone.stem.conv1.norm.running_mean"].tolist() == [0] * 4
    assert found["backbone.stem.conv1.norm.running_var"].tolist() == [1] * 4
    weights = {name: value for name, value in in_file().items() if "running_var" not in name}
    with pytest.raises(ItmkitError, match="running_var"):
        fitted(Path("w.pkl"), weights, model())
