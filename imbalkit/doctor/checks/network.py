"""Questions about the network: do its layers pass something on, and do gradients come back?"""

import math

from torch import nn

from imbalkit.doctor.checks.answer import (
    CONSTANT,
    Answer,
    Healthy,
    NotChecked,
    finding,
    if_failing,
    listed,
    mostly_as_drawn,
)
from imbalkit.doctor.measuring import WEIGHTED, same_rows
from imbalkit.doctor.record import Record, steps_taken
from imbalkit.doctor.report import FAULT, NOTE, WARNING

# Half of the units is usual; the papers' share to keep, 0.9 say, is torch's share to drop.
MUCH_DROPOUT = 0.8
# The mean of so few images is one of these images more than of the set.
TINY_BATCH = 4
FEW_STEPS = 100  # of an optimizer, after which a layer is no longer as it was drawn
APART = 0.1  # deviations over the images; rounding in float16 is a hundredth of that
WELL = 0.8  # a model that has learned so much is warned


def frozen_parameters(record: Record) -> Answer:
    """Does every parameter get a gradient?"""
    still = [n for n, g in record.gradients.items() if g is None]
    sizes = {n: p.numel() for n, p in record.model.named_parameters()}
    share = sum(sizes[n] for n in still) / max(sum(sizes.values()), 1)
    if not still:
        return Healthy("every parameter gets a gradient")
    marked = [n for n, p in record.model.named_parameters() if not p.requires_grad]
    cut = [n for n in still if n not in marked and n.rpartition(".")[0] in record.ran]
    numbers = {
        "parameters without gradient": f"{share:.0%}, {listed(still)}",
        "of these requires_grad is False for": f"{len(marked)} of {len(still)} tensors",
    }
    # Pretrained weights are frozen on purpose under a head that learns. Random ones are not, nor
    # are those that want a gradient, are used, and are cut off from the loss.
    harmful = cut or (mostly_as_drawn(still, record) and not record.untrained)
    return finding("frozen_parameters", FAULT if harmful else if_failing(record), numbers)


