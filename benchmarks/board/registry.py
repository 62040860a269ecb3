"""What a method is: one decorated function, ours or in a file of one's own."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

Setting = float | str | None


@dataclass(frozen=True)
class Method:
    """One way to train.

    Attributes:
        name: of its row.
        train: ``(bench, setting)`` to a trained model, or to several as ``(row's name, model)``.
        grid: settings, among which the validation images choose.
        prior_in: does its answer still hold the mix of the training images? Then a second row
            takes that out, without training.
        lesson: the lesson that explains it, or "".
    """

    name: str
    train: Callable[[Any, Setting], Any]
    grid: tuple[Setting, ...] = (None,)
    prior_in: bool = False
    lesson: str = ""

    def rows(self, bench: Any, setting: Setting) -> Iterator[tuple[str, nn.Module]]:
        """Train, and name each model that comes of it."""
        made = self.train(bench, setting)
        yield from [(self.name, made)] if isinstance(made, nn.Module) else made


METHODS: dict[str, Method] = {}


def correction(
    name: str, *, grid: tuple[Setting, ...] = (None,), prior_in: bool = False, lesson: str = ""
) -> Callable:
    """Register ``function(bench, setting) -> trained model``, a correction of the prior."""

    def register(train: Callable) -> Callable:
        _add(Method(name, train, grid, prior_in, lesson))
        return train

    return register


def representation(name: str, *, grid: tuple[Setting, ...] = (None,), lesson: str = "") -> Callable:
    """Register ``function(bench, setting, loss_fn) -> trained model`` in three columns.

    What changes the features gains little that one can see while the prior is in. So it is
    trained with cross-entropy (judged as it is, and with the prior taken out) and with balanced
    softmax.
    """

    def register(train: Callable) -> Callable:
        def plain(bench: Any, setting: Setting) -> nn.Module:
            return train(bench, setting, bench.cross_entropy)

        def balanced(bench: Any, setting: Setting) -> nn.Module:
            return train(bench, setting, bench.balanced_softmax)

        _add(Method(name, plain, grid, prior_in=True, lesson=lesson))
        _add(Method(f"{name}, balanced softmax", balanced, grid, lesson=lesson))
        return train

    return register


def _add(method: Method) -> None:
    if method.name in METHODS:
        raise ValueError(f"there are two methods called '{method.name}'; give one another name.")
    METHODS[method.name] = method
