"""The words of a caption as published matchers read them: NLTK's `word_tokenize` of the caption in lower case.

SCAN and what was built on it (SGRAF, VSE-infinity, CHAN) number these words. Weights trained with them know no others,
so this repeats NLTK to the letter: each rule below replaces by a regular expression, and the order of the rules counts.
They are those of `NLTKWordTokenizer` of NLTK 3.10 (Apache-2.0), which needs no data, and of its sentence splitter
Punkt as far as text in lower case meets it. The tests compare them with what NLTK gave for captions.

Punkt also knows some 20,000 words by how they are capitalised. In lower case they matter in one place: after a number
or a single letter with a full stop ("3. a dog"). All but four of them say that no sentence ends there, so none does.
"""

from __future__ import annotations

import re
import string

START, END = "<start>", "<end>"
_ASCII_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)

_RULES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        # opening quotes
        ("([«“‘„]|[`]+)", r" \1 "),
        (r'^"', "``"),
        ("(``)", r" \1 "),
        (r"([ \(\[{<])(\"|'{2})", r"\1 `` "),
        (r"(?i)(?<!\w)(')(?!(?:re|ve|ll|m|t|s|d|n)\b)(?=\w)", r"\1 "),
        # punctuation
        (r"([^\.])(\.)(?=([\]\)}>\"'»”’ ]*))\3\s*$", r"\1 \2 \3 "),
        (r"([:,])([^\d])", r" \1 \2"),
        (r"([:,])$", r" \1 "),
        (r"\.{2,}", r" \g<0> "),
        (r"[;@#$%&]", r" \g<0> "),
        (r"[\u2012-\u2015]", r" \g<0> "),
        (r"([^\.])(\.)([\]\)}>\"']*)\s*$", r"\1 \2\3 "),
        (r"[?!]", r" \g<0> "),
        (r"([^'])' ", r"\1 ' "),
        (r"[*]", r" \g<0> "),
        (r"[\]\[\(\)\{\}\<\>]", r" \g<0> "),
        ("--", " -- "),
        (r"^|$", " "),  # around the whole
        # closing quotes, and clitics
        ("([»”’])", r" \1 "),
        ("''", " '' "),
        ('"', " '' "),
        (r"\s+", " "),
        (r"([^' ])('[sS]|'[mM]|'[dD]|') ", r"\1 \2 "),
        (r"([^' ])('ll|'LL|'re|'RE|'ve|'VE|n't|N'T) ", r"\1 \2 "),
        # words written together
        *(
            (rf"(?i)\b({first})({second})\b", r" \1 \2 ")
            for first, second in (
                ("can", "not"), ("d", "'ye"), ("gim", "me"), ("gon", "na"), ("got", "ta"), ("lem", "me"), ("more", "'n")
            )
        ),
        (r"(?i)\b(wan)(na)(?=\s)", r" \1 \2 "),
        (r"(?i) ('t)(is)\b", r" \1 \2 "),
        (r"(?i) ('t)(was)\b", r" \1 \2 "),
    )
)  # fmt: skip

