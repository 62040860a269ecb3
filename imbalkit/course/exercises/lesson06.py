"""The exercises of lesson 06, two-stage training."""

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

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


class WhichPart(Choice):
    """Two gaps in recall: which half of the network does each belong to?"""

    right = "b"
    wrong = {
        "a": "cRT did not touch the features. With the same features the rare recall on the "
        "training images went from 0.05 to 0.95, so they did separate these images.",
        "c": "The classifier of stage 2 has nothing left to gain on the training images. More of "
        "the same cannot close a gap between seen and new images.",
        "d": "The first gap, 0.05 against 0.9, is on the training images themselves. Nothing new "
        "is in it that one could over-fit to.",
    }
    hints = (
        "Between 0.05 and 0.95 on the same training images, what has changed and what has not?",
        "Between 0.95 and 0.5 the model is the same one. What has changed?",
    )
    answer = 'choice = "b"'
    why = (
        "0.05 became 0.95 with the features as they were, so only the classifier was in the way. "
        "Stage 2 mends that. From 0.95 to 0.5 the model stays and the images are new: it knows "
        "the few rare ones too well. More variety must mend that, such as augmentation."
    )


class BiasAlone(Exercise):
    """Take the prior out of a trained classifier by its bias: logit adjustment."""

    hints = (
        "Dividing a probability by a number, what does that do to its logit? Logits are "
        "logarithms of probabilities, up to a constant.",
        "Make a deep copy of the layer. Inside `with torch.no_grad():` change the copy's bias.",
        "The bias of class c gets smaller by ln(n_c / N).",
    )
    answer = """
        def shifted(classifier, counts):
            result = copy.deepcopy(classifier)
            n = torch.tensor(counts, device=classifier.weight.device)
            with torch.no_grad():
                result.bias -= (n / n.sum()).log()
            return result
    """
    afterwards = """
        bias_alone = copy.deepcopy(stage1)
        bias_alone.classifier = shifted(stage1.classifier, lab.counts)
        judge("bias alone", bias_alone)
        crt = results["new classifier (cRT)"]["balanced_accuracy"]
        print(f"new classifier (cRT), from above: {crt:.1%}")
    """
    why = (
        "It is called logit adjustment. It needs no training, and in our run it gained about as "
        "much as cRT. So ten numbers, one added to each logit, mend most of the decision."
    )

    def examine(self, shifted):
        for seed, (counts, width) in enumerate((([400, 90, 30, 8], 5), ([20, 500, 60], 3))):
            layer, features = small_layer(width, len(counts), seed)
            result, (given, _) = call_and_keep(shifted, layer, counts)
            got = logits_of(result, features, len(counts))
            self.name_mistake(got, layer, features, np.array(counts))
            if not close(logits_of(given, features, len(counts)), layer(features).detach()):
                raise NotYet(
                    "The new layer is right, but the old one has changed with it: afterwards "
                    "stage1 would no longer be stage 1. Work on a copy."
                )

    def name_mistake(self, got, layer, features, counts):
        part = counts / counts.sum()
        bias = layer.bias.detach().double().numpy()
        moved = got - layer(features).detach().double().numpy()
        moved -= moved.mean(1, keepdims=True)  # a constant is nothing to softmax

        def same(shift):
            return np.allclose(moved, shift - shift.mean(), atol=1e-3)

        if same(-np.log(part)):
            return
        if same(0 * part):
            raise NotYet("The layer answers as before. Are the counts used, and the copy returned?")
        if same(np.log(part)):
            raise NotYet("The frequent classes now win even more often: is the sign turned?")
        if any(same(shift) for shift in (-part, part, -counts, counts)):
            raise NotYet("The logits move by the shares or counts themselves; a step is missing.")
        if same(-np.log2(part)) or same(-np.log10(part)):
            raise NotYet("The direction is right. The logarithm has another base than e.")
        if same(bias / part - bias):
            raise NotYet("The bias is divided. The probability is to be divided, not its logit.")
        if same(-np.log(part) - bias):
            raise NotYet("The shift is right, but it has replaced the old bias.")
        if not np.allclose(moved, moved[:1], atol=1e-3):
            raise NotYet(
                "The logits of different images have moved by different amounts. Only the bias is "
                "to change, and the weights to stay."
            )
        raise NotYet(
            f"With the counts {counts.tolist()} the logits have moved by "
            f"{np.round(moved[0] - moved[0, 0], 2).tolist()}, counted from that of class 0; it "
            f"should be {np.round(np.log(part[0] / part), 2).tolist()}."
        )


def small_layer(width: int, classes: int, seed: int) -> tuple[nn.Linear, torch.Tensor]:
    """A last layer and feature vectors for it, without touching torch's own generator."""
    generator = torch.Generator().manual_seed(seed)
    layer = nn.utils.skip_init(nn.Linear, width, classes)
    with torch.no_grad():
        layer.weight.normal_(generator=generator)
        layer.bias.normal_(generator=generator)
    return layer, torch.randn(6, width, generator=generator)


