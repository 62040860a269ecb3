"""One function a question. Each looks at the evidence and returns a Finding, or says that all is
well (Healthy) or that it could not tell (NotChecked).

`CHECKS` holds them in the order in which findings of equal severity are named: what stands behind
other faults comes before what follows from it.
"""

import math

import torch
from torch import nn

from imbalkit.doctor.causes import CAUSES
from imbalkit.doctor.evidence import Evidence, has_stepped, keeps_state
from imbalkit.doctor.outputs import BOUNDING, SQUASHING, double_softmax_floor
from imbalkit.doctor.probes import AHEAD, LEARNS, STUCK
from imbalkit.doctor.report import FAULT, NOTE, WARNING, Finding

# Standardised pixels stay within 3, standardised features within 10. Twenty times a sane size
# changes the first layer's gradient twenty times: more than any learning rate allows.
FAR_FROM_ONE = 20
# Mixing two images halves the variance at most, cropping into a border a little more; a deviation
# twice as large or small, or a mean off by half a deviation, is another preparation.
SHIFTED, STRETCHED = 0.5, 2.0
# Neighbouring pixels of photographs correlate by 0.9 and more; noise and blur change it by less.
SCRAMBLED = 0.2
# A rare class that has fewer images than this in the sample gives no verdict.
FEW_IMAGES = 8
# Gradients are added up over eight batches on purpose; single batches differ by a few times.
ADDED_UP = 20
# A batch a quarter as large has twice the noise; beyond that the exploded loss has to speak too.
DIFFER = 3
USUAL_RATE = 1e-3  # proposed in place of 0: the default of torch's SGD and Adam
# Shuffled labels reach five standard deviations in less than one of a million examinations.
DEVIATIONS = 5


class Healthy(str):
    """What was found in order."""


class NotChecked(str):
    """Why a question could not be answered."""


def finding(cause: str, severity: str, numbers: dict, rate: float | None = None) -> Finding:
    """A Finding with the texts of its cause; `rate` is the learning rate to propose."""
    text = CAUSES[cause]
    fix = text.fix.format(rate=rate) if rate is not None else text.fix
    numbers = {name: str(value) for name, value in numbers.items()}
    return Finding(cause, severity, numbers, text.explanation, fix, text.lesson)


def if_failing(e: Evidence) -> str:
    """What explains a failure is a fault where there is one, a warning for a model that was never
    trained, and else something to know."""
    if not e.failing:
        return NOTE
    return WARNING if e.untrained else FAULT


def finite_data(e: Evidence):
    """Are images, targets and the loss finite?"""
    for sample in (e.train, e.eval):
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
    if e.loss.breaks:
        numbers = {
            "loss of very confident logits": "NaN or infinite",
            "loss of one batch now": f"{e.loss_value:.3g}",
        }
        broken = e.on_train is not None and not e.on_train.finite
        broken = broken or not math.isfinite(e.loss_value)
        return finding("non_finite", FAULT if broken else WARNING, numbers)
    outputs_finite = e.on_train is not None and e.on_train.finite
    if e.gradients and outputs_finite and not math.isfinite(e.loss_value):
        numbers = {"loss of one batch": f"{e.loss_value}", "outputs": "finite"}
        return finding("non_finite", FAULT, numbers)
    return Healthy("inputs, targets and the loss are finite")


def label_range(e: Evidence):
    """Do the labels number the classes from 0?"""
    if e.bad_targets:
        return finding("label_range", FAULT, e.bad_targets)
    labels = e.train.labels
    if e.train.seen == 1 and e.classes > 1 and (e.train.exhausted or e.eval is None):
        only = int(labels[0])
        numbers = {
            "labels": f"all {len(labels):,} that were read are {only}",
            "outputs of the model": e.classes,
        }
        if e.train.exhausted:
            return finding("label_range", FAULT, numbers)
    top = int(labels.max())
    return Healthy(f"labels from {int(labels.min())} to {top} for {e.classes} classes")


def duplicates(e: Evidence):
    """Are the images different from each other?"""
    flat = e.train.inputs.reshape(len(e.train.inputs), -1)
    unique, which = flat.unique(dim=0, return_inverse=True)
    labels = e.train.labels[: len(flat)]
    contradicted = torch.zeros(len(unique), dtype=torch.bool)
    low = torch.full((len(unique),), 10**9).scatter_reduce(0, which, labels, "amin")
    high = torch.full((len(unique),), -(10**9)).scatter_reduce(0, which, labels, "amax")
    contradicted = low < high
    share = contradicted[which].float().mean().item()
    numbers = {
        "different inputs": f"{len(unique):,} of {len(flat):,}",
        "inputs that also come with another label": f"{share:.0%}",
    }
    if share > 0.5:  # then most labels cannot be learned, whatever the model
        return finding("duplicate_inputs", FAULT, numbers)
    if share > 0.05:
        return finding("duplicate_inputs", WARNING, numbers)
    return Healthy(f"{len(unique):,} of {len(flat):,} inputs are different")


