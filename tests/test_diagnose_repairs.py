"""What the repair of a fault brings on a copy, and what the report makes of it."""

import json
import math

import pytest
import torch
from test_diagnose import CASES, examined, mlp, with_rate
from torch import nn

from imbalkit.doctor.causes import CAUSES
from imbalkit.doctor.repairs import REPAIRS, helpful_first
from imbalkit.doctor.report import FAULT, NOTE, Effect, Finding

SHOWN = [
    "gradients_clipped",
    "input_range",
    "learning_rate_too_high",
    "learning_rate_too_low",
    "no_optimizer_step",
    "not_in_optimizer",
    "weight_decay_too_high",
]


def found(cause, effect=None, severity=FAULT):
    return Finding(cause, severity, {}, "", "", "", effect)


def test_each_repair_is_that_of_a_known_cause():
    assert set(REPAIRS) <= set(CAUSES)


@pytest.mark.parametrize("cause", SHOWN)
def test_the_repair_of_a_fault_helps_and_leaving_it_does_not(cause):
    finding = CASES[cause][0]().findings[0]
    assert finding.cause == cause
    assert finding.effect.steps == 48
    assert finding.effect.left < 0.2 and finding.effect.mended > 0.9
    assert finding.certainty == "shown by its repair"


def test_a_softmax_that_holds_the_loss_back_is_mended_on_a_copy():
    model = mlp(3, nn.Softmax(1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    finding = examined(model, optimizer=optimizer).findings[0]
    assert finding.cause == "double_softmax" and finding.effect.mended > finding.effect.left


def test_a_fault_that_no_training_can_mend_says_so():
    finding = CASES["label_range"][0]().findings[0]
    assert (
        finding.effect is None
        and finding.certainty == "measured; no training with a repair was tried"
    )


def test_without_an_optimizer_nothing_is_trained():
    assert examined(mlp(3, nn.Softmax(1))).findings[0].effect is None


HELPS, DOES_NOT = Effect(48, 0.1, 0.8), Effect(48, 0.7, 0.8)


@pytest.mark.parametrize(("effects", "order"), [
    ([DOES_NOT, HELPS], [1, 0]),
    ([HELPS, DOES_NOT], [0, 1]),
    ([DOES_NOT, DOES_NOT], [0, 1]),
    ([None, DOES_NOT, HELPS], [0, 2, 1]),  # what was not tried keeps its place
    ([DOES_NOT, None, HELPS], [2, 1, 0]),
    ([Effect(48, 0.5, 0.9), Effect(48, 0.0, 0.9)], [1, 0]),  # both help, and one much more
    ([Effect(48, 0.1, 0.9), Effect(48, 0.0, 0.9)], [0, 1]),
    ([], []),
])  # fmt: skip
def test_the_fault_whose_repair_helps_comes_first(effects, order):
    findings = [found(str(i), effect) for i, effect in enumerate(effects)]
    note = found("note", severity=NOTE)
    assert [f.cause for f in helpful_first([*findings, note])] == [*map(str, order), "note"]


def test_new_weights_mend_too_much_to_come_first():
    findings = [found("gradients_not_cleared", DOES_NOT), found("dead_units", HELPS)]
    assert helpful_first(findings) == findings


@pytest.mark.parametrize(("left", "mended", "helps"), [
    (0.1, 0.8, True), (0.7, 0.8, False), (0.8, 0.1, False), (0.0, 0.19, False), (0.0, 0.21, True),
    (math.nan, 0.8, True), (0.1, math.nan, False), (math.nan, math.nan, False),
])  # fmt: skip
def test_a_repair_helps_where_clearly_more_is_learned(left, mended, helps):
    effect = Effect(48, left, mended)
    assert effect.helps is helps
    assert ("nothing finite" in str(effect)) is (math.isnan(left) or math.isnan(mended))


def test_the_report_tells_the_effect_and_how_sure_it_is():
    diagnosis = with_rate(100.0)
    effect = str(diagnosis.findings[0].effect)
    for text in (repr(diagnosis), diagnosis._repr_html_()):
        assert effect in text and "certainty: shown by its repair" in text
    assert json.loads(json.dumps(diagnosis.to_dict()))["findings"][0]["effect"]["steps"] == 48


def test_notes_have_no_certainty():
    assert "certainty" not in found("a", severity=NOTE).evidence()


class OfItsOwn(torch.optim.SGD):
    """An optimizer with a number that its steps need."""

    def __init__(self, params, lr, largest):
        super().__init__(params, lr=lr)
        self.largest = largest

    def step(self, closure=None):
        nn.utils.clip_grad_norm_(self.param_groups[0]["params"], self.largest)
        return super().step(closure)


def test_an_optimizer_of_ones_own_class_keeps_its_numbers_in_a_trial():
    model = mlp()
    optimizer = OfItsOwn(model.parameters(), 0.1, largest=1e-6)
    diagnosis = examined(model, optimizer=optimizer, steps=0)
    assert not [why for why in diagnosis.not_checked.values() if "raised" in why]


class Raises(torch.optim.SGD):
    def step(self, closure=None):
        raise RuntimeError("not today")


def test_an_optimizer_that_raises_is_told_and_no_crash():
    model = mlp()
    diagnosis = examined(model, optimizer=Raises(model.parameters(), 0.1), steps=0)
    assert "RuntimeError: not today" in " ".join(diagnosis.not_checked.values())
