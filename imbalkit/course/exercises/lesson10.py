"""The exercises of lesson 10, a start without labels."""

import numpy as np
import torch
import torch.nn.functional as F

from imbalkit.checks import to_numpy
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


class LossByHand(Exercise):
    """The contrastive loss of one view from its cosines, at two temperatures."""

    hints = (
        "Divide the cosines by the temperature: those are the logits. It is a cross-entropy, with "
        "the partner as the right class.",
        "Three classes: the partner and the two others. The view itself is not among them.",
        "-ln(e^a / (e^a + e^b + e^c)) with a = 0.9 / temperature, b = 0.5 / temperature and "
        "c = -0.1 / temperature.",
    )
    answer = """
        def loss_of_the_view(temperature):
            logits = torch.tensor([0.9, 0.5, -0.1]) / temperature
            return F.cross_entropy(logits[None], torch.tensor([0])).item()


        loss_05 = loss_of_the_view(0.5)
        loss_01 = loss_of_the_view(0.1)
    """
    why = (
        "0.460 and 0.018. The cosines are the same. At the small temperature the partner's lead of "
        "0.4 is already decisive, and a view like this one hardly teaches any more. What is left "
        "to learn then sits in the views whose most similar one is wrong."
    )

    def examine(self, loss_05, loss_01):
        got = np.array([number(loss_05), number(loss_01)])
        cosines = np.array([[0.9, 0.5, -0.1]])
        tau = np.array([[0.5], [0.1]])

        def loss(logits, others=slice(None)):
            return np.log(np.exp(logits[:, others]).sum(1)) - logits[:, 0]

        logits = cosines / tau
        right = loss(logits)
        itself = loss(np.concatenate([cosines, [[1.0]]], 1) / tau)
        mistakes = (
            (right[::-1], "Are the two swapped?"),
            (loss(cosines * tau), "The cosines are multiplied by the temperature. Divide."),
            (loss(cosines + 0 * tau), "That is the loss at temperature 1. Where is it used?"),
            (
                -loss(logits, slice(1, None)),
                "The sign is turned, and the partner is not in the sum.",
            ),
            (loss(logits, slice(1, None)), "The partner belongs into the sum below the line too."),
            (itself, "The view itself is in the sum. It is the one that is left out."),
            (
                np.exp(-right),
                "These are the probabilities of the partner. The loss is -ln of them.",
            ),
            (-right, "The sign is turned."),
            (right / np.log(10), "The logarithm has the base 10. Take the natural one."),
            (right / np.log(2), "The logarithm has the base 2. Take the natural one."),
        )
        if not np.allclose(got, right, atol=0.006):
            recognise(got, mistakes, 0.02)
        for value, wanted, name in zip(got, right, ("0.5", "0.1"), strict=True):
            if abs(value - wanted) > (0.006 if wanted > 0.1 else 0.0012):
                raise NotYet(
                    f"At the temperature {name} the loss is not {value:.4g}. Give three digits "
                    "behind the point."
                )


class PartnerFound(Exercise):
    """A gauge that needs no labels: how often is the most similar other view the partner?"""

    hints = (
        "Start with the cosines of all pairs: make the rows one long, then multiply them with "
        "each other.",
        "Each view is most similar to itself. Take the diagonal out, then look for the largest "
        "entry of each row.",
        "The partner of view i is (i + N) modulo 2N: `torch.arange(2 * n).roll(n)`.",
    )
    answer = """
        def partner_found(z):
            z = F.normalize(z)
            cosines = z @ z.T
            itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
            nearest = cosines.masked_fill(itself, -2).argmax(1)
            partner = torch.arange(len(z), device=z.device).roll(len(z) // 2)
            return (nearest == partner).float().mean().item()
    """
    afterwards = """
        images, _ = next(iter(pairs))
        with torch.no_grad():
            _, z = contrastive.train()(images)
        print(f"partner found among {len(z) - 1} others: {partner_found(z):.0%}")
    """
    why = (
        "It is the accuracy that belongs to the contrastive loss. Like the loss it depends on the "
        "size of the batch, and on how hard the views are: it says that the network learns, and "
        "not that it learns what the classes need."
    )

    def examine(self, partner_found):
        for seed, n in enumerate((12, 25, 7)):
            views = some_projections(n, seed)
            cosines = to_numpy(F.normalize(views) @ F.normalize(views).T).astype(np.float64)
            right = found(cosines, n)
            got = share(call(partner_found, views))
            if close(got, right, 1e-3):
                continue
            self.name_mistake(got, cosines, to_numpy(views @ views.T), n, right)

    def name_mistake(self, got, cosines, products, n, right):
        side_by_side = (hidden(cosines).argmax(1) == np.arange(2 * n) ^ 1).mean()
        first_half = (hidden(cosines)[:n].argmax(1) == np.arange(n) + n).mean()
        among_second = (cosines[:n, n:].argmax(1) == np.arange(n)).mean()
        distinct = (
            (
                0.0,
                "No partner is found. Is a view compared with itself, or the least similar taken?",
            ),
            (1.0, "Every view is found. Is it compared with itself?"),
            (1 - right, "That is the share of the views whose partner is not found."),
            (found(products, n), "A long projection wins here. Take the cosine, not the product."),
            (first_half, "Only the first N views have been asked. The second N are views too."),
            (among_second, "The first N views have been compared with the second N only."),
            (side_by_side, "The partner of view i is N places further, not the next one."),
            (right * 2 * n / (2 * n - 1), "Divide by the number of views, 2N."),
            (right * 2, "Divide by the number of views, 2N, and not by N."),
        )
        for value, message in distinct:
            if close(got, value, 1e-3) and not close(value, right, 1e-3):
                raise NotYet(message)
        raise NotYet(
            f"For {2 * n} projections your function gives {got:.3f}, and {right:.3f} of the views "
            "have their partner as the most similar other view."
        )


