"""Trains the English dependency parser that ships with itmkit.

    python examples/train_parser.py --treebank ud_english/EWT --out itmkit/parse_text/weights/parser

reads `*-train.conllu[.gz]` and `*-dev.conllu[.gz]` of the UD English Web Treebank (CC BY-SA 4.0) and trees of made
scene captions, trains for about a quarter of an hour on one core, writes parser.safetensors and parser.json, and
prints the accuracy on the treebank's dev part and on scene captions of a seed that training never saw. With the same
options, thread count and torch version the weights are the same. A killed run continues at its last finished epoch
(`--work`). Without `--treebank` it learns from scene captions alone: enough to try the script, useless elsewhere.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from itmkit.files import atomic_path, digest
from itmkit.parse_text import lemmas
from itmkit.parse_text.accuracy import on_gold_words, on_raw_text
from itmkit.parse_text.conllu import Tree, read_conllu, tree_from_rows
from itmkit.parse_text.network import Network, NetworkConfig
from itmkit.parse_text.parser import UNKNOWN, Labels, Parser, group_by_length, spelling

LONGEST = 100  # words; the few longer sentences are left out of training
GROUP_WORDS = 300  # words of one forward pass: sentences of one length
STEP_WORDS = 500  # words of one optimiser step: several such groups
LOWERED, UNSTOPPED = 0.35, 0.3  # how often a sentence is lower-cased, and loses its final punctuation, as captions do
HELD_OUT_SCENES = 1_000_003  # added to the seed for the captions that accuracy is measured on

console = Console(stderr=True)


@dataclass
class Example:
    """One training sentence as ids; `types` and `lowered` are rows of the table of distinct words."""

    types: np.ndarray
    lowered: np.ndarray
    targets: np.ndarray  # (4, t): part of speech, lemma script, head, relation; -1 = not asked
    stop: bool  # the last word is punctuation that nothing hangs on


def make_labels(trees: list[Tree], minimum: int = 2) -> Labels:
    """Vocabularies of the training trees; rare words and characters are left to the unknown id."""
    words = Counter(word.lower() for tree in trees for word in tree.words)
    forms = (form for tree in trees for word in tree.words for form in (word, word.lower()))
    characters = Counter(letter for form in forms for letter in spelling(form))
    scripts = Counter(lemmas.script(w, x) for tree in trees for w, x in zip(tree.words, tree.lemmas, strict=True))

    def frequent(counts: Counter[str], least: int) -> list[str]:
        return [x for x, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if n >= least]

    return Labels(
        words=["", "<unknown>", *frequent(words, minimum)],
        characters=["", "<unknown>", *frequent(characters, 5)],
        pos=sorted({pos for tree in trees for pos in tree.pos}),
        lemma_scripts=frequent(scripts, minimum),
        relations=sorted({relation for tree in trees for relation in tree.relations}),
    )


def make_examples(trees: list[Tree], labels: Labels) -> tuple[list[Example], list[str]]:
    """Examples, and the distinct words their `types` number."""
    types: dict[str, int] = {}
    pos, relations, scripts = (
        {name: i for i, name in enumerate(names)} for names in (labels.pos, labels.relations, labels.lemma_scripts)
    )
    examples = []
    for tree in trees:
        rows = (
            [pos[name] for name in tree.pos],
            [scripts.get(lemmas.script(w, x), -1) for w, x in zip(tree.words, tree.lemmas, strict=True)],
            tree.heads,
            # A root's relation is not asked: decoding names it.
            [-1 if h == i else relations[r] for i, (h, r) in enumerate(zip(tree.heads, tree.relations, strict=True))],
        )
        last = len(tree) - 1
        stop = last > 0 and tree.pos[last] == "PUNCT" and last not in tree.heads
        seen = [[types.setdefault(f(word), len(types)) for word in tree.words] for f in (str, str.lower)]
        examples.append(Example(np.array(seen[0]), np.array(seen[1]), np.array(rows), stop))
    return examples, list(types)


Group = tuple[np.ndarray, np.ndarray]  # types (b, t) and targets (4, b, t)


def epoch_steps(examples: list[Example], generator: np.random.Generator) -> Iterator[list[Group]]:
    """Optimiser steps of one epoch, each a list of groups of sentences of one length."""
    variants = []
    for example, (lower, cut) in zip(examples, generator.random((len(examples), 2)), strict=True):
        types = example.lowered if lower < LOWERED else example.types
        keep = len(types) - (example.stop and cut < UNSTOPPED)
        variants.append((types[:keep], example.targets[:, :keep]))
    groups = []
    for length, members in group_by_length(np.array([len(types) for types, _ in variants])):
        members = generator.permutation(members)
        size = max(1, GROUP_WORDS // length)
        groups += [members[i : i + size] for i in range(0, len(members), size)]
    step: list[Group] = []
    words = 0
    for k in generator.permutation(len(groups)):
        chosen = [variants[i] for i in groups[k]]
        step.append((np.stack([types for types, _ in chosen]), np.stack([t for _, t in chosen], 1)))
        words += step[-1][0].size
        if words >= STEP_WORDS:
            yield step
            step, words = [], 0
    if step:
        yield step


@dataclass
class Words:
    """The distinct training words: ids (w,), characters (w, c), and how likely each is to be hidden as unknown."""

    ids: Tensor
    characters: Tensor
    hidden: Tensor


def step_loss(network: Network, words: Words, step: list[Group]) -> Tensor:
    """All four losses, summed over a step's words and divided by their number. Each distinct word is spelled once."""
    flat = torch.from_numpy(np.concatenate([types.ravel() for types, _ in step]))
    distinct, places = torch.unique(flat, return_inverse=True)
    characters = words.characters[distinct]
    vectors = network.character_vectors(characters[:, : int((characters != 0).sum(1).max())])
    loss = torch.zeros(())
    begin = 0
    for types, targets in step:
        place = places[begin : begin + types.size].view(types.shape)
        begin += types.size
        loss = loss + group_loss(network, words, distinct[place], vectors[place], torch.from_numpy(targets))
    return loss / begin


