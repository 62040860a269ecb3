"""The class shares that a model expects, exchanged after training. Derived in lesson 09.

A model learns in which shares the classes come in its training: its prior. Where they come in
other shares, one number per class, added to the logits, sets that right. Nothing is trained.

A prior here is one number per class (C,), in proportion to how often the class comes: image counts
will do as well as shares. After balanced batches, balanced weights or `losses.LogitAdjustedLoss`
the training prior is equal for all classes: ones.
"""

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from imbalkit.checks import (
    as_rows,
    describe_array,
    described,
    in_order_of_classes,
    is_number,
    to_numpy,
)

LARGEST = 1e30  # a shift of the logits; float32 ends at 3e38
MOST_STEPS, CHANGE = 10_000, 1e-7  # of `estimate_prior`


def adjust_logits(
    logits: Tensor,
    train_prior: ArrayLike,
    test_prior: ArrayLike | None = None,
    tau: float = 1.0,
) -> Tensor:
    """Logits as of a model that expects the classes in the shares of `test_prior`.

    They are logits + tau (log test_prior - log train_prior): post-hoc logit adjustment.

    Menon et al. 2021, "Long-tail learning via logit adjustment", equation 9; with a test prior
    Saerens et al. 2002, "Adjusting the outputs of a classifier to new a priori probabilities".
    Derived in lesson 09.

    Args:
        logits: floats (N, C), before softmax; half precision is computed in float32.
        train_prior: in which shares the classes came in the training, all above 0, (C,).
        test_prior: in which shares they will come, (C,); a class of 0 is never predicted. Without
            it all classes alike.
        tau: how much of the prior to exchange; 0 is nothing, 1 what theory says. Logits that are
            too large, as those of an overconfident model, want more than 1.

    Returns:
        floats (N, C), on the device of the logits.

    Raises:
        ValueError: a prior that is none or does not fit the logits, or a tau below 0 or so large
            that logits overflow.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0]])
        >>> adjust_logits(logits, train_prior=[100, 1]).argmax(1).tolist()
        [1]
        >>> adjust_logits(logits, [100, 1], test_prior=[100, 1]).tolist()
        [[2.0, 0.0]]
    """
    if not is_number(tau) or not 0 <= tau < np.inf:
        raise ValueError(f"tau is {described(tau)}; it must be finite and 0 or more.")
    logits = as_rows(logits, "logits")
    train = checked_prior(train_prior, logits, "train_prior")
    check_all_trained(train)
    test = np.ones(len(train)) if test_prior is None else checked_prior(test_prior, logits)
    with np.errstate(divide="ignore", over="ignore"):  # the logarithm of a test prior of 0 is meant
        shift = tau * np.log(test / train) if tau else np.zeros(len(test))
    if np.abs(shift[test > 0]).max() > LARGEST:
        raise ValueError(f"tau is {tau}, which moves logits to infinity; 1 is what theory says.")
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits + torch.from_numpy(shift).to(logits.device, logits.dtype)


def estimate_prior(logits: Tensor, train_prior: ArrayLike) -> Tensor:
    """The shares in which the classes come among images without labels.

    Expectation-maximisation: adjust the model's probabilities to the present guess of the shares,
    take their mean as the next guess, until it stays. It trusts the probabilities, so a model that
    is too sure of itself, or of other images than these, misleads it.

    Saerens et al. 2002. Derived in lesson 09.

    Args:
        logits: floats (N, C) of the images in use; the more images, the better the estimate.
        train_prior: as in `adjust_logits`.

    Returns:
        float32 (C,) that sums to 1, on the CPU.

    Raises:
        ValueError: logits that are not finite, and as `adjust_logits`.

    Example:
        >>> sure = torch.tensor([[9.0, 0.0], [0.0, 9.0], [0.0, 9.0], [0.0, 9.0]])
        >>> [round(share, 2) for share in estimate_prior(sure, train_prior=[1, 1]).tolist()]
        [0.25, 0.75]
    """
    logits = as_rows(logits, "logits")
    train = checked_prior(train_prior, logits, "train_prior")
    check_all_trained(train)
    if len(logits) == 0 or not logits.isfinite().all():
        raise ValueError(
            "logits are empty, NaN or infinite, and say nothing about the classes' shares; give "
            "finite logits of at least one image."
        )
    prior = torch.from_numpy(train)
    # p(c | x) / prior_c: how likely the image is in each class, up to a number of the image.
    likelihood = (logits.detach().cpu().double() - prior.log()).softmax(1)
    for _ in range(MOST_STEPS):
        joint = likelihood * prior
        last, prior = prior, (joint / joint.sum(1, keepdim=True)).mean(0)
        if (prior - last).abs().max() < CHANGE:
            break
    return prior.float()


def checked_prior(prior: ArrayLike, logits: Tensor, name: str = "test_prior") -> np.ndarray:
    """A prior as shares, float64 (C,), or what is wrong with it."""
    values = to_numpy(in_order_of_classes(prior, name))
    if values.dtype.kind not in "iuf" or values.shape != logits.shape[1:]:
        raise ValueError(
            f"{name} is {describe_array(values)}, but the logits have shape "
            f"{tuple(logits.shape)}; give one number per class."
        )
    values = values.astype(np.float64)
    with np.errstate(over="ignore"):
        fits = (values >= 0).all() and 0 < values.sum() < np.inf
        rounded = values.round(4).tolist()
    if not fits:
        raise ValueError(
            f"{name} is {rounded}; counts or shares must be finite, 0 or more, and not all 0."
        )
    return values / values.sum()


def check_all_trained(train_prior: np.ndarray) -> None:
    """Raise ValueError for a class that the training never showed."""
    if train_prior.min() == 0:
        raise ValueError(
            f"class {train_prior.argmin()} has the share 0 in train_prior, so the model knows "
            "nothing of it; drop the class, and its column of the logits."
        )


__all__ = ["adjust_logits", "estimate_prior"]
