"""itmkit embed: pooled vectors of pictures and captions by a dual encoder."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import click

from itmkit.cache import WHOLE
from itmkit.commands import options
from itmkit.progress import SILENT
from itmkit.workspace import Workspace

if TYPE_CHECKING:
    from itmkit.machine.device import Precision


@click.command("embed")
@options.workspace_option
@click.option(
    "--model", metavar="PATH|NAME",
    help="Folder of a transformers model, or its name on the hub. Default: the one the cache was begun with.",
)  # fmt: skip
@click.option(
    "--cache", metavar="NAME", show_default="the model's name",
    help="The vectors lie in caches/vectors-NAME.",
)  # fmt: skip
@click.option("--only", type=click.Choice(["images", "texts"]), help="Embed one of the two only.")
@options.precision_option
@click.option(
    "--batch-size", type=click.IntRange(min=1), metavar="N", show_default="4 on a CPU, else 32",
    help="Pictures or captions the model takes at once.",
)  # fmt: skip
@options.device_option
@options.decoding_options
@options.shard_option
@click.option("--strict", is_flag=True, help="Stop at pictures that cannot be read instead of skipping them.")
@options.force_option
@options.json_option
def command(
    workspace: Workspace,
    model: str | None,
    cache: str | None,
    only: str | None,
    precision: Precision | None,
    batch_size: int | None,
    device: str | None,
    workers: int | None,
    timeout: float | None,
    shard: str | None,
    shard_size: int | None,
    strict: bool,
    force: bool,
    as_json: bool,
) -> None:
    """One vector per picture and per distinct caption, in the space of a dual encoder -> caches/vectors-NAME.

    For CLIP, ALIGN, AltCLIP, GroupViT, SigLIP and BLIP. A killed run continues where it was.

    \b
    Examples:
      itmkit embed -w work --model openai/clip-vit-large-patch14
      itmkit embed -w work --model models/align-base --cache align --only texts
      itmkit embed -w work --shard 0/4              (one of four jobs)
      itmkit merge -w work
      torchrun --nproc-per-node 4 -m -- itmkit embed -w work
    """
    from itmkit.cache.parts import merge_when_done
    from itmkit.commands import console
    from itmkit.embed.embed import SIDES, cut_captions, embed
    from itmkit.job import Job
    from itmkit.machine.processes import part_to_do, rank, rank_device

    part, leads = part_to_do(shard), rank().index == 0
    job = Job(
        precision=precision,
        batch=batch_size,
        device=device or rank_device(),
        workers=workers,
        timeout=timeout,
        part=part,
        shard_size=shard_size,
        strict=strict,
        force=force,
        progress=console.ConsoleProgress() if leads else SILENT,
    )
    result = embed(
        workspace,
        model=model,
        cache=cache,
        only=only,  # type: ignore[arg-type]
        job=job,
    )
    if not leads:
        return
    if rank() != WHOLE:
        of = {side: merge_when_done(result.path / side) for side in SIDES if only in (None, side)}
        if "images" in of:
            result = replace(result, images=of["images"].count, skipped=of["images"].skipped)
        if "texts" in of:
            result = replace(result, captions=of["texts"].count, truncated=cut_captions(result.path))
    if as_json:
        console.print_json(asdict(result))
        return
    if result.unchanged:
        console.out.print(f"{result.path}: complete, made from this data and model; nothing to do")
    else:
        counts = [(result.images, "pictures"), (result.captions, "distinct captions")]
        told = " and ".join(f"{count} {what}" for count, what in counts if count is not None)
        console.out.print(f"{told}, vectors of {result.dim} -> {result.path}")
    if result.truncated:
        console.out.print(f"{result.truncated} captions are longer than {result.limit} tokens and were cut")
    if shard:
        console.part_done(part)
    console.skipped_pictures(result.path / "images", result.skipped)
