"""What a model's outputs are, and what a loss takes them for.

Both are found by looking at numbers, not at names, so that any module and any function will do.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from imbalkit.checks import is_binary
from imbalkit.monitor import ROUNDING

# Operations that only rearrange numbers; the activation, if any, stands behind them.
RESHAPING = ("View", "Squeeze", "Unsqueeze", "Reshape", "ToCopy", "Slice", "Select", "Alias")
SQUASHING = ("Softmax", "Sigmoid")
MOST_ROWS = 256  # made-up scores given to a loss at once: of 10,000 classes each is 40 kB
MOST_WEIGHED = (
    10_000  # classes whose weights are looked for, which takes the square of their number
)
BOUNDING = ("Relu", "Tanh", "Hardtanh", "Clamp", "ClampMin")


def check_outputs(logits: Tensor, images: int) -> None:
    """Is there a row of scores, or one score, for each image?

    Raises:
        ValueError: there is not.
    """
    if logits.ndim in (1, 2) and len(logits) == images and logits.is_floating_point():
        return
    raise ValueError(
        f"the model returns {logits.dtype} of shape {tuple(logits.shape)} for {images} inputs; a "
        "classifier returns float scores of shape (N, C), or (N,) or (N, 1) for two classes."
    )


def last_operation(logits: Tensor) -> str:
    """The operation that made the logits, such as "Softmax", read off autograd's graph."""
    node = logits.grad_fn
    while node is not None:
        name = node.name().partition("Backward")[0]  # "SoftmaxBackward0"
        if not name.startswith(RESHAPING) or not node.next_functions:
            return name
        node = node.next_functions[0][0]
    return ""


def sums_to_one(logits: Tensor, dim: int) -> bool:
    """Are these probabilities along `dim`? False for fewer than two of them."""
    if logits.ndim != 2 or logits.shape[dim] < 2 or not logits.isfinite().all():
        return False
    return bool((logits >= 0).all() and ((logits.sum(dim) - 1).abs() < ROUNDING).all())


def are_log_probabilities(logits: Tensor) -> bool:
    """Do the exponentials of each row sum to 1?"""
    if logits.ndim != 2 or logits.shape[1] < 2 or not logits.isfinite().all():
        return False
    return bool((logits <= ROUNDING).all() and (logits.logsumexp(1).abs() < ROUNDING).all())


def log_probabilities(logits: Tensor, kind: str) -> Tensor:
    """Log-probabilities (N, C), whatever the scores are; two columns for a single score.

    Args:
        logits: float (N, C), or (N,) or (N, 1) for two classes.
        kind: "logits", "probabilities" or "log_probabilities", as `measuring.kind_of` finds it.

    Example:
        >>> log_probabilities(torch.tensor([0.25]), "probabilities").exp().tolist()
        [[0.75, 0.25]]
    """
    if is_binary(logits):
        score = logits.flatten()
        if kind == "probabilities":
            score = torch.logit(score.clamp(1e-7, 1 - 1e-7))
        return torch.stack([F.logsigmoid(-score), F.logsigmoid(score)], 1)
    if kind == "probabilities":
        return logits.clamp_min(1e-7).log()
    return logits.log_softmax(1)  # which leaves log-probabilities as they are


def double_softmax_floor(classes: int) -> float:
    """The least loss that softmax twice can reach: -log(e / (e + C - 1)).

    Example:
        >>> round(double_softmax_floor(10), 2)
        1.46
    """
    return math.log(1 + (classes - 1) / math.e)


@dataclass(frozen=True, eq=False)
class LossFacts:
    """What a loss does, found by giving it made-up scores.

    Attributes:
        wants: "logits" (adding a constant to a row changes nothing, or large scores of either sign
            are best), "log_probabilities" (it changes by that constant), "probabilities" (it is
            least at 0 and 1), or "other".
        squashes: does it apply its own softmax or sigmoid twice, so that perfect scores cost as
            much however large they are?
        floor: the loss of perfect, very large logits, in units of the loss of equal logits.
        weights: float (C,), how strongly each class pulls, 1 on average; None if it could not be
            found.
        breaks: is it infinite or NaN for very confident scores, right or wrong?
        sums: does it add up the images of a batch in place of averaging them?
        cancels: does a batch of one image pull as strongly whatever the weight of its class?
        exclusive: do the scores of a row compete, as in a softmax?
        yes: how many times as strongly a label that is set pulls as one that is not; where the
            scores do not compete.
        problem: the error that the loss raised, else "".
    """

    wants: str = "other"
    squashes: bool = False
    floor: float = 0.0
    weights: Tensor | None = None
    breaks: bool = False
    sums: bool = False
    cancels: bool = False
    exclusive: bool = False
    yes: float = 1.0
    problem: str = ""


