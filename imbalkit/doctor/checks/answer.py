"""What a check answers: a Finding, Healthy, or NotChecked; and what several checks say alike."""

import math

from torch import Tensor

from imbalkit.doctor.causes import CAUSES
from imbalkit.doctor.record import Record, Trial
from imbalkit.doctor.report import FAULT, NOTE, WARNING, Finding

CONSTANT = 1e-3  # spread of a class's log-probability over the images, below which it is none


class Healthy(str):
    """What was found in order.

    Example:
        >>> print(Healthy("labels from 0 to 2 for 3 classes"))
        labels from 0 to 2 for 3 classes
    """


class NotChecked(str):
    """Why a question could not be answered.

    Example:
        >>> print(NotChecked("there is no optimizer"))
        there is no optimizer
    """


Answer = Finding | Healthy | NotChecked


def finding(cause: str, severity: str, numbers: dict, rate: float | None = None) -> Finding:
    """A Finding with the texts of its cause; `rate` is the learning rate to propose."""
    text = CAUSES[cause]
    fix = text.fix.format(rate=rate) if rate is not None else text.fix
    numbers = {name: str(value) for name, value in numbers.items()}
    return Finding(cause, severity, numbers, text.explanation, fix, text.lesson)


def if_failing(record: Record) -> str:
    """What explains a failure is a fault where there is one, a warning for a model that was never
    trained, and else something to know."""
    if not record.failing:
        return NOTE
    return WARNING if record.untrained else FAULT


def listed(names: list[str]) -> str:
    """The first three names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def progress_text(trial: Trial) -> str:
    """How much a trial training learned, as a share."""
    return f"{max(trial.progress, 0):.0%}" if math.isfinite(trial.progress) else "not finite"


def ratio_of(values: Tensor) -> float:
    """The largest number by the smallest."""
    return (values.max() / values.min().clamp_min(1e-9)).item()


def mostly_as_drawn(names: list[str], record: Record) -> bool:
    """Are most of these parameters, and most of the model, still as they were drawn?"""
    sizes = {n: p.numel() for n, p in record.model.named_parameters()}
    drawn = sum(sizes[n] for n in names if n in record.as_drawn)
    return drawn > 0.5 * sum(sizes.values()) and record.learned < 0.5


def why_no_probes(record: Record) -> str:
    """Why there are no trial trainings to judge by."""
    if record.optimizer is None:
        return "no optimizer was given"
    if "what was learned" in record.setup.left_out:
        return record.setup.left_out["what was learned"]
    if not record.failing:
        return "not needed: the model has learned"
    return record.no_probes or "no time was left"
