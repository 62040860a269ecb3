"""Right answers in several styles, and every mistake that lesson 01's exercises expect."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import expect_not_yet

from imbalkit import metrics
from imbalkit.course.exercises import lesson01 as ex
from imbalkit.course.exercises.base import Outcome

TENSOR = torch.tensor
MATRIX = [[2, 0, 18, 0], [0, 8, 42, 0], [0, 0, 20, 0], [0, 0, 7, 3]]

MATRIX_WRONG = [
    ((1, 0.33, 1.66, 0.3), "most images"),
    ((3, 0.33, 1.66, 0.3), "counted from 0"),
    ((0, 0.33, 1.66, 0.3), "whose column is the fullest"),
    ((2, 0.39, 1.66, 0.3), "balanced accuracy"),
    ((2, 0.5, 1.66, 0.3), "majority model"),
    ((2, 0.87, 1.66, 0.3), "right or wrong"),
    ((2, 0.67, 1.66, 0.3), "share of the errors"),
    ((2, 33, 1.66, 0.3), "per cent"),
    ((2, 0.2, 1.66, 0.3), "not 0.2"),
    ((2, 0.33, 0.507, 0.3), "is the entropy"),
    ((2, 0.33, 0.731, 0.3), "is the entropy"),
    ((2, 0.33, 2.077, 0.3), "Two bases"),
    ((2, 0.33, 1.421, 0.3), "Two bases"),
    ((2, 0.33, 3.389, 0.3), "the rows"),
    ((2, 0.33, 1.307, 0.3), "sum of squares"),
    ((2, 0.33, 0.602, 0.3), "sign of the entropy"),
    ((2, 0.33, 4, 0.3), "every column alike"),
    ((2, 0.33, 7, 0.3), "between 1 and 4"),
    ((2, 0.33, 1.7, 0.3), "three digits"),
    ((2, 0.33, 2.5, 0.3), "2.5 is not exp"),
    ((2, 0.33, 1.66, 1), "precision"),
    ((2, 0.33, 1.66, 0.03), "all images"),
    ((2, 0.33, 1.66, 3), "Which share"),
    ((2, 0.33, 1.66, 30), "per cent"),
    ((2, 0.33, 1.66, 0.7), "missed"),
    ((2, 0.33, 1.66, 0.4615), "F1"),
    ((2, 0.33, 1.66, 0.5), "last row"),
]


@pytest.mark.parametrize(
    "right", [(2, 0.33, 1.66, 0.3), (TENSOR(2), 33 / 100, 1.6597, 3 / 10), (2.0, 0.33, 1.66, 0.3)]
)
def test_matrix(right):
    assert ex.q1.feedback(*right).outcome is Outcome.CORRECT


def test_matrix_by_the_package():
    matrix = np.array(MATRIX)
    summary = metrics.summary(matrix)
    used = metrics.effective_classes(matrix.sum(0) / matrix.sum())
    answer = (matrix.sum(0).argmax(), summary["accuracy"], used, summary["recall"][3])
    assert ex.q1.feedback(*answer).outcome is Outcome.CORRECT
    assert summary["balanced_accuracy"] == pytest.approx(0.39)


@pytest.mark.parametrize(("answer", "message"), MATRIX_WRONG)
def test_matrix_mistakes(answer, message):
    expect_not_yet(ex.q1, answer, message)


FLOORS = (0.325, 0.313, 0.413)
FLOORS_WRONG = [
    *[((x, *FLOORS[1:]), message) for x, message in [
        (0.469, "bits"), (0.693, "equal shares"), (-0.325, "sign"), (0.0948, "one term only"),
        (0.23, "one term only"), (0.105, "frequent image"), (2.303, "rare image"),
        (1.384, "number of classes"), (0.313, "floor of softmax"), (0.33, "three digits"),
        (0.9, "is not 0.9"), (math.nan, "is not nan"),
    ]],
    *[((FLOORS[0], x, FLOORS[2]), message) for x, message in [
        (1.461, "ten classes"), (0.551, "two wrong classes"), (0, "one softmax"),
        (1.313, "wrong answer"), (0.693, "equal outputs"), (0.731, "probability"),
        (-0.313, "sign"), (0.325, "entropy of the prior"), (0.31, "three digits"), (5, "is not 5"),
    ]],
    *[((*FLOORS[:2], x), message) for x, message in [
        (0.313, "perfect model"), (0.282, "answered wrongly"), (0.131, "answered rightly"),
        (1.213, "swapped"), (0.813, "averages both"), (1.313, "one wrong answer"),
        (math.inf, "softens"), (0.325, "entropy of the prior"), (0.1, "share of errors"),
        (0.451, "shares for outputs"), (0.41, "three digits"), (3, "is not 3"),
    ]],
]  # fmt: skip


def test_floors_are_torchs_numbers():
    share, sure = TENSOR([0.9, 0.1]), TENSOR([[1.0, 0.0], [1.0, 0.0]])
    entropy = -(share * share.log()).sum()
    floor, wrong = F.cross_entropy(sure, TENSOR([0, 1]), reduction="none")
    answer = (entropy, floor, share @ torch.stack([floor, wrong]))
    assert ex.q2.feedback(*answer).outcome is Outcome.CORRECT
    assert ex.q2.feedback(*FLOORS).outcome is Outcome.CORRECT
    assert ex.q2.feedback(np.float32(0.3251), 0.3133, [0.4133]).outcome is Outcome.CORRECT
    assert ex.q2.feedback(metrics.prior_entropy([90, 10]), *FLOORS[1:]).outcome is Outcome.CORRECT


@pytest.mark.parametrize(("answer", "message"), FLOORS_WRONG)
def test_floors_mistakes(answer, message):
    expect_not_yet(ex.q2, answer, message)


# --- the training step


def clears_at_the_end(model, optimizer, images, labels):
    model.train(True)
    loss = torch.nn.CrossEntropyLoss()(model(images), labels)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=False)
    return loss


def clears_before_backward(model, optimizer, images, labels):
    model.train()
    logits = model(images)
    loss = F.nll_loss(logits.log_softmax(1), labels)
    model.zero_grad()
    loss.backward()
    optimizer.step()
    return round(loss.item(), 3)


def by_hand(model, optimizer, images, labels):
    for module in model.modules():
        module.training = True
    for p in model.parameters():
        p.grad = None
    logits = model(images)
    chosen = logits[torch.arange(len(labels)), labels]
    loss = (logits.logsumexp(1) - chosen).mean()
    loss.backward()
    optimizer.step()
    model.eval()
    return loss.detach().numpy()


def with_grad(model, optimizer, images, labels):
    model.train()
    loss = F.cross_entropy(model(images), labels)
    parameters = list(model.parameters())
    for p, grad in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        p.grad = grad
    optimizer.step()
    return loss.item()


def with_a_closure(model, optimizer, images, labels):
    model.train()

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        return loss

    return optimizer.step(closure)


def clipped(model, optimizer, images, labels):
    """The toy's gradients are below 1, so that usual clipping changes nothing."""
    model.train()
    optimizer.zero_grad()
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss


