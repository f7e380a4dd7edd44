"""itmkit parse-text."""

from __future__ import annotations

from dataclasses import asdict, replace

import click

from itmkit.cache import WHOLE
from itmkit.commands.console import ConsoleProgress, out, part_done, print_json
from itmkit.commands.options import force_option, json_option, shard_option, workspace_option
from itmkit.progress import SILENT
from itmkit.workspace import Workspace


@click.command("parse-text")
@workspace_option
@click.option(
    "--parser",
    "--backend",
    "parser",
    type=click.Choice(["itmkit", "spacy", "stanza", "conllu", "scan", "wordpiece"]),
    show_default="workspace.toml, else itmkit",
    help="itmkit: the English parser that ships with the package. spacy: any spaCy pipeline."
    " stanza: its models in a folder. conllu: trees that another program wrote, such as Stanford CoreNLP."
    " scan: the words of SCAN's code and its descendants, without trees, for published weights; into caches/text-scan."
    " wordpiece: the pieces of BERT, with [CLS] and [SEP], for published weights; into caches/text-wordpiece.",
)
@click.option(
    "--model",
    metavar="NAME|PATH",
    help="spaCy pipeline by name or path [default: en_core_web_sm]; folder of stanza's models; CoNLL-U file or folder"
    " of them; BERT's vocab.txt or a folder with it; with --parser itmkit a folder of trained weights.",
)
@click.option("--batch-size", default=128, show_default=True, help="Captions the model takes at once.")
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    metavar="N",
    help="Processes that parse (one per core, at most 8; 1 if fewer than 2000 captions are left).",
)
@shard_option
@force_option
@json_option
def command(
    workspace: Workspace,
    parser: str | None,
    model: str | None,
    batch_size: int,
    workers: int | None,
    shard: str | None,
    shard_size: int | None,
    force: bool,
    as_json: bool,
) -> None:
    """Parse the captions: words, lemmas, parts of speech and dependency trees, into caches/text.

    Identical captions are parsed once. A killed run continues where it was.

    \b
    Examples:
      itmkit parse-text
      itmkit parse-text --parser spacy --model en_core_web_sm --workers 4
      itmkit parse-text --parser stanza --model ~/stanza_resources
      itmkit parse-text --parser conllu --model captions.txt.conllu
      itmkit parse-text --parser scan    (for `itmkit import-checkpoint`)
      itmkit parse-text --parser wordpiece --model bert-base-uncased/vocab.txt
      itmkit parse-text --shard 0/4      (one of four jobs; then itmkit merge)
    """
    from itmkit.cache.parts import merge_when_done
    from itmkit.job import Job
    from itmkit.machine.processes import part_to_do, rank
    from itmkit.parse_text.parse import parse_text

    part, leads = part_to_do(shard), rank().index == 0
    job = Job(
        batch=batch_size,
        shard_size=shard_size,
        part=part,
        workers=workers,
        force=force,
        progress=ConsoleProgress() if leads else SILENT,
    )
    result = parse_text(
        workspace,
        parser=parser,
        model=model,
        job=job,
    )
    if not leads:
        return
    if rank() != WHOLE:
        result = replace(result, words=len(merge_when_done(result.cache).tables["words"]))
    if as_json:
        print_json(asdict(result))
        return
    state = f"{result.parsed} parsed now" if result.parsed else "nothing to do"
    out.print(
        f"{result.cache}: {result.captions} captions, {result.distinct} distinct, {result.words} distinct words"
        f" ({result.parser}, {result.model['id']}; {state})"
    )
    if shard:
        part_done(part)