def double_softmax(e: Evidence):
    """Does the loss get what it wants?"""
    if e.loss.problem:
        return NotChecked(f"the loss does not take plain logits and targets ({e.loss.problem})")
    floor = {
        "loss now": f"{e.loss_value:.4f}",
        f"floor of softmax twice for {e.classes} classes": f"{double_softmax_floor(e.classes):.4f}",
    }
    if e.loss.squashes:
        first = {
            "the loss of perfect, very large logits": f"{e.loss.floor:.0%} of that of equal ones"
        }
        return finding("double_softmax", FAULT, first | floor)
    if e.loss.wants != "logits":
        return Healthy("the loss has no softmax of its own")
    if e.batch_softmax:
        first = {
            "outputs": "each column sums to 1 over the batch: softmax along the wrong dimension"
        }
        return finding("double_softmax", FAULT, first | floor)
    if e.train_kind == "probabilities" or e.last_operation in SQUASHING:
        rows = "each row sums to 1" if not e.binary else "between 0 and 1"
        if e.train_kind != "probabilities":
            rows = "each between 0 and 1"
        first = {"outputs": f"{rows}; last operation {e.last_operation or 'unknown'}"}
        return finding("double_softmax", FAULT, first | floor)
    return Healthy("the loss wants logits and gets logits")


def missing_log_softmax(e: Evidence):
    """Does a loss of log-probabilities get them?"""
    if e.loss.problem:
        return NotChecked("the loss does not take plain logits and targets")
    if e.loss.wants != "log_probabilities":
        return Healthy("the loss does not want log-probabilities")
    if e.train_kind == "log_probabilities":
        return Healthy("the loss wants log-probabilities and gets them")
    numbers = {"adding 3 to all outputs": "lowers the loss by as much", "outputs": e.train_kind}
    return finding("missing_log_softmax", FAULT, numbers)


def activation_on_logits(e: Evidence):
    """Are the logits free to take any value?"""
    if e.loss.wants != "logits" or e.last_operation not in BOUNDING:
        return Healthy("no activation cuts off the logits")
    numbers = {
        "last operation": e.last_operation,
        "outputs at the lowest or highest value": f"{e.at_bounds:.0%}",
    }
    harmless = e.last_operation != "Tanh" and e.at_bounds < 0.1  # bounds that few outputs reach
    return finding("activation_on_logits", NOTE if harmless else FAULT, numbers)


def input_range(e: Evidence):
    """Is the scale of the inputs one that networks are made for?"""
    x = e.train.inputs
    if not x.is_floating_point():
        return NotChecked(f"the inputs are {x.dtype}: the model has to scale or embed them itself")
    if e.normalises:
        return Healthy(f"the model itself normalises its inputs ({e.normalises})")
    if not e.usable.any():
        return NotChecked("no usable images")
    x = e.first_input if e.first_input is not None else x[e.usable]
    size = x.square().mean().sqrt().item()
    spread = x.std(correction=0).item()
    numbers = {
        "inputs": f"{x.min().item():.4g} to {x.max().item():.4g}",
        "mean": f"{x.mean().item():.4g}",
        "standard deviation": f"{spread:.4g}",
    }
    if size > FAR_FROM_ONE or size < 1 / FAR_FROM_ONE:
        return finding("input_range", if_failing(e), numbers)
    if abs(x.mean().item()) > FAR_FROM_ONE * max(spread, 1e-9):
        return finding("input_range", if_failing(e), numbers)
    return Healthy(", ".join(f"{name} {value}" for name, value in numbers.items()))


