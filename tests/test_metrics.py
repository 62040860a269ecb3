"""scikit-learn and torchmetrics are the oracles, on labels and predictions as they come."""

import json
import math

import numpy as np
import pytest
import sklearn.metrics as oracle
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torchmetrics.functional.classification import multiclass_calibration_error

from imbalkit import metrics

COUNTS = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
CLASSES = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())

pairs = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60)


@given(pairs)
@settings(deadline=None)
def test_everything_from_the_confusion_matrix_is_what_scikit_learn_says(pairs):
    labels, predictions = np.array(pairs).T
    cells = metrics.confusion(torch.tensor(labels), torch.tensor(predictions), 5)
    options = {"labels": range(5), "zero_division": 0}
    scores, totals = metrics.per_class(cells), metrics.summary(cells)

    assert cells.dtype == np.int64 and cells.sum() == len(labels)
    assert all(cells[t, p] == pairs.count((t, p)) for t in range(5) for p in range(5))
    recall = oracle.recall_score(labels, predictions, average=None, **options)
    precision = oracle.precision_score(labels, predictions, average=None, **options)
    np.testing.assert_allclose(scores["recall"], recall)
    np.testing.assert_allclose(scores["precision"], precision)
    np.testing.assert_allclose(
        scores["f1"], oracle.f1_score(labels, predictions, average=None, **options)
    )
    macro_f1 = oracle.f1_score(labels, predictions, average="macro", **options)
    assert totals["macro_f1"] == pytest.approx(macro_f1)
    assert totals["accuracy"] == pytest.approx(oracle.accuracy_score(labels, predictions))
    assert totals["balanced_accuracy"] == pytest.approx(recall.mean())
    assert totals["worst_recall"] == recall.min()
    np.testing.assert_allclose(totals["recall"], recall)
    np.testing.assert_allclose(totals["predicted_share"], metrics.prediction_share(predictions, 5))
    assert metrics.recall_of([0, 4])(cells) == pytest.approx((recall[0] + recall[4]) / 2)


def test_balanced_accuracy_is_scikit_learns_where_every_class_has_images():
    labels = np.repeat(range(3), 10)
    predictions = np.random.default_rng(0).integers(0, 3, 30)
    totals = metrics.summary(metrics.confusion(labels, predictions, 3))
    expected = oracle.balanced_accuracy_score(labels, predictions)
    assert totals["balanced_accuracy"] == pytest.approx(expected)


def test_a_collapsed_model_on_a_balanced_set():
    labels = np.repeat(range(10), 100)
    totals = metrics.summary(metrics.confusion(labels, np.zeros(1000, int), 10))
    assert totals["macro_f1"] == pytest.approx(2 / 11 / 10)
    assert round(totals["macro_f1"], 4) == 0.0182
    assert totals["accuracy"] == totals["balanced_accuracy"] == 0.1
    assert totals["worst_recall"] == 0
    assert json.loads(json.dumps(totals)) == totals


def test_a_class_with_no_evaluated_image_counts_as_zero():
    cells = metrics.confusion([0, 0, 1], [0, 0, 1], 3)
    assert metrics.per_class(cells)["recall"].tolist() == [1, 1, 0]
    assert metrics.summary(cells)["balanced_accuracy"] == pytest.approx(2 / 3)


def test_groups_of_cifar10_lt_and_their_limits():
    sizes = {name: len(group) for name, group in metrics.groups(COUNTS).items()}
    assert sizes == {"many": 8, "medium": 2, "few": 0}
    exact = metrics.groups([101, 100, 20, 19])
    assert {n: g.tolist() for n, g in exact.items()} == {"many": [0], "medium": [1, 2], "few": [3]}


def test_a_group_without_classes_has_no_recall():
    recall = np.linspace(1, 0.1, 10)
    result = metrics.group_recall(recall, COUNTS)
    assert result == {
        "many": pytest.approx(recall[:8].mean()),
        "medium": pytest.approx(0.15),
        "few": None,
    }


def test_prior_entropy_is_the_loss_of_a_model_that_knows_only_the_prior():
    prior = torch.tensor(COUNTS).double()
    labels = torch.arange(10).repeat_interleave(torch.tensor(COUNTS))
    logits = (prior / prior.sum()).log().expand(len(labels), 10)
    loss = torch.nn.functional.cross_entropy(logits, labels).item()
    assert metrics.prior_entropy(COUNTS) == pytest.approx(loss)
    assert metrics.prior_entropy([7] * 10) == pytest.approx(math.log(10))
    assert metrics.prior_entropy([5, 0]) == 0