def batchnorm_statistics(record: Record) -> Answer:
    """Are the same images predicted as well in evaluation mode as in training mode?"""
    if record.modes is None:
        return NotChecked("too few usable images")
    in_training, in_evaluation = record.modes
    layers = [m for m in record.model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not layers and in_training - in_evaluation < 0.1:
        return Healthy("the model has no BatchNorm")
    numbers = {
        "accuracy on the same images in training mode": f"{in_training:.1%}",
        "in evaluation mode": f"{in_evaluation:.1%}",
    }
    if layers and record.train.batch <= TINY_BATCH and record.failing and not record.untrained:
        numbers |= {"images in a batch": record.train.batch}
        return finding("batchnorm_statistics", FAULT, numbers)
    # Of two rows it only tells which is larger; pixels of two images are many rows.
    of_rows = any(isinstance(layer, nn.BatchNorm1d) for layer in layers)
    if of_rows and record.train.batch <= 2 and record.learned < 0.8 and not record.untrained:
        numbers |= {"rows that it takes mean and deviation of": record.train.batch}
        return finding("batchnorm_statistics", FAULT, numbers)
    for layer in layers[:1]:
        seen = layer.num_batches_tracked
        numbers["batches in the running averages"] = int(seen) if seen is not None else "unknown"
        numbers["momentum"] = layer.momentum
    chance = 1 / record.classes
    known = in_training - chance  # averages that lag a little cost a few hundredths of it
    if any((layer.momentum or 0) > 0.5 for layer in layers):  # Keras counts the other way round
        numbers["largest momentum"] = max(layer.momentum or 0 for layer in layers)
        return finding("batchnorm_statistics", FAULT, numbers)
    if in_training > in_evaluation + 0.1 and in_evaluation - chance < 0.8 * known:
        return finding("batchnorm_statistics", FAULT, numbers)
    return Healthy(f"{in_training:.1%} in training mode, {in_evaluation:.1%} in evaluation mode")


def identical_units(record: Record) -> Answer:
    """Are the units of each layer different?"""
    for name, module in record.model.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(module, WEIGHTED) and len(weight) > 2 and same_rows(weight):
            numbers = {"layer": name, "units with the same weights": len(weight)}
            severity = if_failing(record)
            if f"{name}.weight".removeprefix(".") in record.alike:
                numbers["gradients of these units"] = "the same, so they stay alike"
                harmful = record.learned < 0.5 and not record.untrained
                severity = FAULT if harmful else severity
            return finding("identical_units", severity, numbers)
    return Healthy("the units of each layer have different weights")


def dead_units(record: Record) -> Answer:
    """Do units react to the images?"""
    if not record.layers:
        return NotChecked("there are no layers behind the first one")
    worst = max(record.layers, key=lambda layer: layer.constant)
    if worst.constant >= 0.9 and worst.cut:
        return NotChecked(
            f"what reaches {worst.name} is constant, and no activation did that: the units before "
            "it take both signs"
        )
    if worst.constant >= 0.9:  # fewer are usual: ReLU networks work with half of theirs off
        numbers = {"units that give the same for every image": f"{worst.constant:.0%} of those "
                   f"before {worst.name}"}  # fmt: skip
        return finding("dead_units", if_failing(record), numbers)
    return Healthy(f"at most {worst.constant:.0%} of a layer's units are off for every image")


def dropout_too_high(record: Record) -> Answer:
    """Does dropout leave enough units for something to get through?"""
    layers = [m for m in record.model.modules() if isinstance(m, nn.modules.dropout._DropoutNd)]
    highest = max((layer.p for layer in layers), default=0.0)
    if highest <= MUCH_DROPOUT:
        return Healthy(f"dropout of {highest:g} at most" if layers else "there is no dropout")
    numbers = {"units that dropout takes away": f"{highest:.0%}"}
    return finding("dropout_too_high", if_failing(record), numbers)


def dropout_in_evaluation(record: Record) -> Answer:
    """Does evaluation give the same outputs twice?"""
    if record.modes is None or not record.noise < math.inf:
        return NotChecked("the outputs in evaluation mode are not known")
    if record.noise < APART:
        return Healthy("evaluation gives the same outputs twice")
    numbers = {"two passes in evaluation mode differ by": f"{record.noise:.2g} deviations"}
    severity = FAULT if record.learned < WELL else WARNING
    return finding("dropout_in_evaluation", severity, numbers)


def images_mixed(record: Record) -> Answer:
    """Does each image get its outputs whatever stands beside it in the batch?"""
    if record.modes is None or not record.mixing < math.inf:
        return NotChecked("the outputs in evaluation mode are not known")
    if record.noise >= APART or record.output_spread < CONSTANT:
        return NotChecked("the outputs differ from pass to pass, or are the same for all images")
    if record.mixing < APART:
        return Healthy("each image has its outputs whatever stands beside it")
    numbers = {"outputs with other images and without differ by": f"{record.mixing:.2g} deviations"}
    severity = FAULT if record.learned < WELL else WARNING
    of_the_batch = [
        m for m in record.model.modules()
        if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.running_mean is None
    ]  # fmt: skip
    if of_the_batch:
        numbers["BatchNorm layers without running averages"] = str(len(of_the_batch))
        return finding("batchnorm_statistics", severity, numbers)
    return finding("images_mixed", severity, numbers)


def no_nonlinearity(record: Record) -> Answer:
    """Is there something between the layers that is not linear?"""
    if not record.linear:
        return Healthy("the layers together are more than one")
    numbers = {"outputs for a - b + c": "are those for a, less those for b, and those for c"}
    return finding("no_nonlinearity", FAULT if record.learned < 0.5 else NOTE, numbers)


def zero_gradient(record: Record) -> Answer:
    """Does the loss give any gradient?"""
    norms = [g for g in record.gradients.values() if g is not None]
    if not norms:
        return NotChecked("no parameter has a gradient")
    if any(norms) or not record.failing:
        return Healthy("the loss gives a gradient")
    numbers = {
        "gradient of each parameter": "exactly 0",
        "loss of one batch": f"{record.loss_value:.4g}",
    }
    return finding("zero_gradient", FAULT, numbers)


def weights_not_loaded(record: Record) -> Answer:
    """Is the last layer as it was drawn, behind others that are trained?"""
    named = [n for n, p in record.model.named_parameters() if p.ndim > 1]
    if len(named) < 3 or not record.as_drawn:
        return Healthy("the layers are new or trained alike")
    sizes = {n: p.numel() for n, p in record.model.named_parameters()}
    before = sum(sizes[n] for n in named[:-1])
    drawn = sum(sizes[n] for n in named[:-1] if n in record.as_drawn)
    if (steps_taken(record.optimizer) or 0) > FEW_STEPS:
        return Healthy("the last layer was trained with the others")
    if named[-1] not in record.as_drawn or drawn > 0.2 * before or record.learned > 0.1:
        return Healthy("the layers are new or trained alike")
    numbers = {
        "as it was drawn": named[-1],
        "of the weights before it": f"{drawn / before:.0%}",
        "learned (0 guessing, 100 % perfect)": f"{max(record.learned, 0):.0%}",
    }
    # Without a step, too: it is how a model behaves that was loaded to be used.
    return finding("weights_not_loaded", FAULT if record.failing else NOTE, numbers)


def vanishing_gradients(record: Record) -> Answer:
    """Do the first layers get a gradient to speak of?"""
    sizes = dict(record.model.named_parameters())
    per_number = [
        g / math.sqrt(sizes[n].numel())
        for n, g in record.gradients.items()
        if g is not None and math.isfinite(g) and sizes[n].ndim > 1
    ]
    if len(per_number) < 2 or per_number[-1] == 0:
        return NotChecked("needs the gradients of two layers")
    ratio = per_number[0] / per_number[-1]
    numbers = {"gradient of the first layer / of the last": f"{ratio:.1g}"}
    if 0 < ratio < 1e-4:  # it would take ten thousand times as many steps
        return finding("vanishing_gradients", if_failing(record), numbers)
    return Healthy(f"the first layer's gradient is {ratio:.2g} times the last one's")


def finite_weights(record: Record) -> Answer:
    """Are weights, buffers and outputs finite?"""
    tensors = [*record.model.named_parameters(), *record.model.named_buffers()]
    bad = [n for n, t in tensors if t.is_floating_point() and not t.isfinite().all()]
    if bad:
        return finding("non_finite", FAULT, {"parameters and buffers with NaN": listed(bad)})
    if record.on_train is not None and not record.on_train.finite:
        return finding("non_finite", FAULT, {"outputs": "NaN or infinite for finite inputs"})
    return Healthy("weights, buffers and outputs are finite")