def train_eval_mismatch(e: Evidence):
    """Are the evaluation images prepared like the training images, and the classes numbered so?"""
    if e.eval is None:
        return NotChecked("no eval_batches were given")
    if e.on_train is None or e.on_eval is None:
        return NotChecked("no usable images")
    train, evaluation = e.train.inputs, e.eval.inputs
    if train.shape[1:] != evaluation.shape[1:]:
        numbers = {
            "shape in training": tuple(train.shape[1:]),
            "in evaluation": tuple(evaluation.shape[1:]),
        }
        return finding("train_eval_mismatch", FAULT if e.eval_is_worse else NOTE, numbers)
    # The same number of each class: evaluation often has another mix of the classes.
    rows, eval_rows = _alike_mix(e)
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
        "learned (0 guessing, 1 perfect)": f"{e.on_train.learned:.2f}, {e.on_eval.learned:.2f}",
    }
    if shift > SHIFTED or stretch > STRETCHED:
        return finding("train_eval_mismatch", FAULT if e.eval_is_worse else WARNING, numbers)
    smooth, eval_smooth = _smoothness(train), _smoothness(evaluation)
    change = max((abs(a - b) for a, b in zip(smooth, eval_smooth, strict=True)), default=0)
    if e.eval_is_worse and change > SCRAMBLED:
        for name, values in (("training", smooth), ("evaluation", eval_smooth)):
            texts = ", ".join(f"{value:.2f}" for value in values)
            numbers[f"correlation of neighbours along each axis, {name}"] = texts
        return finding("train_eval_mismatch", FAULT, numbers)
    if e.eval_is_worse and e.renumbered > max(0.5, 2 * e.on_eval.accuracy):
        numbers = {
            "accuracy in evaluation": f"{e.on_eval.accuracy:.1%}",
            "with the classes renumbered": f"{e.renumbered:.1%}",
        }
        return finding("train_eval_mismatch", FAULT, numbers)
    return Healthy("training and evaluation inputs have like statistics")


def _alike_mix(e: Evidence):
    """Rows of the training and of the evaluation sample, as many of each class in both."""
    pairs = []
    for c in range(e.classes):
        ours = ((e.train.labels == c) & e.usable).nonzero().flatten()
        theirs = ((e.eval.labels == c) & e.eval_usable).nonzero().flatten()
        count = min(len(ours), len(theirs))
        pairs.append((ours[:count], theirs[:count]))
    return tuple(torch.cat(part) for part in zip(*pairs, strict=True))


def _statistics(x):
    """Mean and deviation of each channel, or of all numbers where there are no channels."""
    x = x.float()
    x = x.transpose(0, 1).flatten(1) if x.ndim == 4 else x.flatten()[None]
    return x.mean(1), x.std(1)


def _smoothness(x) -> list[float]:
    """How alike neighbours are along each axis: near 1 in a photograph, less in a scrambled one."""
    x = x.float()
    axes = [axis for axis in range(1, x.ndim) if x.ndim > 2 and x.shape[axis] > 1]
    found = []
    for axis in axes:
        ahead, behind = x.narrow(axis, 1, x.shape[axis] - 1), x.narrow(axis, 0, x.shape[axis] - 1)
        pairs = torch.stack([ahead.flatten(), behind.flatten()])
        found.append(torch.corrcoef(pairs)[0, 1].nan_to_num().item())
    return found


def unshuffled(e: Evidence):
    """Does each batch hold a mix of the classes?"""
    batches = [b for b in e.train.class_batches if len(b) > 1]
    if len(batches) < 2:
        return NotChecked("needs at least two batches of two images")
    labels = torch.cat(batches)
    purity = _purity(batches)
    if len(labels.unique()) == 1:
        if e.eval is None or e.eval.seen < 2 or e.train.exhausted:
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
        return finding("unshuffled_batches", if_failing(e), numbers)
    return Healthy(f"the classes are mixed in each of {len(batches)} batches")


def _purity(batches) -> float:
    """The mean probability that two images of a batch are of one class."""
    return sum(((b.bincount() / len(b)) ** 2).sum().item() for b in batches) / len(batches)


def _top_share(batches) -> float:
    return sum(b.bincount().max().item() / len(b) for b in batches) / len(batches)


def frozen(e: Evidence):
    """Does every parameter get a gradient?"""
    still = [n for n, g in e.gradients.items() if g is None]
    sizes = {n: p.numel() for n, p in e.model.named_parameters()}
    share = sum(sizes[n] for n in still) / max(sum(sizes.values()), 1)
    if not still:
        return Healthy("every parameter gets a gradient")
    marked = [n for n, p in e.model.named_parameters() if not p.requires_grad]
    cut = [n for n in still if n not in marked and n.rpartition(".")[0] in e.ran]
    numbers = {
        "parameters without gradient": f"{share:.0%}, {_names(still)}",
        "of these requires_grad is False for": f"{len(marked)} of {len(still)} tensors",
    }
    # Pretrained weights are frozen on purpose under a head that learns. Random ones are not, nor
    # are those that want a gradient, are used, and are cut off from the loss.
    harmful = cut or (_mostly_as_drawn(still, e) and not e.untrained)
    return finding("frozen_parameters", FAULT if harmful else if_failing(e), numbers)


