"""The recipes: each cell as it is copied, run alone where imbalkit cannot be imported.

A cell is executed in a fresh process, in the folder of the notebooks, with a seed. Its numbers are
then compared with what the package gives for the same data, model and seed.
"""

import math
import os
import re
import subprocess
import sys
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, Subset

from imbalkit import losses, metrics, multitask, sampling, stages, weights
from imbalkit.data import channel_statistics
from imbalkit.diagnose import CollapseMonitor
from imbalkit.models import Classifier
from imbalkit.training import constant, fit

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
RECIPES = NOTEBOOKS / "recipes.ipynb"
SEED = 5
BEFORE = """
import sys
sys.modules["imbalkit"] = None  # an import of it is an error
sys.dont_write_bytecode = True
sys.path.insert(0, ".")
import torch
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
torch.manual_seed(5)
"""


def read_recipes():
    """The cell of each recipe by its heading, and the text above it."""
    cells = nbformat.read(RECIPES, as_version=4).cells
    found = {}
    for text, cell in pairwise(cells):
        if "recipe" in cell.metadata.get("tags", []):
            heading = re.findall(r"^## (.*)", text.source, re.MULTILINE)
            found[heading[-1]] = (cell.source, text.source)
    return found


ALL = read_recipes()


def run(name, result, before="", after="", edit=("", "")):
    """Execute a recipe by itself, and return what the expression `result` is then.

    before, after: code to run above it, which may exchange what `my_project` holds, and below it.
    edit: a text in the recipe and another for it, as a reader would change a setting.
    """
    source = ALL[name][0]
    assert edit[0] in source
    path = Path(os.environ["RECIPE_FOLDER"]) / "result.pt"
    source = source.replace(*edit)
    code = f"{BEFORE}\n{before}\n{source}\n{after}\ntorch.save({result}, {str(path)!r})"
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=NOTEBOOKS, capture_output=True, text=True, timeout=100
    )
    assert process.returncode == 0, process.stderr
    assert not process.stderr
    return torch.load(path, weights_only=False)


@pytest.fixture(autouse=True)
def folder_and_precision(tmp_path, monkeypatch):
    """A folder for results; and the package without what makes it fast, like the recipes."""
    monkeypatch.setenv("RECIPE_FOLDER", str(tmp_path))
    monkeypatch.setattr("imbalkit.training.autocast", lambda device: nullcontext())
    for module in ("device", "training"):  # another layout rounds differently, and it adds up
        layout = f"imbalkit.{module}.memory_format"
        monkeypatch.setattr(layout, lambda device: torch.contiguous_format)
    monkeypatch.setattr("imbalkit.training.pick_device", lambda: torch.device("cpu"))
    monkeypatch.syspath_prepend(str(NOTEBOOKS))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def project():
    import my_project

    return my_project


def counts_of(project):
    return np.bincount(project.train_set.targets)


def momentum(parameters):
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=5e-4)


def cosine(steps):
    """torch's schedules ask at step / steps, `fit` in the middle of a step."""
    return lambda progress: 0.5 * (1 + math.cos(math.pi * (progress - 0.5 / steps)))


def halves(model):
    """The stand-in's model as the package's classifier, with the same weights."""
    with torch.random.fork_rng():  # the layer made here is thrown away
        result = Classifier(nn.Identity(), model.fc.in_features, model.fc.out_features)
    result.features, result.classifier = model.layers, model.fc
    return result


def assert_same_weights(got, model, tolerance=1e-4):
    want = model.state_dict()
    names = dict(zip(got, want, strict=True))
    assert all(got[a].shape == want[b].shape for a, b in names.items())
    for a, b in names.items():
        torch.testing.assert_close(got[a], want[b], rtol=tolerance, atol=tolerance, msg=b)


# --- what holds for all


def test_each_is_there():
    wanted = """
        Evaluation; Collapse monitor; Channel statistics; Class-dependent augmentation;
        Validation split and early stopping on the rare classes; Class weights; Focal loss;
        Weighted cross-entropy; Logit adjustment; Balanced and square-root sampling;
        Progressively balanced sampling; Over- and under-sampling; Deferred re-weighting;
        Classifier re-training; Class scales; Tau-normalisation; Difficulty head; Rotation head;
        A complete training script"""
    assert {" ".join(name.split()) for name in wanted.split(";")} == set(ALL)


