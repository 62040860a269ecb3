"""What goes in is checked in one place."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imbalkit import ensembles, fast, metrics, models, multitask, plots, sampling, selfsupervised
from imbalkit.augmentation import affine
from imbalkit.checks import check_labels, entropy
from imbalkit.data import Batches, ImageSet, channel_statistics, cifar_state, stratified_split
from imbalkit.data.batches import scale_and_shift
from imbalkit.data.download import official_files
from imbalkit.data.duplicates import label_conflicts, leaked, thumbnails
from imbalkit.decisions import decide

IMAGES = torch.zeros(4, 8, 8, 3, dtype=torch.uint8)
SET = ImageSet(IMAGES, torch.tensor([0, 0, 1, 1]), ("a", "b"), "black")
RAGGED = [[1, 2], [3]]


@given(st.integers(1, 50))
def test_entropy_of_equal_shares_is_the_logarithm_of_their_number(classes):
    assert entropy(np.full(classes, 1 / classes)) == pytest.approx(np.log(classes))


def test_entropy_takes_tensors_rows_and_empty_classes():
    rows = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    assert entropy(rows).tolist() == pytest.approx([0, np.log(2)])
    of_torch = torch.special.entr(rows).sum(1)
    assert entropy(rows).tolist() == pytest.approx(of_torch.tolist())


@pytest.mark.parametrize(
    "labels, words",
    [
        (torch.tensor([0.0]), "set: labels must be int64"),
        (torch.tensor([[0]]), r"set: labels must be int64 of shape \(N,\)"),
        (torch.tensor([], dtype=torch.int64), "set: there is no image"),
        (torch.tensor([0, 3]), "set: labels run from 0 to 3 but there are 3 classes"),
        (torch.tensor([-1, 2]), "set: labels run from -1"),
    ],
)
def test_wrong_labels_are_named(labels, words):
    with pytest.raises(ValueError, match=words):
        check_labels(labels, 3, "set")
    check_labels(torch.tensor([0, 2]), 3, "set")


def draws(*numbers):
    return list(Batches(SET, 2, mean=[0] * 3, std=[1] * 3, sampler=numbers))


WRONG = [
    # what is no array
    (lambda: metrics.prediction_share(RAGGED, 3), "rows of one length"),
    (lambda: metrics.effective_classes("abc"), "shares must be numbers"),
    (lambda: sampling.image_weights([0, 1], None), "None is no array"),
    (
        lambda: plots.recall_by_count({"x": ["a", "b"]}, [2, 1], ["a", "b"]),
        "of 'x' must be numbers",
    ),
    (lambda: plots.batch_composition({"x": RAGGED}, [2, 1], ["a", "b"]), "rows of one length"),
    (lambda: plots.batch_composition({}, [2, 1], ["a", "b"]), "nothing to draw"),
    (lambda: plots.confusion_heatmap(RAGGED, ["a", "b"]), "rows of one length"),
    # sizes
    (lambda: models.plain_cnn(width=-3), "width is -3; give a whole number of 1 or more"),
    (lambda: models.small_net(num_classes=0), "num_classes is 0"),
    (lambda: models.CosineClassifier(2.5, 3), "width is 2.5"),
    (lambda: selfsupervised.WithProjection(torch.nn.Flatten(), 4, 3, size=-1), "size is -1"),
    (lambda: fast.fast_net(SET, width=-1), "width is -1"),
    (lambda: Batches(SET, 2.5, mean=[0] * 3, std=[1] * 3), "batch_size is 2.5"),
    (lambda: sampling.weighted_sampler([0, 1], num_samples=2.0), "num_samples is 2.0"),
    (lambda: stratified_split([0, 0, 1, 1], seed=-3), "seed is -3"),
    (lambda: metrics.calibration(torch.rand(2, 2), [0, 1], bins=1.5), "bins is 1.5"),
    # shapes and dtypes
    (lambda: models.rescaled(torch.nn.Linear(4, 3), torch.ones(6, 1)), "one number per class"),
    (lambda: multitask.rotate_quarters(IMAGES, torch.zeros(4)), "give square images"),
    (lambda: multitask.difficulty_target(torch.ones(2, dtype=torch.int8)), "losses must be floats"),
    (lambda: selfsupervised.nt_xent(torch.ones(6)), r"projections must be floats of shape \(2N"),
    (lambda: fast.orthogonal(torch.ones(2, 2, 2)), r"matrix must be floats of shape \(rows"),
    (lambda: ensembles.disagreement([torch.ones(3)] * 2), "logits must be floats"),
    (lambda: channel_statistics(IMAGES.long()), "give uint8"),
    (lambda: scale_and_shift([0.5] * 2, [0.5] * 3), "mean is .* each of 3 channels"),
    (lambda: plots.worst_errors(SET, torch.ones(4, 2), [[0, 1]] * 4), "decisions must be whole"),
    (lambda: plots.worst_errors(SET, torch.ones(4, 2), [0, 1, 2, 0]), "decisions must be from 0"),
    (lambda: plots.precision_recall({}, {"x": [1]}), "give .precision, recall."),
    (lambda: metrics.group_recall(0.5, [3, 2]), "entries"),
    # numbers that name nothing
    (lambda: affine(*[torch.tensor(0.0)] * 4), "images must be of shape"),
    (lambda: affine(torch.rand(2, 3, 4, 4), *[torch.zeros(1)] * 3), "one number for each"),
    (lambda: thumbnails(torch.tensor(0.0)), "images must be of shape"),
    (lambda: label_conflicts(torch.tensor(0.0), torch.tensor(0.0)), "whole number an image"),
    (lambda: leaked("ab", torch.arange(2), torch.arange(2)), "must be a tensor"),
    (lambda: leaked(torch.arange(2), torch.arange(2), torch.arange(3)), "other names images"),
    (lambda: leaked(torch.arange(2), torch.rand(2), torch.arange(2)), "train are torch.float32"),
    (lambda: decide(torch.zeros(2, 2, dtype=torch.complex64)), "give numbers"),
    (lambda: draws(-1, 0), "sampler gives .* from -1 to 0"),
    (lambda: draws(0, 4), "for 4 images"),
    (lambda: draws(0.0, 1.0), "sampler gives 0.0"),
    (lambda: official_files("mnist"), "there is no data set 'mnist'"),
    (lambda: cifar_state("nowhere", ""), "there is no data set ''"),
    (lambda: fast.Muon([]), "there is no parameter"),
    (lambda: fast.CombinedOptimizer(), "there is no parameter"),
    (lambda: fast.Muon([torch.ones(2, 2)], momentum=-1), "momentum is -1"),
]


@pytest.mark.parametrize(("call", "words"), WRONG, ids=[words for _, words in WRONG])
def test_wrong_arguments_are_told_in_our_words(call, words):
    with pytest.raises(ValueError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
