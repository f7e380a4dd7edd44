"""What finds candidates gives the largest products, exactly, and of equal ones the earlier."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from itmkit.errors import ItmkitError
from itmkit.index.engines import Exact, Faiss, write_faiss
from itmkit.index.vectors import Vectors


def test_candidates_are_the_largest_products_and_equal_ones_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("itmkit.index.vectors.BLOCK_BYTES", 100)  # several blocks a chunk
    numbers = np.random.default_rng(0).integers(-2, 3, (50, 4)).astype(np.float32)  # many equal products
    dead = np.arange(50) % 7 == 0
    exact = Exact(Vectors([numbers[:20], numbers[20:]], dead))
    query = np.array([1, -1, 2, 0], np.float32)
    products = np.where(dead, -np.inf, numbers @ query)
    expected = np.lexsort((np.arange(50), -products))
    for count in (0, 1, 5, 42, 100):
        found, scores = exact.nearest(query, count)
        assert found.tolist() == expected[: min(count, 42)].tolist()
        np.testing.assert_array_equal(scores, products[found])
    assert len(Exact(Vectors([], np.zeros(0, bool))).nearest(query, 3)[0]) == 0


def unit(numbers: np.ndarray) -> np.ndarray:
    return (numbers / np.linalg.norm(numbers, axis=1, keepdims=True)).astype(np.float32)


def test_faiss_finds_nearly_all_of_them_in_exact_order_and_takes_more(tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    random = np.random.default_rng(0)
    centres = random.standard_normal((40, 16))
    numbers = unit(centres[random.integers(0, 40, 4000)] + 0.4 * random.standard_normal((4000, 16)))
    dead = np.arange(4000) % 10 == 0
    first, path = Vectors([numbers[:1500], numbers[1500:3000]], dead[:3000]), tmp_path / "a.faiss"
    write_faiss(path, first)
    whole = Vectors([*first.chunks, numbers[3000:]], dead)
    write_faiss(tmp_path / "b.faiss", whole, before=path)
    with pytest.raises(ItmkitError, match=r"a.faiss.*other vectors.*--force"):
        Faiss(path, whole)
    exact, engine = Exact(whole), Faiss(tmp_path / "b.faiss", whole)
    share = []
    for query in unit(centres + 0.2 * random.standard_normal(centres.shape)):
        expected, _ = exact.nearest(query, 50)
        found, products = engine.nearest(query, 50)
        assert not dead[found].any() and (np.diff(products) <= 0).all()
        np.testing.assert_allclose(products, numbers[found] @ query, rtol=1e-5)
        share.append(np.isin(found, expected).mean())
    assert np.mean(share) > 0.9
    again = tmp_path / "again.faiss"
    write_faiss(again, first)
    assert again.read_bytes() == path.read_bytes()  # a fixed seed
    (tmp_path / "cut.faiss").write_bytes(path.read_bytes()[:200])
    with pytest.raises(ItmkitError, match=r"cut.faiss: is damaged"):
        Faiss(tmp_path / "cut.faiss", first)
