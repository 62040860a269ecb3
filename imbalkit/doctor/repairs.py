"""Repairs on copies: what does mending a suspected fault bring in a short training?

That is what a person would do: mend one thing, train a little, and see whether the loss leaves its
floor. Where several faults were named, all are mended, and each in turn is left as it is: then a
fault that stands behind another one shows, too.
"""

import math
from collections.abc import Callable
from dataclasses import replace

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

# How a training repeats a fault: what it changes in the plan of one where all is mended. The other
# causes cannot be mended on a copy: labels, images and weights that are not there.
FAULTS: dict[str, Callable[[Record], dict]] = {
    "activation_on_logits": lambda record: {"sharper": 1.0},
    "batchnorm_statistics": lambda record: {"company": 0},
    "compensated_twice": lambda record: {"plain": False},
    "dead_units": lambda record: {"fresh": False},
    "double_softmax": lambda record: {"plain": False},
    "dropout_too_high": lambda record: {"dropout": True},
    "frozen_parameters": lambda record: {"whole": False},
    "gradients_clipped": lambda record: {"longest": record.step_gradient or math.inf},
    "gradients_not_cleared": lambda record: {"cleared": False},
    "identical_units": lambda record: {"fresh": False},
    "input_range": lambda record: {"scaled": False},
    "inverted_class_weights": lambda record: {"plain": False},
    "learning_rate_too_high": lambda record: {"rate": 1.0},
    "learning_rate_too_low": lambda record: {"rate": 1.0},
    "missing_log_softmax": lambda record: {"plain": False},
    "no_optimizer_step": lambda record: {"steps": False},
    "not_in_optimizer": lambda record: {"whole": False},
    "softmax_on_multilabel": lambda record: {"plain": False},
    "unshuffled_batches": lambda record: {"shuffled": False},
    "weight_decay_too_high": lambda record: {"decay": True},
    "weights_too_strong": lambda record: {"plain": False},
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
    mended = all_mended(record, causes)
    learned = trials.run(mended, judge=True).learned
    effects: dict[str, Effect] = {}
    for cause in causes:
        if trials.time_left(until):
            left = trials.run(replace(mended, **FAULTS[cause](record)), judge=True)
            effects[cause] = Effect(trials.steps, left.learned, learned)
    return helpful_first([replace(f, effect=effects.get(f.cause)) for f in findings])


def can_be_mended(cause: str, record: Record) -> bool:
    """Is there a repair that a short training can show?"""
    if cause == "activation_on_logits":
        return record.sharper > 1  # an activation is a part of the model
    if cause == "batchnorm_statistics":
        return record.train.batch <= FEW  # else it shows in evaluation mode alone
    return cause in FAULTS


def all_mended(record: Record, causes: list[str]) -> Plan:
    """The caller's training from new weights, without any of these faults."""
    found = set(causes)
    rates = {"learning_rate_too_high", "learning_rate_too_low"}
    loss = {"compensated_twice", "double_softmax", "inverted_class_weights"}
    loss |= {"missing_log_softmax", "softmax_on_multilabel", "weights_too_strong"}
    return Plan(
        rate=_best_rate(record) if rates & found else 1.0,
        decay="weight_decay_too_high" not in found,
        dropout="dropout_too_high" not in found,
        scaled="input_range" in found,
        plain=bool(loss & found),
        shuffled=True,
        whole=bool({"frozen_parameters", "not_in_optimizer"} & found),
        company=COMPANY if "batchnorm_statistics" in found else 0,
        sharper=record.sharper if "activation_on_logits" in found else 1.0,
    )


def _best_rate(record: Record) -> float:
    """The factor of the learning rate that learned most in the trials."""
    probes = record.probes
    return best_of({**probes.fresh, **probes.rehearsed}).factor if probes else 1.0


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