def logits_of(layer, features: torch.Tensor, classes: int) -> np.ndarray:
    """The logits of a layer that a learner has made."""
    if not isinstance(layer, nn.Module):
        raise NotYet("Return a layer, like the one that came in, with its bias changed.")
    try:
        with torch.no_grad():
            logits = layer(features)
    except Exception as error:
        raise NotYet(
            f"The layer that you return stopped with {type(error).__name__}: {error}."
        ) from None
    return numbers(logits, (len(features), classes))


class Freeze(Exercise):
    """Features that stay as they are, whatever a training around them does."""

    hints = (
        "Two things must stand still: the weights, and the running statistics. What moves each?",
        "`model.train()` calls `train(True)` on every module inside. So a module of your own with "
        "its own `train` can refuse.",
        "Write a class Frozen(torch.nn.Module) around the features: no gradient, `eval()`, and a "
        "method `train(self, mode=True)` that returns `super().train(False)`.",
    )
    answer = """
        class Frozen(torch.nn.Module):
            def __init__(self, features):
                super().__init__()
                self.features = features.requires_grad_(False).eval()

            def forward(self, images):
                return self.features(images)

            def train(self, mode=True):
                return super().train(False)


        def freeze(features):
            return Frozen(features)
    """
    afterwards = """
        still = copy.deepcopy(stage1)
        still.features = freeze(still.features)
        torch.manual_seed(0)
        still.classifier.reset_parameters()
        _ = fit(still, balanced_batches, 1, optimizer=sgd(still.classifier), show_progress=False)
        drift = (statistics(still) - statistics(stage1)).norm() / statistics(stage1).norm()
        print(f"change of the running means: {drift:.1%}")
    """
    why = (
        "Three things were needed. No gradient keeps the weights. Evaluation mode keeps the "
        "statistics and makes BatchNorm use them. And it must hold when the training loop calls "
        "train(), which `fit` does in every epoch."
    )

    def examine(self, freeze):
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            for blocks in (1, 2):
                torch.manual_seed(blocks)
                features = tiny_features(blocks)
                images = 1 + 3 * torch.randn(8, 3, 6, 6)
                wanted = copy.deepcopy(features).eval()(images).detach()
                frozen = call(freeze, features)
                if not isinstance(frozen, nn.Module):
                    raise NotYet(
                        "Return a torch.nn.Module, so that it can be a part of a model; this is "
                        f"of type {type(frozen).__name__}."
                    )
                try:
                    self.judge(frozen, images, wanted)
                except NotYet:
                    raise
                except Exception as error:
                    raise NotYet(
                        "A training step with your frozen features stopped with "
                        f"{type(error).__name__}: {error}."
                    ) from None

    def judge(self, frozen, images, wanted):
        norms = [m for m in frozen.modules() if isinstance(m, nn.BatchNorm2d)]
        was_still = not any(m.training for m in norms)
        before = {name: value.clone() for name, value in frozen.state_dict().items()}
        at_once = numbers(frozen(images).detach(), wanted.shape)
        model = train_a_little(frozen, images, wanted.shape[1])
        after = frozen.state_dict()
        moved = [name for name in before if not torch.equal(before[name], after[name])]
        weights = [name for name in moved if name in dict(frozen.named_parameters())]
        if weights:
            raise NotYet(
                f"In a training step {len(weights)} of the features' weights moved, such as "
                f"{weights[0]}: they still get a gradient."
            )
        if any("running" in name for name in moved):
            raise NotYet(
                "The weights stand still, and evaluation mode was on. Then the training loop "
                "called model.train(), and the running statistics moved."
                if was_still
                else "The weights stand still. The running statistics of BatchNorm have moved."
            )
        model.train()
        in_training = numbers(frozen(images), wanted.shape)
        model.eval()
        if not close(numbers(frozen(images), wanted.shape), wanted, 1e-3):
            raise NotYet("In evaluation mode the vectors are other than those of the old features.")
        if not close(in_training, wanted, 1e-3):
            raise NotYet(
                "Nothing moves. But after model.train() the vectors are others than in evaluation "
                "mode: BatchNorm normalises by the batch at hand."
            )
        if not close(at_once, wanted, 1e-3):
            raise NotYet(
                "In a training nothing moves. But used at once, before anybody calls train() or "
                "eval(), the vectors are not those of evaluation mode."
            )