@pytest.mark.parametrize("name", ALL)
def test_a_recipe_is_short_and_names_what_is_yours_first(name):
    lines = ALL[name][0].splitlines()
    assert 10 <= len(lines) <= 40 and max(map(len, lines)) <= 100
    assert re.match(r"from my_project import [\w, ]+  # yours", lines[0])
    assert "imbalkit" not in ALL[name][0]
    assert ALL[name][0].count("my_project") == 1


@pytest.mark.parametrize("name", ALL)
def test_three_lines_say_when_when_not_and_which_lesson(name):
    bullets = re.findall(r"^- \*\*(.*?)\*\* (.+)$", ALL[name][1], re.MULTILINE)
    assert [word for word, _ in bullets] == ["Use it", "Not", "Lesson"]
    linked = re.findall(r"\((\d\d_\w+\.ipynb)\)", bullets[2][1])
    assert linked and all((NOTEBOOKS / path).exists() for path in linked)


def test_the_index_leads_to_each():
    index = nbformat.read(RECIPES, as_version=4).cells[0].source
    links = re.findall(r"\[([^\]]+)\]\(#([^)]+)\)", index)
    assert {name for name, _ in links} == set(ALL)
    assert all(anchor == name.replace(" ", "-") for name, anchor in links)


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("0[1-9]_*.ipynb")), ids=lambda p: p.stem)
def test_a_lesson_leads_to_its_recipes(path):
    text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
    links = re.findall(r"\[([^\]]+)\]\(recipes\.ipynb#([^)]+)\)", text)
    anchors = {name.replace(" ", "-"): name for name in ALL}
    assert links
    assert all(anchors[anchor].lower() == words.lower() for words, anchor in links)


def test_the_recipes_are_run_without_the_package():
    with pytest.raises(AssertionError, match="imbalkit"):
        run("Class weights", "0", before="import imbalkit.weights")


# --- each compared with the package

executed = pytest.mark.notebooks


@executed
def test_evaluation():
    names = "labels predictions accuracy balanced_accuracy macro_f1 recall matrix".split()
    got = run("Evaluation", f"dict({', '.join(f'{n}={n}' for n in names)})")
    confusion = metrics.confusion(got["labels"], got["predictions"], 10)
    summary = metrics.summary(confusion)
    np.testing.assert_array_equal(got["matrix"], confusion)
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "recall"):
        np.testing.assert_allclose(got[name], summary[name], rtol=1e-6)
    assert got["balanced_accuracy"] > 0.4


STREAM = """
def stream(kind):
    generator = torch.Generator().manual_seed(0)
    for step in range(150):
        labels = torch.randint(10, (32,), generator=generator)
        logits = torch.randn(32, 10, generator=generator) + 3 * F.one_hot(labels, 10)
        if kind == "collapsed":
            logits[:, 4] += 20
        loss = F.cross_entropy(logits, labels)
        yield logits, labels, loss * float("nan") if kind == "not finite" else loss
"""


KINDS = {"healthy": "", "collapsed": "are class 4", "not finite": "not finite"}


@executed
def test_collapse_monitor():
    after = f"""{STREAM}
def messages(kind):
    monitor = CollapseMonitor()
    return [monitor(*batch) for batch in stream(kind)]
predicted = torch.tensor([0, 0, 0, 1, 2, 2])
"""
    result = f"([messages(kind) for kind in {list(KINDS)}], monitor.in_use(predicted), message)"
    got, in_use, of_its_own_cell = run("Collapse monitor", result, after=after)
    names = {"F": F, "torch": torch}
    exec(STREAM, names)
    for messages, (kind, words) in zip(got, KINDS.items(), strict=True):
        ours = CollapseMonitor()
        package = [ours.update(*batch) for batch in names["stream"](kind)]
        assert any(messages) == any(package) == bool(words)
        assert all(words in message for message in messages + package if message)
    share = metrics.prediction_share(torch.tensor([0, 0, 0, 1, 2, 2]), 10)
    assert in_use == pytest.approx(metrics.effective_classes(share), rel=1e-6)
    assert of_its_own_cell == ""
    black = ("model(images)", "model(0 * images)")
    assert "nearly all predictions" in run("Collapse monitor", "message", edit=black)


