"""Questions about the data: what is in the images and the labels, and how they are served."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from imbalkit.doctor.assignment import named_numbering
from imbalkit.doctor.checks.answer import (
    Answer,
    Healthy,
    NotChecked,
    finding,
    if_failing,
    progress_text,
)
from imbalkit.doctor.probes import STUCK
from imbalkit.doctor.record import Record
from imbalkit.doctor.report import FAULT, NOTE, WARNING

# Standardized pixels stay within 3, standardized features within 10. Twenty times a sane size
# changes the first layer's gradient twenty times: more than any learning rate allows.
FAR_FROM_ONE = 20
# Mixing two images halves the variance at most, cropping into a border a little more; a deviation
# twice as large or small, or a mean off by half a deviation, is another preparation.
SHIFTED, STRETCHED = 0.5, 2.0
# A numbering that is chosen on half of the images, and guesses on the others, comes to 0.1 of ten
# classes.
RENUMBERED = 0.25
# Neighbouring pixels of photographs correlate by 0.9 and more; noise and blur change it by less.
SCRAMBLED = 0.2
# Of 200 images or more at most one in twenty is another one: none was meant to come so often.
MANY_ROWS, FEW_INPUTS = 200, 0.05
# Photographs of one color are rare; pixels that were divided by 255 as whole numbers are all 0.
BLANK = 0.2
LOST = (
    "The images are read in order, and drop_last leaves out the same ones at the end each time: "
    "all that there are of a class."
)
# Shuffled labels reach five standard deviations in less than one of a million examinations.
DEVIATIONS = 5


def finite_data(record: Record) -> Answer:
    """Are images, targets and the loss finite?"""
    for sample in (record.train, record.eval):
        if sample is None:
            continue
        for what in ("inputs", "targets"):
            tensor = getattr(sample, what)
            if not tensor.is_floating_point():
                continue
            bad = ~tensor.isfinite().flatten(1 if tensor.ndim > 1 else 0)
            rows = bad.any(1) if bad.ndim > 1 else bad
            if rows.any():
                first = int(rows.nonzero()[0])
                numbers = {
                    f"{sample.name} {what} with NaN or infinity": f"{rows.float().mean():.1%}",
                    "the first": f"number {first} of those read",
                }
                return finding("non_finite", FAULT, numbers)
    if record.loss.breaks:
        numbers = {
            "loss of very confident logits": "NaN or infinite",
            "loss of one batch now": f"{record.loss_value:.3g}",
        }
        broken = record.on_train is not None and not record.on_train.finite
        broken = broken or not math.isfinite(record.loss_value)
        return finding("non_finite", FAULT if broken else WARNING, numbers)
    outputs_finite = record.on_train is not None and record.on_train.finite
    if record.gradients and outputs_finite and not math.isfinite(record.loss_value):
        numbers = {"loss of one batch": f"{record.loss_value}", "outputs": "finite"}
        return finding("non_finite", FAULT, numbers)
    return Healthy("inputs, targets and the loss are finite")


def label_range(record: Record) -> Answer:
    """Do the labels number the classes from 0?"""
    if record.ignored_share > 0:
        numbers = {
            "labels with a class's number that the loss ignores": f"{record.ignored_share:.0%}",
            "classes of the model": f"0 to {record.classes - 1}",
        }
        return finding("ignored_class", FAULT, numbers)
    if record.bad_targets:
        return finding("label_range", FAULT, record.bad_targets)
    labels = record.train.labels
    one_class = record.train.exhausted and record.train.classes_read == 1
    if one_class and record.classes > 1 and not _come_again(record):
        numbers = {
            "labels": f"all {len(labels):,} that were read are {int(labels[0])}",
            "outputs of the model": record.classes,
        }
        return finding("label_range", FAULT, numbers)
    top = int(labels.max())
    return Healthy(f"labels from {int(labels.min())} to {top} for {record.classes} classes")


def duplicate_inputs(record: Record) -> Answer:
    """Are the images different from each other?"""
    repeats, sampler = record.train.repeats, record.train.sampler
    numbers = {
        "different inputs": f"{repeats.different:,} of {repeats.read:,}",
        "inputs that also come with another label": f"{repeats.contradicted:.0%}",
    }
    if sampler is not None and sampler.weights < sampler.images:
        numbers = {"weights of the sampler": f"{sampler.weights:,}"} | numbers
        numbers["images of the data set"] = f"{sampler.images:,}, of which only the first are drawn"
        return finding("duplicate_inputs", FAULT, numbers)
    if record.train.blank > BLANK:  # pixels that were rounded to 0, for example
        numbers["inputs that hold one number alone"] = f"{record.train.blank:.0%}"
    if repeats.contradicted > 0.5:  # then most labels cannot be learned, whatever the model
        return finding("duplicate_inputs", FAULT, numbers)
    # A small set that is read once repeats nothing; ten inputs in hundreds teach ten labels.
    if _come_again(record):
        if sampler is not None:
            numbers["images of the data set"] = f"{sampler.images:,}"
        return finding("duplicate_inputs", FAULT, numbers)
    if repeats.contradicted > 0.05:
        return finding("duplicate_inputs", WARNING, numbers)
    return Healthy(f"{repeats.different:,} of {repeats.read:,} inputs are different")


def _come_again(record: Record) -> bool:
    """Are there many inputs, and hardly any different ones?"""
    repeats = record.train.repeats
    return repeats.read >= MANY_ROWS and repeats.different <= FEW_INPUTS * repeats.read


def input_range(record: Record) -> Answer:
    """Is the scale of the inputs one that networks are made for?"""
    x = record.train.inputs
    if not x.is_floating_point():
        return NotChecked(f"the inputs are {x.dtype}: the model has to scale or embed them itself")
    if record.normalizes:
        return Healthy(f"the model itself normalises its inputs ({record.normalizes})")
    if not record.usable.any():
        return NotChecked("no usable images")
    if record.train.blank > BLANK and record.train.repeats.different > 1:
        numbers = {"inputs that hold one number alone": f"{record.train.blank:.0%}"}
        return finding("input_range", if_failing(record), numbers)
    x = record.first_input if record.first_input is not None else x[record.usable]
    size = x.square().mean().sqrt().item()
    spread = x.std(correction=0).item()
    numbers = {
        "inputs": f"{x.min().item():.4g} to {x.max().item():.4g}",
        "mean": f"{x.mean().item():.4g}",
        "standard deviation": f"{spread:.4g}",
    }
    if size > FAR_FROM_ONE or size < 1 / FAR_FROM_ONE:
        return finding("input_range", if_failing(record), numbers)
    if abs(x.mean().item()) > FAR_FROM_ONE * max(spread, 1e-9):
        return finding("input_range", if_failing(record), numbers)
    return Healthy(", ".join(f"{name} {value}" for name, value in numbers.items()))


def train_eval_mismatch(record: Record) -> Answer:
    """Are the evaluation images prepared like the training images, and the classes numbered so?"""
    if record.eval is None:
        return NotChecked("no eval_batches were given")
    if record.on_train is None or record.on_eval is None:
        return NotChecked("no usable images")
    train, evaluation = record.train.inputs, record.eval.inputs
    if train.shape[1:] != evaluation.shape[1:]:
        numbers = {
            "shape in training": tuple(train.shape[1:]),
            "in evaluation": tuple(evaluation.shape[1:]),
        }
        return finding("train_eval_mismatch", FAULT if record.eval_is_worse else NOTE, numbers)
    # The same number of each class: evaluation often has another mix of the classes.
    rows, eval_rows = _alike_mix(record)
    if not len(rows):
        return NotChecked("no class is in both")
    train, evaluation = train[rows], evaluation[eval_rows]
    (mean, std), (eval_mean, eval_std) = _statistics(train), _statistics(evaluation)
    scale = std.clamp_min(1e-6)
    shift = ((eval_mean - mean).abs() / scale).max().item()
    stretch = (eval_std.clamp_min(1e-6) / scale).log().abs().max().exp().item()
    numbers = {
        "mean in training and evaluation": f"{mean.mean():.4g}, {eval_mean.mean():.4g}",
        "standard deviation": f"{std.mean():.4g}, {eval_std.mean():.4g}",
        "learned (0 guessing, 1 perfect)": f"{record.on_train.learned:.2f}, "
        f"{record.on_eval.learned:.2f}",
    }
    if shift > SHIFTED or stretch > STRETCHED:
        return finding("train_eval_mismatch", FAULT if record.eval_is_worse else WARNING, numbers)
    if record.eval_is_worse and not train.is_floating_point() and train.dtype != torch.uint8:
        words = _other_words(train, evaluation)
        if words:
            return finding("train_eval_mismatch", FAULT, numbers | words)
    smooth, eval_smooth = _smoothness(train), _smoothness(evaluation)
    change = max((abs(a - b) for a, b in zip(smooth, eval_smooth, strict=True)), default=0)
    if record.eval_is_worse and change > SCRAMBLED:
        for name, values in (("training", smooth), ("evaluation", eval_smooth)):
            texts = ", ".join(f"{value:.2f}" for value in values)
            numbers[f"correlation of neighbours along each axis, {name}"] = texts
        return finding("train_eval_mismatch", FAULT, numbers)
    renumbered, numbering = record.renumbered
    gain, images = renumbered - record.on_eval.accuracy, len(record.on_eval.labels) / 2
    by_chance = max(0.1, 3 * math.sqrt(0.5 / images))  # three standard errors of a difference
    if record.eval_is_worse and renumbered > RENUMBERED and gain > by_chance:
        numbers = {
            "accuracy in evaluation": f"{record.on_eval.accuracy:.1%}",
            "with the classes renumbered": f"{renumbered:.1%}",
            "label in evaluation -> class of the model": named_numbering(numbering),
        }
        return finding("train_eval_mismatch", FAULT, numbers)
    return Healthy("training and evaluation inputs have like statistics")


def _alike_mix(record: Record) -> tuple[Tensor, Tensor]:
    """Rows of the training and of the evaluation sample, as many of each class in both."""
    pairs = []
    for c in record.train.labels.unique():
        ours = ((record.train.labels == c) & record.usable).nonzero().flatten()
        theirs = ((record.eval.labels == c) & record.eval_usable).nonzero().flatten()
        count = min(len(ours), len(theirs))
        pairs.append((ours[:count], theirs[:count]))
    return tuple(torch.cat(part) for part in zip(*pairs, strict=True))


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel, or of all numbers where there are no channels."""
    x = x.float()
    x = x.transpose(0, 1).flatten(1) if x.ndim == 4 else x.flatten()[None]
    return x.mean(1), x.std(1)


