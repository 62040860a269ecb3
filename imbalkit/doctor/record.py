"""The record of an examination: what was measured of a model, its outputs and its data.

`examination.gather` builds it once. The checks only read it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from imbalkit.doctor.assignment import best_assignment
from imbalkit.doctor.outputs import SQUASHING, LossFacts
from imbalkit.doctor.reading import Sample
from imbalkit.doctor.setup import Setup
from imbalkit.doctor.tasks import Task

# A fifth: 28 % right of ten balanced classes, 60 % of two.
LITTLE = 0.2
# With fewer images a class some numbering of the classes fits any answers: with one it fits all.
FEWEST_TO_RENUMBER = 5

# Gradients are added up over eight batches on purpose; single batches differ by a few times.
ADDED_UP = 20

AHEAD = 0.1  # a tenth of the labels' entropy: twenty times what trials of one rate differ by

Kind = Literal["logits", "probabilities", "log_probabilities"]


@dataclass(frozen=True, eq=False)
class Predictions:
    """A model's answers to a sample, in evaluation mode, and what they are worth.

    Attributes:
        labels: int64 (N,), true classes.
        predicted: int64 (N,), the most probable class of each image.
        counts: int64 (C,), images of each class.
        present: bool (C,), has a class any image?
        share: float (C,), each class's share of the predictions.
        recall: float (C,), NaN for a class without images.
        accuracy: the share of the images that are right.
        balanced_accuracy: the mean recall of the classes that have images.
        loss: mean cross-entropy.
        prior_entropy: that of knowing the class shares alone.
        used: how many classes the predictions really use, see `metrics.effective_classes`.
        finite: are all outputs finite?
        chance: the balanced accuracy of guessing; 1 / C where it is not given.
    """

    labels: Tensor
    predicted: Tensor
    counts: Tensor
    present: Tensor
    share: Tensor
    recall: Tensor
    accuracy: float
    balanced_accuracy: float
    loss: float
    prior_entropy: float
    used: float
    finite: bool
    chance: float | None = None

    @property
    def several(self) -> bool:
        """Are there images of more than one class?"""
        return int(self.present.sum()) > 1

    @property
    def learned(self) -> float:
        """How much of what could be learned was: 0 for guessing or the prior, 1 for perfect.

        The better of two views: balanced accuracy above chance, and the share of the labels'
        entropy that the predictions explain. Weighted losses spoil the second, rare classes the
        first.
        """
        if not self.several or not self.finite:
            return 0.0
        chance = 1 / int(self.present.sum()) if self.chance is None else self.chance
        above_chance = (self.balanced_accuracy - chance) / (1 - chance)
        if not self.prior_entropy:  # every label is always there, or never
            return above_chance
        return max(above_chance, 1 - self.loss / self.prior_entropy)


@dataclass(frozen=True)
class Layer:
    """The share of the units before a layer that give the same number for every image.

    Attributes:
        name: of the module.
        constant: the share.
        cut: can no activation have done that, since the units took both signs before it?
    """

    name: str
    constant: float
    cut: bool = False


@dataclass(frozen=True)
class Trial:
    """One short training.

    Attributes:
        factor: what the learning rate was multiplied by.
        start: 1 - loss / entropy of the labels, of the first batch; -inf where the loss was not
            finite.
        progress: the same at the end.
        steps: of the training.
        learned: of a mix of the images, 0 for guessing and 1 for all; NaN where nobody asked.
    """

    factor: float
    start: float
    progress: float
    steps: int
    learned: float = math.nan


@dataclass(frozen=True)
class Probes:
    """What the trial trainings found.

    Attributes:
        lr: the learning rate that the optimizer began with.
        lr_now: the learning rate that a schedule has made of it.
        fresh: trials from new random weights on a few images, by learning-rate factor.
        onward: where `lr_now` is less than a hundredth: a trial that goes on from the weights as
            they are, at `lr`.
        onward_now: the same at `lr_now`.
        without_decay: where `lr` learns nothing: a trial at `lr` without weight decay.
        clipped: where the steps were tiny: a trial whose gradients are cut to their length.
        rehearsed: trainings from new random weights on all images read, by learning-rate factor.
    """

    lr: float
    lr_now: float
    fresh: dict[float, Trial]
    onward: Trial | None = None
    onward_now: Trial | None = None
    without_decay: Trial | None = None
    clipped: Trial | None = None
    rehearsed: dict[float, Trial] = field(default_factory=dict)

    @property
    def own(self) -> Trial:
        """The trial from new weights at the optimizer's own learning rate."""
        return self.fresh[1.0]

    @property
    def best(self) -> Trial:
        """The trial from new weights that learned most."""
        return best_of(self.fresh)