@executed
def test_channel_statistics():
    before = """
import my_project
pixels = torch.randint(0, 200, (50, 3, 8, 6), dtype=torch.uint8)
pixels[:, 1] //= 3
my_project.train_set = my_project.Digits(pixels / 255, [0] * 50)
"""
    mean, std, pixels = run("Channel statistics", "(mean, std, pixels_uint8)", before=before + (
        "pixels_uint8 = pixels"
    ))  # fmt: skip
    want = channel_statistics(pixels.permute(0, 2, 3, 1).contiguous())
    np.testing.assert_allclose(mean, want[0], rtol=1e-6)
    np.testing.assert_allclose(std, want[1], rtol=1e-6)


@executed
def test_early_stopping_on_the_rare_classes(project):
    got = run(
        "Validation split and early stopping on the rare classes",
        "dict(train=train, val=val, best=best_epoch, score=best, last=epoch, "
        "weights=model.state_dict())",
    )
    targets = torch.as_tensor(project.train_set.targets)
    assert sorted(got["train"] + got["val"]) == list(range(len(targets)))
    assert torch.bincount(targets[got["val"]]).min() >= 2

    def rare_first(confusion):
        balanced = metrics.recall_of(range(10))(confusion)
        return metrics.recall_of([7, 8, 9])(confusion) + balanced / 1000  # where equal, the rest

    model = project.make_model()
    history = fit(
        model,
        DataLoader(Subset(project.train_set, got["train"]), batch_size=64, shuffle=True),
        30,
        optimizer=momentum(model.parameters()),
        schedule=constant,
        val_batches=DataLoader(Subset(project.train_set, got["val"]), batch_size=256),
        monitor=rare_first,
        patience=5,
        show_progress=False,
    )
    assert (history.best_epoch, len(history.train)) == (got["best"], got["last"])
    assert history.best_score == pytest.approx(got["score"][0] + got["score"][1] / 1000)
    assert_same_weights(got["weights"], model)


@executed
def test_class_dependent_augmentation(project):
    """The package has nothing like it yet: frequent images stay, rare ones change as often as
    said."""
    after = """
def changed(c):
    mine = [i for i, y in enumerate(train_set.targets) if y == c]
    draws = [augmented[i] for i in mine for _ in range(400 // len(mine))]
    assert all(y == c for _, y in draws)
    originals = [train_set[i][0] for i in mine for _ in range(400 // len(mine))]
    return sum(not torch.equal(x, z) for (x, _), z in zip(draws, originals)) / len(draws)
"""
    got, targets = run(
        "Class-dependent augmentation",
        "([changed(c) for c in (0, 3, 9)], augmented.targets)",
        after=after,
    )
    assert targets == project.train_set.targets
    assert got[0] == 0
    for share, count in zip(got[1:], (55, 9), strict=True):
        assert share == pytest.approx(1 - count / 135, abs=0.08)


@executed
def test_class_weights(project):
    got = run("Class weights", "(balanced, square_root, effective_number)")
    counts = counts_of(project)
    schemes = (weights.balanced, weights.square_root, weights.effective_number)
    for ours, scheme in zip(got, schemes, strict=True):
        torch.testing.assert_close(ours, scheme(counts))


@executed
def test_class_weights_of_a_missing_class():
    before = "import my_project\nmy_project.train_set.targets = [0, 0, 2]"
    with pytest.raises(AssertionError, match="class 1 has no image"):
        run("Class weights", "0", before=before)


@executed
def test_weighted_cross_entropy(project):
    got = run("Weighted cross-entropy", "model.state_dict()")
    model = project.make_model()
    fit(
        model,
        DataLoader(project.train_set, batch_size=64, shuffle=True),
        5,
        loss_fn=losses.WeightedCrossEntropy(weights.balanced(counts_of(project))),
        optimizer=momentum(model.parameters()),
        schedule=constant,
        show_progress=False,
    )
    assert_same_weights(got, model)


