"""The exercises of lesson 08, augmentation for the few."""

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import v2

from imbalkit.course.exercises.base import (
    Choice,
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


class LabelsByHand(Exercise):
    """The share of the rare class in the label of a mixed image, by three rules."""

    hints = (
        "In mixup the label has the same shares as the pixels. How much of the picture is rare?",
        "Remix compares two things: the ratio of the counts with kappa, and the frequent image's "
        "share with tau. Both must hold.",
        "Of the pasted box only what lies inside the image counts: 12 of its 16 columns.",
    )
    answer = """
        mixup = 1 - 0.6
        remix = 1 - 0.6
        remix_less = 1
        pasted = 16 * 12 / (32 * 32)
    """
    why = (
        "0.4, 0.4, 1 and 0.188. Remix acts only where the rare image has more than half of the "
        "pixels: at lambda 0.6 it is mixup, at 0.4 the whole label is rare. A pasted box counts by "
        "the pixels that can be seen."
    )

    def examine(self, mixup, remix, remix_less, pasted):
        first, second, third, fourth = map(share, (mixup, remix, remix_less, pasted))
        if close(first, 0.6, 0.01):
            raise NotYet("Mixup: 0.6 is the share of the frequent class. Give the rare one's.")
        if not close(first, 0.4, 0.01):
            raise NotYet(f"Mixup: the label has the shares of the pixels. {first:g} is not one.")
        if close(second, 1, 0.01):
            raise NotYet(
                "Remix at 0.6: the ratio is above kappa, but is the frequent image's share below "
                "tau? Both conditions must hold."
            )
        if close(second, 0.6, 0.01):
            raise NotYet("Remix at 0.6: that is the share of the frequent class.")
        if not close(second, 0.4, 0.01):
            raise NotYet(
                f"Remix at 0.6: the rule gives 0, 1 or lambda to the first image, not {second:g}."
            )
        recognise(
            third,
            (
                (0.6, "Remix at 0.4: that is mixup's share. Compare 9 with kappa, 0.4 with tau."),
                (0, "Remix at 0.4: the label goes wholly to one class. To which of the two?"),
                (0.4, "Remix at 0.4: that is the frequent class's share of the pixels."),
            ),
            0.01,
        )
        if not close(third, 1, 0.01):
            raise NotYet(f"Remix at 0.4: the rule gives 0, 1 or lambda to each, not {third:g}.")
        recognise(
            fourth,
            (
                (0.25, "Pasted: a quarter is the whole box. Four of its columns cannot be seen."),
                (0.8125, "Pasted: that is the share of the background. Give the rare class's."),
                (0.75, "Pasted: that is the visible part of the box. Compare it with the image."),
            ),
            0.01,
        )
        if not close(fourth, 0.1875, 0.01):
            raise NotYet("Pasted: visible pixels of the box, divided by pixels of the image.")


class Paste(Exercise):
    """Paste a box that may reach over the border, and say what the label becomes."""

    hints = (
        "Cut the box off at the border first: from which row to which row can it be seen?",
        "`max(top, 0)` and `min(top + side, height)` are the first row and the row after the last. "
        "A slice that starts at a negative number counts from the end.",
        "Work on `background.clone()`. The share is rows times columns, divided by the pixels of "
        "the image.",
    )
    answer = """
        def paste(background, foreground, top, left, side):
            height, width = background.shape[1:]
            rows = slice(max(top, 0), min(top + side, height))
            columns = slice(max(left, 0), min(left + side, width))
            image = background.clone()
            image[:, rows, columns] = foreground[:, rows, columns]
            pixels = (rows.stop - rows.start) * (columns.stop - columns.start)
            return image, pixels / (height * width)
    """
    why = (
        "The label follows the pixels that are really there. A box that is cut off counts less, "
        "and a slice such as [-4:8] is empty: nothing is pasted, nothing fails, and the label "
        "claims otherwise. PasteRare does the same for a whole batch."
    )
    cases = (  # top, left, side, with the image 10 high and 14 wide
        (2, 3, 4),
        (-2, 5, 6),
        (4, -3, 5),
        (7, 11, 6),
        (-3, -4, 30),
        (3, 1, 1),
    )

    def examine(self, paste):
        generator = torch.Generator().manual_seed(8)
        for top, left, side in self.cases:
            images = torch.randint(0, 256, (2, 3, 10, 14), generator=generator, dtype=torch.uint8)
            background, foreground = images
            result, kept = call_and_keep(paste, background, foreground, top, left, side)
            rows, columns = torch.arange(10)[:, None], torch.arange(14)
            box = (rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side)
            where = f"Box of {side} pixels from row {top}, column {left}, image 10 x 14"
            self.judge(result, torch.where(box, foreground, background), box, background, where)
            if not torch.equal(kept[0], background) or not torch.equal(kept[1], foreground):
                raise NotYet(
                    "The result is right, but a given image has changed with it: the next epoch "
                    "would start from pasted images. Work on a copy."
                )

    def judge(self, result, wanted, box, background, where):
        if not isinstance(result, tuple | list) or len(result) != 2:
            raise NotYet("Return two things: the image and the share of the foreground.")
        image, part = numbers(result[0], wanted.shape), number(result[1])
        if not np.array_equal(image, wanted.numpy()):
            if np.array_equal(image, background.numpy()):
                raise NotYet(f"{where}: nothing has been pasted. Does a slice start below 0?")
            changed = (image != background.numpy()).any(0)
            if changed[~box.numpy()].any():
                raise NotYet(f"{where}: pixels outside the box have changed.")
            if changed.sum() < 0.9 * box.sum().item():
                raise NotYet(f"{where}: only a part of the visible box has been pasted.")
            raise NotYet(
                f"{where}: the box does not show the foreground's pixels of the same place."
            )
        visible = box.sum().item()
        if close(part, visible / box.numel(), 1e-3):
            return
        if close(part, 1 - visible / box.numel(), 1e-3):
            raise NotYet(f"{where}: {part:.3g} is the share of the background.")
        if part > visible / box.numel():
            raise NotYet(
                f"{where}: the image is right. The share {part:.3g} is too high: {visible} pixels "
                "of the box can be seen."
            )
        raise NotYet(
            f"{where}: the image is right. The share is {part:.3g}; {visible} of the "
            f"{box.numel()} pixels are pasted."
        )


class TurnLeft(Choice):
    """Which policy of mirroring suits two traffic signs that are each other's mirror image?"""

    right = "c"
    wrong = {
        "a": 'A mirrored "turn left" looks like "turn right". Half of the rare class\'s images '
        "would carry the wrong label.",
        "b": "That does no harm. But here mirroring is worth more than nothing: think of what a "
        'mirrored "turn right" shows.',
        "d": "Then both classes contain both signs, and nothing in an image tells them apart.",
    }
    hints = (
        "Draw both signs, and mirror each. What does the result show?",
        "A change need not keep the class. It must only be known which class comes out.",
    )
    answer = 'choice = "c"'
    why = (
        "2,000 mirrored images of the frequent sign are 2,000 new images of the rare one. "
        "Mirroring with the label kept, as in (d), would make the two classes one. What an "
        "augmentation does to a class is knowledge about the world: write it down class by class."
    )


class Policy(Exercise):
    """Apply a class's own transforms, each with its probability, and the standard one last."""

    hints = (
        "`policy.get(label, [])` is the list of this class, or an empty one.",
        "Go through the list with a loop. Draw a random number for each transform, and compare it "
        "with the transform's probability.",
        "`if torch.rand(()) < probability: image = transform(image)` in the loop. Behind the loop "
        "`return standard(image)`.",
    )
    answer = """
        def example(image, label, policy, standard):
            for probability, transform in policy.get(label, []):
                if torch.rand(()) < probability:
                    image = transform(image)
            return standard(image)
    """
    why = (
        "The policy is a table now, which somebody who knows the classes can read and correct. "
        "The transforms see the image as it is, 0 to 255. The other order runs as well: "
        "ColorJitter then takes normalised numbers for pixels and clamps them without a word."
    )

    def examine(self, example):
        pixels = np.random.default_rng(8).integers(0, 256, (6, 6, 3), dtype=np.uint8)
        image = Image.fromarray(pixels)
        known = {
            "plain": image,
            "mirrored": mirror(image),
            "turned": turn(image),
            "both": turn(mirror(image)),
            "other order": mirror(turn(image)),
        }
        known = {name: standard(changed).numpy() for name, changed in known.items()}

        def often(label, chances, rounds=5):
            policy = {1: [(1.0, mirror)], 2: [(chances[0], mirror), (chances[1], turn)]}
            return [self.once(example, image, label, policy, known) for _ in range(rounds)]

        with torch.random.fork_rng(devices=[]):
            for chances in ((1.0, 1.0), (0.5, 0.5), (0.0, 1.0), (0.8, 0.3)):
                rounds = 300 if 0 < chances[0] < 1 else 5
                self.judge(often(2, chances, rounds), chances)
            if set(often(0, (1.0, 1.0))) != {"plain"}:
                raise NotYet("An image was changed whose class is not in the policy.")
            if set(often(1, (1.0, 1.0))) != {"mirrored"}:
                raise NotYet(
                    "A class whose list holds one transform with probability 1 did not get just "
                    "that."
                )

    def once(self, example, image, label, policy, known) -> str:
        """Which of the two transforms have been applied, and in which order?"""
        result = call(example, image, label, policy, standard)
        if isinstance(result, Image.Image):
            raise NotYet("An image came back without `standard`.")
        got = numbers(result, (3, 6, 6))
        for name, wanted in known.items():
            if close(got, wanted, 1e-3):
                return name
        raise NotYet("The result is not what `standard` makes of the image, changed or not.")

    def judge(self, outcomes, chances):
        where = f"With the probabilities {chances[0]:g} and {chances[1]:g}"
        if "other order" in outcomes:
            raise NotYet(f"{where}: the second transform came before the first. Keep the order.")
        first, second, both = (
            sum(name in wanted for name in outcomes) / len(outcomes)
            for wanted in (("mirrored", "both"), ("turned", "both"), ("both",))
        )
        for which, seen, wanted in (("first", first, chances[0]), ("second", second, chances[1])):
            if abs(seen - wanted) > (0.12 if 0 < wanted < 1 else 1e-6):
                raise NotYet(f"{where}: the {which} transform was applied in {seen:.0%} of calls.")
        if abs(both - chances[0] * chances[1]) > 0.1:
            raise NotYet(
                f"{where}: each is applied as often as it should be, and both at once in "
                f"{both:.0%} of the calls. Draw a random number for each of the two."
            )


def mirror(x):
    refuse_normalised(x)
    return v2.functional.horizontal_flip(x)


def turn(x):
    refuse_normalised(x)
    return v2.functional.rotate(x, 90)


def standard(x):
    refuse_normalised(x)
    return v2.functional.to_dtype(v2.functional.to_image(x), scale=True) * 4 - 2


def refuse_normalised(x) -> None:
    """Every transform of the exercise wants the pixels, 0 to 255."""
    if isinstance(x, torch.Tensor) and x.is_floating_point():
        raise TypeError("this wants pixels from 0 to 255, and got an image normalised already")


q1 = LabelsByHand()
q2 = Paste()
q3 = TurnLeft()
q4 = Policy()
