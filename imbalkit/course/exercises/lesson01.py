"""The exercises of lesson 01, diagnosing single-class collapse."""

import itertools
import math

import torch
import torch.nn.functional as F
from torch import nn

from imbalkit.course.exercises.base import Exercise, FreeText, NotYet, call, close, number, share
from imbalkit.metrics import effective_classes


class ReadTheMatrix(Exercise):
    """Four numbers from a confusion matrix with a dark column."""

    hints = (
        "Rows are true classes, columns are answers. Collapse is a column.",
        "Accuracy is the diagonal over all images; a recall is its place on the diagonal over its "
        "row. For the number of classes in use, add up each column first.",
        "The columns hold 2, 8, 87 and 3 of 100 answers. Take exp of their entropy, with natural "
        "logarithms.",
    )
    answer = """
        matrix = torch.tensor([[2, 0, 18, 0], [0, 8, 42, 0], [0, 0, 20, 0], [0, 0, 7, 3]])
        answers = matrix.sum(0) / matrix.sum()  # the columns: 0.02, 0.08, 0.87, 0.03
        collapses_to = answers.argmax()
        accuracy = matrix.trace() / matrix.sum()
        classes_in_use = effective_classes(answers.numpy())
        recall_of_class_3 = matrix[3, 3] / matrix[3].sum()
    """
    why = (
        "Class 2 gets 87 of 100 answers, so 1.66 classes are in use. The accuracy of 0.33 is below "
        "the 0.50 of a model that always says class 1. Class 2 is not the most frequent class. So "
        "the counts alone do not explain this collapse: look at the other causes first."
    )

    def examine(self, collapses_to, accuracy, classes_in_use, recall_of_class_3):
        self.examine_class(number(collapses_to))
        self.examine_accuracy(share(accuracy))
        self.examine_classes_in_use(number(classes_in_use))
        self.examine_recall(number(recall_of_class_3))

    def examine_class(self, value):
        if value == 1:
            raise NotYet("Class 1 has the most images. Which class has the most answers?")
        if value == 3:
            raise NotYet("Class 3 gets 3 of 100 answers. The classes are counted from 0.")
        if value != 2:
            raise NotYet("Give the number of the class, 0 to 3, whose column is the fullest.")

    def examine_accuracy(self, value):
        if close(value, 0.39, 0.01):
            raise NotYet("0.39 is the balanced accuracy, the mean of the four recalls.")
        if close(value, 0.5, 0.01):
            raise NotYet("0.50 is the share of class 1: the accuracy of the majority model.")
        if close(value, 0.87, 0.01):
            raise NotYet("0.87 is the share of the answers that class 2 gets, right or wrong.")
        if close(value, 0.67, 0.01):
            raise NotYet("0.67 is the share of the errors.")
        if not close(value, 0.33, 0.01):
            raise NotYet(f"The accuracy is not {value:g}: which entries are right answers?")

    def examine_classes_in_use(self, value):
        q = [0.02, 0.08, 0.87, 0.03]
        entropy = -sum(x * math.log(x) for x in q)
        bits = entropy / math.log(2)
        if close(value, math.exp(entropy), 0.01):
            return
        if close(value, entropy, 0.01) or close(value, bits, 0.01):
            raise NotYet(f"{value:.3g} is the entropy, which is 0 for one class. Take exp of it.")
        if close(value, 2**entropy, 0.01) or close(value, math.exp(bits), 0.01):
            raise NotYet("Two bases are mixed here: exp goes with natural logarithms.")
        if close(value, effective_classes([0.2, 0.5, 0.2, 0.1]), 0.01):
            raise NotYet("These are the shares of the true classes, the rows. Take the columns.")
        if close(value, 1 / sum(x * x for x in q), 0.01):
            raise NotYet("This is 1 over the sum of squares. The lesson takes exp of the entropy.")
        if close(value, math.exp(-entropy), 0.01):
            raise NotYet("The sign of the entropy is lost: there cannot be less than one class.")
        if value == 4:
            raise NotYet("This counts every column alike. Weigh the columns: exp of the entropy.")
        if not 1 <= value <= 4:
            raise NotYet("The number of classes in use lies between 1 and 4.")
        if abs(value - math.exp(entropy)) < 0.06:
            raise NotYet(f"{value:g} is near. Give the classes in use with three digits.")
        raise NotYet(f"Classes in use: {value:.3g} is not exp of the entropy of the four columns.")

    def examine_recall(self, value):
        if close(value, 1, 0.01):
            raise NotYet("1 is the precision of class 3. The recall asks the row, not the column.")
        if close(value, 0.03, 0.01):
            raise NotYet("0.03 divides by all images. Of class 3 there are fewer.")
        if value == 3:
            raise NotYet("3 images are found. Which share of class 3 is that?")
        if close(value, 0.7, 0.01):
            raise NotYet("0.7 is the share that is missed.")
        if close(share(value), 2 * 0.3 / 1.3, 0.01):
            raise NotYet("This is the F1 of class 3, which counts false alarms too.")
        if not close(value, 0.3, 0.01):
            raise NotYet(f"{value:g}: of the images in the last row, which share is found?")