def _other_words(train: Tensor, evaluation: Tensor) -> dict[str, str]:
    """What says that the numbers mean other words in evaluation; nothing where all is well.

    Two parts that are drawn by chance from all rows are less different. That a fifth of the words
    is, is enough; fewer have to look like numbers given anew: then the most frequent word of one
    comes as often as that of the other, the next as often as the next, and so on.
    """
    apart, ranked = _apart(train, evaluation)
    generator = torch.Generator().manual_seed(0)
    rows, parts = torch.cat([train, evaluation]), []
    for _ in range(20):
        mixed = rows[torch.randperm(len(rows), generator=generator)]
        parts.append(_apart(mixed[: len(train)], mixed[len(train) :])[0])
    chance = torch.tensor(parts)
    by_chance = chance.mean() + DEVIATIONS * chance.std()
    if apart < by_chance or (apart < chance.mean() + 0.2 and ranked > apart / 2):
        return {}
    return {
        "words that come as often in both": f"{1 - apart:.0%}",
        "if the rows were parted by chance": f"{1 - chance.mean():.0%}",
        "the most frequent beside the most frequent and so on": f"{1 - ranked:.0%}",
    }


def _apart(a: Tensor, b: Tensor) -> tuple[float, float]:
    """How differently often the numbers come in both: 0 for alike, 1 for nothing in common.

    And how differently, if the most frequent one of each is compared, the next one and so on.
    """
    lowest, most = min(a.min(), b.min()), max(a.max(), b.max()) + 1
    counts = [
        torch.bincount((x - lowest).flatten().long(), minlength=most - lowest) for x in (a, b)
    ]
    p, q = (c / c.sum() for c in counts)
    ranked = p.sort().values - q.sort().values
    return 0.5 * (p - q).abs().sum().item(), 0.5 * ranked.abs().sum().item()