# What ends with a full stop that ends no sentence: the abbreviations of Punkt's English model.
_ABBREVIATIONS_TEXT = """
    a.a a.c a.d a.g a.h a.m a.m.e a.s a.t adm ala ariz aug ave b.f b.v bros c c.i.t c.o.m.b c.v calif chg cie co
    col colo conn corp cos ct d d.c d.h d.w dec dr e e.f e.h e.l e.m f f.g f.j feb fla fri ft g g.d g.f g.k ga gen
    h h.c h.f h.m i.m.s ill inc j.b j.c j.j j.k j.p j.r jan jr k kan ky l l.a l.f l.p lt ltd m m.b.a m.d.c m.j maj
    messrs mg mich minn mr mrs ms n n.c n.d n.h n.j n.m n.v n.y nev nov oct ok okla ore p p.a.m p.m pa ph.d prof r
    r.a r.h r.i r.j r.k r.t rep reps s s.a s.a.y s.c s.g s.p.a s.s sen sep sept sr st sw t t.j tenn tues u.k u.n
    u.s u.s.a u.s.s.r v va vs vt w w.c w.r w.va w.w wash wed wis yr
"""
_ABBREVIATIONS = frozenset(_ABBREVIATIONS_TEXT.split())
_APART = "?!)\";}\\]*:@'({\\[‘’“”«»"  # what Punkt parts from a word, before and after it
_STOP = re.compile(rf"[.?!](?=[{_APART}]|\s+\S)")
_QUOTES = tuple("?!'‘’“”«»")  # these may begin a word of Punkt's; hyphens and the like may only stand inside one
_NOT_FIRST = "`&#-,"
_NUMBER = re.compile(r"-?[.,]?\d[\d,.-]*\.")
_CLOSERS = re.compile(r"[\"')\]}‘’“”«»]+?(?:\s+|(?=--)|$)")


def published_words(caption: str) -> list[str]:
    """The words of a caption between `<start>` and `<end>`, which the published code counts as words.

    ASCII letters are made small. SCAN's code does no more; where a later one (VSE-infinity, CHAN) makes all letters
    small, the vocabulary of the run does so.
    """
    small = caption.strip().translate(_ASCII_LOWER)
    return [START, *(word for sentence in _sentences(small) for word in _words(sentence)), END]


def _words(sentence: str) -> list[str]:
    for pattern, replacement in _RULES:
        sentence = pattern.sub(replacement, sentence)
    return sentence.split()


def _sentences(text: str) -> list[str]:
    found, start = [], 0
    for stop in _STOP.finditer(text):
        if stop.start() >= start and _ends_sentence(text, stop.end()):
            end = stop.end()
            rest = end + len(text[end:]) - len(text[end:].lstrip())
            closers = _CLOSERS.match(text, rest)
            if closers is not None:  # they belong to the sentence before
                end, rest = rest + len(closers.group().rstrip()), closers.end()
            found.append(text[start:end])
            start = rest
    return [sentence for sentence in (*found, text[start:]) if sentence]


def _ends_sentence(text: str, end: int) -> bool:
    """Whether the mark before `end` ends a sentence."""
    if text[end - 1] != ".":
        return True
    begin = max(text.rfind(" ", 0, end), text.rfind("\t", 0, end)) + 1
    piece = re.split(rf"[{_APART}]", text[begin:end])[-1]
    word = piece.lstrip(_NOT_FIRST)
    before = text[end - len(piece) - 1 : end - len(piece)]
    if word == piece and len(word) > 1 and before in _QUOTES:
        word = before + word
    if word == ".":
        return True
    name = word[:-1].lower()
    if word.endswith("..") or name in _ABBREVIATIONS or name.rpartition("-")[2] in _ABBREVIATIONS:
        return False
    if _NUMBER.fullmatch(word) or (len(name) == 1 and name.isalpha()):
        following = text[end:].lstrip()[:1]
        return not (following.islower() or following in ";:,.!?")
    return True


def spans(caption: str, words: list[str]) -> list[tuple[int, int]]:
    """Where each of `published_words` stands, in characters; `<start>` and `<end>` take none."""
    small, at, found = caption.translate(_ASCII_LOWER), 0, []
    for word in words[1:-1]:
        # a quotation mark may have become `` or ''
        places = [place for form in {word, '"', "''", "``"} if (place := small.find(form, at)) >= 0] if word in (
            "``", "''") else [small.find(word, at)]  # fmt: skip
        first = min(places, default=-1)
        begin = at if first < 0 else first
        length = 1 if word in ("``", "''") and small[begin : begin + 1] == '"' else len(word)
        found.append((begin, min(begin + length, len(caption))))
        at = found[-1][1]
    return [(0, 0), *found, (len(caption), len(caption))]
