"""How the caller's loss is called: on the outputs as they are, or as the training must have."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from imbalkit.doctor.picking import inner_loss
from imbalkit.doctor.tasks import Task

# What a training does to targets before its loss, where the loss refuses them as they are.
CONVERSIONS: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda y: y,
    lambda y: y.long() if y.ndim < 2 or not y.is_floating_point() else y,
    lambda y: y.float(),
    lambda y: y.float()[:, None] if y.ndim == 1 else y.float().squeeze(1),
    lambda y: y.long().squeeze(1) if y.ndim > 1 else y.long(),
)


class Loss:
    """The caller's loss, called in the first way that works.

    Args:
        loss_fn: the caller's, or a copy.
        inside: does the model compute its loss itself?
    """

    def __init__(self, loss_fn: Callable, inside: bool):
        self.loss_fn, self.inside = loss_fn, inside
        self.known: tuple[int, int] | None = None

    def __call__(self, outputs: Any, scores: Tensor, targets: Tensor, task: Task) -> Tensor:
        """The mean loss.

        Raises:
            Exception: whatever the loss raises on the outputs as they are.
        """
        if self.inside:
            loss = inner_loss(outputs)
            if loss is not None:
                return loss.mean()
        first: Exception | None = None
        for which, one, y in self._calls(outputs, scores, targets, task):
            try:
                value = self.loss_fn(one, y).mean()
            except IndexError as error:  # a label that does not exist: no other way mends that
                first = first or error
                if not task.dense:
                    break
            except Exception as error:
                first = first or error
            else:
                self.known = which
                return value
        raise first if first is not None else ValueError("the loss cannot be called")

    def targets(self, targets: Tensor, task: Task) -> Tensor:
        """The targets as the loss gets them, a row for each example."""
        y = CONVERSIONS[self.known[1]](targets) if self.known is not None else targets
        rows = task.target_rows(y)
        return rows if task.dense or self.known is None or self.known[0] < 2 else y

    def _calls(
        self, outputs: Any, scores: Tensor, targets: Tensor, task: Task
    ) -> Iterator[tuple[tuple[int, int], Any, Tensor]]:
        ways: list[Callable[[], tuple[Any, Tensor]]] = [lambda: (outputs, targets)]
        ways.append(lambda: (scores, targets))
        ways.append(lambda: (task.rows(scores), task.target_rows(targets)))
        ways.append(lambda: (scores.flatten(), targets.flatten()))
        usable = [0]
        usable += [1] if outputs is not scores else []
        usable += [2] if task.dense else []
        usable += [3] if task.binary and scores.numel() == targets.numel() else []
        for way in usable:
            for number, convert in enumerate(CONVERSIONS):
                if self.known not in (None, (way, number)):
                    continue
                try:
                    one, y = ways[way]()
                    y = convert(y)
                except (RuntimeError, IndexError):
                    continue
                yield (way, number), one, y


def broadcasts(loss: Loss, outputs: Any, targets: Tensor) -> str:
    """Does the loss compare each output with the target of each image? A sentence, or ""."""
    if not isinstance(outputs, Tensor) or loss.inside or loss.known != (0, 0):
        return ""
    shapes = {outputs.shape, targets.shape}
    rows = len(targets)
    if shapes != {torch.Size((rows, 1)), torch.Size((rows,))} or rows < 2:
        return ""
    try:
        with torch.no_grad():
            # In descending order of the targets: a loss that compares pair by pair is then lower.
            crossed = loss.loss_fn(outputs.detach(), targets).mean().item()
            paired = loss.loss_fn(outputs.detach().flatten(), targets.flatten()).mean().item()
    except Exception:  # then the loss wants these shapes
        return ""
    if abs(crossed - paired) <= 1e-6 * (abs(paired) + 1e-6):
        return ""
    return (
        f"targets {tuple(targets.shape)}, outputs {tuple(outputs.shape)}: the loss compares each "
        f"output with each target, {rows} x {rows}"
    )
