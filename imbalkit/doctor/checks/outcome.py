"""Questions about the outcome: what has been learned, and for which classes?"""

import math
from dataclasses import replace

import torch
from torch import Tensor

from imbalkit.doctor.checks.answer import (
    CONSTANT,
    Answer,
    Healthy,
    NotChecked,
    finding,
    if_failing,
    progress_text,
    ratio_of,
    why_no_probes,
)
from imbalkit.doctor.probes import STUCK
from imbalkit.doctor.record import Predictions, Record, steps_taken
from imbalkit.doctor.report import FAULT, NOTE, WARNING

# A rare class that has fewer images than this in the sample gives no verdict.
FEW_IMAGES = 8
ALL_FOUND = (
    "The classes come in very different numbers, and of the images read the rare ones are found as "
    "well as the frequent ones. There is nothing to mend; judge by the mean of the recalls."
)
MEAN = "recall = confusion.diag() / confusion.sum(1)  # rows are the true classes\nrecall.mean()"


def class_imbalance(record: Record) -> Answer:
    """Do the rare classes get their share of the predictions?"""
    if record.task.several and record.on_train is not None:
        return _rare_labels(record, record.on_train)
    counts = record.train.class_counts
    present = counts > 0
    if int(present.sum()) < 2:
        return NotChecked("only one class was read")
    ratio = ratio_of(counts[present].float())
    if ratio < 3:  # a prior three times as large moves a logit by ln 3, about one
        return Healthy(f"the largest class has {ratio:.1f} times the images of the smallest")
    pull = counts[present].float()
    if record.loss.weights is not None:
        pull = pull * record.loss.weights[present]
    numbers = {
        "images read of the largest and the smallest class": f"{int(counts.max())}, "
        f"{int(counts[present].min())}",
        "their pull on the loss": f"{ratio_of(pull):.0f} to 1" if ratio_of(pull) >= 3 else "even",
    }
    lost, found = False, True
    # Training images too: evaluation may be spoiled by something else.
    for name, p in (("evaluation", record.on_eval), ("training", record.on_train)):
        rare, frequent = _recall_of_rare_and_frequent(counts, p) if p and not lost else (None, None)
        if rare is not None:
            key = f"recall of the rare and the frequent, {name}"
            numbers[key] = f"{rare:.1%}, {frequent:.1%}"
            lost = rare < 1 / record.classes / 2 and frequent > 1 / record.classes
            found = found and rare >= frequent
    if math.isfinite(record.without_prior):
        now = f"{record.judged.balanced_accuracy:.1%}, {record.without_prior:.1%}"
        numbers["mean of the recalls now, and with the shares taken out of the logits"] = now
    answer = finding("class_imbalance", FAULT if lost and ratio_of(pull) >= 3 else NOTE, numbers)
    known = any("recall of" in name for name in numbers)
    return replace(answer, explanation=ALL_FOUND, fix=MEAN) if known and found else answer


def _rare_labels(record: Record, train: Predictions) -> Answer:
    """The same where an image has several labels: is a label ever said to be there?

    Each label is a question of two answers, of which "yes" may be the rare one.
    """
    share = train.labels.float().mean().item()
    ratio = (1 - share) / max(share, 1e-9)
    if ratio < 3:
        return Healthy(f"a label is not there {ratio:.1f} times as often as it is")
    pull = ratio / record.loss.yes
    numbers = {
        "labels that are there": f"{share:.1%}",
        "the pull of those that are not on the loss": f"{pull:.0f} to 1" if pull >= 3 else "even",
    }
    lost = False
    for name, p in (("evaluation", record.on_eval), ("training", record.on_train)):
        there = p.labels == 1 if p else torch.zeros(0)
        if lost or there.sum() < FEW_IMAGES or (~there).sum() < FEW_IMAGES:
            continue
        found, left_out = (p.predicted[there] == 1).float(), (p.predicted[~there] == 0).float()
        numbers[f"labels found, and rightly left out, {name}"] = (
            f"{found.mean():.1%}, {left_out.mean():.1%}"
        )
        lost = bool(found.mean() < 0.25 and left_out.mean() > 0.5)
    return finding("class_imbalance", FAULT if lost and pull >= 3 else NOTE, numbers)


def _recall_of_rare_and_frequent(
    counts: Tensor, p: Predictions
) -> tuple[float, float] | tuple[None, None]:
    """Mean recall of the rarest and the most frequent third of the classes, or None, None."""
    order = counts.argsort(stable=True)
    order = order[(counts[order] > 0) & p.present[order]]
    third = max(1, len(order) // 3)
    rare, frequent = order[:third], order[-third:]
    if len(order) < 2 or p.counts[rare].sum() < FEW_IMAGES or not p.finite:
        return None, None
    return p.recall[rare].mean().item(), p.recall[frequent].mean().item()


def constant_output(record: Record) -> Answer:
    """Do the outputs depend on the inputs?"""
    if record.on_train is None or not record.on_train.finite:
        return NotChecked("the outputs are not finite")
    numbers = {
        "spread of the outputs over the images": f"{record.output_spread:.2g}",
        "classes in use": f"{record.on_train.used:.2f}",
    }
    cut = [layer.name for layer in record.layers if layer.constant >= 0.9 and layer.cut]
    if cut:
        numbers["the way of the images ends before"] = cut[0]
    if record.output_spread < CONSTANT:
        return finding("constant_output", if_failing(record), numbers)
    return Healthy(f"they spread by {record.output_spread:.2g} over the images")


def undertrained(record: Record) -> Answer:
    """Has the model been trained, and would it learn?"""
    if not record.failing or record.exploded:
        return Healthy(f"learned {max(record.learned, 0):.0%} of what there is")
    if record.eval_is_worse:  # then more training is not what is missing
        return Healthy(f"learned {record.on_train.learned:.0%} of the training images")
    if record.probes is None or record.probes.best.progress < STUCK:
        return NotChecked(
            why_no_probes(record) if record.probes is None else "no trial training learns"
        )
    steps = steps_taken(record.optimizer)
    numbers = {"steps taken": steps} if steps is not None else {}
    numbers["learned so far (0 guessing, 100 % perfect)"] = f"{max(record.learned, 0):.0%}"
    numbers["in a trial from new weights"] = progress_text(record.probes.best)
    return finding("undertrained", NOTE if record.untrained else FAULT, numbers)


def overfitting(record: Record) -> Answer:
    """Is what was learned of use on new images?"""
    if record.on_eval is None:
        return NotChecked("no eval_batches were given")
    train, evaluation = record.on_train.learned, record.on_eval.learned
    numbers = {"learned, on training and on evaluation images": f"{train:.0%}, {evaluation:.0%}"}
    if record.eval_is_worse and record.on_train.finite:
        return finding("overfitting", FAULT if record.failing else WARNING, numbers)
    return Healthy(numbers.popitem()[1])


def not_learning(record: Record) -> Answer:
    """Has the model learned anything?"""
    if not record.failing:
        return Healthy(f"learned {record.learned:.0%} of what there is")
    numbers = {"learned (0 guessing, 100 % perfect)": f"{max(record.learned, 0):.0%}"}
    if record.probes is None:
        numbers["trial trainings"] = why_no_probes(record)
    else:
        numbers["in a trial from new weights"] = progress_text(record.probes.best)
    return finding("not_learning", if_failing(record), numbers)
