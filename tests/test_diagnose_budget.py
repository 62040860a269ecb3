"""diagnose keeps to its seconds and to its memory, however slow or large a model is."""

import time

import pytest
import torch
from test_diagnose import SGD, Adam, X, Y, batches, deep, mlp, train
from torch import nn

from imbalkit import diagnose
from imbalkit.doctor.keeping import tensors_of
from imbalkit.doctor.reading import MOST_BYTES, Clock, read
from imbalkit.doctor.setup import Pace, largest_batch


class Slow(nn.Module):
    """Sleeps for so long a pass, and so long an image."""

    def __init__(self, a_pass, an_image=0.0):
        super().__init__()
        self.network, self.a_pass, self.an_image = deep(nn.ReLU), a_pass, an_image

    def forward(self, x):
        time.sleep(self.a_pass + self.an_image * len(x))
        return self.network(x)


def spent(model, seconds, **options):
    started = time.perf_counter()
    optimizer = Adam(model.parameters(), 1e-6)
    report = diagnose(model, batches(), optimizer=optimizer, seconds=seconds, **options)
    return time.perf_counter() - started, report


def test_a_first_examination_loads_what_torch_needs_once():
    spent(mlp(), 0.5)


# A pass of 3 seconds in a budget of 20, and of 10 and of 5, ten times as fast.
@pytest.mark.parametrize("seconds", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("slow", [Slow(0.3), Slow(0.0, 0.01)])
def test_the_seconds_hold_within_a_fifth(seconds, slow):
    took, report = spent(slow, seconds, eval_batches=batches())
    assert took < 1.2 * seconds + 0.3, "0.3 for what a busy machine adds"
    assert "learning rate too high" in report.not_checked


def test_what_there_was_no_time_for_is_named_and_nobody_is_accused():
    model = Slow(0.5)
    _, report = spent(model, 0.6)
    assert report.healthy
    for check in ("what was learned", "learning at all", "frozen parameters", "dead units"):
        assert "a pass of 2 images takes" in report.not_checked[check]
        assert "seconds=0.6" in report.not_checked[check]
        assert check not in report.healthy_checks


def test_a_fast_model_is_examined_as_a_whole():
    _, report = spent(mlp(), 20)
    assert not any("no time" in why for why in report.not_checked.values())


def test_the_pace_never_promises_what_does_not_fit():
    pace = Pace(Clock(10))
    pace.note(4, 1.0)
    assert pace.seconds(2) == 1.0 and pace.seconds(8) == 2.0
    assert pace.fitting(256, share=0.2) == 8
    assert pace.fitting(256, share=0.2, times=4) == 4, "two would take as long"
    pace.note(2, 9.0)  # fewer images say nothing new
    assert pace.seconds(4) == 1.0
    pace.note(8, 1.4)
    assert pace.seconds(16) == pytest.approx(2.2) and pace.seconds(128) > 12
    assert pace.seconds(4) == pytest.approx(1.0), "a smaller pass takes less"
    late = Pace(Clock(0))
    late.note(2, 1.0)
    assert late.fitting(256, share=0.5) == 0


def test_large_images_are_kept_up_to_a_number_of_bytes():
    image = torch.zeros(1).expand(16, 3, 1024, 1024)
    endless = ((image, torch.arange(16)) for _ in range(200))
    sample = read(endless, "training", time.perf_counter() + 60)
    size = sample.inputs.numel() * 4
    assert MOST_BYTES <= size < MOST_BYTES + 16 * 3 * 2**22


def test_a_pass_is_no_larger_than_the_caller_s_where_memory_is_dear():
    sample = read([(torch.zeros(6, 3, 224, 224), torch.arange(6))], "training", 1e12)
    assert largest_batch(mlp(), sample) == 6
    assert largest_batch(mlp(), read(batches(), "training", 1e12)) == 256
    large = nn.Linear(8, 1_000_000)
    assert largest_batch(large, read(batches(), "training", 1e12)) == 32


class Watched(nn.Module):
    """Notes the sizes of the batches that it is called with, in a file's place."""

    sizes: set = set()  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 80 * 80, 3))

    def forward(self, x):
        Watched.sizes.add(len(x))
        return self.network(x)


def test_trials_use_the_caller_s_batch_size():
    model = Watched()
    data = [(torch.randn(6, 3, 80, 80), torch.arange(6) % 3) for _ in range(8)]
    diagnose(model, data, optimizer=SGD(model.parameters(), 1e-9), seconds=3)
    assert max(Watched.sizes) <= 6


def test_a_large_model_needs_no_third_copy(monkeypatch):
    """Counted in parameters alive while the model is called; a copy, and its gradients."""
    monkeypatch.setattr("imbalkit.doctor.probes.LARGE", 10_000)
    model = nn.Sequential(nn.Linear(8, 200), nn.ReLU(), nn.Linear(200, 200), nn.Linear(200, 3))
    optimizer = Adam(model.parameters(), 1e-7)
    train(model, optimizer=optimizer, steps=2)
    size = sum(p.numel() for p in model.parameters())
    with torch.profiler.profile(profile_memory=True) as profile:
        report = diagnose(model, batches(size=4)[:8], optimizer=optimizer, seconds=5)
    assert "memory" in report.not_checked["learning rate too high"]
    held = peak = 0
    for event in sorted(profile.events(), key=lambda event: event.time_range.start):
        if event.name == "[memory]":
            held += event.cpu_memory_usage
            peak = max(peak, held)
    assert peak < 3.5 * 4 * size, "two copies, the images and what a pass needs"


@pytest.mark.parametrize("optimizer", [SGD, Adam])
def test_no_state_of_the_optimizer_is_copied_for_the_record(optimizer):
    model = mlp()
    optimizer = train(model, optimizer=optimizer(model.parameters(), lr=0.01), steps=2)
    before = sum(t.numel() for t in tensors_of(optimizer))
    diagnose(model, batches(X, (Y + 1) % 3), optimizer=optimizer, seconds=1)
    assert sum(t.numel() for t in tensors_of(optimizer)) == before