def examine_loss(loss_fn: Callable, logits: Tensor, targets: Tensor) -> LossFacts:
    """Give a loss made-up scores of the shape of `logits`, with targets like `targets`.

    Losses of more than the logits (a multitask loss) raise here, and are then left alone.
    """
    try:
        return (
            _binary_loss(loss_fn, logits, targets)
            if is_binary(logits)
            else _loss(loss_fn, logits, targets)
        )
    except Exception as error:  # any user's code: whatever it raises is an answer
        return LossFacts(problem=error_text(error))


def error_text(error: Exception) -> str:
    """Its type and the first line of its message, of 200 characters at most."""
    return f"{type(error).__name__}: {first_line(error)[:200]}"


def first_line(error: Exception) -> str:
    """The first line of its message; a bare ``assert`` has none."""
    return next(iter(str(error).splitlines()), "no message")


def _loss(loss_fn: Callable, logits: Tensor, targets: Tensor) -> LossFacts:
    classes = logits.shape[1]
    rows = min(classes, MOST_ROWS)
    some = torch.linspace(0, classes - 1, rows, dtype=torch.float64).round().long()
    right = F.one_hot(some, classes).to(logits)
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(rows, classes, generator=generator).to(logits)

    def loss_of(labels: Tensor) -> Callable:
        labels = labels.to(logits.device)
        soft = targets.ndim == 2 and targets.shape[1] > 1
        y = F.one_hot(labels, classes).to(targets.dtype) if soft else labels
        return lambda x, repeat=1: loss_fn(x.repeat(repeat, 1), torch.cat([y] * repeat)).mean()

    loss = loss_of(some)
    if _is_least_at_0_and_1(loss, right, 1 / classes):
        return _facts(loss, "probabilities", scores.softmax(1), right, 1 / classes)
    plain, shifted = loss(scores).item(), loss(scores + 3).item()
    tolerance = 1e-3 * (1 + abs(plain))
    exclusive = abs(shifted - plain) < tolerance
    wants = "logits" if exclusive else "other"
    moved = (plain - shifted) / 3  # the total weight, if the loss is linear in the scores
    if wants == "other" and abs(loss(scores + 6).item() - shifted + 3 * moved) < tolerance:
        wants = "log_probabilities" if moved > 0 else "other"
    # A loss of each output by itself, as BCEWithLogitsLoss: wants large scores of either sign.
    if wants == "other" and 0 <= loss(60 * (2 * right - 1)).item() < 1e-3:
        wants, right = "logits", 2 * right - 1
    facts = _facts(loss, wants, scores, right)
    if rows < classes:
        facts = replace(facts, weights=_pull_of_many(loss_of, logits))
    cancels = _cancels(loss_of, facts.weights, scores)
    yes = 1.0 if exclusive else _pull_of_yes(loss_fn, scores, targets)
    return replace(facts, cancels=cancels, exclusive=exclusive, yes=yes)


def _binary_loss(loss_fn: Callable, logits: Tensor, targets: Tensor) -> LossFacts:
    y = torch.tensor([0, 1], device=logits.device)
    shape = (2, 1) if targets.ndim == 2 else (2,)
    score_shape = (2, 1) if logits.ndim == 2 else (2,)
    sign = torch.tensor([-1.0, 1.0]).to(logits).view(score_shape)

    def loss(x: Tensor, repeat: int = 1) -> Tensor:
        tail = shape[1:]
        target = y.to(targets.dtype).view(shape).repeat(repeat, *[1] * len(tail))
        return loss_fn(x.repeat(repeat, *[1] * (x.ndim - 1)), target).mean()

    right = (sign + 1) / 2
    if _is_least_at_0_and_1(loss, right, 0.5):
        return _facts(loss, "probabilities", 0.5 + 0.1 * sign, right, 0.5)
    return _facts(loss, "logits", sign * 0.3, sign)


def _is_least_at_0_and_1(loss: Callable, right: Tensor, guess: float) -> bool:
    """Do perfect probabilities cost nothing, and larger scores not less?

    As in BCELoss, MSELoss, or an overlap (Dice). A loss of logits is far from 0 at scores of 1.
    """
    perfect = loss(right).item()
    of_a_guess = loss(torch.full_like(right, guess)).item()
    return abs(perfect) < 1e-3 * of_a_guess and not _is_margin(loss, right)


def _is_margin(loss: Callable, right: Tensor) -> bool:
    """Do the differences of the scores count alone, if they are large, as in a hinge loss?"""
    try:
        return all(abs(loss(x).item()) < 1e-3 for x in (right + 3, 10 * right))
    except Exception:  # BCELoss refuses what is no probability
        return False


