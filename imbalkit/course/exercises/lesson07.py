"""The exercises of lesson 07, multitask training."""

import numpy as np
import torch
import torch.nn.functional as F

from imbalkit.course.exercises.base import (
    Exercise,
    NotYet,
    call,
    call_and_keep,
    close,
    number,
    numbers,
    recognise,
    share,
)


class ByHand(Exercise):
    """The difficulty target of four images, and what a change of scale does to it."""

    hints = (
        "Subtract the mean of the four losses, then divide by their standard deviation.",
        "The mean is 0.6. The deviation is the root of the mean squared distance from it: divide "
        "the sum of the squares by 4, not by 3.",
        "Losses ten times smaller have a mean and a deviation ten times smaller.",
    )
    answer = """
        losses = torch.tensor([0.1, 0.1, 0.2, 2.0])
        difficulties = (losses - losses.mean()) / losses.std(correction=0)
        smaller = losses / 10
        when_smaller = (smaller - smaller.mean()) / smaller.std(correction=0)
    """
    why = (
        "-0.62, -0.62, -0.49 and 1.73, and the same for losses ten times smaller: the target has "
        "no scale. That is what it is for. It is also what makes it meaningless once all losses "
        "are tiny."
    )

    def examine(self, difficulties, when_smaller):
        losses = np.array([0.1, 0.1, 0.2, 2.0])
        away = losses - losses.mean()
        right = away / losses.std()
        got = numbers(difficulties, (4,))
        mistakes = (
            (away / losses.std(ddof=1), "The deviation is divided by N - 1 here; divide by N."),
            (away, "This is the distance from the mean. In which unit is it to be measured?"),
            (losses / losses.std(), "The mean has not been subtracted."),
            (-right, "The signs are turned: a high loss means difficult."),
            (away / losses.var(), "This is divided by the variance, not by its root."),
            (away / losses.mean(), "This is divided by the mean, not by the deviation."),
            (losses, "These are the losses themselves."),
        )
        recognise(got, mistakes, 0.01)
        if not close(got, right, 0.015):
            if close(np.sort(got), np.sort(right), 0.015):
                raise NotYet("The numbers are right, their order is not that of the losses.")
            if abs(got.mean()) > 0.05 or abs(got.std() - 1) > 0.05:
                raise NotYet(
                    f"Your difficulties have the mean {got.mean():.2f} and the deviation "
                    f"{got.std():.2f}; it should be 0 and 1."
                )
            i = int(np.argmax(abs(got - right)))
            raise NotYet(
                f"The difficulty of the image with the loss {losses[i]} is not {got[i]:.3g}. Give "
                "two digits behind the point."
            )
        second = numbers(when_smaller, (4,))
        if close(second, right / 10, 0.015):
            raise NotYet("The second list is ten times smaller. What became of the deviation?")
        if close(second, right * 10, 0.015):
            raise NotYet("The second list is ten times larger. The distances shrink, too.")
        if not close(second, right, 0.015):
            raise NotYet("The first list is right. For the second, do the same with losses / 10.")