STEPS = [clears_at_the_end, clears_before_backward, by_hand, with_grad, with_a_closure, clipped]


@pytest.mark.parametrize("right", STEPS)
def test_step(right):
    state = torch.get_rng_state()
    assert ex.q3.feedback(right).outcome is Outcome.CORRECT
    assert torch.get_rng_state().equal(state)


def step_of(lines):
    """A step from a line of code: words for its parts, in their order."""
    parts = {
        "train": "model.train()",
        "eval": "model.eval()",
        "zero": "optimizer.zero_grad()",
        "loss": "loss = F.cross_entropy(model(images), labels)",
        "softmax": "loss = F.cross_entropy(model(images).softmax(1), labels)",
        "nll": "loss = F.nll_loss(model(images).softmax(1), labels)",
        "sum": "loss = F.cross_entropy(model(images), labels, reduction='sum')",
        "back": "loss.backward()",
        "step": "optimizer.step()",
        "twice": "optimizer.step(); optimizer.step()",
        "float": "return loss.item()",
        "logits": "return model(images)",
        "accuracy": "return (model(images).argmax(1) == labels).float().mean()",
        "hand": "with torch.no_grad(): [p.sub_(0.1 * p.grad) for p in model.parameters()]",
        "text": "return 'done'",
    }
    body = "".join(f"    {parts[word]}\n" for word in lines.split())
    names = {"F": F, "torch": torch}
    exec(f"def step(model, optimizer, images, labels):\n{body}", names)
    return names["step"]


