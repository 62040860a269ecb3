"""The exercises of lesson 12, your own data."""

import numpy as np
import torch

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


class Prices(Exercise):
    """A threshold from two prices, and what both answers cost at one probability."""

    hints = (
        "Write down what an alarm costs on average if the probability is p, and what silence "
        "costs. Where are they equal?",
        "An alarm is in vain with probability 1 - p; silence is wrong with probability p.",
        "The threshold is 5 / (5 + 45). At p = 0.2 an alarm costs 0.8 times 5.",
    )
    answer = """
        threshold = 5 / (5 + 45)
        alarm = (1 - 0.2) * 5
        silence = 0.2 * 45
    """
    why = (
        "0.1, 4 and 9. At p = 0.2, twice the threshold, the alarm is less than half as expensive, "
        "although the part is most probably sound."
    )

    def examine(self, threshold, alarm, silence):
        t = share(threshold)
        recognise(
            t,
            (
                (0.9, "This is the probability of being sound above which silence pays."),
                (5 / 45, "This is the ratio of the prices. Solve (1 - p) 5 = p 45 for p."),
                (0.5, "One half is the threshold if both errors cost the same."),
            ),
            0.005,
        )
        if not close(t, 0.1, 0.005):
            raise NotYet(f"At p = {t:g} an alarm costs {5 * (1 - t):.3g} and silence {45 * t:.3g}.")
        costs = np.array([number(alarm), number(silence)])
        mistakes = (
            ([9, 4], "Are the two swapped?"),
            ([1, 9], "An alarm costs money when the part is sound, with probability 0.8."),
            ([4, 36], "Silence costs money when the part is cracked, with probability 0.2."),
            ([5, 45], "These are the prices of the errors. How often does each occur?"),
        )
        recognise(costs, mistakes, 0.005)
        for name, got, wanted in zip(("alarm", "silence"), costs, (4, 9), strict=True):
            if not close(got, wanted, 0.005):
                raise NotYet(f"The mean cost of {name} at p = 0.2 is not {got:g}.")


class RealShares(Exercise):
    """What a probability for balanced classes is worth where the class is rare."""

    hints = (
        "Each probability is multiplied by the share of its class. They must then sum to 1.",
        "0.9 x 0.02 for the frog, 0.1 x 0.98 for the rest.",
    )
    answer = "probability = 0.9 * 0.02 / (0.9 * 0.02 + 0.1 * 0.98)"
    why = (
        "0.155. Of six such pictures five show no frog. It is still three times the threshold "
        "of 1/21, so an alarm is right: with these prices a look at all six is cheap."
    )

    def examine(self, probability):
        p = share(probability)
        mistakes = (
            (0.9, "This is the answer for balanced classes, as it came."),
            (0.018, "Two products are needed, and their sum is not 1 yet: divide by it."),
            (0.02, "This is the share alone; the picture does not count in it."),
            (1 - 18 / 116, "This is the probability of no frog."),
            (0.9 / 0.02 / (0.9 / 0.02 + 0.1 / 0.98), "Multiply by the shares, and do not divide."),
        )
        recognise(p, mistakes, 0.004)
        if not close(p, 18 / 116, 0.005):
            raise NotYet(f"It is not {p:.3g}. Give three digits, of a share between 0 and 1.")


