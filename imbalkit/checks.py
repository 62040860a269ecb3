"""What goes in, checked once for the whole package: labels, lengths, shares, images per class."""

import operator
import reprlib
from collections.abc import Mapping
from itertools import islice
from numbers import Number, Real
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor


def to_numpy(values: ArrayLike | Tensor) -> np.ndarray:
    """A list, array or tensor (on any device, of any dtype) as a numpy array.

    Raises:
        ValueError: it is none, such as None or rows of different lengths.

    Example:
        >>> to_numpy(torch.tensor([1.5, 2.0], dtype=torch.bfloat16))
        array([1.5, 2. ], dtype=float32)
        >>> to_numpy([[1, 2], [3]])
        Traceback (most recent call last):
        ValueError: [[1, 2], [3]] is no array; give numbers, and rows of one length.
    """
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        # numpy has no bfloat16, which is what autocast gives.
        values = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    try:
        array = np.asarray(values)
    except ValueError:
        array = np.array(None)
    if array.dtype == object and not all(isinstance(one, Number) for one in array.flat):
        raise ValueError(
            f"{reprlib.repr(values)} is no array; give numbers, and rows of one length."
        )
    return array


def to_floats(values: ArrayLike | Tensor, name: str) -> np.ndarray:
    """As `to_numpy`, in float64.

    Raises:
        ValueError: it is text, or holds complex numbers; the sentence begins with `name`.

    Example:
        >>> to_floats([1, 2], "weights")
        array([1., 2.])
        >>> to_floats(["a", "b"], "weights")
        Traceback (most recent call last):
        ValueError: weights must be numbers, got <U1 of shape (2,); give real numbers.
    """
    array = to_numpy(values)
    if array.dtype.kind not in "biufO":
        raise ValueError(f"{name} must be numbers, got {describe_array(array)}; give real numbers.")
    return array.astype(np.float64)


def check_tensor(tensor: Tensor, name: str, shape: str, floats: bool = False) -> None:
    """Has a tensor as many axes as `shape` names?

    Args:
        tensor: of any dtype.
        name: what the sentence calls it.
        shape: such as "(N, C)".
        floats: must it hold floats too?

    Raises:
        ValueError: it has not, or is no tensor.

    Example:
        >>> check_tensor(torch.zeros(8, 3), "logits", "(N, C)", floats=True)
        >>> check_tensor(torch.zeros(8), "logits", "(N, C)")
        Traceback (most recent call last):
        ValueError: logits must be of shape (N, C), got torch.float32 of shape (8,); convert or ...
    """
    if not isinstance(tensor, Tensor):
        raise ValueError(f"{name} must be a tensor {shape}, got {described(tensor)}.")
    right = tensor.ndim == shape.count(",") + (not shape.endswith(",)"))
    if not right or (floats and not tensor.is_floating_point()):
        kind = "floats of shape" if floats else "of shape"
        raise ValueError(
            f"{name} must be {kind} {shape}, got {tensor.dtype} of shape {tuple(tensor.shape)}; "
            "convert or reshape it first."
        )


def describe_array(array: np.ndarray) -> str:
    """The dtype and the shape of an array, for error messages.

    Example:
        >>> describe_array(np.zeros(10, dtype=np.int64))
        'int64 of shape (10,)'
    """
    return f"{array.dtype} of shape {array.shape}"


def described(value: Any) -> str:
    """Any value in a few words on one line, for error messages.

    Example:
        >>> described(2.5), described(torch.zeros(8, 3, 32, 32)), described([1, 2])
        ('2.5', 'float32 (8, 3, 32, 32)', 'a list of 2')
        >>> described({"image": None, "label": 3})
        'a dict with the keys image, label'
    """
    if isinstance(value, Tensor | np.ndarray):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    if isinstance(value, Mapping):
        keys = ", ".join(str(key) for key in islice(value, 5))
        return f"a {type(value).__name__} with the keys {keys}" if keys else "an empty dict"
    if isinstance(value, type):
        return f"the class {value.__name__} itself"
    if isinstance(value, Real):
        return str(value)[:80]
    if value is None or isinstance(value, str | bytes):
        return repr(value)[:80]
    size = f" of {len(value)}" if isinstance(value, tuple | list) else ""
    return f"a {type(value).__name__}{size}"


