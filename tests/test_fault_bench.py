"""The cases of the fault bench are registered as a reading needs them; none is trained here."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from benchmarks.faults import bench, sixth_part
from benchmarks.faults.case import Case, Trained
from imbalkit.doctor.causes import CAUSES

SIXTH = bench.PARTS["sixth"]


def test_no_two_cases_have_the_same_name():
    names = [name for cases in bench.PARTS.values() for name in cases]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("part", bench.PARTS)
def test_every_case_says_what_it_is_and_what_is_wrong_with_it(part):
    for case in bench.PARTS[part].values():
        assert case.train.__doc__, case.name
        assert set(case.causes) <= CAUSES.keys() | sixth_part.NAMED_ANEW.keys(), case.name


def test_the_sixth_part_is_as_large_as_a_reading_needs():
    healthy = [case for case in SIXTH.values() if not case.causes]
    assert len(healthy) >= 10
    assert len(SIXTH) - len(healthy) >= 24


def test_a_name_is_new_only_if_a_case_needs_it():
    """What is named anew is used, or it would promise a case that is not there."""
    used = {cause for case in SIXTH.values() for cause in case.causes}
    assert used >= sixth_part.NAMED_ANEW.keys()


@pytest.mark.parametrize("options", [{}, {"targets": len}], ids=["none", "one"])
def test_a_case_hands_its_options_to_diagnose(monkeypatch, options):
    received = {}

    def diagnose(model, train_batches, **arguments):
        received.update(arguments)
        return SimpleNamespace(causes=["healthy"], learned=1.0, seconds=0.0)

    monkeypatch.setattr(bench, "diagnose", diagnose)
    batches = [(torch.zeros(1, 2), torch.zeros(1))]
    trained = Trained(nn.Linear(2, 2), batches, len, options=options)
    outcome, _diagnosis = bench.run(Case("one", (), lambda: trained), "sixth")
    assert outcome.first
    usual = {"loss_fn", "optimizer", "eval_batches", "seconds"}
    assert received.keys() - usual == options.keys()
