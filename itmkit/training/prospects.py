"""What can be said of a training before its first step, and what its figures are worth after the last."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from itmkit.errors import ItmkitError
from itmkit.inputs.vocabulary import Vocabulary

MANY_UNKNOWN, NEARLY_ALL = 0.2, 0.95  # shares of the words of the training captions
FEW_STEPS = 100  # of all epochs together


def unknown_share(counts: Mapping[str, int], vocabulary: Vocabulary) -> float:
    """The share of the words, each as often as it occurs, that the vocabulary does not hold."""
    words = list(counts)
    known = vocabulary.encode(words) != Vocabulary.UNKNOWN
    total = sum(counts.values())
    return sum(counts[word] for word, is_known in zip(words, known, strict=True) if not is_known) / max(total, 1)


def about_words(counts: Mapping[str, int], vocabulary: Vocabulary, minimum: int) -> str | None:
    """A note where many words of the training captions are unknown.

    Args:
        minimum: how often a word occurs at least, to be known.

    Raises:
        ItmkitError: nearly all are unknown, so that no caption could be told from another.
    """
    share = unknown_share(counts, vocabulary)
    said = f"{share:.0%} of the words of the training captions are unknown (rarer than --minimum-count {minimum})"
    if share > NEARLY_ALL:
        raise ItmkitError(
            f"{said}, so captions could not be told apart. A language without spaces between its words has to be cut"
            " into words first: `itmkit parse-text --parser stanza`, or --parser conllu with a CoNLL-U file. With few"
            " captions, lower --minimum-count"
        )
    return f"{said}; with few captions, a lower --minimum-count keeps more of them" if share > MANY_UNKNOWN else None


def about_steps(epochs: int, steps: int) -> str | None:
    """A note where a training has so few steps that little can be learnt. steps: of an epoch."""
    total = epochs * steps
    if not total or total >= FEW_STEPS:
        return None
    return (
        f"only {total} step{'s' * (total > 1)} in all ({epochs} x {steps}, epochs x steps an epoch), in which little"
        " can be learnt; raise --epochs or lower --batch-size"
    )


def about_figures(best: Mapping[str, Mapping[str, Any]], chance: float) -> str | None:
    """A note where no member of a trained run is better than chance.

    Args:
        best: member -> {"rsum"}; chance: the rsum of random scores on the same images.
    """
    found = max((each["rsum"] for each in best.values()), default=None)
    if found is None or found > chance:
        return None
    return (
        f"warning: the best val rsum, {found:.1f}, is not above chance ({chance:.1f}): the run has learnt nothing that"
        " shows on val. More training (--epochs, a smaller --batch-size) may help; see also that captions belong to"
        " their images"
    )
