"""Short trainings on copies, as the caller's or with something mended."""

import math
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from imbalkit.doctor.copies import duplicate_both, renew
from imbalkit.doctor.measuring import mixed_rows, predictions, predictions_of_labels
from imbalkit.doctor.record import Record, Trial
from imbalkit.doctor.setup import buffers_kept, switch_dropout_off
from imbalkit.doctor.structure import parameters_behind

JUDGED = 256  # images by which a training is judged


@dataclass(frozen=True)
class Plan:
    """What a trial training does; by default what the caller's does, from new weights.

    Attributes:
        rate: what the optimizer's learning rate is multiplied by.
        fresh: draw new weights first?
        steps: is a step taken at all?
        decay: with weight decay?
        dropout: with dropout?
        scaled: are the inputs brought to mean 0 and deviation 1?
        plain: the plain cross-entropy of what the outputs are, in place of the loss?
        shuffled: are the batches drawn anew? Else they come as they were read.
        whole: are all parameters trained, also frozen ones and those that the optimizer lacks?
        cleared: are the gradients cleared before each step?
        longest: the gradients are cut to this length.
        company: images that pass with each one of a batch and are not asked for: BatchNorm then
            averages over many.
        sharper: what the scores are multiplied by.
    """

    rate: float = 1.0
    fresh: bool = True
    steps: bool = True
    decay: bool = True
    dropout: bool = True
    scaled: bool = False
    plain: bool = False
    shuffled: bool = False
    whole: bool = False
    cleared: bool = True
    longest: float = math.inf
    company: int = 0
    sharper: float = 1.0


def base_rate(group: dict) -> float:
    """The highest learning rate known: a schedule keeps the one it began with as "initial_lr"."""
    return max(float(group.get("initial_lr", 0)), float(group["lr"]))


