"""All exercises: what holds for each, and what they are made of.

`test_exercises_lessonNN.py` feeds each lesson's exercises right and wrong answers.
"""

import ast
import importlib
import re

import nbformat
import numpy as np
import pytest
import torch
from helpers import lessons_with_exercises

from imbalkit.course.exercises import base
from imbalkit.course.exercises.base import (
    Choice,
    Exercise,
    FreeText,
    NotYet,
    Outcome,
    call,
    call_and_keep,
    is_blank,
    letter,
    number,
    numbers,
    share,
)
from solutions import CHECK, find_exercises

NOTEBOOKS = lessons_with_exercises()


def read(path):
    return nbformat.read(path, as_version=4)


def cases(path):
    """A case for each cell of a lesson that checks an exercise."""
    notebook = read(path)
    exercises = find_exercises(notebook)
    for cell in notebook.cells:
        if cell.id in exercises:
            name = f"{path.stem[:2]}-{CHECK.search(cell.source).group(1)}"
            yield pytest.param(notebook, cell, *exercises[cell.id], id=name)


CASES = [case for path in NOTEBOOKS for case in cases(path)]


def lesson_imports(notebook):
    """Names that the lesson has imported: all that a starter cell and a solution may use."""
    names = {}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            for node in ast.parse(cell.source).body:
                if isinstance(node, ast.Import | ast.ImportFrom):
                    exec(ast.unparse(node), names)
    return names


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem[:2])
def test_a_lesson_has_three_to_five_exercises_numbered_as_its_module(path):
    notebook = read(path)
    exercises = find_exercises(notebook)
    cells = [cell for cell in notebook.cells if cell.id in exercises]
    names = [CHECK.search(cell.source).group(1) for cell in cells]
    assert names == [f"q{i}" for i in range(1, len(names) + 1)]
    assert 3 <= len(names) <= 5
    lesson = importlib.import_module(f"imbalkit.course.exercises.lesson{path.stem[:2]}")
    assert sorted(n for n in vars(lesson) if re.fullmatch(r"q\d", n)) == names


@pytest.mark.parametrize(("notebook", "cell", "exercise", "arguments"), CASES)
def test_the_starter_cell_is_not_attempted(notebook, cell, exercise, arguments):
    names = lesson_imports(notebook)
    exec(cell.source[: CHECK.search(cell.source).start()], names)
    feedback = eval(f"exercise.feedback({arguments})", names, {"exercise": exercise})
    assert feedback.outcome is Outcome.NOT_ATTEMPTED, feedback


@pytest.mark.parametrize(("notebook", "cell", "exercise", "arguments"), CASES)
def test_the_solution_is_correct(notebook, cell, exercise, arguments):
    names = lesson_imports(notebook)
    exec(exercise.code(), names)
    feedback = eval(f"exercise.feedback({arguments})", names, {"exercise": exercise})
    wanted = Outcome.COMPARE if isinstance(exercise, FreeText) else Outcome.CORRECT
    assert feedback.outcome is wanted, feedback


@pytest.mark.parametrize(("notebook", "cell", "exercise", "arguments"), CASES)
def test_texts_are_there(notebook, cell, exercise, arguments, capsys):
    assert (
        exercise.hints and exercise.__doc__ and exercise.__doc__ != type(exercise).mro()[1].__doc__
    )
    assert isinstance(exercise, FreeText) or exercise.why
    for step in range(1, len(exercise.hints) + 1):
        exercise.hint(step)
        assert f"Hint {step} of {len(exercise.hints)}" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"has hints 1 to"):
        exercise.hint(len(exercise.hints) + 1)
    exercise.solution()
    printed = capsys.readouterr().out
    assert exercise.code() in printed and exercise.next_code() in printed
    assert max(map(len, printed.splitlines())) <= 100


