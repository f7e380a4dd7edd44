"""encode-text on a corpus: tokens lost to padding, sorted and in order of arrival, and peak memory.

    python tests/benchmarks/encoding.py --captions FILE ... [--model MODEL] [--most N] [--check [MODEL ...]]

Each FILE has a caption a line (.gz is unpacked). They are parsed by the shipped parser and encoded; MODEL is the folder
of any encoder, by default a 2-layer BERT of random weights that is 128 wide, with a word-piece tokeniser learned from
the captions. With --check every pair of a word and a piece is compared with a search character by character, for every
caption, with the tokeniser of MODEL and of those named there. Peak memory counts everything, the weights of parser and
encoder and torch included; "at rest" is that after loading both.
"""

from __future__ import annotations

import argparse
import gzip
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from itmkit.dataset import Caption, ImageRecord, write_dataset
from itmkit.encode_text.alignment import Spans, pieces_of_words
from itmkit.encode_text.encode import encode_text
from itmkit.encode_text.encoder import LanguageModel, load_language_model
from itmkit.job import Job
from itmkit.parse_text.backends import load_backend
from itmkit.parse_text.parse import parse_text
from itmkit.parse_text.store import TextCache
from itmkit.workspace import Workspace

BATCH = 4096


def lines(file: Path) -> list[str]:
    data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    return data.decode().replace("\r", "").split("\n")


def random_bert(captions: list[str], folder: Path) -> Path:
    import transformers as t
    from tokenizers import BertWordPieceTokenizer

    words = BertWordPieceTokenizer()
    words.train_from_iterator(captions[:20_000], vocab_size=4000, show_progress=False)
    t.BertTokenizerFast(tokenizer_object=words._tokenizer).save_pretrained(folder)
    config = t.BertConfig(
        vocab_size=4000, hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=512
    )
    t.BertModel(config).save_pretrained(folder)
    return folder


def lost(lengths: np.ndarray, batch_tokens: int) -> float:
    """The share of padding where windows of these lengths are run in this order, `batch_tokens` at once."""
    run, begin, longest = 0, 0, 0
    for at, length in enumerate(lengths.tolist()):
        if (at + 1 - begin) * max(longest, length) > batch_tokens and at > begin:
            run += (at - begin) * longest
            begin, longest = at, 0
        longest = max(longest, length)
    run += (len(lengths) - begin) * longest
    return 1 - float(lengths.sum()) / run


def check(encoder: LanguageModel, text: TextCache, captions: list[str]) -> int:
    """Number of words of which no character is in any piece. Raises AssertionError where a pair is wrong."""
    bare = 0
    for start in range(0, len(captions), 2000):
        some = captions[start : start + 2000]
        _, pieces = encoder.pieces(some)
        parsed = text.load_texts(some)
        words = Spans(parsed.offsets, parsed.starts.astype(np.int64), parsed.ends.astype(np.int64))
        which, members = pieces_of_words(pieces, words)
        found = set(zip(which.tolist(), members.tolist(), strict=True))
        expected = set()
        for k, caption in enumerate(some):
            owner: list[set[int]] = [set() for _ in caption]
            for piece in range(pieces.offsets[k], pieces.offsets[k + 1]):
                for character in range(pieces.starts[piece], pieces.ends[piece]):
                    owner[character].add(piece)
            for word in range(words.offsets[k], words.offsets[k + 1]):
                own = set().union(*owner[words.starts[word] : words.ends[word]])
                bare += not own
                expected |= {(word, piece) for piece in own}
        assert found == expected, start
    return bare


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", type=Path, nargs="+", required=True)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--most", type=int)
    parser.add_argument("--check", type=Path, nargs="*")
    args = parser.parse_args()
    captions = [line for file in args.captions for line in lines(file) if line.strip()]
    captions = captions[: args.most]
    folder = Path(tempfile.mkdtemp())
    try:
        model = args.model or random_bert(captions, folder / "model")
        work = Workspace(folder / "work")
        work.root.mkdir()
        records = [
            ImageRecord(str(n), "train", tuple(Caption(f"{n}#{k}", one) for k, one in enumerate(captions[n : n + 5])))
            for n in range(0, len(captions), 5)
        ]
        write_dataset(work.dataset_path, records, kind="pairs", settings={})
        encoder = load_language_model(model)
        load_backend("itmkit", None).parse(captions[:1], 1)
        print(f"{len(captions)} captions; at rest {peak():.0f} MB")
        for name, stage in (
            ("parse-text", lambda: parse_text(work)),
            ("encode-text", lambda: encode_text(work, model=str(model), job=Job(device="cpu", batch=BATCH))),
        ):
            began = time.perf_counter()
            result = stage()
            taken = time.perf_counter() - began
            print(f"{name:11} {len(captions) / taken:7.0f} captions/s, peak {peak():.0f} MB")
        distinct = list(dict.fromkeys(captions))
        lengths = np.diff(encoder.pieces(distinct)[1].offsets) + len(encoder.before) + len(encoder.after)
        print(f"padding     {result.padding:7.1%} sorted by length, {lost(lengths, BATCH):.1%} in order of arrival")
        for other in [] if args.check is None else [model, *args.check]:
            bare = check(load_language_model(other), TextCache.open(work.cache("text")), distinct)
            print(
                f"alignment   exact in {len(distinct)} distinct captions; {bare} words without a piece ({other.name})"
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
