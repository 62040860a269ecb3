"""The exercises of lesson 09, margins and priors."""

import numpy as np
import torch
import torch.nn.functional as F

from imbalkit.course.exercises.base import (
    Choice,
    Exercise,
    NotYet,
    call,
    close,
    number,
    numbers,
    recognise,
    share,
)
from imbalkit.losses import LDAMLoss


class OtherShares(Exercise):
    """One probability, moved to two other mixes of classes by hand."""

    hints = (
        "Divide each class's probability by its share in training, and multiply by its share in "
        "use. Then make the two sum to 1.",
        "In odds it is shorter. Trained on 9 to 1, B has the odds 0.3 / 0.7. What happens to them "
        "if the classes come 1 to 1?",
    )
    answer = """
        equal = 0.3 * 9 / (0.3 * 9 + 0.7)
        reversed_shares = 0.3 * 81 / (0.3 * 81 + 0.7)
    """
    why = (
        "0.794 and 0.972. The odds 0.43 become 3.9 and 34.7: each change of the shares multiplies "
        "them by 9. In logits the same is adding ln 9 = 2.2 to the difference, whatever it was."
    )

    def examine(self, equal, reversed_shares):
        first, second = number(equal), number(reversed_shares)
        unscaled = [(value, self.unscaled) for value in (1.5, 2.7, 3, 24.3)]
        recognise(first, unscaled, 0.01)
        recognise(second, unscaled, 0.01)
        first, second = share(first), share(second)
        mistakes = (
            (0.3, "With equal classes: 0.3 is what the model says already, for 9 to 1."),
            (0.3 / 6.6, "With equal classes: B is less likely than before. Is it turned around?"),
            (24.3 / 25, "With equal classes: this is the answer for B nine times as often as A."),
            (0.5, "With equal classes: 0.5 would be the answer without looking at the image."),
        )
        recognise(first, mistakes, 0.005)
        if not close(first, 2.7 / 3.4, 0.005):
            raise NotYet(f"With equal classes it is not {first:.3g}. Give three digits.")
        mistakes = (
            (0.3, "The first is right. In the second mix, 0.3 has not changed at all."),
            (2.7 / 3.4, "The first is right. The second mix is further from the training."),
            (0.3 / 6.6, "The first is right. In the second mix B comes more often, not less."),
            (0.9, "The first is right. 0.9 is B's share there, without looking at the image."),
        )
        recognise(second, mistakes, 0.005)
        if not close(second, 24.3 / 25, 0.005):
            raise NotYet(
                f"The first is right. Where B comes nine times as often, it is not {second:.3g}."
            )

    unscaled = "A probability above 1: it has its new factor. Now make those of A and B sum to 1."


