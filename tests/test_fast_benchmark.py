"""The benchmark of the fast recipe: every trick changes something, and what is finished stays."""

from itertools import pairwise

import pytest
import torch

import imbalkit.fast
from benchmarks import fast
from imbalkit.data import ImageSet


@pytest.fixture
def small_sets(monkeypatch):
    torch.manual_seed(0)
    labels = torch.tensor([0] * 40 + [1] * 20 + [2] * 10)
    images = torch.randint(256, (70, 32, 32, 3), dtype=torch.uint8)
    images = ImageSet(images, labels, ("a", "b", "c"), "noise")
    monkeypatch.setattr(fast, "WARM_UP", 0)
    monkeypatch.setattr(fast, "TIMED", 1)
    monkeypatch.setattr(fast, "load", lambda: (images, images.subset(range(0, 70, 3))))
    return images


def kinds(model):
    return [type(layer).__name__ for layer in model.features]


def test_each_trick_of_the_network_changes_its_layers(small_sets):
    nets = {
        rung: fast.rung_net(small_sets, set(fast.RUNGS[: i + 1]))
        for i, rung in enumerate(fast.RUNGS)
    }
    assert kinds(nets["balanced softmax"]) == kinds(nets["gelu_net"])
    whitened = nets["whitened first layer"]
    assert kinds(whitened) == kinds(nets["gelu_net"])
    assert not whitened.features[0].weight.requires_grad
    assert "GELU" in kinds(nets["Muon"])
    full = imbalkit.fast.fast_net(small_sets)
    assert kinds(nets["ReLU for GELU"]) == kinds(full)
    for net in nets.values():
        assert net(torch.zeros(1, 3, 32, 32)).shape == (1, 3)


@pytest.mark.notebooks  # trains, though in no notebook
def test_each_trick_changes_the_result(small_sets, monkeypatch):
    logits, pixels = [], torch.randn(4, 3, 32, 32)

    def note(model, images, test):
        model.eval()
        logits.append(model(pixels).detach())
        return {"balanced_accuracy": 0.5}

    monkeypatch.setattr(fast, "judge", note)
    for rung in [fast.RUNGS[0], *fast.RUNGS]:
        assert fast.tricks(rung, seed=0)["seconds"] > 0
    repeated, *changes = [(one - other).abs().max() for one, other in pairwise(logits)]
    assert repeated == 0 and min(changes) > 1e-4, changes


def test_strong_changes_reach_the_share_of_images_that_a_recipe_names(small_sets):
    images = torch.randint(256, (400, 3, 32, 32), dtype=torch.uint8)
    targets = torch.zeros(400, dtype=torch.int64)
    assert len(fast.Recipe(8, 1).augment(3)) == 2
    changes = fast.Recipe(8, 1, strong=0.5).augment(3)[-1]
    changed, _ = changes(images, targets, torch.Generator().manual_seed(0))
    assert 0.4 < (changed != images).flatten(1).any(1).float().mean() < 0.6


@pytest.mark.parametrize(
    ("shifted", "members", "answers"), [(False, 1, 2), (True, 1, 6), (True, 2, 12)]
)
def test_a_recipe_says_how_many_answers_are_averaged(
    small_sets, monkeypatch, shifted, members, answers
):
    looked_at = []
    monkeypatch.setattr(fast, "ldam_clock", lambda images: {"float32": 1.0})
    monkeypatch.setattr(imbalkit.fast, "fit_fast", lambda *others, **options: None)

    def note(model, images, test):
        for net in model.modules():
            if isinstance(net, imbalkit.fast.Classifier):
                net.register_forward_pre_hook(lambda *_: looked_at.append(1))
        model(torch.zeros(1, 3, 32, 32))
        return {}

    monkeypatch.setattr(fast, "judge", note)
    fast.train(fast.Recipe(width=4, epochs=1, shifted=shifted, members=members), seed=0)
    assert len(looked_at) == answers


def test_a_finished_training_is_kept_and_not_run_again(tmp_path, small_sets, monkeypatch):
    monkeypatch.setattr(fast, "RECIPES", {"tiny": fast.Recipe(width=4, epochs=2)})
    monkeypatch.setattr(fast, "SEEDS", 2)
    done = fast.finish(tmp_path, only="tiny")
    assert set(done) == {"tiny, seed 0", "tiny, seed 1"}
    run = done["tiny, seed 0"]
    assert run != done["tiny, seed 1"]
    assert 0 <= run["balanced_accuracy"] <= 1 and len(run["recall"]) == 3 and run["seconds"] > 0
    clocks = list(run["ldam_seconds"].values())
    assert len(clocks) in (1, 2) and min(clocks) > 0

    monkeypatch.setattr(fast, "train", None)  # a second training would fail
    (tmp_path / "tiny, seed 1.json").unlink()
    with pytest.raises(TypeError):
        fast.finish(tmp_path, only="tiny")
    path = tmp_path / "tiny, seed 0.json"
    assert fast.finished(path, fast.MEASURED) == run
    path.write_text(path.read_text().replace("0.", "1."))
    with pytest.raises(ValueError, match=r"seed 0\.json: is no result: .*; delete it"):
        fast.finished(path, fast.MEASURED)


def test_the_clock_leaves_the_random_numbers_as_they_were(small_sets):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    assert all(seconds > 0 for seconds in fast.ldam_clock(small_sets).values())
    torch.testing.assert_close(torch.rand(2), expected)
