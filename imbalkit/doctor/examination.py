"""The course of an examination: which measurement is taken when, and from which images."""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from imbalkit.doctor import measuring as measure
from imbalkit.doctor.calling import Calling
from imbalkit.doctor.copies import model_device
from imbalkit.doctor.dependence import dependence
from imbalkit.doctor.outputs import error_text, log_probabilities
from imbalkit.doctor.probes import probe, why_no_trials
from imbalkit.doctor.reading import Clock, Sample
from imbalkit.doctor.record import Kind, Predictions, Record
from imbalkit.doctor.setup import STEP, Setup, largest_batch, new_setup
from imbalkit.doctor.structure import (
    ROWS,
    is_linear,
    look_at_loss,
    look_at_rows,
    unlisted_weights,
)
from imbalkit.doctor.tasks import Task
from imbalkit.doctor.weights import compare_with_new_weights

MIXED = 128  # images in the batch whose gradients and activations are looked at
OUTPUTS = 0.15  # share of the time budget for the outputs on each sample
COMPARED = 400  # images whose dependence on their labels is measured
SECONDS_TO_DRAW = 3e-8  # a new weight, and its norm
OF_EACH = 20  # images of a class that this needs
FEWEST_OF_EACH = 4  # where there are many classes: of one or two images nothing can be seen


def gather(
    model: nn.Module,
    train: Sample,
    evaluation: Sample | None,
    loss_fn: Callable,
    optimizer: torch.optim.Optimizer | None,
    clock: Clock,
    *,
    calling: Calling | None = None,
    left_gradient: float | None = None,
    empty_steps: bool = False,
    kept_gradient: float | None = None,
    no_trials: str = "",
    accumulate: int = 1,
) -> Record:
    """Measure everything on `model`, `optimizer` and `loss_fn`, which are copies.

    Args:
        calling: how the batches were read; None for plain pairs.
        left_gradient: the norm of the gradients that were found on the caller's model.
        empty_steps: were all steps of the caller's optimizer taken with gradients of 0?
        kept_gradient: the norm of the gradients in its momentum.
        no_trials: why nothing may be trained, or "".
        accumulate: batches to each step of the optimizer.

    Raises:
        TypeError, ValueError: the model or the loss is no classifier's, or does not fit the
            batches.
    """
    setup = new_setup(model_device(model), calling, loss_fn, clock)
    setup.no_trials, setup.accumulate = no_trials, accumulate
    setup.largest_batch = largest_batch(model, train)
    if not train.targets.is_floating_point():
        setup.largest = int(train.targets.max())
    with torch.enable_grad():
        record = look_at_predictions(model, loss_fn, optimizer, train, evaluation, setup)
        record = replace(
            record,
            left_gradient=left_gradient,
            empty_steps=empty_steps,
            kept_gradient=kept_gradient,
        )
        record = replace(record, **look_inside(record))
        # Only a failing model needs the rest, and whether it fails stands in the record so far.
        return replace(record, **look_for_reasons(record, clock)) if record.failing else record


def look_at_predictions(
    model: nn.Module,
    loss_fn: Callable,
    optimizer: torch.optim.Optimizer | None,
    train: Sample,
    evaluation: Sample | None,
    setup: Setup,
) -> Record:
    """The record with what the outputs are, in both modes, and the classes of all samples."""
    outputs = setup.measure_pace(model, train)
    images = setup.size(MIXED, 0.1) if outputs is None else setup.pace.images
    facts = measure.look_at_outputs(model, train, max(images, 2), setup, outputs)
    task = setup.task
    scores = measure.scores_of(model, train, setup, OUTPUTS)
    train = train.with_classes(task)
    usable = measure.usable_rows(train, task)
    wrong = {train.name: measure.wrong_targets(train, task)}
    if scores is None:
        setup.leave_out("what was learned")
        kind, on_train, spread = facts.train_kind, None, math.nan
    else:
        operation = facts.last_operation
        if setup.pace.seconds(2) < 0.1 * setup.pace.clock.left():
            operation = measure.eval_operation(model, train, setup)
        kind = measure.kind_of(scores, task, operation, facts.loss)
        on_train, spread = judge(scores, train, usable, kind, task)
    eval_usable = on_eval = None
    judged = scores, train, usable
    if evaluation is not None:
        # What was learned is compared with the training images.
        looked = "what was learned" not in setup.left_out
        scores = measure.scores_of(model, evaluation, setup, OUTPUTS) if looked else None
        evaluation = evaluation.with_classes(task)
        eval_usable = measure.usable_rows(evaluation, task)
        wrong[evaluation.name] = measure.wrong_targets(evaluation, task)
        if scores is None:
            setup.leave_out("overfitting", "training against evaluation inputs")
        else:
            on_eval, _ = judge(scores, evaluation, eval_usable, kind, task)
            judged = scores, evaluation, eval_usable
    return Record(
        model=model,
        loss_fn=loss_fn,
        optimizer=optimizer,
        train=train,
        eval=evaluation,
        device=setup.device,
        setup=setup,
        kind=kind,
        usable=usable,
        eval_usable=eval_usable,
        on_train=on_train,
        on_eval=on_eval,
        output_spread=spread,
        without_prior=without_prior(*judged, kind, pull_of(train, facts.loss.weights, task)),
        bad_targets={f"{name} targets": text for name, text in wrong.items() if text},
        **vars(facts),
    )


