"""The benchmarks run and report every figure. How fast things are is no matter of a test."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import examined, scale

FOLDER = Path(__file__).parents[1] / "benchmarks"
MODELS = {"plain CNN", "small BatchNorm net", "ResNet-32"}
WAYS = {"bare step", "fit", "usual loop"}


@pytest.mark.notebooks(minutes=3)  # trains, though in no notebook
@pytest.mark.timeout(1200)
def test_diagnose_finds_the_faults_of_the_held_out_part():
    command = [sys.executable, "-m", "benchmarks.faults", "--part", "fifth"]
    result = subprocess.run(command, cwd=FOLDER.parent, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.notebooks  # trains, though in no notebook
def test_quick_benchmark_prints_tables_and_writes_json(tmp_path):
    output = tmp_path / "new folder" / "figures.json"
    result = subprocess.run(
        [sys.executable, FOLDER / "run.py", "--quick", "--output", output],
        env=os.environ | {"IMBALKIT_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert result.returncode == 0, result.stderr
    figures = json.loads(output.read_text(encoding="utf-8"))

    assert {"torch", "torchvision", "imbalkit", "python"} <= set(figures["versions"])
    assert all(figures[key] for key in ("date", "device", "threads", "system", "data", "seconds"))
    assert set(figures["speed"]) == MODELS
    for name, speed in figures["speed"].items():
        assert name in result.stdout
        assert set(speed["images per second"]) == WAYS
        ratios = [speed["fit / bare step"], speed["fit / usual loop"]]
        for spread in ratios + list(speed["images per second"].values()):
            assert 0 < spread["min"] <= spread["median"] <= spread["max"]
    assert [(row["images"], row["classes"]) for row in figures["growth"]] == [
        (256, 3), (512, 3), (512, 10),
    ]  # fmt: skip
    assert all(row["ms per step"]["min"] > 0 for row in figures["growth"])
    assert len(figures["imports"]["ratio"]) == 2
    for ratio in figures["imports"]["ratio"].values():
        assert 0 < ratio["min"] <= ratio["median"] <= ratio["max"]
    memory = figures["peak memory in MB"]
    if sys.platform == "linux":
        assert 50 < memory["import torch alone"] < memory["plain CNN"]
    else:
        assert set(memory.values()) == {None}


WITHOUT_TORCH = f"""
import runpy, sys, types
sys.modules["torch"] = types.ModuleType("torch")  # its memory is measured in the test above
runpy.run_path({str(FOLDER / "memory.py")!r}, run_name="__main__")
"""


def test_memory_of_the_process_that_asks_is_not_counted():
    def peak():
        command = [sys.executable, "-c", WITHOUT_TORCH]
        result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=50)
        return json.loads(result.stdout)

    small = peak()
    if small is None:
        pytest.skip("peak memory is measured on Linux only")
    held = bytearray(b"x") * 300_000_000
    assert abs(peak() - small) < len(held) / 1e6 / 10


@pytest.mark.parametrize("name", scale.JOBS)
def test_memory_and_time_grow_as_is_stated(name):
    rows = json.loads(scale.RESULTS.read_text(encoding="utf-8"))["jobs"][name]
    assert [row["items"] for row in rows] == [1_000, 10_000, 100_000]
    assert scale.broken_bounds(name, rows) == []


def test_a_curve_above_its_bounds_is_named():
    rows = [{"items": n, "seconds": n**1.2 / 1e4, "peak MB": 500.0} for n in scale.SIZES]
    assert scale.broken_bounds("predict", rows) == []
    assert scale.exponents(rows) == pytest.approx([1.2, 1.2])
    rows[2]["seconds"] *= 3
    rows[1]["peak MB"] = 1_200.0
    assert scale.broken_bounds("predict", rows) == [
        "predict: 100000 items take 300.0 s", "predict: 10000 items take 1200 MB",
    ]  # fmt: skip


@pytest.mark.parametrize("name", scale.JOBS)
def test_every_job_of_the_curves_runs(name, tmp_path, monkeypatch):
    monkeypatch.setenv("SCALE_FOLDER", str(tmp_path))
    assert scale.measure(name, 40)["seconds"] > 0


@pytest.mark.parametrize("name", examined.MODELS)
@pytest.mark.parametrize("optimizer", examined.OPTIMIZERS)
def test_the_doctor_costs_what_is_promised(name, optimizer):
    rows = json.loads(examined.RESULTS.read_text(encoding="utf-8"))["rows"]
    (row,) = [r for r in rows if (r["model"], r["optimizer"]) == (name, optimizer)]
    assert row["copies"] is not None and examined.broken_promises([row]) == []


def test_a_doctor_that_costs_more_is_named():
    row = {"model": "m", "optimizer": "SGD", "seconds": 23.0, "parameters": 9e7, "copies": 1.9}
    assert examined.broken_promises([row, row | {"parameters": 1e6, "copies": 80.0}]) == []
    assert examined.broken_promises([row | {"seconds": 25.0}, row | {"copies": 2.1}]) == [
        "m with SGD: 25.0 s", "m with SGD: 2.10 copies",
    ]  # fmt: skip


def test_the_doctor_s_cost_can_be_measured(monkeypatch):
    small = (lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 10)),
             examined.image(8), 16)  # fmt: skip
    monkeypatch.setitem(examined.MODELS, "small", small)
    row = examined.measure("small", "Adam", seconds=1)
    assert row["seconds"] < 2 and row["parameters"] == 1930
