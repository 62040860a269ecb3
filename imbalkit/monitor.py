"""A collapse monitor for one's own training loop. Lesson 01 uses it.

::

    monitor = CollapseMonitor()
    for images, targets in batches:
        ...
        loss.backward()
        monitor(logits, targets, loss)
"""

import math
import warnings

import torch
import torch.nn.functional as F
from torch import Tensor

from imbalkit.checks import class_labels, entropy_of_counts, is_binary

# Sums of float32 or bfloat16 probabilities differ from 1 by rounding: 2^-8 is bfloat16's step.
ROUNDING = 2**-7
LOOK_EVERY = 5  # steps; ten batches in fifty show enough, at a fifth of the cost
JUDGE_EVERY = 50  # steps; each time waits for the device once
MOST_CLASSES = 100  # a tenth of more classes is many of them: a training begins with as few
IN_A_ROW = 3  # so often the same verdict, before it counts: training begins at these floors
NEAR = 0.02  # relative distance to a floor; the mean over 1,280 images varies by about as much
ABOVE = 1.3  # times the loss of guessing; strong class weights alone lift the plain one a little
# Cohen's kappa, 0 for a guess and 1 for no error. A training with class weights passes the floors
# on its way: it lowers another loss. Its answers say that it learns.
GUESSES = 0.1


class CollapseWarning(UserWarning):
    """A training has collapsed, or is about to.

    Example:
        >>> import warnings
        >>> with warnings.catch_warnings(record=True) as seen:
        ...     warnings.simplefilter("always", CollapseWarning)
        ...     monitor = CollapseMonitor()
        ...     for step in range(50):  # softmax before the loss
        ...         monitor(torch.full((8, 4), 0.25), torch.arange(8) % 4, torch.tensor(1.4))
        >>> seen[0].category.__name__
        'CollapseWarning'
    """


