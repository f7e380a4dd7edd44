"""itmkit extract-regions: regions of pictures by a detector or a grid of windows."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from itmkit.cache import WHOLE
from itmkit.commands import options
from itmkit.progress import SILENT
from itmkit.workspace import Workspace

if TYPE_CHECKING:
    from itmkit.machine.device import Precision


@click.command("extract-regions")
@options.workspace_option
@click.option(
    "--backend", type=click.Choice(["detector", "grid", "detectron2"]),
    help="detector: the boxes of an object detector. grid: fixed windows over any vision model's feature map."
    " detectron2: bottom-up attention, or any R-CNN of detectron2.",
)  # fmt: skip
@click.option(
    "--model", metavar="PATH|NAME",
    help="Folder of a transformers model, or its name on the hub. For detectron2: a weight file, or its folder.",
)  # fmt: skip
@click.option("--regions", type=click.IntRange(1, 1000), metavar="R", help="Regions per picture (36).")
@click.option("--size", type=click.IntRange(32, 4096), metavar="PIXELS", help="Side of the grid's input picture.")
@options.precision_option
@click.option(
    "--config", type=options.Path_, metavar="FILE.yaml",
    help="detectron2: the model's configuration (without it: the Visual Genome model with attributes).",
)  # fmt: skip
@click.option(
    "--vocabulary", type=options.Path_, metavar="FILE|DIR",
    help="OWLv2, Grounding DINO: file with a name to look for in each line (Visual Genome's). detectron2: folder with"
    " objects_vocab.txt and attributes_vocab.txt (that of the weights, if they are there).",
)  # fmt: skip
@click.option(
    "--selection", type=click.Choice(["original", "regressed"]),
    help="detectron2, Visual Genome: proposals with NMS in each class (original), or regressed boxes with one NMS.",
)  # fmt: skip
@click.option(
    "--min-regions", type=click.IntRange(1, 1000), metavar="N",
    help="detectron2: keep at least N regions, even if scores are low (as --regions).",
)  # fmt: skip
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    metavar="N",
    help="Pictures the model takes at once (1 on a CPU, but 16 of scenes; else 16).",
)
@options.device_option
@options.decoding_options
@options.shard_option
@click.option("--strict", is_flag=True, help="Stop at pictures that cannot be read instead of skipping them.")
@click.option("--download", is_flag=True, help="Allow fetching the default model from the hub.")
@options.force_option
@options.json_option
def command(
    workspace: Workspace,
    backend: str | None,
    model: str | None,
    regions: int | None,
    size: int | None,
    precision: Precision | None,
    config: Path | None,
    vocabulary: Path | None,
    selection: str | None,
    min_regions: int | None,
    batch_size: int | None,
    device: str | None,
    workers: int | None,
    timeout: float | None,
    shard: str | None,
    shard_size: int | None,
    strict: bool,
    download: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Boxes, features, tags and colours of every picture -> caches/regions.

    Without options, the model is that of workspace.toml, or the one the cache was begun with; otherwise the shipped
    detector for scenes, and facebook/detr-resnet-50 for photographs. A killed run continues where it was.

    \b
    Examples:
      itmkit extract-regions -w work
      itmkit extract-regions -w work --backend grid --model models/mobilenet_v2
      itmkit extract-regions --model models/owlv2 --vocabulary names.txt
      itmkit extract-regions -w work --backend detectron2 --model models/bottom-up
      itmkit extract-regions -w work --shard 0/4    (one of four jobs)
      itmkit merge -w work
      torchrun --nproc-per-node 4 -m -- itmkit extract-regions -w work
    """
    from itmkit.cache.parts import merge_when_done
    from itmkit.commands import console
    from itmkit.job import Job
    from itmkit.machine.processes import part_to_do, rank, rank_device
    from itmkit.regions.bottom_up.settings import BottomUpOptions
    from itmkit.regions.extract import extract_regions

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
    result = extract_regions(
        workspace,
        backend=backend,
        model=model,
        regions=regions,
        size=size,
        vocabulary=vocabulary,
        bottom_up=BottomUpOptions(config=config, selection=selection, min_regions=min_regions),
        download=download,
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
            f"{result.images} pictures, {result.regions} regions x {result.dim} -> {result.path}"
            f" ({result.seconds:.0f} s, {rate:.1f} pictures/s)"
        )
    if shard:
        console.part_done(part)
    console.skipped_pictures(result.path, result.skipped)
