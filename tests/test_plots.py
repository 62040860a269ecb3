"""What the figures show is read back from the drawn artists."""

import base64
import io
import os
import re
import sys

import matplotlib
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from nbclient import NotebookClient
from PIL import Image

from imbalkit import metrics, plots
from imbalkit.plots import display

matplotlib.use("agg")

COUNTS = [40, 3000, 5]  # not sorted, so that an order by count shows
CLASSES = ("cat", "dog", "emu")
RECALL = np.array([0.5, 0.9, 0.0])
SHARES = np.array([[0.2, 0.8, 0.0], [0.5, 0.25, 0.25], [0.0, 1.0, 0.0]])
LOGITS = np.random.default_rng(0).normal(size=(200, 3))
CALIBRATION = metrics.calibration(LOGITS, np.arange(200) % 3, bins=5)
# So that other processes find the package as this one does.
SEARCH_PATH = os.pathsep.join(filter(None, sys.path))


@pytest.fixture(autouse=True)
def _no_figure_left_open():
    with plt.rc_context():
        plots.use_style()
        yield
    still_open = plt.get_fignums()
    plt.close("all")
    assert not still_open


@pytest.fixture
def drawn():
    """Calls a plot function and closes its figure after the test, drawn without a warning."""
    axes = []

    def draw(function, *args, **options):
        axes.append(function(*args, **options))
        axes[-1].figure.canvas.draw()
        return axes[-1]

    yield draw
    for ax in axes:
        plt.close(ax.figure)


def _tick_names(axis):
    return [tick.get_text() for tick in axis.get_ticklabels()]