def _mostly_as_drawn(names: list[str], e: Evidence) -> bool:
    """Are most of these parameters, and most of the model, still as they were drawn?"""
    sizes = {n: p.numel() for n, p in e.model.named_parameters()}
    drawn = sum(sizes[n] for n in names if n in e.as_drawn)
    return drawn > 0.5 * sum(sizes.values()) and e.learned < 0.5


def _names(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def not_in_optimizer(e: Evidence):
    """Does the optimizer hold every parameter that gets a gradient?"""
    if e.optimizer is None:
        return NotChecked("no optimizer was given")
    held = {id(p) for group in e.optimizer.param_groups for p in group["params"]}
    mine = {id(p) for p in e.model.parameters()}
    if isinstance(e.loss_fn, nn.Module):
        mine |= {id(p) for p in e.loss_fn.parameters()}
    missing = [n for n, p in e.model.named_parameters() if p.requires_grad and id(p) not in held]
    missing = [n for n in missing if e.gradients.get(n) is not None]
    foreign = len(held - mine)
    sizes = {n: p.numel() for n, p in e.model.named_parameters()}
    share = sum(sizes[n] for n in missing) / max(sum(sizes.values()), 1)
    numbers = {
        "parameters missing from the optimizer": f"{share:.0%}, {_names(missing)}",
        "tensors in the optimizer that are not the model's": foreign,
    }
    if missing:
        harmful = foreign or (_mostly_as_drawn(missing, e) and not e.untrained)
        return finding("not_in_optimizer", FAULT if harmful else if_failing(e), numbers)
    return Healthy("the optimizer holds every parameter that gets a gradient")


def no_step(e: Evidence):
    """Has the optimizer taken a step?"""
    if e.optimizer is None:
        return NotChecked("no optimizer was given")
    if has_stepped(e.optimizer):
        return Healthy("the optimizer has taken steps")
    if not keeps_state(e.optimizer):
        return NotChecked("plain SGD keeps no record of its steps")
    if e.left_gradient is None:
        return NotChecked("no gradients and no steps yet: the model has not been trained")
    numbers = {
        "steps in the optimizer's state": 0,
        "gradient on the model": f"{e.left_gradient:.3g}",
    }
    return finding("no_optimizer_step", if_failing(e), numbers)


def gradients_not_cleared(e: Evidence):
    """Are the gradients left on the model those of one batch?"""
    if e.left_gradient is None:
        return NotChecked("no gradients are left on the model")
    if not math.isfinite(e.left_gradient) or not 0 < e.fresh_gradient < math.inf:
        return NotChecked("the gradients are zero or not finite")
    ratio = e.left_gradient / e.fresh_gradient
    numbers = {
        "gradient left on the model": f"{e.left_gradient:.3g}",
        "largest of three fresh batches": f"{e.fresh_gradient:.3g}",
        "ratio": f"{ratio:.0f}",
    }
    if ratio > ADDED_UP:
        # A model that fits its images has small gradients, and a hard batch stands out.
        return finding("gradients_not_cleared", if_failing(e), numbers)
    rehearsal = e.probes.rehearsed.get(1.0) if e.probes else None
    if rehearsal is not None:
        numbers[f"learned in {rehearsal.steps} steps that clear them"] = _progress(rehearsal)
    # Was it the rate which let the weights explode? Without an optimizer nobody can tell.
    rate_is_sane = e.optimizer is None or (rehearsal and rehearsal.progress > AHEAD)
    if ratio > DIFFER and e.exploded and rate_is_sane:
        numbers["loss of the training images"] = f"{e.on_train.loss:.3g}"
        return finding("gradients_not_cleared", FAULT, numbers)
    return Healthy(f"the gradient left on the model is {ratio:.1f} times that of a fresh batch")


def inverted_weights(e: Evidence):
    """Do the loss's class weights fall with the counts?"""
    reason = _no_weights(e)
    if reason:
        return NotChecked(reason)
    weights, counts = _weights_and_counts(e)
    numbers = _weight_numbers(weights, counts)
    if _ratio(weights) < 1.5 or _ratio(counts) < 1.5:
        return Healthy("the weights or the counts are even")
    if _rank_correlation(weights, counts) > 0.5:
        return finding("inverted_class_weights", FAULT, numbers)
    return Healthy("rare classes weigh more")


def compensated_twice(e: Evidence):
    """Is balance asked for once only?"""
    reason = _no_weights(e)
    if reason:
        return NotChecked(reason)
    weights, counts = _weights_and_counts(e)
    if _ratio(counts) > 3 or _ratio(weights) < 3:
        return Healthy("sampling and weights do not both balance")
    severity = FAULT if e.failing or _light_lose(weights, e) else WARNING
    return finding("compensated_twice", severity, _weight_numbers(weights, counts))


def _light_lose(weights, e: Evidence) -> bool:
    """Are the classes of little weight found less often than those of much weight?"""
    p = e.judged
    full = torch.full((e.classes,), math.nan).masked_scatter(_present(e), weights)
    known = p.present & _present(e)
    heavy = known & (full > weights.median())
    light = known & (full < weights.max() / 3) & ~heavy
    if not (heavy.any() and light.any()):
        return False
    return bool(p.recall[light].mean() < p.recall[heavy].mean() - 0.1)


def _no_weights(e: Evidence) -> str:
    if e.loss.weights is None:
        return "the loss's class weights could not be measured"
    if int(_present(e).sum()) < 2:
        return "only one class was read"
    return ""


def _present(e: Evidence):
    return e.train.class_counts > 0


def _weights_and_counts(e: Evidence):
    present = _present(e)
    return e.loss.weights[present], e.train.class_counts[present].float()


def _weight_numbers(weights, counts) -> dict:
    rare, frequent = counts.argmin(), counts.argmax()
    return {
        "images read of the rarest and the most frequent class": f"{int(counts[rare])}, "
        f"{int(counts[frequent])}",
        "their weights in the loss": f"{weights[rare]:.3g}, {weights[frequent]:.3g}",
        "largest weight / smallest": f"{_ratio(weights):.3g}",
    }


def _ratio(values) -> float:
    return (values.max() / values.min().clamp_min(1e-9)).item()


def _rank_correlation(a, b) -> float:
    """Spearman's: the correlation of the ranks."""
    ranks = torch.stack([a.argsort().argsort(), b.argsort().argsort()]).float()
    return torch.corrcoef(ranks)[0, 1].item()


def batchnorm(e: Evidence):
    """Are the same images predicted as well in evaluation mode as in training mode?"""
    if e.modes is None:
        return NotChecked("too few usable images")
    in_training, in_evaluation = e.modes
    layers = [m for m in e.model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not layers and in_training - in_evaluation < 0.1:
        return Healthy("the model has no BatchNorm")
    numbers = {
        "accuracy on the same images in training mode": f"{in_training:.1%}",
        "in evaluation mode": f"{in_evaluation:.1%}",
    }
    for layer in layers[:1]:
        seen = layer.num_batches_tracked
        numbers["batches in the running averages"] = int(seen) if seen is not None else "unknown"
        numbers["momentum"] = layer.momentum
    chance = 1 / e.classes
    known = in_training - chance  # averages that lag a little cost a few hundredths of it
    if any((layer.momentum or 0) > 0.5 for layer in layers):  # Keras counts the other way round
        numbers["largest momentum"] = max(layer.momentum or 0 for layer in layers)
        return finding("batchnorm_statistics", FAULT, numbers)
    if in_training > in_evaluation + 0.1 and in_evaluation - chance < 0.8 * known:
        return finding("batchnorm_statistics", FAULT, numbers)
    return Healthy(f"{in_training:.1%} in training mode, {in_evaluation:.1%} in evaluation mode")


def _probes_missing(e: Evidence) -> str:
    if e.optimizer is None:
        return "no optimizer was given"
    if not e.failing:
        return "not needed: the model has learned"
    return e.no_probes or "no time was left"


def learning_rate_high(e: Evidence):
    """Does a smaller learning rate learn what the optimizer's does not?"""
    if e.probes is None:
        return NotChecked(_probes_missing(e))
    own, smaller = e.probes.own, [t for f, t in e.probes.fresh.items() if f < 1]
    if e.probes.without_decay and _ahead(e.probes.without_decay, own):
        return Healthy("without weight decay this one learns")
    if own.progress < STUCK and any(_ahead(trial, own) for trial in smaller):
        good = max(smaller, key=lambda trial: trial.progress)
    elif len(e.probes.rehearsed) == 2:
        own, good = e.probes.rehearsed[1.0], e.probes.rehearsed[0.1]
        if own.progress > STUCK / 2 or not _ahead(good, own):
            return Healthy(_own_rate(e, "smaller"))
    else:
        return Healthy(_own_rate(e, "smaller"))
    rate = e.probes.lr * good.factor
    return finding("learning_rate_too_high", if_failing(e), _probe_numbers(e, own, good), rate)


def _ahead(trial, own) -> bool:
    return trial.progress > max(own.progress, 0) + AHEAD


def learning_rate_low(e: Evidence):
    """Does a much larger learning rate learn what the optimizer's does not?"""
    if e.probes is None:
        return NotChecked(_probes_missing(e))
    now = e.probes.onward_now
    if e.probes.lr == 0:
        return finding("learning_rate_too_low", if_failing(e), {"learning rate": 0}, USUAL_RATE)
    # A schedule that is over ends at such a rate too; then the weights have moved.
    still = _mostly_as_drawn(list(e.gradients), e)
    if now is not None and still and not e.misfit and _ahead(e.probes.onward, now):
        numbers = {
            f"learned in {now.steps} trial steps at the rate as it is now, {e.probes.lr_now:g}": (
                _progress(now)
            ),
            f"at the rate that the schedule starts from, {e.probes.lr:g}": (
                _progress(e.probes.onward)
            ),
        }
        return finding("learning_rate_too_low", if_failing(e), numbers, e.probes.lr)
    own, ten_times = e.probes.own, e.probes.fresh.get(10.0)
    larger = [t for f, t in e.probes.fresh.items() if f >= 100 and t.progress > LEARNS]
    # Ten times is what people tune by; a hundred times is a mistake.
    if own.progress < STUCK and larger and ten_times and ten_times.progress < LEARNS:
        good = max(larger, key=lambda trial: trial.progress)
        rate = e.probes.lr * good.factor
        return finding("learning_rate_too_low", if_failing(e), _probe_numbers(e, own, good), rate)
    return Healthy(_own_rate(e, "larger"))


def _probe_numbers(e: Evidence, own, good) -> dict:
    return {
        f"learned in {own.steps} trial steps at {e.probes.lr:g}": _progress(own),
        f"at {e.probes.lr * good.factor:g}": _progress(good),
        "loss": "summed over the batch" if e.loss.sums else "averaged over the batch",
    }


def _progress(trial) -> str:
    return f"{max(trial.progress, 0):.0%}" if math.isfinite(trial.progress) else "not finite"


def _own_rate(e: Evidence, other: str) -> str:
    if e.probes.own.progress >= STUCK:
        return f"{_progress(e.probes.own)} learned in a trial at {e.probes.lr:g}"
    return f"a {other} one does not learn what {e.probes.lr:g} does not"


def identical_units(e: Evidence):
    """Are the units of each layer different?"""
    for name, module in e.model.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)) and len(weight) > 2:
            rows = weight.detach().flatten(1)
            if torch.allclose(rows, rows[:1].expand_as(rows), rtol=1e-3):  # but for rounding
                numbers = {"layer": name, "units with the same weights": len(rows)}
                return finding("identical_units", if_failing(e), numbers)
    return Healthy("the units of each layer have different weights")


