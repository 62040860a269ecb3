"""The exercises of lesson 05, sampling."""

from collections import Counter

import numpy as np
import torch

from imbalkit.checks import to_numpy
from imbalkit.course.exercises.base import (
    Exercise,
    NotYet,
    call,
    close,
    letter,
    number,
    numbers,
    recognise,
    share,
)


class Views(Exercise):
    """How often an image comes up in an epoch, and how likely it does not at all."""

    hints = (
        "First the draws of a class: its share of the batch times 9,100. They are spread over the "
        "images of the class.",
        "The square-root shares are in the ratio 94.9 : 10. Divide each by the sum of both.",
        "One draw misses an image of A with probability 1 - 0.5 / 9000. Now 9,100 draws in a row.",
    )
    answer = """
        views_a = 0.5 * 9100 / 9000
        views_b = 0.5 * 9100 / 100
        views_b_root = 100**0.5 / (9000**0.5 + 100**0.5) * 9100 / 100
        never_a = (1 - 0.5 / 9000) ** 9100
    """
    afterwards = """
        for epochs_so_far in (1, 3, 10):
            unseen = (1 - 0.5 / 9000) ** (9100 * epochs_so_far)
            print(f"after {epochs_so_far:2} epochs {unseen:.1%} of A have not been seen")
    """
    why = (
        "0.506 views of an image of A, 45.5 of one of B, and 8.68 under square-root sampling. In a "
        "balanced epoch 60 % of the images of A are not seen at all. That is more than the half "
        "one might expect, because some of the others come twice."
    )

    def examine(self, views_a, views_b, views_b_root, never_a):
        self.balanced(number(views_a), number(views_b))
        self.square_root(number(views_b_root))
        unseen = share(never_a)
        if close(unseen, 0.397, 0.005):
            raise NotYet("The fourth number is the share that is seen.")
        if close(unseen, 1 - 4550 / 9000, 0.005):
            raise NotYet(
                "The fourth number would be right without repeats. Some images are drawn twice, "
                "so fewer are seen."
            )
        if not close(unseen, (1 - 0.5 / 9000) ** 9100, 0.01):
            raise NotYet("The fourth number: the probability to be missed by all 9,100 draws.")

    def balanced(self, a, b):
        if close(a, 45.5, 0.015) and close(b, 4550 / 9000, 0.015):
            raise NotYet("The first two numbers are swapped: A has many images for its draws.")
        for place, views, images in (("first", a, 9000), ("second", b, 100)):
            if close(views, 4550, 0.01):
                raise NotYet(f"The {place} number counts the draws of the class, not of an image.")
            if close(views, 9100 / images, 0.01):
                raise NotYet(f"The {place} number gives all draws to one class. It has half.")
            if close(views, 1, 0.01):
                raise NotYet(f"The {place} number: once each is the epoch without a sampler.")
            if close(views, images / 4550, 0.01):
                raise NotYet(f"The {place} number is upside down: views are draws over images.")
            if views == 0.5:
                raise NotYet(f"The {place} number: 0.5 is the share of the class in a batch.")
            if not close(views, 4550 / images, 0.011):
                raise NotYet(f"The {place} number: 4,550 draws, spread over {images:,} images.")

    def square_root(self, b):
        root_a, root_b = 9000**0.5, 100**0.5
        right = root_b / (root_a + root_b) * 91
        if close(b, 100 * right, 0.01):
            raise NotYet("The third number counts the draws of the class, not of an image.")
        if close(b, root_b / root_a * 91, 0.01):
            raise NotYet("The third number uses the ratio of B to A. Its share is B to both.")
        if close(b, 45.5**0.5, 0.01):
            raise NotYet("The third number: the root belongs to the counts, not to the views.")
        if close(b, root_a / (root_a + root_b) * 91, 0.01):
            raise NotYet("The third number uses the share of A, or the power -1/2.")
        if not close(b, right, 0.01):
            raise NotYet("The third number: which share has B, if the shares are as the roots?")


