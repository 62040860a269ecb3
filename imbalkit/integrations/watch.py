"""What the callbacks share: they see each batch's scores, warn once, and then ask the doctor."""

import copy
import inspect
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from imbalkit import doctor
from imbalkit.doctor.calling import as_structure, target_paths
from imbalkit.doctor.outputs import first_line
from imbalkit.doctor.picking import pick_scores
from imbalkit.doctor.trees import at
from imbalkit.monitor import CollapseMonitor, CollapseWarning

NOTHING_SEEN = (
    "the callback saw no scores with labels, so it watched nothing; give the monitor what your "
    "step computes: imbalkit.CollapseMonitor()(logits, targets, loss)."
)


class Watch:
    """Watches a training from inside a trainer's callback.

    Args:
        diagnose: look for the cause when the training collapses; it takes 20 seconds, once.
        **options: further arguments of `imbalkit.diagnose`, such as ``loss_fn`` or ``seconds``.

    Attributes:
        monitor: the `imbalkit.CollapseMonitor` of this training.
        report: what `imbalkit.diagnose` found when it collapsed, or None.

    Raises:
        TypeError: `imbalkit.diagnose` has no such argument.

    Example:
        >>> watch = Watch(diagnose=False)
        >>> watch.begin(nn.Linear(4, 3))
        >>> targets = torch.arange(64) % 3
        >>> scores = watch.scores(torch.eye(3)[torch.zeros(64).long()], targets)
        >>> for _ in range(150):
        ...     watch.note(scores, targets, loss=torch.tensor(0.5))
        >>> watch.collapsed
        True
    """

    def __init__(self, diagnose: bool = True, **options: Any):
        super().__init__()
        inspect.signature(doctor.diagnose).bind_partial(**options)
        self.monitor = CollapseMonitor()
        self.report: doctor.Diagnosis | None = None
        self._diagnose, self._options = diagnose, options
        self._hooks: list[Any] = []
        self._told = self._seen = False

    def begin(self, *modules: nn.Module, steps: int = 0) -> None:
        """Begin to watch the outputs of these modules, after so many steps."""
        self.leave()
        self.monitor, self.report = CollapseMonitor(), None
        self.monitor.resume(steps)
        self._told = self._seen = False
        self._hooks = [m.register_forward_hook(self._hook, with_kwargs=True) for m in modules]

    def leave(self) -> None:
        """Take the hooks off the modules."""
        while self._hooks:
            self._hooks.pop().remove()

    def end(self) -> None:
        """The training is over; say so if nothing was seen of it."""
        if self._hooks and not self._seen:
            warnings.warn(NOTHING_SEEN, stacklevel=3)
        self.leave()

    def _hook(self, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        if module.training and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            self.saw(module, kwargs, output)

    def saw(self, module: nn.Module, kwargs: dict, output: Any) -> None:
        """A module was called in a step of the training."""
        raise NotImplementedError

    def scores(self, output: Any, targets: Tensor | None) -> Tensor | None:
        """The scores in a module's output, if these are scores for the targets."""
        if targets is None or output is None:
            return None
        try:
            scores = pick_scores(output, targets)
        except TypeError:
            return None
        return scores.detach() if _are_scores(scores, targets) else None

    def note(self, scores: Tensor, targets: Tensor, loss: Tensor | None) -> None:
        """Let the monitor see a batch."""
        self._seen = True
        self.monitor.update(scores, targets, scores.mean() if loss is None else loss)

    @property
    def collapsed(self) -> bool:
        """Has the monitor seen a collapse of which nobody has been told?"""
        return bool(self.monitor.warning) and not self._told

    def tell(self, model: nn.Module, batches: Iterable, optimizer: Any, accumulate: int) -> None:
        """Warn of the collapse, with what the doctor says."""
        self._told = True
        self.leave()  # the doctor copies the model
        found = ""
        if self._diagnose:
            options = {"optimizer": optimizer, "accumulate": accumulate} | self._options
            found = " " + self._examined(model, batches, options)
        warnings.warn(self.monitor.warning + found, CollapseWarning, stacklevel=3)

    def _examined(self, model: nn.Module, batches: Iterable, options: dict) -> str:
        if isinstance(batches, Iterator):
            return "It was not called: reading your iterator would take batches from the training."
        try:
            self.report = doctor.diagnose(model, apart(batches), **options)
        except Exception as error:  # whatever it is, the training goes on
            return f"It could not look: {first_line(error)}"
        return f"It says: {', '.join(self.report.causes)}; print the callback's report."


def _are_scores(scores: Tensor, targets: Tensor) -> bool:
    """Has each target a row of scores? Losses, metrics and features have other shapes."""
    if not scores.is_floating_point() or not scores.ndim or len(scores) != len(targets):
        return False
    if targets.is_floating_point():
        return scores.numel() == targets.numel() or scores.shape == targets.shape
    return scores.ndim == targets.ndim + 1


def targets_in(batch: Any) -> Tensor | None:
    """The targets in a batch of any usual structure, as `imbalkit.diagnose` looks for them."""
    batch = as_structure(batch)
    if not isinstance(batch, Mapping | list | tuple) or len(batch) < 2:
        return None
    found = (at(batch, path) for path in target_paths(batch))
    return next((y for y in found if isinstance(y, Tensor) and y.ndim), None)


def apart(batches: Any) -> Any:
    """A loader to read while a training reads from this one.

    The iterator of a loader with persistent workers would be taken from the training, and
    accelerate's loader counts for it.
    """
    batches = getattr(batches, "base_dataloader", batches)
    if isinstance(batches, DataLoader):
        batches = copy.copy(batches)
        batches._iterator = None
    return batches


__all__ = ["Watch", "apart", "targets_in"]