class OneStep(Exercise):
    """A step of the estimate of unknown shares."""

    hints = (
        "First exchange the prior: each column times its guess, over its share in training.",
        "The rows must sum to 1 again, or images with a large factor count for more.",
        "The new guess is the mean of the rows.",
    )
    answer = """
        def next_guess(probabilities, train_shares, guess):
            adjusted = probabilities * guess / train_shares
            adjusted = adjusted / adjusted.sum(1, keepdim=True)
            return adjusted.mean(0)
    """
    afterwards = """
        p = in_use["reversed"].softmax(1)
        train_shares = torch.tensor(lab.counts) / sum(lab.counts)
        guess = train_shares
        for step in range(1, 101):
            guess = next_guess(p, train_shares, guess)
            if step in (1, 10, 100):
                print(step, [round(x, 2) for x in guess.tolist()])
    """
    why = (
        "Repeated, it is what `estimate_prior` does. The first steps do most of the work; the "
        "shares of classes that are easily confused settle last."
    )

    def examine(self, next_guess):
        for seed, (n, classes) in enumerate(((7, 4), (12, 3))):
            generator = torch.Generator().manual_seed(seed)
            p = (2 * torch.randn(n, classes, generator=generator)).softmax(1)
            train = torch.rand(classes, generator=generator) + 0.1
            guess = torch.rand(classes, generator=generator) + 0.1
            train, guess = train / train.sum(), guess / guess.sum()
            result = call(next_guess, p, train, guess)
            if getattr(result, "shape", None) == p.shape:
                raise NotYet(
                    f"The result has shape {tuple(p.shape)}, one row for each image. The new guess "
                    "has one number for each class."
                )
            self.name_mistake(numbers(result, (classes,)), p.double(), train, guess)

    def name_mistake(self, got, p, train, guess):
        def rows(values):
            return values / values.sum(1, keepdim=True)

        def is_(values):
            return close(got, values.double().numpy(), 1e-3)

        factor = guess / train
        right = rows(p * factor)
        if is_(right.mean(0)):
            return
        if is_(right.sum(0)):
            raise NotYet("The result sums to the number of images. Shares sum to 1.")
        mistakes = (
            ((p * factor).mean(0), "The rows do not sum to 1 before you take their mean."),
            (p.mean(0), "This is the mean of the old probabilities. The guess has to act on them."),
            (guess, "This is the old guess."),
            (rows(p * guess).mean(0), "The model's own prior is still in it: divide it out."),
            (rows(p / train).mean(0), "The training shares are out. The guess is not in yet."),
            (rows(p / factor).mean(0), "Guess and training shares have changed places."),
            (rows(p * train * guess).mean(0), "Divide by the training shares, not multiply."),
        )
        for wrong, message in mistakes:
            if is_(wrong):
                raise NotYet(message)
        mean_first = p.mean(0) * factor
        summed = (p * factor).mean(0)
        if is_(mean_first / mean_first.sum()) or is_(summed / summed.sum()):
            raise NotYet(
                "It sums to 1 in the end, but each image has to: an image with a large factor must "
                "not count for more than another."
            )
        decided = torch.bincount(right.argmax(1), minlength=len(guess)) / len(p)
        if is_(decided):
            raise NotYet("The decisions are counted. Take the mean of the probabilities instead.")
        raise NotYet(
            f"For {len(p)} images and {len(guess)} classes the result is {np.round(got, 3)}, and "
            f"it should be {right.mean(0).numpy().round(3)}."
        )


class Margin(Exercise):
    """Repair an LDAM loss."""

    hints = (
        "Print the margins for counts of 500 and 5. Which class should have the wider one?",
        "If the same number is taken from all logits, softmax does not notice. Whose logit has to "
        "win by a margin?",
        "The margins are max_margin * (counts.min() / counts) ** 0.25. Only the logit of the true "
        "class loses its margin: subtract a tensor that is 0 elsewhere.",
    )
    answer = """
        def ldam(cosines, targets, counts, max_margin, scale):
            margin = max_margin * (counts.min() / counts) ** 0.25
            rows = torch.arange(len(targets))
            lowered = cosines.clone()
            lowered[rows, targets] -= margin[targets]
            return F.cross_entropy(scale * lowered, targets)
    """
    why = (
        "Two faults. The margins grew with the count, and every class lost its own, which moves "
        "the decision between two classes by the difference of their margins, whatever the image. "
        "A margin asks the true class to win clearly, and asks nothing of the others."
    )

    def examine(self, ldam):
        cases = (([400, 60, 9], 0.5, 30.0), ([20, 700, 3, 90], 0.3, 8.0))
        for seed, (counts, max_margin, scale) in enumerate(cases):
            generator = torch.Generator().manual_seed(seed)
            cosines = 2 * torch.rand(9, len(counts), generator=generator) - 1
            targets = torch.arange(9) % len(counts)
            n = torch.tensor(counts)
            result = call(ldam, cosines, targets, n, max_margin, scale)
            self.name_mistake(number(result), cosines, targets, n, max_margin, scale)

    def name_mistake(self, got, cosines, targets, n, max_margin, scale):
        right = LDAMLoss(n, max_margin, scale)(cosines, targets).item()
        if close(got, right, 1e-3):
            return
        true = F.one_hot(targets, len(n))
        margin = max_margin * (n.min() / n) ** 0.25
        turned = max_margin * (n / n.max()) ** 0.25

        def is_(logits):
            return close(got, F.cross_entropy(logits, targets).item(), 1e-3)

        mistakes = (
            (scale * (cosines - turned), "Nothing has been repaired yet."),
            (
                scale * (cosines - true * turned),
                "Only the true class has a margin now. But the frequent classes have wide ones.",
            ),
            (
                scale * (cosines - margin),
                "The margins are right. But every class loses its own; only the true one should.",
            ),
            (
                scale * cosines - true * margin,
                "The margin is not multiplied by the scale, and is far too small beside the rest.",
            ),
            (cosines - true * margin, "The scale does nothing."),
            (scale * cosines, "The margin does nothing."),
            (
                scale * (cosines + true * margin),
                "The true class gets its margin as a present. It has to win by it.",
            ),
            (
                scale * (cosines - true * max_margin * n.min() / n),
                "The margins fall in proportion to the count. The power of 1/4 is missing.",
            ),
            (
                scale * (cosines - true * n**-0.25),
                "The widest margin is not `max_margin`. Scale them.",
            ),
            (scale * (cosines - true * max_margin), "All classes have the same margin."),
        )
        for wrong, message in mistakes:
            if is_(wrong):
                raise NotYet(message)
        each = F.cross_entropy(scale * (cosines - true * margin), targets, reduction="sum").item()
        if close(got, each, 1e-3):
            raise NotYet("This is the sum of the losses. Return their mean.")
        raise NotYet(
            f"For the counts {n.tolist()}, max_margin {max_margin} and scale {scale:g} the loss is "
            f"{got:.4g}, and it should be {right:.4g}."
        )


