"""The exercises of lesson 04, focal loss."""

import numpy as np
import torch
import torch.nn.functional as F

from imbalkit.course.exercises.base import (
    Exercise,
    NotYet,
    call,
    close,
    letter,
    number,
    recognise,
    share,
)
from imbalkit.losses import FocalLoss


class HowMuchIsLeft(Exercise):
    """The factor of the focal loss by hand, forwards, backwards and summed over images."""

    hints = (
        "An image keeps the share (1 - p)^gamma of its cross-entropy -ln p.",
        "For the second number solve (1 - p)^2 = 0.5. For the third divide the focal loss of the "
        "image with p = 0.1 by that of an image with p = 0.9.",
    )
    answer = """
        kept = (1 - 0.5) ** 2
        half_kept_at = 1 - 0.5**0.5
        solved_images = (0.81 * 2.303) / (0.01 * 0.1054)  # -ln 0.1 and -ln 0.9
    """
    why = (
        "A quarter is left at p = 0.5, and half at p = 0.293. So even an image that the model gets "
        "wrong can lose most of its loss. It takes about 1770 solved images to outweigh one that "
        "is badly wrong. Under cross-entropy it took 22."
    )

    def examine(self, kept, half_kept_at, solved_images):
        self.first(number(kept))
        if close(number(half_kept_at), 0.5**0.5, 0.01):
            raise NotYet("The second number is 1 - p. Which p is that?")
        if close(number(half_kept_at), 1 + 0.5**0.5, 0.01):
            raise NotYet("The second number: a probability is below 1. Take the other root.")
        p = share(half_kept_at)
        if not close(p, 1 - 0.5**0.5, 0.01):
            raise NotYet(f"The second number: with p = {p:g} the share {(1 - p) ** 2:.3g} is left.")
        self.third(number(solved_images))

    def first(self, kept):
        if close(kept, 4, 0.01):
            raise NotYet("The first number: 4 times less is left. Which share is that?")
        if close(kept, 0.75, 0.01):
            raise NotYet("The first number: 0.75 is the share that is taken away.")
        if close(kept, 0.25 * np.log(2), 0.01):
            raise NotYet("The first number is the focal loss. Which share of ln 2 is it?")
        if close(kept, 0.5, 0.01):
            raise NotYet("The first number: this would be gamma 1.")
        if not close(share(kept), 0.25, 0.01):
            raise NotYet("The first number: put p = 0.5 and gamma = 2 into (1 - p)^gamma.")

    def third(self, images):
        cross_entropy = np.log(0.1) / np.log(0.9)
        if close(images, cross_entropy, 0.02):
            raise NotYet("The third number is that of cross-entropy. Now with the factor.")
        if close(images, 81, 0.02):
            raise NotYet("The third number: 81 compares the factors only. The logarithms differ.")
        if close(images, cross_entropy / 81, 0.02):
            raise NotYet("The third number: the factors are swapped. Which image keeps 81 %?")
        if 0 < images < 1:
            raise NotYet("The third number is below 1. Is it upside down? How many for one?")
        if not close(images, 81 * cross_entropy, 0.02):
            raise NotYet(
                "The third number: divide the focal loss at p = 0.1 by the focal loss at p = 0.9."
            )


class ThreeCases(Exercise):
    """Focal loss, class weights or neither, for three described models."""

    hints = (
        "Ask in each case: are there very many images that the model has solved? Which images are "
        "to count more, those of a class or the hard ones of any class?",
        "Which of the three models has a fault that one of the two losses mends?",
    )
    answer = """
        beetles = "b"
        satellite = "a"
        prices = "c"
    """
    why = (
        "Rare classes among hard frequent ones ask for weights. A flood of easy images asks for "
        "focal loss; showing fewer of them does much the same, and saves the time. What is "
        "calibrated and balanced asks for nothing."
    )
    right = {"beetles": "b", "satellite": "a", "prices": "c"}
    wrong = {
        ("beetles", "a"): "The frequent kinds are hard as well, and there are many more of them. "
        "Focal loss turns to all hard images.",
        ("beetles", "c"): "Then the rarest kind stays as it is, and hardly one is found.",
        ("satellite", "b"): "A class weight is the same for every tile of the sea. The few with "
        "wave crests would count as little as all the others.",
        ("satellite", "c"): "Of 100,000 tiles, 99,900 with p = 0.99 have a loss of 1,004 in all. A "
        "hundred with p = 0.5 have 69.",
        ("prices", "a"): "Gamma lowers the confidence. This model says what it knows; it would "
        "become too modest.",
        ("prices", "b"): "The classes are equally frequent: which balanced weights would they get?",
    }

    def examine(self, beetles, satellite, prices):
        answers = {"beetles": beetles, "satellite": satellite, "prices": prices}
        letters = {case: letter(answer, "abc") for case, answer in answers.items()}
        for case, given in letters.items():
            if given != self.right[case]:
                raise NotYet(f"In the case of {case}: {self.wrong[case, given]}")