def dead_units(e: Evidence):
    """Do units react to the images?"""
    if not e.layers:
        return NotChecked("there are no layers behind the first one")
    worst = max(e.layers, key=lambda layer: layer.constant)
    if worst.constant >= 0.9:  # fewer are usual: ReLU networks work with half of theirs off
        numbers = {"units that give the same for every image": f"{worst.constant:.0%} of those "
                   f"before {worst.name}"}  # fmt: skip
        return finding("dead_units", if_failing(e), numbers)
    return Healthy(f"at most {worst.constant:.0%} of a layer's units are off for every image")


def vanishing_gradients(e: Evidence):
    """Do the first layers get a gradient to speak of?"""
    sizes = dict(e.model.named_parameters())
    per_number = [
        g / math.sqrt(sizes[n].numel())
        for n, g in e.gradients.items()
        if g is not None and math.isfinite(g) and sizes[n].ndim > 1
    ]
    if len(per_number) < 2 or per_number[-1] == 0:
        return NotChecked("needs the gradients of two layers")
    ratio = per_number[0] / per_number[-1]
    numbers = {"gradient of the first layer / of the last": f"{ratio:.1g}"}
    if 0 < ratio < 1e-4:  # it would take ten thousand times as many steps
        return finding("vanishing_gradients", if_failing(e), numbers)
    return Healthy(f"the first layer's gradient is {ratio:.2g} times the last one's")