@executed
def test_focal_loss():
    generator = torch.Generator().manual_seed(1)
    logits = 5 * torch.randn(40, 4, generator=generator)
    logits[0], logits[1] = torch.tensor([200.0, 0, 0, 0]), torch.tensor([0, 200.0, 0, 0])
    targets = torch.randint(4, (40,), generator=generator)
    targets[:2] = 0
    weight = torch.tensor([0.2, 1.0, 3.0, 9.0])
    settings = [(gamma, w) for gamma in (0, 0.5, 2) for w in (None, weight)]
    after = f"""
data = torch.load({str(saved({"x": logits, "y": targets, "settings": settings}))!r})
def loss_and_gradient(gamma, weight):
    x = data["x"].clone().requires_grad_()
    loss = FocalLoss(gamma, weight)(x, data["y"])
    loss.backward()
    return loss.detach(), x.grad
"""
    got = run("Focal loss", "[loss_and_gradient(*s) for s in data['settings']]", after=after)
    for (loss, gradient), setting in zip(got, settings, strict=True):
        x = logits.clone().requires_grad_()
        want = losses.FocalLoss(*setting)(x, targets)
        want.backward()
        assert gradient.isfinite().all()
        torch.testing.assert_close(loss, want.detach())
        torch.testing.assert_close(gradient, x.grad)


def saved(data):
    path = Path(os.environ["RECIPE_FOLDER"]) / "data.pt"
    torch.save(data, path)
    return path


@executed
def test_logit_adjustment(project):
    logits, targets = torch.randn(12, 10), torch.arange(12) % 10
    after = f"""
data = torch.load({str(saved({"x": logits, "y": targets}))!r})
def both(setting):
    global tau
    tau = setting
    return logit_adjusted_loss(data["x"], data["y"]), adjusted(data["x"])
"""
    got = run("Logit adjustment", "[both(1.0), both(0.5)]", after=after)
    for (loss, adjusted), tau in zip(got, (1.0, 0.5), strict=True):
        package = losses.LogitAdjustedLoss(counts_of(project), tau)
        torch.testing.assert_close(loss, package(logits, targets))
        torch.testing.assert_close(adjusted, logits - package.adjustment)


@executed
@pytest.mark.parametrize("power", [0.0, 0.5])
def test_balanced_and_square_root_sampling(project, power):
    got = run(
        "Balanced and square-root sampling",
        "(list(loader.sampler), loader.batch_size)",
        edit=("power = 0.0", f"power = {power}"),
        after="torch.manual_seed(7)",
    )
    torch.manual_seed(7)
    assert got == (list(sampling.weighted_sampler(project.train_set.targets, power)), 64)


@executed
def test_progressively_balanced_sampling(project):
    after = "sampler = ProgressiveSampler(train_set.targets, 3); torch.manual_seed(7)"
    got = run("Progressively balanced sampling", "[list(sampler) for _ in range(4)]", after=after)
    sampler = sampling.ProgressiveSampler(project.train_set.targets, 3)
    torch.manual_seed(7)
    assert got == [list(sampler) for _ in range(4)]


@executed
def test_over_and_under_sampling(project):
    result = "[list(CountSampler(train_set.targets, p)) for p in (over, under, between)]"
    got = run("Over- and under-sampling", result, after="torch.manual_seed(7)")
    labels, counts = project.train_set.targets, counts_of(project)
    torch.manual_seed(7)
    for drawn, per_class in zip(got, ([135] * 10, [9] * 10, counts.clip(30, 60)), strict=True):
        assert drawn == list(sampling.CountSampler(labels, per_class))


@executed
def test_deferred_re_weighting(project):
    got = run("Deferred re-weighting", "(model.state_dict(), epochs, switch)")
    model = project.make_model()
    loader = DataLoader(project.train_set, batch_size=64, shuffle=True)
    stages.deferred(
        model,
        loader,
        loader,
        *got[1:],
        late_loss_fn=losses.WeightedCrossEntropy(weights.balanced(counts_of(project))),
        optimizer=momentum(model.parameters()),
        schedule=cosine(got[1] * len(loader)),
        show_progress=False,
    )
    assert_same_weights(got[0], model)


STAGE_1 = """
import my_project
my_project.trained_model = my_project.make_model
"""


@executed
@pytest.mark.parametrize(
    ("name", "stage", "epochs"),
    [
        ("Classifier re-training", stages.retrain_classifier, 5),
        ("Class scales", stages.learn_class_scales, 5),
    ],
)
def test_stage_2(project, name, stage, epochs):
    got = run(name, "model.state_dict()", before=STAGE_1)
    model = halves(project.make_model())
    before = [value.clone() for value in model.features.state_dict().values()]
    sampler = sampling.weighted_sampler(project.train_set.targets)
    loader = DataLoader(project.train_set, batch_size=64, sampler=sampler)
    stage(model, loader, epochs, schedule=constant, show_progress=False)
    assert_same_weights(got, model)
    for old, new in zip(before, got.values(), strict=False):
        assert torch.equal(old, new)  # BatchNorm's statistics too