class SplitFirst(Exercise):
    """Over-sampling that does not leak into the validation part."""

    hints = (
        "Two steps: divide the positions 0 to N - 1 at random, then repeat only those of the "
        "training part.",
        "torch.randperm(len(labels)) gives the positions in random order. draw_per_class wants the "
        "labels of the part that it draws from.",
        "What draw_per_class(labels[train], ...) returns are positions within train. "
        "train[those] are positions in the whole set.",
    )
    answer = """
        def split(labels, n_validation):
            order = torch.randperm(len(labels))
            validation, train = order[:n_validation], order[n_validation:]
            counts = torch.bincount(labels[train])
            copies = sampling.draw_per_class(labels[train], [counts.max()] * len(counts))
            return train[copies], validation
    """
    why = (
        "Split first, then sample. The validation part has each of its images once, in the mix of "
        "the classes as it is, and none of them is trained on. In cross-validation the same holds "
        "for each fold."
    )

    def examine(self, split):
        generator = torch.Generator().manual_seed(5)
        mixed = torch.arange(3).repeat_interleave(torch.tensor([120, 40, 18]))
        mixed = mixed[torch.randperm(len(mixed), generator=generator)]
        in_order = torch.arange(4).repeat_interleave(torch.tensor([100, 18, 48, 24]))
        # So many that chance does not put one class alone into the validation part.
        for labels, n_validation in ((mixed, 60), (in_order, 40)):
            parts = call(split, labels, n_validation)
            try:
                train, validation = parts
            except (TypeError, ValueError):
                raise NotYet("Return two parts: the training and the validation images.") from None
            train, validation = positions(train, labels), positions(validation, labels)
            if mistake := leak_or_gap(train, validation, labels, n_validation):
                if not leak_or_gap(validation, train, labels, n_validation):
                    mistake = "The parts are swapped: return the training part first."
                raise NotYet(mistake)


def positions(part, labels) -> list[int]:
    """A list, set, array or tensor of positions in `labels` as a list, or what is wrong."""
    try:
        values = to_numpy(list(part) if isinstance(part, set) else part)
    except (TypeError, ValueError):
        values = np.array(None)
    if values.dtype == object or values.ndim != 1 or not values.size:
        raise NotYet("Each part is to be a list or a tensor of positions, and not an empty one.")
    if not np.issubdtype(values.dtype, np.integer):
        raise NotYet(f"Positions are whole numbers; a part has the type {values.dtype}.")
    if values.min() < 0 or values.max() >= len(labels):
        raise NotYet(
            f"There are {len(labels)} images, and a position runs from {values.min()} to "
            f"{values.max()}."
        )
    return values.tolist()


def leak_or_gap(train, validation, labels, n_validation) -> str | None:
    """What is wrong with a split, or None."""
    n, trained, held_out = len(labels), set(train), set(validation)
    if trained | held_out <= set(labels.tolist()):
        return "These look like labels. Return positions in `labels`."
    if trained <= set(range(n - n_validation)) and trained & held_out and len(trained) > n // 2:
        return (
            f"The training part has no position above {max(trained)}, of {n}. Are these positions "
            "within the training part? Look them up in it, to have positions in the whole set."
        )
    if both := trained & held_out:
        return (
            f"{len(both)} of the {len(held_out)} different validation images are trained on as "
            "well. Which step comes first?"
        )
    if len(held_out) < len(validation):
        return "The validation part shows some images more than once: is it over-sampled, too?"
    if len(validation) != n_validation:
        return f"The validation part has {len(validation)} images; {n_validation} were asked for."
    if held_out in (set(range(n_validation)), set(range(n - n_validation, n))):
        return (
            "The validation part is one end of the file, in its order. That may be one camera or "
            "one class. Draw it at random."
        )
    steps = set(np.diff(sorted(held_out)).tolist())
    if len(steps) == 1:
        return "The validation images are equally spaced in the file. Draw them at random."
    if len(set(labels[validation].tolist())) == 1:
        return "All validation images are of one class. Draw them at random, from all images."
    if unused := n - len(trained | held_out):
        return f"{unused} of the {n} images are in neither part: thrown away, or not drawn."
    counts = Counter(labels[train].tolist())
    if len(set(counts.values())) > 1:
        return (
            "In the training part the classes come "
            f"{[counts[c] for c in sorted(counts)]} times. They are to come equally often."
        )
    return None


