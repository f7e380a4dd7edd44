"""Words laid end to end. What the matchers make of them is tested with each matcher."""

from __future__ import annotations

import pytest
import torch

from itmkit.matchers.parts.attention import FlatWords

LENGTHS = {"uneven": [3, 1, 5, 2], "even": [4, 4, 4], "even, all of one word": [1, 1]}


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_words_laid_end_to_end_find_back(lengths: list[int]) -> None:
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    vectors = torch.randn(len(lengths), max(lengths), 3, generator=torch.Generator().manual_seed(0))
    words = FlatWords.of(vectors, mask)
    texts = list(words.vectors.split(lengths))  # as they lie
    assert words.even == (len(set(lengths)) == 1)
    assert words.text_of.tolist() == [text for text, length in enumerate(lengths) for _ in range(length)]
    for text, length in enumerate(lengths):
        assert torch.equal(texts[text], vectors[text, :length])
    assert torch.equal(words.pad(words.vectors, dim=0)[mask], words.vectors)
    assert torch.equal(words.pad(words.vectors.T, dim=1)[:, mask], words.vectors.T)
    torch.testing.assert_close(words.sum(words.vectors), torch.stack([text.sum(0) for text in texts]))
    torch.testing.assert_close(words.mean(words.vectors), torch.stack([text.mean(0) for text in texts]))
    factor, offset = torch.randn(len(lengths), 3), torch.randn(3)
    scaled = torch.cat([text * factor[i] for i, text in enumerate(texts)])
    torch.testing.assert_close(words.scale(words.vectors, factor), scaled)
    torch.testing.assert_close(words.scale(words.vectors, factor, plus=offset), scaled + offset)


def test_operations_on_tensors_of_more_dimensions() -> None:
    """As attention has them: words, images, regions."""
    random = torch.Generator().manual_seed(1)
    mask = torch.tensor([[True, True], [True, False]])
    words = FlatWords.of(torch.randn(2, 2, 3, generator=random), mask)
    x, by = torch.randn(3, 4, 5, generator=random), torch.randn(2, 4, 5, generator=random)
    torch.testing.assert_close(words.sum(x), torch.stack([x[:2].sum(0), x[2]]))
    torch.testing.assert_close(words.mean(x), torch.stack([x[:2].mean(0), x[2]]))
    torch.testing.assert_close(words.scale(x, by), torch.cat([x[:2] * by[0], x[2:] * by[1]]))