def best_of(trials: dict[float, Trial]) -> Trial:
    """The trial that learned most."""
    return max(trials.values(), key=lambda trial: trial.progress)


@dataclass(frozen=True, eq=False)
class Record:
    """All that the checks look at. What could not be measured has its default.

    Attributes:
        model: a copy of the caller's.
        loss_fn: a copy of the caller's.
        optimizer: a copy of the caller's, or None.
        train: what was read of the training batches.
        eval: what was read of the evaluation batches, or None.
        device: where the model's copy lies.
        setup: how the model and the loss are called, and what is classified.
        binary: has the model one output for two classes?
        classes: C.
        kind: what the scores are in evaluation mode.
        train_kind: what they are in training mode.
        last_operation: what made the scores in training mode, such as "Softmax".
        batch_softmax: do the scores sum to 1 over the batch in place of the classes?
        at_bounds: share of the scores in training mode that are the lowest or the highest one.
        loss: what the loss does.
        loss_value: the caller's loss of one batch in training mode.
        train_loss: the plain cross-entropy of that batch.
        on_train: the predictions for the usable training rows.
        on_eval: the predictions for the usable evaluation rows.
        without_prior: the mean of the recalls of the judged sample, with the shares of the classes
            taken out of the scores.
        output_spread: the largest deviation of a class's log-probability over the images.
        bad_targets: what is wrong with the targets, by sample.
        usable: bool (N,), training rows with finite numbers and an existing label.
        eval_usable: the same of the evaluation rows.
        first_input: what the first layer with weights gets.
        normalizes: the normalization layer before it, or "".
        layers: the later layers, and how much of their input is the same for every image.
        linear: are several layers together as good as one?
        unlisted: numbers that the outputs depend on and that no list of parameters has.
        ran: names of the modules that a forward pass calls.
        gradients: norm by parameter name, None where there is none.
        alike: names of weights whose units are all the same and get the same gradients.
        left_gradient: norm of the gradients found on the caller's model.
        empty_steps: does the caller's optimizer remember gradients of exactly 0 alone?
        fresh_gradient: the largest norm of three batches.
        kept_gradient: norm of the gradients in the momentum of the caller's optimizer; None where
            there is none.
        penalty: what the loss itself does to the weights, as a weight decay.
        sharper: where no weight can make the outputs larger, the factor of them with the lowest
            loss.
        saved: what that factor would save of the loss of a guess.
        noise: how far the outputs of two passes in evaluation mode lie apart, in deviations over
            the images.
        mixing: how far they do with other images beside them and without.
        modes: accuracy on the same images in training and in evaluation mode.
        as_drawn: names of parameters whose size is still that of new random weights.
        shrunk: size of the weights, in units of new ones.
        dependence: of the training labels on the images, in standard deviations.
        eval_dependence: the same of the evaluation labels.
        probes: the trial trainings.
        no_probes: why there are none.
    """

    model: nn.Module
    loss_fn: Callable
    optimizer: torch.optim.Optimizer | None
    train: Sample
    eval: Sample | None
    device: torch.device
    setup: Setup
    binary: bool
    classes: int
    kind: Kind
    train_kind: Kind
    last_operation: str
    batch_softmax: bool
    at_bounds: float
    loss: LossFacts
    usable: Tensor
    eval_usable: Tensor | None = None
    bad_targets: dict[str, str] = field(default_factory=dict)
    on_train: Predictions | None = None
    on_eval: Predictions | None = None
    output_spread: float = math.nan
    without_prior: float = math.nan
    first_input: Tensor | None = None
    normalizes: str = ""
    layers: tuple[Layer, ...] = ()
    linear: bool = False
    unlisted: int = 0
    loss_value: float = math.nan
    train_loss: float = math.nan
    gradients: dict[str, float | None] = field(default_factory=dict)
    fresh_gradient: float = 0.0
    alike: frozenset[str] = frozenset()
    left_gradient: float | None = None
    empty_steps: bool = False
    kept_gradient: float | None = None
    penalty: float = 0.0
    sharper: float = 1.0
    saved: float = 0.0
    ran: frozenset[str] = frozenset()
    noise: float = 0.0
    mixing: float = 0.0
    modes: tuple[float, float] | None = None
    as_drawn: frozenset[str] = frozenset()
    shrunk: float | None = None
    dependence: float | None = None
    eval_dependence: float | None = None
    probes: Probes | None = None
    no_probes: str = ""

    def figures(self) -> dict:
        """The numbers that the report draws."""
        judged, train_counts = self.judged, self.train.class_counts
        if judged is None or train_counts is None:
            return {}
        return {
            "train_counts": train_counts.tolist(),
            "true_share": (judged.counts / judged.counts.sum()).tolist(),
            "predicted_share": judged.share.tolist(),
            "recall": [None if math.isnan(r) else r for r in judged.recall.tolist()],
            "layers": [layer.name for layer in self.layers],
            "constant_units": [layer.constant for layer in self.layers],
            "judged_on": "evaluation" if self.on_eval else "training",
        }

    @property
    def task(self) -> Task:
        """What is classified: images, pixels or tokens, into one class or under several labels."""
        return self.setup.task

    @property
    def ignored_share(self) -> float:
        """Share of the training labels that the loss ignores although they number a class.

        Of tokens 0: the padding is often a number of its own.
        """
        task, targets = self.setup.task, self.train.targets
        if targets.is_floating_point() or targets.ndim == 2:
            return 0.0
        inside = [c for c in task.ignored if 0 <= c < self.classes]
        return sum((targets == c).float().mean().item() for c in inside)

    @property
    def judged(self) -> Predictions | None:
        """The predictions to judge by: of the evaluation batches where there are some."""
        return self.on_eval or self.on_train

    @property
    def learned(self) -> float:
        """What was learned, on training or on evaluation images, whichever is less."""
        scores = [p.learned for p in (self.on_train, self.on_eval) if p and p.several]
        return min(scores, default=0.0)

    @property
    def failing(self) -> bool:
        """Has the model learned less than a fifth of what there is, or exploded?"""
        if self.on_train is None and self.setup.left_out:
            return False  # nobody looked
        return self.learned < LITTLE or self.exploded

    @property
    def exploded(self) -> bool:
        """Is the loss of the training images many times that of guessing?"""
        p = self.on_train
        # In training mode too: wrong BatchNorm averages spoil the first figure alone.
        losses = (p.loss, self.train_loss) if p is not None and p.finite else (0,)
        return min(losses) > 10 * math.log(self.classes)

    @property
    def step_gradient(self) -> float | None:
        """The norm of the gradients that the steps were taken with, as far as that can be seen."""
        found = [g for g in (self.kept_gradient, self.left_gradient) if g is not None]
        return min(found, default=None)

    @property
    def tiny_steps(self) -> bool:
        """Are they tiny beside those of a batch, in an optimizer whose steps are as long as they?

        The others divide by the size of the gradients.
        """
        if not isinstance(self.optimizer, torch.optim.SGD) or not self.step_gradient:
            return False
        return self.step_gradient < self.fresh_gradient / ADDED_UP

    @property
    def untrained(self) -> bool:
        """Has the optimizer, which keeps a record, taken no step, is no gradient left, and has no
        BatchNorm seen a batch?"""
        if self.optimizer is None or self.left_gradient is not None or has_stepped(self.optimizer):
            return False
        return keeps_state(self.optimizer) and not self.batches_seen

    @property
    def batches_seen(self) -> int:
        """Batches that went through a BatchNorm layer in training mode; 0 where there is none."""
        counts = [
            int(module.num_batches_tracked)
            for module in self.model.modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm)
            and module.num_batches_tracked is not None
        ]
        return max(counts, default=0)

    @property
    def eval_is_worse(self) -> bool:
        """Has it learned something, of which less than half holds in evaluation?"""
        if self.on_train is None or self.on_eval is None or not self.on_eval.several:
            return False
        train = self.on_train.learned
        return train > 0.2 and self.on_eval.learned < train / 2

    @property
    def misfit(self) -> bool:
        """Does the loss get something else than it wants?"""
        if self.loss.squashes:
            return True
        if self.loss.wants == "logits":
            squashed = self.last_operation in SQUASHING or self.batch_softmax
            return squashed or self.train_kind == "probabilities"
        return self.loss.wants == "log_probabilities" and self.train_kind != "log_probabilities"

    @property
    def renumbered(self) -> tuple[float, dict[int, int]]:
        """Accuracy in evaluation with its classes renumbered in the best way, and that numbering.

        The numbering is chosen on every other image and judged on those between: with few images
        of many classes one that fits them all is found by chance. 0 where there are too few.
        """
        p = self.on_eval
        if p is None or len(p.labels) < FEWEST_TO_RENUMBER * int(p.present.sum()):
            return 0.0, {}
        # Classes that occur, numbered without gaps: most of 10,000 do not.
        seen, places = torch.cat([p.labels, p.predicted]).unique(return_inverse=True)
        labels, predicted = places.view(2, -1)
        pairs = (labels * len(seen) + predicted)[::2]
        confusion = torch.bincount(pairs, minlength=len(seen) ** 2)
        columns = torch.from_numpy(best_assignment(confusion.view(len(seen), len(seen)).numpy()))
        hits = predicted[1::2] == columns[labels[1::2]]
        numbering = {int(seen[c]): int(seen[columns[c]]) for c in labels.unique()}
        return int(hits.sum()) / len(hits), numbering