class PatientsAndClasses(Exercise):
    """Image weights for equal classes, and in each class equal patients."""

    hints = (
        "Divide a whole into parts: first among the classes, then among the patients of a class, "
        "then among the images of a patient.",
        "So the weight of an image is 1 / (patients of its class x images of its patient). "
        "torch.bincount(patients)[patients] is the second factor.",
        "Or in two steps. w = 1 / images of the patient makes the patients equal. Then divide by "
        "the sum of w in the class: torch.bincount(labels, weights=w)[labels].",
    )
    answer = """
        def fair_weights(labels, patients):
            w = 1 / torch.bincount(patients)[patients]  # all patients equal
            return w / torch.bincount(labels, weights=w)[labels]  # and then all classes
    """
    afterwards = """
        ill = torch.tensor([0] * 95 + [1] * 5)  # class of each image
        patient = torch.tensor([0] * 80 + [1] * 10 + [2] * 5 + [3] * 4 + [4])
        fair = WeightedRandomSampler(fair_weights(ill, patient), num_samples=1000)
        drawn = torch.tensor(list(fair))
        print("classes ", torch.bincount(ill[drawn]).tolist())
        print("patients", torch.bincount(patient[drawn]).tolist())
    """
    why = (
        "A sampler balances whatever you can count. With equal classes only, a patient with many "
        "images would stand for the whole class. The price is the lesson's: the single image of a "
        "patient comes up very often."
    )

    def examine(self, fair_weights):
        cases = (
            ([0, 1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1], [0, 3, 0, 1, 4, 0, 2, 0, 4, 1, 0, 4]),
            ([2, 0, 0, 1, 0, 2, 0, 1, 0, 0], [7, 3, 3, 9, 0, 7, 5, 4, 5, 5]),
        )
        for labels, patients in cases:
            labels, patients = torch.tensor(labels), torch.tensor(patients)
            result = call(fair_weights, labels, patients)
            size = len(result) if isinstance(result, list | tuple) else to_numpy(result).size
            if size > 1 and size != len(labels):
                raise NotYet(
                    f"There are {len(labels)} images and {size} weights. The sampler wants one "
                    "weight for each image."
                )
            got = numbers(result, labels.shape)
            if not (got > 0).all():
                raise NotYet("A weight is 0 or less, so its image would never come up.")
            self.compare(got / got.sum(), labels.numpy(), patients.numpy())

    def compare(self, got, labels, patients):
        of_class, of_patient = np.bincount(labels)[labels], np.bincount(patients)[patients]
        pairs = set(zip(labels.tolist(), patients.tolist(), strict=True))
        patients_in = np.array([sum(c == label for c, _ in pairs) for label in labels])
        right = 1 / (patients_in * of_patient)
        still = "still comes more often"
        known = (
            (np.ones(len(labels)), "All images have the same weight."),
            (1 / of_class, f"The classes are equal. In each, a patient with more images {still}."),
            (1 / of_patient, f"All patients are equal. A class with more patients {still}."),
            (1 / patients_in, "The weights are the same for all images of a class. A patient with "
             f"more images {still}."),
            (1 / (of_class * of_patient), "This divides by the images of the class. They are "
             "counted patient by patient already. How many patients are there?"),
            (1 / right, "These are the right weights upside down."),
        )  # fmt: skip
        if close(got, right / right.sum(), 1e-3):
            return
        recognise(got, ((weights / weights.sum(), message) for weights, message in known), 1e-3)
        classes = np.bincount(labels, weights=got)
        if not close(classes, 1 / len(classes), 1e-3):
            raise NotYet(
                f"The classes would be drawn in the shares {np.round(classes, 3).tolist()}; they "
                "are to be equal."
            )
        raise NotYet(
            "The classes are equal. The patients of a class, or the images of a patient, are not."
        )


