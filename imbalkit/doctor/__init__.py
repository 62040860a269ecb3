"""The collapse doctor: one call that says what is wrong with a classifier. Lesson 01 uses it.

`diagnose` notes what is the caller's (`keeping`) and copies what it can prove to be a copy
(`copies`). It reads batches of any structure (`reading`, `trees`), finds how model and loss are
called (`calling`, `picking`, `losses`) and what is classified (`tasks`). Within its time
(`setup`) it measures (`measuring`, `outputs`, `structure`, `probes`) in the order that
`examination` gives, into a `record`. The `checks` read the record, and the `report` holds what
they found, with the words of `causes`.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imbalkit.doctor.calling import Calling
from imbalkit.doctor.checks import LEFT_OVER, Healthy, NotChecked, answers
from imbalkit.doctor.copies import inner_model, inner_optimizer, model_device, proven_copies
from imbalkit.doctor.examination import gather
from imbalkit.doctor.keeping import Notes
from imbalkit.doctor.measuring import gradient_norm
from imbalkit.doctor.reading import Clock, read
from imbalkit.doctor.record import Record, all_steps_were_empty, kept_gradient
from imbalkit.doctor.repairs import try_repairs
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
    forward: Callable[[nn.Module, Any], Any] | None = None,
    targets: Callable[[Any], Tensor] | None = None,
    accumulate: int = 1,
    seconds: float = 20,
) -> Diagnosis:
    """Say why a classifier fails, or that it does not. Nothing of yours is changed.

    Call it where the training went wrong, with the model and the optimizer as they are: weights,
    buffers, modes, gradients, optimizer state and random state are the same afterwards. What cannot
    be copied is not trained, and the report says which question that leaves open. Batches are read,
    up to 2,048 images; a generator gives them away. The report says what was read.
    Lesson 01 uses it.

    Args:
        model: any module that returns scores (N, C), or (N,) or (N, 1) for two classes, or
            (N, C, H, W) for pixels and (N, T, C) for tokens; alone, in a tuple, a dict or an object
            with `logits`.
        train_batches: any iterable of batches, as your training gets them: pairs of inputs and
            targets, longer tuples, dicts. Targets are classes, probabilities (N, C), or 0 and 1.
        loss_fn: the loss of your training, ``(outputs, targets) -> scalar``. A model that computes
            its loss itself needs none.
        optimizer: without it the learning rate cannot be judged.
        eval_batches: as `train_batches`, of other images.
        forward: where the call of the model is not found by itself: ``(model, batch) -> outputs``.
        targets: where the targets are not: ``batch -> targets``.
        accumulate: batches to each step of the optimizer.
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
    clock = Clock(seconds)
    model, no_optimizer = inner_model(model)
    optimizer = None if no_optimizer else inner_optimizer(optimizer)
    model_device(model)
    owned, read_from = [model, loss_fn, optimizer, forward, targets], [train_batches, eval_batches]
    notes = Notes(owned, read_from)
    changed: list[str] = []
    with (
        random_state_kept(*read_from, *owned),
        put_back(notes, changed),
        torch.inference_mode(False),  # under it nothing has a gradient
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # the training has shown them already
        left = any(p.grad is not None for p in model.parameters())
        left_gradient = gradient_norm(model) if left else None
        empty_steps = optimizer is not None and all_steps_were_empty(optimizer)
        kept = kept_gradient(optimizer) if optimizer is not None else None
        ours = proven_copies(model, optimizer, loss_fn)
        notes.twins = ours.twins
        notes.keep_values(ours.touched)
        calling = Calling(ours.model, forward, targets, wants_loss=loss_fn is F.cross_entropy)
        train = read(train_batches, "training", clock.after(READING), calling)
        evaluation = (
            None
            if eval_batches is None
            else read(eval_batches, "evaluation", clock.after(READING), calling)
        )
        record = gather(
            ours.model,
            train,
            evaluation,
            ours.loss_fn,
            ours.optimizer,
            clock,
            calling=calling,
            left_gradient=left_gradient,
            empty_steps=empty_steps,
            kept_gradient=kept,
            no_trials=ours.no_trials,
            accumulate=accumulate,
        )
        results = answers(record)
        findings = in_order([result for result in results.values() if isinstance(result, Finding)])
        findings = try_repairs(findings, record, clock)
    results |= {name: NotChecked(why) for name, why in left_out(record).items()}
    not_checked = {name: str(r) for name, r in results.items() if isinstance(r, NotChecked)}
    if no_optimizer:
        not_checked["optimizer"] = no_optimizer
    if changed:
        not_checked["nothing changed"] = f"it did, and cannot be put back: {', '.join(changed)}"
    return Diagnosis(
        findings,
        {name: str(result) for name, result in results.items() if isinstance(result, Healthy)},
        not_checked,
        record.learned,
        [sample.consumed for sample in (train, evaluation) if sample],
        clock.spent(),
        record.figures(),
    )


@contextmanager
def put_back(notes: Notes, changed: list[str]) -> Iterator[None]:
    """At the end let all be as it was; what cannot be is appended to `changed`."""
    try:
        yield
    finally:
        changed += notes.put_back()


def left_out(record: Record) -> dict[str, str]:
    """The checks for which there was no time, and symptoms that nobody looked for."""
    missing = dict(record.setup.left_out)
    if "what was learned" in missing:
        missing |= dict.fromkeys(LEFT_OVER, missing["what was learned"])
    return missing


def in_order(findings: list[Finding]) -> list[Finding]:
    """Faults, then warnings, then notes; within these in the order of the checks; a cause once."""
    findings = sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))
    first: dict[str, Finding] = {}
    for finding in findings:
        first.setdefault(finding.cause, finding)
    return list(first.values())


__all__ = ["Diagnosis", "Finding", "diagnose"]
