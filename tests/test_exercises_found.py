"""Answers that readers gave and that were judged wrongly once."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import expect_not_yet
from torch import nn
from torchvision.transforms import v2

from imbalkit.course.exercises import (
    lesson01,
    lesson02,
    lesson03,
    lesson04,
    lesson05,
    lesson06,
    lesson07,
)
from imbalkit.course.exercises.base import NotYet, number, numbers
from imbalkit.sampling import draw_per_class

MEAN, STD = [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]


def standardise(images, mean, std):
    mean, std = (torch.tensor(x).reshape(3, 1, 1) for x in (mean, std))
    return (images.permute(0, 3, 1, 2) / 255 - mean) / std


def mode_afterwards(model, optimizer, images, labels):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.step()
    model.train()
    return loss.item()


class NeverEval(nn.Module):
    """Refuses train(), and was never put in evaluation mode."""

    def __init__(self, features):
        super().__init__()
        self.features = features.requires_grad_(False).train()

    def forward(self, images):
        return self.features(images)

    def train(self, mode=True):
        return super().train(False)


class NoMomentum(NeverEval):
    """As above, but its running statistics stand still from the start."""

    def __init__(self, features):
        super().__init__(features)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.0


def half_detached(logits, predicted, targets, share):
    half = 0.5 * predicted + 0.5 * predicted.detach()
    ce = F.cross_entropy(logits, targets, reduction="none")
    d = ce.detach()
    return ce.mean() + share * F.mse_loss(half, (d - d.mean()) / d.std(correction=0))


def never_power_0(counts, power):
    weight = counts.double() ** -(power or 1)
    return weight * counts.sum() / (counts * weight).sum()


def in_place(logits, targets, gamma, weight):
    loss = F.cross_entropy(logits, targets, reduction="none")
    f = torch.exp(-loss)
    f *= -1
    f += 1
    return (weight[targets] * f**gamma * loss).sum() / weight[targets].sum()


def in_a_list(*arguments):
    return [lesson04.reference(*arguments)]


def memory_shared(logits, predicted, targets, share):
    ce = F.cross_entropy(logits, targets, reduction="none")
    d = ce.detach()
    d -= d.mean()
    d /= d.std(correction=0)
    return ce.mean() + share * F.mse_loss(predicted, d)


def head_normalised(logits, predicted, targets, share):
    ce = F.cross_entropy(logits, targets, reduction="none")
    d = ce.detach()
    d = (d - d.mean()) / d.std(correction=0)
    predicted = (predicted - predicted.mean()) / predicted.std()
    return ce.mean() + share * F.mse_loss(predicted, d)


def by_turn(images, turns):
    return torch.cat([images[turns == k].rot90(k, (2, 3)) for k in range(4)])


def per_class(labels, patients):
    return [torch.ones(int((labels == c).sum())) for c in labels.unique()]


def first_class_held_out(labels, n):
    members = (labels == 0).nonzero().flatten()
    return split_by(labels, members[torch.randperm(len(members))[:n]])


def equally_spaced(labels, n):
    return split_by(labels, torch.arange(0, len(labels), len(labels) // n)[:n])


def split_by(labels, held_out):
    rest = torch.tensor(sorted(set(range(len(labels))) - set(held_out.tolist())))
    counts = torch.bincount(labels[rest])
    copies = draw_per_class(labels[rest], [int(counts.max())] * len(counts))
    return rest[copies], held_out


JITTER_CLAMPS = v2.Compose(
    [v2.ToImage(), v2.ToDtype(torch.float32), v2.ColorJitter(0.2), v2.Normalize(MEAN, STD)]
)

ANSWERS = [
    (lesson01.q1, (2, 0.33, 3, 0.3), "not exp of the entropy"),
    (lesson01.q2, (0.325, 0.313, np.inf), "is the loss with one softmax"),
    (lesson01.q3, (mode_afterwards,), "before them"),
    (lesson02.q2, (lambda x: x.var(1, correction=0),), "Return two numbers"),
    (lesson02.q2, (lambda x: (None, 1.0),), "still blank"),
    (lesson02.q2, (lambda x: (x.std(1).mean() * 0 + x.var(1).mean().sqrt(), x.mean(1).std()),),
     "standard deviations"),
    (lesson02.q2, (lambda x: (x.mean(1).var(), x.var(1).mean()),), "swapped"),
    (lesson02.q3, (JITTER_CLAMPS,), "came out white"),
    (lesson02.q4, (lambda x, m, s: standardise(x.flip(3), m[::-1], s[::-1]),), "blue's constants"),
    (lesson02.q4, (lambda x, m, s: standardise(x, m[::-1], s[::-1]),), "constants turned"),
    (lesson03.q1, (0.6, 5, 0.5), "three digits"),
    (lesson03.q2, (never_power_0,), "At power 0"),
    (lesson03.q5, (1, 1, 2.9), "three digits"),
    (lesson03.q5, (1, 1, 9), "over the sum of weights"),
    (lesson04.q1, (0.25, 1.707, 1770), "other root"),
    (lesson04.q3, (in_place,), "no gradient"),
    (lesson04.q3, (in_a_list,), "without brackets"),
    (lesson05.q2, (equally_spaced,), "equally spaced"),
    (lesson05.q2, (first_class_held_out,), "of one class"),
    (lesson05.q3, (per_class,), "one weight"),
    (lesson06.q3, (NeverEval,), "statistics of BatchNorm have moved"),
    (lesson06.q3, (NoMomentum,), "before anybody calls"),
    (lesson06.q5, (0.5, 0.5, 0.985), "Which ratio"),
    (lesson06.q5, (0.5, 0.5, 0.995), "small share"),
    (lesson07.q1, ([-0.62, None, -0.49, 1.73], [1, 2, 3, 4]), "still blank"),
    (lesson07.q2, (memory_shared,), "shares memory"),
    (lesson07.q2, (head_normalised,), "Only the target"),
    (lesson07.q2, (half_detached,), "another gradient"),
    (lesson07.q5, (by_turn,), "another order"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("exercise", "answer", "words"),
    ANSWERS,
    ids=[f"{i}-{a[2][:20]}" for i, a in enumerate(ANSWERS)],
)
def test_the_mistake_is_named(exercise, answer, words):
    expect_not_yet(exercise, answer, words)


def test_a_wrong_number_of_answers_is_an_error():
    with pytest.raises(TypeError, match="checks 3 answers at once, got 2"):
        lesson03.q1.feedback(1, 2)


@pytest.mark.parametrize("odd", [10**400, b"2", 2 + 0j, np.array("2"), torch.tensor(True)])
def test_what_is_no_number(odd):
    with pytest.raises(NotYet, match="number is wanted"):
        number(odd)


def test_numbers_may_be_mixed():
    assert numbers([torch.tensor(1.0), 0.5, np.float32(2)], (3,)).tolist() == [1, 0.5, 2]


def test_a_long_error_message_is_cut():
    def fails(logits, weight):
        raise ValueError("x " * 5000)

    assert len(lesson03.q3.feedback(fails).message) < 500
