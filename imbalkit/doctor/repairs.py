"""Repairs on copies: what does mending a suspected fault bring in a short training?

That is what a person would do: mend one thing, train a little, and see whether the loss leaves its
floor. Where several faults were named, all are mended, and each in turn is left as it is: then a
fault that stands behind another one shows, too.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from imbalkit.doctor.probes import BATCH, FEWEST_STEPS, MOST_STEPS, few_images, why_no_trials
from imbalkit.doctor.reading import Clock
from imbalkit.doctor.record import Record, best_of
from imbalkit.doctor.report import FAULT, HELPS, Effect, Finding
from imbalkit.doctor.trials import Plan, Trials

UNTIL = 0.97  # of the time budget
FEW = 4  # images in a batch by which BatchNorm cannot tell a mean
COMPANY = 3  # images beside each one of such a batch
# New weights mend these, and whatever else is wrong with the old ones: that they help proves less.
IN_THE_WEIGHTS = {"dead_units", "identical_units"}


@dataclass(frozen=True)
class Repair:
    """The field of a trial's plan that a fault is about: its value when mended, and when left."""

    field: str
    mended: Any
    left: Any


def _another_loss(record: Record) -> Repair:
    return Repair("plain", True, False)


def _another_rate(record: Record) -> Repair:
    probes = record.probes
    trials = {**probes.fresh, **probes.rehearsed} if probes else {}
    return Repair("rate", best_of(trials).factor if trials else 1.0, 1.0)


def _new_weights(record: Record) -> Repair:
    return Repair("fresh", True, False)


def _all_parameters(record: Record) -> Repair:
    return Repair("whole", True, False)


# The other causes cannot be mended on a copy: labels, images and weights that are not there.
REPAIRS: dict[str, Callable[[Record], Repair]] = {
    "activation_on_logits": lambda record: Repair("sharper", record.sharper, 1.0),
    "batchnorm_statistics": lambda record: Repair("company", COMPANY, 0),
    "compensated_twice": _another_loss,
    "dead_units": _new_weights,
    "double_softmax": _another_loss,
    "dropout_too_high": lambda record: Repair("dropout", False, True),
    "frozen_parameters": _all_parameters,
    "gradients_clipped": lambda r: Repair("longest", math.inf, r.step_gradient or math.inf),
    "gradients_not_cleared": lambda record: Repair("cleared", True, False),
    "identical_units": _new_weights,
    "input_range": lambda record: Repair("scaled", True, False),
    "inverted_class_weights": _another_loss,
    "learning_rate_too_high": _another_rate,
    "learning_rate_too_low": _another_rate,
    "missing_log_softmax": _another_loss,
    "no_optimizer_step": lambda record: Repair("steps", True, False),
    "not_in_optimizer": _all_parameters,
    "softmax_on_multilabel": _another_loss,
    "unshuffled_batches": lambda record: Repair("shuffled", True, False),
    "weight_decay_too_high": lambda record: Repair("decay", False, True),
    "weights_too_strong": _another_loss,
}


def try_repairs(findings: list[Finding], record: Record, clock: Clock) -> list[Finding]:
    """The findings in order, each fault that can be mended with what its repair brings.

    Where one repair brings clearly more than that of an earlier fault, it comes first.
    """
    causes = [f.cause for f in findings if f.severity == FAULT and can_be_mended(f.cause, record)]
    # A model that learns got no trials.
    blocked = record.no_probes if record.failing else why_no_trials(record, clock)
    if not causes or blocked:
        return findings
    rows = few_images(record)
    if "unshuffled_batches" in causes:  # whose order is the fault
        rows = record.usable.nonzero().flatten()
    trials = Trials(record, rows, min(BATCH, record.train.batch, record.setup.largest_batch))
    until = clock.started + UNTIL * clock.seconds
    trials.plan(until, trainings=1 + len(causes), fewest=FEWEST_STEPS, most=MOST_STEPS)
    if not trials.time_left(until):
        return findings
    repairs = {cause: REPAIRS[cause](record) for cause in causes}
    changes = {repair.field: repair.mended for repair in repairs.values()}
    mended = replace(Plan(shuffled=True), **changes)
    learned = trials.run(mended, judge=True).learned
    effects: dict[str, Effect] = {}
    for cause, repair in repairs.items():
        if trials.time_left(until):
            left = trials.run(replace(mended, **{repair.field: repair.left}), judge=True)
            effects[cause] = Effect(trials.steps, left.learned, learned)
    return helpful_first([replace(f, effect=effects.get(f.cause)) for f in findings])


def can_be_mended(cause: str, record: Record) -> bool:
    """Is there a repair that a short training can show?"""
    if cause == "activation_on_logits":
        return record.sharper > 1  # an activation is a part of the model
    if cause == "batchnorm_statistics":
        return record.train.batch <= FEW  # else it shows in evaluation mode alone
    return cause in REPAIRS


def helpful_first(findings: list[Finding]) -> list[Finding]:
    """Of the faults whose repair was tried, one that brings clearly more goes before its neighbor.

    The others keep their places: that labels are out of range is certain without a trial.
    """
    places = [
        i
        for i, f in enumerate(findings)
        if f.severity == FAULT and f.effect is not None and f.cause not in IN_THE_WEIGHTS
    ]
    tried: list[Finding] = []
    for i in places:
        at = len(tried)
        while at and _gain(findings[i]) > _gain(tried[at - 1]) + HELPS:
            at -= 1
        tried.insert(at, findings[i])
    ordered = list(findings)
    for place, finding in zip(places, tried, strict=True):
        ordered[place] = finding
    return ordered


def _gain(finding: Finding) -> float:
    return finding.effect.gain if finding.effect is not None else 0.0