class RepairTheLoss(Exercise):
    """A second task whose target has a gradient and a scale; it should have neither."""

    hints = (
        "Look at the target of the head, `ce`. Where does its gradient go? What happens to its "
        "size in the course of a training?",
        "The first term needs `ce` with its gradient. Only the target of the head is detached.",
        "The target is (fixed - fixed.mean()) / (fixed.std(correction=0) + 1e-6), with "
        "fixed = ce.detach().",
    )
    answer = """
        def loss(logits, predicted, targets, share):
            ce = F.cross_entropy(logits, targets, reduction="none")
            fixed = ce.detach()
            difficulty = (fixed - fixed.mean()) / (fixed.std(correction=0) + 1e-6)
            return ce.mean() + share * F.mse_loss(predicted, difficulty)
    """
    why = (
        "Without detach the classifier is trained to be predictable. Without the new scale the "
        "head chases the fall of the loss, and its error is largest in the first epoch. The "
        "1e-6 is there for a batch whose losses are all equal."
    )

    def examine(self, loss):
        for seed, (images, classes, part) in enumerate(((8, 5, 0.5), (12, 3, 2.0), (9, 4, 0.1))):
            generator = torch.Generator().manual_seed(seed)
            logits = 2 * torch.randn(images, classes, generator=generator)
            predicted = 1.5 * torch.randn(images, generator=generator) + 0.3
            targets = torch.randint(classes, (images,), generator=generator)
            arguments = (logits.requires_grad_(), predicted.requires_grad_(), targets, part)
            with torch.enable_grad():
                value, kept = call_and_keep(loss, *arguments)
                self.judge(value, kept[0], kept[1], arguments)

    def judge(self, value, logits, predicted, arguments):
        """`logits` and `predicted` are those that made the value, for its gradients."""
        if isinstance(value, list | tuple):
            raise NotYet(f"Return one loss, the sum of both tasks; these are {len(value)} values.")
        if not torch.is_tensor(value):
            number(value)
            raise NotYet("This is a plain number. Training needs a tensor, with its gradient.")
        if value.numel() != 1:
            raise NotYet(f"One loss for the batch is wanted; this has shape {tuple(value.shape)}.")
        if not value.requires_grad:
            raise NotYet("The result has no gradient at all, so nothing learns: too much detached.")
        try:
            to_logits, to_predicted = gradients(value, logits, predicted)
        except RuntimeError as error:
            raise NotYet(f"The result has no gradient that could be computed: {error}") from None

        ce = F.cross_entropy(arguments[0], arguments[2], reduction="none")
        wanted, _ = gradients(ce.mean(), arguments[0], arguments[1])
        if not to_logits.any():
            raise NotYet(
                "Nothing of this loss reaches the logits. The classifier learns from the mean "
                "cross-entropy, which must keep its gradient."
            )
        leaks = not close(to_logits, wanted, 1e-3)
        self.name_wrong_value(value.item(), leaks, ce.detach(), arguments[1].detach(), arguments[3])
        if leaks:
            raise NotYet(
                "The value is right. But the logits get another gradient than that of the mean "
                "cross-entropy: some of the head's error still reaches them."
            )
        if not to_predicted.any():
            raise NotYet("The value is right. But the head gets no gradient: it cannot learn.")
        if not any(
            close(to_predicted, gradients(right, arguments[0], arguments[1])[1], 5e-3)
            for right in totals(ce, difficulties(ce), arguments[1], arguments[3])
        ):
            raise NotYet("The value is right. But the head gets another gradient than its error's.")

    def name_wrong_value(self, value, leaks, ce, predicted, part):
        def same(candidates):
            return any(close(value, candidate.item(), 1e-3) for candidate in candidates)

        hard, mean = difficulties(ce), ce.mean()
        if same(totals(ce, hard, predicted, part)):
            return
        if same([mean]):
            raise NotYet("The value is the mean cross-entropy alone. The second task is missing.")
        if same(totals(ce, [ce], predicted, part)):
            raise NotYet(
                "The loss is as it was: the target has a gradient into the logits, and its scale "
                "falls in the course of a training."
                if leaks
                else "The target has no gradient any more. But its scale still falls in the course "
                "of a training, and the head has to follow."
            )
        if same(totals(ce, [ce - mean], predicted, part)):
            raise NotYet("The target has mean 0 now. Its spread still shrinks with the losses.")
        if same(totals(ce, [ce / ce.std(correction=c) for c in (0, 1)], predicted, part)):
            raise NotYet("The target has deviation 1 now. Its mean is not 0.")
        if same(totals(ce, [-d for d in hard], predicted, part)):
            raise NotYet("The signs of the target are turned: a high loss means difficult.")
        if same(part * error for error in errors(hard, predicted)):
            raise NotYet(
                "The value is that of the second task alone. Either the mean cross-entropy is not "
                "added. Or the losses themselves were normalised, which makes their mean 0: "
                "detach() shares memory, so make the target by d = d - d.mean(), not in place."
            )
        if any(same(totals(ce, hard, normalised, part)) for normalised in difficulties(predicted)):
            raise NotYet("Only the target is normalised; the head's answer stays as it is.")
        if same(totals(ce, hard, predicted, 1)):
            raise NotYet("The value is that of share 1. Is share used?")
        if same(
            part * mean + weight * e for weight in (1, 1 - part) for e in errors(hard, predicted)
        ):
            raise NotYet(
                "The share belongs to the second task, and the cross-entropy has all of 1."
            )
        if same(
            a * mean + part * b * e
            for a in (1, len(ce))
            for b in (1, len(ce))
            for e in errors(hard, predicted)
        ):
            raise NotYet("A sum over the batch where a mean is wanted.")
        squared, huber, *_ = totals(ce, hard, predicted, part)
        raise NotYet(
            f"For a batch with the mean cross-entropy {mean:.3f} and share {part} the loss is "
            f"{value:.3f}. Wanted is {squared.item():.3f} with the squared error, or "
            f"{huber.item():.3f} with the Huber loss."
        )


def gradients(value, *inputs):
    """Of `value` by each input; zeros where it does not depend on it."""
    found = torch.autograd.grad(value, inputs, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(x) if g is None else g for x, g in zip(inputs, found, strict=True)]