def _legend_names(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_class_histogram_shows_each_count_on_a_log_axis_with_plain_numbers(drawn):
    ax = drawn(plots.class_histogram, torch.tensor(COUNTS), CLASSES)
    assert [bar.get_height() for bar in ax.patches] == COUNTS
    assert [text.get_text() for text in ax.texts] == ["40", "3,000", "5"]
    assert _tick_names(ax.xaxis) == list(CLASSES)
    assert ax.get_yscale() == "log" and ax.get_ylim()[0] < 1 < 3000 < ax.get_ylim()[1]
    assert {"1", "10", "100", "1,000"} <= set(_tick_names(ax.yaxis))


def test_a_class_without_images_still_has_its_place_in_the_histogram(drawn):
    ax = drawn(plots.class_histogram, [10, 0], ("full", "empty"))
    assert [text.get_text() for text in ax.texts] == ["10", "0"]


def test_a_hundred_names_are_thinned_so_that_they_can_be_read(drawn):
    names = [f"c{i}" for i in range(100)]
    ax = drawn(plots.class_histogram, range(1, 101), names)
    assert len(ax.patches) == 100 and not ax.texts
    assert _tick_names(ax.xaxis) == names[::5]


def test_image_grid_puts_each_image_in_the_row_of_its_class(drawn, tiny_set):
    ax = drawn(plots.image_grid, tiny_set.subset([0, 30, 31, 50]), per_class=2)
    canvas = ax.images[0].get_array()
    assert ax.images[0].get_interpolation() == "nearest"
    assert canvas.shape == (3 * 34 - 2, 2 * 34 - 2, 3)
    images = tiny_set.images.numpy()
    np.testing.assert_array_equal(canvas[:32, :32], images[0])
    np.testing.assert_array_equal(canvas[34:66, 34:66], images[31])
    np.testing.assert_array_equal(canvas[68:, :32], images[50])
    assert (canvas[:32, 34:] == 255).all()  # the class has no second image
    assert _tick_names(ax.yaxis) == ["dark (1)", "middle (2)", "bright (1)"]


def test_image_grid_takes_the_first_images_of_a_large_class(drawn, tiny_set):
    ax = drawn(plots.image_grid, tiny_set, per_class=3)
    images = tiny_set.images.numpy()
    np.testing.assert_array_equal(ax.images[0].get_array()[:32, 68:], images[2])


def test_curves_differ_in_colour_dash_and_marker_and_start_at_one(drawn):
    ax = drawn(plots.curves, {"train": [2, 1, 0.5], "validation": [2, 1.5]}, "epoch", "loss")
    first, second = ax.lines
    assert first.get_xdata().tolist() == [1, 2, 3] and first.get_ydata().tolist() == [2, 1, 0.5]
    assert second.get_ydata().tolist() == [2, 1.5]
    for look in ("get_color", "get_linestyle", "get_marker"):
        assert getattr(first, look)() != getattr(second, look)()
    assert _legend_names(ax) == ["train", "validation"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "loss")
    assert ax.get_ylim()[0] == 0 and ax.get_ylim()[1] >= 2


def test_curves_of_shares_have_the_whole_axis_and_others_what_they_need(drawn):
    low, high = drawn(plots.curves, {"f1": [0.1, 0.2]}, "epoch", "macro-F1").get_ylim()
    assert low == 0 and 1 <= high < 1.05
    assert drawn(plots.curves, {"gap": [-0.5, 0.5]}, "epoch", "gap").get_ylim()[0] < -0.5


def test_curves_leave_a_gap_where_the_loss_is_not_a_number(drawn):
    ax = drawn(plots.curves, {"diverged": [2.0, np.nan, np.inf], "lost": [np.nan]}, "step", "loss")
    assert np.isnan(ax.lines[0].get_ydata()[1])
    assert np.isfinite(ax.get_ylim()).all()


def test_recall_by_count_runs_from_the_largest_class_to_the_smallest(drawn):
    ax = drawn(plots.recall_by_count, {"plain": RECALL, "fixed": RECALL / 2}, COUNTS, CLASSES)
    assert ax.lines[0].get_ydata().tolist() == [0.9, 0.5, 0.0]
    assert ax.lines[1].get_ydata().tolist() == [0.45, 0.25, 0.0]
    assert _tick_names(ax.xaxis) == ["dog (3,000)", "cat (40)", "emu (5)"]
    assert ax.get_ylim()[0] <= 0 and 1 <= ax.get_ylim()[1] < 1.05
    assert _legend_names(ax) == ["plain", "fixed"]


def test_confusion_heatmap_shows_shares_of_each_true_class(drawn):
    ax = drawn(plots.confusion_heatmap, [[3, 1, 0], [0, 0, 0], [1, 0, 999]], CLASSES)
    shown = ax.collections[0].get_array()
    np.testing.assert_allclose(shown[0], [0.75, 0.25, 0])
    assert np.ma.getmaskarray(shown)[1].all()  # no image of this class
    assert ax.collections[0].get_clim() == (0, 1)
    numbers = [text.get_text() for text in ax.texts]
    assert numbers == ["0.75", "0.25", "0", "0", "0", "1.00"]
    assert _tick_names(ax.yaxis) == _tick_names(ax.xaxis) == list(CLASSES)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted class", "true class")


def _band_at(ax, band, x):
    """Lower and upper edge of a stacked band at x."""
    vertices = ax.collections[band].get_paths()[0].vertices
    heights = vertices[np.isclose(vertices[:, 0], x), 1]
    return heights.min(), heights.max()


def test_prediction_stream_stacks_shares_by_training_count_and_ends_in_the_prior(drawn):
    ax = drawn(plots.prediction_stream, SHARES, CLASSES, COUNTS)
    # The most frequent class, dog, lies at the bottom: its share is .8 in the first batch.
    assert _band_at(ax, 0, 0) == pytest.approx((0, 0.8))
    assert _band_at(ax, 1, 0) == pytest.approx((0.8, 1))
    assert _band_at(ax, 2, 0) == pytest.approx((1, 1))
    assert _band_at(ax, 0, 3) == pytest.approx((0, 1))
    prior = np.array([3000, 40, 5]) / 3045
    np.testing.assert_allclose([bar.get_height() for bar in ax.patches], prior)
    np.testing.assert_allclose([bar.get_y() for bar in ax.patches], [0, *np.cumsum(prior)[:2]])
    assert all(bar.get_x() > 3 for bar in ax.patches)
    assert ax.get_ylim() == (0, 1)
    assert _legend_names(ax) == ["emu", "cat", "dog"]
    assert ax.get_xlabel() == "training step"


def test_a_band_a_bar_and_a_legend_entry_of_one_class_share_their_colour(drawn):
    ax = drawn(plots.prediction_stream, SHARES, CLASSES, COUNTS)
    keys = ax.get_legend().get_patches()[::-1]
    for band, bar, key in zip(ax.collections, ax.patches, keys, strict=True):
        assert tuple(band.get_facecolor()[0]) == bar.get_facecolor() == key.get_facecolor()


def test_a_long_stream_is_averaged_and_says_over_how_many_batches(drawn):
    shares = np.zeros((401, 3))
    shares[::2, 1] = shares[1::2, 0] = 1  # one class, then the other
    ax = drawn(plots.prediction_stream, shares, CLASSES, COUNTS)
    assert ax.get_xlabel() == "training step (mean over 3 batches)"
    assert _band_at(ax, 0, 1e-9) == pytest.approx((0, 2 / 3))
    assert _band_at(ax, 0, 401) == pytest.approx((0, 0.5))  # the last block has two batches


def test_a_stream_of_one_batch_or_of_many_classes_is_drawn(drawn):
    assert _band_at(drawn(plots.prediction_stream, SHARES[:1], CLASSES, COUNTS), 0, 1)[1] == 0.8
    names = [f"c{i}" for i in range(100)]
    ax = drawn(plots.prediction_stream, np.full((5, 100), 0.01), names, [3] * 100)
    assert len(ax.collections) == 100 and len(_legend_names(ax)) <= 12


def test_reliability_draws_the_filled_bins_and_the_diagonal(drawn):
    ax = drawn(plots.reliability, {"model": CALIBRATION})
    diagonal, line = ax.lines
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata()) == [0, 1]
    filled = CALIBRATION.weight > 0
    assert 0 < filled.sum() < 5
    np.testing.assert_array_equal(line.get_xdata(), CALIBRATION.confidence[filled])
    np.testing.assert_array_equal(line.get_ydata(), CALIBRATION.accuracy[filled])
    areas = ax.collections[0].get_sizes()
    assert np.argmax(areas) == np.argmax(CALIBRATION.weight[filled])
    assert _legend_names(ax)[1] == f"model (error {CALIBRATION.ece:.3f})"
    assert ax.get_xlim() == ax.get_ylim() == (0, 1)


