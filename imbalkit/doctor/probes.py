"""Trial trainings on copies: can the model learn a few images, and at which learning rate?"""

import math
import time

import torch
from torch import Tensor, nn

from imbalkit.device import free_memory
from imbalkit.doctor.copies import duplicate, renew
from imbalkit.doctor.measuring import mixed_rows
from imbalkit.doctor.reading import Clock
from imbalkit.doctor.record import Probes, Record, Trial, best_of

IMAGES, BATCH = 64, 16  # four batches an epoch: a single one would forgive too high a rate
FEWEST_STEPS, MOST_STEPS = 24, 48
REHEARSAL_STEPS = 200
LARGE = 50_000_000  # parameters; a step of such a model takes a processor a second and more
# Of the learning rate, in this order. Where the loss rises, a larger one is no answer.
FACTORS = (0.1, 0.01, 10.0, 100.0, 1e3, 1e4, 1e5, 1e-3)
SMALLER = (0.1, 0.01, 1e-3, 1e-4)
# Progress is 0 at the loss of knowing the class shares alone and 1 at no loss at all.
LEARNS = 0.3
STUCK = 0.1
AHEAD = 0.1  # a tenth of the labels' entropy: twenty times what trials of one rate differ by


def base_rate(group: dict) -> float:
    """The highest learning rate known: a schedule keeps the one it began with as "initial_lr"."""
    return max(float(group.get("initial_lr", 0)), float(group["lr"]))


def why_no_trials(record: Record, clock: Clock) -> str:
    """What stands against trial trainings, or ""."""
    if record.setup.no_trials:
        return record.setup.no_trials
    if record.optimizer is None or not record.optimizer.param_groups:
        return "no optimizer was given"
    if record.setup.broadcasts:
        return "the loss mixes up outputs and targets"
    if len(record.train.labels[few_images(record)].unique()) < 2:
        return "a trial training needs images of two classes"
    if not any(p.requires_grad for p in record.model.parameters()):
        return "no parameter can be trained"
    if isinstance(record.optimizer, torch.optim.LBFGS):
        return "LBFGS needs a closure, which only your loop has"
    if too_large(record):
        return "the copies for trial trainings of so large a model may not fit into the memory"
    if clock.left() < 0.2 * clock.seconds:
        return "the time budget was used up"
    return ""


def too_large(record: Record) -> bool:
    """A trial needs the weights, their gradients, and up to two moments of them once more."""
    parameters = sum(p.numel() for p in record.model.parameters())
    if parameters <= LARGE:
        return False
    free = free_memory(record.device)
    return free is None or free < 8 * sum(
        p.numel() * p.element_size() for p in record.model.parameters()
    )


def probe(record: Record, clock: Clock) -> Probes | None:
    """Run the trials, the most telling first, while the time lasts; None where it is too short.

    First on a few images, whose classes are as even as they can be, at rates from a thousandth of
    the optimizer's to a hundred thousand times. If the own rate learns these, or none does, a
    rehearsal of the real training follows, at that rate and at a tenth of it: noise can make a
    rate too high that a few images forgive.

    Inputs are brought to a sane scale, and the loss fits the outputs: a fault there is reported by
    its own check, and must not look like one of the learning rate.
    """
    trials = _Trials(record, few_images(record), min(BATCH, record.setup.largest_batch))
    until = clock.started + 0.55 * clock.seconds
    trials.plan(until, trainings=5, fewest=FEWEST_STEPS, most=MOST_STEPS)
    if not trials.time_left(until):
        return None
    groups = record.optimizer.param_groups
    rate, rate_now = max(map(base_rate, groups)), max(float(group["lr"]) for group in groups)
    own = trials.run(1.0)
    onward = onward_now = without_decay = None
    if 0 < rate and rate_now <= rate / 100:
        onward = trials.run(1.0, fresh=False)
        onward_now = trials.run(rate_now / rate, fresh=False)
    decays = any(group.get("weight_decay") for group in groups)
    if decays and own.progress < STUCK and trials.time_left(until):
        without_decay = trials.run(1.0, decay=False)
    fresh = {1.0: own}
    if own.progress < LEARNS:
        for factor in SMALLER if rises(own) else FACTORS:
            if trials.time_left(until):
                fresh[factor] = trials.run(factor)
                if fresh[factor].progress >= 2 * LEARNS:
                    break
    # And where no trial was long enough to learn at any rate: a slow machine does few steps.
    worth_rehearsing = own.progress >= STUCK or best_of(fresh).progress < LEARNS
    rehearsed = rehearse(record, clock) if worth_rehearsing else {}
    return Probes(rate, rate_now, fresh, onward, onward_now, without_decay, rehearsed)