class WhatIsLeft(Exercise):
    """How much of the prior is still there after a sampler and weights, and with one too many."""

    hints = (
        "The model learns the shares in which the classes enter the loss: share of the batch times "
        "weight, normalised.",
        "Write each case as a power of the count. Batches of shares n^(1/2), weights n^(-1/4): "
        "which power is the product? That power is what tau has to take out.",
        "Balanced batches leave nothing to take out. The loss takes out n^1 all the same.",
    )
    answer = """
        tau_root = 1 / 2
        tau_both = 1 / 2 - 1 / 4
        times = 4900 / 100
    """
    why = (
        "0.5, 0.25 and 49. The first two add up to one whole correction, in several parts. The "
        "third is two whole ones: the old imbalance, turned around."
    )

    def examine(self, tau_root, tau_both, times):
        first, second, third = number(tau_root), number(tau_both), number(times)
        mistakes = (
            (0, "Square-root batches: 0 would leave the other half of the prior in."),
            (1, "Square-root batches: 1 is for images as they are. Half of it is done already."),
            (-0.5, "Square-root batches: a negative tau would put more of the prior in."),
        )
        recognise(first, mistakes, 0.01)
        if not close(first, 0.5, 0.01):
            raise NotYet(f"Square-root batches: {first:g} does not fit. Which power of n is left?")
        mistakes = (
            (0, "With the weights too: 0 would be right for weights of n^(-1/2)."),
            (0.5, "With the weights too: 0.5 is for the batches alone. The weights do a part."),
            (0.75, "With the weights too: 0.75 is for the weights alone, or their sign is turned."),
            (1, "With the weights too: 1 is for images as they are, without weights."),
            (-0.25, "With the weights too: a negative tau would put the prior in."),
            (-0.5, "With the weights too: a negative tau would put the prior in."),
        )
        recognise(second, mistakes, 0.01)
        if not close(second, 0.25, 0.01):
            raise NotYet(f"With the weights too, {second:g} does not fit. Multiply the two powers.")
        mistakes = (
            (
                1,
                "Balanced batches alone give 1. The loss then takes out a prior that is not there.",
            ),
            (
                1 / 49,
                "1/49 is how the training set has it. Which way does a second correction push?",
            ),
            (7, "7 would be square-root batches with a tau of 1."),
            (2401, "2401 counts both corrections. The first one has a real imbalance to take out."),
        )
        recognise(third, mistakes, 0.01)
        if not close(third, 49, 0.01):
            raise NotYet(
                f"{third:g} times does not fit. How often do the classes come, 4,900 to 100?"
            )


class InUse(Choice):
    """What to add in use to a model trained with balanced softmax."""

    right = "c"
    wrong = {
        "a": "Then it answers as if both classes came equally often. Of 100 images 99 are sound.",
        "b": "This takes the training prior out. The loss has done that already: twice.",
        "d": "This takes a prior out that was never in. Rare images would gain even more.",
    }
    hints = (
        "Which shares does a model expect that was trained with balanced softmax?",
        "Logits + ln of the shares in use - ln of the shares that the model expects.",
    )
    answer = 'choice = "c"'
    why = (
        "The model expects equal shares, whose logarithm is the same for both classes. So the "
        "shares in use are all there is to add. With `adjust_logits` the training prior is ones."
    )


q1 = OtherShares()
q2 = OneStep()
q3 = Margin()
q4 = WhatIsLeft()
q5 = InUse()