def test_given_axes_are_drawn_on():
    figure, axes = plt.subplots(1, 7)
    calls = [
        (plots.class_histogram, (COUNTS, CLASSES)),
        (plots.curves, ({"a": [1]}, "x", "y")),
        (plots.recall_by_count, ({"a": RECALL}, COUNTS, CLASSES)),
        (plots.confusion_heatmap, (np.eye(3, dtype=int), CLASSES)),
        (plots.prediction_stream, (SHARES, CLASSES, COUNTS)),
        (plots.reliability, ({"a": CALIBRATION},)),
    ]
    for (function, args), ax in zip(calls, axes, strict=False):
        assert function(*args, ax=ax) is ax and ax.has_data()
    assert plt.get_fignums() == [figure.number]
    plt.close(figure)


def test_image_grid_draws_on_given_axes(tiny_set):
    figure, ax = plt.subplots()
    assert plots.image_grid(tiny_set, ax=ax) is ax and ax.images
    plt.close(figure)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: plots.class_histogram([1, 2], CLASSES), "2 counts but 3 class names"),
        (lambda: plots.class_histogram([1.5, 2], "ab"), "counts must be one whole number"),
        (lambda: plots.curves({}, "x", "y"), "nothing to draw"),
        (lambda: plots.curves({"a": []}, "x", "y"), "'a' must be one number per point"),
        (lambda: plots.curves({"a": SHARES}, "x", "y"), r"got shape \(3, 3\)"),
        (lambda: plots.recall_by_count({"a": [1, 0]}, COUNTS, CLASSES), "'a' must be 3 numbers"),
        (lambda: plots.recall_by_count({"a": [1, 50, 0]}, COUNTS, CLASSES), "from 0 to 1"),
        (lambda: plots.recall_by_count({"a": [1, np.nan, 0]}, COUNTS, CLASSES), "from 0 to 1"),
        (lambda: plots.confusion_heatmap(np.eye(2), CLASSES), r"shape \(2, 2\) does not fit 3"),
        (lambda: plots.prediction_stream(SHARES[0], CLASSES, COUNTS), r"\(steps, 3\)"),
        (lambda: plots.prediction_stream(SHARES[:, :2], CLASSES, COUNTS), "shares must be"),
        (lambda: plots.prediction_stream(np.eye(2), CLASSES, COUNTS), r"\(steps, 3\)"),
        (lambda: plots.prediction_stream(SHARES, CLASSES, [1, 2]), "2 counts but 3"),
        (lambda: plots.reliability({}), "nothing to draw"),
        (lambda: plots.show(None, ""), "needs alt"),
        (lambda: plots.show(None, " "), "needs alt"),
        (lambda: plots.show(None, None), "needs alt"),
    ],
)
def test_bad_input_is_answered_in_one_sentence_and_opens_no_figure(call, says):
    with pytest.raises(ValueError, match=says) as error:
        call()
    assert "\n" not in str(error.value) and str(error.value).endswith(".")


