"""What is classified: images, pixels or tokens, into one class or under several labels each.

Whatever the shapes, an examination asks for examples: rows of scores (M, C) with a label each.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from imbalkit.checks import class_labels, entropy_of_counts, is_binary
from imbalkit.doctor.outputs import check_outputs, log_probabilities

IGNORED = -100
MOST_PLACES = 512  # pixels or tokens of one image that are looked at
CLASSIFIERS = "diagnose judges classifiers, whose targets are classes, probabilities, or 0 and 1"


@dataclass(frozen=True)
class Task:
    """How scores and targets belong together.

    Attributes:
        classes: C.
        binary: is there one score for two classes?
        several: may an image have several labels, or none?
        dim: the dimension of the classes where there are scores for each pixel or token, 0 where
            these have one score each without a dimension of its own; None for one row an image.
        ignored: labels that the loss leaves out.
    """

    classes: int
    binary: bool
    several: bool = False
    dim: int | None = None
    ignored: frozenset[int] = frozenset({IGNORED})

    @property
    def dense(self) -> bool:
        """Are there scores for each pixel or token?"""
        return self.dim is not None

    def places(self, targets: Tensor) -> Tensor | None:
        """The positions to look at, the same ones in each image; None for one row an image."""
        if not self.dense:
            return None
        count = self._flat_targets(targets[:1]).shape[1]
        generator = torch.Generator().manual_seed(0)
        return torch.randperm(count, generator=generator)[:MOST_PLACES].sort().values

    def rows(self, scores: Tensor, places: Tensor | None = None) -> Tensor:
        """Scores (M, C), or (M,) or (M, 1) where there is one for two classes."""
        if self.dim is None:
            return scores
        if self.dim == 0:
            flat = scores.flatten(1)
            return (flat if places is None else flat[:, places.to(flat.device)]).flatten()
        flat = scores.movedim(self.dim, -1).flatten(1, -2)
        flat = flat if places is None else flat[:, places.to(flat.device)]
        return flat.flatten(0, 1)

    def target_rows(self, targets: Tensor, places: Tensor | None = None) -> Tensor:
        """Targets (M,) or (M, C), as many as `rows`; what the loss ignores is -100."""
        if not self.dense:
            return targets
        flat = self._flat_targets(targets)
        flat = flat if places is None else flat[:, places.to(flat.device)]
        return self._marked(flat.flatten(0, 1))

    def _flat_targets(self, targets: Tensor) -> Tensor:
        """(N, P), or (N, P, C) where each position has a number for each class."""
        if self.dim and self._per_class(targets):
            return targets.movedim(self.dim, -1).flatten(1, -2)
        return targets.flatten(1)

    def _per_class(self, targets: Tensor) -> bool:
        width = 1 if self.binary else self.classes
        alike = targets.ndim > 2 and targets.shape[self.dim or 0] == width
        return alike and (self.several or targets.is_floating_point())

    def _marked(self, targets: Tensor) -> Tensor:
        if targets.is_floating_point():
            return targets
        for label in self.ignored - {IGNORED}:
            targets = targets.masked_fill(targets == label, IGNORED)
        return targets

    def examples(
        self, scores: Tensor, targets: Tensor, kind: str, places: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities (M, K) and the labels (M,) to judge them by.

        With several labels an image each label is a question by itself, of two answers.
        """
        rows, y = self.rows(scores, places), self.target_rows(targets, places).to(scores.device)
        if self.several:
            log_probs = log_probabilities(rows.flatten(), kind)
            return log_probs, (y.flatten() > 0.5).long()
        log_probs, labels = log_probabilities(rows, kind), self.labels(y)
        if self.dense:
            counted = (labels >= 0) & (labels < self.classes)
            return log_probs[counted], labels[counted]
        return log_probs, labels

    def labels(self, rows: Tensor) -> Tensor:
        """int64 (M,), the class of each row of targets; with one label a row."""
        if self.binary and not rows.is_floating_point():
            ignored = rows.flatten() == IGNORED
            return (
                class_labels(rows, True).masked_fill(ignored, IGNORED)
                if ignored.any()
                else (class_labels(rows, True))
            )
        return class_labels(rows, self.binary)

    def plain_loss(self, scores: Tensor, targets: Tensor, kind: str) -> Tensor:
        """The mean cross-entropy of scores, unweighted, whatever the caller's loss is."""
        log_probs, labels = self.examples(scores, targets, kind)
        return F.nll_loss(log_probs, labels)

    def accuracy(self, scores: Tensor, targets: Tensor, kind: str) -> float:
        """The share of the examples whose most probable answer is right."""
        log_probs, labels = self.examples(scores, targets, kind)
        return (log_probs.argmax(1) == labels).float().mean().item()

    def entropy(self, targets: Tensor) -> float:
        """Of the labels: the loss of knowing the shares alone."""
        if self.several:
            rows = (self.target_rows(targets) > 0.5).float().flatten(1)
            share = rows.mean(0)
            return (torch.special.entr(share) + torch.special.entr(1 - share)).mean().item()
        labels = self.labels(self.target_rows(targets))
        if self.dense:
            labels = labels[(labels >= 0) & (labels < self.classes)]
        return entropy_of_counts(torch.bincount(labels))

    def image_labels(self, targets: Tensor, counts: Tensor | None = None) -> Tensor:
        """int64 (N,), one class an image: its own, its most frequent one, or its rarest label.

        An image without any label has class C, one whose every pixel is ignored class -100.
        """
        if not self.dense and not self.several:
            return class_labels(targets, self.binary)
        votes = self.votes(targets)
        if self.several:
            rare = counts.argsort() if counts is not None else torch.arange(votes.shape[1])
            first = votes[:, rare].bool().int().argmax(1)
            none = self.classes if not self.dense else IGNORED
            return torch.where(votes.any(1), rare[first], none)
        return torch.where(votes.any(1), votes.argmax(1), IGNORED)

    def votes(self, targets: Tensor) -> Tensor:
        """int64 (N, C), how often each image has each class."""
        images = len(targets)
        if self.several:
            rows = (self.target_rows(targets) > 0.5).long()
            return rows.reshape(images, -1, rows.shape[-1]).sum(1)
        labels = self.labels(self.target_rows(targets)).view(images, -1)
        counted = (labels >= 0) & (labels < self.classes)
        place = torch.arange(images)[:, None] * self.classes + labels.clamp(0, self.classes - 1)
        counts = torch.bincount(place[counted], minlength=images * self.classes)
        return counts.view(images, self.classes)


