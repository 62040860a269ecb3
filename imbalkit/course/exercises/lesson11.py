"""The exercises of lesson 11, putting it together."""

import numpy as np
import torch

from imbalkit.checks import to_numpy
from imbalkit.course.exercises.base import (
    Choice,
    Exercise,
    NotYet,
    call,
    close,
    kind,
    number,
    numbers,
    recognise,
    share,
)


class WhatMayBeAdded(Choice):
    """Which of four additions leaves the prior corrected once?"""

    right = "c"
    wrong = {
        "a": "Balanced batches have corrected the prior. Balanced softmax would take it out of the "
        "training images' counts once more.",
        "b": "After balanced batches the model expects equal classes. Adjusting by the counts of "
        "the training images takes out a prior that it does not have.",
        "d": "The batches stay balanced in the last epochs. Weights on top make the rare classes "
        "count for more than the frequent ones.",
    }
    hints = (
        "For each: which shares of the classes does the model expect before, and which after?",
        "Three of the four change the prior of a model that is balanced already.",
    )
    answer = 'choice = "c"'
    why = (
        "Late weights correct the prior of the second model, and balanced batches that of the "
        "first. Each is corrected once. The mean of their probabilities changes no prior: it is "
        "the third kind of remedy, more training."
    )


class EnoughImages(Exercise):
    """How far a rare recall strays by chance, and how many images would make it steady."""

    hints = (
        "The variance of one class's recall is r (1 - r) / n. Which variances do you have here?",
        "Add the three variances, take the root, and divide by the number of classes, 3.",
        "With n images of each, the error is the root of 3 x 0.25 / n, divided by 3. Solve "
        "0.02 = that for n.",
    )
    answer = """
        error = (0.25 / 5 + 0.25 / 8 + 0.25 / 14) ** 0.5 / 3
        images = 3 * 0.25 / (3 * 0.02) ** 2
    """
    why = (
        "0.105, and about 208 images of each. A standard error of ten points hides any difference "
        "between two epochs. For two points one needs some 200 images of each class, and the error "
        "halves with four times as many."
    )

    def examine(self, error, images):
        value = share(error)
        mistakes = (
            (0.3148, "This is the error of the sum of the three recalls. You want their mean."),
            (0.1818, "Here the root of the summed variances is divided by the root of 3."),
            (0.0991, "This is the sum of the three variances: an error is a root."),
            (0.0110, "This is a variance: the standard error is its root."),
            (0.0962, "This pools the 27 images. The mean recall counts each class alike instead."),
            (0.1780, "This is the mean of the three errors. Chance in one class partly makes up "
             "for chance in another, so variances are added, and not errors."),
        )  # fmt: skip
        recognise(value, mistakes, 0.004)
        if not close(value, 0.10494, 0.006):
            raise NotYet(f"The error of the mean recall is not {value:.4g}.")
        count = number(images)
        mistakes = (
            (625, "The error is right. 625 images of one class give 0.02 for its own recall. "
             "The mean of three is steadier."),
            (69.4, "The error is right. 69 of each would do if three classes had the variance of "
             "one. The variances add up before you divide."),
            (12.5, "The error is right. 12.5 is 0.25 / 0.02; the error goes with the root of n."),
            (4.17, "The error is right. In the second part, too, the error is a root."),
        )  # fmt: skip
        recognise(count, mistakes, 0.01)
        if not 207.5 <= count <= 209.5:
            if count <= 0:
                raise NotYet(f"The error is right. {count:g} images give no recall at all.")
            raise NotYet(
                f"The error is right. With {count:g} images of each class the error of the mean "
                f"would be {(0.75 / count) ** 0.5 / 3:.3g}; it is to be 0.02."
            )


