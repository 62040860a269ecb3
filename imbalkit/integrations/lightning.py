"""A callback for the Trainer of Lightning. Lesson 01 derives what it looks for.

::

    trainer = lightning.Trainer(callbacks=[CollapseCallback(loss_fn=loss_fn)])
    trainer.fit(module, train_loader)
"""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from torch import Tensor, nn

from imbalkit.doctor.picking import inner_loss
from imbalkit.integrations.watch import Watch, targets_in
from imbalkit.optional import optional

# The same library has an older name; people have one of them.
OLDER = find_spec("lightning") is None and find_spec("pytorch_lightning") is not None
Callback: Any = optional("pytorch_lightning" if OLDER else "lightning.pytorch").Callback


class CollapseCallback(Watch, Callback):
    """Warns once when a training of Lightning's Trainer collapses, and says why.

    It feeds an `imbalkit.CollapseMonitor` with what the module answers while it trains. When that
    warns, `imbalkit.diagnose` looks at the module, its optimizer and the training's batches at the
    end of the step, and changes nothing of them. Of several processes only the first one watches.

    What the module answers is what it returns when ``training_step`` calls ``self(x)``, or else the
    last module of its own that returns scores. Where that is wrong, let ``training_step`` return
    ``{"loss": loss, "logits": logits, "targets": targets}``. A compiled module is not watched.
    Where nothing was seen, a warning says so at the end. The doctor needs your ``forward``, and
    your ``loss_fn`` if that is not the cross-entropy.

    Args:
        diagnose: look for the cause when the training collapses; it takes 20 seconds, once.
        **options: further arguments of `imbalkit.diagnose`, such as ``loss_fn`` or ``seconds``.

    Attributes:
        monitor: the `imbalkit.CollapseMonitor`; ``monitor.warning`` is its sentence.
        report: what `imbalkit.diagnose` found, or None.

    Source: imbalkit's own; `imbalkit.monitor` and `imbalkit.doctor`. Lesson 01 uses both.

    Example:
        >>> import lightning, torch
        >>> class Module(lightning.LightningModule):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.network = nn.Linear(6, 3)
        ...     def forward(self, x):
        ...         return self.network(x)
        ...     def training_step(self, batch, index):
        ...         return nn.functional.cross_entropy(self(batch[0]), batch[1])
        ...     def configure_optimizers(self):
        ...         return torch.optim.SGD(self.parameters(), 0.1)
        >>> images, labels = torch.randn(120, 6), torch.arange(120) % 3
        >>> callback = CollapseCallback(seconds=10)
        >>> trainer = lightning.Trainer(
        ...     max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False,
        ...     enable_progress_bar=False, enable_model_summary=False, callbacks=[callback])
        >>> loader = torch.utils.data.DataLoader(
        ...     torch.utils.data.TensorDataset(images, labels), 30)
        >>> trainer.fit(Module(), loader)
        >>> callback.monitor.steps, callback.report
        (8, None)
    """

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin to watch the module."""
        if trainer.is_global_zero:
            done = trainer.global_step * trainer.accumulate_grad_batches
            self.begin(pl_module, *pl_module.children(), steps=done)

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the targets of the batch."""
        self._module, self._targets = pl_module, targets_in(batch)
        self._found: Tensor | None = None
        self._own = False

    def saw(self, module: nn.Module, kwargs: dict, output: Any) -> None:
        """Note the scores of the module, or else of the last one in it that has some."""
        scores, own = self.scores(output, self._targets), module is self._module
        if scores is not None and (own or not self._own):
            self._found, self._own = scores, own

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Let the monitor see the batch, and warn."""
        scores, targets = self._found, self._targets
        if isinstance(outputs, Mapping) and "logits" in outputs:
            said = targets_in(outputs)
            targets = targets if said is None else said
            scores = self.scores(outputs, targets)
        if scores is not None and targets is not None and self._hooks:
            self.note(scores, targets, None if outputs is None else inner_loss(outputs))
        if self.collapsed:
            one = trainer.optimizers[0] if len(trainer.optimizers) == 1 else None
            accumulate = trainer.accumulate_grad_batches
            self.tell(pl_module, trainer.train_dataloader, one, accumulate)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Leave the module as it was."""
        self.end()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Leave the module as it was."""
        self.leave()


__all__ = ["CollapseCallback"]
