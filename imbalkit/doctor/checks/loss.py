"""Questions about the loss: does it get what it wants, and what do its class weights do?"""

import math

import torch
from torch import Tensor

from imbalkit.doctor.checks.answer import (
    Answer,
    Healthy,
    NotChecked,
    finding,
    if_failing,
    ratio_of,
)
from imbalkit.doctor.outputs import BOUNDING, SQUASHING, double_softmax_floor
from imbalkit.doctor.record import AHEAD, Record
from imbalkit.doctor.report import FAULT, NOTE, WARNING

NOTHING = 1e-6  # of the largest weight
TURNED = (
    5  # times the pull of the most frequent class; schemes that overshoot on purpose stay below
)


def double_softmax(record: Record) -> Answer:
    """Does the loss get what it wants?"""
    if record.loss.problem:
        problem = record.loss.problem
        return NotChecked(f"the loss does not take plain logits and targets ({problem})")
    classes = record.classes
    floor = {
        "loss now": f"{record.loss_value:.4f}",
        f"floor of softmax twice for {classes} classes": f"{double_softmax_floor(classes):.4f}",
    }
    if record.loss.squashes:
        share = f"{record.loss.floor:.0%} of that of equal ones"
        first = {"the loss of perfect, very large logits": share}
        return finding("double_softmax", FAULT, first | floor)
    if record.loss.wants == "probabilities":
        return Healthy("the loss wants probabilities")
    if record.loss.wants != "logits":
        return Healthy("the loss has no softmax of its own")
    if record.batch_softmax:
        first = {
            "outputs": "each column sums to 1 over the batch: softmax along the wrong dimension"
        }
        return finding("double_softmax", FAULT, first | floor)
    if record.train_kind == "probabilities" or record.last_operation in SQUASHING:
        rows = "each row sums to 1" if not record.binary else "between 0 and 1"
        if record.train_kind != "probabilities":
            rows = "each between 0 and 1"
        first = {"outputs": f"{rows}; last operation {record.last_operation or 'unknown'}"}
        return finding("double_softmax", FAULT, first | floor)
    return Healthy("the loss wants logits and gets logits")


def broadcast_loss(record: Record) -> Answer:
    """Does the loss compare each output with its own target?"""
    if not record.setup.broadcasts:
        return Healthy("the loss compares each output with its own target")
    return finding("broadcast_loss", FAULT, {"shapes": record.setup.broadcasts})


def softmax_on_multilabel(record: Record) -> Answer:
    """Does a loss of several labels an image let them stand beside each other?"""
    if not record.setup.task.several:
        return Healthy("each image has one label")
    if record.last_operation in ("Softmax", "LogSoftmax") and record.classes > 2:
        numbers = {"outputs": f"they share one softmax; last operation {record.last_operation}"}
        return finding("softmax_on_multilabel", FAULT, numbers)
    if not record.loss.exclusive:
        return Healthy("the loss judges each label by itself")
    numbers = {"adding 3 to all outputs of an image": "changes nothing: they share one softmax"}
    return finding("softmax_on_multilabel", FAULT, numbers)


def missing_log_softmax(record: Record) -> Answer:
    """Does a loss of log-probabilities get them?"""
    if record.loss.problem:
        return NotChecked("the loss does not take plain logits and targets")
    if record.loss.wants != "log_probabilities":
        return Healthy("the loss does not want log-probabilities")
    if record.train_kind == "log_probabilities":
        return Healthy("the loss wants log-probabilities and gets them")
    numbers = {
        "adding 3 to all outputs": "lowers the loss by as much",
        "outputs": record.train_kind,
    }
    return finding("missing_log_softmax", FAULT, numbers)


def activation_on_logits(record: Record) -> Answer:
    """Are the logits free to take any value?"""
    if record.loss.wants == "logits" and record.saved > AHEAD:
        numbers = {
            "outputs when the last weights are enlarged": "the same: they are bounded",
            "best factor of the outputs": f"{record.sharper:g}",
            "it saves of the loss of a guess": f"{record.saved:.0%}",
        }
        return finding("activation_on_logits", FAULT, numbers)
    if record.loss.wants != "logits" or record.last_operation not in BOUNDING:
        return Healthy("no activation cuts off the logits")
    numbers = {
        "last operation": record.last_operation,
        "outputs at the lowest or highest value": f"{record.at_bounds:.0%}",
    }
    # Bounds that few outputs reach do no harm.
    harmless = record.last_operation != "Tanh" and record.at_bounds < 0.1
    return finding("activation_on_logits", NOTE if harmless else FAULT, numbers)


def inverted_class_weights(record: Record) -> Answer:
    """Do the loss's class weights fall with the counts?"""
    reason = _no_weights(record)
    if reason:
        return NotChecked(reason)
    weights, counts = _weights_and_counts(record)
    numbers = _weight_numbers(weights, counts)
    if ratio_of(weights) < 1.5 or ratio_of(counts) < 1.5:
        return Healthy("the weights or the counts are even")
    if _rank_correlation(weights, counts) > 0.5:
        return finding("inverted_class_weights", FAULT, numbers)
    return Healthy("rare classes weigh more")