def _smoothness(x: Tensor) -> list[float]:
    """How alike neighbours are along each axis: near 1 in a photograph, less in a scrambled one."""
    x = x.float()
    axes = [axis for axis in range(1, x.ndim) if x.ndim > 2 and x.shape[axis] > 1]
    found = []
    for axis in axes:
        ahead, behind = x.narrow(axis, 1, x.shape[axis] - 1), x.narrow(axis, 0, x.shape[axis] - 1)
        pairs = torch.stack([ahead.flatten(), behind.flatten()])
        found.append(torch.corrcoef(pairs)[0, 1].nan_to_num().item())
    return found


def unshuffled_batches(record: Record) -> Answer:
    """Does each batch hold a mix of the classes?"""
    lost = _lost_at_the_end(record)
    if lost:
        numbers = {
            "images that drop_last leaves out, always the last": record.train.left_out,
            "classes that are in evaluation and in no training batch": ", ".join(map(str, lost)),
        }
        return replace(finding("unshuffled_batches", FAULT, numbers), explanation=LOST)
    batches = [b for b in record.train.class_batches if len(b) > 1]
    if len(batches) < 2:
        return NotChecked("needs at least two batches of two images")
    labels = torch.cat(batches)
    purity = _purity(batches)
    if len(labels.unique()) == 1:
        if record.eval is None or record.eval.classes_read < 2 or record.train.exhausted:
            return NotChecked("only one class was read")
        numbers = {"classes in the batches read": f"1, {len(batches)} batches long"}
        return finding("unshuffled_batches", FAULT, numbers)
    generator = torch.Generator().manual_seed(0)
    sizes = [len(b) for b in batches]
    orders = [torch.randperm(len(labels), generator=generator) for _ in range(50)]
    shuffled = torch.tensor([_purity(labels[order].split(sizes)) for order in orders])
    deviations = (purity - shuffled.mean()) / shuffled.std().clamp_min(1e-6)
    numbers = {
        "share of a batch's most frequent class": f"{_top_share(batches):.0%}",
        "if they were shuffled": f"{_top_share(labels[orders[0]].split(sizes)):.0%}",
    }
    if deviations > DEVIATIONS and purity > shuffled.mean() + 0.5 * (1 - shuffled.mean()):
        return finding("unshuffled_batches", FAULT, numbers)
    if deviations > DEVIATIONS:
        return finding("unshuffled_batches", if_failing(record), numbers)
    return Healthy(f"the classes are mixed in each of {len(batches)} batches")


