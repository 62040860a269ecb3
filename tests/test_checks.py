"""What goes in is checked in one place."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imbalkit.checks import check_labels, entropy


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