class TwoFloors(Exercise):
    """Losses of two classes that need no image: three numbers to compare a loss with."""

    hints = (
        "The entropy has one term for each class. The other two are cross-entropies of the outputs "
        "(1, 0), which a second softmax takes for logits.",
        "The second softmax makes e / (e + 1) and 1 / (e + 1) of (1, 0). The loss is the negative "
        "logarithm of what the right class gets.",
        "A right answer costs ln(1 + 1/e), a wrong one ln(1 + e). The third loss has nine right "
        "answers in ten.",
    )
    answer = """
        entropy_of_the_prior = -0.9 * math.log(0.9) - 0.1 * math.log(0.1)
        floor_of_softmax_twice = math.log(1 + 1 / math.e)
        always_first_class = 0.9 * math.log(1 + 1 / math.e) + 0.1 * math.log(1 + math.e)
    """
    why = (
        "0.325, 0.313 and 0.413. The loss of 0.41 is that of a collapsed model behind two "
        "softmaxes. With one softmax, knowing the shares alone gives 0.325. With two, even a "
        "perfect model stays at 0.313. So a loss of 0.32 says little here; look at a row of "
        "outputs, too."
    )

    def examine(self, entropy_of_the_prior, floor_of_softmax_twice, always_first_class):
        right, wrong = math.log(1 + 1 / math.e), math.log(1 + math.e)
        entropy = -0.9 * math.log(0.9) - 0.1 * math.log(0.1)
        self.compare("entropy of the prior", number(entropy_of_the_prior), entropy, {
            entropy / math.log(2): "is in bits. Here logarithms are natural, as in torch.",
            math.log(2): "is that of equal shares, ln 2. Here they are 0.9 and 0.1.",
            -entropy: "is negative: a sign is missing.",
            -0.9 * math.log(0.9): "has one term only. The rare class adds the larger one.",
            -0.1 * math.log(0.1): "has one term only. Each class adds one.",
            -math.log(0.9): "is the loss of a frequent image. Average it over both classes.",
            -math.log(0.1): "is the loss of a rare image. Average it over both classes.",
            math.exp(entropy): "is exp of the entropy: a number of classes, not a loss.",
            right: "is the floor of softmax twice.",
        })  # fmt: skip
        self.compare("floor of softmax twice", number(floor_of_softmax_twice), right, {
            math.log(1 + 9 / math.e): "is that of ten classes. Here C is 2.",
            math.log(1 + 2 / math.e): "counts two wrong classes. With C = 2 one is wrong.",
            0: "would be reached by one softmax. The second one cannot get there from (1, 0).",
            wrong: "is the loss of a wrong answer given with probability 1.",
            math.log(2): "is what equal outputs get. A perfect model gives (1, 0).",
            math.e / (1 + math.e): "is the probability. The loss is its negative logarithm.",
            -right: "is negative: a sign is missing.",
            entropy: "is the entropy of the prior. The floor is the loss of a perfect model.",
        })  # fmt: skip
        mixed = 0.9 * right + 0.1 * wrong
        self.compare("loss of always the first class", number(always_first_class), mixed, {
            right: "is that of a perfect model. One image in ten is answered wrongly.",
            0.9 * right: "leaves out the images that are answered wrongly.",
            0.1 * wrong: "leaves out the images that are answered rightly.",
            0.1 * right + 0.9 * wrong: "has the shares swapped: nine in ten are right.",
            (right + wrong) / 2: "averages both classes equally. Nine images in ten are of one.",
            wrong: "is that of one wrong answer. Nine in ten are right.",
            math.inf: "is the loss with one softmax. The second one softens the answer.",
            entropy: "is the entropy of the prior, which takes the shares for outputs, not (1, 0).",
            0.1: "is the share of errors. What does each answer cost?",
            self.shares_as_outputs(): "takes the shares for outputs. This model gives (1, 0).",
        })  # fmt: skip

    def compare(self, name, value, right, mistakes):
        """Right within 0.002, so that three digits are enough; else the mistake it looks like."""
        if abs(value - right) <= 0.002:
            return
        for wrong, words in mistakes.items():
            if value == wrong or abs(value - wrong) <= 0.002:
                raise NotYet(f"The {name}: {value:.3f} {words}")
        if abs(value - right) <= 0.015:
            raise NotYet(f"The {name} is near {value:g}, but these losses need three digits.")
        raise NotYet(f"The {name} is not {value:.4g}.")

    def shares_as_outputs(self):
        outputs = torch.tensor([0.9, 0.1], dtype=torch.float64)
        return -(outputs * outputs.log_softmax(0)).sum().item()


