"""itmkit encode-text: vectors of words and of tag phrases by a frozen language model."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from itmkit.cache import WHOLE
from itmkit.commands import options
from itmkit.progress import SILENT
from itmkit.workspace import Workspace

if TYPE_CHECKING:
    from itmkit.encode_text.encode import EncodeResult
    from itmkit.machine.device import Precision


@click.command("encode-text")
@options.workspace_option
@click.option(
    "--model", metavar="PATH|NAME",
    help="Folder of a transformers model, or its name on the hub. Default: the one the cache was begun with.",
)  # fmt: skip
@click.option(
    "--cache", metavar="NAME", show_default="the model's name",
    help="The vectors lie in caches/words-NAME.",
)  # fmt: skip
@click.option("--only", type=click.Choice(["texts", "tags"]), help="Words of the captions, or tag phrases, only.")
@click.option(
    "--layer", metavar="N|last4", show_default="-1",
    help="Which output of the model: -1 is the last, last4 the mean of the last four.",
)  # fmt: skip
@options.precision_option
@click.option(
    "--batch-tokens", type=click.IntRange(min=1), metavar="N", show_default="4096 on a CPU, else 32768",
    help="Tokens the model takes at once.",
)  # fmt: skip
@options.device_option
@options.shard_option
@options.force_option
@options.json_option
def command(
    workspace: Workspace,
    model: str | None,
    cache: str | None,
    only: str | None,
    layer: str | None,
    precision: Precision | None,
    batch_tokens: int | None,
    device: str | None,
    shard: str | None,
    shard_size: int | None,
    force: bool,
    as_json: bool,
) -> None:
    """A vector of every word of the captions, and of every tag phrase of the regions -> caches/words-NAME.

    The words are those of parse-text; the tags ("red car") are those of the region cache, if it has any. The model is
    BERT, RoBERTa, DistilBERT, MPNet or the like, frozen. A killed run continues where it was.

    \b
    Examples:
      itmkit encode-text -w work --model google-bert/bert-base-uncased
      itmkit encode-text --model models/minilm --cache minilm --layer last4
      itmkit encode-text -w work --shard 0/4        (one of four jobs)
      itmkit merge -w work
      torchrun --nproc-per-node 4 -m -- itmkit encode-text -w work
    """
    from itmkit.cache.parts import merge_when_done
    from itmkit.commands import console
    from itmkit.encode_text.encode import encode_text
    from itmkit.job import Job
    from itmkit.machine.processes import part_to_do, rank, rank_device

    part, leads = part_to_do(shard), rank().index == 0
    job = Job(
        precision=precision,
        batch=batch_tokens,
        device=device or rank_device(),
        shard_size=shard_size,
        part=part,
        force=force,
        progress=console.ConsoleProgress() if leads else SILENT,
    )
    result = encode_text(
        workspace,
        model=model,
        cache=cache,
        only=only,  # type: ignore[arg-type]
        layer=layer,
        job=job,
    )
    if not leads:
        return
    if rank() != WHOLE:
        for side, rows in (("texts", result.captions), ("tags", result.phrases)):
            if rows is not None:
                merge_when_done(result.path / side)
    if as_json:
        console.print_json(asdict(result))
        return
    if not result.encoded:
        console.out.print(f"{result.path}: complete, made from this data and model; nothing to do")
    else:
        _say(result)
    if shard:
        console.part_done(part)


def _say(result: EncodeResult) -> None:
    from itmkit.commands.console import out

    told = [] if result.captions is None else [f"{result.words} words of {result.captions} distinct captions"]
    told += [] if result.phrases is None else [f"{result.phrases} tag phrases"]
    out.print(
        f"{' and '.join(told)}, vectors of {result.dim} -> {result.path} (padding {result.padding:.1%} of the tokens)"
    )
    if result.without:
        out.print(f"{result.without} words have no piece in the model's tokeniser; their vectors are zero")
