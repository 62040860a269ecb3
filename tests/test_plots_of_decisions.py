"""The figures of lesson 12, read back from the drawn artists."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from imbalkit import plots
from imbalkit.plots import display

matplotlib.use("agg")


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def test_precision_recall_draws_steps_and_points():
    curve, point = (np.array([1, 0.5, 0.6]), np.array([0.2, 0.2, 0.9])), (0.5, 0.4)
    ax = plots.precision_recall({"val": curve}, {"costs": point, "most probable": (0.9, 0.1)})
    line, costs, other = ax.lines
    assert line.get_drawstyle().startswith("steps") and line.get_xdata().tolist() == [0.2, 0.2, 0.9]
    assert (costs.get_xdata(), costs.get_ydata()) == ([0.4], [0.5])
    assert costs.get_marker() != other.get_marker() and costs.get_linestyle() == "None"
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["val", "costs", "most probable"]
    assert ax.get_xlim() == ax.get_ylim() == (0, 1.02)


def shown(ax):
    return [text.get_text() for text in ax.texts]


def test_the_worst_errors_come_first_with_their_names(tiny_set):
    image_set = tiny_set.subset([0, 1, 30, 50])
    probabilities = np.array([[0.3, 0.6, 0.1], [0.9, 0.1, 0], [0.5, 0.02, 0.48], [0, 0.6, 0.4]])
    ax = plots.worst_errors(image_set, torch.tensor(probabilities), probabilities.argmax(1))
    assert shown(ax) == [
        "middle: 2%\ntaken for dark",
        "dark: 30%\ntaken for middle",
        "bright: 40%\ntaken for middle",
    ]
    np.testing.assert_array_equal(ax.images[0].get_array(), image_set.images[2])
    only = plots.worst_errors(image_set, probabilities, probabilities.argmax(1), number=1)
    assert len(only.images) == 1
    decided = np.array([0, 0, 1, 0])  # by a threshold, not the most probable
    assert shown(plots.worst_errors(image_set, probabilities, decided)) == [
        "bright: 40%\ntaken for dark"
    ]


def test_no_error_is_said_so(tiny_set):
    ax = plots.worst_errors(tiny_set, np.eye(3)[tiny_set.labels], tiny_set.labels)
    assert shown(ax) == ["no error among 60 images"] and not ax.images


@pytest.mark.parametrize("bad", [{"number": 0}, {"decisions": [0]}])
def test_lengths_and_numbers_that_do_not_fit(tiny_set, bad):
    given = {"probabilities": np.eye(3)[tiny_set.labels], "decisions": tiny_set.labels} | bad
    with pytest.raises(ValueError, match="worst_errors got 60 images"):
        plots.worst_errors(tiny_set, **given)


def test_long_names_and_letters_without_a_glyph_are_drawn_without_a_warning(tiny_set):
    names = ("a name that is much too long to fit", "猫", "gato montés")
    image_set = type(tiny_set)(tiny_set.images, tiny_set.labels, names, "tiny")
    probabilities = np.roll(np.eye(3)[tiny_set.labels], 1, axis=1)
    ax = plots.worst_errors(image_set, probabilities, probabilities.argmax(1))
    assert shown(ax)[0].startswith("a name that is…: 0%\ntaken for 猫")
    assert display.as_png(ax.figure).startswith(b"\x89PNG")