def some_projections(n: int, seed: int) -> torch.Tensor:
    """Two views of n images, of very different lengths, some with the partner nearby."""
    generator = torch.Generator().manual_seed(seed)
    one = torch.randn(n, 5, generator=generator)
    other = one + 0.6 * torch.randn(n, 5, generator=generator)
    lengths = torch.rand(2 * n, 1, generator=generator) * 5 + 0.2
    return torch.cat([one, other]) * lengths


def hidden(similarity: np.ndarray) -> np.ndarray:
    """Similarities with those of a view to itself taken out."""
    return np.where(np.eye(len(similarity), dtype=bool), -np.inf, similarity)


def found(similarity: np.ndarray, n: int) -> float:
    """The share of the views whose most similar other one is their partner."""
    partner = np.roll(np.arange(2 * n), n)
    return float((hidden(similarity).argmax(1) == partner).mean())


class Ceiling(Exercise):
    """The best accuracy that a question about the image's turn allows."""

    hints = (
        "How often is the best possible network right on a ball? It sees the same picture "
        "whatever the turn was.",
        "A playing card: 0 and 180 degrees look alike, and so do 90 and 270. It can narrow four "
        "answers down to two.",
        "0.5 times 1, plus 0.3 times 1/2, plus 0.2 times 1/4.",
    )
    answer = "best = 0.5 * 1 + 0.3 * 1 / 2 + 0.2 * 1 / 4"
    why = (
        "0.7. Before you pretrain on your own images, ask whether a person could answer. In aerial "
        "images, under the microscope or in the sky there is often no up; then the task teaches "
        "the network to look for traces of the camera instead."
    )

    def examine(self, best):
        value = share(best)
        mistakes = (
            (0.5, "In the other half of the images a network can still guess, and be right."),
            (0.75, "Cards and balls count alike here. On a ball four answers look alike, not two."),
            (0.65, "The balls can be guessed as well."),
            (0.55, "On a card it can do better than that: it can narrow four answers down."),
            (
                0.625,
                "Cards and balls count alike here. On a card two answers look alike, not four.",
            ),
            (0.85, "One kind counts as certain here, although the picture leaves more answers."),
            (0.25, "That is guessing on every image."),
            (1.0, "Could you tell by how much a ball was turned?"),
            (0.3, "That is the share of errors. Which share is right?"),
        )
        if close(value, 0.7, 0.004):
            return
        recognise(value, mistakes, 0.004)
        raise NotYet(f"Not {value:g}. Take the three kinds of images one by one, then add.")


class Bill(Exercise):
    """How long may the rival from scratch train, if it may see as many images?"""

    hints = (
        "Count the images that pass through the network, in the pretraining and afterwards.",
        "In contrastive learning each image passes as two views.",
        "Rotation: (2 x 50,000 + 30 x 1,000) / 1,000.",
    )
    answer = """
        rival_of_rotation = (2 * 50_000 + 30 * 1_000) / 1_000
        rival_of_contrastive = (2 * 2 * 50_000 + 30 * 1_000) / 1_000
    """
    why = (
        "130 and 230 epochs, against the 30 that a table often shows. Against 30, the start is "
        "compared with a training that was stopped early. With 1,000 images a rival of 230 epochs "
        "knows them by heart long before the end, which is where a start has its chance."
    )

    def examine(self, rotation, contrastive):
        got = np.array([number(rotation), number(contrastive)])
        mistakes = (
            ([230, 130], "Are the two swapped?"),
            ([100, 200], "That pays for the pretraining. The 30 epochs with labels come on top."),
            ([130, 130], "In contrastive learning each image of an epoch passes twice."),
            ([100, 100], "The 30 epochs with labels come on top, and views are two."),
            ([32, 34], "Epochs are added. An epoch on 50,000 images is 50 times as long."),
            ([32, 32], "Epochs are added. An epoch on 50,000 images is 50 times as long."),
            ([30, 30], "That is the same time after the pretraining, which is not free."),
            ([230, 230], "Rotation shows each image once in an epoch, turned."),
            ([130_000, 230_000], "These are images. How many epochs on 1,000 images is that?"),
            ([2.6, 4.6], "The rival trains on the 1,000 labelled images, not on the 50,000."),
        )
        recognise(got, mistakes, 0.005)
        for value, right, name in zip(got, (130, 230), ("rotation", "contrastive"), strict=True):
            if not close(value, right, 0.005):
                raise NotYet(f"For {name} it is not {value:g}. Count images, then divide by 1,000.")