class BetweenTheTwo(Exercise):
    """The share of each class in the loss, from the sampler's power and that of the weights."""

    hints = (
        "The sampler sets how many images of a class come. The weight sets how much each counts. "
        "The share of the loss is in proportion to the product.",
        "n^r times n^-s. Divide by the sum over the classes.",
    )
    answer = """
        def loss_shares(counts, power, weight_power):
            n = torch.as_tensor(counts, dtype=torch.float64)
            part = n**power * n**-weight_power
            return part / part.sum()
    """
    afterwards = """
        rows = {
            f"sampling {r:g}, weights {s:g}": [
                f"{x:.1%}" for x in loss_shares(torch.tensor(lab.counts), r, s)
            ]
            for r, s in ((1.0, 0.0), (1.0, 1.0), (0.5, 0.5), (0.0, 0.0), (0.0, 1.0))
        }
        print(pd.DataFrame(rows, index=lab.classes).T.iloc[:, [0, -1]])
    """
    why = (
        "Only the difference r - s counts in expectation. Where r = s all classes have the same "
        "share: plain batches with balanced weights, both square roots, or balanced batches. They "
        "differ in noise and in repeats, and both square roots lie between the pure forms. With a "
        "balanced sampler and balanced weights r - s is -1, and the imbalance is turned around."
    )

    def examine(self, loss_shares):
        cases = (
            ([900, 150, 20], 0.5, 0.3),
            ([40, 700, 9, 90], 0.8, 0.1),
            ([600, 60], 0.0, 1.0),
            ([300, 50, 5], 1.0, 0.0),
            ([80, 8], 1.0, 1.0),
        )
        for counts, power, weight_power in cases:
            result = call(loss_shares, torch.tensor(counts), power, weight_power)
            got, n = numbers(result, (len(counts),)), np.array(counts, dtype=float)
            right = n ** (power - weight_power)
            if not close(got, right / right.sum(), 1e-3):
                self.name_mistake(got, right / right.sum(), n, power, weight_power)

    def name_mistake(self, got, right, n, r, s):
        if (got <= 0).any():
            raise NotYet("A share is 0 or less. Every class has images, so it has loss.")
        known = (
            (n**0, "These shares are equal, but here the two powers are not."),
            (n ** (r + s), "These weights rise with the count. Rare classes get the larger ones."),
            (n**r, "These are the shares of the images in a batch. The weights do not act."),
            (n**-s, "These are the weights alone. The sampler decides how many images come."),
            (n ** (1 - s), "This leaves the sampler out: its images come in shares n^power."),
            (n ** (1 + r - s), "The count comes in twice. The sampler's shares have it in them."),
            (n ** (s - r), "These shares are upside down."),
            (n ** (r * s), "The powers are multiplied. What is multiplied are n^r and n^-s."),
        )
        if not close(got.sum(), 1, 1e-3):
            if close(got / got.sum(), right, 1e-3):
                raise NotYet(f"The ratios are right. Shares have the sum 1, these {got.sum():.4g}.")
            raise NotYet(f"The shares have the sum {got.sum():.4g}, not 1.")
        recognise(got, ((part / part.sum(), message) for part, message in known), 1e-3)
        raise NotYet(
            f"With counts {n.astype(int).tolist()}, power {r} and weight_power {s} the shares are "
            f"{np.round(got, 3).tolist()}; they should be {np.round(right, 3).tolist()}."
        )


class FourRuns(Exercise):
    """Tell from recall on training and validation images what was done."""

    hints = (
        "Compare, for the rarest classes, training with validation. Then compare the rarest "
        "classes with the most frequent ones.",
        "Which fault makes new images look like old ones? Which one makes the frequent classes "
        "lose?",
    )
    answer = """
        run_1 = "c"
        run_2 = "a"
        run_3 = "d"
        run_4 = "b"
    """
    why = (
        "The gap of run 3 is the known price of repeats, and no error. No gap at all, in run 2, "
        "is the suspicious one: rare classes are not that easy. So an excellent validation recall "
        "is a reason to look at the split."
    )
    right = ("c", "a", "d", "b")
    seen = {
        1: "the rarest classes are hardly found even on their training images.",
        2: "new images of the rarest classes are as easy as old ones, and no class is lost.",
        3: "the rarest classes are found on training images, and half as often on new ones, while "
        "the frequent classes keep their recall.",
        4: "the frequent classes are lost on training images already, and the rarest are found.",
    }
    would = {
        "a": "Copies on both sides would close the gap between training and validation.",
        "b": "Two corrections would turn the imbalance around, at the cost of the frequent "
        "classes.",
        "c": "Images as they are would leave the rarest classes low on both sides.",
        "d": "A balanced sampler would lift the rarest training images far above the new ones, and "
        "cost the frequent classes little.",
    }

    def examine(self, *runs):
        letters = [letter(answer, "abcd") for answer in runs]
        for i, (given, right) in enumerate(zip(letters, self.right, strict=True), 1):
            if given != right:
                raise NotYet(f"Run {i}: {self.would[given]} But here {self.seen[i]}")


q1 = Views()
q2 = SplitFirst()
q3 = PatientsAndClasses()
q4 = BetweenTheTwo()
q5 = FourRuns()
