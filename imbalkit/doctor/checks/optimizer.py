"""Questions about the optimizer: does it move the parameters, and at a rate that learns?"""

import math

import torch
from torch import nn

from imbalkit.doctor.checks.answer import (
    Answer,
    Healthy,
    NotChecked,
    finding,
    if_failing,
    listed,
    mostly_as_drawn,
    progress_text,
    why_no_probes,
)
from imbalkit.doctor.probes import LEARNS, MOST_STEPS, STUCK
from imbalkit.doctor.record import (
    ADDED_UP,
    AHEAD,
    Record,
    Trial,
    has_stepped,
    keeps_state,
    steps_taken,
)
from imbalkit.doctor.report import FAULT, WARNING
from imbalkit.doctor.trials import base_rate

# A batch a quarter as large has twice the noise; beyond that the exploded loss has to speak too.
DIFFER = 3
USUAL_RATE = 1e-3  # proposed in place of 0: the default of torch's SGD and Adam


def not_in_optimizer(record: Record) -> Answer:
    """Does the optimizer hold every parameter that gets a gradient?"""
    if record.optimizer is None:
        return NotChecked("no optimizer was given")
    held = {id(p) for group in record.optimizer.param_groups for p in group["params"]}
    mine = {id(p) for p in record.model.parameters()}
    if isinstance(record.loss_fn, nn.Module):
        mine |= {id(p) for p in record.loss_fn.parameters()}
    named = dict(record.model.named_parameters())
    missing = _without_optimizer(record)
    foreign = len(held - mine)
    sizes = {n: p.numel() for n, p in named.items()}
    share = sum(sizes[n] for n in missing) / max(sum(sizes.values()), 1)
    numbers = {
        "parameters missing from the optimizer": f"{share:.0%}, {listed(missing)}",
        "tensors in the optimizer that are not the model's": foreign,
    }
    if record.unlisted > 0.1 * sum(sizes.values()):
        numbers["weights in use that parameters() does not find"] = f"{record.unlisted:,} numbers"
        return finding("not_in_optimizer", if_failing(record), numbers)
    if missing:
        # A model that has learned is the average of one that was trained, or a part of it.
        foreign = foreign and record.learned < 0.5
        harmful = foreign or (mostly_as_drawn(missing, record) and not record.untrained)
        return finding("not_in_optimizer", FAULT if harmful else if_failing(record), numbers)
    return Healthy("the optimizer holds every parameter that gets a gradient")


def _without_optimizer(record: Record) -> list[str]:
    """The parameters that get a gradient and no step."""
    held = {id(p) for group in record.optimizer.param_groups for p in group["params"]}
    named = record.model.named_parameters()
    missing = [n for n, p in named if p.requires_grad and id(p) not in held]
    return [n for n in missing if record.gradients.get(n) is not None]


def optimizer_steps(record: Record) -> Answer:
    """Has the optimizer taken a step?"""
    if record.optimizer is None:
        return NotChecked("no optimizer was given")
    if has_stepped(record.optimizer):
        loss_has_none = record.gradients and not any(record.gradients.values())
        if record.empty_steps and record.failing and not loss_has_none:
            numbers = {"means of earlier gradients in the optimizer": "all exactly 0"}
            return finding("no_optimizer_step", FAULT, numbers)
        return Healthy("the optimizer has taken steps")
    if not keeps_state(record.optimizer):
        return NotChecked("plain SGD keeps no record of its steps")
    if record.left_gradient is None and record.batches_seen:
        numbers = {
            "batches that BatchNorm has seen": record.batches_seen,
            "steps in the optimizer's state": 0,
            "gradient on the model": "none: backward() is missing, or does not reach the weights",
        }
        return finding("no_optimizer_step", if_failing(record), numbers)
    if record.left_gradient is None:
        return NotChecked(
            "no gradients and no steps yet: it was not trained, or backward() is missing"
        )
    numbers = {
        "steps in the optimizer's state": 0,
        "gradient on the model": f"{record.left_gradient:.3g}",
    }
    return finding("no_optimizer_step", if_failing(record), numbers)