def _lost_at_the_end(record: Record) -> list[int]:
    """The classes that `drop_last` may take away from the training, and evaluation has."""
    if not record.train.left_out or not record.train.exhausted or record.eval is None:
        return []
    lost = (record.train.class_counts == 0) & (record.eval.class_counts > 0)
    return lost.nonzero().flatten().tolist()


def _purity(batches: Sequence[Tensor]) -> float:
    """The mean probability that two images of a batch are of one class."""
    return sum(((b.bincount() / len(b)) ** 2).sum().item() for b in batches) / len(batches)


def _top_share(batches: Sequence[Tensor]) -> float:
    """The mean share of a batch's most frequent class."""
    return sum(b.bincount().max().item() / len(b) for b in batches) / len(batches)


def labels_out_of_step(record: Record) -> Answer:
    """Do the labels depend on the images at all?"""
    if not record.failing:
        return NotChecked("not needed: the model has learned")
    if record.train.repeats.contradicted > 0.05:
        return NotChecked("the same inputs come with several labels: see the different images")
    if record.dependence is None:
        return NotChecked(
            "needs 20 usable images of each class (4 of each of 100), 100 outside the largest, "
            "and no indices"
        )
    numbers = {
        "dependence of labels on images, training": f"{record.dependence:.1f} standard deviations"
    }
    if record.eval_dependence is not None:
        numbers["in evaluation"] = f"{record.eval_dependence:.1f}"
    independent = record.dependence < DEVIATIONS
    if independent and record.eval_dependence is not None and record.eval_dependence < DEVIATIONS:
        # A relation may be too fine for this measure: can a training find it?
        rehearsal = record.probes.rehearsed.get(1.0) if record.probes else None
        if rehearsal is None or rehearsal.progress > STUCK:
            return finding("labels_out_of_step", WARNING, numbers)
        numbers["learned by heart in a trial, of a few images"] = progress_text(record.probes.own)
        numbers["of many images"] = progress_text(rehearsal)
    if independent:
        return finding("labels_out_of_step", FAULT, numbers)
    return Healthy(f"the labels depend on the images ({record.dependence:.0f} standard deviations)")
