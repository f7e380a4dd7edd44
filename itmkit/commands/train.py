"""itmkit train."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from itmkit.commands import complete
from itmkit.commands.options import device_option, force_option, json_option, workspace_option
from itmkit.errors import ItmkitError
from itmkit.workspace import Workspace

if TYPE_CHECKING:
    from itmkit.training.estimate import Estimate


def read_settings(extra: Sequence[str]) -> dict[str, str]:
    """`--name value` and `--name=value` pairs into {name: value}; a hyphen in a name stands for an underscore."""
    settings: dict[str, str] = {}
    problems = []
    words = list(extra)
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            problems.append(f"{word!r}: a setting is written --name value")
            continue
        name, equals, value = word[2:].partition("=")
        if not equals:
            if not words or words[0].startswith("--"):
                problems.append(f"{word}: needs a value, as in {word} 1")
                continue
            value = words.pop(0)
        settings[name.replace("-", "_")] = value
    if problems:
        raise ItmkitError(problems)
    return settings


@click.command("train", context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@workspace_option
@click.option(
    "--method",
    metavar="NAME",
    shell_complete=complete.methods,
    help="mpsm, glfn, ...: `itmkit methods` lists them. Not needed for a --run that exists: it keeps its settings.",
)
@click.option(
    "--recipe",
    show_default="small",
    metavar="NAME",
    help="small (for a laptop), paper, coco, or scenes (for the quickstart).",
)
@click.option(
    "--run", metavar="NAME", shell_complete=complete.runs, show_default="the method", help="Folder under runs/."
)
@click.option("--dry-run", is_flag=True, help="Only estimate time and memory, from a few steps; writes nothing.")
@click.option("--tensorboard", is_flag=True, help="Write curves for TensorBoard too (needs itmkit[tensorboard]).")
@device_option
@force_option
@json_option
@click.pass_context
def command(
    context: click.Context,
    workspace: Workspace,
    method: str | None,
    recipe: str | None,
    run: str | None,
    dry_run: bool,
    tensorboard: bool,
    device: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Train a matcher on the caches of the workspace; continue a run that was stopped or killed.

    Every setting of the method and of the training is an option: --epochs 5, --embed 128, --negatives soft,
    --kgid-layers 0. `itmkit methods mpsm` and docs/train.md list them. Instead of --epochs, --budget 40m (or 1.5h)
    trains as many epochs as fit into so many core minutes, and scales the settings that count epochs.

    \b
    Examples:
      itmkit train --method mpsm
      itmkit train --method mpsm --recipe paper --dry-run
      itmkit train --method mpsm --budget 40m
      itmkit train --method mpsm --run no-kgid --kgid-layers 0 --seed 1
      itmkit train --run no-kgid
      itmkit train --method vsepp --recipe paper --device cuda
      torchrun --nproc-per-node 2 -m -- \\
        itmkit train --method mpsm --global-negatives true
    """

    from itmkit.commands.console import ConsoleProgress, print_json, table
    from itmkit.machine.processes import rank, rank_device
    from itmkit.progress import SILENT
    from itmkit.runs.begin import configured
    from itmkit.training.again import as_before
    from itmkit.training.budget import fit
    from itmkit.training.estimate import estimate
    from itmkit.training.train import train

    try:
        dataset = workspace.dataset()
    except ItmkitError:  # which `configured` meets again, and tells together with what is wrong with the settings
        dataset = None
    settings = read_settings(context.args)
    if method is not None:
        config = configured(workspace, method, recipe=recipe or "small", settings=settings, run=run, dataset=dataset)
    elif recipe is not None:
        raise ItmkitError("--recipe belongs to a --method; a --run that exists keeps its own")
    else:
        config = as_before(workspace, run, settings, dataset)
    part = rank()
    progress = ConsoleProgress() if part.index == 0 else SILENT
    device = device or rank_device()
    if dry_run:
        minutes = None
        if part.of > 1:
            raise ItmkitError("--dry-run: tries one process; run it without torchrun")
        found = estimate(workspace, config, run=run, device=device, dataset=dataset, progress=progress)
        if config.training.budget:
            chosen, found = fit(config, found)
            minutes = chosen.measured["core_minutes"]
        if as_json:
            print_json(found.to_json() | ({"core_minutes": minutes} if minutes is not None else {}))
        else:
            _show_estimate(
                found, "" if minutes is None else f"{minutes:.3g} of {config.training.budget:g} core minutes"
            )
        return
    result = train(
        workspace,
        config,
        run=run,
        device=device,
        part=part,
        force=force,
        tensorboard=tensorboard,
        dataset=dataset,
        progress=progress,
    )
    if part.index:
        return
    if as_json:
        more = {"core_minutes": result.core_minutes, "chance_rsum": result.chance_rsum}
        known = {name: value for name, value in more.items() if value is not None}
        print_json({"run": str(result.run), "epochs": result.epochs, "best": result.best} | known)
        return
    if result.did_nothing:
        progress.note(f"{result.run} is finished; --force trains it anew")
    rows = [(name, best["epoch"], f"{best['rsum']:.1f}") for name, best in result.best.items()]
    chance = "" if result.chance_rsum is None else f" (chance: rsum {result.chance_rsum:.1f})"
    title = f"{result.run}: best weights by validation{chance}"
    table(title, ["member", "epoch", "val rsum"], rows, right=["epoch", "val rsum"])


def _show_estimate(found: Estimate, budget: str) -> None:
    from itmkit.commands.console import table

    trained = ", ".join(f"{name} {count.trained:,}" for name, count in found.parameters.items())
    scoring = ", ".join(f"{name} {count.scoring:,}" for name, count in found.parameters.items())
    rows = [("trained parameters", trained)]
    if scoring != trained:  # frozen ones are used, too
        rows.append(("parameters of a score", scoring))
    rows.append(("steps an epoch", f"{found.steps:,}"))
    for stage in found.stages:
        said = f"{stage.step:.3g} s, {stage.pairs_per_second:,.0f} pairs/s; {stage.waiting:.0%} of it waiting for data"
        rows.append((f"a step{f' of stage {stage.name}' if stage.name else ''}", said))
    epochs = sum(stage.epochs for stage in found.stages)
    rows += [
        ("validation", in_units(found.validation)),
        ("an epoch", in_units(found.epoch)),
        (f"{epochs} epoch{'s' * (epochs > 1)}", in_units(found.seconds)),
        *([("of the budget", budget)] if budget else []),
        ("peak of memory", f"{found.memory / 1e9:.1f} GB of {found.device}"),
        ("files", f"{found.disk / 1e9:.2f} GB"),
    ]
    table(f"estimated from a few steps on {found.device}, products in {found.precision}", ["", "takes"], rows)


def in_units(seconds: float) -> str:
    """A time as people say it: 42 s, 3 min 20 s, 5 h 10 min, 2 d 3 h."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    large = next(place for place, (_, size) in enumerate(units) if round(seconds) >= size)
    (name, size), *below = units[large:]
    if not below:
        return f"{seconds:.0f} s"
    small, part = below[0]
    whole = round(seconds / part)
    rest = whole % (size // part)
    return f"{whole * part // size} {name}" + (f" {rest} {small}" if rest else "")
