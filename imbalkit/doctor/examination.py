"""The course of an examination: which measurement is taken when, and from which images."""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from imbalkit.doctor import measuring as measure
from imbalkit.doctor.copies import copies, model_device
from imbalkit.doctor.outputs import log_probabilities
from imbalkit.doctor.probes import probe, why_no_trials
from imbalkit.doctor.reading import Clock, Sample
from imbalkit.doctor.record import Kind, Predictions, Record

MIXED = 128  # images in the batch whose gradients and activations are looked at
OUTPUTS = 0.15  # share of the time budget for the outputs on each sample
COMPARED = 400  # images whose dependence on their labels is measured
OF_EACH = 20  # images of a class that this needs
FEWEST_OF_EACH = 4  # where there are many classes: of one or two images nothing can be seen


def gather(
    model: nn.Module,
    train: Sample,
    evaluation: Sample | None,
    loss_fn: Callable,
    optimizer: torch.optim.Optimizer | None,
    clock: Clock,
) -> Record:
    """Measure everything on copies of `model`, `optimizer` and `loss_fn`.

    Raises:
        TypeError, ValueError: the model or the loss is no classifier's, or does not fit the
            batches.
    """
    device = model_device(model)
    left = any(p.grad is not None for p in model.parameters())
    left_gradient = measure.gradient_norm(model) if left else None
    model, optimizer, loss_fn = copies(model, optimizer, loss_fn)
    with torch.enable_grad():
        record = look_at_predictions(model, loss_fn, optimizer, train, evaluation, device, clock)
        record = replace(record, left_gradient=left_gradient, **look_inside(record))
        # Only a failing model needs the rest, and whether it fails stands in the record so far.
        return replace(record, **look_for_reasons(record, clock)) if record.failing else record


def look_at_predictions(
    model: nn.Module,
    loss_fn: Callable,
    optimizer: torch.optim.Optimizer | None,
    train: Sample,
    evaluation: Sample | None,
    device: torch.device,
    clock: Clock,
) -> Record:
    """The record with what the outputs are, in both modes, and the classes of all samples."""
    inputs, targets = train.inputs[:MIXED], train.targets[:MIXED]
    facts = measure.look_at_outputs(model, loss_fn, inputs, targets, device)
    scores = measure.scores_of(model, train, device, clock.after(OUTPUTS))
    train = train.with_classes(facts.classes, facts.binary)
    usable = measure.usable_rows(train, facts.classes)
    operation = measure.eval_operation(model, train.inputs[:2], device)
    kind = measure.kind_of(scores, facts.binary, operation)
    wrong = {train.name: measure.wrong_targets(train, facts.classes, loss_fn)}
    on_train, spread = judge(scores, train, usable, kind)
    eval_usable = on_eval = None
    if evaluation is not None:
        scores = measure.scores_of(model, evaluation, device, clock.after(OUTPUTS))
        evaluation = evaluation.with_classes(facts.classes, facts.binary)
        eval_usable = measure.usable_rows(evaluation, facts.classes)
        wrong[evaluation.name] = measure.wrong_targets(evaluation, facts.classes, loss_fn)
        on_eval, _ = judge(scores, evaluation, eval_usable, kind)
    return Record(
        model=model,
        loss_fn=loss_fn,
        optimizer=optimizer,
        train=train,
        eval=evaluation,
        device=device,
        kind=kind,
        usable=usable,
        eval_usable=eval_usable,
        on_train=on_train,
        on_eval=on_eval,
        output_spread=spread,
        bad_targets={f"{name} targets": text for name, text in wrong.items() if text},
        **vars(facts),
    )


def judge(
    scores: Tensor, sample: Sample, usable: Tensor, kind: Kind
) -> tuple[Predictions | None, float]:
    """The predictions for the usable rows that have scores, and how far the outputs spread."""
    rows = usable[: len(scores)].nonzero().flatten()
    if not len(rows):
        return None, math.nan
    log_probs = log_probabilities(scores[rows], kind)
    spread = log_probs.std(0).max().item() if len(rows) > 1 else math.nan
    return measure.predictions(log_probs, sample.labels[rows]), spread


def look_inside(record: Record) -> dict:
    """Layers, gradients and modes, on images in mixed order, and the weights beside new ones."""
    model, device, train = record.model, record.device, record.train
    mixed = measure.mixed_rows(train.labels, record.usable, 3 * MIXED, per_class=False)
    found = {}
    if len(mixed):
        found |= vars(measure.look_at_layers(model, train.inputs[mixed[:MIXED]], device))
        parts = [rows for rows in mixed.split(MIXED) if len(rows) > 1]
        batches = [(train.inputs[rows], train.targets[rows]) for rows in parts]
        found |= vars(
            measure.look_at_gradients(model, record.loss_fn, batches, record.train_kind, device)
        )
    if len(mixed) > 1:
        rows = mixed[: 2 * MIXED]
        found["modes"] = measure.compare_modes(
            model, train.inputs[rows], train.labels[rows], record.kind, device
        )
    found["as_drawn"], found["shrunk"] = measure.compare_with_new_weights(model)
    return found


def look_for_reasons(record: Record, clock: Clock) -> dict:
    """What only a failing model needs: do the labels depend on the images, and can it learn?"""
    found = {"dependence": label_dependence(record.train, record.usable, record.classes)}
    if record.eval is not None:
        found["eval_dependence"] = label_dependence(record.eval, record.eval_usable, record.classes)
    found["no_probes"] = why_no_trials(record, clock)
    if not found["no_probes"]:
        found["probes"] = probe(record, clock)
        if found["probes"] is None:
            found["no_probes"] = "a trial training does not fit into the time budget"
    return found


def label_dependence(sample: Sample, usable: Tensor, classes: int) -> float | None:
    """`measuring.dependence` on up to 400 images, as even over the classes as they come.

    Of many classes those with most images are taken, so that each has several among the 400.

    Returns:
        None for indices, of words for example, whose distances mean nothing, and for too few
        images to see a fine relation.
    """
    if not sample.inputs.is_floating_point() and sample.inputs.dtype != torch.uint8:
        return None
    counts = torch.bincount(sample.labels[usable], minlength=classes)
    needed = min(OF_EACH, max(FEWEST_OF_EACH, COMPARED // classes))
    largest = counts.argsort(descending=True, stable=True)[: COMPARED // needed]
    enough = torch.zeros(classes, dtype=torch.bool)
    enough[largest] = counts[largest] >= needed
    chosen = usable & enough[sample.labels.clamp(0, classes - 1)]
    rows = measure.mixed_rows(sample.labels, chosen, COMPARED, per_class=True)
    labels = sample.labels[rows]
    if not len(rows) or len(rows) - labels.bincount().max() < COMPARED // 4:
        return None
    return measure.dependence(sample.inputs[rows], labels)
