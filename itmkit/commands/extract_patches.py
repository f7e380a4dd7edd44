"""itmkit extract-patches: patch vectors of pictures by a vision transformer."""

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


@click.command("extract-patches")
@options.workspace_option
@click.option(
    "--model", metavar="PATH|NAME",
    help="Folder of a transformers model, or its name on the hub. Default: the one the cache was begun with.",
)  # fmt: skip
@click.option("--cache", default="patches", show_default=True, metavar="NAME", help="Folder below caches.")
@click.option(
    "--size", type=click.IntRange(16, 4096), metavar="PIXELS", show_default="the model's own",
    help="Side of the square that a picture is resized to.",
)  # fmt: skip
@click.option(
    "--attention/--no-attention", default=None, show_default="as begun, else without",
    help="Store the attention of [CLS] to the patches, which CMFG reads with --image-nodes; needs more memory.",
)  # fmt: skip
@options.precision_option
@click.option(
    "--batch-size", type=click.IntRange(min=1), metavar="N", show_default="4 on a CPU, else 32",
    help="Pictures the model takes at once.",
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
    cache: str,
    size: int | None,
    attention: bool | None,
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
    """Patch vectors and [CLS] of every picture -> caches/patches.

    CMFG, LAPS and SCL read them with the recipe paper, other methods with --images patches. The model is a ViT, DeiT,
    DINOv2, DINOv3, BEiT, CLIP, SigLIP, BLIP, Swin or the like. A killed run continues where it was.

    \b
    Examples:
      itmkit extract-patches -w work --model google/vit-base-patch16-224-in21k
      itmkit extract-patches --model models/dinov2-base --cache dinov2 --size 336
      itmkit extract-patches -w work --shard 0/4    (one of four jobs)
      itmkit merge -w work
      torchrun --nproc-per-node 4 -m -- itmkit extract-patches -w work
    """
    from itmkit.cache.parts import merge_when_done
    from itmkit.commands import console
    from itmkit.job import Job
    from itmkit.machine.processes import part_to_do, rank, rank_device
    from itmkit.regions.patches import extract_patches

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
    result = extract_patches(
        workspace,
        model=model,
        cache=cache,
        size=size,
        attention=attention,
        job=job,
    )
    if not leads:
        return
    if rank() != WHOLE:
        manifest = merge_when_done(result.path)
        result = replace(result, images=manifest.count, skipped=manifest.skipped)
    if as_json:
        console.print_json(asdict(result))
        return
    if result.unchanged:
        console.out.print(f"{result.path}: complete, made from these pictures and settings; nothing to do")
    else:
        rate = result.done_now / max(result.seconds, 1e-9)
        console.out.print(
            f"{result.images} pictures, {result.patches} patches x {result.dim} -> {result.path}"
            f" ({result.seconds:.0f} s, {rate:.1f} pictures/s)"
        )
    if shard:
        console.part_done(part)
    console.skipped_pictures(result.path, result.skipped)