def ignored_weights(record: Record) -> Answer:
    """Does every class that was read pull on the loss?"""
    reason = _no_weights(record)
    if reason:
        return NotChecked(reason)
    weights, counts = _weights_and_counts(record)
    if weights.min() > NOTHING * weights.max():
        return Healthy("every class pulls on the loss")
    classes = _present(record).nonzero().flatten()[weights <= NOTHING * weights.max()]
    numbers = {
        "classes that do not pull on the loss": ", ".join(map(str, classes.tolist()[:5])),
        "images of them": f"{record.train.class_counts[classes].sum():,} of {int(counts.sum()):,}",
    }
    return finding("ignored_class", FAULT, numbers)


def weights_too_strong(record: Record) -> Answer:
    """Do the weights make up for the counts, and not for many times as much?"""
    if record.task.several:
        return _labels_weighed_too_much(record)
    reason = _no_weights(record)
    if reason:
        return NotChecked(reason)
    weights, counts = _weights_and_counts(record)
    pull = weights * counts
    turned = (pull[counts.argmin()] / pull[counts.argmax()].clamp_min(1e-9)).item()
    if ratio_of(counts) < 3 or turned < TURNED:
        return Healthy("the weights do not turn the imbalance round")
    numbers = _weight_numbers(weights, counts)
    numbers["pull of the rarest class / of the most frequent"] = f"{turned:.3g}"
    severity = FAULT if record.failing or _light_lose(weights, record) else WARNING
    return finding("weights_too_strong", severity, numbers)


def _labels_weighed_too_much(record: Record) -> Answer:
    """The same where an image has several labels: is nearly everything said to be there?"""
    if record.on_train is None:
        return NotChecked("no usable images")
    there = record.on_train.labels == 1
    turned = (
        record.loss.yes * there.float().mean().item() / max((~there).float().mean().item(), 1e-9)
    )
    if turned < TURNED:
        return Healthy("the weight of the labels that are there does not turn the imbalance round")
    left_out = (record.on_train.predicted[~there] == 0).float().mean().item()
    numbers = {
        "labels that are there": f"{there.float().mean():.1%}",
        "weight of these in the loss": f"{record.loss.yes:.3g}",
        "their pull / that of the others": f"{turned:.3g}",
        "labels rightly left out": f"{left_out:.1%}",
    }
    return finding("weights_too_strong", FAULT if left_out < 0.5 else WARNING, numbers)


def compensated_twice(record: Record) -> Answer:
    """Is balance asked for once only?"""
    reason = _no_weights(record)
    if reason:
        return NotChecked(reason)
    weights, counts = _weights_and_counts(record)
    if weights.min() <= NOTHING * weights.max():
        return NotChecked("a class does not pull on the loss at all")
    if ratio_of(counts) > 3 or ratio_of(weights) < 3:
        return Healthy("sampling and weights do not both balance")
    severity = FAULT if record.failing or _light_lose(weights, record) else WARNING
    return finding("compensated_twice", severity, _weight_numbers(weights, counts))


def weights_cancelled(record: Record) -> Answer:
    """Do the class weights act in batches of this size?"""
    weights = record.loss.weights
    if weights is None or ratio_of(weights) < 1.5:
        return Healthy("the loss weighs all classes alike")
    if record.train.batch > 1 or not record.loss.cancels:
        return Healthy("the weights act in batches of several classes")
    numbers = {
        "images in a batch": 1,
        "weights in the loss, largest / smallest": f"{ratio_of(weights):.3g}",
        "gradients of single images, largest / smallest": "1",
    }
    return finding("weights_cancelled", if_failing(record), numbers)


def _light_lose(weights: Tensor, record: Record) -> bool:
    """Are the classes of little weight found less often than those of much weight?"""
    p = record.judged
    full = torch.full((record.classes,), math.nan).masked_scatter(_present(record), weights)
    known = p.present & _present(record)
    heavy = known & (full > weights.median())
    light = known & (full < weights.max() / 3) & ~heavy
    if not (heavy.any() and light.any()):
        return False
    return bool(p.recall[light].mean() < p.recall[heavy].mean() - 0.1)


def _no_weights(record: Record) -> str:
    if record.loss.weights is None:
        return "the loss's class weights could not be measured"
    if int(_present(record).sum()) < 2:
        return "only one class was read"
    return ""


def _present(record: Record) -> Tensor:
    return record.train.class_counts > 0


def _weights_and_counts(record: Record) -> tuple[Tensor, Tensor]:
    present = _present(record)
    return record.loss.weights[present], record.train.class_counts[present].float()


def _weight_numbers(weights: Tensor, counts: Tensor) -> dict:
    rare, frequent = counts.argmin(), counts.argmax()
    return {
        "images read of the rarest and the most frequent class": f"{int(counts[rare])}, "
        f"{int(counts[frequent])}",
        "their weights in the loss": f"{weights[rare]:.3g}, {weights[frequent]:.3g}",
        "largest weight / smallest": f"{ratio_of(weights):.3g}",
    }


def _rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's: the correlation of the ranks."""
    ranks = torch.stack([a.argsort().argsort(), b.argsort().argsort()]).float()
    return torch.corrcoef(ranks)[0, 1].item()
