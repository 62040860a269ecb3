"""The tables that compare methods."""

import json

import numpy as np
import pytest

from imbalkit.course.comparisons import (
    comparison_row,
    fast_recipes,
    fast_tricks,
    leaderboard,
    mean_and_spread,
    over_seeds,
)


def test_comparison_row_takes_the_ends_by_count_and_not_by_position():
    record = {"balanced_accuracy": 0.5, "recall": [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]}
    row = comparison_row(record, [1, 2, 3, 4, 50, 60, 70])
    assert row == pytest.approx(
        {"balanced accuracy": 50, "recall, 3 most frequent": 50, "recall, 3 rarest": 10}
    )


def test_over_seeds_gives_mean_and_deviation_in_the_order_of_the_lesson(tmp_path):
    def table(*values):
        return {"columns": ["recall"], "index": ["weak", "better"], "data": [[v] for v in values]}

    seeds = {"0": table(10.0, 50.0), "1": table(12.0, 53.0), "2": table(14.0, 56.0)}
    path = tmp_path / "seeds.json"
    path.write_text(json.dumps({"03_x.ipynb": {"data": "CIFAR-10 train", "seeds": seeds}}))
    found = over_seeds(path, "03")
    assert found.index.tolist() == ["weak", "better"]
    assert found["recall"].tolist() == ["12.0 ± 2.0", "53.0 ± 3.0"]
    assert np.std([10, 12, 14], ddof=1) == 2  # of a sample, not of a population
    assert found.columns.name == "3 seeds, CIFAR-10 train"
    path.write_text(
        json.dumps({"03_x.ipynb": {"data": "CIFAR-10 train", "seeds": {"0": seeds["0"]}}})
    )
    alone = over_seeds(path, "03")  # one training has no deviation
    assert alone["recall"].tolist() == ["10.0", "50.0"]
    assert alone.columns.name == "1 seed, CIFAR-10 train"


@pytest.mark.parametrize("content", [None, "{}"])
def test_over_seeds_says_when_nothing_was_measured(tmp_path, content):
    path = tmp_path / "seeds.json"
    if content:
        path.write_text(content)
    found = over_seeds(path, "03")
    assert "make seeds" in found.to_string()


@pytest.fixture
def measured(tmp_path):
    """A leaderboard's file with two methods and two seeds."""

    def row(accuracy, **others):
        names = ["many", "medium", "macro_f1", "calibration_error"]
        figures = {"balanced_accuracy": accuracy, **{name: [0.5, 0.7] for name in names}}
        figures |= {"few": [None, None], "processor_seconds": [60, 120]}
        figures |= {"recall": [[0.3, 0.6, 0.9, 0.1], [0.5, 0.6, 0.9, 0.1]]}
        return {"seeds": [0, 1], "figures": figures | others}

    rows = {"weak": row([0.3, 0.4]), "strong": row([0.6, 0.8])}
    content = {
        "ratios": {
            "10": {"counts": [10, 40, 30, 100], "rows": rows},
            "100": {"counts": [1, 40, 30, 100], "rows": rows},
            "50": {"counts": [2, 40, 30, 100], "rows": rows},
        },
        "published": {"weak": {"100": 70.5, "50": None, "10": 86.0, "source": "somebody 2020"}},
    }
    path = tmp_path / "leaderboard.json"
    path.write_text(json.dumps(content))
    return path


def test_leaderboard_has_a_row_a_seed_and_the_best_first(measured):
    table = leaderboard(measured)
    assert table["method"].tolist() == ["strong", "strong", "weak", "weak"]
    assert table["balanced accuracy"].tolist() == pytest.approx([60, 80, 30, 40])
    assert table["minutes"].tolist() == [1, 2, 1, 2]
    assert table["few"].isna().all() and table["published"].tolist()[2:] == [70.5, 70.5]
    assert leaderboard(measured, 10)["published"].tolist()[2:] == [86.0, 86.0]
    assert leaderboard(measured, 50)["published"].isna().all()
    with pytest.raises(ValueError, match="no ratio 20; use one of 10, 100, 50"):
        leaderboard(measured, 20)


def test_leaderboard_has_the_recall_of_both_ends_by_count_and_not_by_position(measured):
    first = leaderboard(measured).loc[lambda t: t["seed"] == 0].iloc[0]
    assert first["recall, 3 most frequent"] == pytest.approx(100 * (0.1 + 0.6 + 0.9) / 3)
    assert first["recall, 3 rarest"] == pytest.approx(100 * (0.3 + 0.6 + 0.9) / 3)
    texts = mean_and_spread(leaderboard(measured))
    assert texts.loc["weak", "recall, 3 rarest"] == "63.3 ± 4.7"


def test_leaderboard_over_seeds_as_text(measured):
    texts = mean_and_spread(leaderboard(measured))
    assert texts.index.tolist() == ["strong", "weak"]
    assert texts.loc["strong", "balanced accuracy"] == "70.0 ± 14.1"
    assert texts.loc["weak", "few"] == "no class"
    assert texts["published"].tolist() == ["", "70.5"] and texts["minutes"].tolist() == ["1.5"] * 2


@pytest.fixture
def fast_file(tmp_path):
    """Two recipes with one clock and with two, and two tricks."""

    def run(accuracy, seconds, ldam=None):
        result = {"balanced_accuracy": accuracy, "seconds": seconds}
        return result | ({"ldam_seconds": ldam} if ldam else {})

    both = {"float32": 6000, "bfloat16": 3000}
    recipes = [
        {"name": "short", "runs": [run(0.75, 60, both), run(0.77, 66, both)]},
        {"name": "long", "runs": [run(0.83, 600, {"float32": 6000})]},
    ]
    tricks = [
        {"name": "none", "runs": [run(0.5, 10), run(0.6, 30)]},
        {"name": "one", "runs": [run(0.65, 8), run(0.65, 8)]},
    ]
    path = tmp_path / "fast.json"
    path.write_text(json.dumps({"recipes": recipes, "tricks": tricks}))
    return path


def test_fast_recipes_have_the_minutes_of_both_precisions_of_the_rival(fast_file):
    table = fast_recipes(fast_file)
    assert table["recipe"].tolist() == ["short", "short", "long"]
    assert table["minutes"].tolist() == pytest.approx([1, 1.1, 10])
    assert table["minutes of LDAM-DRW"].tolist() == [50, 50, 100]
    assert table["minutes of LDAM-DRW, float32"].tolist() == [100, 100, 100]
    assert table["balanced accuracy"].tolist() == pytest.approx([75, 77, 83])


def test_fast_tricks_say_what_each_adds_to_the_one_before(fast_file):
    table = fast_tricks(fast_file)
    assert table["balanced accuracy"].tolist() == ["55.0 ± 7.1", "65.0 ± 0.0"]
    assert table["points gained"].tolist() == ["", "+10.0"]
    assert table["seconds"].tolist() == ["20", "8"]
