"""Several models that answer together. Derived in lesson 11."""

import math
from collections.abc import Iterable, Sequence
from itertools import combinations

import torch
from torch import Tensor, nn

from imbalkit.checks import check_tensor


class Ensemble(nn.Module):
    """Answers with the mean of its members' probabilities.

    The output is the logarithm of that mean, floats (N, C): logits like those of any model, so
    that `training.predict`, `metrics.report` and `inference.save` take an ensemble as they take
    one network. Their softmax gives the mean back. It is for use and not for training: each member
    is trained by itself.

    Lakshminarayanan et al. 2017, "Simple and scalable predictive uncertainty estimation using deep
    ensembles". Derived in lesson 11.

    Args:
        members: trained models that give logits (N, C), all for the same classes in the same order
            and for images normalised alike. They are held, not copied. A member that expects
            another prior than the rest has to be adjusted first (`priors`, lesson 09).

    Raises:
        ValueError: no member, or, once called, members whose logits differ in shape.

    Example:
        >>> both = Ensemble([nn.Linear(4, 3), nn.Linear(4, 3)])
        >>> images = torch.rand(5, 4)
        >>> mean = (both.members[0](images).softmax(1) + both.members[1](images).softmax(1)) / 2
        >>> torch.allclose(both(images).softmax(1), mean)
        True
    """

    def __init__(self, members: Iterable[nn.Module]):
        super().__init__()
        self.members = nn.ModuleList(members)
        if not self.members:
            raise ValueError("an ensemble needs members; give at least one trained model.")

    def forward(self, images: Tensor) -> Tensor:
        logits = [member(images).float() for member in self.members]
        check_same_shape(logits)
        # The logarithm of a sum of exponentials: finite also where every probability rounds to 0.
        total = torch.stack([member.log_softmax(1) for member in logits]).logsumexp(0)
        return total - math.log(len(logits))


def disagreement(logits: Sequence[Tensor]) -> float:
    """The share of images to which two members give different classes, the mean over all pairs.

    Derived in lesson 11.

    Args:
        logits: two or more tensors (N, C), one a member, for the same images.

    Returns:
        from 0 to 1.

    Raises:
        ValueError: fewer than two tensors, or different shapes.

    Example:
        >>> one = torch.tensor([[2.0, 1.0], [0.0, 1.0]])
        >>> other = torch.tensor([[2.0, 1.0], [3.0, 1.0]])
        >>> disagreement([one, other])
        0.5
    """
    if len(logits) < 2:
        raise ValueError(
            f"disagreement got the logits of {len(logits)} member; give those of two or more."
        )
    check_same_shape(logits)
    for member in logits:
        check_tensor(member, "logits", "(N, C)", floats=True)
    if not logits[0].numel():
        raise ValueError(f"the members' logits have the shape {tuple(logits[0].shape)}; give some.")
    predicted = [member.argmax(1) for member in logits]
    pairs = [(a != b).double().mean() for a, b in combinations(predicted, 2)]
    return float(torch.stack(pairs).mean())


def check_same_shape(logits: Sequence[Tensor]) -> None:
    """Raise ValueError unless all members give logits of one shape."""
    shapes = {tuple(member.shape) for member in logits}
    if len(shapes) > 1:
        raise ValueError(
            f"the members' logits have the shapes {sorted(shapes)}; all must know the same classes "
            "and see the same images."
        )


__all__ = ["Ensemble", "disagreement"]