def check_whole(value: Any, name: str, least: int = 1) -> int:
    """A whole number of any kind, numpy's too, as an int.

    Raises:
        ValueError: it is none, or less than `least`; the sentence begins with `name`.

    Example:
        >>> check_whole(np.int64(3), "epochs")
        3
        >>> check_whole(0.5, "epochs")
        Traceback (most recent call last):
        ValueError: epochs is 0.5; give a whole number of 1 or more.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or number < least:
        raise ValueError(f"{name} is {described(value)}; give a whole number of {least} or more.")
    return number


def is_number(value: Any) -> bool:
    """Is it one number: of Python, of numpy, or in a tensor?

    Example:
        >>> is_number(np.float32(2)), is_number(torch.tensor([2.0])), is_number("2")
        (True, True, False)
    """
    return isinstance(value, Real) or (isinstance(value, Tensor) and value.numel() == 1)


def as_rows(values: ArrayLike | Tensor, name: str) -> Tensor:
    """Numbers as a tensor (N, C), on the device where they are.

    Raises:
        ValueError: they are not (N, C), or complex; the sentence begins with `name`.

    Example:
        >>> as_rows([[0.25, 0.75], [0.5, 0.5]], "probabilities").shape
        torch.Size([2, 2])
        >>> as_rows([0.25, 0.75], "probabilities")
        Traceback (most recent call last):
        ValueError: probabilities are of shape (2,); give numbers (N, C), a row per image.
    """
    try:
        rows = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError):  # torch raises each of them
        rows = None
    if rows is None or rows.ndim != 2 or rows.shape[1] == 0 or rows.is_complex():
        found = described(values) if rows is None else f"of shape {tuple(rows.shape)}"
        raise ValueError(f"{name} are {found}; give numbers (N, C), a row per image.")
    return rows


def check_counts(counts: ArrayLike | Tensor) -> np.ndarray:
    """The images of each class, as int64 (C,).

    Raises:
        ValueError: they are not one whole number for each class, one is negative, or all are 0.

    Example:
        >>> check_counts([5000, 50, 0])
        array([5000,   50,    0])
        >>> check_counts([0.9, 0.1])
        Traceback (most recent call last):
        ValueError: counts must be one whole number per class, got float64 of shape (2,); count ...
    """
    counts = to_numpy(in_order_of_classes(counts))
    if counts.ndim != 1 or counts.size == 0 or not np.issubdtype(counts.dtype, np.integer):
        raise ValueError(
            f"counts must be one whole number per class, got {describe_array(counts)}; "
            "count the labels, for example with numpy.bincount."
        )
    if counts.min() < 0 or counts.sum() == 0:
        raise ValueError(
            "counts must be 0 or more with at least one image in all; count the labels again."
        )
    return counts.astype(np.int64)


def in_order_of_classes(counts: ArrayLike | Tensor, name: str = "counts") -> ArrayLike | Tensor:
    """Numbers that carry the numbers of their classes, as a pandas Series does, sorted by these.

    ``value_counts`` of pandas puts the most frequent class first, whatever its number. A list, an
    array or a tensor is returned as it is.

    Raises:
        ValueError: the numbers of the classes are not 0 to C - 1; the sentence begins with `name`.

    Example:
        >>> import pandas
        >>> counts = pandas.Series([2, 1, 1, 0, 1, 2]).value_counts()
        >>> counts.index.tolist(), in_order_of_classes(counts)
        ([1, 2, 0], array([1, 3, 2]))
    """
    index = getattr(counts, "index", None)
    if index is None or callable(index):  # an array or a tensor; a list has a method of that name
        return counts
    classes = list(index)
    try:
        order = [classes.index(c) for c in range(len(classes))]
    except ValueError:
        raise ValueError(
            f"{name} has the index {classes[:5]}, not the class numbers 0 to {len(classes) - 1}; "
            "give a list with one number per class, in the order of the model's outputs."
        ) from None
    return to_numpy(counts)[order]


def check_no_empty_class(counts: ArrayLike | Tensor, what: str) -> np.ndarray:
    """As `check_counts`, and every class needs an image; `what` cannot be made without it.

    Raises:
        ValueError: as `check_counts`, or a class has no image.

    Example:
        >>> check_no_empty_class([5000, 50], "weight")
        array([5000,   50])
        >>> check_no_empty_class([5000, 0], "weight")
        Traceback (most recent call last):
        ValueError: class 1 has no training image, so it has no weight; drop the class or ...
    """
    counts = check_counts(counts)
    if counts.min() == 0:
        raise ValueError(
            f"class {counts.argmin()} has no training image, so it has no {what}; drop the class "
            "or add images."
        )
    return counts


def as_labels(labels: ArrayLike | Tensor, num_classes: int | None = None) -> Tensor:
    """Labels as an int64 tensor (N,) on the CPU, where samplers work.

    Args:
        labels: one class index for each image, of any whole dtype.
        num_classes: C, where it is known.

    Raises:
        ValueError: they are something else, or do not lie within 0..C-1.

    Example:
        >>> as_labels([0, 2, 1], num_classes=3)
        tensor([0, 2, 1])
        >>> as_labels([1, 2, 3], num_classes=3)
        Traceback (most recent call last):
        ValueError: labels run to 3 but there are 3 classes; number the classes from 0 to 2.
    """
    labels = to_numpy(labels)
    if labels.ndim != 1 or labels.size == 0 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"labels are {describe_array(labels)}; give one class index per image, at least one."
        )
    if labels.min() < 0:
        raise ValueError(f"labels start at {labels.min()}; number the classes from 0.")
    if num_classes is not None and labels.max() >= num_classes:
        raise ValueError(
            f"labels run to {labels.max()} but there are {num_classes} classes; number the classes "
            f"from 0 to {num_classes - 1}."
        )
    return torch.from_numpy(labels.astype(np.int64))


def check_labels(labels: Tensor, num_classes: int, where: str) -> None:
    """Are `labels` int64, (N,), N > 0, and within 0..num_classes-1?

    Raises:
        ValueError: they are not; the sentence begins with `where`.

    Example:
        >>> check_labels(torch.tensor([0, 2]), 3, "my images")
        >>> check_labels(torch.tensor([1, 3]), 3, "my images")
        Traceback (most recent call last):
        ValueError: my images: labels run from 1 to 3 but there are 3 classes; number the ...
    """
    if labels.ndim != 1 or labels.dtype != torch.int64:
        raise ValueError(
            f"{where}: labels must be int64 of shape (N,), not {labels.dtype} of shape "
            f"{tuple(labels.shape)}; convert class indices with .long()."
        )
    if len(labels) == 0:
        raise ValueError(f"{where}: there is no image; check the folder or the indices.")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise ValueError(
            f"{where}: labels run from {low} to {high} but there are {num_classes} classes; "
            f"number the classes from 0 to {num_classes - 1}."
        )


def check_targets(logits: Tensor, targets: Tensor) -> None:
    """Do `targets`, int64 (N,) or soft (N, C), fit `logits` (N, C)?

    Their values are looked at only while they are on the CPU: on a GPU that would make every step
    wait for the device, and `ImageSet` has checked them before they went there.

    Raises:
        ValueError: they do not.

    Example:
        >>> check_targets(torch.zeros(2, 3), torch.tensor([0, 2]))
        >>> check_targets(torch.zeros(2, 3), torch.tensor([[0], [2]]))
        Traceback (most recent call last):
        ValueError: targets are torch.int64 of shape (2, 1); class indices must be int64 of ...
    """
    n, classes = logits.shape
    if targets.ndim == 2 and targets.is_floating_point():
        if targets.shape == logits.shape:
            return
        raise ValueError(
            f"soft targets have shape {tuple(targets.shape)} but the logits {tuple(logits.shape)}; "
            "give one probability per image and class."
        )
    if targets.dtype != torch.int64 or targets.shape != (n,):
        if targets.ndim == 2 and targets.shape == logits.shape:
            advice = "use .argmax(1) of rows with a single 1, or .float() for soft targets"
        elif targets.shape in ((n, 1), (1, n)):
            advice = "use .flatten()"
        else:
            advice = "use .long()" if targets.shape == (n,) else "give one for each image"
        raise ValueError(
            f"targets are {targets.dtype} of shape {tuple(targets.shape)}; class indices must be "
            f"int64 of shape ({n},): {advice}."
        )
    if targets.device.type == "cpu" and (targets.min() < 0 or targets.max() >= classes):
        raise ValueError(
            f"targets run from {int(targets.min())} to {int(targets.max())} but the model has "
            f"{classes} outputs; number the classes from 0 to {classes - 1}."
        )


def indices_by_class(labels: np.ndarray, num_classes: int = 0) -> list[np.ndarray]:
    """The images of each class in their order, found in one pass, however many classes there are.

    Args:
        labels: integers (N,), 0 or more.
        num_classes: C; as many as there are labels for unless given.

    Returns:
        C arrays, int64, one a class.

    Example:
        >>> [members.tolist() for members in indices_by_class(np.array([1, 0, 1]), num_classes=3)]
        [[1], [0, 2], []]
    """
    counts = np.bincount(labels, minlength=num_classes)
    return np.split(np.argsort(labels, kind="stable"), counts.cumsum()[:-1])


def entropy(shares: ArrayLike | Tensor) -> np.ndarray:
    """-sum(p log p) in nats over the last axis, with 0 log 0 = 0: float64, () for shares (C,).

    Raises:
        ValueError: `shares` are no numbers.

    Example:
        >>> entropy([[0.5, 0.5], [0.9, 0.1]]).round(3).tolist()
        [0.693, 0.325]
    """
    shares = to_floats(shares, "shares")
    return -np.sum(shares * np.log(np.where(shares > 0, shares, 1)), axis=-1)


def entropy_of_counts(counts: ArrayLike | Tensor) -> float:
    """Entropy in nats of the class shares that these counts (C,) stand for; 0 for one class.

    Example:
        >>> round(entropy_of_counts([500, 500]), 3), round(entropy_of_counts([900, 100]), 3)
        (0.693, 0.325)
    """
    counts = to_numpy(counts)
    return max(float(entropy(counts / counts.sum())), 0.0)


def is_binary(logits: Tensor) -> bool:
    """One score for two classes, in place of a score for each?

    Args:
        logits: (N,) or (N, C).

    Example:
        >>> is_binary(torch.zeros(8)), is_binary(torch.zeros(8, 1)), is_binary(torch.zeros(8, 2))
        (True, True, False)
    """
    return logits.ndim == 1 or logits.shape[1] == 1


def class_labels(targets: Tensor, binary: bool) -> Tensor:
    """The class of each target: an index, the largest probability, or above a half.

    Args:
        targets: (N,), (N, 1) or probabilities (N, C).
        binary: has the model one output for two classes, as `is_binary` says?

    Returns:
        int64 (N,).

    Raises:
        ValueError: `targets` have not one index, or one row of probabilities, for each input.

    Example:
        >>> class_labels(torch.tensor([[0.1, 0.9], [0.8, 0.2]]), binary=False).tolist()
        [1, 0]
        >>> class_labels(torch.tensor([0.0, 1.0]), binary=True).tolist()
        [0, 1]
    """
    if binary:
        if targets.ndim > 2 or targets.numel() != len(targets):
            raise ValueError(
                f"targets have shape {tuple(targets.shape)} but the model has one output for two "
                "classes; give one target for each input."
            )
        return (targets.flatten() > 0.5).long()
    if targets.ndim == 2 and targets.shape[1] > 1:
        return targets.float().argmax(1)
    if targets.ndim > 2 or targets.numel() != len(targets):
        raise ValueError(
            f"targets have shape {tuple(targets.shape)}; give class indices (N,) or one "
            "probability for each class (N, C)."
        )
    return targets.flatten().long()


__all__ = [
    "as_labels",
    "as_rows",
    "check_counts",
    "check_labels",
    "check_no_empty_class",
    "check_targets",
    "check_tensor",
    "check_whole",
    "class_labels",
    "describe_array",
    "described",
    "entropy",
    "entropy_of_counts",
    "in_order_of_classes",
    "indices_by_class",
    "is_binary",
    "is_number",
    "to_floats",
    "to_numpy",
]
