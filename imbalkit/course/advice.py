"""Which remedy to try first, from the class counts alone: rules of thumb, with their reasons.

Derived in lesson 12, from what lessons 03 to 10 measured.
"""

from dataclasses import dataclass

from numpy.typing import ArrayLike
from torch import Tensor

from imbalkit.checks import check_no_empty_class
from imbalkit.metrics import FEW, MANY, groups, imbalance_ratio

NEARLY_EQUAL = 3  # below this ratio of the largest to the smallest class there is little to mend


@dataclass(frozen=True)
class Advice:
    """What to try first, and what no remedy will mend. Derived in lesson 12.

    Attributes:
        remedy: "none" or "late sampling".
        reason: why.
        cautions: what no remedy will mend, a sentence each.

    Example:
        >>> print(Advice("none", "the classes are alike", ("collect more images",)))
        none: the classes are alike
        - collect more images
    """

    remedy: str
    reason: str
    cautions: tuple[str, ...]

    def __str__(self) -> str:
        return "\n- ".join([f"{self.remedy}: {self.reason}", *self.cautions])


def first_remedy(counts: ArrayLike | Tensor) -> Advice:
    """What to try first for these class counts. Compare it with no remedy on validation images.

    Derived in lesson 12.

    Args:
        counts: training images of each class, integers (C,), none of them 0.

    Raises:
        ValueError: the counts are no counts, or a class has no image.

    Example:
        >>> first_remedy([5000, 500, 50]).remedy
        'late sampling'
    """
    counts = check_no_empty_class(counts, "remedy")
    ratio, few = imbalance_ratio(counts), len(groups(counts)["few"])
    if ratio < NEARLY_EQUAL:
        remedy, reason = "none", (
            f"the largest class has {ratio:.1f} times the images of the smallest. A remedy trades "
            "hits on frequent classes for hits on rare ones, and here is little to trade"
        )  # fmt: skip
    else:
        remedy, reason = "late sampling", (
            f"the largest class has {ratio:.0f} times the images of the smallest. Features learned "
            "from all images and balanced batches at the end were among the best in lesson 06"
        )  # fmt: skip
    cautions = []
    if few:
        cautions.append(
            f"{few} of {len(counts)} classes have fewer than {FEW} training images: a remedy "
            "repeats them and adds none. Collect more, merge classes, or augment all classes "
            "(lesson 08)"
        )
    if counts.max() <= MANY:
        cautions.append(
            f"no class has more than {MANY} images, too few to learn features from: start from a "
            "network that was trained on many other images"
        )
    return Advice(remedy, reason, tuple(cautions))


__all__ = ["Advice", "first_remedy"]
