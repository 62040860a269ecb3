"""What a method works with: images, a network, and one recipe for all."""

from collections.abc import Callable, Iterable
from itertools import pairwise

import torch
from torch import Tensor, nn

from imbalkit import metrics
from imbalkit.course.lab import Lab
from imbalkit.data import Batches
from imbalkit.fast import SMALL, SMALL_SHARE, MirrorAveraged, Resize, fast_net, muon_and_sgd
from imbalkit.losses import BalancedSoftmaxLoss
from imbalkit.stages import schedule_part
from imbalkit.training import fit, predict, warmup_linear

Loss = Callable[[Tensor, Tensor], Tensor]


class Bench:
    """The network and the recipe of `imbalkit.fast`, in pieces that a method can exchange.

    Attributes:
        lab: the images.
        counts: training images of each class.
        epochs: passes over the training images.
        seed: of the weights, the batches and the augmentation.
        cross_entropy, balanced_softmax: the losses of the two baselines.
    """

    def __init__(self, lab: Lab, epochs: int, width: int, seed: int):
        self.lab, self.epochs, self.width, self.seed = lab, epochs, width, seed
        self.counts = lab.counts
        self.cross_entropy: Loss = nn.CrossEntropyLoss()
        self.balanced_softmax: Loss = BalancedSoftmaxLoss(lab.counts)

    def net(self) -> nn.Module:
        """The network that all methods train, with the weights that the seed gives."""
        torch.manual_seed(self.seed)
        return fast_net(self.lab.train, self.width)

    def batches(self, sampler: Iterable[int] | None = None, also: Iterable = ()) -> Batches:
        """Training batches; `also` are augmentations behind the crops and flips of all methods."""
        augment = [*self.lab.augment, *also]
        return self.lab.train_batches(shuffle=sampler is None, sampler=sampler, augment=augment)

    def fit(
        self,
        model: nn.Module,
        loss_fn: Loss | None = None,
        *,
        sampler: Iterable[int] | None = None,
        also: Iterable = (),
        switch: float = 1.0,
        late_loss_fn: Loss | None = None,
        late_sampler: Iterable[int] | None = None,
        epochs: int | None = None,
    ) -> nn.Module:
        """One training in place: small images first, a learning rate that falls in a line to 0.

        Args:
            model: gives logits.
            loss_fn: cross-entropy unless given.
            sampler: draws the training images; without one they are shuffled.
            also: further augmentations.
            switch: from this share of the epochs on, the late loss and the late sampler hold.
            late_loss_fn, late_sampler: the early ones unless given.
            epochs: the budget's unless given.

        Returns:
            the model, with its last weights.
        """
        epochs = epochs or self.epochs
        loss_fn = loss_fn or self.cross_entropy
        grown, late = round(SMALL_SHARE * epochs), round(switch * epochs)
        optimizer = muon_and_sgd(model)
        for begin, end in pairwise(sorted({0, grown, late, epochs})):
            is_late = begin >= late
            draw = (late_sampler or sampler) if is_late else sampler
            small = [Resize(SMALL)] if begin < grown else []
            fit(
                model,
                self.batches(draw, [*also, *small]),
                end - begin,
                loss_fn=(late_loss_fn or loss_fn) if is_late else loss_fn,
                optimizer=optimizer,
                schedule=schedule_part(warmup_linear, begin / epochs, end / epochs),
                show_progress=False,
            )
        return model

    def score(self, model: nn.Module) -> float:
        """Balanced accuracy on the validation images."""
        logits, labels = self.logits(model, "validation")
        confusion = metrics.confusion(labels, logits.argmax(1), len(self.counts))
        return metrics.summary(confusion)["balanced_accuracy"]

    def logits(self, model: nn.Module, part: str) -> tuple[Tensor, Tensor]:
        """Logits (N, C) and labels (N,) of "validation" or "test", with the mirror image."""
        mirrored = len(self.lab.augment) > 1  # a mirrored digit is no digit
        images = getattr(self.lab, part)
        return predict(MirrorAveraged(model) if mirrored else model, self.lab.eval_batches(images))
