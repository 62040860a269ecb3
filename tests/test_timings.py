"""The lessons' times for each kind of processor, and the limit of a cell's time."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import run_notebooks
import timings
import write_tables

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")


def entry(seconds=60, cell=20, speed=1000, code="a", device="CPU, 2 threads"):
    return {
        "seconds": seconds, "slowest_cell_seconds": cell, "images_per_second": speed,
        "device": device, "profile": "cpu", "torch": "2.14.1", "code": code,
    }  # fmt: skip


# --- the kind of a processor


@pytest.mark.parametrize("native, kind", [(True, "bfloat16"), (False, "float32")])
def test_a_processor_is_of_the_kind_in_which_it_trains(native, kind, monkeypatch):
    monkeypatch.setattr(timings, "has_native_bfloat16", lambda device: native)
    assert timings.kind_of(CPU) == kind
    assert timings.kind_of(torch.device("cuda")) == timings.kind_of(torch.device("mps")) == "gpu"


# --- entries


def write_notebook(path, code="x = 1", prose="# Title"):
    cells = [new_markdown_cell(prose), new_code_cell(code), new_code_cell("y = 2")]
    nbformat.write(new_notebook(cells=cells), path)
    return path


def test_the_hash_follows_the_code_alone(tmp_path):
    first = timings.code_hash(write_notebook(tmp_path / "a.ipynb"))
    assert len(first) == 12
    assert timings.code_hash(write_notebook(tmp_path / "b.ipynb", prose="# Other")) == first
    executed = nbformat.read(tmp_path / "a.ipynb", as_version=4)
    executed.cells[1].execution_count = 7
    nbformat.write(executed, tmp_path / "a.ipynb")
    assert timings.code_hash(tmp_path / "a.ipynb") == first
    others = [write_notebook(tmp_path / "c.ipynb", code) for code in ("x = 2", "x = 1\ny = 2")]
    assert all(timings.code_hash(path) != first for path in others)


def test_an_entry_takes_the_place_of_the_same_kind_and_leaves_the_rest():
    old = {"02.ipynb": {"bfloat16": entry(1)}, "01.ipynb": {"bfloat16": entry(2)}}
    new = timings.with_entry(old, "02.ipynb", "float32", entry(3))
    assert new == {
        "01.ipynb": {"bfloat16": entry(2)},
        "02.ipynb": {"bfloat16": entry(1), "float32": entry(3)},
    }
    assert list(new) == ["01.ipynb", "02.ipynb"] and list(new["02.ipynb"]) == [
        "bfloat16", "float32",
    ]  # fmt: skip
    again = timings.with_entry(new, "02.ipynb", "float32", entry(4))
    assert again["02.ipynb"] == {"bfloat16": entry(1), "float32": entry(4)}
    assert "float32" not in old["02.ipynb"]


def test_times_of_other_code_are_dropped():
    old = {"01.ipynb": {"bfloat16": entry(code="old"), "gpu": entry(code="new")}}
    new = timings.with_entry(old, "01.ipynb", "float32", entry(code="new"))
    assert set(new["01.ipynb"]) == {"float32", "gpu"}


# --- the limit of a cell


def test_the_limit_is_three_times_the_slowest_cell_at_this_speed():
    measured = {
        "01.ipynb": {"bfloat16": entry(cell=70, speed=2000)},
        "02.ipynb": {"bfloat16": entry(cell=80, speed=2000)},
    }
    assert timings.cell_limit(measured, "bfloat16", 2000) == 240
    assert timings.cell_limit(measured, "bfloat16", 500) == 960
    assert timings.cell_limit(measured, "float32", 500) == 960  # until that kind is measured


def test_the_limit_takes_the_times_of_this_kind_of_processor():
    kinds = {"bfloat16": entry(cell=100, speed=2000), "float32": entry(cell=150, speed=800)}
    assert timings.cell_limit({"01.ipynb": kinds}, "float32", 800) == 450
    assert timings.cell_limit({"01.ipynb": kinds}, "bfloat16", 800) == 750


def test_the_limit_is_never_below_two_minutes():
    assert timings.cell_limit({}, "float32", 100) == 120
    assert timings.cell_limit({"01.ipynb": {"gpu": entry(cell=1)}}, "float32", 1000) == 120


@given(st.lists(st.floats(1, 500), min_size=1), st.floats(50, 5000), st.floats(50, 5000))
def test_no_cell_comes_within_a_third_of_the_limit(cells, there, here):
    """Even where it takes twice as long as the measured speed says."""
    measured = {str(i): {"float32": entry(cell=c, speed=there)} for i, c in enumerate(cells)}
    limit = timings.cell_limit(measured, "float32", here)
    assert 2 * max(cells) * there / here <= 2 / 3 * limit + 1


def test_the_limit_and_the_speed_are_said_in_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(timings, "has_native_bfloat16", lambda device: False)
    path = tmp_path / "timings.json"
    path.write_text(json.dumps({"01.ipynb": {"float32": entry(cell=90, speed=700)}}))
    assert timings.limit_here(350, path) == 540
    captured = capsys.readouterr()
    assert captured.err == "350 images a second (float32): a cell may take 540 s.\n"
    assert captured.out == ""


def test_the_speed_is_counted_in_images_and_leaves_the_random_numbers(monkeypatch):
    clock = iter([0.0, 1.0, 4.0, 4.0])  # two steps in 4 s
    monkeypatch.setattr(timings.time, "perf_counter", lambda: next(clock))
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    assert timings.images_per_second(budget=3) == 2 * 128 / 4
    torch.testing.assert_close(torch.rand(2), expected)


# --- the tables


@pytest.fixture
def lessons(tmp_path, monkeypatch):
    """Two lessons, of which one was measured on one kind of processor only."""
    monkeypatch.setattr(write_tables, "NOTEBOOKS", tmp_path)
    prose = "# 0{} Title\n\n**Time** about 15 minutes"
    for i in (1, 2):
        write_notebook(tmp_path / f"0{i}_x.ipynb", prose=prose.format(i))
    measured = {
        "01_x.ipynb": {
            "bfloat16": entry(90, 30, device="fast one"),
            "float32": entry(180, 61, device="slow one"),
            "gpu": entry(6, 1, device="a GPU"),
        },
        "02_x.ipynb": {"bfloat16": entry(120, 40, device="fast one")},
    }
    (tmp_path / "timings.json").write_text(json.dumps(measured))
    return tmp_path


def test_the_readme_has_a_column_for_each_kind_of_processor(lessons):
    table = write_tables.lessons_table()
    head, _, first, second, last, _, *explanation = table.splitlines()
    assert head.split(" | ")[1:3] == ["minutes, float32 processor", "minutes, bfloat16 processor"]
    assert first == "| [01 Title](notebooks/01_x.ipynb) | 3.0 | 1.5 | 61 s |"
    assert second == "| [02 Title](notebooks/02_x.ipynb) | – | 2.0 | 40 s |"
    assert last == "| all | – | 3.5 |  |"  # a sum of some of them would mislead
    words = " ".join(explanation)
    assert "A dash is not yet measured" in words
    assert "Measured on: fast one (profile cpu); slow one (profile cpu)." in words


def test_the_guide_has_the_same_columns(lessons):
    *_, first, second = write_tables.teaching_table().splitlines()
    assert first == "| [01 Title](../notebooks/01_x.ipynb) | 3.0 | 1.5 | 15 | none |"
    assert second == "| [02 Title](../notebooks/02_x.ipynb) | – | 2.0 | 15 | none |"


def test_the_tables_stand_without_any_measurement(lessons):
    (lessons / "timings.json").unlink()
    assert "| all | – | – |  |" in write_tables.lessons_table()
    assert "| – | – | 15 | none |" in write_tables.teaching_table()


# --- a session of slow tests


CONFTEST = (ROOT / "conftest.py").read_text(encoding="utf-8")
SLOW_TEST = """
import pytest
@pytest.mark.notebooks(minutes=3)
def test_three_minutes(): pass
@pytest.mark.notebooks
def test_seconds(): pass
def test_quick(): pass
"""


@pytest.fixture
def session(tmp_path):
    """pytest in a folder that has our conftest.py, notebooks and tests; what it prints."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nmarkers = notebooks(minutes): slow\ntimeout = 2\naddopts = --strict-markers"
    )
    (tmp_path / "test_own.py").write_text(SLOW_TEST)
    (tmp_path / "notebooks").mkdir()
    measured = {
        "short.ipynb": {"bfloat16": entry(60)},
        "long.ipynb": {"bfloat16": entry(60), "float32": entry(600)},
    }
    (tmp_path / "notebooks" / "timings.json").write_text(json.dumps(measured))
    write_notebook(tmp_path / "short.ipynb")
    write_notebook(tmp_path / "long.ipynb", "import time; time.sleep(2.5)")
    write_notebook(tmp_path / "new.ipynb", "import os; process = os.getpid()")

    def run(*options):
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options]
        done = subprocess.run(
            [*command, "--nbval-lax", "--nbval-current-env"],
            cwd=tmp_path, capture_output=True, text=True, timeout=100,
        )  # fmt: skip
        return done.returncode, done.stdout.splitlines()

    return run