def judge(
    scores: Tensor, sample: Sample, usable: Tensor, kind: Kind, task: Task
) -> tuple[Predictions | None, float]:
    """The predictions for the usable rows that have scores, and how far the outputs spread."""
    places = task.places(sample.targets)
    each = 1 if places is None else len(places)  # rows of scores an image
    images = len(scores) // each
    targets = task.target_rows(sample.targets[:images], places)
    here = usable[:images].repeat_interleave(each)
    if task.dense and not task.several:
        labels = task.labels(targets)
        here &= (labels >= 0) & (labels < task.classes)
    elif not task.several:
        labels = sample.labels
    rows = here.nonzero().flatten()
    if not len(rows):
        return None, math.nan
    if task.several:
        log_probs = log_probabilities(scores[rows].flatten(), kind)
        table = log_probs[:, 1].view(len(rows), -1)
        found = measure.predictions_of_labels(log_probs, targets[rows])
    else:
        table = log_probs = log_probabilities(scores[rows], kind)
        found = measure.predictions(log_probs, labels[rows])
    spread = table.std(0).max().item() if len(rows) > 1 else math.nan
    return found, spread


def pull_of(train: Sample, weights: Tensor | None, task: Task) -> Tensor | None:
    """The share of each class in the loss, (C,); None where an image is not of one class."""
    counts = train.class_counts
    if task.dense or task.several or counts is None or int((counts > 0).sum()) < 2:
        return None
    pull = counts if weights is None else counts * weights
    return pull / pull.sum()


def without_prior(
    scores: Tensor | None, sample: Sample, usable: Tensor, kind: Kind, shares: Tensor | None
) -> float:
    """The mean of the recalls with the shares of the classes taken out of the scores.

    Menon et al. 2021; nothing is trained. NaN where it cannot be told.
    """
    if scores is None or shares is None:
        return math.nan
    rows = usable[: len(scores)].nonzero().flatten()
    if not len(rows):
        return math.nan
    log_probs = log_probabilities(scores[rows], kind)
    if log_probs.shape[1] != len(shares) or not log_probs.isfinite().all():
        return math.nan
    even = log_probs - shares.clamp_min(1e-12).log()
    even[:, shares <= 0] = -math.inf  # a class that was never read says nothing
    return measure.predictions(even, sample.labels[rows]).balanced_accuracy


def look_inside(record: Record) -> dict:
    """Layers, gradients and modes, on images in mixed order, and the weights beside new ones."""
    model, setup, train = record.model, record.setup, record.train
    mixed = measure.mixed_rows(train.labels, record.usable, 3 * MIXED, per_class=False)
    found = {}
    if len(mixed):
        size = setup.size(MIXED, 0.1)
        if size:
            found |= vars(measure.look_at_layers(model, train.rows(mixed[:size]), setup))
            found["linear"] = is_linear(model, train, mixed, setup)
            found["unlisted"] = unlisted_weights(
                model, record.optimizer, train.rows(mixed[:2]), setup
            )
        else:
            setup.leave_out("dead units", "what stands between the layers")
        size = setup.size(MIXED, 0.1, STEP)
        parts = [rows for rows in mixed.split(max(size, 1))[:3] if len(rows) > 1]
        if size:
            found |= vars(measure.look_at_gradients(model, train, parts, record.train_kind, setup))
            found["fresh_gradient"] *= setup.accumulate
            found |= vars(look_at_loss(model, train, mixed[:size], setup))
        else:
            setup.leave_out("frozen parameters", "cleared gradients", "vanishing gradients")
    if len(mixed) > 1:
        rows = mixed[: setup.size(2 * MIXED, 0.1, 2)]
        if len(rows) > 1:
            found |= vars(look_at_rows(model, train, rows[: 2 * ROWS], setup))
            found["modes"] = measure.compare_modes(model, train, rows, record.kind, setup)
        else:
            setup.leave_out("training against evaluation mode")
    if sum(p.numel() for p in model.parameters()) * SECONDS_TO_DRAW < setup.pace.clock.left():
        found["as_drawn"], found["shrunk"] = compare_with_new_weights(model)
    return found


def look_for_reasons(record: Record, clock: Clock) -> dict:
    """What only a failing model needs: do the labels depend on the images, and can it learn?"""
    found = {}
    if not record.task.dense and not record.task.several:
        found["dependence"] = label_dependence(record.train, record.usable, record.classes)
        if record.eval is not None:
            found["eval_dependence"] = label_dependence(
                record.eval, record.eval_usable, record.classes
            )
    found["no_probes"] = why_no_trials(record, clock)
    if not found["no_probes"]:
        try:
            found["probes"] = probe(record, clock)
        except Exception as error:  # an optimizer of the caller's may do what it likes
            found["no_probes"] = f"a trial training raised {error_text(error)}"
        else:
            if found["probes"] is None:
                found["no_probes"] = "a trial training does not fit into the time budget"
    return found


def label_dependence(sample: Sample, usable: Tensor, classes: int) -> float | None:
    """`dependence` on up to 400 images, as even over the classes as they come.

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
    return dependence(sample.inputs[rows], labels)
