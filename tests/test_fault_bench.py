"""The cases of the fault bench are registered as a reading needs them; none is trained here."""

import inspect
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from benchmarks.faults import bench, seventh_part, sixth_part
from benchmarks.faults.case import Case, Cases, Trained
from imbalkit.doctor.causes import CAUSES

SIXTH, SEVENTH = bench.PARTS["sixth"], bench.PARTS["seventh"]
NAMED_ANEW = sixth_part.NAMED_ANEW | seventh_part.NAMED_ANEW


def test_no_two_cases_have_the_same_name():
    names = [name for cases in bench.PARTS.values() for name in cases]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("part", bench.PARTS)
def test_every_case_says_what_it_is_and_what_is_wrong_with_it(part):
    for case in bench.PARTS[part].values():
        assert case.train.__doc__, case.name
        assert set(case.causes) <= CAUSES.keys() | NAMED_ANEW.keys(), case.name
        assert set(case.fair) <= CAUSES.keys() - set(case.causes), case.name


@pytest.mark.parametrize("cases", [SIXTH, SEVENTH], ids=["sixth", "seventh"])
def test_a_part_is_as_large_as_a_reading_needs(cases):
    healthy = [case for case in cases.values() if not case.causes]
    assert len(healthy) >= 10
    assert len(cases) - len(healthy) >= 24


def test_the_eighth_part_holds_healthy_trainings_only():
    """They are many and of many kinds, so that a false alarm can be told from bad luck."""
    assert len(bench.PARTS["eighth"]) >= 14
    assert not any(case.causes or case.fair for case in bench.PARTS["eighth"].values())


def test_a_name_is_new_only_if_a_case_needs_it():
    """What is named anew is used, or it would promise a case that is not there."""
    for cases, names in [(SIXTH, sixth_part.NAMED_ANEW), (SEVENTH, seventh_part.NAMED_ANEW)]:
        assert {cause for case in cases.values() for cause in case.causes} >= names.keys()


def test_each_broken_case_of_the_seventh_part_can_be_trained_without_its_fault():
    for case in SEVENTH.values():
        mendable = "mended" in inspect.signature(case.train).parameters
        assert mendable == bool(case.causes), case.name


@pytest.mark.parametrize(
    ("faults", "first", "among_three"),
    [
        (["one", "two"], True, True),
        (["two", "one"], True, True),
        (["three", "two"], False, True),
        (["three", "four", "five", "one"], False, False),
    ],
)
def test_a_fair_name_is_as_right_as_the_only_cause(faults, first, among_three):
    outcome = bench.Outcome("case", "part", ["one"], faults, [], 0.0, 0.0, 0.0, fair=["two"])
    assert (outcome.first, outcome.among_three) == (first, among_three)


def test_no_name_is_fair_where_all_causes_must_be_named():
    with pytest.raises(ValueError, match="stands for one cause"):
        Cases().fault("one", "two", fair=["three"])


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
