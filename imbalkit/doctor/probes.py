"""Trial trainings on copies: can the model learn a few images, and at which learning rate?"""

from dataclasses import replace

import torch
from torch import Tensor

from imbalkit.device import free_memory
from imbalkit.doctor.measuring import mixed_rows
from imbalkit.doctor.reading import Clock
from imbalkit.doctor.record import Probes, Record, Trial, best_of
from imbalkit.doctor.trials import Plan, Trials, base_rate

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


def probe(record: Record, clock: Clock, rehearsals: bool = True) -> Probes | None:
    """Run the trials, the most telling first, while the time lasts; None where it is too short.

    First on a few images, whose classes are as even as they can be, at rates from a thousandth of
    the optimizer's to a hundred thousand times. If the own rate learns these, or none does, a
    rehearsal of the real training follows, at that rate and at a tenth of it: noise can make a
    rate too high that a few images forgive.

    Inputs are brought to a sane scale, and the loss fits the outputs: a fault there is reported by
    its own check, and must not look like one of the learning rate.

    Args:
        rehearsals: may such a rehearsal follow?
    """
    sane = Plan(shuffled=True, scaled=True, plain=record.misfit)
    trials = Trials(record, few_images(record), min(BATCH, record.setup.largest_batch))
    until = clock.started + 0.55 * clock.seconds
    trials.plan(until, trainings=5, fewest=FEWEST_STEPS, most=MOST_STEPS)
    if not trials.time_left(until):
        return None
    groups = record.optimizer.param_groups
    rate, rate_now = max(map(base_rate, groups)), max(float(group["lr"]) for group in groups)
    begun = max(float(group.get("initial_lr", rate)) for group in groups)
    own = trials.run(sane)
    onward = onward_now = without_decay = clipped = None
    if 0 < rate and rate_now <= rate / 100:
        onward = trials.run(replace(sane, fresh=False))
        onward_now = trials.run(replace(sane, fresh=False, rate=rate_now / rate))
    decays = record.penalty or any(group.get("weight_decay") for group in groups)
    if decays and own.progress < STUCK and trials.time_left(until):
        without_decay = trials.run(replace(sane, decay=False))
    if record.tiny_steps and own.progress >= STUCK and trials.time_left(until):
        clipped = trials.run(replace(sane, longest=record.step_gradient))
    fresh = {1.0: own}
    if own.progress < LEARNS:
        for factor in factors(own, rate, begun):
            if trials.time_left(until):
                fresh[factor] = trials.run(replace(sane, rate=factor))
                if fresh[factor].progress >= 2 * LEARNS:
                    break
    # And where no trial was long enough to learn at any rate: a slow machine does few steps.
    worth_rehearsing = own.progress >= STUCK or best_of(fresh).progress < LEARNS
    rehearsed = rehearse(record, clock, sane) if rehearsals and worth_rehearsing else {}
    return Probes(rate, rate_now, fresh, onward, onward_now, without_decay, clipped, rehearsed)


def rehearse(record: Record, clock: Clock, sane: Plan) -> dict[float, Trial]:
    """Trainings on all images read, at the own rate and at a tenth of it, as time allows."""
    trials = Trials(record, record.usable.nonzero().flatten(), record.train.batch)
    until = clock.started + 0.75 * clock.seconds
    trials.plan(until, trainings=2, fewest=FEWEST_STEPS, most=REHEARSAL_STEPS)
    rehearsed = {}
    for factor in (1.0, 0.1):
        if trials.time_left(until):
            rehearsed[factor] = trials.run(replace(sane, rate=factor))
    return rehearsed


def factors(own: Trial, rate: float, begun: float) -> list[float]:
    """What to multiply the rate by, in this order; first what a schedule has raised it from."""
    tried = SMALLER if rises(own) else FACTORS
    return [*([begun / rate] if 0 < begun < rate else []), *tried]


def rises(trial: Trial) -> bool:
    """Was the loss higher at the end than before the first step?"""
    return trial.progress < trial.start - STUCK


def few_images(record: Record) -> Tensor:
    """Rows of up to 64 training images, their classes as even as they can be."""
    return mixed_rows(record.train.labels, record.usable, IMAGES, per_class=True)