class BalancedEnsemble(Exercise):
    """The mean of members that expect different priors, each brought to equal classes first."""

    hints = (
        "A member's probabilities contain the shares it expects. How did lesson 09 take them out?",
        "Subtract the logarithm of the member's prior from its logits, then softmax. Do so for "
        "each member before any mean.",
        "The mean is taken over the members' adjusted probabilities, so that each member's row has "
        "the sum 1 when it enters.",
    )
    answer = """
        def balanced_ensemble(member_logits, priors):
            adjusted = [x - p.log() for x, p in zip(member_logits, priors, strict=True)]
            return torch.stack([x.softmax(1) for x in adjusted]).mean(0)
    """
    why = (
        "Each member now answers for equal classes, so the mean does too. A member that was "
        "trained with a balanced loss has equal shares as its prior, and stays as it is."
    )

    def examine(self, balanced_ensemble):
        for members, images, classes, seed in ((2, 5, 3, 0), (3, 4, 4, 1), (1, 6, 2, 2)):
            logits, priors = descended(members, images, classes, seed)
            got = numbers(call(balanced_ensemble, logits, priors), (images, classes))
            if not close(got, wanted_mean(logits, priors), 1e-3):
                self.name_mistake(got, logits, priors)

    def name_mistake(self, got, logits, priors):
        logits, priors = torch.stack(logits).double(), torch.stack(priors).double()[:, None]
        p, adjusted = logits.softmax(2), logits - priors.log()
        mean_prior = priors.mean(0)
        rest = p / priors
        mistakes = (
            (p.mean(0), "The priors are still in: this is the plain mean of the probabilities."),
            ((logits + priors.log()).softmax(2).mean(0), "The priors are put in once more. They "
             "are to be taken out: is the sign turned?"),
            ((logits - priors).softmax(2).mean(0), "The shares are subtracted from the logits. "
             "Logits are logarithms."),
            ((logits / priors).softmax(2).mean(0), "The logits are divided by the shares. It is "
             "the probabilities that contain them as a factor."),
            (adjusted.mean(0).softmax(1), "The priors are out. But this is the mean of the logits, "
             "and the mean of the probabilities is wanted."),
            (adjusted.mean(0), "These are logits; probabilities are wanted, and their mean."),
            (rest.mean(0), "The rows do not sum to 1: probabilities divided by shares have to be "
             "normalised, and each member's for itself."),
            (rest.sum(0) / rest.sum(0).sum(1, keepdim=True), "The members are normalised together. "
             "A member whose rows sum to more then counts for more: normalise each before the "
             "mean."),
            (normalised(p.mean(0) / mean_prior), "Here the mean comes first, and then one prior "
             "for all is taken out. Each member has its own."),
            (normalised(p.mean(0) / priors[0]), "The first member's prior is taken out of all."),
            (adjusted.softmax(2).sum(0), "This is the sum over the members, and not the mean."),
            (adjusted[0].softmax(1), "This is the first member alone."),
        )  # fmt: skip
        recognise(got, [(wrong.numpy(), words) for wrong, words in mistakes], 1e-3)
        if not close(got.sum(1), 1, 1e-3):
            raise NotYet(f"The first row sums to {got[0].sum():.3f}; probabilities sum to 1.")
        right = adjusted.softmax(2).mean(0)[0].numpy().round(3)
        raise NotYet(
            f"With {len(logits)} members the first row should be {right.tolist()}, and it is "
            f"{got[0].round(3).tolist()}."
        )


def descended(members: int, images: int, classes: int, seed: int):
    """Logits and priors of members; the second prior, where there is one, is that of equal
    classes."""
    generator = torch.Generator().manual_seed(seed)
    logits = [3 * torch.randn(images, classes, generator=generator) for _ in range(members)]
    priors = [torch.rand(classes, generator=generator) ** 2 + 0.02 for _ in range(members)]
    priors[1:2] = [torch.ones(classes)] if members > 1 else []
    return logits, [prior / prior.sum() for prior in priors]


def wanted_mean(logits, priors) -> np.ndarray:
    adjusted = [(x - p.log()).softmax(1) for x, p in zip(logits, priors, strict=True)]
    return torch.stack(adjusted).mean(0).double().numpy()


def normalised(values: torch.Tensor) -> torch.Tensor:
    return values / values.sum(1, keepdim=True)