def group_loss(network: Network, words: Words, types: Tensor, characters: Tensor, targets: Tensor) -> Tensor:
    """Sum over the words of a group of all four losses."""
    ids = torch.where(torch.rand(types.shape) < words.hidden[types], UNKNOWN, words.ids[types])
    pos, scripts, heads, relations = targets
    lower, upper = network(ids, characters)

    def cross_entropy(scores: Tensor, target: Tensor) -> Tensor:
        return nn.functional.cross_entropy(scores.flatten(0, 1), target.flatten(), ignore_index=-1, reduction="sum")

    return (
        cross_entropy(network.arc_scores(upper), heads)
        + cross_entropy(network.label_scores(upper, heads), relations)
        + 0.5 * cross_entropy(network.pos(lower), pos)
        + 0.25 * cross_entropy(network.lemma(lower), scripts)
    )


def save_state(path: Path, settings: str, epoch: int, network: Network, optimiser: torch.optim.Adam) -> None:
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        tensors |= {f"adam.{name}.{key}": value for key, value in optimiser.state[parameter].items()}
    with atomic_path(path) as partial:
        save_file(tensors, partial, {"settings": settings, "epoch": str(epoch)})


def load_state(path: Path, settings: str, network: Network, optimiser: torch.optim.Adam) -> int:
    """Epochs already done: 0 where there is no state, or it was made with other settings or data."""
    if not path.exists():
        return 0
    with safe_open(path, "pt") as saved:
        about = saved.metadata()
        if about["settings"] != settings:
            return 0
        tensors = {name: saved.get_tensor(name) for name in saved.keys()}  # noqa: SIM118
    network.load_state_dict({n.removeprefix("network."): t for n, t in tensors.items() if n.startswith("network.")})
    for name, parameter in network.named_parameters():
        optimiser.state[parameter] = {k: tensors[f"adam.{name}.{k}"] for k in ("step", "exp_avg", "exp_avg_sq")}
    return int(about["epoch"])


