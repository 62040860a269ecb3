"""An ensemble: the mean of probabilities, behind the face of one model."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import accuracy_score
from torch import nn

from imbalkit import inference, metrics, models
from imbalkit.data import Batches
from imbalkit.ensembles import Ensemble, disagreement
from imbalkit.priors import adjust_logits
from imbalkit.training import evaluate, predict, sgd, train_step

META, CPU = torch.device("meta"), torch.device("cpu")


class Says(nn.Module):
    """A member that gives these logits, whatever the images."""

    def __init__(self, logits):
        super().__init__()
        self.register_buffer("logits", torch.as_tensor(logits))

    def forward(self, images):
        return self.logits


def nets(number):
    torch.manual_seed(0)
    return [models.plain_cnn(3, 2, batchnorm=True) for _ in range(number)]


@pytest.fixture
def batches(tiny_set):
    return Batches(tiny_set, 16, mean=[0.5] * 3, std=[0.25] * 3, device=CPU)


# --- what it answers


def test_its_softmax_is_the_mean_of_the_members_probabilities():
    torch.manual_seed(1)
    logits = 3 * torch.randn(3, 7, 5)
    got = Ensemble(map(Says, logits))(None)
    torch.testing.assert_close(got.softmax(1), logits.softmax(2).mean(0))
    torch.testing.assert_close(got.exp().sum(1), torch.ones(7))  # they are log probabilities


def test_by_hand_a_sure_member_outvotes_two_unsure_ones():
    sure, unsure = torch.tensor([[0.9, 0.1]]).log(), torch.tensor([[0.4, 0.6]]).log()
    got = Ensemble([Says(sure), Says(unsure), Says(unsure)])(None).exp()
    torch.testing.assert_close(got, torch.tensor([[1.7 / 3, 1.3 / 3]]))
    votes = torch.stack([x.argmax(1) for x in (sure, unsure, unsure)]).mode(0).values
    assert got.argmax(1).item() == 0 and votes.item() == 1


def test_a_constant_added_to_all_logits_of_a_member_changes_nothing():
    one, other = torch.randn(2, 6, 4)
    plain = Ensemble([Says(one), Says(other)])(None)
    torch.testing.assert_close(Ensemble([Says(one + 50), Says(other)])(None), plain)
    means = (one + 50 + other) / 2  # a mean of logits weighs members by their size
    assert not torch.allclose(means.softmax(1), plain.softmax(1))


@pytest.mark.parametrize("number", [1, 2, 5])
def test_copies_of_one_model_answer_as_the_model(number, tiny_set, batches):
    (net,) = nets(1)
    alone, labels = predict(net, batches, CPU)
    together, same = predict(Ensemble([copy.deepcopy(net) for _ in range(number)]), batches, CPU)
    torch.testing.assert_close(together, alone.log_softmax(1))
    assert labels.equal(same) and labels.equal(tiny_set.labels)


def test_the_order_of_the_members_does_not_matter_and_each_counts(batches):
    members = nets(3)
    whole = predict(Ensemble(members), batches, CPU)[0]
    torch.testing.assert_close(predict(Ensemble(members[::-1]), batches, CPU)[0], whole)
    for left_out in range(3):
        rest = [member for i, member in enumerate(members) if i != left_out]
        assert not torch.allclose(predict(Ensemble(rest), batches, CPU)[0], whole)


def test_very_sure_members_give_finite_logits():
    sure = torch.tensor([[500.0, -500.0, -500.0]])
    got = Ensemble([Says(sure), Says(sure.flip(1))])(None)
    assert got.isfinite().all() and got.softmax(1)[0, 0] == pytest.approx(0.5)


def test_half_precision_is_computed_in_float32():
    logits = torch.randn(2, 4, 3).bfloat16()
    got = Ensemble(map(Says, logits))(None)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.softmax(1), logits.float().softmax(2).mean(0))


def test_taking_the_prior_out_of_the_mean_is_not_taking_it_out_of_one_member():
    torch.manual_seed(2)
    one, other = 2 * torch.randn(2, 50, 3)
    counts = [100, 10, 1]
    right = Ensemble([Says(adjust_logits(one, counts)), Says(other)])(None)
    wrong = adjust_logits(Ensemble([Says(one), Says(other)])(None), counts)
    assert (right.argmax(1) != wrong.argmax(1)).any()


# --- it stands where a model stands


def test_evaluate_and_report_take_it(tiny_set, batches):
    ensemble = Ensemble(nets(2))
    record = evaluate(ensemble, batches, CPU)
    logits, labels = predict(ensemble, batches, CPU)
    assert record["accuracy"] == pytest.approx(accuracy_score(labels, logits.argmax(1)))
    assert record["loss"] == pytest.approx(F.nll_loss(logits, labels).item(), rel=1e-5)
    report = metrics.report(labels, logits, tiny_set.class_counts(), tiny_set.classes)
    confidence = logits.exp().amax(1).mean().item()
    assert np.nansum(report.calibration.confidence * report.calibration.weight) == pytest.approx(
        confidence, rel=1e-5
    )


def test_evaluation_mode_reaches_the_members():
    ensemble = Ensemble(nets(2)).eval()
    assert not any(module.training for module in ensemble.modules())


def test_one_file_holds_all_members(tmp_path):
    names, images = ("dog", "cat", "emu"), torch.zeros(3, 32, 32, 3, dtype=torch.uint8)
    one = inference.Predictor(Ensemble(nets(2)), names, [0.5] * 3, [0.25] * 3, 32)
    inference.save(one, tmp_path / "both.pt")
    torch.manual_seed(9)
    empty = Ensemble([models.plain_cnn(3, 2, batchnorm=True) for _ in range(2)])
    other = inference.load(tmp_path / "both.pt", empty)
    assert other.probabilities(images, CPU).equal(one.probabilities(images, CPU))
    too_many = Ensemble(nets(3))
    with pytest.raises(ValueError, match="cannot be restored"):
        inference.load(tmp_path / "both.pt", too_many)


def test_a_step_runs_on_the_meta_device():
    """Nothing in it waits for the device, or is made on another one."""
    ensemble = Ensemble([models.plain_cnn(), models.small_net()]).to(META)
    images = torch.zeros(4, 3, 32, 32, device=META)
    labels = torch.zeros(4, dtype=torch.int64, device=META)
    loss, logits, _ = train_step(ensemble, F.cross_entropy, sgd(ensemble), images, labels, META)
    assert loss.device == logits.device == META and logits.shape == (4, 10)


# --- disagreement


def test_disagreement_by_hand():
    a, b, c = (F.one_hot(torch.tensor(x), 3).float() for x in ([0, 1, 2, 0], [0, 1, 1, 0], [2] * 4))
    assert disagreement([a, b]) == 0.25
    assert disagreement([a, a]) == 0 and disagreement([a, c]) == 0.75
    assert disagreement([a, b, c]) == pytest.approx((0.25 + 0.75 + 1) / 3)


def test_disagreement_looks_at_the_classes_alone():
    logits = torch.randn(20, 4)
    assert disagreement([logits, 10 * logits + 3]) == 0


# --- wrong input


def test_what_cannot_answer_together():
    with pytest.raises(ValueError, match="at least one trained model"):
        Ensemble([])
    with pytest.raises(ValueError, match=r"shapes \[\(2, 3\), \(2, 4\)\]; all must know the same"):
        Ensemble([Says(torch.zeros(2, 3)), Says(torch.zeros(2, 4))])(None)
    with pytest.raises(ValueError, match="logits of 1 member; give those of two"):
        disagreement([torch.zeros(2, 3)])
    with pytest.raises(ValueError, match="see the same images"):
        disagreement([torch.zeros(2, 3), torch.zeros(4, 3)])