@executed
def test_tau_normalisation(project):
    result = (
        "([tau_normalised(model, t).fc.state_dict() for t in (0, 0.7, 1.5)], model.state_dict())"
    )
    got, unchanged = run("Tau-normalisation", result, before=STAGE_1)
    model = project.make_model()
    for state, tau in zip(got, (0, 0.7, 1.5), strict=True):
        assert_same_weights(state, stages.tau_normalised(model.fc, tau), 1e-6)
    assert_same_weights(unchanged, model, 0)


@executed
def test_difficulty_head(project):
    logits, predicted = torch.randn(12, 10), torch.randn(12)
    data = {
        "x": logits,
        "d": predicted,
        "y": torch.arange(12) % 10,
        "images": torch.rand(4, 3, 16, 16),
    }
    after = f"""
data = torch.load({str(saved(data))!r})
x, d = data["x"].requires_grad_(), data["d"].requires_grad_()
loss = loss_fn(x, d, data["y"], share=0.3)
loss.backward()
assert isinstance(model.train()(data["images"]), tuple)
model.eval()
rated = model.difficulty(model.features(data["images"])).squeeze(1)
outputs = [part.detach() for part in (model(data["images"]), rated)]
"""
    result = "(loss.detach(), x.grad, d.grad, outputs, model.state_dict())"
    loss, of_logits, of_predicted, outputs, state = run("Difficulty head", result, after=after)
    x, d = logits.clone().requires_grad_(), predicted.clone().requires_grad_()
    want = multitask.DifficultyLoss(share=0.3)((x, d), data["y"])
    want.backward()
    for a, b in ((loss, want.detach()), (of_logits, x.grad), (of_predicted, d.grad)):
        torch.testing.assert_close(a, b)
    features = project.make_model()
    features.fc = nn.Identity()
    model = multitask.WithDifficulty(features, 512, 10)
    renamed = {k.replace("difficulty.", "difficulty.0."): v for k, v in state.items()}
    model.load_state_dict(renamed)
    logits = model.eval()(data["images"])
    rated = model.difficulty(model.features(data["images"]))
    torch.testing.assert_close(outputs, [logits.detach(), rated.detach()])


@executed
def test_rotation_head(project):
    got = run("Rotation head", "(model.state_dict(), rotation.state_dict())")
    stand_in = project.make_model()
    rotation = nn.Linear(512, 4)
    with torch.random.fork_rng():
        model = multitask.WithRotation(nn.Identity(), 512, 10)
    model.features, model.classifier, model.rotation = stand_in.layers, stand_in.fc, rotation
    fit(
        model,
        DataLoader(project.train_set, batch_size=64, shuffle=True),
        5,
        loss_fn=multitask.RotationLoss(share=0.5),
        optimizer=momentum(model.parameters()),
        schedule=constant,
        show_progress=False,
    )
    assert_same_weights(got[0], stand_in)
    assert_same_weights(got[1], rotation)


@executed
def test_complete_training_script(project):
    got = run("A complete training script", "(model.state_dict(), epochs, switch, train, val)")
    state, epochs, switch, train, val = got
    targets = torch.as_tensor(project.train_set.targets)
    assert [train, val] == train_test_split(
        range(len(targets)), test_size=0.1, stratify=targets, random_state=0
    )
    part, labels = Subset(project.train_set, train), targets[train]
    as_they_are = DataLoader(part, batch_size=64, shuffle=True)
    balanced = DataLoader(part, batch_size=64, sampler=sampling.weighted_sampler(labels))
    torch.manual_seed(0)
    model = project.make_model()
    # As `stages.deferred`, with a look at the validation images, which moves the random state.
    optimizer, schedule = momentum(model.parameters()), cosine(epochs * len(as_they_are))
    pieces = ((as_they_are, 0, switch), (balanced, switch, epochs))
    for batches, begin, end in pieces:
        scores = iter(range(epochs))
        fit(
            model,
            batches,
            end - begin,
            optimizer=optimizer,
            schedule=stages.part(schedule, begin / epochs, end / epochs),
            val_batches=DataLoader(Subset(project.train_set, val), batch_size=256),
            monitor=lambda confusion, scores=scores: next(scores),  # so the last epoch is kept
            show_progress=False,
        )
    assert_same_weights(state, model)