def weight_decay(e: Evidence):
    """Does the model learn again without weight decay?"""
    if e.optimizer is None:
        return NotChecked("no optimizer was given")
    decay = max(g.get("weight_decay", 0) for g in e.optimizer.param_groups)
    if not decay:
        return Healthy("there is no weight decay")
    if e.shrunk is None:
        return NotChecked("there is no layer to compare with a new one")
    numbers = {"weight decay": f"{decay:g}", "size of the weights / of new ones": f"{e.shrunk:.2g}"}
    without = e.probes.without_decay if e.probes else None
    if without is not None:
        numbers[f"learned in {without.steps} trial steps"] = _progress(e.probes.own)
        numbers["in as many without weight decay"] = _progress(without)
    if e.shrunk < 0.1 and e.learned < 0.5 and not e.untrained:
        return finding("weight_decay_too_high", FAULT, numbers)
    # Training enlarges weights, or shrinks them a little.
    if e.failing and (e.shrunk < 1 / 3 or (without and _ahead(without, e.probes.own))):
        return finding("weight_decay_too_high", if_failing(e), numbers)
    return Healthy(
        f"weight decay {decay:g}; the weights are {e.shrunk:.2g} times those of new layers"
    )


def labels_out_of_step(e: Evidence):
    """Do the labels depend on the images at all?"""
    if not e.failing:
        return NotChecked("not needed: the model has learned")
    if e.dependence is None:
        return NotChecked(
            "needs 20 usable images of each class, 100 outside the largest, and no indices"
        )
    numbers = {
        "dependence of labels on images, training": f"{e.dependence:.1f} standard deviations"
    }
    if e.eval_dependence is not None:
        numbers["in evaluation"] = f"{e.eval_dependence:.1f}"
    independent = e.dependence < DEVIATIONS
    if independent and e.eval_dependence is not None and e.eval_dependence < DEVIATIONS:
        # A relation may be too fine for this measure: can a training find it?
        rehearsal = e.probes.rehearsed.get(1.0) if e.probes else None
        if rehearsal is None or rehearsal.progress > STUCK:
            return finding("labels_out_of_step", WARNING, numbers)
        numbers["learned by heart in a trial, of a few images"] = _progress(e.probes.own)
        numbers["of many images"] = _progress(rehearsal)
    if independent:
        return finding("labels_out_of_step", FAULT, numbers)
    return Healthy(f"the labels depend on the images ({e.dependence:.0f} standard deviations)")


