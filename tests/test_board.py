"""The board: every method trains, its settings act, what is finished stays, intervals are right."""

import json
from itertools import combinations

import helpers
import numpy as np
import pytest
import torch
from scipy import stats

from benchmarks.board import __main__ as board
from benchmarks.board import cell as cell_module
from benchmarks.board import summary
from benchmarks.board.bench import Bench
from benchmarks.board.cell import Cell, in_training_mix, judge, run
from benchmarks.board.registry import METHODS
from benchmarks.shared import with_prior_removed
from imbalkit import sampling
from imbalkit.training import evaluate

OWN = """
from benchmarks.board import correction

@correction("halved", grid=(0.5,))
def halved(bench, factor):
    model = bench.fit(bench.net(), lambda logits, y: factor * bench.cross_entropy(logits, y))
    return model
"""


@pytest.fixture(scope="module")
def small_lab():
    return helpers.small_lab(every_test=20)


@pytest.fixture
def on_small_lab(small_lab, monkeypatch):
    monkeypatch.setattr(cell_module, "lab_of", lambda images, seed: small_lab)
    return lambda method, setting: run(Cell(method, setting, "cifar10-100", 4, 0, width=4))


def without_seconds(record):
    rows = {name: {k: v for k, v in row.items() if k != "seconds"}
            for name, row in record["rows"].items()}  # fmt: skip
    return record | {"rows": rows}


@pytest.mark.notebooks  # trains, though in no notebook
@pytest.mark.parametrize("method", METHODS)
def test_each_method_trains_and_every_setting_acts(method, on_small_lab, monkeypatch):
    judged, found = [], []

    def noting_judge(seen, counts):
        judged.append(seen["test"][0])
        return judge(seen, counts)

    monkeypatch.setattr(cell_module, "judge", noting_judge)
    for setting in METHODS[method].grid:
        judged.clear()
        record = on_small_lab(method, setting)
        json.dumps(record)
        assert all(0 <= row["balanced_accuracy"] <= 1 for row in record["rows"].values())
        assert (f"{method}, prior out" in record["rows"]) == METHODS[method].prior_in
        found.append(judged[0])  # the logits tell what rounded figures may hide
    for one, other in combinations(found, 2):
        assert (one != other).any()
    assert without_seconds(on_small_lab(method, setting)) == without_seconds(record)


def test_one_training_changes_size_loss_and_sampler_when_it_should(small_lab, monkeypatch):
    bench, seen = Bench(small_lab, epochs=10, width=4, seed=0), []

    def note(loss_name):
        def loss(logits, targets):
            seen.append((loss_name, sizes[-1], torch.bincount(targets, minlength=10)[9].item() > 0))
            return bench.cross_entropy(logits, targets)

        return loss

    model, sizes = bench.net(), []
    model.features[0].register_forward_pre_hook(lambda _, x: sizes.append(x[0].shape[-1]))
    common = sampling.CountSampler(small_lab.train.labels, [5] * 9 + [0])
    rare = sampling.CountSampler(small_lab.train.labels, [0] * 9 + [5])
    bench.fit(model, note("early"), sampler=common, switch=0.8, late_loss_fn=note("late"),
              late_sampler=rare)  # fmt: skip
    assert (
        seen == [("early", 24, False)] * 6 + [("early", 32, False)] * 2 + [("late", 32, True)] * 2
    )


def test_the_learning_rate_falls_in_one_line_through_all_parts(small_lab, monkeypatch):
    rates = []

    def noting_fit(model, batches, epochs, *, schedule, **options):
        rates.extend(schedule((e + 0.5) / epochs) for e in range(epochs))

    monkeypatch.setattr("benchmarks.board.bench.fit", noting_fit)
    bench = Bench(small_lab, epochs=10, width=4, seed=0)
    bench.fit(bench.net(), switch=0.8, late_loss_fn=bench.balanced_softmax)
    np.testing.assert_allclose(np.diff(rates), -0.1)
    assert len(rates) == 10 and rates[0] == pytest.approx(0.95)


def test_the_training_mix_is_that_of_the_counts():
    labels = torch.arange(3).repeat(100)
    kept = in_training_mix(labels, [50, 25, 1])
    assert torch.bincount(labels[kept]).tolist() == [100, 50, 2]