def difficulties(ce):
    """The targets that pass: with N, as the lesson has it, or with N - 1, as torch's default."""
    fixed = ce.detach()
    return [(fixed - fixed.mean()) / fixed.std(correction=c) for c in (0, 1)]


def errors(targets, predicted):
    """Squared errors, and the lesson's Huber errors."""
    for target in targets:
        yield F.mse_loss(predicted, target)
        yield F.smooth_l1_loss(predicted, target)


def totals(ce, targets, predicted, part):
    return (ce.mean() + part * error for error in errors(targets, predicted))


class PlantedErrors(Exercise):
    """How many of the first k images of a ranking are planted errors."""

    hints = (
        "Order the images by their score, the highest first, and keep k of them.",
        "`scores.topk(k).indices` are their positions. Which share of `planted` is True there?",
    )
    answer = """
        def precision_at(scores, planted, k):
            return planted[scores.topk(k).indices].float().mean()
    """
    afterwards = """
        errors = torch.from_numpy(wrong)
        for name, scores in {"difficulty head": rating, "1 - confidence": doubt}.items():
            print(f"{name:16} {precision_at(scores, errors, 100):.1%}")
        print(f"{'any image':16} {errors.float().mean():.1%}")
    """
    why = (
        "This is what a person who looks at k images wants to know. Compare it with the share of "
        "errors among all images, which a ranking by chance has. For planted labels, rank by the "
        "loss as well: the loss knows the given label, the head sees only the image."
    )

    def examine(self, precision_at):
        cases = [ranking(seed) for seed in range(4)]
        got = np.array([number(call(precision_at, *case)) for case in cases])
        right = np.array([share_planted(*case) for case in cases])
        if close(got, right, 1e-3):
            return
        k = np.array([case[2] for case in cases])
        n = np.array([len(case[1]) for case in cases])
        few = np.array([case[1].sum().item() for case in cases])
        lowest = [share_planted(-scores, planted, k) for scores, planted, k in cases]
        in_old_order = [planted[:k].float().mean() for _, planted, k in cases]
        mistakes = (
            (right * k / few, "This is recall: the share of the planted errors that are found."),
            (right * k, "This is how many are found. Divide by the number of images looked at."),
            (right * k / n, "This is divided by all images. How many does the person look at?"),
            (1 - right, "This is the share of images that are no planted errors."),
            (100 * right, "This is in per cent. A share between 0 and 1 is wanted."),
            (lowest, "This looks at the lowest scores. The highest are wanted."),
            (in_old_order, "This takes the first k in their old order. Are the scores used?"),
            (few / n, "This is the share of planted errors among all images."),
        )
        recognise(got, mistakes, 1e-3)
        i = int(np.argmax(abs(got - right)))
        raise NotYet(
            f"With {n[i]} images, {few[i]} planted errors and k = {k[i]} the result is "
            f"{got[i]:.3g}, where {right[i]:.3g} is wanted."
        )


