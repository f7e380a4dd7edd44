from __future__ import annotations

import shlex

import pytest

from itmkit.commands.train import read_settings
from itmkit.evaluation.protocols import PROTOCOLS
from itmkit.evaluation.reported import NAMES, reported
from itmkit.matchers import METHODS
from itmkit.training.settings import resolve


@pytest.mark.parametrize("name", METHODS)
def test_rows_fit_the_method(name: str) -> None:
    for row in reported(name):
        assert all(0 < value <= 100 for value in row.figures.values()) and row.source
        if row.kind:
            assert row.protocol in PROTOCOLS and set(row.figures) <= set(NAMES)
            assert row.kind == "single" or row.kind.startswith("ensemble of ")
        resolve(name, settings=read_settings(shlex.split(row.settings)))  # options that exist


def test_figures_by_name() -> None:
    (best,) = (row for row in reported("mpsm", "flickr1k") if row.model == "MPSM*")
    assert list(best.figures.values()) == [80.2, 94.9, 98.0, 61.5, 84.5, 90.1] and list(best.figures) == list(NAMES)
    assert best.rsum == 509.2 and best.kind == "ensemble of 2"
    (partial,) = reported("sgraf", "coco5k")
    assert "i2t R@5" not in partial.figures and partial.figures["t2i R@10"] == 81.3 and partial.rsum is None


def test_where_recalls_fall_with_k_the_print_is_called_inconsistent() -> None:
    """A typing error of ours would show as a recall that falls with K."""
    for name in METHODS:
        for row in reported(name):
            for side in ("i2t", "t2i"):
                values = [row.figures[f"{side} R@{k}"] for k in (1, 5, 10) if f"{side} R@{k}" in row.figures]
                odd = "inconsistent" in row.protocol or "not recall" in row.protocol
                assert odd or values == sorted(values), row