def test_prior_out_is_the_logit_adjustment(small_lab, on_small_lab):
    rows = on_small_lab("cross-entropy", None)["rows"]
    bench = Bench(small_lab, 4, 4, 0)
    torch.set_num_threads(1)
    model = bench.fit(bench.net())
    removed = with_prior_removed(model, small_lab.counts, 1.0)
    record = evaluate(removed, small_lab.eval_batches(small_lab.test))
    assert rows["cross-entropy, prior out"]["recall"] == pytest.approx(record["recall"], abs=1e-3)


# --- the runner


def test_what_is_finished_is_not_trained_again(tmp_path, monkeypatch):
    trained = []

    def fake(cell, own):
        trained.append(cell)
        if cell.method == "breaks":
            raise RuntimeError("the power failed")
        return {"cell": cell.__dict__, "rows": {cell.method: {"balanced_accuracy": 0.5}}}

    monkeypatch.setattr(board, "train", fake)
    path = tmp_path / "board.jsonl"
    cells = [Cell(m, None, "cifar10-100", 8, 0) for m in ("a", "b", "breaks", "c")]
    with pytest.raises(RuntimeError, match="power"):
        board.finish(cells, path, jobs=1)
    assert list(board.read(path)) == cells[:2]
    board.finish([*cells[:2], cells[3]], path, jobs=1)
    assert [cell.method for cell in trained] == ["a", "b", "breaks", "c"]


def test_the_validation_images_choose_the_setting():
    def done(share, validation):
        cell = Cell("late weights (DRW)", share, "cifar10-100", 8, 0)
        return cell, {"rows": {"late weights (DRW)": {"validation": validation}}}

    assert board.chosen("late weights (DRW)", 8, dict([done(0.6, 0.5)])) is None
    best = board.chosen("late weights (DRW)", 8, dict([done(0.6, 0.5), done(0.8, 0.6)]))
    assert best.setting == 0.8


def test_a_method_of_ones_own_is_a_file_of_ten_lines(tmp_path, on_small_lab):
    path = tmp_path / "own.py"
    path.write_text(OWN)
    board.register(path)
    try:
        row = on_small_lab("halved", 0.5)["rows"]["halved"]
        assert 0 <= row["balanced_accuracy"] <= 1
        with pytest.raises(ValueError, match="two methods called 'halved'"):
            board.LOADED.discard("own")
            board.register(path)
    finally:
        del METHODS["halved"]


# --- what is made of the cells


def record(method, seed, accuracy, setting=None, row=None):
    figures = dict.fromkeys(summary.COLUMNS, accuracy) | {
        "recall": [accuracy] * 10, "validation": 0.5, "seconds": 2.0, "few": None,
    }  # fmt: skip
    cell = {"method": method, "setting": setting, "images": "cifar10-100", "epochs": 8,
            "seed": seed, "width": 16}  # fmt: skip
    return {"cell": cell, "rows": {row or method: figures}, "counts": [9] * 10}


def test_differences_are_paired_by_seed_and_within_their_column():
    records = [record("cross-entropy", s, a) for s, a in enumerate((0.5, 0.6, 0.7))]
    records += [record("balanced softmax", s, 0.8) for s in range(3)]
    records += [record("mixup", s, a) for s, a in enumerate((0.51, 0.62, 0.73))]
    records += [record("mixup, balanced softmax", s, 0.79) for s in (1, 2)]
    rows = {row["row"]: row for row in summary.board(records, {})}
    assert rows["cross-entropy"]["difference"] is None
    mixup = rows["mixup"]["difference"]
    expected = stats.t.interval(0.95, 2, 2.0, stats.sem([1, 2, 3]))
    assert mixup["mean"] == pytest.approx(2)
    assert (mixup["low"], mixup["high"]) == pytest.approx(expected, abs=0.01)
    within = rows["mixup, balanced softmax"]
    assert within["baseline"] == "balanced softmax" and within["difference"]["mean"] == -1
    assert rows["mixup"]["few"] == [None] * 3 and rows["mixup"]["seeds"] == [0, 1, 2]


def test_records_of_other_settings_are_left_out():
    records = [record("mixup", 0, 0.5, setting=0.2), record("mixup", 0, 0.9, setting=1.0)]
    (row,) = summary.board(records, {("mixup", "cifar10-100", 8): 0.2})
    assert row["balanced_accuracy"] == [50.0] and row["setting"] == 0.2


@pytest.mark.parametrize("share, n", [(0.0, 10), (0.1, 50), (0.5, 3000), (1.0, 20)])
def test_wilson_is_that_of_scipy(share, n):
    expected = stats.binomtest(round(share * n), n).proportion_ci(method="wilson")
    assert summary.wilson(share, n) == pytest.approx([100 * x for x in expected], abs=0.02)
