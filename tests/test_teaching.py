"""The teaching guide fits the lessons: minutes, and questions whose wrong answers say something."""

import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")
LESSONS = {path.stem[:2]: path for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")}


def tables(text):
    """Each table of a text, as rows of cells, without its header."""
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in block.splitlines()]
        yield rows[2:]


def schedules():
    return list(tables(GUIDE.split("## Three schedules")[1].split("## When a laptop")[0]))


def section(number):
    found = re.search(rf"^### Lesson {number}\n(.*?)(?=^### |\Z)", GUIDE, re.MULTILINE | re.DOTALL)
    return found.group(1) if found else ""


def minutes_to_read(number):
    cells = nbformat.read(LESSONS[number], as_version=4).cells
    return int(re.search(r"\*\*Time\*\* about (\d+) minutes", cells[0].source).group(1))


@pytest.mark.parametrize("number", range(4))
def test_minutes_of_a_schedule_add_up(number):
    *rows, (last, _, total) = schedules()[number]
    assert last == "in all" and sum(int(minutes) for *_, minutes in rows) == int(total)


def test_schedules_are_as_long_as_they_are_called():
    totals = [int(rows[-1][-1]) for rows in schedules()]
    assert totals[:2] == [90, 240] and all(360 <= total <= 400 for total in totals[2:])


def test_a_lesson_that_is_worked_through_gets_the_minutes_that_it_names():
    rows = [row for schedule in schedules() for row in schedule if row[1].startswith("work")]
    assert len(rows) > 10
    for what, _, minutes in rows:
        assert int(minutes) == minutes_to_read(what.removeprefix("lesson ")), what


@pytest.mark.parametrize("number", sorted(LESSONS))
def test_each_lesson_has_a_figure_wrong_answers_and_questions(number):
    text = section(number)
    assert "**Stop at**" in text and "**Often said:**" in text
    questions = re.split(r"^\*\*Question \d\.\*\* ", text, flags=re.MULTILINE)[1:]
    assert 2 <= len(questions) <= 3
    for question in questions:
        (answers,) = tables(question)
        assert len(answers) >= 3
        right = [reveals for _, reveals in answers if "**right**" in reveals]
        assert len(right) == 1, question
        assert all(len(reveals) > 10 for _, reveals in answers if reveals not in right)