def tiny_features(blocks: int) -> nn.Module:
    """Features with BatchNorm, which have seen a batch. With several blocks they are nested."""
    parts = [
        nn.Sequential(nn.Conv2d(3 if i == 0 else 4, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        for i in range(blocks)
    ]
    parts = parts if blocks > 1 else list(parts[0])
    features = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    features(torch.randn(16, 3, 6, 6))
    return features


def train_a_little(features: nn.Module, images: torch.Tensor, width: int) -> nn.Module:
    """Three steps of a new head on features, as `fit` takes them, with all parameters at hand."""
    model = nn.Sequential(features, nn.Linear(width, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    labels = torch.arange(len(images)) % 3
    for _ in range(3):
        model.train()
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    return model


class HowFar(Exercise):
    """What tau does to two lengths, worked by hand, and which tau turns their order."""

    hints = (
        "A vector of length L is divided by L to the power tau. How long is it then?",
        "The new length is L to the power (1 - tau).",
        "The ratio of the two lengths is 4 at tau 0, and 4 to the power (1 - tau) in general. "
        "When is that 1/2?",
    )
    answer = """
        frequent = 16 / 16**0.25
        rare = 4 / 4**0.25
        tau = 1.5
    """
    why = (
        "8, 2.83 and 1.5. The ratio 4 becomes 2.83 at tau 0.25, 1 at tau 1 and 1/2 at tau 1.5. "
        "Above 1 the rare class has the longer vector, as with the learned scales of this lesson."
    )

    def examine(self, frequent, rare, tau):
        lengths, right = np.array([number(frequent), number(rare)]), np.array([8, 8**0.5])
        mistakes = (
            ([2, 2**0.5], "These are the divisors, the lengths to the power tau. Now divide."),
            ([32, 32**0.5], "The vectors are multiplied by a power of their length. Divide."),
            ([4, 1], "The lengths are multiplied by tau. In the formula it is a power."),
            ([4, 4], "The vectors are divided by tau times their length. It is a power."),
            ([64, 16], "The lengths are divided by tau. In the formula it is a power."),
            ([1, 1], "Equal lengths: that is tau 1. Here tau is 0.25."),
            ([16, 4], "These are the old lengths, as with tau 0."),
            (right[::-1], "Are the two swapped?"),
        )
        recognise(lengths, mistakes, 0.01)
        for name, got, wanted in zip(("frequent", "rare"), lengths, right, strict=True):
            if not close(got, wanted, 0.01):
                raise NotYet(
                    f"The length of the {name} class's vector is not {got:.4g}. Give two digits "
                    "behind the point."
                )
        power = number(tau)
        if not close(power, 1.5, 0.01):
            ratio = 4 ** np.clip(power - 1, -9, 9)
            raise NotYet(
                "Both lengths are right. The rare class's vector is to be twice as long as the "
                f"other; with your tau it is {ratio:.3g} times as long."
            )


class BothAtOnce(Exercise):
    """The share of the loss that the rare class has, with one remedy and with two."""

    hints = (
        "Share of the loss: how many images a class has in the batches, times its weight.",
        "Balanced batches have as many images of both classes. The balanced weights differ by a "
        "factor of 100.",
    )
    answer = """
        weights_only = 45 * 100 / (4500 * 1 + 45 * 100)
        batches_only = 1 / (1 + 1)
        both = 1 * 100 / (1 * 1 + 1 * 100)
    """
    afterwards = """
        twice = copy.deepcopy(stage1)
        torch.manual_seed(0)
        _ = stages.retrain_classifier(twice, balanced_batches, 1, loss_fn=balanced_loss)
        judge("cRT, balanced twice", twice)
        names = ["new classifier (cRT)", "cRT, balanced twice"]
        pd.DataFrame({name: comparison_row(results[name], lab.counts) for name in names}).T.round(1)
    """
    why = (
        "Half, half and 0.990. Each remedy balances alone. Together they compensate twice, and the "
        "rare class has a hundred times the share of the frequent one: the old imbalance, turned "
        "around. Expect recall to move from the frequent classes to the rarest."
    )

    def examine(self, weights_only, batches_only, both):
        first, second, third = share(weights_only), share(batches_only), share(both)
        for value, what in ((first, "With weights only"), (second, "With balanced batches only")):
            if close(value, 1 / 101, 0.03):
                raise NotYet(f"{what}, {value:.3g} is the share as it is without any remedy.")
            if close(value, 100 / 101, 0.005):
                raise NotYet(f"{what}, {value:.3g} would compensate twice.")
            if not close(value, 0.5, 0.01):
                raise NotYet(f"{what}, the share is not {value:.3g}. What does balanced mean?")
        if close(third, 0.5, 0.01):
            raise NotYet("Two remedies, each of which balances alone: does the second do nothing?")
        if close(third, 1 / 101, 0.03):
            raise NotYet("With both, the share is on the wrong side: that is the frequent class's.")
        if third > 0.9916:
            raise NotYet(
                "With both, the frequent class keeps a small share. Compute the two parts."
            )
        if abs(third - 100 / 101) > 0.0015:
            raise NotYet("With both: equally many images of each class. Which ratio of weights?")


q1 = WhichPart()
q2 = BiasAlone()
q3 = Freeze()
q4 = HowFar()
q5 = BothAtOnce()
