"""Captions a second of parse-text by two processes and by one, and of spaCy's own `nlp.pipe`, in one run.

    python tests/benchmarks/parsing.py [--captions FILE ...] [--count 30000] [--rounds 3] [--folder DIR]

The spaCy pipeline is of the size of en_core_web_sm (tok2vec of 96 channels, tagger, parser, rules for the lemma) and
learns for a moment from made scene captions: its speed counts, not its trees. Captions are lines of text files (`.gz`
is unpacked), made scene captions without any. Each way is timed in turn, round after round, and its best round counts.
The machine must be idle: two processes want two cores. They take seconds to start, so the ratio grows with `--count`.

    nlp.pipe    `for doc in nlp.pipe(texts)`, batches of 128, one process; nothing is kept
    spacy       parse-text with that pipeline, from the start of the first process to the finished cache
    itmkit      parse-text with the shipped parser
"""

from __future__ import annotations

import argparse
import gzip
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import spacy
import torch
from spacy.training import Example

from itmkit.dataset import Caption, ImageRecord, write_dataset
from itmkit.job import Job
from itmkit.parse_text.conllu import Tree, tree_from_rows
from itmkit.parse_text.parse import parse_text
from itmkit.scenes.grammar import scene_trees
from itmkit.workspace import Workspace

BATCH = 128
TOK2VEC = {  # as in en_core_web_sm
    "@architectures": "spacy.Tok2Vec.v2",
    "embed": {
        "@architectures": "spacy.MultiHashEmbed.v2",
        "width": 96,
        "attrs": ["NORM", "PREFIX", "SUFFIX", "SHAPE", "SPACY", "IS_SPACE"],
        "rows": [5000, 1000, 2500, 2500, 50, 50],
        "include_static_vectors": False,
    },
    "encode": {
        "@architectures": "spacy.MaxoutWindowEncoder.v2",
        "width": 96,
        "depth": 4,
        "window_size": 1,
        "maxout_pieces": 3,
    },
}


def pipeline(folder: Path, trees: list[Tree]) -> Path:
    """Trains a little pipeline, a few seconds, and saves it."""
    nlp = spacy.blank("en")
    nlp.add_pipe("tok2vec", config={"model": TOK2VEC})
    listener = {"@architectures": "spacy.Tok2VecListener.v1", "width": 96}
    tagger = {"@architectures": "spacy.Tagger.v2", "tok2vec": listener}
    parser = {
        "@architectures": "spacy.TransitionBasedParser.v2",
        "state_type": "parser",
        "extra_state_tokens": False,
        "hidden_width": 64,
        "maxout_pieces": 2,
        "tok2vec": listener,
    }
    nlp.add_pipe("tagger", config={"model": tagger})
    nlp.add_pipe("parser", config={"model": parser})
    examples = []
    for tree in trees:
        doc = spacy.tokens.Doc(
            nlp.vocab, words=tree.words, heads=tree.heads, deps=tree.relations, tags=tree.pos, pos=tree.pos
        )
        examples.append(Example(nlp.make_doc(" ".join(tree.words)), doc))
    nlp.initialize(lambda: examples)
    random.seed(0)
    for start in range(0, len(examples), 100):
        nlp.update(examples[start : start + 100])
    nlp.to_disk(folder)
    return folder


def read(files: list[Path]) -> list[str]:
    lines: list[str] = []
    for file in files:
        with gzip.open(file, "rt") if file.suffix == ".gz" else open(file) as handle:
            lines += [line.strip() for line in handle if line.strip()]
    return lines


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--captions", type=Path, nargs="+", default=[], metavar="FILE")
    options.add_argument("--count", type=int, default=30_000, help="distinct captions")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--folder", type=Path, help="where files go (a temporary folder)")
    args = options.parse_args()
    trees = [tree_from_rows(rows) for rows in scene_trees(2000, 0)]
    found = read(args.captions) or [tree_from_rows(rows).text for rows in scene_trees(2 * args.count, 1)]
    texts = list(dict.fromkeys(found))[: args.count]
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        path = pipeline(folder / "pipeline", trees)
        workspace = Workspace(folder / "workspace")
        workspace.root.mkdir()
        record = ImageRecord(id="0", split="train", captions=tuple(Caption(f"0#{k}", t) for k, t in enumerate(texts)))
        write_dataset(workspace.dataset_path, [record], kind="benchmark", settings={})
        nlp = spacy.load(path)

        def plain() -> None:
            for _ in nlp.pipe(texts, batch_size=BATCH):
                pass

        def stage(parser: str, model: Path | None, workers: int) -> Callable[[], None]:
            def run() -> None:
                parse_text(workspace, parser=parser, model=model and str(model), job=Job(workers=workers, force=True))

            return run

        ways = {
            "nlp.pipe, 1 process": plain,
            "spacy, 1 process": stage("spacy", path, 1),
            "spacy, 2 processes": stage("spacy", path, 2),
            "itmkit, 1 process": stage("itmkit", None, 1),
            "itmkit, 2 processes": stage("itmkit", None, 2),
        }
        seconds = dict.fromkeys(ways, float("inf"))
        torch.set_num_threads(1)
        for _ in range(args.rounds):
            for name, way in ways.items():
                began = time.perf_counter()
                way()
                seconds[name] = min(seconds[name], time.perf_counter() - began)
        print(f"{len(texts)} distinct captions, {sum(map(len, texts)) / len(texts):.0f} characters each")
        for name, taken in seconds.items():
            print(f"{name:20} {len(texts) / taken:8.0f} captions/s")
        for parser, one in (("spacy", "nlp.pipe, 1 process"), ("itmkit", "itmkit, 1 process")):
            print(f"{parser}, 2 processes: {seconds[one] / seconds[f'{parser}, 2 processes']:.2f} x {one}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
