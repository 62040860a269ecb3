"""Trial trainings on copies: can the model learn a few images, and at which learning rate?"""

import math
import time
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from imbalkit.doctor.evidence import Evidence, duplicate, forward, mixed_rows
from imbalkit.doctor.outputs import log_probabilities, logits_of
from imbalkit.doctor.reading import Clock

IMAGES, BATCH = 64, 16  # four batches an epoch: a single one would forgive too high a rate
FEWEST_STEPS, MOST_STEPS = 24, 48
REHEARSAL_STEPS = 200
# Of the learning rate, in this order. Where the loss rises, a larger one is no answer.
FACTORS = (0.1, 0.01, 10.0, 100.0, 1e3, 1e4, 1e5, 1e-3)
SMALLER = (0.1, 0.01, 1e-3, 1e-4)
# Progress is 0 at the loss of knowing the class shares alone and 1 at no loss at all.
LEARNS = 0.3
STUCK = 0.1
AHEAD = 0.1  # a tenth of the labels' entropy: twenty times what trials of one rate differ by


@dataclass
class Trial:
    """One short training.

    factor: what the learning rate was multiplied by.
    start, progress: 1 - loss / entropy of the labels, of the first batch and at the end; -inf
        where the loss was not finite.
    """

    factor: float
    start: float
    progress: float
    steps: int


@dataclass
class Probes:
    """What the trial trainings found.

    lr: the learning rate that the optimizer began with.
    fresh: trials from new random weights on a few images, by learning-rate factor.
    lr_now: the learning rate that a schedule has made of it.
    onward, onward_now: where that is less than a hundredth: trials that go on from the weights as
        they are, at `lr` and at `lr_now`.
    without_decay: where `lr` learns nothing: a trial at `lr` without weight decay.
    rehearsed: trainings from new random weights on all images read, by learning-rate factor.
    """

    lr: float
    fresh: dict[float, Trial]
    onward: Trial | None = None
    lr_now: float = 0.0
    onward_now: Trial | None = None
    without_decay: Trial | None = None
    rehearsed: dict[float, Trial] = field(default_factory=dict)

    @property
    def own(self) -> Trial:
        """The trial from new weights at the optimizer's own learning rate."""
        return self.fresh[1.0]

    def best(self) -> Trial:
        return max(self.fresh.values(), key=lambda trial: trial.progress)


def base_rate(group: dict) -> float:
    """The highest learning rate known: a schedule keeps the one it began with as "initial_lr"."""
    return max(float(group.get("initial_lr", 0)), float(group["lr"]))


def probe(evidence: Evidence, clock: Clock) -> Probes | None:
    """Run the trials, the most telling first, while the time lasts; None where it is too short.

    First on a few images, whose classes are as even as they can be, at rates from a thousandth of
    the optimizer's to a hundred thousand times. If the own rate learns these, or none does, a
    rehearsal of the real training follows, at that rate and at a tenth of it: noise can make a
    rate too high that a few images forgive.

    Inputs are brought to a sane scale, and the loss fits the outputs: a fault there is reported by
    its own check, and must not look like one of the learning rate.
    """
    trials = _Trials(evidence, few_images(evidence), BATCH)
    until = clock.started + 0.55 * clock.seconds
    trials.plan(until, trainings=5, fewest=FEWEST_STEPS, most=MOST_STEPS)
    if not trials.time_left(until):
        evidence.no_probes = "a trial training does not fit into the time budget"
        return None
    rate = max(map(base_rate, evidence.optimizer.param_groups))
    probes = Probes(rate, {1.0: trials.run(1.0)})
    probes.lr_now = max(float(group["lr"]) for group in evidence.optimizer.param_groups)
    if 0 < rate and probes.lr_now <= rate / 100:
        probes.onward = trials.run(1.0, fresh=False)
        probes.onward_now = trials.run(probes.lr_now / rate, fresh=False)
    decays = any(group.get("weight_decay") for group in evidence.optimizer.param_groups)
    if decays and probes.own.progress < STUCK and trials.time_left(until):
        probes.without_decay = trials.run(1.0, decay=False)
    if probes.own.progress < LEARNS:
        for factor in SMALLER if rises(probes.own) else FACTORS:
            if trials.time_left(until):
                probes.fresh[factor] = trials.run(factor)
                if probes.fresh[factor].progress >= 2 * LEARNS:
                    break
    # And where no trial was long enough to learn at any rate: a slow machine does few steps.
    if probes.own.progress >= STUCK or probes.best().progress < LEARNS:
        rehearsal = _Trials(evidence, evidence.usable.nonzero().flatten(), evidence.train.batch)
        until = clock.started + 0.95 * clock.seconds
        rehearsal.plan(until, trainings=2, fewest=FEWEST_STEPS, most=REHEARSAL_STEPS)
        for factor in (1.0, 0.1):
            if rehearsal.time_left(until):
                probes.rehearsed[factor] = rehearsal.run(factor)
    return probes


