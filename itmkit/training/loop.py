"""`itmkit train`: all members of a method over the same batches, with exact resume.

A run killed at any moment continues from its last saved state and ends in the same weights, bit for bit, as one
that was not: the order of the batches follows from (seed, epoch), the dropout of a step from (seed, step).
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from itmkit.cache import WHOLE, Part
from itmkit.dataset import Dataset
from itmkit.errors import ItmkitError
from itmkit.files import write_json
from itmkit.inputs import Inputs
from itmkit.matchers import Stage, after_step, begin, build, method
from itmkit.matchers.parts.losses import Negatives, triplet_loss
from itmkit.memory import keep_freed_memory
from itmkit.progress import SILENT, Progress
from itmkit.text.vocabulary import Vocabulary
from itmkit.training.batches import PairBatch, epoch_order, pair_batches
from itmkit.training.checkpoint import load_state, save_state, save_weights
from itmkit.training.collapse import GRACE, CollapseWatch, advice
from itmkit.training.gradients import add_gradients
from itmkit.training.records import append, trim
from itmkit.training.runs import clear_run, continues, run_facts, run_vocabulary, settled
from itmkit.training.schedule import learning_rate, negatives_of, stage_of
from itmkit.training.settings import RunConfig
from itmkit.training.together import add_up, processes, told
from itmkit.training.validation import validate
from itmkit.workspace import Workspace


@dataclass
class TrainResult:
    run: Path
    config: RunConfig
    epochs: int
    best: dict[str, dict[str, Any]]  # member -> {"epoch", "rsum"}
    did_nothing: bool = False


@dataclass
class _State:
    """What a resume needs beside weights and moments. Written as JSON into the header of the state file."""

    epoch: int = 0  # epochs finished
    step: int = 0  # steps done in the epoch under way
    loss_sum: dict[str, float] = field(default_factory=dict)
    best: dict[str, dict[str, Any]] = field(default_factory=dict)
    watch: dict[str, int] = field(default_factory=dict)
    pairs: int = 0
    collapsed: list[str] = field(default_factory=list)  # members that had collapsed by the last finished epoch


def train(
    workspace: Workspace,
    config: RunConfig,
    *,
    run: str | None = None,
    device: str | None = None,
    part: Part = WHOLE,
    force: bool = False,
    progress: Progress = SILENT,
) -> TrainResult:
    """Trains every member of a method; each keeps the weights of its own best epoch by validation rsum.

    Args:
        run: name of the folder under `runs/`; the method's name by default. A finished run is left as it is, an
            unfinished one continued.
        part: which of several processes this is (`itmkit.ranks.rank`). The first one writes and validates.
        force: begin anew.

    Raises:
        ItmkitError: missing or stale caches, a run of other settings or data, a collapse, a loss that is not finite.
    """
    chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    folder = workspace.run(run or config.method)
    with processes(part, chosen):
        dataset = workspace.dataset()
        plan = _plan(workspace, dataset, config, folder, part, force) if part.index == 0 else None
        config, facts, found, vocabulary = told(plan)
        if found and found["finished"]:
            return TrainResult(folder, config, found["epochs_done"], found["best"], did_nothing=True)
        module = method(config.method)
        needs = module.needs(config.matcher)
        training = Inputs(workspace, dataset.split("train"), vocabulary, needs)
        validation = Inputs(workspace, dataset.split("val"), vocabulary, needs)
        members = build(config.method, config.matcher, sizes=training.sizes, seed=config.training.seed)
        for matcher in members.values():
            matcher.to(chosen)
        facts |= {"members": module.members(config.matcher), "sizes": asdict(training.sizes)}
        if not found and part.index == 0:
            config.write(folder / "config.toml")
            write_json(folder / "run.json", facts | {"epochs_done": 0, "best": {}, "finished": False})
        return _Run(config, folder, facts, members, training, validation, chosen, part, progress).train()


def _plan(
    workspace: Workspace, dataset: Dataset, config: RunConfig, folder: Path, part: Part, force: bool
) -> tuple[RunConfig, dict[str, Any], dict[str, Any] | None, Vocabulary | None]:
    """The settings in full, the facts of the run, those of the run that it continues, if it does, and its words."""
    config = settled(workspace, config, folder)
    least = 2 * part.of * config.training.captions_per_image  # the last batch of an epoch may be half as large
    if config.training.batch_size < least and part.of > 1:
        raise ItmkitError(f"--batch-size {config.training.batch_size}: {part.of} processes need at least {least}")
    facts = run_facts(workspace, dataset, config)
    if force:
        (folder / "run.json").unlink(missing_ok=True)
    found = continues(folder, facts, config)
    if not found:
        clear_run(folder)
    return config, facts, found, run_vocabulary(workspace, dataset, config, folder)


class _Run:
    """One run under way."""

    def __init__(
        self,
        config: RunConfig,
        folder: Path,
        facts: dict[str, Any],
        members: dict[str, nn.Module],
        training: Inputs,
        validation: Inputs,
        device: torch.device,
        part: Part,
        progress: Progress,
    ) -> None:
        self.config, self.settings = config, config.training
        self.folder, self.facts, self.members = folder, facts, members
        self.training, self.validation = training, validation
        self.device, self.part, self.progress = device, part, progress
        self.leads = part.index == 0  # the others only compute
        parameters = [p for matcher in members.values() for p in matcher.parameters()]
        self.stages = config.stages
        self.epochs = sum(stage.epochs for stage in self.stages)
        # A method without parameters is not trained, but Adam wants something to hold.
        parameters = parameters or [nn.Parameter(torch.zeros(1))]
        self.optimizer = torch.optim.Adam(parameters, lr=self.settings.learning_rate, fused=True)
        self.state = _State(loss_sum=dict.fromkeys(members, 0.0), watch=dict.fromkeys(members, -GRACE))

    @property
    def state_path(self) -> Path:
        return self.folder / "last" / "state.safetensors"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.jsonl"

    def train(self) -> TrainResult:
        torch.use_deterministic_algorithms(True, warn_only=True)
        if self.device.type == "cpu":
            keep_freed_memory()
        if self.state_path.exists():
            self.state = _State(**load_state(self.state_path, self.members, self.optimizer))
            at = f"epoch {self.state.epoch + 1}, step {self.state.step}"
            self.progress.note(f"continuing {self.folder} at {at}")
        told(None)  # all have read the state before the first one writes another
        if self.leads:
            trim(self.metrics, self.state.epoch)
        self._stop_if_collapsed()
        if not self.epochs and not self.state.best and self.leads:
            append(self.metrics, self._validate(0, 1, "none", 0.0))
        while self.state.epoch < self.epochs:
            self._epoch()
        if self.leads:
            self._write_facts(finished=True)
            self.state_path.unlink(missing_ok=True)
        return TrainResult(self.folder, self.config, self.state.epoch, self.state.best)

    def _epoch(self) -> None:
        epoch = self.state.epoch + 1
        stage, within = stage_of(self.stages, epoch)
        for matcher in self.members.values():
            begin(matcher, stage.name)
        batches = epoch_order(
            self.training.image_of,
            batch_size=self.settings.batch_size,
            captions_per_image=self.settings.captions_per_image,
            seed=self.settings.seed,
            epoch=epoch,
        )
        negatives = negatives_of(self.settings, within)
        began, done_before = time.perf_counter(), self.state.pairs
        title = f"epoch {epoch}/{self.epochs}" + (f" ({stage.name})" if stage.name else "")
        with self.progress.task(title, len(batches), done=self.state.step, unit="steps") as advance:
            ways = {"part": self.part, "global_negatives": self.settings.global_negatives}
            coming = pair_batches(self.training, batches[self.state.step :], **ways)  # type: ignore[arg-type]
            for number, batch in enumerate(coming, self.state.step):
                for group in self.optimizer.param_groups:
                    group["lr"] = learning_rate(self.settings, within, number, len(batches))
                losses = self._step(batch, stage.name, negatives, (epoch, number))
                self.state.step = number + 1
                mean = sum(losses.values()) / len(losses) / len(batches[number])
                advance(1, status=f"loss {mean:.4f} a pair")
                due = self.state.step % self.settings.checkpoint_steps == 0 and self.state.step < len(batches)
                if due and self.leads:
                    save_state(self.state_path, self.members, self.optimizer, asdict(self.state))
        seconds = time.perf_counter() - began
        pairs_per_second = (self.state.pairs - done_before) / max(seconds, 1e-9)
        watches = {name: CollapseWatch(self.state.watch[name]) for name in self.members}
        collapsed = [name for name, watch in watches.items() if watch.collapsed(len(batches))]
        self.state.collapsed = told(collapsed)  # each process sees the scores of its own share
        if not self.leads:
            record = {}
        elif stage == self.stages[-1]:
            record = self._validate(epoch, len(batches), negatives, pairs_per_second)
        else:
            record = self._unvalidated(epoch, stage, len(batches), pairs_per_second)
        self.state.epoch, self.state.step, self.state.pairs = epoch, 0, 0
        self.state.loss_sum = dict.fromkeys(self.members, 0.0)
        if self.leads:
            append(self.metrics, record)
            save_state(self.state_path, self.members, self.optimizer, asdict(self.state))
            self._write_facts(finished=False)
        self._stop_if_collapsed()

    def _stop_if_collapsed(self) -> None:
        if not self.state.collapsed:
            return
        negatives = negatives_of(self.settings, stage_of(self.stages, self.state.epoch)[1])
        problems = [advice(name, self.state.epoch, negatives) for name in self.state.collapsed]
        if problems and self.settings.stop_on_collapse:
            problems[-1] += ". Training stopped; --stop-on-collapse false goes on regardless"
            raise ItmkitError(problems)
        for problem in problems:
            self.progress.note(problem)

    def _step(self, batch: PairBatch, stage: str, negatives: Negatives, at: tuple[int, int]) -> dict[str, float]:
        # Dropout follows from the step; those of other processes from their number too.
        drawn_from = [self.settings.seed, *at, *([self.part.index] if self.part.index else [])]
        seed = int(np.random.SeedSequence(drawn_from).generate_state(1)[0])
        images, texts = batch.images.to(self.device), batch.texts.to(self.device)
        image_of = batch.image_of.to(self.device)
        triplet = partial(
            triplet_loss,
            image_of=image_of,
            margin=self.settings.margin,
            negatives=negatives,
            temperature=self.settings.temperature,
        )
        self.optimizer.zero_grad(set_to_none=True)
        losses: dict[str, float] = {}
        for name, matcher in self.members.items():
            # The members share no parameter and no random number, so each is trained as if it were alone.
            matcher.train()
            parts, together = self.settings.accumulate, batch.together
            found = add_gradients(
                matcher, images, texts, image_of, triplet, stage, seed=seed, parts=parts, together=together
            )
            add_up(parameter.grad for parameter in matcher.parameters() if parameter.grad is not None)
            total = found.total.clone()
            if together is None:  # of this process's share; otherwise all of them have the loss of the whole batch
                add_up([total])
            losses[name] = float(total)
            if not np.isfinite(losses[name]):
                self._not_finite(name, "loss", batch, at)
            if not torch.isfinite(nn.utils.clip_grad_norm_(matcher.parameters(), self.settings.clip)):
                self._not_finite(name, "gradient", batch, at)
            if found.views:
                equal = sum(float(triplet(torch.zeros_like(view))) for view in found.views)
                watch = CollapseWatch(self.state.watch[name])
                watch.step(torch.stack(found.views), float(found.total), equal)
                self.state.watch[name] = watch.count
            self.state.loss_sum[name] += losses[name] / len(batch.captions)
        self.optimizer.step()
        for matcher in self.members.values():
            after_step(matcher, stage)
        self.state.pairs += batch.pairs
        return losses

    def _unvalidated(self, epoch: int, stage: Stage, steps: int, pairs_per_second: float) -> dict[str, Any]:
        """A line of metrics.jsonl for an epoch of a stage that does not end in scores."""
        mean = {name: total / steps for name, total in self.state.loss_sum.items()}
        said = ", ".join(f"{name} {value:.3f}" for name, value in mean.items())
        self.progress.note(f"epoch {epoch}/{self.epochs} ({stage.name}): loss {said}")
        speed = {"pairs_per_second": round(pairs_per_second, 1)}
        return {"epoch": epoch, "stage": stage.name, **speed, **{name: {"loss": v} for name, v in mean.items()}}

    def _validate(self, epoch: int, steps: int, negatives: str, pairs_per_second: float) -> dict[str, Any]:
        """Scores validation images with every member, keeps the best weights; returns a line of metrics.jsonl."""
        results, together, count = validate(
            self.members,
            self.facts["members"],
            self.validation,
            limit=self.settings.validation_images,
            device=self.device,
            progress=self.progress,
        )
        record: dict[str, Any] = {"epoch": epoch, "negatives": negatives, "validation_images": count}
        record["learning_rate"] = self.optimizer.param_groups[0]["lr"]
        record["pairs_per_second"] = round(pairs_per_second, 1)
        record["collapsed"] = self.state.collapsed
        for name, result in results.items():
            figures = {"loss": self.state.loss_sum[name] / steps, "rsum": result.rsum, **result.to_json()}
            record[name] = figures
            best = self.state.best.get(name)
            if best is None or result.rsum > best["rsum"]:
                self.state.best[name] = {"epoch": epoch, "rsum": result.rsum}
                facts = {"member": name, "epoch": epoch, "rsum": result.rsum}
                save_weights(self.folder / f"best-{name}.safetensors", self.members[name], facts)
        if together is not None:
            record["ensemble"] = {"rsum": together.rsum, **together.to_json()}
        if not epoch:
            said = ", ".join(f"{name} {result.rsum:.1f}" for name, result in results.items())
            self.progress.note(f"{self.config.method} has nothing to train: val rsum {said}")
            return record
        said = ", ".join(f"{name} {r.rsum:.1f} (loss {record[name]['loss']:.3f})" for name, r in results.items())
        both = f", ensemble {record['ensemble']['rsum']:.1f}" if "ensemble" in record else ""
        speed = f"{pairs_per_second:,.0f} pairs/s"
        self.progress.note(f"epoch {epoch}/{self.epochs}: val rsum {said}{both}; {speed}")
        return record

    def _not_finite(self, member: str, what: str, batch: PairBatch, at: tuple[int, int]) -> None:
        ids = [self.training.images[i].id for i in np.unique(self.training.image_of[batch.captions])]
        path = self.folder / "not-finite.json"
        if self.leads:
            write_json(path, {"member": member, "what": what, "epoch": at[0], "step": at[1], "images": ids})
        raise ItmkitError(
            f"the {what} of member {member!r} is not finite in epoch {at[0]}, step {at[1]}; the images of the batch are"
            f" in {path}. The last saved state is untouched: lower --learning-rate and train with --force"
        )

    def _write_facts(self, *, finished: bool) -> None:
        done = {"epochs_done": self.state.epoch, "best": self.state.best, "finished": finished}
        write_json(self.folder / "run.json", self.facts | done)