class MendedFocalLoss(Exercise):
    """Focal loss with class weights, without the bug that the lesson shows."""

    hints = (
        "exp(-loss) is p only if the loss has no weight yet.",
        'Take the losses from F.cross_entropy(logits, targets, reduction="none"), and p from '
        "these. The weight comes in at the end.",
        "Numerator: the sum of w (1 - p)^gamma times the loss, with w = weight[targets]. "
        "Denominator: the sum of w.",
    )
    answer = """
        def mended(logits, targets, gamma, weight):
            loss = F.cross_entropy(logits, targets, reduction="none")  # -log p, without weights
            p = torch.exp(-loss)
            w = weight[targets]
            return (w * (1 - p) ** gamma * loss).sum() / w.sum()
    """
    why = (
        "p comes from the loss without weights, so the factor sees how hard the image is and "
        "nothing else. The class weight acts once, outside. Because everything comes from "
        "log_softmax, which cross_entropy contains, a p of 0 does no harm. At p = 1 a gamma below "
        "1 still has an infinite slope, from which FocalLoss keeps away."
    )

    def examine(self, mended):
        for images, classes, gamma in ((6, 3, 2.0), (9, 4, 3.0), (5, 2, 0.5)):
            generator = torch.Generator().manual_seed(images)
            logits = 1.5 * torch.randn(images, classes, generator=generator)
            targets = torch.randint(classes, (images,), generator=generator)
            targets[:2] = torch.tensor([0, 1])  # never a batch of one class
            weight = 0.3 + 3 * torch.rand(classes, generator=generator)
            result = call(mended, logits, targets, gamma, weight)
            right = FocalLoss(gamma, weight=weight)(logits, targets).item()
            if not close(got := self.one_number(result, images), right, 1e-3):
                self.name_mistake(got, right, logits, targets, gamma, weight)
            self.check_gradient(mended, logits, targets, gamma, weight)
        self.check_large_logits(mended)

    def one_number(self, result, images):
        if torch.is_tensor(result) and result.shape == (images,):
            raise NotYet("This returns a loss for each image. One number for the batch is wanted.")
        if not np.isfinite(value := number(result)):
            raise NotYet("On ordinary logits the loss is NaN or infinite.")
        return value

    def name_mistake(self, got, right, logits, targets, gamma, weight):
        loss = F.cross_entropy(logits, targets, reduction="none")
        p, w = (-loss).exp(), weight[targets]
        focal, bug = w * (1 - p) ** gamma * loss, w * (1 - p**w) ** gamma * loss
        total = w.sum()
        known = (
            (bug.sum() / total, "p still contains the weight: this is the loss with the bug."),
            (bug.mean(), "p still contains the weight, and the sum is divided by the images."),
            (focal.mean(), "This divides by the images; the package divides by the weights."),
            (focal.sum(), "This is a sum. Divide it by the weights of the images."),
            (focal.sum() / weight.sum(), "This divides by the weights of the classes, once each."),
            ((w * focal).sum() / total, "The weight acts twice: is it in the loss already?"),
            ((focal / w).mean(), "The class weights do not act."),
            (reference(logits, targets, 0.0, weight), "Gamma does not act: this is gamma 0."),
            (reference(logits, targets, 1.0, weight), "This is the loss of gamma 1."),
            (reference(logits, targets, 2.0, weight), "This is the loss of gamma 2, always."),
            ((w * p**gamma * loss).sum() / total, "This is p^gamma: solved images count more."),
            ((w * (1 - p**gamma) * loss).sum() / total, "This is 1 - p^gamma, not (1 - p)^gamma."),
            ((w * gamma * (1 - p) * loss).sum() / total, "Gamma is an exponent, not a factor."),
        )
        if got < 0:
            raise NotYet("The loss is below 0. log p is negative, so a minus belongs before it.")
        recognise(got, known, 1e-3)
        raise NotYet(
            f"For {len(logits)} images, {len(weight)} classes and gamma {gamma:g} the loss is "
            f"{got:.4g}; FocalLoss gives {right:.4g}."
        )

    def check_gradient(self, mended, logits, targets, gamma, weight):
        got = gradient(mended, logits, targets, gamma, weight)
        if got is None:
            raise NotYet(
                "The number is right, but it comes without a gradient: nothing would be trained. "
                "Return a tensor, without item(), detach() or numpy on the way."
            )
        right = gradient(reference, logits, targets, gamma, weight)
        if not close(got, right, 1e-3):
            raise NotYet(
                "The number is right and its gradient is not: is a part of it detached? The factor "
                "depends on the logits as well."
            )

    def check_large_logits(self, mended):
        logits, targets = torch.tensor([[200.0, 0, -50], [1, 2, 0]]), torch.tensor([1, 0])
        arguments = logits, targets, 2.0, torch.tensor([2.0, 1.0, 1.0])
        value, slope = number(call(mended, *arguments)), gradient(mended, *arguments)
        if slope is None or not np.isfinite([value, *slope.flatten()]).all():
            raise NotYet(
                "All is right for small logits. With a logit of 200 the loss or its gradient is "
                "not finite. Where does the logarithm of p come from?"
            )
        right = reference(*arguments).item()
        if not close(value, right, 1e-3):
            raise NotYet(
                f"All is right for small logits. With a logit of 200 the loss is {value:.4g} and "
                f"that of the package {right:.4g}. Is p kept away from 0 or 1? log_softmax needs "
                "no such limit."
            )


