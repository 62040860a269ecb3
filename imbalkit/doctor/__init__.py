"""The collapse doctor: one call that says what is wrong with a classifier. Lesson 01 uses it.

`diagnose` reads batches (`reading`), measures on copies (`copies`, `measuring`, `probes`) in the
order that `examination` gives, into a `record`; the `checks` read the record; the `report` holds
what they found, with the words of `causes`.
"""

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imbalkit.doctor.checks import Healthy, NotChecked, answers
from imbalkit.doctor.copies import untouched
from imbalkit.doctor.examination import gather
from imbalkit.doctor.reading import Clock, read
from imbalkit.doctor.report import SEVERITIES, Diagnosis, Finding
from imbalkit.randomness import random_state_kept

READING = 0.25  # share of the time budget for reading each iterable


def diagnose(
    model: nn.Module,
    train_batches: Iterable,
    *,
    loss_fn: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    optimizer: torch.optim.Optimizer | None = None,
    eval_batches: Iterable | None = None,
    seconds: float = 20,
) -> Diagnosis:
    """Say why a classifier fails, or that it does not. Nothing of yours is changed.

    Call it where the training went wrong, with the model and the optimizer as they are: weights,
    buffers, modes, gradients, optimizer state and random state are the same afterwards. Batches
    are read, up to 2,048 images; a generator gives them away. The report says what was read.

    Args:
        model: any module that returns scores (N, C), or (N,) or (N, 1) for two classes; in training
            mode also a tuple that starts with them.
        train_batches: any iterable of ``(inputs, targets)``, as the model gets them: inputs of any
            shape, targets int64 (N,), probabilities (N, C), or 0 and 1 as float.
        loss_fn: the loss of your training, ``(outputs, targets) -> scalar``.
        optimizer: without it the learning rate cannot be judged.
        eval_batches: as `train_batches`, of other images.
        seconds: a budget; what does not fit is left out, the trial trainings first, and named.

    Returns:
        A Diagnosis, which prints as a report.

    Raises:
        TypeError, ValueError: batches or outputs are no classifier's; one sentence says why.

    Example:
        >>> images, labels = torch.randn(120, 6), torch.arange(120) % 3
        >>> model = nn.Sequential(nn.Linear(6, 3), nn.Softmax(1))
        >>> report = diagnose(model, list(zip(images.split(30), labels.split(30))))
        >>> report.cause
        'double_softmax'
        >>> print(report.findings[0].fix.splitlines()[1])
        return self.classifier(x)
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a {type(model).__name__}; pass a torch.nn.Module.")
    if optimizer is not None and not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"optimizer is a {type(optimizer).__name__}; pass a torch.optim.Optimizer.")
    clock = Clock(seconds)
    with (
        random_state_kept(train_batches, eval_batches),
        untouched(model, optimizer),
        torch.inference_mode(False),  # under it nothing has a gradient
    ):
        train = read(train_batches, "training", clock.after(READING))
        evaluation = (
            None if eval_batches is None else read(eval_batches, "evaluation", clock.after(READING))
        )
        record = gather(model, train, evaluation, loss_fn, optimizer, clock)
    results = answers(record)
    return Diagnosis(
        in_order([result for result in results.values() if isinstance(result, Finding)]),
        {name: str(result) for name, result in results.items() if isinstance(result, Healthy)},
        {name: str(result) for name, result in results.items() if isinstance(result, NotChecked)},
        record.learned,
        [sample.consumed for sample in (train, evaluation) if sample],
        clock.spent(),
        record.figures(),
    )


def in_order(findings: list[Finding]) -> list[Finding]:
    """Faults, then warnings, then notes; within these in the order of the checks; a cause once."""
    findings = sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))
    first: dict[str, Finding] = {}
    for finding in findings:
        first.setdefault(finding.cause, finding)
    return list(first.values())


__all__ = ["Diagnosis", "Finding", "diagnose"]
