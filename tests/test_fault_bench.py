"""The cases of the fault bench are registered as a reading needs them; none is trained here."""

import inspect
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from benchmarks.faults import bench, seventh_part, sixth_part, threads
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


# --- the threads of other people

READ = json.loads(threads.RESULTS.read_text(encoding="utf-8"))


def test_enough_threads_are_re_created():
    assert len(threads.THREADS) >= 20


@pytest.mark.parametrize("thread", threads.THREADS.values(), ids=threads.THREADS)
def test_a_thread_says_all_that_its_page_tells(thread):
    assert thread.url.startswith("https://github.com/")
    assert all(text.strip() for text in (thread.title, thread.symptom, thread.cause))
    assert thread.symptom.endswith(".")
    assert thread.cause.endswith(".")
    assert set(thread.accepted + thread.near) <= CAUSES.keys()
    assert not set(thread.accepted) & set(thread.near)
    assert thread.accepted or thread.near


def test_no_thread_and_no_title_comes_twice():
    """Titles are the headings of the page, and headings are its anchors."""
    for field in ("thread", "title"):
        values = [getattr(thread, field) for thread in threads.THREADS.values()]
        assert len(values) == len(set(values))


def test_what_was_read_is_what_the_bench_holds():
    known = [threads.without_training(thread) for thread in threads.THREADS.values()]
    assert [{k: read[k] for k in known[0]} for read in READ["threads"]] == known
    assert READ["without_harm"] == threads.WITHOUT_HARM


def test_the_verdicts_follow_from_what_was_said():
    said = [
        threads.verdict(read["findings"], read["accepted"], read["near"])
        for read in READ["threads"]
    ]
    assert said == [read["verdict"] for read in READ["threads"]]
    assert READ["verdicts"] == {v: said.count(v) for v in threads.VERDICTS}


@pytest.mark.parametrize(
    ("findings", "verdict"),
    [
        (["label_range"], "right"),
        (["ignored_class", "dead_units"], "right"),
        (["dead_units", "label_range"], "half"),
        (["constant_output"], "half"),
        (["dead_units", "constant_output"], "wrong"),
        (["healthy"], "wrong"),
    ],
)
def test_verdict(findings, verdict):
    accepted, near = ("label_range", "ignored_class"), ("constant_output",)
    assert threads.verdict(findings, accepted, near) == verdict


def test_a_cause_without_a_name_cannot_be_named():
    assert threads.verdict(["not_learning"], (), ("not_learning",)) == "half"
    assert threads.verdict(["healthy"], (), ()) == "wrong"


def test_a_thread_is_read_with_its_fault_and_measured_without(monkeypatch):
    """A stand-in for training and diagnosis; the recalls are those of the author's own labels."""
    x, y = torch.eye(2), torch.tensor([0, 1])

    def train(mended):
        model = nn.Linear(2, 2, bias=False)
        nn.init.zeros_(model.weight)
        if mended:
            model.weight.data = torch.eye(2)
        return Trained(model, [(x, y)], nn.CrossEntropyLoss(), None, [(x, y)])

    diagnosis = SimpleNamespace(causes=["dead_units"], learned=0.0, seconds=1.0)
    monkeypatch.setattr(bench, "diagnose", lambda *_, **__: diagnosis)
    thread = next(iter(threads.THREADS.values()))
    thread = replace(thread, train=train, accepted=("label_range",), near=("dead_units",))
    reading, _diagnosis = threads.read(thread)
    assert reading.verdict == "half"
    assert reading.changed == []
    assert (reading.recall, reading.lowest) == (0.5, 0)
    assert (reading.recall_mended, reading.lowest_mended) == (1, 1)


@pytest.mark.parametrize(
    ("outputs", "labels"),
    [
        (torch.tensor([[0.2, 0.8], [0.9, 0.1]]), [1, 0]),
        (torch.tensor([[0.7], [0.1]]), [1, 0]),
        (torch.tensor([[[0.2, 0.7], [0.8, 0.3]]]), [1, 0]),  # a score for each class and word
    ],
    ids=["classes", "one output", "words"],
)
def test_predicted_classes(outputs, labels):
    assert threads.predicted(outputs).tolist() == labels