def reference(logits, targets, gamma, weight):
    return FocalLoss(gamma, weight=weight)(logits, targets)


def gradient(loss, logits, targets, gamma, weight):
    """The slope of a loss at the logits, or None where it has none."""
    seen = []

    def watched(logits, *others):
        seen.append(logits.requires_grad_())
        return loss(1 * logits, *others)  # a copy, which may be changed in place

    try:
        value = call(watched, logits, targets, gamma, weight)
    except NotYet as mistake:
        if "numpy()" in str(mistake):  # torch's complaint about a tensor that has a gradient
            return None
        raise
    if isinstance(value, list | tuple):
        raise NotYet("The number is right. Return the tensor itself, without brackets.")
    if not torch.is_tensor(value) or not value.requires_grad:
        return None
    try:
        (slope,) = torch.autograd.grad(value.sum(), seen[-1], allow_unused=True)
    except RuntimeError as error:
        raise NotYet(f"The number is right, but it has no gradient: {error}") from None
    return None if slope is None else slope.numpy()


class HardAndRare(Exercise):
    """Of the hardest images, how many are rare? Of the rare ones, how many are hard?"""

    hints = (
        "An image is hard where p is small. p.argsort() gives the positions, the smallest p first.",
        "torch.isin(labels, torch.tensor(rare)) is true for the images of the rare classes. Count "
        "those among the first k positions.",
        "Both answers have that count above the line. Below it stands k in one, and the number of "
        "rare images in the other.",
    )
    answer = """
        def hard_and_rare(p, labels, rare, k):
            is_rare = torch.isin(labels, torch.tensor(rare))
            both = is_rare[p.argsort()[:k]].sum()
            return both / k, both / is_rare.sum()
    """
    afterwards = """
        rarest = list(range(len(lab.classes) - 3, len(lab.classes)))
        for name in ("cross-entropy", "gamma 5"):
            some_logits, some_labels = predict(models[name], lab.eval_batches(lab.train))
            some_p = some_logits.softmax(1).gather(1, some_labels[:, None]).squeeze(1)
            for part in (50, 10, 2):
                shares_of_both = hard_and_rare(some_p, some_labels, rarest, len(some_p) // part)
                print(
                    f"{name:13} hardest {1 / part:3.0%}: {shares_of_both[0]:.0%} of it is rare, "
                    f"and it has {shares_of_both[1]:.0%} of the rare images"
                )
    """
    why = (
        "The two shares have the same count above the line and different numbers below. Where rare "
        "images are few, the second can be near 1 while the first is small. Focal loss looks at "
        "hard images, so the first share says what it does for the rare classes."
    )

    def examine(self, hard_and_rare):
        for images, classes, rare, k in ((60, 5, [0, 3], 17), (45, 3, [2], 20), (90, 6, [1, 2], 7)):
            generator = torch.Generator().manual_seed(images)
            labels = torch.randint(classes, (images,), generator=generator)
            p = torch.rand(images, generator=generator)
            p[is_rare(labels, rare)] **= 2  # rare images are harder
            result = call(hard_and_rare, p, labels, rare, k)
            got = np.array([number(part) for part in two_parts(result)])
            right = np.array(both_shares(p, labels, rare, k))
            if not close(got, right, 0.005):
                self.name_mistake(got, right, p, labels, rare, k)

    def name_mistake(self, got, right, p, labels, rare, k):
        counts = right * [k, is_rare(labels, rare).sum()]
        last_three = range(int(labels.max()) - 2, int(labels.max()) + 1)
        known = (
            (right[::-1], "The two shares are swapped: that of the hardest images comes first."),
            (100 * right, "These are per cent. Give shares, between 0 and 1."),
            (both_shares(-p, labels, rare, k), "These are the easiest images: hard is a small p."),
            (counts, "Both numbers count the images that are hard and rare. Divide them."),
            (counts / len(p), "Both are divided by all images. Of which images is each a share?"),
            (
                both_shares(p, labels, list(last_three), k),
                f"These are shares of the last three classes; here the rare ones are {rare}.",
            ),
        )
        recognise(got, known, 0.005)
        if close(got[0], right[0], 0.005):
            raise NotYet(
                f"The first share is right. The second is {got[1]:.3g} where the rare classes have "
                f"{int(is_rare(labels, rare).sum())} images and {k} count as hard."
            )
        raise NotYet(
            f"Of {len(p)} images {is_rare(labels, rare).sum()} are rare and {k} count as hard. The "
            f"shares are {np.round(got, 3).tolist()}; they should be "
            f"{np.round(right, 3).tolist()}."
        )


