"""A callback for the Trainer of transformers. Lesson 01 derives what it looks for.

::

    trainer = Trainer(model, arguments, train_dataset=images, callbacks=[CollapseCallback()])
    trainer.train()
"""

from typing import Any

from torch import nn

from imbalkit.doctor.picking import inner_loss
from imbalkit.integrations.watch import Watch, targets_in
from imbalkit.optional import optional

TrainerCallback: Any = optional("transformers").TrainerCallback


class CollapseCallback(Watch, TrainerCallback):
    """Warns once when a training of transformers' Trainer collapses, and says why.

    It feeds an `imbalkit.CollapseMonitor` with what the model answers while it trains. When that
    warns, `imbalkit.diagnose` looks at the Trainer's model, optimizer and batches at the end of the
    step, and changes nothing of them. Of several processes only the first one watches.

    The model has to be given its labels, as it is unless the Trainer computes the loss itself
    (``label_smoothing_factor``, ``compute_loss_func``). A compiled model is not watched. Where
    nothing was seen, a warning says so at the end.

    Args:
        diagnose: look for the cause when the training collapses; it takes 20 seconds, once.
        **options: further arguments of `imbalkit.diagnose`, such as ``loss_fn`` or ``seconds``.

    Attributes:
        monitor: the `imbalkit.CollapseMonitor`; ``monitor.warning`` is its sentence.
        report: what `imbalkit.diagnose` found, or None.

    Source: imbalkit's own; `imbalkit.monitor` and `imbalkit.doctor`. Lesson 01 uses both.

    Example:
        >>> import tempfile, torch, transformers
        >>> config = transformers.ViTConfig(
        ...     hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8,
        ...     image_size=8, patch_size=8)
        >>> images = [{"pixel_values": torch.randn(3, 8, 8), "labels": n % 2} for n in range(64)]
        >>> callback = CollapseCallback(seconds=10)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     arguments = transformers.TrainingArguments(
        ...         folder, num_train_epochs=1, disable_tqdm=True, report_to="none",
        ...         use_cpu=True)
        ...     model = transformers.ViTForImageClassification(config)
        ...     trainer = transformers.Trainer(
        ...         model, arguments, train_dataset=images, callbacks=[callback])
        ...     _ = trainer.train()
        {'train_runtime': ...}
        >>> callback.monitor.steps, callback.report
        (8, None)
    """

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin to watch the model."""
        if state.is_world_process_zero:
            self._model = kwargs["model"]
            done = state.global_step * args.gradient_accumulation_steps
            self.begin(self._model, steps=done)

    def saw(self, module: nn.Module, kwargs: dict, output: Any) -> None:
        """Let the monitor see a batch; that of the first device, of several that share one."""
        targets = targets_in(kwargs)
        scores = self.scores(output, targets)
        if module is self._model and scores is not None and targets is not None:
            self.note(scores, targets, inner_loss(output))

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Warn, after the optimizer's step."""
        if self.collapsed:
            batches, optimizer = kwargs["train_dataloader"], kwargs["optimizer"]
            self.tell(kwargs["model"], batches, optimizer, args.gradient_accumulation_steps)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Leave the model as it was."""
        self.end()


__all__ = ["CollapseCallback"]
