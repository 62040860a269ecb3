"""The course of an examination: which measurement is taken when, and from which images."""

import math

import torch

from imbalkit.doctor import evidence as measure
from imbalkit.doctor.evidence import Evidence, Predictions
from imbalkit.doctor.outputs import log_probabilities
from imbalkit.doctor.probes import few_images, probe, renew
from imbalkit.doctor.reading import Clock, Sample

MIXED = measure.MIXED
OUTPUTS = 0.15  # share of the time budget for the outputs on each sample
COMPARED = 400  # images whose dependence on their labels is measured
OF_EACH = 20  # images of a class that this needs
AS_DRAWN = 0.03  # relative difference in size: random weights of a thousand numbers differ by 2 %


def gather(model, train: Sample, evaluation: Sample | None, loss_fn, optimizer, clock: Clock):
    """Measure everything on copies of `model`, `optimizer` and `loss_fn`. Returns Evidence."""
    device = measure.model_device(model)
    model_copy, optimizer_copy, loss_copy = measure.copies(model, optimizer, loss_fn)
    e = Evidence(model_copy, loss_copy, optimizer_copy, train, evaluation, device)
    if any(p.grad is not None for p in model.parameters()):
        e.left_gradient = measure.gradient_norm(model)
    with torch.enable_grad():
        measure.look_at_outputs(e, train.inputs[:MIXED], train.targets[:MIXED])
        look_at_predictions(e, clock)
        mixed = measure.mixed_rows(train.labels, e.usable, 3 * MIXED, per_class=False)
        if len(mixed):
            look_inside(e, mixed)
        compare_with_new_weights(e)
        if e.failing:
            look_for_reasons(e, clock)
    return e


def look_at_predictions(e: Evidence, clock: Clock) -> None:
    """Outputs in evaluation mode, and the classes of all samples."""
    for sample in (e.train, e.eval):
        if sample is None:
            continue
        scores = measure.scores_of(e.model, sample, e.device, clock.after(OUTPUTS))
        sample.number_classes(e.classes, e.binary)
        usable = measure.usable_rows(sample.inputs, sample.targets, sample.labels, e.classes)
        if sample is e.train:
            e.usable = usable
            e.kind = measure.kind_of(scores, e.binary, eval_operation(e))
        else:
            e.eval_usable = usable
        wrong = measure.wrong_targets(sample, e.classes, e.binary, e.loss_fn)
        if wrong:
            e.bad_targets[f"{sample.name} targets"] = wrong
        rows = usable[: len(scores)].nonzero().flatten()
        if not len(rows):
            continue
        log_probs = log_probabilities(scores[rows], e.kind)
        predictions = Predictions(log_probs, sample.labels[rows])
        if sample is e.train:
            e.on_train = predictions
            e.output_spread = log_probs.std(0).max().item() if len(rows) > 1 else math.nan
        else:
            e.on_eval = predictions


def eval_operation(e: Evidence) -> str:
    """The operation that makes the scores in evaluation mode."""
    with torch.enable_grad():
        logits = measure.logits_of(measure.forward(e.model.eval(), e.train.inputs[:2], e.device))
    return measure.last_operation(logits)


def look_inside(e: Evidence, mixed) -> None:
    """Layers, gradients and modes, on images in mixed order."""
    inputs, targets = e.train.inputs, e.train.targets
    measure.look_at_layers(e, inputs[mixed[:MIXED]])
    parts = [rows for rows in mixed.split(MIXED) if len(rows) > 1]
    measure.look_at_gradients(e, [(inputs[rows], targets[rows]) for rows in parts])
    if len(mixed) > 1:
        rows = mixed[: 2 * MIXED]
        e.modes = measure.compare_modes(e, inputs[rows], e.train.labels[rows])


def compare_with_new_weights(e: Evidence) -> None:
    """How large the weights are beside those of a new model."""
    new = measure.duplicate(e.model, e.model)
    torch.manual_seed(0)
    renewed = renew(new)
    ours = theirs = 0.0
    for (name, p), q in zip(e.model.named_parameters(), new.parameters(), strict=True):
        if name not in renewed or p.ndim < 2:
            continue
        size, new_size = p.detach().norm().item(), q.detach().norm().item()
        ours, theirs = ours + size**2, theirs + new_size**2
        if p.numel() >= 256 and abs(size / max(new_size, 1e-9) - 1) < AS_DRAWN:
            e.as_drawn.add(name)
    if theirs:
        e.shrunk = math.sqrt(ours / theirs)


def look_for_reasons(e: Evidence, clock: Clock) -> None:
    """What only a failing model needs: do the labels depend on the images, and can it learn?"""
    e.dependence = label_dependence(e.train, e.usable, e.classes)
    if e.eval is not None:
        e.eval_dependence = label_dependence(e.eval, e.eval_usable, e.classes)
    if e.optimizer is None or not e.optimizer.param_groups:
        return
    if len(e.train.labels[few_images(e)].unique()) < 2:
        e.no_probes = "a trial training needs images of two classes"
    elif not any(p.requires_grad for p in e.model.parameters()):
        e.no_probes = "no parameter can be trained"
    elif isinstance(e.optimizer, torch.optim.LBFGS):
        e.no_probes = "LBFGS needs a closure, which only your loop has"
    elif clock.left() < 0.2 * clock.seconds:
        e.no_probes = "the time budget was used up"
    else:
        e.probes = probe(e, clock)


def label_dependence(sample: Sample, usable, classes: int) -> float | None:
    """`measure.dependence` on up to 400 images, as even over the classes as they come; None for
    indices, of words for example, whose distances mean nothing."""
    if not sample.inputs.is_floating_point() and sample.inputs.dtype != torch.uint8:
        return None
    counts = torch.bincount(sample.labels[usable], minlength=classes)
    enough = counts[sample.labels.clamp(0, classes - 1)] >= min(
        OF_EACH, max(2, COMPARED // classes)
    )
    rows = measure.mixed_rows(sample.labels, usable & enough, COMPARED, per_class=True)
    labels = sample.labels[rows]
    if (
        not len(rows) or len(rows) - labels.bincount().max() < COMPARED // 4
    ):  # too few to see a fine relation
        return None
    return measure.dependence(sample.inputs[rows], labels)
