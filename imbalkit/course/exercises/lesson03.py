"""The exercises of lesson 03, weighted cross-entropy."""

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
    share,
)


class ByHand(Exercise):
    """Balanced weights of two classes, and the share of the loss that the rare one then has."""

    hints = (
        "The balanced weight of class c is N / (C n_c). What are N and C here?",
        "N = 1000 and C = 2. For the share, compare 900 times the weight of class 0 with 100 times "
        "the weight of class 1.",
    )
    answer = """
        w0 = 1000 / (2 * 900)
        w1 = 1000 / (2 * 100)
        share_of_class_1 = 100 * w1 / (900 * w0 + 100 * w1)
    """
    why = (
        "The weights are 0.556 and 5. Class 0 adds 900 times 0.556 to the loss and class 1 adds "
        "100 times 5, half each. That is what balanced means."
    )

    def examine(self, w0, w1, share_of_class_1):
        weights, right = np.array([number(w0), number(w1)]), np.array([1000 / 1800, 5.0])
        if not (weights > 0).all():
            raise NotYet("Both weights are above 0.")
        if close(weights, right[::-1], 0.01) or weights[0] > weights[1]:
            raise NotYet("The frequent class has the larger weight: swapped, or inverted?")
        if close(weights, 1, 0.01):
            raise NotYet("Equal weights leave the loss as it was: 90 % of it for class 0.")
        ratio = weights[1] / weights[0]
        if close(ratio, 3, 0.01):
            raise NotYet("These are square-root weights. Balanced ones have the ratio 900 : 100.")
        if np.allclose(weights, right, rtol=0.1) and not close(weights, right, 0.01):
            raise NotYet("The weights are near, or rounded. Give them with three digits.")
        if close(ratio, 9, 0.02) and not close(weights, right, 0.01):
            raise NotYet(
                "The ratio of the two is right. The scale is not: the average training image is to "
                "have the weight 1."
            )
        if not close(weights, right, 0.01):
            raise NotYet(f"The ratio of the weights is {ratio:.3g}; which ratio have the counts?")
        part = share(share_of_class_1)
        if close(part, 0.1, 0.01):
            raise NotYet("0.1 is the share of class 1 without weights.")
        if close(part, 0.9, 0.01):
            raise NotYet("0.9 compares one image with one image. Class 0 has nine times as many.")
        if not close(part, 0.5, 0.01):
            raise NotYet("Both weights are right. Now multiply each by its number of images.")


class TemperedWeights(Exercise):
    """One formula for every scheme of the lesson: weights in proportion to n_c^-power."""

    hints = (
        "A negative power makes rare classes heavy. Afterwards one division sets the scale.",
        "The average weight of a training image is (n * w).sum() / n.sum().",
    )
    answer = """
        def tempered(counts, power):
            n = torch.as_tensor(counts, dtype=torch.float64)
            w = n**-power
            return w * n.sum() / (n * w).sum()
    """
    why = (
        "Power 1 gives the balanced scheme, 1/2 the square root, 0 no weights. These three differ "
        "in one number, which can be chosen on the validation images. The effective number is no "
        "power of the count; at the counts of this lesson it is close to power 1."
    )

    def examine(self, tempered):
        for counts, power in (([500, 50, 5], 1.0), ([900, 400, 100, 30], 0.5), ([60, 20], 0.25)):
            n = np.array(counts, dtype=float)
            got = numbers(call(tempered, torch.tensor(counts), power), n.shape)
            right = n**-power / (n * n**-power).sum() * n.sum()
            if close(got, right, 1e-3):
                continue
            self.name_mistake(got, right, n, power)
        flat = numbers(call(tempered, torch.tensor([70, 7]), 0.0), (2,))
        if not close(flat, 1, 1e-3):
            raise NotYet("At power 0 every weight must be 1.")

    def name_mistake(self, got, right, n, power):
        if (got <= 0).any():
            raise NotYet("A weight came out as 0 or less. A power of a count is above 0.")
        if (np.diff(got) < 0).all():  # the counts fall, so right weights rise
            raise NotYet("These weights grow with the class count: inverted?")
        if close(got / got[0], right / right[0], 1e-3):
            raise NotYet(
                f"The ratios are right, the scale is not: with counts {n.astype(int).tolist()} the "
                f"average training image has the weight {(n * got).sum() / n.sum():.3g}, not 1."
            )
        if power != 1 and close(got / got[0], n[0] / n, 1e-3):
            raise NotYet(f"With power {power} these are the balanced weights: is power used?")
        raise NotYet(
            f"With counts {n.astype(int).tolist()} and power {power} the weights are in the ratio "
            f"{np.round(got / got[0], 3).tolist()}; it should be "
            f"{np.round(right / right[0], 3).tolist()}."
        )