class WorthALook(Exercise):
    """The methods that no other one beats in cost and accuracy."""

    hints = (
        "Compare each method with each other one: is there one that takes no more minutes and is "
        "no less accurate, and not equal in both?",
        "Sort the positions by minutes first, and among equally cheap ones by accuracy, the higher "
        "first. Walk through them.",
        "With `any(...)` over all other methods: minutes[j] <= minutes[i] and accuracy[j] >= "
        "accuracy[i] and (minutes[j], accuracy[j]) != (minutes[i], accuracy[i]).",
    )
    answer = """
        def worth_a_look(minutes, accuracy):
            rows = list(zip(minutes, accuracy, strict=True))

            def beaten(row):
                return any(m <= row[0] and a >= row[1] and (m, a) != row for m, a in rows)

            left = [i for i, row in enumerate(rows) if not beaten(row)]
            return sorted(left, key=lambda i: minutes[i])
    """
    afterwards = """
        for i in worth_a_look(means["minutes"].tolist(), means["balanced accuracy"].tolist()):
            print(means.index[i])
    """
    why = (
        "What is left is what a budget chooses from: for each budget the last method that it can "
        "pay. The others need no second look, as far as these two columns and this data go."
    )
    CASES = (
        ([3, 1, 2, 5], [0.7, 0.5, 0.6, 0.65]),
        ([1, 1, 2, 2, 4], [0.5, 0.6, 0.6, 0.7, 0.9]),
        ([9, 3, 3, 6], [0.8, 0.4, 0.4, 0.3]),
        ([2.5], [0.1]),
        ([5, 4, 3, 2, 1], [0.9, 0.8, 0.7, 0.6, 0.5]),
    )

    def examine(self, worth_a_look):
        for minutes, accuracy in self.CASES:
            got = positions(call(worth_a_look, minutes, accuracy), len(minutes))
            right = undominated(minutes, accuracy)
            if got != right:
                self.name_mistake(got, right, minutes, accuracy)

    def name_mistake(self, got, right, minutes, accuracy):
        seen = f"minutes {minutes} and accuracies {accuracy}"
        if got == [i + 1 for i in right]:
            raise NotYet("Every position is one too high: in Python the first one is 0.")
        if sorted(got) == sorted(right):
            raise NotYet(
                f"The right methods are left, in the order {got}; the cheapest is to be first, and "
                f"of equally cheap ones the one that comes first in the lists. It was for {seen}."
            )
        extra = [i for i in got if i not in right]
        if extra:
            i = extra[0]
            j = next(j for j in right if minutes[j] <= minutes[i] and accuracy[j] >= accuracy[i])
            raise NotYet(
                f"Position {i} is left for {seen}, though position {j} takes {minutes[j]} minutes, "
                f"no more than {minutes[i]}, and reaches {accuracy[j]}, no less than {accuracy[i]}."
            )
        i = next(i for i in right if i not in got)
        raise NotYet(
            f"Position {i} is missing for {seen}. No other method beats it: each is dearer or less "
            "accurate, or equal in both."
        )


def undominated(minutes, accuracy) -> list[int]:
    rows = list(zip(minutes, accuracy, strict=True))
    left = [
        i
        for i, row in enumerate(rows)
        if not any(m <= row[0] and a >= row[1] and (m, a) != row for m, a in rows)
    ]
    return sorted(left, key=lambda i: minutes[i])


def positions(answer, length: int) -> list[int]:
    """A list of positions, however it is held, or what is wrong with it."""
    if isinstance(answer, set | frozenset):
        raise NotYet("A set has no order; return a list.")
    try:
        values = to_numpy([to_numpy(x).item() for x in answer])
    except (TypeError, ValueError, RuntimeError):
        raise NotYet(f"A list of positions is wanted here, not {kind(answer)}.") from None
    if values.dtype.kind == "b":
        raise NotYet("These are truth values; return the positions of the methods that are left.")
    if values.size and (values.dtype.kind not in "iuf" or (values != values.astype(int)).any()):
        raise NotYet("Positions are whole numbers; are these the minutes or accuracies?")
    found = [int(x) for x in values]
    outside = [i for i in found if not 0 <= i < length]
    if outside:
        raise NotYet(
            f"{outside[0]} is no position in a list of {length}: they run from 0 to {length - 1}."
        )
    if len(set(found)) < len(found):
        raise NotYet(f"The positions {found} name a method twice.")
    return found


class WhatMayYouWrite(Choice):
    """Which sentence do five rows of a report support?"""

    right = "c"
    wrong = {
        "a": "Method A shows the best of 12 settings, chosen on the same test images. That alone "
        "lifts a score, and the two rows are closer than their deviations.",
        "b": "The ensemble has three trainings, and method B in that row one.",
        "d": "The two rows differ by less than their deviations. Neither is shown to be better.",
    }
    hints = (
        "For each sentence: do the rows compare equal costs, and is the difference larger than "
        "the deviations?",
        "Who was chosen on the test images? Who has one training, and who has three?",
    )
    answer = 'choice = "c"'
    why = (
        "Both rows with three trainings of method B lie about three points above the row with one, "
        "several deviations away. Which of the two to take is a question of use: the longer "
        "training answers with one network, the ensemble needs three."
    )


q1 = WhatMayBeAdded()
q2 = EnoughImages()
q3 = BalancedEnsemble()
q4 = WorthALook()
q5 = WhatMayYouWrite()