def find_task(scores: Tensor, read: Tensor, images: int, ignored: int = IGNORED) -> Task:
    """What the scores of so many images, and the targets of all that were read, are.

    Raises:
        ValueError: they are no classifier's.
    """
    _refuse_regression(read)
    targets, marks = read[:images], {IGNORED, ignored}
    if scores.ndim < 3 or (targets.ndim < 2 and targets.numel() == images):
        check_outputs(scores, images)
        _refuse_embeddings(scores, targets)
        binary = is_binary(scores)
        several = not binary and targets.shape == scores.shape and _has_several(read, 1)
        classes = 2 if binary else scores.shape[1]
        return Task(classes, binary, several, ignored=frozenset(marks))
    dim = _class_dimension(scores, targets)
    if dim is None:
        check_outputs(scores, images)  # which raises
        dim = 1
    width = 1 if dim == 0 else scores.shape[dim]
    several = width > 1 and scores.shape == targets.shape and _has_several(read, dim)
    if not read.is_floating_point() and width < 255 and bool((read == 255).any()):
        marks.add(255)  # what data sets paint the edges with
    return Task(2 if width == 1 else width, width == 1, several, dim, frozenset(marks))


def _class_dimension(scores: Tensor, targets: Tensor) -> int | None:
    if not scores.is_floating_point() or len(scores) != len(targets):
        return None
    if scores.shape == targets.shape:
        return 0 if scores.ndim == 3 and not targets.is_floating_point() else 1
    if targets.ndim > 1 and targets.shape[1] == 1 and targets.shape[2:] == scores.shape[2:]:
        return 1
    # Tokens have their classes last, images have them second.
    last, second = scores.shape[1:-1] == targets.shape[1:], scores.shape[2:] == targets.shape[1:]
    if last and (scores.ndim == 3 or not second):
        return -1
    return 1 if second else None


def _has_several(targets: Tensor, dim: int) -> bool:
    """Are these 0 and 1 for each class, with rows that have more than one, or none?"""
    if targets.ndim < 2 or targets.shape[dim] < 2:
        return False
    finite = targets[targets.isfinite()] if targets.is_floating_point() else targets
    plain = bool(((finite >= 0) & (finite <= 1)).all())
    sums = targets.float().nan_to_num().sum(dim)
    return plain and bool(((sums - 1).abs() > 1e-2).any())


def _refuse_regression(targets: Tensor) -> None:
    if not targets.is_floating_point():
        return
    finite = targets[targets.isfinite()].flatten()
    outside = (finite < 0) | (finite > 1)
    if len(finite) > 1 and outside.any() and (finite != finite.round()).float().mean() > 0.5:
        raise ValueError(
            f"the targets are numbers from {finite.min():.4g} to {finite.max():.4g} with "
            f"fractions, as of a regression; {CLASSIFIERS}."
        )


def _refuse_embeddings(scores: Tensor, targets: Tensor) -> None:
    """Rows of length 1 with both signs: an embedding, or the features before the last layer."""
    if scores.ndim != 2 or scores.shape[1] < 8 or targets.ndim > 1 or not scores.isfinite().all():
        return
    lengths = scores.detach().float().norm(dim=1)
    if bool(((lengths - 1).abs() < 1e-3).all()) and bool((scores < 0).any()):
        raise ValueError(
            f"the model returns rows of length 1 and {scores.shape[1]} numbers, as embeddings are; "
            f"{CLASSIFIERS}: pass the classifier that stands on them."
        )