class CollapseMonitor:
    """Warns once, in one sentence, when a training collapses.

    That is when the loss is not finite, when the outputs are probabilities (softmax before the
    loss), or when for 150 steps nearly all predictions are one class, or the answers are about as
    good as a guess and the cross-entropy is far above that of guessing, or stays at what is known
    without looking at an image: ln C, or the entropy of the class shares.

    Counts stay on the device; it is waited for once every 50 steps.

    Attributes:
        warning: the sentence, "" so far.
        steps: how many batches it was given.

    Example:
        >>> monitor = CollapseMonitor()
        >>> targets = torch.arange(64) % 4
        >>> for step in range(150):  # a model that always says class 2
        ...     logits = 9.0 * F.one_hot(torch.full((64,), 2), 4)
        ...     sentence = monitor.update(logits, targets, F.cross_entropy(logits, targets))
        >>> sentence
        'step 150: 100% of the predictions are class 2; imbalkit.diagnose finds the cause.'
    """

    def __init__(self) -> None:
        self.warning = ""
        self.steps = 0
        self._verdicts: list[str] = []
        self._forget()

    def resume(self, steps: int, warning: str = "") -> None:
        """Go on where a training was cut off: count from there, and do not warn a second time.

        Store `steps` and `warning` in the checkpoint, beside the model.

        Args:
            steps: the batches before this one.
            warning: the sentence that the monitor had, or "".

        Raises:
            ValueError: `steps` is negative.

        Example:
            >>> monitor = CollapseMonitor()
            >>> monitor.resume(1_000)
            >>> monitor.steps
            1000
        """
        if steps < 0:
            raise ValueError(f"steps is {steps}; give the number of batches that were trained on.")
        self.steps, self.warning = steps, warning
        self._verdicts = []
        self._forget()

    def __call__(self, logits: Tensor, targets: Tensor, loss: Tensor) -> None:
        """Note one batch, and issue a CollapseWarning, once.

        Args:
            logits: (N, C), or (N, 1) or (N,) for two classes; (N, C, H, W) for pixels,
                (N, T, C) for tokens.
            targets: as the loss takes them: int64 (N,), probabilities (N, C), or 0 and 1 as float;
                one for each pixel or token. Batches with several labels an image are not counted.
            loss: the batch's loss, a number, or one of each input.
        """
        sentence = self.update(logits, targets, loss)
        if sentence:
            warnings.warn(sentence, CollapseWarning, stacklevel=2)

    def update(self, logits: Tensor, targets: Tensor, loss: Tensor) -> str:
        """As a call, but without a warning.

        Returns:
            The sentence, once; "" at all other times.
        """
        self.steps += 1
        if self.warning:
            return ""
        if self.steps % LOOK_EVERY == 0:
            logits, targets, loss = (torch.as_tensor(x).detach() for x in (logits, targets, loss))
            self._look(*_by_position(logits, targets), loss)
        if self.steps % JUDGE_EVERY == 0:
            self.warning = self._judge(_by_position(logits.detach(), targets)[0])
        return self.warning

    def _forget(self) -> None:
        """Start the sums anew; the next look learns the number of classes."""
        self._looks = 0

    def _look(self, logits: Tensor, targets: Tensor, loss: Tensor) -> None:
        binary = is_binary(logits)
        logits = logits.float()
        if binary:
            logits = F.pad(_as_logits(logits.reshape(-1, 1)), (1, 0))  # the other class's is 0
        labels = class_labels(targets, binary)
        classes = logits.shape[1]
        counted = ((labels >= 0) & (labels < classes)).float()  # the loss ignores -100, or 255
        if targets.ndim == 2 and targets.shape[1] > 1:  # several labels at once are no class
            counted *= ((targets.float().sum(1) - 1).abs() < ROUNDING).all()
        labels = labels.clamp(0, classes - 1)
        if not self._looks:
            self._sums = torch.zeros(6, device=logits.device)
            self._predicted = torch.zeros(classes, device=logits.device)
            self._true = torch.zeros(classes, device=logits.device)
        self._looks += 1
        losses = F.cross_entropy(logits, labels, reduction="none").masked_fill(counted == 0, 0)
        predicted = logits.argmax(1)
        hits = ((predicted == labels) * counted).sum()
        in_batch = [
            torch.zeros_like(self._true).index_add_(0, which, counted)
            for which in (predicted, labels)
        ]
        used, present = map(_classes_in_use, in_batch)
        self._sums += torch.stack(
            [losses.sum(), counted.sum(), hits, loss.float().mean(), used, present]
        )
        self._predicted += in_batch[0]
        self._true += in_batch[1]

    def _judge(self, logits: Tensor) -> str:
        probabilities = _are_probabilities(logits)
        # One transfer, so that the device is waited for once.
        numbers = torch.cat([self._sums, probabilities, self._predicted, self._true]).tolist()
        (total, images, hits, loss, used, present), (probabilities, *counts) = (
            numbers[:6],
            numbers[6:],
        )
        predicted, true = counts[: len(counts) // 2], counts[len(counts) // 2 :]
        in_batch = used / self._looks, present / self._looks
        self._forget()
        if not images and math.isfinite(loss):
            return ""
        cross_entropy = total / max(images, 1)
        kind, sentence = verdict(
            cross_entropy, loss, predicted, true, hits, bool(probabilities), in_batch
        )
        self._verdicts = [*self._verdicts, kind][-IN_A_ROW:]
        at_once = kind in ("non_finite", "double_softmax")
        if kind and (at_once or self._verdicts == [kind] * IN_A_ROW):
            return f"step {self.steps}: {sentence}; imbalkit.diagnose finds the cause."
        return ""


def _classes_in_use(counts: Tensor) -> Tensor:
    """How many classes the counts (C,) really use, as a scalar on their device: exp(entropy)."""
    shares = counts / counts.sum().clamp_min(1)
    return torch.special.entr(shares).sum().exp()


def _by_position(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels and tokens as rows (M, C), with a target each; all else as it is."""
    if logits.ndim < 3:
        return logits, targets
    tokens = logits.shape[:-1] == targets.shape
    if not tokens or (logits.ndim > 3 and logits.shape[2:] == targets.shape[1:]):
        logits = logits.movedim(1, -1)
    return logits.reshape(-1, logits.shape[-1]), targets.reshape(-1)


def _as_logits(scores: Tensor) -> Tensor:
    """Single scores that all lie between 0 and 1 are probabilities, of a model for BCELoss."""
    probabilities = ((scores >= 0) & (scores <= 1)).all()  # stays on the device
    return torch.where(probabilities, torch.logit(scores, eps=1e-6), scores)


def verdict(
    cross_entropy: float,
    loss: float,
    predicted: list,
    true: list,
    hits: float,
    probabilities: bool,
    in_batch: tuple[float, float],
) -> tuple[str, str]:
    """What a window of training looks like.

    Args:
        cross_entropy: unweighted, mean of the window.
        loss: the sum of the losses that were trained on, to see whether they are finite.
        predicted, true: how many predictions and labels are of each class.
        hits: how many predictions are right.
        probabilities: are the outputs probabilities?
        in_batch: how many classes a batch uses on average, of the predictions and of the labels.

    Returns:
        A name and a sentence, or two empty strings.
    """
    if not math.isfinite(loss) or not math.isfinite(cross_entropy):
        return "non_finite", "the loss is not finite: stop, and lower the learning rate"
    if probabilities:
        return "double_softmax", (
            "each row of the outputs sums to 1: give the loss logits, without softmax, unless it "
            "takes probabilities"
        )
    entropy = entropy_of_counts(true)
    # How many classes are in use: 1 where there is one, C where all are as frequent.
    used, present = math.exp(entropy_of_counts(predicted)), math.exp(entropy)
    if present > 1 and used <= 1 + 0.1 * (min(present, MOST_CLASSES) - 1):
        top = max(predicted) / sum(predicted)
        which = predicted.index(max(predicted))
        return "collapse", f"{top:.0%} of the predictions are class {which}"
    if in_batch[1] > 2 and in_batch[0] <= 1 + 0.1 * (in_batch[1] - 1):
        return "in turn", "nearly all of a batch is predicted as one class, another one each time"
    if kappa(hits, predicted, true) > GUESSES:
        return "", ""
    guessing = math.log(len(true))
    if cross_entropy > ABOVE * guessing:
        return "above", (
            f"the loss is {cross_entropy:.3g}, and guessing has {guessing:.3g}: most often the "
            "learning rate is too high"
        )
    for name, floor in (("ln C", guessing), ("the entropy of the classes", entropy)):
        if floor > 0 and abs(cross_entropy - floor) < NEAR * floor:
            return "floor", f"the loss stays at {name}, {floor:.3f}: no image is told from another"
    return "", ""


def kappa(hits: float, predicted: list, true: list) -> float:
    """Cohen's kappa: how far the hits lie above those of guesses in the same shares.

    Example:
        >>> kappa(8, [5, 5], [5, 5])
        0.6
    """
    images = sum(true)
    by_chance = sum(p * t for p, t in zip(predicted, true, strict=True)) / images
    return (hits - by_chance) / (images - by_chance) if by_chance < images else 0.0


def _are_probabilities(logits: Tensor) -> Tensor:
    """Are these probabilities along the classes? 1.0 or 0.0 in a tensor (1,), on the device."""
    if is_binary(logits):
        return torch.zeros(1, device=logits.device)
    logits = logits.float()
    sums_to_one = (logits.sum(1, keepdim=True) - 1).abs() < ROUNDING
    return ((logits >= 0) & sums_to_one).all().float()[None]


__all__ = ["CollapseMonitor", "CollapseWarning"]