def test_notebooks_and_slow_tests_start_longest_first_and_all_others_are_quick(session):
    code, lines = session("--collect-only", "-q", "-m", "notebooks")
    assert code == 0
    order = [
        line.partition("::")[0] + line.partition("::")[2][:6] for line in lines if "::" in line
    ]
    assert order == [
        "long.ipynbCell 0", "long.ipynbCell 1", "test_own.pytest_t", "short.ipynbCell 0",
        "short.ipynbCell 1", "new.ipynbCell 0", "new.ipynbCell 1", "test_own.pytest_s",
    ]  # fmt: skip
    assert "8/9 tests collected (1 deselected)" in lines[-1]  # test_quick


@pytest.mark.notebooks
def test_a_notebook_stays_in_one_process_and_has_no_limit_but_nbvals(session):
    """Its second cell would not find the name of the first, and its first takes over 2 s."""
    code, lines = session("-n", "2", "--dist", "loadscope", "--no-loadscope-reorder", "-v")
    assert code == 0, "\n".join(lines)
    workers = {}
    for line in lines:
        if "PASSED" in line and "::ipynb::" in line:
            workers.setdefault(line.split("PASSED ")[1].partition("::")[0], set()).add(line[:5])
    assert set(workers) == {"short", "long", "new"}
    assert all(len(names) == 1 for names in workers.values())