def class_imbalance(e: Evidence):
    """Do the rare classes get their share of the predictions?"""
    counts = e.train.class_counts
    present = counts > 0
    if int(present.sum()) < 2:
        return NotChecked("only one class was read")
    ratio = _ratio(counts[present].float())
    if ratio < 3:  # a prior three times as large moves a logit by ln 3, about one
        return Healthy(f"the largest class has {ratio:.1f} times the images of the smallest")
    pull = counts[present].float()
    if e.loss.weights is not None:
        pull = pull * e.loss.weights[present]
    numbers = {
        "images read of the largest and the smallest class": f"{int(counts.max())}, "
        f"{int(counts[present].min())}",
        "their pull on the loss": f"{_ratio(pull):.0f} to 1" if _ratio(pull) >= 3 else "even",
    }
    lost = False
    # Training images too: evaluation may be spoiled by something else.
    for name, p in (("evaluation", e.on_eval), ("training", e.on_train)):
        rare, frequent = _rare_and_frequent(counts, p) if p and not lost else (None, None)
        if rare is not None:
            key = f"recall of the rare and the frequent, {name}"
            numbers[key] = f"{rare:.1%}, {frequent:.1%}"
            lost = rare < 1 / e.classes / 2 and frequent > 1 / e.classes
    return finding("class_imbalance", FAULT if lost and _ratio(pull) >= 3 else NOTE, numbers)


