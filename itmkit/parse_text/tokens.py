"""English tokeniser and sentence splitter with exact character offsets.

The words are those of the Universal Dependencies treebank the shipped parser learned from: `don't` is `do n't`,
`the dog's` is `the dog 's`, hyphens between words stand alone (`t-shirt` is `t - shirt`), numbers, times, web
addresses and abbreviations stay whole. Text that is tokenised already (`A dog runs .`) keeps its tokens.

What holds for any text: words do not overlap and are in order, `text[start:end]` is the word as written, and every
character outside the words is white space.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

LONGEST_SENTENCE = 256  # words; a longer one is cut, so that a caption of any length parses in bounded memory

# Letters, digits and underscore, and the combining marks that belong to a letter but that \w leaves out.
_LETTER = r"[\w\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0670\u0900-\u0dff\u0e31-\u0e4e\u1dc0-\u1dff]"
_ABBREVIATIONS = (
    "Mr|Mrs|Ms|Dr|St|Jr|Sr|Prof|Rev|Gen|Col|Capt|Lt|Sgt|Gov|Sen|Rep|Mt|Ft|vs|etc|e\\.g|i\\.e|approx|dept|est|Inc"
    "|Ltd|Co|Corp|Jan|Feb|Aug|Sept|Oct|Nov|Dec"
)
_PREFIXES = "e|co|pre|non|anti|post|ex|re|semi|multi|mid|pro|over|un|sub|inter|ultra"
_SUFFIXES = "com|org|net|edu|gov|co\\.uk|txt|docx?|xlsx?|pdf|html?|jpe?g|png|gif|exe|zip"
_UNITS = "am|pm|ft|cm|mm|km|kg|lbs|mph|k"
# A symbol with what may follow it in one picture: variation selectors, skin tones, joined symbols (emoji).
_SYMBOL = r"[^\w\s](?:[\ufe0e\ufe0f\u20e3\U0001f3fb-\U0001f3ff]|\u200d[^\w\s])*"

_TOKEN = re.compile(
    "|".join(
        (
            r"(?:https?://|www\.)[^\s<>\"]*[^\s<>\".,;:!?)\]'’]",
            r"[A-Za-z0-9][\w.+-]{0,63}@[\w-]+(?:\.[\w-]+)+",
            rf"(?i:(?<!\w)[\w-]{{1,63}}(?:\.[\w-]{{1,63}}){{0,4}}\.(?:{_SUFFIXES})(?!\w))",
            rf"(?i:(?<!\w)(?:{_ABBREVIATIONS})\.(?=\s*\S))",
            r"(?<!\w)(?:[A-Za-z]\.){2,}|(?<!\w)[A-Z]\.(?=\s[A-Z])",
            r"(?<!\w)[A-Z]{1,3}&[A-Z]{1,3}(?!\w)",
            r"(?<!\w)\d{3}-\d{3}-\d{4}(?!\w)",
            r"\d+(?:st|nd|rd|th|s|D)(?!\w)",
            rf"(?<!\w)\d+(?:[.,:/]\d+)+(?=(?i:{_UNITS})?(?!\w))",
            rf"\d+(?=(?i:{_UNITS})(?!\w))",
            r"(?<!\w)[:;=8]-?[()DPp](?!\w)",
            rf"(?i:(?<!\w)(?:{_PREFIXES})-(?=[^\W\d_]{{2}}){_LETTER}+)",
            rf"{_LETTER}+(?:['’`]{_LETTER}+)*",
            r"(?<![\w'’])['’`](?:s|re|ve|ll|d|m|S|RE|VE|LL|D|M)(?!\w)",
            r"\.{2,}|[!?]+|-{2,}|<{2,}|>{2,}|''|``|’’|‘‘|\*+|=+|_+|~+|#{2,}|\$+",
            _SYMBOL,
        )
    )
)

_CLITIC = re.compile(r"(?i)(?<=.)(?:n['’`]t|['’`](?:s|re|ve|ll|d|m))$")
_JOINED = {  # words written together, and where they are cut
    "cannot": 3,
    "gonna": 3,
    "wanna": 3,
    "gotta": 3,
    "wont": 2,
    "cant": 2,
    "im": 1,
    **{verb + "nt": len(verb) for verb in ("do", "did", "does", "is", "was", "were", "could", "would", "should")},
    **{verb + "nt": len(verb) for verb in ("have", "has", "had", "are")},
}
_ENDS = frozenset({".", "!", "?", "…", "。", "！", "？"})
_CLOSERS = frozenset(")]}\"'”’»")


@dataclass(slots=True)
class Tokens:
    """The words of one text: `words[i] == text[starts[i]:ends[i]]`, `sentences[i]` counts from 0 and never falls."""

    words: list[str]
    starts: list[int]
    ends: list[int]
    sentences: list[int]

    def __len__(self) -> int:
        return len(self.words)

    def sentence_bounds(self) -> list[tuple[int, int]]:
        """First word and one past the last word of every sentence."""
        return bounds(self.sentences)


def bounds(sentences: list[int]) -> list[tuple[int, int]]:
    """Runs of equal numbers as (first, one past the last)."""
    if not sentences:
        return []
    cuts = [i for i in range(1, len(sentences)) if sentences[i] != sentences[i - 1]]
    edges = [0, *cuts, len(sentences)]
    return list(pairwise(edges))


def tokenise(text: str) -> Tokens:
    """Split a text into words and sentences. An empty or blank text has no words."""
    starts: list[int] = []
    ends: list[int] = []
    for match in _TOKEN.finditer(text):
        start, end = match.span()
        word = match.group()
        cut = _JOINED.get(word.lower(), 0)
        if not cut and len(word) > 2 and ("'" in word or "’" in word or "`" in word):
            clitic = _CLITIC.search(word)
            cut = clitic.start() if clitic else 0
        if cut:
            starts += (start, start + cut)
            ends += (start + cut, end)
        else:
            starts.append(start)
            ends.append(end)
    words = [text[a:b] for a, b in zip(starts, ends, strict=True)]
    return Tokens(words, starts, ends, _sentences(text, words, starts, ends))


def _sentences(text: str, words: list[str], starts: list[int], ends: list[int]) -> list[int]:
    """Sentence number of every word."""
    numbers: list[int] = []
    number = 0
    begun = 0  # first word of the current sentence
    last_punctuation = -1
    ended = False  # an end mark was seen; closing quotes and brackets still belong to the sentence
    for i, word in enumerate(words):
        if ended and word not in _ENDS and not (word in _CLOSERS and starts[i] == ends[i - 1]):
            number += 1
            begun = i
            ended = False
        elif i - begun >= LONGEST_SENTENCE:
            # Cut after the last punctuation of the run, if there is one in its second half.
            begun = last_punctuation + 1 if last_punctuation > begun + LONGEST_SENTENCE // 2 else i
            number += 1
            for j in range(begun, i):
                numbers[j] = number
        numbers.append(number)
        if len(word) == 1 and not word.isalnum():
            last_punctuation = i
        if (word in _ENDS or word[0] in "!?") and not ended:
            ended = i > begun and _ends_here(text, words, starts, ends, i)
    return numbers


def _ends_here(text: str, words: list[str], starts: list[int], ends: list[int], i: int) -> bool:
    """Whether the end mark at word i closes a sentence (and does not belong to a file name or an abbreviation)."""
    if i + 1 == len(words):
        return False
    if starts[i + 1] == ends[i]:
        return words[i + 1] in _CLOSERS
    if words[i] == "." and starts[i] == ends[i - 1]:
        # Glued to its word: before a small letter it is an unknown abbreviation ("approx. ten").
        return not text[starts[i + 1]].islower()
    return True
