"""What an exercise is made of. Read `Exercise` first, then any lesson's exercises.

An answer is a number, a letter, a text or a function. `examine` raises `NotYet` with the mistake
that it sees, in words that the author of the answer can act upon, and returns when it sees none. A
function is tried on inputs that the learner does not see; how it is written does not matter.
"""

import ast
import copy
import functools
import inspect
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch

from imbalkit.checks import to_numpy

LINE = 92  # characters that fit beside a notebook's prompt


class Outcome(StrEnum):
    CORRECT = "correct"
    NOT_YET = "not yet"
    NOT_ATTEMPTED = "not attempted"
    COMPARE = "compare"  # a text, which no program can judge


@dataclass(frozen=True)
class Feedback:
    """What `check` says of an answer."""

    outcome: Outcome
    message: str

    def __str__(self) -> str:
        return wrapped(f"{self.outcome.capitalize()}. {self.message}")


class NotYet(Exception):
    """What is wrong with an answer, in one or two sentences to its author."""


class NotAttempted(Exception):
    """The answer is still the blank."""


class Exercise:
    """One exercise: `examine`, and these texts.

    Attributes:
        hints: from a first nudge to nearly the solution.
        answer: code that fills the blank of the notebook's cell, up to the line with ``check``. It
            may use what the lesson imports.
        afterwards: code to try next, with the models of the lesson, if there is some.
        why: said after a correct answer, and below the solution.
        blank: what the learner is to do if nothing has been filled in.
    """

    hints: tuple[str, ...] = ()
    answer: str = ""
    afterwards: str = ""
    why: str = ""
    blank: str = "Replace the blank, then run the cell again."

    def examine(self, *answer) -> None:
        """Raise NotYet for a wrong answer."""
        raise NotImplementedError

    def feedback(self, *answer) -> Feedback:
        """The verdict on an answer, as an object."""
        wanted = self.parts()
        if wanted is not None and len(answer) != wanted:
            raise TypeError(f"this exercise checks {wanted} answers at once, got {len(answer)}")
        empty = [is_blank(part) for part in answer]
        if all(empty):
            return Feedback(Outcome.NOT_ATTEMPTED, self.blank)
        if any(empty):
            which = ", ".join(str(i) for i, is_empty in enumerate(empty, 1) if is_empty)
            return Feedback(
                Outcome.NOT_YET, f"Answer {which} of {len(answer)} is still blank: fill in all."
            )
        try:
            self.examine(*answer)
        except NotAttempted:
            return Feedback(Outcome.NOT_ATTEMPTED, self.blank)
        except NotYet as mistake:
            return Feedback(Outcome.NOT_YET, str(mistake))
        return Feedback(Outcome.CORRECT, self.why)

    def parts(self) -> int | None:
        """How many answers `examine` takes; None if any number."""
        parameters = inspect.signature(self.examine).parameters.values()
        return None if any(p.kind is p.VAR_POSITIONAL for p in parameters) else len(parameters)

    def check(self, *answer) -> None:
        """Print whether the answer is right, and if not, what is wrong with it."""
        print(self.feedback(*answer))

    def hint(self, step: int = 1) -> None:
        """Print a hint. A higher `step`, up to the number of hints, tells more."""
        if not 1 <= step <= len(self.hints):
            raise ValueError(f"step is {step}; this exercise has hints 1 to {len(self.hints)}.")
        more = f" For more: hint({step + 1})." if step < len(self.hints) else ""
        print(wrapped(f"Hint {step} of {len(self.hints)}. {self.hints[step - 1]}{more}"))

    def solution(self) -> None:
        """Print one way to do it, and why."""
        print("\n\n".join(filter(None, [self.code(), self.next_code(), wrapped(self.why)])))

    def code(self) -> str:
        """The code that fills the blank."""
        return textwrap.dedent(self.answer).strip()

    def next_code(self) -> str:
        """The code to try afterwards."""
        return textwrap.dedent(self.afterwards).strip()


class Choice(Exercise):
    """Pick one letter.

    right: that letter. wrong: for each other letter, why it is not the one.
    """

    right: str
    wrong: dict[str, str]
    hints = ("Take the answers one by one, and look for what speaks against each.",)
    blank = 'Replace None by the letter of your choice, such as "a".'

    def examine(self, answer) -> None:
        given = letter(answer, [self.right, *self.wrong])
        if given != self.right:
            raise NotYet(self.wrong[given])


class FreeText(Exercise):
    """An answer in words, `reply` in the notebook, to compare with a model answer."""

    model_answer: str
    fewest_words = 8
    blank = "Write a sentence or two between the quotes, then run the cell again."

    def examine(self, answer) -> None:
        if not isinstance(answer, str):
            raise NotYet("Answer in words, between the quotes.")
        if len(answer.split()) < self.fewest_words:
            raise NotYet("Write a sentence or two, so that there is something to compare.")

    def feedback(self, *answer) -> Feedback:
        verdict = super().feedback(*answer)
        if verdict.outcome is not Outcome.CORRECT:
            return verdict
        text = " ".join(self.model_answer.split())
        return Feedback(Outcome.COMPARE, f"Compare with this answer: {text}")

    def code(self) -> str:
        return f'reply = """\n{wrapped(self.model_answer)}\n"""'


# --- reading an answer


