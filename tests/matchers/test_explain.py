"""What every method tells about a pair is a share of what is there, and what its score is made of."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from itmkit.matchers import Encoded, as_matcher, explain
from itmkit.matchers.parts.attention import FlatWords
from itmkit.matchers.parts.norms import l2norm
from tests.matchers.batches import image_batch, pad_images, pooled_images, pooled_texts, take_images, take_texts
from tests.matchers.batches import text_batch as texts_of
from tests.matchers.settings import Settings
from tests.matchers.test_contract import Case, handful, matcher_of, pooled

KNOWN = {"words_to_regions", "regions_to_words", "entropy", "nodes"}


def encoded(matcher: nn.Module, case: Case, *, padded: int = 0) -> tuple[Encoded, Encoded]:
    """The second of three images (two regions of four), and the third of four texts, five words, without padding."""
    few = pooled(case[0], case[2])
    images = pooled_images() if few else image_batch()
    texts = pooled_texts() if few else texts_of()
    if padded and not few:
        images = pad_images(images, padded)
    parts = as_matcher(matcher)
    return parts.encode_images(take_images(images, [1])), parts.encode_texts(take_texts(texts, [2]))


@torch.no_grad()
@handful
def test_shares_of_the_regions_and_words_that_are_there_whatever_is_beside_them(case: Case) -> None:
    matcher = matcher_of(case)
    found, beside = (explain(matcher, *encoded(matcher, case, padded=padded)) for padded in (0, 3))
    assert found.keys() <= KNOWN and found.keys() == beside.keys()
    for name, values in found.items():
        if name == "nodes":
            assert values.ndim == 1 and len(values) in (5, 6)
            torch.testing.assert_close(values.sum(), torch.tensor(1.0))
            torch.testing.assert_close(values, beside[name], atol=1e-5, rtol=0)
            continue
        assert values.shape == (5, 4)
        torch.testing.assert_close(values, beside[name][:, :4], atol=1e-5, rtol=0, equal_nan=True)
        real, padding = values[:, :2], values[:, 2:]
        if name == "words_to_regions":
            torch.testing.assert_close(real.sum(dim=1), torch.ones(5))
        elif name == "regions_to_words":
            torch.testing.assert_close(real.sum(dim=0), torch.ones(2))
        assert torch.isfinite(real).all() and (real >= 0).all()
        assert not padding.nan_to_num().any()


@torch.no_grad()
@pytest.mark.parametrize(
    "settings", [{}, {"entropy": "conditional"}, {"certainty": "match", "mfe_weight": 0.5, "global_attention": False}]
)
def test_the_mean_of_mefn_s_cells_is_the_entropy_of_the_pair(settings: Settings) -> None:
    case: Case = ("mefn", "fusion", settings)
    matcher = matcher_of(case)
    image, text = encoded(matcher, case)
    cells = explain(matcher, image, text)["entropy"][:, :2]
    torch.testing.assert_close(cells.mean(), matcher.pairs(image, text)[1].squeeze())  # type: ignore[operator]


@torch.no_grad()
def test_saf_s_score_is_that_of_its_weighted_nodes() -> None:
    case: Case = ("sgraf", "saf", {})
    matcher = matcher_of(case)
    image, text = encoded(matcher, case)
    words = FlatWords.of(text["nodes"], text["mask"])
    whole, local = matcher._similarities(image, text, words)  # type: ignore[operator]
    nodes = torch.cat((whole[0], local[0]))  # (1 + L, S)
    filtered = l2norm(explain(matcher, image, text)["nodes"] @ nodes)
    score = torch.sigmoid(matcher.predict(filtered)).squeeze()  # type: ignore[operator]
    torch.testing.assert_close(score, as_matcher(matcher).score(image, text).squeeze(), atol=1e-5, rtol=0)


@torch.no_grad()
def test_cmfg_s_score_is_that_of_what_its_nodes_hear() -> None:
    case: Case = ("cmfg", "graph", {"edges": "cross", "layers": 1})
    matcher = matcher_of(case)
    image, text = encoded(matcher, case)
    shown = explain(matcher, image, text)
    regions, words = image["nodes"][0, :2], text["nodes"][0]
    spread = matcher.layers[0].spread  # type: ignore[union-attr, index]

    def heard(mine: Tensor, edges: Tensor, other: Tensor) -> Tensor:
        return l2norm((mine + torch.relu(edges @ spread(other))).mean(dim=0))  # type: ignore[operator]

    score = heard(regions, shown["regions_to_words"][:, :2].T, words) @ heard(
        words, shown["words_to_regions"][:, :2], regions
    )
    torch.testing.assert_close(score, as_matcher(matcher).score(image, text).squeeze(), atol=1e-5, rtol=0)