class EveryPrice(Exercise):
    """The cheapest answer where each pair of classes has its own price."""

    hints = (
        "What does it cost on average to decide class k? Sum over the true classes.",
        "The mean cost of deciding k is the sum over c of p_c times price[c, k]: a product of a "
        "matrix with a matrix.",
        "Take the class with the lowest mean cost, for each image.",
    )
    answer = """
        def cheapest(probabilities, price):
            return (probabilities @ price).argmin(1)
    """
    afterwards = """
        price = torch.ones(len(names), len(names)) - torch.eye(len(names))
        price[costly] *= miss
        probabilities = best.probabilities(test.images)
        decided = cheapest(probabilities, price)
        print("recall of each class:", recalls(decided, test).numpy().round(2))
    """
    why = (
        "With a price of 1 for every error it is the most probable class. With two classes and "
        "two prices it is the threshold of this lesson. One product serves every table of prices."
    )

    def examine(self, cheapest):
        generator = torch.Generator().manual_seed(3)
        for n, classes in ((40, 3), (25, 5)):
            p = torch.rand(n, classes, generator=generator) ** 2
            p = p / p.sum(1, keepdim=True)
            price = 10 * torch.rand(classes, classes, generator=generator)
            price[0] *= 4
            price.fill_diagonal_(0)
            got = numbers(call(cheapest, p, price), (n,))
            mistakes = (
                ((p @ price.T).argmin(1), "Price has a row for each true class: is it turned?"),
                ((p @ price).argmax(1), "These are the dearest answers."),
                (p.argmax(1), "These are the most probable classes; the prices do nothing."),
                ((p * price.sum(1)).argmax(1), "The sum over a row is one price per true class. "
                 "What an error costs also depends on the class that is decided."),
            )  # fmt: skip
            for wrong, message in mistakes:
                if np.array_equal(got, wrong.numpy()):
                    raise NotYet(message)
            wanted = (p @ price).argmin(1).numpy()
            if not np.array_equal(got, wanted):
                raise NotYet(
                    f"{int((got != wanted).sum())} of {n} answers are not the cheapest, with "
                    f"{classes} classes."
                )


class WhichSplit(Choice):
    """Good on the test set, bad in use: which explanation fits what was seen?"""

    right = "c"
    wrong = {
        "a": "The recall on the test set was high, with the same temperature. A temperature "
        "changes no prediction, so it can explain no lost recall.",
        "b": "Then the test recall would be low as well: the test images come from the same two "
        "cameras and the same split.",
        "d": "Other shares move probabilities and with them the precision. But the recall of a "
        "class is counted among its own images, however rare they are.",
    }
    hints = (
        "What do the test images share with the training images that images in use do not?",
        "Bursts: what stands in the test set for a picture that was trained on?",
    )
    answer = 'choice = "c"'
    why = (
        "Images of one burst stood on both sides, so the test set measured memory. In a split by "
        "bursts, better by camera, the recall would have been low before the model was used."
    )


class HowMany(Exercise):
    """How sure a recall from few images is, and how many are needed."""

    hints = (
        "The standard deviation of a recall r from k images is about the square root of "
        "r (1 - r) / k.",
        "Solve sqrt(0.8 x 0.2 / k) = 0.02 for k.",
    )
    answer = """
        deviation = (0.8 * 0.2 / 16) ** 0.5
        images_needed = 0.8 * 0.2 / 0.02**2
    """
    why = (
        "0.1, and 400 images. A fifth of the deviation needs twenty-five times the images. With "
        "16 of them, two models at 0.75 and 0.85 cannot be told apart."
    )

    def examine(self, deviation, images):
        d = share(deviation)
        mistakes = (
            (0.01, "This is the variance. Take the square root."),
            (0.4, "This is the deviation for a single image: divide by the root of their number."),
            (0.025, "Divide by the root of 16, not by 16."),
            ((0.8 / 16) ** 0.5, "The factor 1 - r is missing."),
        )
        recognise(d, mistakes, 0.01)
        if not close(d, 0.1, 0.01):
            raise NotYet(f"The deviation is not {d:.3g}. Put r = 0.8 and k = 16 into the formula.")
        k = number(images)
        mistakes = (
            (8, "Divide by the square of 0.02."),
            (80, "Five times as sure needs more than five times the images."),
            (20, "The deviation falls with the root of k: is a root or a square missing?"),
        )
        recognise(k, mistakes, 0.01)
        if not close(k, 400, 0.01):
            left = (0.16 / k) ** 0.5 if k > 0 else float("inf")
            raise NotYet(f"With {k:g} images the deviation would be {left:.3g}, not 0.02.")


q1 = Prices()
q2 = RealShares()
q3 = EveryPrice()
q4 = WhichSplit()
q5 = HowMany()