def rises(trial: Trial) -> bool:
    """Was the loss higher at the end than before the first step?"""
    return trial.progress < trial.start - STUCK


def few_images(evidence: Evidence) -> Tensor:
    """Rows of up to 64 training images, their classes as even as they can be."""
    return mixed_rows(evidence.train.labels, evidence.usable, IMAGES, per_class=True)


class _Trials:
    """Short trainings that all see the same rows in the same order."""

    def __init__(self, evidence: Evidence, rows: Tensor, batch: int):
        self.evidence, self.batch = evidence, batch
        generator = torch.Generator().manual_seed(0)
        self.order = rows[torch.randperm(len(rows), generator=generator)]
        inputs = evidence.train.inputs
        self.inputs = standardised(inputs, rows) if inputs.is_floating_point() else inputs
        shares = torch.bincount(evidence.train.labels[rows]) / len(rows)
        shares = shares[shares > 0]
        self.entropy = -(shares * shares.log()).sum().item()

    def plan(self, until: float, trainings: int, fewest: int, most: int) -> None:
        """Choose the number of steps so that so many trainings fit before `until`."""
        started = time.perf_counter()
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

    def _copies(self, fresh: bool):
        ours = self.evidence.model, self.evidence.optimizer
        model, optimizer = duplicate(ours, self.evidence.model)
        if fresh:
            torch.manual_seed(0)
            renew(model)
        optimizer.state.clear()
        return model, optimizer

    def _train(self, model, optimizer, steps: int) -> tuple[float, float]:
        """Cross-entropy of the first batch, and the mean of the last quarter's, as trained on."""
        model.train()
        losses = []
        for step in range(steps):
            places = torch.arange(step * self.batch, (step + 1) * self.batch) % len(self.order)
            loss, cross_entropy = self._losses(model, self.order[places])
            losses.append(cross_entropy)
            if not math.isfinite(cross_entropy):
                return losses[0], math.nan
            if loss.requires_grad:
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
        last = losses[-max(1, len(losses) // 4) :]
        return losses[0], sum(last) / len(last)

    def _losses(self, model, rows: Tensor):
        """The loss to train on, and the plain cross-entropy to judge by."""
        e = self.evidence
        with torch.enable_grad():
            outputs = forward(model, self.inputs[rows], e.device)
            log_probs = log_probabilities(logits_of(outputs).float(), e.train_kind)
            labels = e.train.labels[rows].to(e.device)
            cross_entropy = nn.functional.nll_loss(log_probs, labels)
            if e.misfit:
                return cross_entropy, cross_entropy.item()
            loss = e.loss_fn(outputs, e.train.targets[rows].to(e.device)).mean()
        return loss, cross_entropy.item()


def renew(model: nn.Module) -> set[str]:
    """New random weights, as each layer draws them itself; other parameters get small numbers.

    Frozen parameters too: the trial is about the learning rate, and pretrained weights that are
    good stay as they are, because such a model is not failing. Returns the names of the parameters
    that their layer drew.
    """
    owners = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            owners[id(parameter)] = module
    renewed = set()
    for module in {id(m): m for m in owners.values()}.values():
        reset = getattr(module, "reset_parameters", None) or getattr(
            module, "_reset_parameters", None
        )
        if callable(reset):
            reset()
            renewed.add(id(module))
    with torch.no_grad():
        for parameter in model.parameters():
            if id(owners[id(parameter)]) not in renewed and parameter.is_floating_point():
                nn.init.trunc_normal_(parameter, std=0.02)
        for buffer in model.buffers():
            if buffer.is_floating_point() and not buffer.isfinite().all():
                buffer.zero_()
    return {name for name, p in model.named_parameters() if id(owners[id(p)]) in renewed}


def standardised(inputs: Tensor, rows: Tensor) -> Tensor:
    """Inputs with mean 0 and standard deviation 1 over all numbers of these rows."""
    x = inputs[rows].float()
    return ((inputs.float() - x.mean()) / x.std().clamp_min(1e-6)).to(inputs.dtype)
