"""The tool that executes the lessons, tried on small notebooks of its own."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import run_notebooks

pytestmark = pytest.mark.notebooks
TOOL = Path(__file__).parents[1] / "tools" / "run_notebooks.py"


@dataclass
class Result:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run_tool(capsys, monkeypatch):
    """The tool in this process: a process of its own would take longer than its notebooks."""
    monkeypatch.setattr(run_notebooks, "images_per_second", lambda: 1000.0)

    def run(*arguments):
        try:
            code = run_notebooks.main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code
        return Result(code, *capsys.readouterr())

    return run


def write_notebook(path, *sources):
    notebook = new_notebook(
        cells=[new_markdown_cell("# A lesson"), *[new_code_cell(source) for source in sources]],
        metadata={"widgets": {}, "kernelspec": {"name": "other", "display_name": "Other"}},
    )
    nbformat.write(notebook, path)
    return notebook


def test_in_place_run_saves_what_jupyterlab_would(tmp_path):
    path = tmp_path / "01_lesson.ipynb"
    before = write_notebook(path, "print('a')\nprint('b')", "import os\nos.getcwd()")

    command = [sys.executable, TOOL, "--in-place", "--timings", tmp_path / "timings.json", path]
    result = subprocess.run(command, capture_output=True, text=True, timeout=110)

    assert result.returncode == 0, result.stderr
    after = nbformat.read(path, as_version=4)
    nbformat.validate(after)
    assert [c.id for c in after.cells] == [c.id for c in before.cells]
    assert [c.execution_count for c in after.cells[1:]] == [1, 2]
    assert [o.text for o in after.cells[1].outputs] == ["a\nb\n"]
    assert after.cells[2].outputs[0].data["text/plain"] == repr(str(tmp_path))
    assert after.metadata.kernelspec == {
        "display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3",
    }  # fmt: skip
    assert set(after.metadata) == {"kernelspec", "language_info"}
    assert all(cell.metadata == {} for cell in after.cells)
    text = path.read_text(encoding="utf-8")
    assert text.startswith('{\n "cells": [') and text.endswith("}\n") and text[-2:] != "\n\n"
    timings = json.loads((tmp_path / "timings.json").read_text())
    (entry,) = timings["01_lesson.ipynb"].values()
    assert set(entry) == {
        "seconds", "slowest_cell_seconds", "images_per_second", "device", "profile", "torch",
        "code",
    }  # fmt: skip
    assert 1 < entry["images_per_second"] < 1e6 and entry["seconds"] < 100
    assert result.stdout.startswith("01_lesson.ipynb 0.0 min, slowest cell [")


def test_output_folder_leaves_the_lesson_and_other_timings_alone(tmp_path, run_tool):
    path, timings = tmp_path / "02_lesson.ipynb", tmp_path / "timings.json"
    write_notebook(path, "1 + 1")
    before = path.read_bytes()
    timings.write_text('{"01_lesson.ipynb": {"gpu": {"seconds": 5}}}')

    result = run_tool("--output", tmp_path / "out", "--timings", timings, path)

    assert result.returncode == 0, result.stderr
    assert path.read_bytes() == before
    executed = nbformat.read(tmp_path / "out" / path.name, as_version=4)
    assert executed.cells[1].outputs[0].data["text/plain"] == "2"
    merged = json.loads(timings.read_text())
    assert list(merged) == ["01_lesson.ipynb", "02_lesson.ipynb"]
    assert merged["01_lesson.ipynb"] == {"gpu": {"seconds": 5}}


def test_changed_code_drops_the_times_of_the_other_kind(tmp_path, run_tool, monkeypatch):
    path, timings = tmp_path / "01_lesson.ipynb", tmp_path / "timings.json"
    for code, kind, kept in [
        ("x = 1", "bfloat16", ["bfloat16"]),
        ("x = 1", "float32", ["bfloat16", "float32"]),
        ("x = 2", "float32", ["float32"]),
    ]:
        monkeypatch.setattr(run_notebooks, "kind_of", lambda device, kind=kind: kind)
        monkeypatch.setattr("timings.kind_of", lambda device, kind=kind: kind)
        write_notebook(path, code)
        assert run_tool("--in-place", "--timings", timings, path).returncode == 0
        assert list(json.loads(timings.read_text())[path.name]) == kept


def test_another_seed_acts_on_a_copy_alone(tmp_path, run_tool):
    path = tmp_path / "01_lesson.ipynb"
    write_notebook(path, "import torch", "torch.manual_seed(0)\ntorch.initial_seed()")
    assert run_tool("--output", tmp_path / "out", "--seed", "7", path).returncode == 0
    copy = nbformat.read(tmp_path / "out" / path.name, as_version=4)
    assert copy.cells[2].outputs[0].data["text/plain"] == "7"
    assert "manual_seed(0)" in path.read_text()
    assert run_tool("--in-place", "--seed", "7", path).returncode == 2


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise ValueError('no such class')", "ValueError: no such class"),
        ("import time\ntime.sleep(60)", "no end after 4 s (--cell-timeout)"),
        ("import os\nos._exit(1)", "the kernel died, perhaps for want of memory"),
    ],
)
def test_a_failing_cell_stops_the_run_and_saves_nothing(tmp_path, run_tool, source, reason):
    first, second = tmp_path / "01_first.ipynb", tmp_path / "02_second.ipynb"
    write_notebook(first, "x = 1", source)
    write_notebook(second, "x = 1")
    before = first.read_bytes(), second.read_bytes()

    result = run_tool("--in-place", "--cell-timeout", "4", first, second)

    assert result.returncode == 1
    assert result.stderr.endswith(f"01_first.ipynb, cell [2]: {reason}\n")
    assert (first.read_bytes(), second.read_bytes()) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["01_first.ipynb", "02_second.ipynb"]


# --- tables over seeds


LESSON = """
from types import SimpleNamespace as N
import pandas as pd, torch
lab = N(full=N(source="CIFAR-10 train"), profile=N(name="cpu"))
torch.manual_seed(0)
"""
TABLE = (
    "comparison = pd.DataFrame({'recall': [float(torch.initial_seed()), 5.0]}, index=['a', 'b'])"
)


def test_seeds_keep_the_comparison_of_each_seed_and_other_lessons(tmp_path, run_tool):
    path, results = tmp_path / "03_lesson.ipynb", tmp_path / "seeds.json"
    write_notebook(path, LESSON, TABLE)
    before = path.read_bytes()
    results.write_text('{"02_x.ipynb": {"data": "x", "seeds": {}}}')

    result = run_tool("--seeds", results, path)

    assert result.returncode == 0, result.stderr
    measured = json.loads(results.read_text())
    assert list(measured) == ["02_x.ipynb", "03_lesson.ipynb"]
    entry = measured["03_lesson.ipynb"]
    assert entry["data"] == "CIFAR-10 train, cpu profile"
    values = {seed: table["data"] for seed, table in entry["seeds"].items()}
    assert values == {"0": [[0.0], [5.0]], "1": [[1.0], [5.0]], "2": [[2.0], [5.0]]}
    assert path.read_bytes() == before


def test_seeds_skip_a_lesson_without_comparison_and_stop_at_a_claim_that_fails(tmp_path, run_tool):
    plain, fails = tmp_path / "00_lesson.ipynb", tmp_path / "03_lesson.ipynb"
    results = tmp_path / "seeds.json"
    write_notebook(plain, "1 + 1")
    write_notebook(fails, LESSON, TABLE, "assert torch.initial_seed() < 2, 'not for this seed'")

    result = run_tool("--seeds", results, plain, fails)

    assert result.returncode == 1
    assert "03_lesson.ipynb, cell [3]: AssertionError: not for this seed" in result.stderr
    assert list(json.loads(results.read_text())["03_lesson.ipynb"]["seeds"]) == ["0", "1"]