def is_blank(answer) -> bool:
    """Has nothing been filled in: None, ``...``, no text, or a collection of nothing else?"""
    if answer is None or answer is ...:
        return True
    if isinstance(answer, str):
        return not answer.strip()
    if isinstance(answer, dict):
        return all(map(is_blank, answer.values()))
    return isinstance(answer, list | tuple) and all(map(is_blank, answer))


def letter(answer, letters: Sequence[str]) -> str:
    """An answer as one of `letters`, however it is written."""
    given = answer.strip(" ().\n").lower() if isinstance(answer, str) else None
    if given not in sorted(letters):
        raise NotYet(f'Answer with one letter in quotes, "{min(letters)}" to "{max(letters)}".')
    return given


def number(answer) -> float:
    """An answer as a float: a Python or numpy number, or a tensor of one element."""
    if is_blank(answer):
        raise NotYet("A number is still blank.")
    try:
        value = to_numpy(answer)
        if value.size != 1 and value.dtype.kind != "O":
            raise NotYet(f"One number is wanted here, not {value.size}.")
        if value.dtype.kind in "bSUc":  # truth values, texts, complex numbers
            raise TypeError
        return float(value.astype(np.float64).reshape(()))
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise NotYet(f"A number is wanted here, not {kind(answer)}.") from None


def share(answer) -> float:
    """A number from 0 to 1, or what to do about it."""
    value = number(answer)
    if 1 < value <= 100:
        raise NotYet(f"{value:g} looks like per cent; give a share, between 0 and 1.")
    if not 0 <= value <= 1:
        raise NotYet(f"{value:g} is no share; a share lies between 0 and 1.")
    return value


def numbers(answer, shape: Sequence[int]) -> np.ndarray:
    """A list, array or tensor as float64 of a shape, or what is wrong with it."""
    if isinstance(answer, list | tuple) and any(map(is_blank, answer)):
        raise NotYet("One of the numbers is still blank.")
    try:
        if isinstance(answer, list | tuple):
            answer = [to_numpy(part) for part in answer]
        values = to_numpy(answer).astype(np.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise NotYet(f"Numbers are wanted here, not {kind(answer)}.") from None
    if values.shape != tuple(shape):
        raise NotYet(f"The result has shape {values.shape}, where {tuple(shape)} is wanted.")
    if not np.isfinite(values).all():
        raise NotYet("The result has numbers that are NaN or infinite.")
    return values


def call(function: Callable, *arguments):
    """What the learner's function returns for copies of the arguments.

    Raises NotAttempted where it returns nothing, as a blank does, and NotYet where it is no
    function or stops with an error.
    """
    if not callable(function):
        raise NotYet("Pass the function itself, without calling it: its name, and no brackets.")
    try:
        result = function(*copy.deepcopy(arguments))
    except NotImplementedError:
        raise NotAttempted from None
    except Exception as error:
        raise NotYet(
            f"Your function stopped with {type(error).__name__}: "
            f"{textwrap.shorten(str(error), 200)} (called with {described(arguments)})."
        ) from None
    if is_blank(result):
        if returns_something(function):
            raise NotYet("Your function returned None. Does it return its result on every path?")
        raise NotAttempted
    return result


def call_and_keep(function: Callable, *arguments):
    """As `call`, and also the copies of the arguments, as the function has left them."""
    if not callable(function):
        return call(function), ()  # which says what is wrong
    kept = []

    @functools.wraps(function)  # so that `call` still sees whether the function is a blank
    def watched(*copies):
        kept.extend(copies)
        return function(*copies)

    return call(watched, *arguments), kept


def returns_something(function: Callable) -> bool:
    """Has the function been written, beyond its blank? Then None is a mistake in it."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return False
    body = tree.body[0].body if isinstance(tree.body[0], ast.FunctionDef) else tree.body
    return not all(says_nothing(statement) for statement in body)


def says_nothing(statement: ast.stmt) -> bool:
    """A docstring, ``...``, ``pass`` or ``return None``."""
    if isinstance(statement, ast.Expr | ast.Return):
        return statement.value is None or isinstance(statement.value, ast.Constant)
    return isinstance(statement, ast.Pass)


def close(values, expected, tolerance: float = 1e-4) -> bool:
    """Are all values right, up to a relative error (and an absolute one near 0)?"""
    return bool(np.allclose(values, expected, rtol=tolerance, atol=tolerance * 1e-2))


def recognise(values, mistakes: Iterable[tuple], tolerance: float) -> None:
    """Raise NotYet if the values are those of a known mistake: pairs (wrong values, message)."""
    for wrong, message in mistakes:
        if close(values, wrong, tolerance):
            raise NotYet(message)


# --- words


def kind(answer) -> str:
    return "a function" if inspect.isfunction(answer) else f"a {type(answer).__name__}"


def described(arguments: Sequence) -> str:
    """Arguments in a message: small ones as they are, tensors by their shape."""
    texts = []
    for argument in arguments:
        if torch.is_tensor(argument) and argument.numel() > 12:
            texts.append(f"a tensor of shape {tuple(argument.shape)}")
        elif isinstance(argument, torch.nn.Module | torch.optim.Optimizer):
            texts.append(kind(argument))
        else:
            texts.append(textwrap.shorten(repr(argument), 60))
    return ", ".join(texts)


def wrapped(text: str) -> str:
    """Text in lines that fit; an empty line separates paragraphs."""
    paragraphs = textwrap.dedent(text).strip().split("\n\n")
    return "\n\n".join(textwrap.fill(" ".join(p.split()), LINE) for p in paragraphs)