def gradients_not_cleared(record: Record) -> Answer:
    """Are the gradients left on the model those of one batch?"""
    if record.left_gradient is None:
        return NotChecked("no gradients are left on the model")
    if not math.isfinite(record.left_gradient) or not 0 < record.fresh_gradient < math.inf:
        return NotChecked("the gradients are zero or not finite")
    if record.optimizer is not None and _without_optimizer(record):
        return NotChecked("parameters that the optimizer lacks keep the gradients of all batches")
    ratio = record.left_gradient / record.fresh_gradient
    numbers = {
        "gradient left on the model": f"{record.left_gradient:.3g}",
        "largest of three fresh batches": f"{record.fresh_gradient:.3g}",
        "ratio": f"{ratio:.0f}",
    }
    if ratio > ADDED_UP:
        # A model that fits its images has small gradients, and a hard batch stands out.
        return finding("gradients_not_cleared", if_failing(record), numbers)
    rehearsal = record.probes.rehearsed.get(1.0) if record.probes else None
    if rehearsal is not None:
        numbers[f"learned in {rehearsal.steps} steps that clear them"] = progress_text(rehearsal)
    # Was it the rate which let the weights explode? Without an optimizer nobody can tell.
    rate_is_sane = record.optimizer is None or (rehearsal and rehearsal.progress > AHEAD)
    if ratio > DIFFER and record.exploded and rate_is_sane:
        numbers["loss of the training images"] = f"{record.on_train.loss:.3g}"
        return finding("gradients_not_cleared", FAULT, numbers)
    return Healthy(f"the gradient left on the model is {ratio:.1f} times that of a fresh batch")


def gradients_clipped(record: Record) -> Answer:
    """Do the gradients reach the optimizer at their length?"""
    if record.step_gradient is None or not record.fresh_gradient:
        return NotChecked("no gradients are left on the model or in the optimizer's momentum")
    if not record.tiny_steps or not record.failing:
        return Healthy("the gradients that the optimizer got are like those of fresh batches")
    numbers = {
        "gradient that the optimizer got": f"{record.step_gradient:.3g}",
        "largest of three fresh batches": f"{record.fresh_gradient:.3g}",
    }
    clipped = record.probes.clipped if record.probes else None
    if clipped is None:
        return finding("gradients_clipped", WARNING, numbers)
    own = record.probes.own
    numbers[f"learned in {own.steps} trial steps with whole gradients"] = progress_text(own)
    numbers["cut to that length"] = progress_text(clipped)
    if not _learns_more(own, clipped):
        return Healthy("gradients of the length that the optimizer got learn as much")
    return finding("gradients_clipped", FAULT, numbers)


def learning_rate_too_high(record: Record) -> Answer:
    """Does a smaller learning rate learn what the optimizer's does not?"""
    if record.probes is None:
        return NotChecked(why_no_probes(record))
    own, smaller = record.probes.own, [t for f, t in record.probes.fresh.items() if f < 1]
    if record.probes.without_decay and _learns_more(record.probes.without_decay, own):
        return Healthy("without weight decay this one learns")
    if own.progress < STUCK and any(_learns_more(trial, own) for trial in smaller):
        good = max(smaller, key=lambda trial: trial.progress)
    elif len(record.probes.rehearsed) == 2:
        own, good = record.probes.rehearsed[1.0], record.probes.rehearsed[0.1]
        if own.progress > STUCK / 2 or not _learns_more(good, own):
            return _no_other_rate(record, "smaller")
    else:
        return _no_other_rate(record, "smaller")
    rate = record.probes.lr * good.factor
    numbers = _probe_numbers(record, own, good)
    return finding("learning_rate_too_high", if_failing(record), numbers, rate)


def learning_rate_too_low(record: Record) -> Answer:
    """Does a much larger learning rate learn what the optimizer's does not?"""
    if record.probes is None:
        return NotChecked(why_no_probes(record))
    probes = record.probes
    onward, now = probes.onward, probes.onward_now
    if probes.lr == 0:
        numbers = {"learning rate": 0}
        return finding("learning_rate_too_low", if_failing(record), numbers, USUAL_RATE)
    # A schedule that is over ends at such a rate too; then the weights have moved.
    still = mostly_as_drawn(list(record.gradients), record)
    # One that ended before the trial would have is too short, whatever its rate.
    short = now is not None and (steps_taken(record.optimizer) or now.steps) < now.steps
    if now is not None and still and not short and not record.misfit and _learns_more(onward, now):
        at_the_rate_now = f"learned in {now.steps} trial steps at the rate as it is now"
        numbers = {
            f"{at_the_rate_now}, {probes.lr_now:g}": progress_text(now),
            f"at the rate that the schedule starts from, {probes.lr:g}": progress_text(onward),
        }
        return finding("learning_rate_too_low", if_failing(record), numbers, probes.lr)
    own, ten_times = probes.own, probes.fresh.get(10.0)
    larger = [t for f, t in probes.fresh.items() if f >= 100 and t.progress > LEARNS]
    # Ten times is what people tune by; a hundred times is a mistake.
    if own.progress < STUCK and larger and ten_times and ten_times.progress < LEARNS:
        good = max(larger, key=lambda trial: trial.progress)
        rate = probes.lr * good.factor
        numbers = _probe_numbers(record, own, good)
        return finding("learning_rate_too_low", if_failing(record), numbers, rate)
    return _no_other_rate(record, "larger")


