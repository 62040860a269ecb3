import pytest
import torch
from helpers import accept_checksums, write_cifar

from imbalkit.course.lab import set_up
from imbalkit.data import RandomFlip


@pytest.fixture
def cifar(monkeypatch, tmp_path):
    accept_checksums(monkeypatch, write_cifar(tmp_path, per_class=100))
    monkeypatch.setenv("IMBALKIT_DATA", str(tmp_path))
    monkeypatch.delenv("IMBALKIT_PROFILE", raising=False)


def test_start_prints_what_the_run_is_made_of(cifar, capsys):
    lab = set_up(ratio=10)
    text = capsys.readouterr().out
    for part in ("imbalkit 0", "torch 2", "device:", "profile: cpu", "CIFAR-10 train", "ratio 10"):
        assert part in text
    assert f"{len(lab.train)} to train, {len(lab.validation)} to validate, 10 to test" in text


def test_train_and_validation_are_disjoint_parts_of_the_long_tail(cifar, capsys):
    lab = set_up(ratio=10)
    counts = lab.train.class_counts() + lab.validation.class_counts()
    assert counts.tolist()[0] == 100 and counts.tolist()[-1] == 10
    assert lab.validation.class_counts().min() >= 1
    images = [
        image.numpy().tobytes() for part in (lab.train, lab.validation) for image in part.images
    ]
    assert len(set(images)) == len(images) == len(lab.manifest.indices)


def test_start_repeats_itself(cifar, capsys):
    a = next(iter(set_up(10).train_batches()))
    b = next(iter(set_up(10).train_batches()))
    assert a[0].equal(b[0]) and a[1].equal(b[1])
    other = next(iter(set_up(10, seed=1).train_batches()))
    assert not a[0].equal(other[0])
    assert not set_up(10, subset_seed=1).train.images.equal(set_up(10).train.images)


def test_batches_take_the_labs_statistics_unless_told_otherwise(cifar, capsys):
    lab = set_up(ratio=1)
    images, _ = next(iter(lab.train_batches(batch_size=2000, augment=[])))
    assert images.mean().abs() < 1e-3
    raw, _ = next(iter(lab.eval_batches(lab.test, mean=[0] * 3, std=[1 / 255] * 3)))
    assert raw.max() > 200
    assert len(raw) == len(lab.test)
    augmented, plain = (
        next(iter(lab.eval_batches(lab.train, augment=a))) for a in (lab.augment, ())
    )
    assert not augmented[0].equal(plain[0])
    assert not torch.equal(next(iter(lab.train_batches()))[1], lab.train.labels[:128])


def test_digits_are_never_mirrored(monkeypatch, capsys):
    lab = set_up(data="embedded")
    assert not any(isinstance(a, RandomFlip) for a in lab.augment)
    assert lab.counts[0] == 4500 and lab.counts[-1] == 45