def keeps_state(optimizer: torch.optim.Optimizer) -> bool:
    """Does it remember its steps? All do but SGD without momentum."""
    plain = type(optimizer) is torch.optim.SGD
    return not plain or any(group["momentum"] for group in optimizer.param_groups)


def has_stepped(optimizer: torch.optim.Optimizer) -> bool:
    """Is there a record of a step? Adagrad makes its records before the first one."""
    states = [s for s in optimizer.state.values() if isinstance(s, dict)]
    return bool(states) and any(s.get("step", 1) > 0 for s in states)


def steps_taken(optimizer: torch.optim.Optimizer | None) -> int | None:
    """The number of steps, where the optimizer counts them (Adam does, SGD does not)."""
    if optimizer is None:
        return None
    counted = [s["step"] for s in optimizer.state.values() if isinstance(s, dict) and "step" in s]
    return int(max(counted)) if counted else None


def kept_gradient(optimizer: torch.optim.Optimizer) -> float | None:
    """The norm of the gradients in its momentum, or None.

    That is a sum of the last ones, at least as long as one of them.
    """
    kept = [
        (state["momentum_buffer"], 1 - group.get("dampening", 0))
        for group in optimizer.param_groups
        for state in (optimizer.state.get(p) for p in group["params"])
        if isinstance(state, dict) and isinstance(state.get("momentum_buffer"), Tensor)
    ]
    if not kept:
        return None
    norms = [(buffer.float().norm().item() / max(share, 1e-3)) ** 2 for buffer, share in kept]
    return math.sqrt(sum(norms))


def all_steps_were_empty(optimizer: torch.optim.Optimizer) -> bool:
    """Does it hold means of earlier gradients, all of which are exactly 0?"""
    means = [
        value
        for state in optimizer.state.values()
        if isinstance(state, dict)
        for value in state.values()
        if isinstance(value, Tensor) and value.ndim and value.is_floating_point()
    ]
    return bool(means) and not any(bool(value.any()) for value in means)