def test_shares_and_effective_classes():
    share = metrics.prediction_share(torch.tensor([0, 0, 3, 0]), 5)
    assert share.tolist() == [0.75, 0, 0, 0.25, 0]
    assert metrics.effective_classes([1, 0, 0]) == 1
    assert metrics.effective_classes(np.full(4, 0.25)) == pytest.approx(4)
    per_step = metrics.effective_classes(torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
    np.testing.assert_allclose(per_step, [1, 2])


def test_imbalance_ratio():
    assert metrics.imbalance_ratio(COUNTS) == 100
    with pytest.raises(ValueError, match="Class 1 has no image"):
        metrics.imbalance_ratio([4, 0])


# Multiples of 1/4 give equal logits often, and so confidences on the edges of bins (1/5 = 3/15).
logits_of_five = arrays(
    np.float32,
    st.tuples(st.integers(1, 40), st.just(5)),
    elements=st.integers(-24, 24).map(lambda n: n / 4),
)


@given(logits_of_five, st.sampled_from([1, 2, 10, 15]), st.data())
@settings(deadline=None)
def test_calibration_error_is_what_torchmetrics_says(logits, bins, data):
    n = len(logits)
    labels = np.array(data.draw(st.lists(st.integers(0, 4), min_size=n, max_size=n)))
    # torchmetrics takes values from 0 to 1 for probabilities, so it gets the probabilities.
    probabilities = torch.tensor(logits).softmax(1)
    expected = multiclass_calibration_error(
        probabilities, torch.tensor(labels), num_classes=5, n_bins=bins, norm="l1"
    )
    assert metrics.calibration(logits, labels, bins).ece == pytest.approx(expected.item(), abs=1e-6)


def test_calibration_by_bin():
    # Confidences .75 (right, wrong) and .5 (right; ties go to class 0), in four bins.
    logits = torch.tensor([[3.0, 1.0], [3.0, 1.0], [1.0, 1.0]]).log()
    result = metrics.calibration(logits, [0, 1, 0], bins=4)
    np.testing.assert_allclose(result.confidence, [np.nan, np.nan, 0.5, 0.75], rtol=1e-6)
    np.testing.assert_array_equal(result.accuracy, [np.nan, np.nan, 1, 0.5])
    np.testing.assert_allclose(result.weight, [0, 0, 1 / 3, 2 / 3])
    assert result.ece == pytest.approx(1 / 3 * 0.5 + 2 / 3 * 0.25)


def test_a_confidence_of_one_falls_in_the_last_bin():
    result = metrics.calibration([[500.0, 0.0], [3.0, 0.0]], [0, 0])
    assert result.weight[-1] == result.weight.sum() == 1
    assert result.weight.shape == (15,)
    assert metrics.calibration([[500.0, 0.0]], [1]).ece == 1


def _some_report(**changes):
    labels = torch.arange(10).repeat(5)
    logits = torch.nn.functional.one_hot(labels.clamp(max=6), 10).bfloat16()
    given = {"labels": labels, "logits": logits, "train_counts": COUNTS, "classes": CLASSES}
    return metrics.report(**given | changes)


def test_report_holds_the_figures_of_the_single_functions():
    report = _some_report()
    labels = np.tile(np.arange(10), 5)
    cells = metrics.confusion(labels, labels.clip(max=6), 10)
    np.testing.assert_array_equal(report.confusion, cells)
    for name, values in metrics.per_class(cells).items():
        np.testing.assert_array_equal(getattr(report, name), values)
    totals = metrics.summary(cells)
    for name in ("accuracy", "balanced_accuracy", "macro_f1"):
        assert getattr(report, name) == totals[name]
    assert report.groups == metrics.group_recall(report.recall, COUNTS)
    confidence = math.e / (math.e + 9)
    assert report.calibration.ece == pytest.approx(abs(0.7 - confidence), abs=1e-4)


def test_report_reads_as_a_table_and_says_that_a_group_is_empty():
    text = str(_some_report())
    rows = {line.split("  ")[0]: line.split() for line in text.splitlines() if line}
    assert rows["airplane"] == ["airplane", "5000", "1.000", "1.000", "1.000"]
    assert rows["frog"] == ["frog", "232", "1.000", "0.250", "0.400"]
    assert rows["truck"] == ["truck", "50", "0.000", "0.000", "0.000"]
    assert rows["accuracy"][1] == "0.700"
    few = next(line for line in text.splitlines() if line.startswith("recall, few"))
    assert few.split()[2] == "-" and "no class in this group" in few
    assert repr(_some_report()) == text and max(map(len, text.splitlines())) <= 100


def test_report_says_which_class_was_not_evaluated():
    report = _some_report(labels=[0, 1], logits=np.eye(10)[:2], classes=CLASSES)
    assert "no image of truck was evaluated: its recall counts as 0" in str(report)
    assert "no image of airplane" not in str(report)


def test_report_in_html_escapes_names_and_has_the_same_figures():
    html = _some_report(classes=("<b>&", *CLASSES[1:]))._repr_html_()
    assert "<b>" not in html and "&lt;b&gt;&amp;" in html
    assert "<td>0.250</td>" in html and "no class in this group" in html


NAN = [[0.0, 1.0], [math.nan, 0.0]]
EYE = np.eye(2)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: metrics.confusion([0, 2], [0, 1], 2), "labels must be from 0 to 1.*number 1 is 2"),
        (lambda: metrics.confusion([0, 1], [-1, 1], 2), "predictions must be.*number 0 is -1"),
        (lambda: metrics.confusion([0, 1], [0], 2), "2 labels but 1 predictions"),
        (lambda: metrics.confusion([], [], 2), "labels are empty"),
        (lambda: metrics.confusion([0.0, 1.0], [0, 1], 2), "whole class numbers.*float64"),
        (lambda: metrics.confusion([0, 1], EYE.astype(int), 2), r"shape \(2, 2\).*argmax"),
        (lambda: metrics.per_class([[1, 2]]), r"\(C, C\), got int64 of shape \(1, 2\)"),
        (lambda: metrics.per_class(EYE), "whole numbers.*float64"),
        (lambda: metrics.per_class([[0, 0], [0, 0]]), "at least one image"),
        (lambda: metrics.summary([[2, -1], [0, 1]]), "0 or more"),
        (lambda: metrics.recall_of([]), "no class in this group"),
        (lambda: metrics.recall_of([2])([[1, 0], [0, 1]]), "recall_of must be from 0 to 1"),
        (lambda: metrics.group_recall([1, 0.5], COUNTS), "recall has 2 entries.*10"),
        (lambda: metrics.prior_entropy([0.5, 0.5]), "counts must be one whole number per class"),
        (lambda: metrics.prior_entropy([3, -1]), "counts must be 0 or more"),
        (lambda: metrics.groups([]), "counts must be one whole number per class"),
        (lambda: metrics.effective_classes([0.5, 0.4]), "shares must be"),
        (lambda: metrics.effective_classes([1.5, -0.5]), "shares must be"),
        (lambda: metrics.effective_classes([math.nan, 1]), "shares must be"),
        (lambda: metrics.calibration(NAN, [0, 1]), "NaN or infinite for 1 of 2.*row 1"),
        (lambda: metrics.calibration([[math.inf, 0.0]], [0]), "NaN or infinite"),
        (lambda: metrics.calibration([0.1, 0.2], [0, 1]), r"logits must be floats of shape"),
        (lambda: metrics.calibration([[0, 1]], [1]), "logits must be floats.*int64"),
        (lambda: metrics.calibration(EYE, [0]), "1 labels but 2 rows of logits"),
        (lambda: metrics.calibration(EYE, [0, 2]), "labels must be from 0 to 1"),
        (lambda: metrics.calibration(EYE, [0, 1], bins=0), "bins is 0; give a whole number"),
        (lambda: metrics.report([0, 1], EYE, [5], "ab"), "train_counts has 1 entries"),
        (lambda: metrics.report([0, 1], EYE, [5, 1], "abc"), "classes has 3 entries"),
        (lambda: metrics.report([], np.zeros((0, 2)), [5, 1], "ab"), "labels are empty"),
    ],
)
def test_bad_input_is_answered_in_one_sentence(call, says):
    with pytest.raises(ValueError, match=says) as error:
        call()
    assert "\n" not in str(error.value) and str(error.value).endswith(".")


@given(pairs)
@settings(deadline=None)
def test_a_summary_needs_no_matrix(pairs):
    labels, predictions = np.array(pairs).T
    of_matrix = metrics.summary(metrics.confusion(labels, predictions, 5))
    assert metrics.summary_of_predictions(labels, predictions, 5) == of_matrix


def test_a_summary_of_many_classes_is_small_work():
    """The matrix of a million classes would have 8 TB."""
    labels = torch.arange(0, 1_000_000, 1000)
    found = metrics.summary_of_predictions(labels, labels.roll(1), 1_000_000)
    assert found["accuracy"] == 0 and len(found["recall"]) == 1_000_000


@pytest.mark.parametrize(
    "counts",
    [
        ([1, 0], [1, 1], [2, 1]),
        ([2, 0], [1, 1], [2, 0]),
        ([-1, 0], [1, 1], [2, 0]),
        ([0, 0], [0, 0], [0, 0]),
        ([1], [1, 1], [2, 0]),
    ],
)
def test_counts_of_no_matrix_are_refused(counts):
    with pytest.raises(ValueError, match="hits"):
        metrics.summary_of_counts(*counts)