def _facts(
    loss: Callable, wants: str, scores: Tensor, right: Tensor, guess: float = 0.0
) -> LossFacts:
    """What remains to be found.

    Args:
        loss: of scores, and as often as a second argument says.
        wants: what it wants, as in `LossFacts`.
        scores: some.
        right: best where it is large.
        guess: the score of each class of a guess.
    """
    sums, equal = _adds_up(loss, scores), torch.full_like(right, guess)
    floor, squashes, breaks = 0.0, False, False
    if wants == "logits":
        floor, squashes = _floor(loss, right, equal)
        breaks = _breaks(loss, right)
    pull = _pull(loss, equal)
    return LossFacts(wants, squashes, floor, pull, breaks, sums)


def _floor(loss: Callable, right: Tensor, equal: Tensor) -> tuple[float, bool]:
    """The loss of perfect scores relative to that of equal ones, and whether it is stuck there.

    Cross-entropy goes to 0; label smoothing goes up again; only a second softmax stays the same,
    and for wrong scores too, where a loss with a constant penalty goes on rising.
    """
    start, large, larger = (loss(x).item() for x in (equal, 50 * right, 100 * right))
    wrong, more_wrong = (loss(x).item() for x in (-50 * right, -100 * right))
    floor = large / max(abs(start), 1e-9)
    bounded = abs(larger - large) < 1e-4 * abs(large) and more_wrong - wrong < 1e-4 * abs(wrong)
    return floor, floor > 0.05 and bounded


def _breaks(loss: Callable, right: Tensor) -> bool:
    """Is the loss of scores of size 200 infinite or NaN? Training gets there in the end."""
    return not all(math.isfinite(loss(200 * sign * right).item()) for sign in (1, -1))


def _pull(loss: Callable, equal: Tensor) -> Tensor | None:
    """The size of each class's gradient at equal scores, 1 on average: its weight."""
    gradient = _pull_of(loss, equal)
    if gradient is None:
        return None
    size = gradient.reshape(len(equal), -1).norm(dim=1).cpu()
    if not size.isfinite().all() or size.sum() == 0:
        return None
    return size / size.mean()


def _pull_of(loss: Callable, scores: Tensor) -> Tensor | None:
    """The gradient at these scores, None where there is none."""
    with torch.enable_grad():
        scores = scores.clone().requires_grad_()
        value = loss(scores)
        if not value.requires_grad:
            return None
        (gradient,) = torch.autograd.grad(value, scores)
    return gradient


def _pull_of_many(loss_of: Callable, logits: Tensor) -> Tensor | None:
    """`_pull` some classes at a time, each time with class 0: a loss may divide by all weights."""
    classes, pulls = logits.shape[1], []
    if classes > MOST_WEIGHED:
        return None
    for some in torch.arange(classes).split(MOST_ROWS):
        labels = torch.cat([torch.zeros_like(some[:1]), some])
        pull = _pull(loss_of(labels), logits.new_zeros(len(labels), classes))
        if pull is None or pull[0] == 0:
            return None
        pulls.append(pull[1:] / pull[0])
    size = torch.cat(pulls)
    return size / size.mean()


def _cancels(loss_of: Callable, weights: Tensor | None, like: Tensor) -> bool:
    """Does an image alone pull as strongly in the heaviest class as in the lightest?"""
    if weights is None:
        return False
    pulls = []
    for label in (weights.argmax(), weights.argmin()):
        scores = torch.zeros_like(like[:1], requires_grad=True)
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(loss_of(label[None])(scores), scores)
        pulls.append(gradient.norm().item())
    return max(pulls) < 1.01 * min(pulls)


def _pull_of_yes(loss_fn: Callable, like: Tensor, targets: Tensor) -> float:
    """The gradient of a row whose every label is set, by that of one without labels."""
    if targets.ndim != 2 or targets.shape[1] != like.shape[1]:
        return 1.0
    sizes = []
    for value in (1, 0):
        y = torch.full_like(like[:1], value).to(targets.dtype)
        pull = _pull_of(lambda x, y=y: loss_fn(x, y).mean(), like[:1] * 0)
        sizes.append(pull.norm().item() if pull is not None else math.nan)
    yes = sizes[0] / max(sizes[1], 1e-12)
    return yes if math.isfinite(yes) else 1.0


def _adds_up(loss: Callable, scores: Tensor) -> bool:
    """Does the same batch twice cost twice as much?"""
    return abs(loss(scores, 2).item() / max(loss(scores).item(), 1e-9) - 2) < 1e-3
