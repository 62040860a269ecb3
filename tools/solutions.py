"""Write copies of the lessons with their exercises solved.

python tools/solutions.py --output build/solutions     for teachers: solutions in place of blanks
python tools/solutions.py --output build/tested --test for nbval: each blank, and behind it its
                                                       solution, which must be found correct
"""

import argparse
import copy
import importlib
import re
import shutil
import sys
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell

from imbalkit.course.exercises.base import Exercise, FreeText

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
LESSON = re.compile(r"^from imbalkit\.course\.exercises import (lesson\d\d) as ex$", re.MULTILINE)
CHECK = re.compile(r"^ex\.(q\d)\.check\((.*)\)$", re.MULTILINE)


def find_exercises(notebook) -> dict[str, tuple[Exercise, str]]:
    """The exercise of each cell that checks one, and the arguments of its check, by cell id."""
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    imports = [match.group(1) for source in sources for match in LESSON.finditer(source)]
    if not imports:
        return {}
    lesson = importlib.import_module(f"imbalkit.course.exercises.{imports[0]}")
    return {
        cell.id: (getattr(lesson, match.group(1)), match.group(2))
        for cell in notebook.cells
        if cell.cell_type == "code"
        for match in CHECK.finditer(cell.source)
    }


def solved(notebook):
    """A copy with each blank replaced by the solution, its check and what to try afterwards."""
    exercises, result = find_exercises(notebook), copy.deepcopy(notebook)
    for cell in result.cells:
        if cell.id in exercises:
            check = CHECK.search(cell.source).group()
            cell.source = solved_source(exercises[cell.id][0], check)
            cell.outputs, cell.execution_count = [], None
    return result


def tested(notebook):
    """A copy with a cell behind each blank that asserts that the solution is found correct."""
    exercises, result = find_exercises(notebook), copy.deepcopy(notebook)
    result.cells = []
    for cell in notebook.cells:
        result.cells.append(cell)
        if cell.id in exercises:
            exercise, arguments = exercises[cell.id]
            name = CHECK.search(cell.source).group(1)
            verdict = "Compare." if isinstance(exercise, FreeText) else "Correct."
            claim = f'assert str(ex.{name}.feedback({arguments})).startswith("{verdict}")'
            result.cells.append(new_code_cell(solved_source(exercise, claim)))
    return result


def solved_source(exercise: Exercise, last_line: str) -> str:
    """The solution, the line that checks it, and what to try afterwards."""
    code, next_code = exercise.code(), exercise.next_code()
    gap = "\n\n\n" if code.startswith(("def ", "class ")) else "\n\n"
    return code + gap + last_line + (f"\n\n{next_code}" if next_code else "")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="a new folder")
    parser.add_argument("--test", action="store_true", help="blanks and solutions, for nbval")
    args = parser.parse_args(arguments)
    made_here = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
    shutil.copytree(NOTEBOOKS, args.output, ignore=made_here, dirs_exist_ok=True)
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        changed = tested(notebook) if args.test else solved(notebook)
        nbformat.write(changed, args.output / path.name)
    print(f"Wrote {args.output}: {len(list(args.output.glob('*.ipynb')))} notebooks.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
