"""What `fit` counts in an epoch, and whether it is still numbers. Lesson 01 uses it."""

import torch
from torch import Tensor, nn

from imbalkit import metrics
from imbalkit.intake import has_numbers

# Of more classes a History keeps no confusion matrix and no shares of each batch: C x C numbers an
# epoch, and C a step, in each checkpoint.
MOST_CLASSES_KEPT = 256


class NonFiniteLossError(FloatingPointError):
    """The loss, or a weight of the model, became NaN or infinite.

    Example:
        >>> tally = Tally()
        >>> tally.add(torch.tensor(torch.nan), torch.zeros(1, 2), torch.tensor([0]))
        >>> tally.check_finite(epoch=1)
        Traceback (most recent call last):
        NonFiniteLossError: The loss became NaN or infinite at step 1 of epoch 1: ...
    """


class Tally:
    """Running figures of one epoch, kept on the device: adding a batch never waits for it.

    Example:
        >>> tally = Tally()
        >>> logits, targets = torch.tensor([[2.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1])
        >>> tally.add(torch.tensor(0.5), logits, targets)
        >>> tally.summary()["accuracy"], tally.batch_shares().tolist()
        (0.5, [[1.0, 0.0]])
    """

    def __init__(self) -> None:
        self.steps, self.images = 0, 0
        self.shares: list[Tensor] = []

    def add(self, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Count one batch: scalar loss, logits (N, C), targets (N,) or soft (N, C)."""
        n, classes = logits.shape
        if not self.steps:
            self.loss = torch.zeros_like(loss)
            self.first_bad_step = torch.zeros_like(loss, dtype=torch.int64)
            none = torch.zeros(3, classes, dtype=torch.int64, device=logits.device)
            self.hits, self.true, self.predicted = none
            self.one = torch.ones(1, dtype=torch.int64, device=logits.device)
        self.steps += 1
        self.images += n
        self.loss += loss * n
        bad = ~loss.isfinite() & (self.first_bad_step == 0)
        self.first_bad_step.masked_fill_(bad, self.steps)
        predicted = logits.argmax(1)
        true = targets if targets.ndim == 1 else targets.argmax(1)
        one = self.one.expand(n)
        self.hits.index_add_(0, true, (predicted == true).long())
        self.true.index_add_(0, true, one)
        of_batch = torch.zeros_like(self.predicted).index_add_(0, predicted, one)
        self.predicted += of_batch
        self.shares.append((of_batch if classes <= MOST_CLASSES_KEPT else of_batch[:0]) / n)

    def check_finite(self, epoch: int) -> None:
        """Were all losses so far finite? Waits for the device.

        Raises:
            NonFiniteLossError: one was NaN or infinite.
        """
        step = int(self.first_bad_step)
        if step:
            raise NonFiniteLossError(
                f"The loss became NaN or infinite at step {step} of epoch {epoch}: most often the "
                "learning rate is too high (divide it by 10), else an image or a target is not "
                "finite, or the loss takes the logarithm of zero."
            )

    def summary(self) -> dict:
        """The figures of `metrics.summary` and the mean loss per image."""
        counts = torch.stack([self.hits, self.true, self.predicted]).cpu().numpy()
        return {"loss": float(self.loss) / self.images, **metrics.summary_of_counts(*counts)}

    def batch_shares(self) -> Tensor:
        """The share of each predicted class in each batch: float32, (steps, C), on the CPU.

        Of more than 256 classes (steps, 0).
        """
        return torch.stack(self.shares).cpu()


def check_weights(model: nn.Module, epoch: int) -> None:
    """Are the weights finite? After the last step no loss will tell. Waits for the device.

    Raises:
        NonFiniteLossError: one is NaN or infinite, or a running mean or variance is.
    """
    learned = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    running = [(name, b) for name, b in model.named_buffers() if "running_" in name]
    for name, values in learned + running:
        if has_numbers(values) and not bool(values.isfinite().all()):
            raise NonFiniteLossError(
                f"The model's {name} became NaN or infinite in epoch {epoch}: most often the "
                "learning rate is too high (divide it by 10), else the images are not normalised."
            )


__all__ = ["NonFiniteLossError", "Tally"]
