"""The epochs of a training: steps, validation, saved states. See `itmkit.training.train`."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from itmkit.errors import ItmkitError
from itmkit.files import write_json
from itmkit.inputs import Inputs
from itmkit.machine.memory import keep_freed_memory
from itmkit.machine.stop import Stop, Stopped, in_words
from itmkit.matchers import Stage, begin
from itmkit.progress import Progress
from itmkit.runs.checkpoint import save_state, save_weights
from itmkit.runs.facts import RunFacts
from itmkit.runs.place import Place, remove_figures
from itmkit.runs.records import FILE as METRICS
from itmkit.runs.records import append, trim
from itmkit.runs.settings import RunConfig
from itmkit.scoring.metrics import Retrieval, chance_of
from itmkit.training.batches import PairBatch, batches_of
from itmkit.training.board import Board
from itmkit.training.budget import CoreClock
from itmkit.training.collapse import GRACE, CollapseWatch, advice
from itmkit.training.feeding import Feed
from itmkit.training.prospects import about_figures
from itmkit.training.schedule import learning_rate, negatives_of, stage_of
from itmkit.training.state import State, saved_state
from itmkit.training.step import Learned, Learner, NotFinite
from itmkit.training.thinning import Thinning
from itmkit.training.together import broadcast, greatest, wait_for_all
from itmkit.training.validation import validate


class Epochs:
    """The epochs of one run, which is under way."""

    def __init__(
        self,
        config: RunConfig,
        place: Place,
        facts: RunFacts,
        learner: Learner,
        training: Inputs,
        validation: Inputs,
        board: Board | None,
        progress: Progress,
    ) -> None:
        """board: curves for TensorBoard too, written by the first process."""
        self.config, self.settings = config, config.training
        self.place, self.facts, self.learner, self.board = place, facts, learner, board
        self.training, self.validation, self.progress = training, validation, progress
        self.part, self.device = learner.part, learner.device
        self.leads = self.part.index == 0  # the others only compute
        images = self.settings.validation_images or len(validation.images)
        self.chance = chance_of(validation.image_of[validation.image_of < images])
        self.stages = config.stages
        self.epochs = sum(stage.epochs for stage in self.stages)
        self.feed = Feed(
            training,
            workers=self.settings.workers,
            device=self.device,
            part=self.part,
            global_negatives=self.settings.global_negatives,
            thinning=Thinning.of(self.settings),
        )
        members = learner.members
        self.state = State(loss_sum=dict.fromkeys(members, 0.0), watch=dict.fromkeys(members, -GRACE))

    @property
    def state_path(self) -> Path:
        return self.place.now / "last" / "state.safetensors"

    @property
    def metrics(self) -> Path:
        return self.place.now / METRICS

    def train(self, stop: Stop, *, continues: bool) -> State:
        """Trains to the end. Returns the last state.

        Args:
            stop: asked by a signal to save the state and stop.
            continues: go on from the saved state, if there is one.

        Raises:
            Stopped: after a signal. The state is saved.
        """
        self.stop = stop
        torch.use_deterministic_algorithms(True, warn_only=True)
        if self.device.type == "cpu":
            keep_freed_memory()
        if continues and self.state_path.exists():
            self.state = saved_state(self.state_path, self.learner.modules, self.learner.optimizer, self.facts.id)
            at = f"epoch {self.state.epoch + 1}, step {self.state.step}"
            self.progress.note(f"continuing {self.place.folder} at {at}")
        wait_for_all()  # all have read the state before the first one writes another
        self.clock = CoreClock(self.device, self.part.of)
        if self.leads:
            trim(self.metrics, self.state.epoch, self.state.metrics)
        self._stop_if_collapsed()
        if not self.epochs and not self.state.best and self.leads:
            record = self._validate(0, 1, "none", self.settings.learning_rate, 0.0)
            self.state.metrics = append(self.metrics, record)
        while self.state.epoch < self.epochs and not self._has_waited():
            self._stop_if_asked()
            self._epoch()
        if self.leads:
            self._write_facts(finished=True)
            self.place.settle()
            self.state_path.unlink(missing_ok=True)
            if note := about_figures(self.state.best, self.chance):
                self.progress.note(note)
        if self.board:
            self.board.close()
        if number := greatest(stop.number, self.device):
            raise Stopped(number, f"{in_words(number)}; {self.place.folder} is finished" if self.leads else "")
        return self.state

    def _stop_if_asked(self) -> None:
        """Saves the state and ends, where any of the processes has received a signal."""
        number = greatest(self.stop.number, self.device)
        if not number:
            return
        begun = self.state.epoch or self.state.step  # else there is nothing to save, nor to replace an old run with
        if self.leads and begun:
            self._save_state()
        if self.board:
            self.board.close()
        at = f"epoch {self.state.epoch + 1}, step {self.state.step}"
        again = "the same command without --force" if self.place.forced and begun else "the same command"
        said = f"{in_words(number)}; {self.place.folder} is saved at {at}. Run {again} to continue from there"
        said = said if begun else f"{in_words(number)} before the first step; nothing is changed"
        raise Stopped(number, said if self.leads else "")

    def _has_waited(self) -> bool:
        """Whether no member has improved for `patience` epochs."""
        best = broadcast([member["epoch"] for member in self.state.best.values()])
        if not self.settings.patience or not best or self.state.epoch - max(best) < self.settings.patience:
            return False
        self.progress.note(f"no member has improved since epoch {max(best)}: training ends (--patience)")
        return True

    def _epoch(self) -> None:
        epoch = self.state.epoch + 1
        stage, within = stage_of(self.stages, epoch)
        for matcher in self.learner.members.values():
            begin(matcher, stage.name)
        batches = batches_of(self.training, self.settings, epoch)
        negatives = negatives_of(self.settings, within)
        began = time.perf_counter() - self.state.seconds
        done_before = 0 if self.state.seconds else self.state.pairs  # a state of an older version has no seconds
        title = f"epoch {epoch}/{self.epochs}" + (f" ({stage.name})" if stage.name else "")
        rate = self._rate(stage, within, len(batches) - 1, len(batches))  # of the last step
        known = f", val rsum {self.state.rsum:.1f}" if self.state.rsum is not None else ""
        with self.progress.task(title, len(batches), done=self.state.step, unit="steps") as advance:
            first = self.state.step
            for number, batch in enumerate(self.feed.batches(batches[first:], epoch=epoch, first=first), first):
                done = (epoch - 1) * len(batches) + number
                rate = self._rate(stage, within, number, len(batches))
                try:
                    learned = self.learner.step(
                        batch, stage.name, negatives, rate, epoch=epoch, number=number, done=done
                    )
                except NotFinite as error:
                    raise self._in_words(error, batch, epoch, number) from None
                self._learned(learned, batch)
                self.state.step = number + 1
                mean = sum(each.loss for each in learned.values()) / len(learned) / len(batch.captions)
                self.state.seconds = time.perf_counter() - began
                speed = (self.state.pairs - done_before) / self.state.seconds
                advance(1, status=f"loss {mean:.4f}, {speed:,.0f} pairs/s{known}")
                if self.board:
                    self.board.step(done, learned, len(batch.captions), rate)
                due = self.state.step % self.settings.checkpoint_steps == 0 and self.state.step < len(batches)
                if due and self.leads:
                    self._save_state()
                self._stop_if_asked()
        pairs_per_second = (self.state.pairs - done_before) / max(self.state.seconds, 1e-9)
        watches = {name: CollapseWatch(count) for name, count in self.state.watch.items()}
        collapsed = [name for name, watch in watches.items() if watch.collapsed(len(batches))]
        self.state.collapsed = broadcast(collapsed)  # each process sees the scores of its own share
        self._count()
        if not self.leads:
            record = {}
        elif stage == self.stages[-1]:
            record = self._validate(epoch, len(batches), negatives, rate, pairs_per_second)
        else:
            record = self._unvalidated(epoch, stage, len(batches), pairs_per_second)
        self.state.epoch, self.state.step, self.state.pairs, self.state.seconds = epoch, 0, 0, 0.0
        self.state.loss_sum = dict.fromkeys(self.learner.members, 0.0)
        if self.leads:
            self.state.metrics = append(self.metrics, record)
            if self.board:
                self.board.epoch(epoch * len(batches), record)
            self._count(alone=True)
            self._save_state()
            self._write_facts(finished=False)
        self._stop_if_collapsed()

    def _rate(self, stage: Stage, within: int, number: int, steps: int) -> float:
        return learning_rate(self.settings, within, number, epochs=stage.epochs, steps=steps)

    def _learned(self, learned: dict[str, Learned], batch: PairBatch) -> None:
        for name, found in learned.items():
            if found.views is not None:
                watch = CollapseWatch(self.state.watch[name])
                watch.step(found.views, found.share, found.equal)
                self.state.watch[name] = watch.count
            self.state.loss_sum[name] += found.loss / len(batch.captions)
        self.state.pairs += batch.pairs

    def _count(self, *, alone: bool = False) -> None:
        self.state.core_minutes += self.clock.lap(alone=alone)

    def _save_state(self) -> None:
        self._count()
        facts = {"run": self.facts.id, **asdict(self.state)}
        save_state(self.state_path, self.learner.modules, self.learner.optimizer, facts)
        self._count(alone=True)
        if self.place.now != self.place.folder:
            self._write_facts(finished=False)
            self.place.settle()
            if self.board:
                self.board.move(self.place.now / "tensorboard")

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

    def _unvalidated(self, epoch: int, stage: Stage, steps: int, pairs_per_second: float) -> dict[str, Any]:
        """A line of metrics.jsonl for an epoch of a stage that produces no scores."""
        mean = {name: total / steps for name, total in self.state.loss_sum.items()}
        said = ", ".join(f"{name} {value:.3f}" for name, value in mean.items())
        self.progress.note(f"epoch {epoch}/{self.epochs} ({stage.name}): loss {said}")
        speed = {"pairs_per_second": round(pairs_per_second, 1)}
        return {"epoch": epoch, "stage": stage.name, **speed, **{name: {"loss": v} for name, v in mean.items()}}

    def _validate(self, epoch: int, steps: int, negatives: str, rate: float, pairs_per_second: float) -> dict[str, Any]:
        """Scores validation images with every member and keeps the best weights. Returns a line of metrics.jsonl."""
        results, together, count = self._scored()
        record: dict[str, Any] = {"epoch": epoch, "negatives": negatives, "validation_images": count}
        record["learning_rate"] = rate
        record["pairs_per_second"] = round(pairs_per_second, 1)
        record["collapsed"] = self.state.collapsed
        record["chance_rsum"] = self.chance
        for name, result in results.items():
            figures = {"loss": self.state.loss_sum[name] / steps, "rsum": result.rsum, **result.to_json()}
            record[name] = figures
            best = self.state.best.get(name)
            if best is None or result.rsum > best["rsum"]:
                self.state.best[name] = {"epoch": epoch, "rsum": result.rsum}
                remove_figures(self.place.now)  # of an evaluation between two trainings of the run
                facts = {"run": self.facts.id, "member": name, "epoch": epoch, "rsum": result.rsum}
                save_weights(self.place.now / f"best-{name}.safetensors", self.learner.kept[name], facts)
        if together is not None:
            record["ensemble"] = {"rsum": together.rsum, **together.to_json()}
        self.state.rsum = (together or next(iter(results.values()))).rsum
        if not epoch:
            said = ", ".join(f"{name} {result.rsum:.1f}" for name, result in results.items())
            self.progress.note(f"{self.config.method} has nothing to train: val rsum {said}, chance {self.chance:.1f}")
            return record
        said = ", ".join(f"{name} {r.rsum:.1f} (loss {record[name]['loss']:.3f})" for name, r in results.items())
        both = f", ensemble {record['ensemble']['rsum']:.1f}" if "ensemble" in record else ""
        speed = f"{pairs_per_second:,.0f} pairs/s"
        self.progress.note(f"epoch {epoch}/{self.epochs}: val rsum {said}{both}, chance {self.chance:.1f}; {speed}")
        return record

    def _scored(self) -> tuple[dict[str, Retrieval], Retrieval | None, int]:
        """The figures of the validation images. A signal ends it at once, where no other process waits for it."""
        try:
            with self.stop.at_once() if self.part.of == 1 else nullcontext():
                return validate(
                    self.learner.kept,
                    self.facts.members,
                    self.validation,
                    limit=self.settings.validation_images,
                    device=self.device,
                    progress=self.progress,
                )
        except Stopped:  # the steps of the epoch are done and are saved; what comes next is to validate
            self._stop_if_asked()
            raise

    def _in_words(self, error: NotFinite, batch: PairBatch, epoch: int, step: int) -> ItmkitError:
        ids = [self.training.images[i].id for i in np.unique(self.training.image_of[batch.captions])]
        path = self.place.folder / "not-finite.json"
        if self.leads:
            write_json(path, {"member": error.member, "what": error.what, "epoch": epoch, "step": step, "images": ids})
        return ItmkitError(
            f"{error} in epoch {epoch}, step {step}; the images of the batch are in {path}. The last saved state is"
            " untouched: lower --learning-rate and train with --force"
        )

    def _write_facts(self, *, finished: bool) -> None:
        self._count()
        done: dict[str, Any] = {"epochs_done": self.state.epoch, "best": self.state.best, "finished": finished}
        files = {**self.facts.files, METRICS: self.state.metrics} if self.state.metrics else self.facts.files
        minutes = round(self.state.core_minutes, 4)
        replace(self.facts, **done, files=files, core_minutes=minutes).write(self.place.now)