class UpsideDown(Exercise):
    """A pretext task of one's own, in the form that the batches call."""

    hints = (
        "Read QuarterTurns in imbalkit/selfsupervised.py: draw, change the images, return what was "
        "drawn.",
        "`torch.randint(2, (len(images),), generator=generator, device=images.device)` draws. "
        "`images.flip(2)` turns rows around, of all images.",
        "`torch.where` takes from one tensor where a condition holds, else from the other. The "
        "condition needs the shape (N, 1, 1, 1).",
    )
    answer = """
        def upside_down(images, targets, generator):
            flipped = torch.randint(
                2, (len(images),), generator=generator, device=images.device
            )
            chosen = flipped.bool().view(-1, 1, 1, 1)
            return torch.where(chosen, images.flip(2), images), flipped
    """
    afterwards = """
        two_answers = fresh(2)
        _ = fit(two_answers, lab.train_batches(augment=[*lab.augment, upside_down]), 1)
    """
    why = (
        "Any change that you can undo in your head makes such a task. Whether its features serve "
        "the classes is another question, which only a linear probe or a fine-tuning answers."
    )

    def examine(self, upside_down):
        for seed, (n, height, width) in enumerate(((200, 4, 6), (60, 5, 5))):
            images = torch.randint(
                256, (n, 3, height, width), generator=torch.Generator().manual_seed(seed)
            ).to(torch.uint8)
            self.judge(upside_down, images, torch.full((n,), 7), seed)

    def judge(self, function, images, labels, seed):
        generator = torch.Generator().manual_seed(seed)
        state = torch.get_rng_state()
        try:
            result, given = call_and_keep(function, images, labels, generator)
            again = call(function, images, labels, torch.Generator().manual_seed(seed))
        finally:
            moved = not torch.equal(state, torch.get_rng_state())
            torch.set_rng_state(state)
        pictures, flipped = self.both(result, images)
        if moved:
            raise NotYet("It draws from torch's global generator. Pass the one that is given.")
        if not torch.equal(self.both(again, images)[1], flipped):
            raise NotYet("The same generator gives other flips. Is every draw from it?")
        if not torch.equal(given[0], images):
            raise NotYet("The images that were given have changed. Work on a copy.")
        answer = flipped == 1
        if answer.all() or not answer.any():
            raise NotYet(f"All {len(images)} images have the same answer. Draw one for each.")
        if not 0.3 < answer.float().mean() < 0.7:
            raise NotYet(
                f"{answer.float().mean():.0%} of the images are flipped: draw 0 and 1 equally "
                "often."
            )
        self.compare(pictures, answer, images)

    def both(self, result, images):
        if not (isinstance(result, tuple | list) and len(result) == 2):
            raise NotYet("Return two things, the images and the new targets.")
        pictures, flipped = result
        if not (torch.is_tensor(pictures) and torch.is_tensor(flipped)):
            raise NotYet("Return two tensors, the images and the new targets.")
        numbers(flipped, (len(images),))
        if pictures.shape != images.shape:
            raise NotYet(
                f"The images have shape {tuple(pictures.shape)}, and {tuple(images.shape)} came in."
            )
        if pictures.dtype != torch.uint8:
            raise NotYet(f"The images came in as uint8 and go out as {pictures.dtype}.")
        if flipped.dtype != torch.int64:
            raise NotYet(f"The targets are {flipped.dtype}; a cross-entropy wants int64.")
        if (flipped == 7).all():
            raise NotYet("The targets are still the labels. Replace them by what was drawn.")
        if not ((flipped == 0) | (flipped == 1)).all():
            raise NotYet("The targets are to be 0 and 1.")
        return pictures, flipped

    def compare(self, pictures, answer, images):
        chosen = answer.view(-1, 1, 1, 1)

        def same(flip, where=chosen):
            return torch.equal(pictures, torch.where(where, flip, images))

        if same(images.flip(2)):
            return
        if same(images):
            raise NotYet("The images are as before. Return the flipped ones.")
        if same(images.flip(3)):
            raise NotYet("They are mirrored left to right. Upside down turns the rows around.")
        if same(images.flip(2, 3)):
            raise NotYet("They are turned by half, rows and columns. Only the rows are to move.")
        if same(images.flip(1)):
            raise NotYet("Red and blue are exchanged. The shape is (N, 3, H, W).")
        if same(images.flip(2), ~chosen):
            raise NotYet("The flipped images have the target 0, and the upright ones 1.")
        if torch.equal(pictures, images.flip(2)):
            raise NotYet("Every image is flipped, also those with the target 0.")
        raise NotYet("Images and targets do not fit: with target 1 the rows are turned around.")


q1 = LossByHand()
q2 = PartnerFound()
q3 = Ceiling()
q4 = Bill()
q5 = UpsideDown()