STEP_WRONG = [
    ("eval softmax back zero step float", "no gradient is left", ""),  # the exercise's own
    ("eval softmax back step float", "evaluation mode", "one of 3 faults"),
    ("zero loss back step float", "evaluation mode", ""),
    ("eval zero loss back step float", "evaluation mode", ""),
    ("train zero softmax back step float", "softmax itself", ""),
    ("train loss back step float", "Gradients of earlier batches", ""),
    ("train softmax back step float", "softmax itself", "one of 2 faults"),
    ("train softmax zero back step float", "softmax itself", ""),
    ("zero softmax back step float", "evaluation mode", "one of 2 faults"),
    ("train zero sum back step float", "summed", ""),
    ("train loss step back float", "RuntimeError", ""),  # torch itself notices
    ("train zero loss step back float", "never move, though gradients", ""),
    ("train zero loss back float", "never move, though gradients", ""),
    ("train zero loss step float", "no gradient is left", ""),
    ("train loss back zero step float", "no gradient is left", ""),
    ("train zero loss back step text", "number is wanted", ""),
    ("train zero loss back step logits", "One number", ""),
    ("train zero loss back step accuracy", "weights move as they should", ""),
    ("train zero loss back twice float", "are not what the optimizer makes", ""),
    ("train zero loss back hand float", "are not what the optimizer makes", ""),
    ("train zero nll back step float", "are not what the optimizer makes", ""),
    ("train loss back step float loss", "Gradients of earlier", ""),
]


@pytest.mark.parametrize(("lines", "message", "more"), STEP_WRONG)
def test_step_mistakes(lines, message, more):
    expect_not_yet(ex.q3, [step_of(lines)], message)
    feedback = ex.q3.feedback(step_of(lines)).message
    assert more in feedback and ("faults" in feedback) == bool(more)


def forgets_to_return(model, optimizer, images, labels):
    step_of("train zero loss back step float")(model, optimizer, images, labels)


def without_gradients(model, optimizer, images, labels):
    with torch.no_grad():
        loss = F.cross_entropy(model(images), labels)
    loss.backward()


def test_step_with_errors():
    expect_not_yet(ex.q3, [forgets_to_return], "returned None")
    expect_not_yet(ex.q3, [without_gradients], "does not require grad")
    expect_not_yet(ex.q3, [3], "Pass the function itself")


# --- the three cases

CASES_WRONG = [
    *[((letter, "f", "a"), message) for letter, message in [
        ("a", "this one falls well"), ("c", "mean 0"), ("d", "both modes"), ("e", "both modes"),
        ("f", "0.5"), ("g", "balanced"),
    ]],
    *[(("b", letter, "a"), message) for letter, message in [
        ("a", "do not move"), ("b", "stop no weight"), ("c", "mean 0"), ("d", "exactly 0"),
        ("e", "grad is None"), ("g", "balanced"),
    ]],
    *[(("b", "f", letter), message) for letter, message in [
        ("b", "in evaluation"), ("c", "mean 0"), ("d", "open then"), ("e", "either"),
        ("f", "weights have changed"), ("g", "balanced"),
    ]],
    (("b", "h", "a"), 'Case 2: answer with one letter in quotes, "a" to "g"'),
    (("b", "fa", "a"), "Case 2: answer"), ((1, "f", "a"), "Case 1: answer"),
]  # fmt: skip


@pytest.mark.parametrize("right", ["bfa", "BFA", ["(b)", "f.", " a "]])
def test_cases(right):
    assert ex.q4.feedback(*right).outcome is Outcome.CORRECT


@pytest.mark.parametrize(("answer", "message"), CASES_WRONG)
def test_cases_mistakes(answer, message):
    expect_not_yet(ex.q4, answer, message)


@pytest.mark.parametrize(
    "reply",
    [
        "It says class 0 always, the loss is the entropy of the prior; I would ask for the rate.",
        "Nobody knows this, but I have written a sentence of more than eight words anyway.",
    ],
)
def test_a_reply_is_compared_and_not_judged(reply):
    feedback = ex.q5.feedback(reply)
    assert feedback.outcome is Outcome.COMPARE and "0.20 is the entropy" in feedback.message


@pytest.mark.parametrize(
    ("reply", "words"), [("always class 0", "a sentence or two"), (95, "words")]
)
def test_a_reply_that_is_none(reply, words):
    expect_not_yet(ex.q5, [reply], words)
    assert ex.q5.feedback("\n\n").outcome is Outcome.NOT_ATTEMPTED