NOTED = """#!/bin/sh
echo "$@" >> commands.txt
if [ "$1" = tools/timings.py ]; then echo 321; fi
"""


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.skipif(sys.platform == "win32", reason="a script cannot stand for Python there")
@pytest.mark.parametrize("options, limit", [([], 321), (["CELL_TIMEOUT=900"], 900)])
def test_make_test_gives_the_measured_limit_or_the_one_that_is_named(tmp_path, options, limit):
    """With a Python that only notes what it is asked for."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").write_text(NOTED)
    (tmp_path / ".venv" / "bin" / "python").chmod(0o755)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("learn", "site", "test"):
        (tmp_path / ".venv" / f"{name}.stamp").touch()
    command = ["make", "test", *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    commands = (tmp_path / "commands.txt").read_text().splitlines()
    assert [line.startswith("-m ruff check") for line in commands[:2]] == [True, False]
    *_, quick, session = [line for line in commands if line.startswith("-m pytest")]
    assert "-m not notebooks" in quick
    assert f"--nbval-cell-timeout={limit} " in session and session.endswith(" tests build/tested")
    assert "--dist loadscope --no-loadscope-reorder" in session  # a notebook stays in one process
    assert ("tools/timings.py" in commands) == (not options)


# --- the commands, as they are typed


@pytest.mark.notebooks
@pytest.mark.timeout(600)
def test_the_tools_start_as_commands():
    """Each finds the others and the package; `timings` says a limit."""
    names = ["run_notebooks", "write_tables", "solutions"]
    commands = [[f"{name}.py", "--help"] for name in names] + [["timings.py"]]
    processes = [
        subprocess.Popen(
            [sys.executable, ROOT / "tools" / name, *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for name, *arguments in commands
    ]  # fmt: skip
    outputs = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, outputs
    assert all("usage:" in out for out, _ in outputs[:3])
    limit, line = outputs[3]
    assert int(limit) >= 120 and line.count("\n") == 1 and f"{int(limit)} s" in line


def test_a_limit_that_is_named_overrides_the_measured_one(tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(run_notebooks, "images_per_second", lambda: 1e-3)
    monkeypatch.setattr(run_notebooks, "execute", lambda path, limit, *_: asked.append(limit) or (
        nbformat.read(path, as_version=4), {1: 1.0}
    ))  # fmt: skip
    path = write_notebook(tmp_path / "01.ipynb")
    for options in ([], ["--cell-timeout", "77"]):
        assert run_notebooks.main([*options, "--output", str(tmp_path), str(path)]) == 0
    assert asked[1] == 77 < asked[0]
    assert capsys.readouterr().err.count("a cell may take") == 1