def is_rare(labels, rare):
    return np.isin(labels.numpy(), rare)


def both_shares(p, labels, rare, k):
    both = is_rare(labels, rare)[np.argsort(p.numpy())[:k]].sum()
    return both / k, both / is_rare(labels, rare).sum()


def two_parts(result):
    try:
        first, second = result
    except (TypeError, ValueError):
        raise NotYet("Return two shares: of the hardest images, and of the rare ones.") from None
    return first, second


class OneAlpha(Exercise):
    """What one alpha for all classes does to the training and to the classes."""

    hints = (
        "Alpha multiplies the loss, so it multiplies the gradient. What does SGD multiply the "
        "gradient by? And what does Adam divide it by?",
        "A share is the loss of one class over the loss of all. Alpha stands above and below the "
        "line.",
    )
    answer = """
        rate_of_sgd = 0.25 * 0.1
        rate_of_adam = 0.001
        share_of_rare = 0.1
    """
    afterwards = """
        for optimizer, rates in ((torch.optim.SGD, (0.1, 0.025)), (torch.optim.Adam, (1e-3, 1e-3))):
            ends = []
            for alpha, rate in zip((0.25, 1), rates, strict=True):
                torch.manual_seed(0)
                small = torch.nn.Linear(20, 3)
                steps = optimizer(small.parameters(), lr=rate)
                for _ in range(100):
                    x, y = torch.randn(32, 20), torch.randint(3, (32,))
                    steps.zero_grad()
                    (alpha * FocalLoss(2)(small(x), y)).backward()
                    steps.step()
                ends.append(small.weight.detach())
            largest = (ends[0] - ends[1]).abs().max().item()
            print(f"{optimizer.__name__}: the weights differ by at most {largest:.0e}")
    """
    why = (
        "With SGD the alpha is a learning rate of 0.025 in disguise. Adam divides the gradient by "
        "its size, so there it changes almost nothing. The rare classes have the same share of the "
        "loss as before, 0.1. Only numbers that differ between the classes balance them."
    )

    def examine(self, rate_of_sgd, rate_of_adam, share_of_rare):
        sgd, adam, part = number(rate_of_sgd), number(rate_of_adam), number(share_of_rare)
        if close(sgd, 0.4, 0.01):
            raise NotYet(
                "The first number: 0.4 makes up for the alpha where it is used. Here it is left "
                "out, and the steps are to stay as small as they were with it."
            )
        if close(sgd, 0.1, 0.01):
            raise NotYet("The first number: without the alpha the gradient is four times as large.")
        if not close(sgd, 0.025, 0.01):
            raise NotYet("The first number: a step of SGD is the rate times the gradient.")
        if close(adam, 0.00025, 0.01) or close(adam, 0.004, 0.01):
            raise NotYet(
                "The second number: Adam divides the gradient by its recent size, and that has the "
                "alpha in it as well."
            )
        if not close(adam, 0.001, 0.01):
            raise NotYet("The second number: what becomes of a constant that Adam divides out?")
        if close(part, 0.025, 0.01):
            raise NotYet(
                "The third number: the loss of the other classes has the alpha as well. So does "
                "the sum."
            )
        if close(part, 0.025 / 0.925, 0.01) or close(part, 0.025 / 0.7, 0.01):
            raise NotYet("The third number: here all classes have the same alpha.")
        if close(part, 0.4, 0.01):
            raise NotYet("The third number: one class cannot gain where all have the same factor.")
        if not close(share(part), 0.1, 0.01):
            raise NotYet("The third number: the loss of the rare classes over that of all.")


q1 = HowMuchIsLeft()
q2 = ThreeCases()
q3 = MendedFocalLoss()
q4 = HardAndRare()
q5 = OneAlpha()
