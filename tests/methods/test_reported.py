from __future__ import annotations

import shlex

import pytest

from itmkit.commands.train import read_settings
from itmkit.evaluation.protocols import PROTOCOLS
from itmkit.matchers import METHODS
from itmkit.methods.reported import NAMES, ablations, not_comparable, reported
from itmkit.runs.settings import resolve


@pytest.mark.parametrize("name", METHODS)
def test_rows_fit_the_method(name: str) -> None:
    for row in reported(name):
        assert all(0 < value <= 100 for value in row.figures.values()) and row.source
        # Either a known protocol and whether it is an ensemble, or words on why the row compares with nothing.
        assert bool(row.kind) == (row.protocol in PROTOCOLS) == (not row.caveat)
        assert bool(row.of) == bool(row.switched) == bool(row.settings)
        assert row.selected in ("", "dev", "test")
        if row.kind:
            assert set(row.figures) <= set(NAMES)
            assert row.kind == "single" or row.kind.startswith("ensemble of ")
        resolve(name, settings=read_settings(shlex.split(row.settings)))  # options that exist


def test_figures_by_name() -> None:
    (best,) = (row for row in reported("mpsm", "flickr1k") if row.model == "MPSM*")
    assert list(best.figures.values()) == [80.2, 94.9, 98.0, 61.5, 84.5, 90.1] and list(best.figures) == list(NAMES)
    assert best.rsum == 509.2 and best.kind == "ensemble of 2"
    (partial,) = (row for row in reported("sgraf", "coco5k") if row.model == "SGRAF")
    assert "i2t R@5" not in partial.figures and partial.figures["t2i R@10"] == 81.3 and partial.rsum is None


@pytest.mark.parametrize(
    ("method", "model", "source", "protocol", "printed"),
    [
        ("mpsm", "MPSM (direction)", "table 1", "flickr1k", "76.8 94.3 97.0 57.3 82.9 88.9"),
        ("mpsm", "MPSM (direction)", "table 4", "flickr1k", "77.0 97.0 57.3 88.9"),
        ("mpsm", "joint training", "table 4", "coco1k", "79.5 99.0 63.6 95.9"),
        ("glfn", "Intact Model i2t", "table 3", "flickr1k", "72.1 92.4 95.6 45.9 77.1 85.6"),
        ("glfn", "Only-Bert t2i", "table 3", "flickr1k", "45.2 78.6 87.7 44.7 72.4 81.8"),
        ("sgraf", "SGR", "README", "flickr1k", "76.6 93.7 96.6 56.1 80.9 87.0"),
        ("sgraf", "SAF", "README", "coco5k", "55.5 83.8 91.8 40.1 69.7 80.4"),
        ("vseinf", "VSE∞ (BiGRU)", "README", "flickr1k", "76.5 94.2 56.4 83.4"),
        ("vseinf", "ESA (BERT, fine-tuned)", "README", "coco5k", "61.1 86.6 43.9 74.1"),
        ("chan", "CHAN (BERT, fine-tuned)", "README", "flickr1k", "80.6 96.1 63.9 87.5"),
        ("rcar", "RCAR", "README", "coco1k", "80.9 96.9 98.9 65.7 91.4 96.4"),
        ("rcar", "RCAR i2t", "README", "flickr1k", "76.9 95.5 98.0 58.8 83.9 89.3"),
        ("laps", "LAPS (ViT-B/16 and BERT, fine-tuned)", "README", "flickr1k", "75.8 93.8 62.5 87.5"),
        ("mefn", "SCAN", "table 1", "Flickr30K", "80.0 93.1 74.5"),
        ("mefn", "VSE++", "table 2", "COCO", "80.5 93.9 75.3"),
        ("mefn", "MEFN-Global Attention", "table 3", "COCO", "76.3 87.1 70.2"),
        ("cmfg", "UNITER", "table 1", "MIRFLICKR-25K", "85.6 81.7 79.2 75.6"),
        ("cmfg", "CMFG", "table 1", "300K captions", "88.4 85.8 80.6 77.8"),
        ("scl", "SCL, zero-shot from COCO", "table 3", "Flickr8K", "66.24 61.66 72.01"),
        ("dual", "AltCLIP", "tables 1 and 2", "data set not said", "58.24 40.66 53.01 22.45 41.86 50.09"),
    ],
)
def test_as_printed(method: str, model: str, source: str, protocol: str, printed: str) -> None:
    (row,) = (row for row in reported(method, protocol) if row.model == model and source in row.source)
    assert list(row.figures.values()) == [float(value) for value in printed.split()]


def test_on_what_the_epoch_was_chosen_is_said_where_it_is_known() -> None:
    (known,) = (row for row in reported("sgraf", "flickr1k") if row.model == "SAF" and "README" in row.source)
    assert known.selected == "dev" and known.kind_in_words == "single, chosen on dev"
    (test,) = (row for row in reported("laps", "flickr1k") if "Swin" in row.model)
    assert test.selected == "test" and test.kind_in_words == "single, chosen on test"
    (silent,) = (row for row in reported("mpsm", "flickr1k") if row.model == "MPSM*")
    assert silent.selected == "" and silent.kind_in_words == "ensemble of 2"


def test_ablations_by_what_was_switched() -> None:
    ((without, whole),) = ablations("mpsm", {"kgid_layers": 0}, "flickr1k")
    assert (without.rsum, whole.rsum, whole.model) == (492.2, 499.9, "MPSM (distance)")
    assert without.settings == "--similarities distance --kgid-layers 0"
    # As they come from a command line; of each member, and of the ensemble.
    found = ablations("glfn", {"tags": "false"}, "flickr1k")
    assert [whole.model for _, whole in found] == ["GLFN t2i", "GLFN i2t", "GLFN i2t+t2i"]
    ((without, whole),) = ablations("mefn", {"mfe": False})
    assert whole.figures["R@1"] - without.figures["R@1"] == pytest.approx(13.1) and without.caveat
    assert ablations("mpsm", {"kgid_layers": 0, "srgr": False}) == ablations("cmfg", {"layers": 0}) == []


@pytest.mark.parametrize(
    ("method", "rows", "why"),
    [
        ("mefn", 9, "direction and number of test images are not said"),
        ("cmfg", 14, "R@10 is below its R@5"),
        ("scl", 2, "R@5 is below R@1"),
        ("dual", 4, "most likely these models untouched"),
        ("mpsm", 0, ""),
    ],
)
def test_rows_that_compare_with_nothing_say_why(method: str, rows: int, why: str) -> None:
    found = not_comparable(method)
    assert len(found) == rows and all(why in row.caveat for row in found)
    assert not {row.protocol for row in found} & set(PROTOCOLS)


def test_where_recalls_fall_with_k_there_is_a_caveat() -> None:
    """A typing error of ours would show as a recall that falls with K."""
    for name in METHODS:
        for row in reported(name):
            for side in ("i2t", "t2i"):
                values = [row.figures[f"{side} R@{k}"] for k in (1, 5, 10) if f"{side} R@{k}" in row.figures]
                assert row.caveat or values == sorted(values), row