class ToyTraining:
    """A tiny model, an optimizer and some batches. Copies of them are the same objects, so that
    `call` shows what a training step does to them."""

    class Model(nn.Sequential):
        def __deepcopy__(self, memo):
            return self

    class Optimizer(torch.optim.SGD):
        def __deepcopy__(self, memo):
            return self

    def __init__(self, seed, inputs, classes, batch):
        with torch.random.fork_rng(devices=[]):  # leave the learner's random numbers alone
            torch.manual_seed(seed)
            self.model = self.Model(
                nn.BatchNorm1d(inputs), nn.Linear(inputs, 6), nn.ReLU(), nn.Linear(6, classes)
            )
            self.batches = [
                (2 * torch.randn(batch, inputs) + 1, torch.randint(classes, (batch,)))
                for _ in range(3)
            ]
        self.optimizer = self.Optimizer(self.model.parameters(), lr=0.1, momentum=0.5)

    def run(self, step):
        """The losses that `step` returns, and the weights after each step."""
        losses, weights = [], []
        for images, labels in self.batches:
            self.model.eval()  # as an evaluation leaves it
            losses.append(step(self.model, self.optimizer, images, labels))
            weights.append(self.weights())
        return losses, torch.stack(weights)

    def weights(self):
        return torch.cat([p.detach().flatten().clone() for p in self.model.parameters()])

    def has_gradients(self):
        return any(p.grad is not None and p.grad.any() for p in self.model.parameters())


class RepairTheStep(Exercise):
    """A training step with three faults."""

    FAULTS = {
        "eval": "The outputs are made in evaluation mode. Which call, before them, ends it?",
        "softmax": "The loss gets probabilities. F.cross_entropy applies softmax itself.",
        "keep": "Gradients of earlier batches are added to those of this one.",
        "sum": "The loss is summed over the batch. The mean is wanted, as in the lesson.",
    }
    hints = (
        "Go through the lesson's list of causes with the code beside you. Three lines of the code "
        "hurt.",
        "Evaluation mode, softmax before the loss, and gradients that are cleared before the "
        "optimizer has used them.",
        "The order: train mode, clear the gradients, loss of the raw logits, backward, step.",
    )
    answer = """
        def step(model, optimizer, images, labels):
            model.train()
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            return loss.item()
    """
    why = (
        "Three faults, and none of them stops with an error. Where the gradients are cleared does "
        "not matter, as long as it is not between backward() and step()."
    )

    def examine(self, step):
        for settings in ((1, 4, 3, 12), (2, 5, 4, 7)):
            seen, wanted = ToyTraining(*settings), ToyTraining(*settings)
            start = seen.weights()
            losses, weights = seen.run(lambda *arguments: call(step, *arguments))
            losses = [number(loss) for loss in losses]
            right_losses, right_weights = wanted.run(reference_step)
            same_weights = close(weights, right_weights, 1e-3)
            if same_weights and close(losses, right_losses, 1e-3):
                continue
            if close(weights, start, 1e-7):
                self.explain_standstill(seen)
            self.name_faults(settings, losses, weights)
            if same_weights:
                raise NotYet(
                    f"The weights move as they should. The value returned is {losses[0]:.4g}; the "
                    f"loss of the batch, a mean over its images, was {right_losses[0]:.4g}."
                )
            raise NotYet(
                "After a step on a small model the weights are not what the optimizer makes of the "
                f"gradient of the mean cross-entropy. The loss of the first batch was "
                f"{right_losses[0]:.4g}, and your step returned {losses[0]:.4g}."
            )

    def explain_standstill(self, toy):
        if toy.has_gradients():
            raise NotYet(
                "The weights never move, though gradients are there afterwards. Is "
                "optimizer.step() called, and behind backward()?"
            )
        raise NotYet(
            "The weights never move, and no gradient is left afterwards. Is backward() called, and "
            "is nothing cleared between it and optimizer.step()?"
        )

    def name_faults(self, settings, losses, weights):
        """Make the faults ourselves, the fewest first, until the weights and losses agree."""
        for size in range(1, len(self.FAULTS) + 1):
            for faults in itertools.combinations(self.FAULTS, size):
                ours = ToyTraining(*settings).run(lambda *x, f=faults: reference_step(*x, *f))
                if close(losses, ours[0], 1e-3) and close(weights, ours[1], 1e-3):
                    more = f" It is one of {size} faults." if size > 1 else ""
                    raise NotYet(self.FAULTS[faults[0]] + more)