@pytest.mark.parametrize(("notebook", "cell", "exercise", "arguments"), CASES)
def test_every_part_of_an_answer_is_asked_for(notebook, cell, exercise, arguments):
    """One part filled in and the others blank is "not yet", and nothing is remembered."""
    parts = len(ast.parse(f"f({arguments})").body[0].value.args)
    for i in range(parts if parts > 1 else 0):
        answer = [None] * parts
        answer[i] = 1.0
        assert exercise.feedback(*answer).outcome is Outcome.NOT_YET
    assert exercise.feedback(*[None] * parts).outcome is Outcome.NOT_ATTEMPTED


@pytest.mark.parametrize(("notebook", "cell", "exercise", "arguments"), CASES)
@pytest.mark.parametrize("nonsense", ["zebra", 1e9, object(), lambda *_: "zebra", [1, "b"], {}, -3])
def test_nonsense_is_not_yet_and_no_error(notebook, cell, exercise, arguments, nonsense):
    parts = len(ast.parse(f"f({arguments})").body[0].value.args)
    outcome = exercise.feedback(*[nonsense] * parts).outcome
    assert outcome is (Outcome.NOT_ATTEMPTED if nonsense == {} else Outcome.NOT_YET)


def test_the_example_of_the_contributing_page():
    page = (NOTEBOOKS[0].parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(class .*?)```", page, re.DOTALL)
    names = vars(base).copy()
    exec(code, names)
    exercise = names["MajorityShare"]()
    exec(exercise.code(), names)
    assert exercise.feedback(names["accuracy"]).outcome is Outcome.CORRECT
    for answer, words in ((0.5, "balanced accuracy"), (0.1, "by all images"), (90, "per cent")):
        feedback = exercise.feedback(answer)
        assert feedback.outcome is Outcome.NOT_YET and words in feedback.message
    assert exercise.feedback(None).outcome is Outcome.NOT_ATTEMPTED


# --- what they are made of


class Half(Exercise):
    hints = ("Divide.",)
    answer = "x = 0.5"
    why = "Because."

    def examine(self, x):
        if number(x) != 0.5:
            raise NotYet("That is no half.")


def test_three_outcomes(capsys):
    for answer, text in ((0.5, "Correct. Because.\n"), (1, "Not yet. That is no half.\n")):
        Half().check(answer)
        assert capsys.readouterr().out == text
    Half().check(None)
    assert capsys.readouterr().out.startswith("Not attempted. ")


@pytest.mark.parametrize("blank", [None, ..., "", " \n ", [], {}, (None, None), {"a": None}])
def test_blanks(blank):
    assert is_blank(blank)
    assert Half().feedback(blank).outcome is Outcome.NOT_ATTEMPTED


@pytest.mark.parametrize("something", [0, 0.0, False, "a", [0], [None, 1], {"a": 0}, np.zeros(2)])
def test_zero_is_no_blank(something):
    assert not is_blank(something)


@pytest.mark.parametrize(
    "half", [0.5, np.float32(0.5), torch.tensor(0.5), torch.tensor([0.5]), np.array([[0.5]])]
)
def test_a_number_may_come_from_torch_or_numpy(half):
    assert number(half) == 0.5
    assert number(torch.tensor(2, dtype=torch.int64)) == 2
    assert number(torch.tensor(0.5, dtype=torch.bfloat16, requires_grad=True)) == 0.5


@pytest.mark.parametrize("wrong", ["0.5", len, object(), [1, 2], True, {"a": 1}])
def test_what_is_no_number_is_said_so(wrong):
    with pytest.raises(NotYet, match="number is wanted"):
        number(wrong)


def test_shares():
    assert share(0.25) == 0.25 and share(1) == 1
    with pytest.raises(NotYet, match="per cent"):
        share(25)
    with pytest.raises(NotYet, match="no share"):
        share(-0.1)
    with pytest.raises(NotYet, match="no share"):
        share(float("nan"))


@pytest.mark.parametrize(
    "values",
    [
        [1, 2],
        (1.0, 2.0),
        np.array([1, 2]),
        torch.tensor([1, 2]),
        [torch.tensor(1), torch.tensor(2)],
    ],
)
def test_numbers_in_any_container(values):
    assert numbers(values, (2,)).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("values", "message"),
    [([1, 2, 3], "shape"), ("ab", "wanted"), ([1, "b"], "wanted"), ([1.0, float("nan")], "NaN"),
     ([[1], [2, 3]], "wanted"), ({1, 2}, "wanted"), (5, "shape")],
)  # fmt: skip
def test_what_are_no_numbers_is_said_so(values, message):
    with pytest.raises(NotYet, match=message):
        numbers(values, (2,))


def outcome_of(function):
    class Doubled(Exercise):
        def examine(self, f):
            if number(call(f, torch.tensor([1.0, 2.0]))) != 6:
                raise NotYet("not 6")

    return Doubled().feedback(function)


def blank_with_docstring(x):
    """Twice the sum."""
    ...


def blank_return(x):
    return None  # your code here


def not_implemented(x):
    raise NotImplementedError


def forgot_to_return(x):
    y = 2 * x.sum()  # noqa: F841


def changes_its_input(x):
    x.mul_(2)
    return x.sum()


@pytest.mark.parametrize("function", [blank_with_docstring, blank_return, not_implemented])
def test_an_empty_function_is_not_attempted(function):
    assert outcome_of(function).outcome is Outcome.NOT_ATTEMPTED


@pytest.mark.parametrize(
    ("function", "message"),
    [(forgot_to_return, "returned None"), (lambda x: x / "a", "TypeError"),
     (lambda: 3, "positional argument"), (6.0, "Pass the function itself")],
)  # fmt: skip
def test_a_function_that_fails_is_not_yet(function, message):
    feedback = outcome_of(function)
    assert feedback.outcome is Outcome.NOT_YET and message in feedback.message


def test_a_function_gets_its_own_copies():
    x = torch.tensor([1.0, 2.0])
    assert number(call(changes_its_input, x)) == 6 and x.tolist() == [1, 2]
    assert outcome_of(changes_its_input).outcome is Outcome.CORRECT


def test_what_a_function_does_to_its_input_can_be_seen():
    result, (x,) = call_and_keep(changes_its_input, torch.tensor([1.0, 2.0]))
    assert number(result) == 6 and x.tolist() == [2, 4]
    with pytest.raises(NotYet, match="Pass the function itself"):
        call_and_keep(3, x)


def test_letters():
    assert letter(" (C)\n", "abc") == "c"
    for wrong in ("d", "ab", "", 3, None):
        with pytest.raises(NotYet, match='"a" to "c"'):
            letter(wrong, "abc")


class Pick(Choice):
    right = "b"
    wrong = {"a": "too small", "c": "too large"}  # noqa: RUF012


@pytest.mark.parametrize("style", ["b", "B", "(b)", " b ", "b."])
def test_a_letter_in_any_style(style):
    assert Pick().feedback(style).outcome is Outcome.CORRECT


@pytest.mark.parametrize(
    ("answer", "message"), [("a", "too small"), ("C", "too large"), ("d", '"a" to "c"'), (2, '"a"')]
)
def test_a_wrong_letter(answer, message):
    feedback = Pick().feedback(answer)
    assert feedback.outcome is Outcome.NOT_YET and message in feedback.message


class Why(FreeText):
    model_answer = "Because the classes are not equally frequent."


@pytest.mark.parametrize(
    ("text", "outcome"),
    [("", Outcome.NOT_ATTEMPTED), ("yes", Outcome.NOT_YET), (3, Outcome.NOT_YET),
     ("one two three four five six seven eight", Outcome.COMPARE)],
)  # fmt: skip
def test_a_text_is_compared_with_a_model_answer(text, outcome):
    feedback = Why().feedback(text)
    assert feedback.outcome is outcome
    assert (Why.model_answer in feedback.message) == (outcome is Outcome.COMPARE)
