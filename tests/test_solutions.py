"""The tool that writes solved copies of the lessons."""

from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import solutions

ROOT = Path(__file__).parents[1]
IMPORT = "from imbalkit.course.exercises import lesson03 as ex"
BLANK = "choice = None\n\nex.q4.check(choice)\n# ex.q4.hint()\n# ex.q4.solution()"


def lesson():
    return new_notebook(
        cells=[
            new_markdown_cell("# A lesson"),
            new_code_cell(IMPORT, execution_count=1),
            new_code_cell(BLANK, execution_count=2),
            new_code_cell("x = ex.q4", execution_count=3),
        ]
    )


def test_only_cells_that_check_an_exercise_are_found():
    notebook = lesson()
    ((cell, (exercise, arguments)),) = solutions.find_exercises(notebook).items()
    assert cell == notebook.cells[2].id and arguments == "choice"
    assert type(exercise).__name__ == "PriceList"
    del notebook.cells[1]
    assert solutions.find_exercises(notebook) == {}


def test_a_solved_copy_has_the_solution_in_place_of_the_blank():
    notebook = lesson()
    copy = solutions.solved(notebook)
    assert copy.cells[2].source == 'choice = "b"\n\nex.q4.check(choice)'
    assert copy.cells[2].execution_count is None
    assert [copy.cells[i] for i in (0, 1, 3)] == [notebook.cells[i] for i in (0, 1, 3)]
    assert notebook.cells[2].source == BLANK


def test_a_tested_copy_keeps_the_blank_and_asserts_the_solution():
    notebook = lesson()
    copy = solutions.tested(notebook)
    assert [c.source for c in copy.cells if c.id in {c.id for c in notebook.cells}] == [
        c.source for c in notebook.cells
    ]
    code = copy.cells[3].source
    names = {}
    exec(notebook.cells[1].source, names)
    exec(code, names)  # the assertion holds
    wrong = code.replace('"b"', '"a"')
    try:
        exec(wrong, names)
    except AssertionError:
        return
    raise AssertionError("a wrong solution was not noticed")


def test_the_command_writes_every_notebook_and_what_they_read(tmp_path):
    assert solutions.main(["--output", str(tmp_path / "solved")]) == 0
    wanted = {path.name for path in (ROOT / "notebooks").iterdir() if path.is_file()}
    assert {path.name for path in (tmp_path / "solved").iterdir() if path.is_file()} == wanted
    name = "03_weighted_cross_entropy.ipynb"
    copy = nbformat.read(tmp_path / "solved" / name, as_version=4)
    nbformat.validate(copy)
    assert "w0 = 1000 / (2 * 900)" in "\n".join(cell.source for cell in copy.cells)