def reference_step(model, optimizer, images, labels, *faults):
    """The right step, or one with some of the faults of `RepairTheStep.FAULTS`."""
    model.train("eval" not in faults)
    if "keep" not in faults:
        optimizer.zero_grad()
    outputs = model(images)
    outputs = outputs.softmax(1) if "softmax" in faults else outputs
    loss = F.cross_entropy(outputs, labels, reduction="sum" if "sum" in faults else "mean")
    loss.backward()
    optimizer.step()
    return loss.item()


class ThreeCases(Exercise):
    """Name the cause of three described collapses."""

    right = "bfa"
    # What speaks against each of the other causes: in every case, and in each of the three.
    never = {
        "c": "the images have mean 0 and standard deviation 1, in training and in evaluation.",
        "g": "the classes are balanced.",
    }
    against = (
        {
            "a": "a rate that is too high shows in the training loss, and this one falls well.",
            "d": "dead units are dead in both modes.",
            "e": "frozen parameters are frozen in both modes.",
            "f": "if nothing were trained, the training loss would not fall to 0.5.",
        },
        {
            "a": "a rate that is too high moves the weights far. These do not move at all.",
            "b": "BatchNorm's averages matter in evaluation. They stop no weight.",
            "d": "dead units have a gradient of exactly 0. These gradients are above 0.",
            "e": "a frozen layer has no gradient: its grad is None.",
        },
        {
            "b": "BatchNorm's averages act in evaluation. Here the training loss is stuck.",
            "d": "the first layer had a gradient before the first step, so its way was open then.",
            "e": "a frozen layer has no gradient before the first step either.",
            "f": "the gradient became 0, so weights have changed.",
        },
    )
    hints = (
        "In each case look for the one number that a healthy training would not show.",
        "Case 1: the two accuracies. Case 2: the weights. Case 3: the gradient before and after.",
        "What acts in one of the two modes only? Who moves the weights? What can turn a healthy "
        "gradient into 0 within an epoch?",
    )
    answer = """
        case_1 = "b"
        case_2 = "f"
        case_3 = "a"
    """
    afterwards = """
        rate = 0.2  # then 0.4 and 0.8: at which does it collapse?
        candidate = fresh_net()
        _ = fit(candidate, train, 4, optimizer=sgd(candidate, lr=rate), show_progress=False)
        in_use = effective_classes(evaluate(candidate, test)["predicted_share"])
        print(f"rate {rate}: {in_use:.1f} classes in use")
    """
    why = (
        "One number tells each case apart. Of these causes only BatchNorm's averages divide the "
        "two modes. Gradients without motion mean an optimizer that holds other parameters. A "
        "gradient that was healthy and became 0 was killed by the first steps.\n\n"
        "`solution()` has code that looks for the limit of the rate. On CIFAR-10 with the `cpu` "
        "profile 0.2 was healthy on both seeds that we tried, 0.4 on one of the two (the other "
        "ended in NaN), and 0.8 on none. So the limit is no sharp line, and a rate that works may "
        "fail with another seed. When a model collapses, divide the rate by ten before you touch "
        "anything else."
    )
    blank = 'Replace each None by a letter, such as "a".'

    def examine(self, case_1, case_2, case_3):
        answers = (case_1, case_2, case_3)
        letters = [a.strip(" ().\n").lower() if isinstance(a, str) else "" for a in answers]
        for case, letter in enumerate(letters, 1):
            if letter not in list("abcdefg"):
                raise NotYet(f'Case {case}: answer with one letter in quotes, "a" to "g".')
        for case, letter in enumerate(letters, 1):
            if letter != self.right[case - 1]:
                raise NotYet(f"Case {case}: {(self.never | self.against[case - 1])[letter]}")


class AnswerAThread(FreeText):
    """What a reported accuracy and loss say, and what to ask for."""

    hints = (
        "Compare both numbers with those of a model that looks at no image.",
        "0.95 is the majority share. The entropy of a prior of 0.95 and 0.05 is 0.199.",
        "Weights that change nothing are a hint too: which causes do not depend on the classes?",
    )
    model_answer = """
        0.95 is the accuracy of always saying class 0, and 0.20 is the entropy of the prior: the
        model knows the shares of the classes and nothing of the images. Balance alone is an
        unlikely cause, since weights change nothing. So ask for the mean and the deviation of one
        batch of images, for the gradients and the change of the weights after one step, and for the
        recall of each class in train mode and in eval mode. Or run `imbalkit.diagnose`.
    """


q1 = ReadTheMatrix()
q2 = TwoFloors()
q3 = RepairTheStep()
q4 = ThreeCases()
q5 = AnswerAThread()