def _rare_and_frequent(counts, p):
    """Mean recall of the rarest and the most frequent third of the classes, or None, None."""
    order = counts.argsort(stable=True)
    order = order[(counts[order] > 0) & p.present[order]]
    third = max(1, len(order) // 3)
    rare, frequent = order[:third], order[-third:]
    if len(order) < 2 or p.counts[rare].sum() < FEW_IMAGES or not p.finite:
        return None, None
    return p.recall[rare].mean().item(), p.recall[frequent].mean().item()


def finite_weights(e: Evidence):
    """Are weights, buffers and outputs finite?"""
    tensors = [*e.model.named_parameters(), *e.model.named_buffers()]
    bad = [n for n, t in tensors if t.is_floating_point() and not t.isfinite().all()]
    if bad:
        return finding("non_finite", FAULT, {"parameters and buffers with NaN": _names(bad)})
    if e.on_train is not None and not e.on_train.finite:
        return finding("non_finite", FAULT, {"outputs": "NaN or infinite for finite inputs"})
    return Healthy("weights, buffers and outputs are finite")


def undertrained(e: Evidence):
    """Has the model been trained, and would it learn?"""
    if not e.failing or e.exploded:
        return Healthy(f"learned {max(e.learned, 0):.0%} of what there is")
    if e.eval_is_worse:  # then more training is not what is missing
        return Healthy(f"learned {e.on_train.learned:.0%} of the training images")
    if e.probes is None or e.probes.best().progress < STUCK:
        return NotChecked(_probes_missing(e) if e.probes is None else "no trial training learns")
    steps = _steps(e.optimizer)
    numbers = {"steps taken": steps} if steps is not None else {}
    numbers["learned so far (0 guessing, 100 % perfect)"] = f"{max(e.learned, 0):.0%}"
    numbers["in a trial from new weights"] = _progress(e.probes.best())
    return finding("undertrained", NOTE if e.untrained else FAULT, numbers)


def _steps(optimizer) -> int | None:
    """The number of steps, where the optimizer counts them (Adam does, SGD does not)."""
    if optimizer is None:
        return None
    counted = [s["step"] for s in optimizer.state.values() if isinstance(s, dict) and "step" in s]
    return int(max(counted)) if counted else None


def overfitting(e: Evidence):
    """Is what was learned of use on new images?"""
    if e.on_eval is None:
        return NotChecked("no eval_batches were given")
    train, evaluation = e.on_train.learned, e.on_eval.learned
    numbers = {"learned, on training and on evaluation images": f"{train:.0%}, {evaluation:.0%}"}
    if e.eval_is_worse and e.on_train.finite:
        return finding("overfitting", FAULT if e.failing else WARNING, numbers)
    return Healthy(numbers.popitem()[1])


def constant_output(e: Evidence):
    """Do the outputs depend on the inputs?"""
    if e.on_train is None or not e.on_train.finite:
        return NotChecked("the outputs are not finite")
    numbers = {
        "spread of the outputs over the images": f"{e.output_spread:.2g}",
        "classes in use": f"{e.on_train.used:.2f}",
    }
    if e.output_spread < 1e-3:
        return finding("constant_output", if_failing(e), numbers)
    return Healthy(f"they spread by {e.output_spread:.2g} over the images")


def not_learning(e: Evidence):
    """Has the model learned anything?"""
    if not e.failing:
        return Healthy(f"learned {e.learned:.0%} of what there is")
    numbers = {"learned (0 guessing, 100 % perfect)": f"{max(e.learned, 0):.0%}"}
    if e.probes is None:
        numbers["trial trainings"] = _probes_missing(e)
    else:
        numbers["in a trial from new weights"] = _progress(e.probes.best())
    return finding("not_learning", if_failing(e), numbers)


CHECKS = {
    "finite data": finite_data,
    "labels": label_range,
    "different images": duplicates,
    "softmax before the loss": double_softmax,
    "log-softmax before the loss": missing_log_softmax,
    "activation on the logits": activation_on_logits,
    "scale of the inputs": input_range,
    "training against evaluation inputs": train_eval_mismatch,
    "shuffled batches": unshuffled,
    "frozen parameters": frozen,
    "parameters in the optimizer": not_in_optimizer,
    "optimizer steps": no_step,
    "cleared gradients": gradients_not_cleared,
    "direction of the class weights": inverted_weights,
    "compensation twice": compensated_twice,
    "learning rate too high": learning_rate_high,
    "training against evaluation mode": batchnorm,
    "identical units": identical_units,
    "dead units": dead_units,
    "vanishing gradients": vanishing_gradients,
    "weight decay": weight_decay,
    "learning rate too low": learning_rate_low,
    "labels beside their images": labels_out_of_step,
    "class imbalance": class_imbalance,
    "finite weights": finite_weights,
}

# Symptoms that any of the faults above would bring about: the first that is there counts.
LEFT_OVER = {
    "dependence on the input": constant_output,
    "training length": undertrained,
    "overfitting": overfitting,
    "learning at all": not_learning,
}