def test_image_grid_needs_at_least_one_image_a_class(tiny_set):
    with pytest.raises(ValueError, match="per_class=0"):
        plots.image_grid(tiny_set, per_class=0)


def test_the_picture_is_light_sharp_and_keeps_its_colours(drawn):
    ax = drawn(plots.recall_by_count, {"a": RECALL}, COUNTS, CLASSES)
    png = display.as_png(ax.figure)
    picture = Image.open(io.BytesIO(png))
    pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    assert len(png) < 40_000 and 700 < picture.width < 850
    blue = np.round(255 * np.array(matplotlib.colors.to_rgb(ax.lines[0].get_color())))
    assert (np.abs(pixels - blue).max(1) <= 4).sum() > 200
    assert (pixels == 255).all(1).mean() > 0.5


def test_show_in_a_terminal_prints_the_description_and_closes(capsys):
    plots.show(plots.curves({"a": [1, 2]}, "x", "y"), "A rising line.")
    assert capsys.readouterr().out == "A rising line.\n"
    assert not plt.get_fignums()


def test_show_needs_no_ipython_and_no_screen(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "IPython", None)  # as where it is not installed
    plots.show(plots.class_histogram([3, 1], "ab").figure, "Two bars.")
    assert capsys.readouterr() == ("Two bars.\n", "")