class WithoutTraining(Exercise):
    """Apply class weights to the logits of a model that was trained without them."""

    hints = (
        "A weighted model answers with probabilities in proportion to w_c p(c | x).",
        "Logits are logarithms of probabilities, up to a constant. What becomes of a product under "
        "a logarithm?",
    )
    answer = """
        def adjust(logits, weight):
            return logits + weight.log()
    """
    afterwards = """
        logits, labels = predict(models["no weights"], lab.eval_batches(lab.test))
        for name, values in (
            ("as trained", logits),
            ("adjusted", adjust(logits, schemes["balanced"])),
        ):
            confusion = metrics.confusion(labels, values.argmax(1), len(lab.classes))
            print(f"{name:10} {metrics.summary(confusion)['balanced_accuracy']:.1%}")
    """
    why = (
        "This is post-hoc logit adjustment: ten numbers, no training. Compare the result with the "
        'row "balanced" of the table. Then do the same with the stronger network. On CIFAR-10, '
        "at half its width, it rose from 45.9 to 61.2 % in one run and from 48.5 to 63.7 % in "
        "another, where training with balanced weights had 55.7 and 56.6 %. So the weighted "
        "decision by itself gains more than training with the weights does."
    )

    def examine(self, adjust):
        generator = torch.Generator().manual_seed(3)
        logits = 2 * torch.randn(6, 4, generator=generator)
        weight = torch.tensor([0.3, 0.8, 2.0, 9.0])
        got = numbers(call(adjust, logits, weight), logits.shape)
        right = (logits + weight.log()).double()

        def same(wrong):
            return close(as_log_probabilities(got), wrong.double().log_softmax(1), 1e-3)

        if same(right):
            return
        if same(logits):
            raise NotYet(
                "The answers are as before: are the weights used, and the result returned?"
            )
        if same(logits - weight.log()):
            raise NotYet("This subtracts: rare classes, with large weights, now lose.")
        if same(logits * weight):
            raise NotYet(
                "This multiplies the logits. The probabilities are to be multiplied; logits are "
                "their logarithms."
            )
        if same(logits + weight):
            raise NotYet("This adds the weight itself. Which function turns a product into a sum?")
        if close(got, right.softmax(1), 1e-3):
            raise NotYet(
                "These are the right probabilities. Return logits: their logarithm will do."
            )
        if close(got, logits.softmax(1) * weight, 1e-3):
            raise NotYet("These are w p, which has the right order. Return logits: its logarithm.")
        raise NotYet("The probabilities of the result are not in proportion to w_c p(c | x).")


def as_log_probabilities(logits: np.ndarray) -> np.ndarray:
    return torch.from_numpy(logits).log_softmax(1).numpy()


class PriceList(Choice):
    """Weights for a given price of errors."""

    right = "b"
    wrong = {
        "a": "Balanced weights take the prior out of the decision. But in use the classes come as "
        "in the training set, so the prior is true there.",
        "c": "This multiplies the price by the rarity. The price is for one image, and in use the "
        "classes come as in training: how rare they are does not enter.",
        "d": "Without weights all errors cost the same, and a missed image of the rarest class "
        "costs you 50.",
    }
    hints = ("What does the sum of the losses stand for, if each is multiplied by its price?",)
    answer = 'choice = "b"'
    why = (
        "Weights express costs. Balanced weights are the special case in which missing all images "
        "of a class costs the same for every class, however many they are."
    )


class SmallBatches(Exercise):
    """What torch's weighted mean is worth in a batch of one."""

    hints = (
        "torch divides by the sum of the weights in the batch, not by the number of images.",
        "With one image, numerator and denominator both contain its weight. With two of one class?",
    )
    answer = """
        alone = 1.0
        two_of_one_class = 1.0
        one_of_each = (0.2 * 1.5 + 5 * 3.0) / (0.2 + 5)
    """
    why = (
        "Where the batch has one class, its weight cancels and rarity has no effect. It acts "
        "between the classes of one batch only. With gradient accumulation over batches of one "
        "image the weights do nothing at all."
    )

    def examine(self, alone, two_of_one_class, one_of_each):
        if close(number(alone), 5, 0.01):
            raise NotYet("5 is the weight times the loss. What does torch divide it by?")
        if not close(number(alone), 1, 0.01):
            raise NotYet("The first number: weight times loss, divided by the sum of the weights.")
        if not close(number(two_of_one_class), 1, 0.01):
            raise NotYet("The second number: the loss of both is 1, and both weights are 5.")
        mixed = number(one_of_each)
        if close(mixed, (0.2 * 1.5 + 5 * 3.0) / 2, 0.01):
            raise NotYet("The third number is divided by the images; torch divides by the weights.")
        if close(mixed, (1.5 + 3) / 2, 0.01):
            raise NotYet("The third number is the plain mean. The two weights differ now.")
        if close(mixed, 0.2 * 1.5 + 5 * 3.0, 0.01):
            raise NotYet("The third number is a sum. Divide it by the sum of the weights.")
        if abs(mixed - 15.3 / 5.2) < 0.06 and not close(mixed, 15.3 / 5.2, 0.01):
            raise NotYet("The third number is near. Give three digits.")
        if not close(mixed, (0.2 * 1.5 + 5 * 3.0) / 5.2, 0.01):
            raise NotYet("The third number: (0.2 times 1.5 + 5 times 3), over the sum of weights.")


q1 = ByHand()
q2 = TemperedWeights()
q3 = WithoutTraining()
q4 = PriceList()
q5 = SmallBatches()
