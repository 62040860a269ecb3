"""The leaderboard can be stopped, goes on, and gives the same on a cluster that loses a worker."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import helpers
import joblib
import numpy as np
import pytest
import torch

from benchmarks.leaderboard import __main__ as leaderboard
from benchmarks.leaderboard import cell as cell_module
from benchmarks.leaderboard import summary
from benchmarks.leaderboard.cell import CLOCKS, Budget, Cell, figures, run
from benchmarks.leaderboard.methods import COMBINATIONS, METHODS
from benchmarks.shared import Rounds

ROOT = Path(__file__).parents[1]
TINY = Budget(epochs=2, width=4)
CELLS = [
    Cell(method, setting, 100, seed, TINY)
    for method, setting in (("focal", 0.5), ("mixup", 0.2))
    for seed in (0, 1)
]


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setenv("IMBALKIT_OFFLINE", "1")
    monkeypatch.setenv("IMBALKIT_DATA", "/nonexistent")


def without_clocks(records):
    for record in records.values():
        for row in record["rows"].values():
            assert all(row.pop(clock) > 0 for clock in CLOCKS)
    return records


# --- stopping and going on


def fake_train(cell):
    if cell.setting == "fails":
        raise RuntimeError("the power failed")
    made = record(cell.method, cell.seed, 0.5, accuracy=0.1 * cell.seed) | {
        "setting": cell.setting, "epochs": cell.budget.epochs, "width": cell.budget.width,
    }  # fmt: skip
    del made["commit"], made["date"], made["versions"]  # these are added
    return cell, made, {cell.method: np.full((2, 3), cell.seed, np.float16)}


def only_row(record):
    return next(iter(record["rows"].values()))


def test_what_is_finished_survives_a_crash_and_is_not_trained_again(tmp_path, monkeypatch):
    trained = []

    def train(cell):
        result = fake_train(cell)
        trained.append(cell)
        return result

    monkeypatch.setattr(leaderboard, "train", train)
    cells = [Cell("a", None, 100, 1), Cell("b", None, 100, 2), Cell("c", "fails", 100, 3)]
    with pytest.raises(RuntimeError, match="power"):
        leaderboard.finish(cells, tmp_path, jobs=1)
    assert trained == cells[:2]
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{cell.name}.{kind}" for cell in cells[:2] for kind in ("json", "npz")
    }
    more = [*cells[:2], Cell("d", None, 100, 4)]
    records = leaderboard.finish(more, tmp_path, jobs=1)
    assert trained == more  # the first two were there
    assert [only_row(r)["test"]["balanced_accuracy"] for r in records.values()] == [
        pytest.approx(0.1 * cell.seed) for cell in more
    ]


def test_a_cell_whose_record_was_not_written_is_trained_again(tmp_path, monkeypatch):
    monkeypatch.setattr(leaderboard, "train", fake_train)
    cell = Cell("a", None, 100, 1)
    leaderboard.finish([cell], tmp_path, jobs=1)
    (tmp_path / f"{cell.name}.json").unlink()
    assert leaderboard.finish([cell], tmp_path, jobs=1)[cell]["rows"]


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """A folder with two finished cells, and the paths of their records."""
    monkeypatch.setattr(leaderboard, "train", fake_train)
    cells = [Cell("a", None, 100, seed, TINY) for seed in (0, 1)]
    leaderboard.finish(cells, tmp_path, jobs=1)
    return cells, [tmp_path / f"{cell.name}.json" for cell in cells]


def refused(cell, path, reason, capsys):
    capsys.readouterr()
    assert leaderboard.load(cell, path.parent) is None
    said = capsys.readouterr().out
    assert re.search(rf"seed0\.json cannot be used .*{reason}.*; the cell is trained again", said)


def test_one_changed_bit_in_a_record_or_its_logits_is_noticed(finished, capsys):
    (cell, _), (path, _) = finished
    random = np.random.default_rng(0)
    for file, step in ((path, 29), (path.with_suffix(".npz"), 11)):
        whole = file.read_bytes()
        for place in range(0, len(whole), step):
            changed = bytearray(whole)
            changed[place] ^= 1 << int(random.integers(8))
            file.write_bytes(changed)
            refused(cell, path, "", capsys)
        file.write_bytes(whole)
    assert leaderboard.load(cell, path.parent)["seed"] == 0


def test_the_record_of_another_cell_is_not_taken_for_this_one(finished, capsys):
    (cell, _), (path, other) = finished
    path.write_bytes(other.read_bytes())
    refused(cell, path, "seed is 1, and must be 0", capsys)


def test_logits_of_another_training_are_not_taken_for_these(finished, capsys):
    (cell, _), (path, other) = finished
    path.with_suffix(".npz").write_bytes(other.with_suffix(".npz").read_bytes())
    refused(cell, path, "its logits are", capsys)
    path.with_suffix(".npz").unlink()
    refused(cell, path, "No such file", capsys)


@pytest.mark.parametrize(
    "change",
    [
        {"rows": {"a": {"validation": 0.5}}}, {"rows": None}, {"counts": ["5", 3]},
        {"manifest": 3}, {"date": None}, {"versions": {"torch": 2}}, {"more": 1},
    ],
)  # fmt: skip
def test_a_right_digest_makes_no_record(finished, change, capsys):
    (cell, _), (path, _) = finished
    content = leaderboard.load(cell, path.parent)
    leaderboard.write_json(path, content | change)
    refused(cell, path, next(iter(change)), capsys)


@pytest.mark.parametrize("damage", ["cut", "empty", "list", "other cell", "no rows", "no logits"])
def test_a_record_that_is_damaged_or_of_another_cell_is_trained_again(
    tmp_path, monkeypatch, capsys, damage
):
    monkeypatch.setattr(leaderboard, "train", fake_train)
    cell, other = Cell("a", None, 100, 1), Cell("a", None, 100, 2)
    whole = leaderboard.finish([cell, other], tmp_path, jobs=1)[cell]
    file, logits = (tmp_path / f"{cell.name}.{kind}" for kind in ("json", "npz"))
    if damage == "no logits":
        logits.write_bytes(logits.read_bytes()[:50])
    else:
        file.write_text({
            "cut": file.read_text()[:90], "empty": "", "list": "[]", "no rows": "{}",
            "other cell": (tmp_path / f"{other.name}.json").read_text(),
        }[damage])  # fmt: skip
    capsys.readouterr()
    assert leaderboard.finish([cell], tmp_path, jobs=1)[cell] == whole
    said = capsys.readouterr().out
    assert "cannot be used" in said and "trained again" in said
    assert leaderboard.load(cell, tmp_path) == whole


def whole_record(cell):
    """What training a cell gives, without the training."""
    _, made, logits = fake_train(cell)
    return cell, made | cell.identity, logits


@pytest.mark.parametrize("budget", [["--quick"], []])
@pytest.mark.parametrize("methods", [["focal"], ["focal", "mixup", "drw"], ["cross-entropy"]])
def test_any_choice_of_methods_comes_to_an_end(tmp_path, monkeypatch, budget, methods):
    methods = [method for method in methods if method in METHODS]
    trained = []

    def train(cell):
        trained.append(cell)
        return whole_record(cell)

    monkeypatch.setattr(leaderboard, "train", train)
    monkeypatch.setattr(leaderboard, "ensemble", lambda name, seed, cells, folder: whole_record(
        cells[0])[1] | leaderboard.origin() | {"seed": seed})  # fmt: skip
    files = ["--jobs", "1", "--folder", str(tmp_path / "cells"), "--output", str(tmp_path / "o")]
    leaderboard.main([*budget, "--methods", *methods, *files])
    assert json.loads((tmp_path / "o").read_text())["settings"].keys() == set(methods)
    if budget:
        assert {(cell.seed, cell.ratio) for cell in trained} == {(0, 100)}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_process_that_trains_ends_soon_after_the_one_that_waits_for_it(tmp_path):
    code = (
        "import multiprocessing, os, sys, time\n"
        "from benchmarks.parent import end_with_parent\n"
        "def work():\n"
        "    end_with_parent()\n"
        "    print(os.getpid(), flush=True)\n"
        "    time.sleep(60)\n"
        "multiprocessing.get_context('fork').Process(target=work).start()\n"
    )
    runner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT)
    worker = int(runner.stdout.readline())
    runner.kill()
    runner.wait()
    runner.stdout.close()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{worker}").exists() or "Z" in Path(f"/proc/{worker}/stat").read_text()


def test_cells_that_differ_have_different_files():
    cells = [
        Cell("a", None, 100, 0), Cell("b", None, 100, 0), Cell("a", 0.5, 100, 0),
        Cell("a", None, 10, 0), Cell("a", None, 100, 1), Cell("a", None, 100, 0, TINY),
    ]  # fmt: skip
    assert len({cell.name for cell in cells}) == len(cells)


# --- what is made of the cells


def record(method, seed, validation, ratio=100, manifest="m", accuracy=0.6):
    test = dict.fromkeys(summary.COLUMNS, accuracy) | {"few": None, "recall": [accuracy] * 3}
    row = {"validation": validation, "test": test, "epoch": 9, **dict.fromkeys(CLOCKS, 5.0)}
    same = {"epochs": 15, "width": 32, "data": "d", "device": "CPU", "versions": {"torch": "2"}}
    return same | {
        "method": method, "setting": None, "ratio": ratio, "seed": seed, "counts": [5, 3, 1],
        "manifest": manifest, "commit": "c", "date": "2026-01-01",
        "rows": {f"row of {method}": row},
    }  # fmt: skip


def test_methods_are_ranked_on_the_validation_images():
    records = [
        record("a", 0, 0.5, accuracy=0.9), record("a", 1, 0.7), record("b", 0, 0.8),
        record("b", 1, 0.6), record("c", 0, 0.1), record("c", 1, 0.1),
    ]  # fmt: skip
    assert summary.ranked_methods(records) == ["b", "a", "c"]


def test_summary_keeps_every_seed_in_order():
    records = [record("a", seed, 0.5, accuracy=0.1 * seed) for seed in (2, 0, 1)]
    result = summary.summarise([*records, record("a", 0, 0.5, ratio=10, manifest="n")], {"a": None})
    rows = result["ratios"]["100"]["rows"]["row of a"]
    assert rows["seeds"] == [0, 1, 2]
    assert rows["figures"]["balanced_accuracy"] == pytest.approx([0, 0.1, 0.2])
    assert rows["figures"]["few"] == [None] * 3
    assert result["ratios"]["10"]["manifest"] == "n"
    json.dumps(result)


def test_published_figures_are_found_by_the_name_of_the_ratio():
    published = summary.summarise([record("a", 0, 0.5)], {"a": None})["published"]
    assert published["late weights (DRW)"] == {
        "100": 74.64, "50": 79.35, "10": None, "source": "Zhang et al. 2021",
    }  # fmt: skip
    assert all(one.keys() == {"100", "50", "10", "source"} for one in published.values())
    for one in published.values():  # the less imbalanced, the better: none stands in a wrong place
        figures = [one[ratio] for ratio in ("100", "50", "10") if one[ratio] is not None]
        assert figures == sorted(figures) and len(one["source"]) > 5


def test_cells_of_other_images_are_not_mixed():
    with pytest.raises(ValueError, match="different images"):
        summary.summarise([record("a", 0, 0.5), record("b", 0, 0.5, manifest="other")], {})


def test_an_ensemble_averages_probabilities():
    labels = torch.tensor([0, 1])
    sure = torch.tensor([[8.0, 0, -100], [8.0, 0, -100]])
    unsure = torch.tensor([[0.0, 1, 0], [0.0, 1, 0]])
    records = [record("a", 0, 0.5), record("b", 0, 0.5)]
    made = summary.averaged("both", 0, records, [sure, unsure], labels)
    row = made["rows"]["both"]
    assert row["test"]["recall"][:2] == [1, 0]  # the sure member prevails in the mean
    assert row["seconds"] == 10 and made["seed"] == 0
    expected = figures((sure.softmax(1) + unsure.softmax(1)).log() - np.log(2), labels, [5, 3, 1])
    assert row["test"] == expected


# --- methods


def test_rounds_go_through_the_whole_sampler_before_they_repeat_it():
    rounds = Rounds(range(5), 4)
    assert len(rounds) == 4
    assert [list(rounds), list(rounds), list(rounds)] == [[0, 1, 2, 3], [4, 0, 1, 2], [3, 4, 0, 1]]


def test_the_methods_of_the_issue_are_there():
    lessons = {method.lesson for method in METHODS.values()}
    assert lessons >= {"01", "03", "04", "05", "06", "07", "08", "09", "10", "11"}
    assert len(METHODS) >= 20
    for method in METHODS.values():
        assert len(set(method.grid)) == len(method.grid) > 0
    assert METHODS["combination"].grid == tuple(COMBINATIONS)


@pytest.fixture(scope="module")
def small_lab():
    return helpers.small_lab(every_test=5)


@pytest.fixture(scope="module")
def on_small_lab(small_lab):
    """``(method, setting)`` to the record and the logits of a short training."""

    def fake_set_up(ratio, seed):
        torch.manual_seed(seed)
        return small_lab

    def train(method, setting):
        cell = Cell(method, setting, 100, 0, Budget(epochs=5, width=4))
        return run(cell, METHODS[method].train)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cell_module, "set_up", fake_set_up)
        yield train


@pytest.fixture(scope="module")
def plain_logits(on_small_lab):
    return on_small_lab("cross-entropy", None)[1]["cross-entropy"]


@pytest.mark.notebooks  # trains, though in no notebook
@pytest.mark.parametrize("method", METHODS)
def test_each_method_trains_and_every_setting_acts(method, small_lab, on_small_lab, plain_logits):
    first_logits = []
    for setting in METHODS[method].grid:
        made, logits = on_small_lab(method, setting)
        assert made["rows"].keys() == logits.keys()
        for name, row in made["rows"].items():
            assert 0 <= row["test"]["balanced_accuracy"] <= 1 and 1 <= row["epoch"] <= 5
            assert logits[name].shape == (len(small_lab.test), 10)
            assert (
                row["processor_seconds"] >= next(iter(made["rows"].values()))["processor_seconds"]
            )
        first, *others = logits.values()
        assert all((first != other).any() for other in others)
        first_logits.append(first)
    if method != "cross-entropy":
        first_logits.append(plain_logits)
    for one, other in combinations(first_logits, 2):
        assert (one != other).any()
    again, _ = on_small_lab(method, setting)
    assert without_clocks({0: again}) == without_clocks({0: made})


@pytest.mark.notebooks(minutes=1)
@pytest.mark.timeout(600)
def test_a_cluster_that_loses_a_worker_gives_the_same(tmp_path, offline):
    distributed = pytest.importorskip("distributed")
    # One is done when the worker dies, one is lost, one waits.
    cells = [replace(cell, budget=Budget(epochs=1, width=4)) for cell in CELLS[:3]]
    here = leaderboard.finish(cells, tmp_path / "here", jobs=2)
    there = tmp_path / "there"
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        leaderboard.backend(cluster.scheduler_address),
        distributed.Client(cluster) as client,
    ):
        victim = next(iter(client.run(os.getpid).values()))
        killed = threading.Event()

        def kill_after_the_first_cell():
            while not list(there.glob("*.json")):
                time.sleep(0.05)
            os.kill(victim, signal.SIGKILL)
            killed.set()

        threading.Thread(target=kill_after_the_first_cell, daemon=True).start()
        on_cluster = leaderboard.finish(cells, there, jobs=-1)
    assert killed.is_set()
    assert without_clocks(on_cluster) == without_clocks(here)
    assert len(list(there.glob("*.npz"))) == len(cells)


def test_processes_have_one_thread_each():
    with leaderboard.backend(None):
        threads = joblib.Parallel(n_jobs=2)(joblib.delayed(os.getenv)("OMP_NUM_THREADS")
                                            for _ in range(2))  # fmt: skip
    assert threads == ["1", "1"]