def train(examples: list[Example], extra: list[Example], words: Words, labels: Labels, network: Network, epochs: int,
          seed: int, rate: float, state: Path, dev: list[Tree]) -> None:  # fmt: skip
    """Trains in place. Each epoch sees every treebank sentence and the next quarter of the scene captions."""
    optimiser = torch.optim.Adam(network.parameters(), lr=rate, betas=(0.9, 0.95))
    settings = digest([labels.sizes(), len(examples), len(extra), epochs, seed, rate, words.ids.sum().item()])
    begun = load_state(state, settings, network, optimiser)
    if begun:
        console.print(f"continuing after epoch {begun} of {epochs}")
    quarter = -(-len(extra) // 4) if examples else len(extra)
    per_epoch = sum(len(x.types) for x in examples) + quarter * 12
    total = epochs * per_epoch
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    for epoch in range(begun, epochs):
        generator = np.random.default_rng([seed, epoch])
        torch.manual_seed(seed * 100_003 + epoch)
        start = epoch % 4 * quarter if examples else 0
        part = examples + extra[start : start + quarter]
        steps = list(epoch_steps(part, generator))
        network.train()
        lost = seen = 0.0
        clock = time.perf_counter()
        with Progress(*columns, console=console) as bars:
            bar = bars.add_task(f"epoch {epoch + 1}/{epochs}", total=len(steps))
            for i, step in enumerate(steps):
                done = (epoch + i / len(steps)) / epochs
                warm = min(1.0, (done * total + 1) / 80_000)  # words
                optimiser.param_groups[0]["lr"] = rate * warm * 0.5 * (1 + math.cos(math.pi * done))
                count = sum(types.size for types, _ in step)
                optimiser.zero_grad()
                loss = step_loss(network, words, step)
                loss.backward()  # type: ignore[no-untyped-call]
                lost += float(loss.detach()) * count
                nn.utils.clip_grad_norm_(network.parameters(), 5.0)
                optimiser.step()
                seen += count
                bars.advance(bar)
        save_state(state, settings, epoch + 1, network, optimiser)
        speed = seen / (time.perf_counter() - clock)
        line = f"epoch {epoch + 1}: loss {lost / seen:.4f}, {speed:.0f} words/s"
        if dev and (epoch + 1) % 4 == 0:
            accuracy = on_gold_words(Parser(network, labels), dev)
            line += f", dev UAS {accuracy.uas:.2f} LAS {accuracy.las:.2f} UPOS {accuracy.pos:.2f}"
        console.print(line)


def read_treebank(folder: Path, part: str) -> list[Tree]:
    files = sorted([*folder.glob(f"*-{part}.conllu"), *folder.glob(f"*-{part}.conllu.gz")])
    if not files:
        raise click.BadParameter(f"no *-{part}.conllu or *-{part}.conllu.gz in {folder}")
    return [tree for file in files for tree in read_conllu(file)]


def read_scenes(count: int, seed: int) -> list[Tree]:
    if not count:
        return []
    from itmkit.scenes.grammar import scene_trees

    return [tree_from_rows(rows) for rows in scene_trees(count, seed)]


@click.command(help=__doc__)
@click.option(
    "--treebank", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Folder of UD English EWT."
)
@click.option("--scenes", default=6000, show_default=True, help="Made scene captions to learn from.")
@click.option("--epochs", default=9, show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option("--rate", default=3e-3, show_default=True, help="Highest learning rate.")
@click.option("--threads", default=1, show_default=True)
@click.option("--limit", type=int, help="Use only this many treebank sentences, to try the script.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("parser"), show_default=True)
@click.option("--work", type=click.Path(path_type=Path), default=Path("parser-work"), show_default=True)
def main(treebank: Path | None, scenes: int, epochs: int, seed: int, rate: float, threads: int, limit: int | None,
         out: Path, work: Path) -> None:  # fmt: skip
    torch.set_num_threads(threads)
    bank = read_treebank(treebank, "train")[:limit] if treebank else []
    dev = read_treebank(treebank, "dev")[:limit] if treebank else []
    made = read_scenes(scenes, seed)
    held_out = read_scenes(min(scenes, 1000), seed + HELD_OUT_SCENES)
    if not bank and not made:
        raise click.UsageError("nothing to learn from: give --treebank or --scenes above 0")
    labels = make_labels(bank + made)
    examples, types = make_examples([tree for tree in bank + made if len(tree) <= LONGEST], labels)
    kept = sum(len(tree) <= LONGEST for tree in bank)
    counts = Counter(word.lower() for tree in bank + made for word in tree.words)
    ids, characters = labels.encode_words(types)
    hidden = torch.tensor([0.4 / (0.4 + counts[word.lower()]) for word in types])
    torch.manual_seed(seed)
    network = Network(NetworkConfig(**labels.sizes()))
    size = sum(parameter.numel() for parameter in network.parameters())
    console.print(f"{len(bank)} treebank sentences, {len(made)} scene captions, {size:,} parameters")
    words = Words(torch.from_numpy(ids), torch.from_numpy(characters), hidden)
    train(examples[:kept], examples[kept:], words, labels, network, epochs, seed, rate, work / "state.safetensors", dev)
    Parser(network, labels).save(out)
    shipped = Parser.load(out)  # measured as it is saved: in float16
    figures = {}
    for name, trees in (("EWT dev", dev), ("scenes", held_out)):
        if trees:
            figures[f"{name}, gold words"] = on_gold_words(shipped, trees).rounded()
            figures[f"{name}, raw text"] = on_raw_text(shipped, trees).rounded()
    shipped.training = {
        "script": "examples/train_parser.py",
        "options": {"scenes": scenes, "epochs": epochs, "seed": seed, "rate": rate, "threads": threads, "limit": limit},
        "sentences": {"treebank": len(bank), "scenes": len(made)},
        "torch": torch.__version__,
        "accuracy": figures,
    }
    shipped.save(out)
    click.echo(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