def weight_decay_too_high(record: Record) -> Answer:
    """Does the model learn again without weight decay?"""
    if record.optimizer is None:
        return NotChecked("no optimizer was given")
    decay = max(g.get("weight_decay", 0) for g in record.optimizer.param_groups)
    if not decay and not record.penalty:
        return Healthy("there is no weight decay")
    if record.shrunk is None:
        return NotChecked("there is no layer to compare with a new one")
    numbers = {
        "weight decay": f"{decay:g}",
        "size of the weights / of new ones": f"{record.shrunk:.2g}",
    }
    if record.penalty:
        numbers["what the loss itself does, as a weight decay"] = f"{record.penalty:.3g}"
    without = record.probes.without_decay if record.probes else None
    if without is not None:
        numbers[f"learned in {without.steps} trial steps"] = progress_text(record.probes.own)
        numbers["in as many without weight decay"] = progress_text(without)
    # Weights may be drawn small: could this decay have shrunk them, in the steps that were taken?
    could = _could_shrink(record)
    if could and record.shrunk < 0.1 and record.learned < 0.5 and not record.untrained:
        return finding("weight_decay_too_high", FAULT, numbers)
    # Training enlarges weights, or shrinks them a little.
    learns_without = without is not None and _learns_more(without, record.probes.own)
    if record.failing and ((could and record.shrunk < 1 / 3) or learns_without):
        return finding("weight_decay_too_high", if_failing(record), numbers)
    return Healthy(
        f"weight decay {decay:g}; the weights are {record.shrunk:.2g} times those of new layers"
    )


def _could_shrink(record: Record) -> bool:
    """Does the decay, over the steps that were taken, take away half of a weight or more?

    Rate times decay is the share that goes in one step. Where nobody counted the steps it has to be
    a thousandth, which is gone in a few epochs.
    """
    groups = record.optimizer.param_groups
    share = max(base_rate(g) * (g.get("weight_decay", 0) + record.penalty) for g in groups)
    steps = steps_taken(record.optimizer) or record.batches_seen
    if steps and _divides_the_decay(record):
        # Whatever the decay, a weight moves by the rate in a step, if the decay outweighs the data.
        return max(map(base_rate, groups)) * steps > _new_size(record) / 2
    return share * steps > math.log(2) if steps else share > 1e-3


def _divides_the_decay(record: Record) -> bool:
    """Is the decay added to gradients that are then divided by their size, as in Adam?"""
    keys = {key for state in record.optimizer.state.values() for key in state}
    apart = isinstance(record.optimizer, torch.optim.AdamW)
    apart |= any(g.get("decoupled_weight_decay") for g in record.optimizer.param_groups)
    divides = bool(keys & {"exp_avg_sq", "square_avg", "exp_inf"})
    return divides and (not apart or record.penalty > 0)


def _new_size(record: Record) -> float:
    """The size of a single weight as layers draw it, root mean square."""
    weights = [p.detach() for p in record.model.parameters() if p.ndim > 1]
    squares = sum(p.square().sum().item() for p in weights)
    return math.sqrt(squares / sum(p.numel() for p in weights)) / max(record.shrunk or 0.0, 1e-9)


def _probe_numbers(record: Record, own: Trial, good: Trial) -> dict:
    return {
        f"learned in {own.steps} trial steps at {record.probes.lr:g}": progress_text(own),
        f"at {record.probes.lr * good.factor:g}": progress_text(good),
        "loss": "summed over the batch" if record.loss.sums else "averaged over the batch",
    }


def _no_other_rate(record: Record, other: str) -> Answer:
    """No other rate does better: all is well, or the trials were too short to tell."""
    own = record.probes.own
    if own.progress >= STUCK:
        return Healthy(f"{progress_text(own)} learned in a trial at {record.probes.lr:g}")
    if own.steps < MOST_STEPS and record.probes.best.progress < STUCK:
        return NotChecked(
            f"in the {own.steps} steps that a trial had, no rate learned; give more seconds"
        )
    return Healthy(f"a {other} one does not learn what {record.probes.lr:g} does not")


def _learns_more(trial: Trial, own: Trial) -> bool:
    return trial.progress > max(own.progress, 0) + AHEAD