class Trials:
    """Short trainings that all see the same rows in the same order."""

    def __init__(self, record: Record, rows: Tensor, batch: int):
        self.record, self.rows, self.batch = record, rows, batch
        generator = torch.Generator().manual_seed(0)
        self.shuffled = rows[torch.randperm(len(rows), generator=generator)]
        self.seconds, self.steps = math.inf, 0
        self.entropy = record.task.entropy(record.train.targets[rows])
        self._standardized: Tensor | None = None

    def plan(self, until: float, trainings: int, fewest: int, most: int) -> None:
        """Choose the number of steps so that so many trainings fit before `until`."""
        started = time.perf_counter()
        pace = self.record.setup.pace
        if started + fewest * 2 * pace.seconds(self.batch) * self.record.setup.accumulate > until:
            return  # not one would end in time
        plan = Plan()
        self._train(*self._copies(plan), plan, steps=2)
        step = max((time.perf_counter() - started) / 2, 1e-6)
        fitting = (until - time.perf_counter()) / trainings / step
        self.steps = int(min(most, max(fewest, fitting)))
        self.seconds = self.steps * step

    def time_left(self, until: float) -> bool:
        return time.perf_counter() + self.seconds < until

    def run(self, plan: Plan, judge: bool = False) -> Trial:
        """Train as planned.

        Args:
            plan: what the training does.
            judge: also say what was learned of all rows, in training mode.
        """
        model, optimizer = self._copies(plan)
        first, last = self._train(model, optimizer, plan, self.steps if plan.steps else 0)
        learned = self._learned(model, plan) if judge else math.nan
        return Trial(plan.rate, self._progress(first), self._progress(last), self.steps, learned)

    def _progress(self, loss: float) -> float:
        return 1 - loss / self.entropy if math.isfinite(loss) else -math.inf

    # ---- a training ----

    def _copies(self, plan: Plan) -> tuple[nn.Module, torch.optim.Optimizer]:
        model, optimizer = duplicate_both(self.record.model, self.record.optimizer)
        if plan.fresh:
            torch.manual_seed(0)
            renew(model)
        if plan.whole:
            self._add_all(model, optimizer)
        forget(optimizer)
        for group in optimizer.param_groups:
            group["lr"] = plan.rate * base_rate(group)
            if "weight_decay" in group:
                decay = group["weight_decay"] + self.record.penalty
                group["weight_decay"] = decay if plan.decay else 0.0
        return model, optimizer

    def _add_all(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Every parameter that the outputs depend on is trained, as those of the first group."""
        for parameter in model.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
        setup, few = self.record.setup, self.record.train.rows(self.rows[:2])
        with torch.enable_grad():
            outputs = setup.outputs(model.eval(), few)
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        new = [p for p in parameters_behind(outputs) if id(p) not in held]
        if new:
            first = optimizer.param_groups[0]
            optimizer.add_param_group({**first, "params": new})

    def _train(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, plan: Plan, steps: int
    ) -> tuple[float, float]:
        """Cross-entropy of the first batch, and the mean of the last quarter's, as trained on."""
        model.train()
        if not plan.dropout:
            switch_dropout_off(model)
        held = [p for group in optimizer.param_groups for p in group["params"]]
        losses, each = [], self.record.setup.accumulate
        for step in range(steps * each):
            loss, cross_entropy = self._losses(model, self._batch(step, plan), plan)
            losses.append(cross_entropy)
            if not math.isfinite(cross_entropy):
                return losses[0], math.nan
            if loss.requires_grad:
                if step % each == 0 and plan.cleared:
                    optimizer.zero_grad(set_to_none=True)
                (loss / each).backward()
                if step % each == each - 1:
                    if plan.longest < math.inf:
                        nn.utils.clip_grad_norm_(held, plan.longest)
                    optimizer.step()
        last = losses[-max(1, len(losses) // 4) :] or [math.nan]
        return (losses or last)[0], sum(last) / len(last)

    def _batch(self, step: int, plan: Plan) -> Tensor:
        """The rows of a step; what comes behind the first `batch` is company."""
        order = self.shuffled if plan.shuffled else self.rows
        rows = order[torch.arange(step * self.batch, (step + 1) * self.batch) % len(order)]
        if not plan.company:
            return rows
        start = step * plan.company * self.batch
        others = torch.arange(start, start + plan.company * self.batch) % len(order)
        return torch.cat([rows, self.shuffled[others]])

    def _losses(self, model: nn.Module, rows: Tensor, plan: Plan) -> tuple[Tensor, float]:
        """The loss to train on, and the plain cross-entropy to judge by."""
        record, setup = self.record, self.record.setup
        targets = record.train.targets[rows].to(record.device)
        with torch.enable_grad():
            outputs: Any = setup.outputs(model, record.train.rows(rows, self._inputs(plan)))
            scores = setup.scores(outputs, targets)
            if plan.company or plan.sharper != 1:
                scores = outputs = plan.sharper * scores[: self.batch]
                targets = targets[: self.batch]
            cross_entropy = record.task.plain_loss(scores.float(), targets, record.train_kind)
            if plan.plain:
                return cross_entropy, cross_entropy.item()
            loss = setup.loss(outputs, scores, targets, record.task)
        return loss, cross_entropy.item()

    def _inputs(self, plan: Plan) -> Tensor:
        inputs = self.record.train.inputs
        if not (plan.scaled and inputs.is_floating_point() and self.record.train.one_input):
            return inputs
        if self._standardized is None:
            self._standardized = standardized(inputs, self.rows)
        return self._standardized

    # ---- what came of it ----

    def _learned(self, model: nn.Module, plan: Plan) -> float:
        """What was learned of a mix of the rows, 0 for guessing and 1 for all, in training mode."""
        record, setup, task = self.record, self.record.setup, self.record.task
        usable = torch.zeros_like(record.usable)
        usable[self.rows] = True
        rows = mixed_rows(record.train.labels, usable, setup.size(JUDGED, 0.1), per_class=False)
        if len(rows) < 2:
            return math.nan
        targets = record.train.targets[rows].to(record.device)
        model.train()
        switch_dropout_off(model)
        with buffers_kept(model), torch.no_grad():
            outputs = setup.outputs(model, record.train.rows(rows, self._inputs(plan)))
            scores = plan.sharper * setup.scores(outputs, targets).float()
            log_probs, labels = task.examples(scores, targets, record.train_kind)
        log_probs, labels = log_probs.cpu(), labels.cpu()
        if not task.several:
            return predictions(log_probs, labels).learned
        return predictions_of_labels(log_probs, labels.view(-1, task.classes)).learned


def standardized(inputs: Tensor, rows: Tensor) -> Tensor:
    """Inputs with mean 0 and standard deviation 1 over all numbers of these rows."""
    x = inputs[rows].float()
    return ((inputs.float() - x.mean()) / x.std().clamp_min(1e-6)).to(inputs.dtype)


def forget(optimizer: torch.optim.Optimizer) -> None:
    """Make the optimizer's state that of a new one."""
    optimizer.state.clear()
    if isinstance(optimizer, torch.optim.Adagrad):  # an older one has no state but from `__init__`
        for group in optimizer.param_groups:
            for p in group["params"]:
                sums = torch.full_like(p, group["initial_accumulator_value"])
                optimizer.state[p] = {"step": torch.tensor(0.0), "sum": sums}