def ranking(seed: int) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Scores, planted errors and k. Planted images tend to stand high, but not all of them do."""
    n, k, few = ((12, 5, 3), (9, 2, 6), (40, 15, 8), (7, 3, 2))[seed]
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randperm(n, generator=generator) / 2 - 1.25
    order = (scores + 0.2 * n * torch.randn(n, generator=generator)).argsort(descending=True)
    planted = torch.zeros(n, dtype=torch.bool)
    planted[order[:few]] = True
    return scores, planted, k


def share_planted(scores: torch.Tensor, planted: torch.Tensor, k: int) -> float:
    return planted[scores.topk(k).indices].float().mean().item()


class AnotherShare(Exercise):
    """How large a difference on few validation images must be to mean something."""

    hints = (
        "The standard error of a share p, measured on n images, is the root of p (1 - p) / n.",
        "The first: p is 0.6 and n is 5. For the second, solve the same formula for n.",
        "n is p (1 - p) over the square of the standard error.",
    )
    answer = """
        standard_error = (0.6 * 0.4 / 5) ** 0.5
        images_needed = 0.6 * 0.4 / 0.02**2
    """
    why = (
        "0.22 and 600. One image more or less moves this recall by 0.2, about one standard error, "
        "so 3 of 5 and 4 of 5 cannot be told apart. An error eleven times smaller takes 120 times "
        "the images. Choose such settings over several seeds, or leave them at their defaults."
    )

    def examine(self, standard_error, images_needed):
        got, right = share(standard_error), (0.6 * 0.4 / 5) ** 0.5
        mistakes = (
            (0.6 * 0.4 / 5, "This is the variance. The standard error is its root."),
            ((0.6 * 0.4 / 4) ** 0.5, "This divides by n - 1. Divide by n."),
            (0.24**0.5, "This is the deviation of a single image. Where do the five come in?"),
            (0.24**0.5 / 5, "Divided by n after the root. The root is of n, too."),
            (0.24, "This is p (1 - p): divide by the images, then take the root."),
            ((0.6 / 5) ** 0.5, "A factor 1 - p is missing under the root."),
            (0.2, "0.2 is what one image changes. How much does chance change?"),
        )
        recognise(got, mistakes, 0.01)
        if not close(got, right, 0.01):
            raise NotYet(
                f"The standard error of a recall of 0.6 on five images is not {got:.3g}. Give "
                "two digits."
            )
        n = number(images_needed)
        for wrong, message in (
            (0.24 / 0.02, "The standard error is a root, so it has to be squared here."),
            (5 * right / 0.02, "The error does not fall with n but with the root of n."),
            (right / 0.02, "So much smaller the error has to be. What does that take in images?"),
            ((right / 0.02) ** 2, "So many times more images. How many were there?"),
            (0.24 / 0.02**2 - 5, "So many images more. How many in all?"),
        ):
            if close(n, wrong, 0.005 if wrong > 500 else 0.02):
                raise NotYet(message)
        if not close(n, 600, 0.004):
            raise NotYet(
                f"With {n:g} images the standard error is {(0.24 / n) ** 0.5:.3g}, not 0.02."
                if n > 0
                else "The number of images is above 0."
            )


class TurnedImages(Exercise):
    """Turn each image of a batch by its own number of quarters, for a rotation task."""

    hints = (
        "`torch.rot90` turns all that it gets by the same number of quarters. So go image by "
        "image, or quarter by quarter.",
        "One image has the shape (3, H, H): height and width are the dimensions 1 and 2.",
        "torch.stack the results of x.rot90(int(k), (1, 2)) over pairs of image and turns.",
    )
    answer = """
        def turn(images, turns):
            pairs = zip(images, turns.tolist(), strict=True)
            return torch.stack([image.rot90(k, (1, 2)) for image, k in pairs])
    """
    why = (
        "The images turn, and their number of quarters is the label, for which nobody is needed. "
        "The upright images must stay as they were: the classifier sees them in the same batch."
    )

    def examine(self, turn):
        for seed, (turns, size) in enumerate((([2, 0, 1, 3, 1, 3], 4), ([3, 3, 2], 7), ([1], 5))):
            generator = torch.Generator().manual_seed(seed)
            images = torch.rand(len(turns), 3, size, size, generator=generator)
            result, kept = call_and_keep(turn, images, torch.tensor(turns))
            got = numbers(result, images.shape)
            right = [image.rot90(k, (1, 2)) for image, k in zip(images, turns, strict=True)]
            if not close(got, torch.stack(right)):
                self.name_mistake(got, images, turns)
            if not torch.equal(kept[0], images):
                raise NotYet(
                    "The result is right, but the images that came in have changed. The "
                    "classifier needs them upright: write into a copy."
                )

    def name_mistake(self, got, images, turns):
        others = [[quarters(result, image) for image in images] for result in got]
        if all(any(q is not None for q in row) for row in others) and any(
            row[i] is None for i, row in enumerate(others)
        ):
            raise NotYet("The images came out in another order, so they no longer fit the labels.")
        seen = [quarters(result, image) for result, image in zip(got, images, strict=True)]
        if any(quarter is None for quarter in seen):
            i = seen.index(None)
            mirrored = quarters(got[i], images[i].flip(2)) is not None
            raise NotYet(
                "An image came out mirrored. A turn mirrors nothing."
                if mirrored
                else f"The result for an image with {turns[i]} quarters is none of its four turns."
            )
        if not any(seen):
            raise NotYet("All images came out upright, as they were.")
        if seen == [-k % 4 for k in turns]:
            raise NotYet("The images turn clockwise. Counter-clockwise is wanted.")
        if len(set(seen)) == 1:
            raise NotYet("All images are turned alike. Each has its own number of quarters.")
        i = next(i for i, (a, b) in enumerate(zip(seen, turns, strict=True)) if a != b)
        raise NotYet(
            f"With turns {turns} the number of quarters, counted counter-clockwise, came out as "
            f"{seen[i]} for image {i}."
        )


def quarters(result: np.ndarray, image: torch.Tensor) -> int | None:
    """By how many quarters an image was turned; None if it was not only turned."""
    return next((k for k in range(4) if close(result, image.rot90(k, (1, 2)))), None)


q1 = ByHand()
q2 = RepairTheLoss()
q3 = PlantedErrors()
q4 = AnotherShare()
q5 = TurnedImages()