def rehearse(record: Record, clock: Clock) -> dict[float, Trial]:
    """Trainings on all images read, at the own rate and at a tenth of it, as time allows."""
    trials = _Trials(record, record.usable.nonzero().flatten(), record.train.batch)
    until = clock.started + 0.95 * clock.seconds
    trials.plan(until, trainings=2, fewest=FEWEST_STEPS, most=REHEARSAL_STEPS)
    rehearsed = {}
    for factor in (1.0, 0.1):
        if trials.time_left(until):
            rehearsed[factor] = trials.run(factor)
    return rehearsed


def rises(trial: Trial) -> bool:
    """Was the loss higher at the end than before the first step?"""
    return trial.progress < trial.start - STUCK


def few_images(record: Record) -> Tensor:
    """Rows of up to 64 training images, their classes as even as they can be."""
    return mixed_rows(record.train.labels, record.usable, IMAGES, per_class=True)


class _Trials:
    """Short trainings that all see the same rows in the same order."""

    def __init__(self, record: Record, rows: Tensor, batch: int):
        self.record, self.batch = record, batch
        generator = torch.Generator().manual_seed(0)
        self.order = rows[torch.randperm(len(rows), generator=generator)]
        inputs, self.seconds = record.train.inputs, math.inf
        plain = inputs.is_floating_point() and record.train.one_input
        self.inputs = standardized(inputs, rows) if plain else inputs
        self.entropy = record.task.entropy(record.train.targets[rows])

    def plan(self, until: float, trainings: int, fewest: int, most: int) -> None:
        """Choose the number of steps so that so many trainings fit before `until`."""
        started = time.perf_counter()
        pace = self.record.setup.pace
        if started + fewest * 2 * pace.seconds(self.batch) * self.record.setup.accumulate > until:
            return  # not one would end in time
        self._train(*self._copies(fresh=True), steps=2)
        step = max((time.perf_counter() - started) / 2, 1e-6)
        fitting = (until - time.perf_counter()) / trainings / step
        self.steps = int(min(most, max(fewest, fitting)))
        self.seconds = self.steps * step

    def time_left(self, until: float) -> bool:
        return time.perf_counter() + self.seconds < until

    def run(self, factor: float, fresh: bool = True, decay: bool = True) -> Trial:
        """Train at `factor` times the optimizer's learning rate."""
        model, optimizer = self._copies(fresh)
        for group in optimizer.param_groups:
            group["lr"] = factor * base_rate(group)
            if not decay:
                group["weight_decay"] = 0.0
        first, last = self._train(model, optimizer, self.steps)
        return Trial(factor, self._progress(first), self._progress(last), self.steps)

    def _progress(self, loss: float) -> float:
        return 1 - loss / self.entropy if math.isfinite(loss) else -math.inf

    def _copies(self, fresh: bool) -> tuple[nn.Module, torch.optim.Optimizer]:
        ours = self.record.model, self.record.optimizer
        model, optimizer = duplicate(ours, self.record.model)
        if fresh:
            torch.manual_seed(0)
            renew(model)
        forget(optimizer)
        return model, optimizer

    def _train(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int
    ) -> tuple[float, float]:
        """Cross-entropy of the first batch, and the mean of the last quarter's, as trained on."""
        model.train()
        losses, each = [], self.record.setup.accumulate
        for step in range(steps * each):
            places = torch.arange(step * self.batch, (step + 1) * self.batch) % len(self.order)
            loss, cross_entropy = self._losses(model, self.order[places])
            losses.append(cross_entropy)
            if not math.isfinite(cross_entropy):
                return losses[0], math.nan
            if loss.requires_grad:
                if step % each == 0:
                    optimizer.zero_grad(set_to_none=True)
                (loss / each).backward()
                if step % each == each - 1:
                    optimizer.step()
        last = losses[-max(1, len(losses) // 4) :]
        return losses[0], sum(last) / len(last)

    def _losses(self, model: nn.Module, rows: Tensor) -> tuple[Tensor, float]:
        """The loss to train on, and the plain cross-entropy to judge by."""
        record, setup = self.record, self.record.setup
        targets = record.train.targets[rows].to(record.device)
        with torch.enable_grad():
            outputs = setup.outputs(model, record.train.rows(rows, self.inputs))
            scores = setup.scores(outputs, targets)
            cross_entropy = record.task.plain_loss(scores.float(), targets, record.train_kind)
            if record.misfit:
                return cross_entropy, cross_entropy.item()
            loss = setup.loss(outputs, scores, targets, record.task)
        return loss, cross_entropy.item()


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