@pytest.mark.notebooks
@pytest.mark.parametrize("backend", ["inline", "agg"])
def test_show_in_a_notebook_gives_one_picture_with_its_description(backend, monkeypatch, tmp_path):
    choice = "module://matplotlib_inline.backend_inline" if backend == "inline" else "agg"
    monkeypatch.setenv("MPLBACKEND", choice)
    monkeypatch.setenv("PYTHONPATH", SEARCH_PATH)
    source = """
import matplotlib.pyplot as plt
from imbalkit import plots
plots.use_style()
ax = plots.class_histogram([300, 3], ["many", "few"])
plots.show(ax, alt="Two bars, 300 and 3.")
assert not plt.get_fignums()
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    NotebookClient(notebook, timeout=60, resources={"metadata": {"path": tmp_path}}).execute()
    (output,) = notebook.cells[0].outputs
    assert output.output_type == "display_data"
    assert output.metadata == {"image/png": {"alt": "Two bars, 300 and 3."}}
    assert set(output.data) == {"image/png", "text/plain"}
    assert output.data["text/plain"] == "Two bars, 300 and 3."
    assert re.match(rb"\x89PNG", base64.b64decode(output.data["image/png"]))
    nbformat.validate(notebook)


def test_weights_by_count_orders_by_count_on_a_log_axis_with_a_line_at_one(drawn):
    ax = drawn(plots.weights_by_count, {"balanced": torch.tensor([2.0, 0.5, 9.0])}, COUNTS, CLASSES)
    line, one = ax.lines
    assert line.get_ydata().tolist() == [0.5, 2.0, 9.0]
    assert set(one.get_ydata()) == {1}
    assert ax.get_yscale() == "log"
    assert _tick_names(ax.xaxis) == ["dog (3,000)", "cat (40)", "emu (5)"]


@pytest.mark.parametrize("weights", [[1.0, 2.0], [1.0, 0.0, 2.0], [1.0, np.nan, 2.0]])
def test_weights_by_count_refuses_what_a_log_axis_would_hide(weights):
    with pytest.raises(ValueError, match="'mine' must be 3 positive numbers"):
        plots.weights_by_count({"mine": weights}, COUNTS, CLASSES)
    plt.close("all")


def test_batch_composition_stacks_the_classes_from_frequent_to_rare(drawn):
    shares = {"as they are": [0.3, 0.6, 0.1], "balanced": torch.full((3,), 1 / 3)}
    ax = drawn(plots.batch_composition, shares, COUNTS, CLASSES)
    widths = np.array([bar.get_width() for bar in ax.patches]).reshape(3, 2)
    assert widths[:, 0] == pytest.approx([0.6, 0.3, 0.1])
    starts = np.array([bar.get_x() for bar in ax.patches]).reshape(3, 2)
    assert starts[:, 0] == pytest.approx([0, 0.6, 0.9])
    assert _legend_names(ax) == ["dog", "cat", "emu"]
    assert _tick_names(ax.yaxis) == list(shares)
    with pytest.raises(ValueError, match="shares must have 3 numbers"):
        plots.batch_composition({"two": [0.5, 0.5]}, COUNTS, CLASSES)
    plt.close("all")


def test_leaderboard_has_the_best_on_top_and_a_point_for_each_seed(drawn):
    table = pd.DataFrame(
        {"method": ["good", "good", "bad", "bad"], "balanced accuracy": [70.0, 72.0, 40.0, 42.0]}
    )
    ax = drawn(plots.leaderboard, table, baseline="bad")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["good", "bad"]
    low, high = ax.get_ylim()
    assert low > high  # the first row is on top
    points = ax.collections[0].get_offsets()
    assert points[:, 0].tolist() == [70, 72, 40, 42] and points[:, 1].tolist() == [0, 0, 1, 1]
    assert ax.collections[1].get_offsets()[:, 0].tolist() == [71, 41]
    assert ax.lines[0].get_xdata()[0] == 41


def test_accuracy_over_time_has_the_means_in_order_and_what_was_published(drawn):
    table = pd.DataFrame(
        {
            "recipe": ["long", "short", "short"],
            "minutes": [8.0, 1.0, 3.0],
            "balanced accuracy": [83.0, 76.0, 78.0],
        }
    )
    published = {"one": (80, 77.0), "other": (None, 82.5)}
    ax = drawn(plots.accuracy_over_time, table, published)
    assert ax.lines[0].get_xydata().tolist() == [[2, 77], [8, 83]]
    assert ax.collections[0].get_offsets().tolist() == [[8, 83], [1, 76], [3, 78]]
    assert ax.collections[1].get_offsets().tolist() == [[80, 77]]
    assert set(ax.lines[1].get_ydata()) == {82.5} and ax.get_xscale() == "log"
    assert _legend_names(ax) == ["a seed", "one", "other"]
