"""The recipes: each cell as it is copied, run alone where imbalkit cannot be imported.

A cell is executed in a process of its own, in the folder of the notebooks, with a seed. Its numbers
are then compared with what the package gives for the same data, model and seed.
"""

import json
import math
import os
import re
import subprocess
import sys
from contextlib import nullcontext
from functools import cache
from itertools import pairwise
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import lessons_with_exercises
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, Subset

from imbalkit import (
    losses,
    metrics,
    models,
    multitask,
    priors,
    sampling,
    selfsupervised,
    stages,
    weights,
)
from imbalkit.augmentation import Mixup, PasteRare, PerClass, Remix
from imbalkit.data import ImageSet, channel_statistics, find_duplicates, label_conflicts
from imbalkit.decisions import cost_threshold, decide, fit_temperature
from imbalkit.ensembles import Ensemble, disagreement
from imbalkit.inference import Predictor
from imbalkit.models import Classifier
from imbalkit.monitor import CollapseMonitor
from imbalkit.training import constant, fit

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
RECIPES = NOTEBOOKS / "recipes.ipynb"
LESSONS = lessons_with_exercises()
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
# Importing torch takes longer than most recipes. One process imports it, and nothing that a recipe
# could use but forget to import, and splits off a fresh one for each recipe. It reads [code, file
# for what is written to stderr] and answers with the exit code.
SERVER = """
import json as _json, os as _os, traceback as _traceback, types as _types
for _line in sys.stdin:
    _code, _errors = _json.loads(_line)
    _child = _os.fork()
    if _child == 0:
        _os.dup2(_os.open(_errors, _os.O_WRONLY | _os.O_CREAT), 2)
        _os.dup2(_os.open(_os.devnull, _os.O_WRONLY), 1)
        main = sys.modules["__main__"] = _types.ModuleType("__main__")
        main.torch = torch
        try:
            exec(compile(_code, "recipe", "exec"), main.__dict__)
            sys.stdout.flush()
            _os._exit(0)
        except BaseException:
            _traceback.print_exc()
        finally:
            sys.stderr.flush()
            _os._exit(1)
    print(_os.waitstatus_to_exitcode(_os.waitpid(_child, 0)[1]), flush=True)
"""


@cache
def server():
    """The process that has imported torch, started when the first recipe is run."""
    command, pipe = [sys.executable, "-c", BEFORE + SERVER], subprocess.PIPE
    return subprocess.Popen(command, cwd=NOTEBOOKS, stdin=pipe, stdout=pipe, text=True)


@pytest.fixture(scope="module", autouse=True)
def end_server():
    yield
    if server.cache_info().currsize:
        with server() as process:
            process.kill()
        server.cache_clear()


def folder():
    """The folder of this test."""
    return Path(os.environ["RECIPE_FOLDER"])


def execute(code, folder):
    """The exit code of a process that ran the code, and what it wrote to stderr."""
    if not hasattr(os, "fork"):  # Windows
        command = [sys.executable, "-c", BEFORE + code]
        done = subprocess.run(command, cwd=NOTEBOOKS, capture_output=True, text=True, timeout=100)
        return done.returncode, done.stderr
    errors = folder / "errors.txt"
    errors.unlink(missing_ok=True)
    server().stdin.write(json.dumps([code, str(errors)]) + "\n")
    server().stdin.flush()
    answer = server().stdout.readline()
    return int(answer), errors.read_text(encoding="utf-8")


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
    path = folder() / "result.pt"
    source = source.replace(*edit)
    code = f"{before}\n{source}\n{after}\ntorch.save({result}, {str(path)!r})"
    status, errors = execute(code, folder())
    assert status == 0, errors
    assert not errors
    return torch.load(path, weights_only=False)


@pytest.fixture(autouse=True)
def folder_and_precision(tmp_path, monkeypatch):
    """A folder for results; and the package without what makes it fast, like the recipes."""
    monkeypatch.setenv("RECIPE_FOLDER", str(tmp_path))
    monkeypatch.setattr("imbalkit.training.autocast", lambda device: nullcontext())
    for module in ("device", "training"):  # another layout rounds differently, and it adds up
        layout = f"imbalkit.{module}.memory_format"
        monkeypatch.setattr(layout, lambda device: torch.contiguous_format)
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
        Mixup and Remix; Pasting rare images; LDAM; Another mix of classes; Rotation pretraining;
        Contrastive pretraining; Copies and a grouped split; Calibration and a cost threshold;
        One file for use; Combination; Ensemble of trained models; A complete training script"""
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


@pytest.mark.parametrize("path", LESSONS, ids=lambda p: p.stem)
def test_a_lesson_leads_to_its_recipes(path):
    text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
    links = re.findall(r"\[([^\]]+)\]\(recipes\.ipynb#([^)]+)\)", text)
    anchors = {name.replace(" ", "-"): name for name in ALL}
    assert links
    assert all(anchors[anchor].lower() == words.lower() for words, anchor in links)


def test_the_recipes_are_run_without_the_package():
    with pytest.raises(AssertionError, match="imbalkit"):
        run("Class weights", "0", before="import imbalkit.weights")


def test_a_recipe_finds_nothing_that_another_one_left():
    code = "import sys; assert '{0}' not in sys.modules; import {0}"
    for _ in range(2):
        assert execute(code.format("sklearn"), folder()) == (0, "")
    left = "x = 1; import torch; torch.manual_seed(1); print('out')"
    assert execute(left, folder()) == (0, "")
    assert execute("assert 'x' not in dir() and torch.initial_seed() == 5", folder()) == (0, "")
    status, errors = execute("import os; print(os.name); 1 / 0", folder())
    assert status == 1 and "ZeroDivisionError" in errors


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
        labels = torch.randint(1 if kind == "one class" else 10, (32,), generator=generator)
        logits = torch.randn(32, 10, generator=generator) + 3 * F.one_hot(labels, 10)
        if kind == "collapsed":
            logits[:, 4] += 20
        loss = F.cross_entropy(logits, labels)
        yield logits, labels, loss * float("nan") if kind == "not finite" else loss
"""


KINDS = {"healthy": "", "collapsed": "are class 4", "not finite": "not finite", "one class": ""}


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
    """Frequent images stay, rare ones change as often as with `PerClass`."""
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
    counts = counts_of(project)
    package = PerClass(1 - counts / counts.max(), [lambda x, y, generator: (x + 1, y)])
    for share, c in zip(got, (0, 3, 9), strict=True):
        y = torch.full((2000,), c)
        ours, _ = package(torch.zeros(2000, 1, 1, 1), y, None)
        assert share == pytest.approx(ours.mean().item(), abs=0.08)
    assert got[0] == 0


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
@pytest.mark.parametrize("name", ["Weighted cross-entropy", "Deferred re-weighting"])
def test_weights_are_not_made_for_a_missing_class(name):
    before = "import my_project\nmy_project.train_set.targets = [0, 0, 2]"
    with pytest.raises(AssertionError, match="a class has no image"):
        run(name, "0", before=before)


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
        "([tau_normalized(model, t).fc.state_dict() for t in (0, 0.7, 1.5)], model.state_dict())"
    )
    got, unchanged = run("Tau-normalisation", result, before=STAGE_1)
    model = project.make_model()
    for state, tau in zip(got, (0, 0.7, 1.5), strict=True):
        assert_same_weights(state, stages.tau_normalized(model.fc, tau), 1e-6)
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


MIXED = """
images, labels = torch.rand(200, 3, 4, 4), torch.randint(10, (200,))
torch.manual_seed(1)
mixed, soft = remix(images, labels)
"""


@executed
@pytest.mark.parametrize("tau", ["0.5", "0.0"])
def test_mixup_and_remix(project, tau):
    images, labels, mixed, soft, weights = run(
        "Mixup and Remix",
        "(images, labels, mixed, soft, model.state_dict())",
        after=MIXED,
        edit=("3.0, 0.5", f"3.0, {tau}"),
    )
    torch.manual_seed(1)
    partner, share = torch.randperm(200), torch.distributions.Beta(1.0, 1.0).sample((200,))
    torch.testing.assert_close(mixed, torch.lerp(images[partner], images, share.view(-1, 1, 1, 1)))
    counts = counts_of(project)
    package = Remix(counts) if tau == "0.5" else Mixup(10)
    own = package.label_share(share, labels, labels[partner])[:, None]
    wanted = torch.lerp(F.one_hot(labels[partner], 10).float(), F.one_hot(labels, 10).float(), own)
    torch.testing.assert_close(soft, wanted)
    assert all(value.isfinite().all() for value in weights.values())


PASTED = """
black, targets = torch.zeros(2000, 3, 16, 12), torch.zeros(2000, dtype=torch.int64)
other_labels = torch.randint(1, 10, (2000,))
others = other_labels.view(-1, 1, 1, 1).expand(-1, 3, 16, 12).float()
mixed, soft = paste(black, targets, others, other_labels, 0.5)
drawn = torch.cat([y for _ in range(20) for _, y in foregrounds])
"""


@executed
def test_pasting_rare_images(project):
    mixed, soft, other_labels, drawn = run(
        "Pasting rare images", "(mixed, soft, other_labels, drawn)", after=PASTED
    )
    box = mixed[:, 0] > 0
    rectangle = box.any(2)[:, :, None] & box.any(1)[:, None, :]
    assert box.equal(rectangle)
    area = box.float().mean((1, 2))
    pasted = soft.gather(1, other_labels[:, None]).squeeze(1)
    torch.testing.assert_close(pasted, area)
    torch.testing.assert_close(soft.sum(1), torch.ones(2000))
    # The areas and the classes are those of the package.
    labels = torch.as_tensor(project.train_set.targets)
    images = labels[:, None, None, None].expand(-1, 16, 12, 3).to(torch.uint8) + 1
    image_set = ImageSet(images.contiguous(), labels, tuple("abcdefghij"), "digits")
    package = PasteRare(image_set, power=0, device=torch.device("cpu"))
    black = torch.zeros(6000, 3, 16, 12, dtype=torch.uint8)
    ours, _ = package(black, torch.zeros(6000, dtype=torch.int64), None)
    top = ours.flatten(1).amax(1).long()
    assert area.mean() == pytest.approx((ours[:, 0] > 0).float().mean().item(), abs=0.02)
    ours_share = torch.bincount(top[top > 0] - 1, minlength=10) / (top > 0).sum()
    theirs = torch.bincount(drawn, minlength=10) / len(drawn)
    torch.testing.assert_close(theirs, ours_share, atol=0.03, rtol=0)


@executed
def test_ldam(project):
    # At other scales, 16 too, roundings differ and add up over the epochs; the next test has those.
    got = run("LDAM", "model.state_dict()", edit=("scale=10.0", "scale=32.0"))
    model = project.make_model()
    model.fc = models.CosineClassifier(model.fc.in_features, 10)
    counts = counts_of(project)
    loader = DataLoader(project.train_set, batch_size=64, shuffle=True)
    stages.deferred(
        model,
        loader,
        loader,
        10,
        8,
        loss_fn=losses.LDAMLoss(counts, scale=32),
        late_loss_fn=losses.LDAMLoss(counts, scale=32, weight=weights.balanced(counts)),
        optimizer=momentum(model.parameters()),
        schedule=constant,
        show_progress=False,
    )
    assert_same_weights(got, model)


@executed
@pytest.mark.parametrize("scale", [30.0, 5.0])
def test_ldam_is_the_packages_loss(project, scale):
    cosines, targets = torch.rand(12, 10) * 2 - 1, torch.arange(12) % 10
    after = f"""
data = torch.load({str(saved({"x": cosines, "y": targets}))!r})
with torch.no_grad():
    top = model.eval()(torch.stack([train_set[i][0] for i in range(20)]).to(device)).abs().max()
"""
    result = f"([ldam({scale} * data['x'], data['y'], w) for w in (None, weight)], top)"
    edit = ("scale=10.0", f"scale={scale}")
    got, largest_logit = run("LDAM", result, after=after, edit=edit)
    counts = counts_of(project)
    for loss, weight in zip(got, (None, weights.balanced(counts)), strict=True):
        package = losses.LDAMLoss(counts, scale=scale, weight=weight)
        torch.testing.assert_close(loss, package(cosines, targets))
    assert scale / 4 < largest_logit <= scale  # logits, and not cosines


@executed
def test_another_mix_of_classes(project):
    logits = 3 * torch.randn(400, 10)
    after = f"""
logits_of_its_own_cell, estimate_of_its_own_cell = logits, shares
x = torch.load({str(saved(logits))!r})
mix = torch.arange(1, 11) / 55
"""
    result = """(adjusted(x, mix), estimated(x), logits_of_its_own_cell,
    estimate_of_its_own_cell, predictions)"""
    adjusted, estimated, own_logits, own_shares, predictions = run(
        "Another mix of classes", result, after=after
    )
    counts = counts_of(project)
    torch.testing.assert_close(
        adjusted, priors.adjust_logits(logits, counts, torch.arange(1, 11)), check_dtype=False
    )
    for got, from_logits in ((estimated, logits), (own_shares, own_logits)):
        wanted = priors.estimate_prior(from_logits, counts)
        torch.testing.assert_close(got.float(), wanted, atol=2e-3, rtol=0)
    wanted = priors.adjust_logits(own_logits, counts, own_shares).argmax(1)
    assert torch.equal(predictions, wanted)


class Changed:
    """The batches of a loader, each changed by a function."""

    def __init__(self, loader, change):
        self.loader, self.change = loader, change

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        return (self.change(*batch) for batch in self.loader)


@executed
def test_rotation_pretraining(project):
    state = run("Rotation pretraining", "{**model.state_dict(), 'out': model.fc.out_features}")
    assert state.pop("out") == 10
    stand_in = project.make_model()
    stand_in.fc = nn.Linear(512, 4)
    turns = selfsupervised.QuarterTurns()
    loader = DataLoader(project.train_set, batch_size=64, shuffle=True)
    fit(
        stand_in,
        Changed(loader, lambda images, targets: turns(images, targets, None)),
        5,
        optimizer=momentum(stand_in.parameters()),
        schedule=constant,
        show_progress=False,
    )
    layers = {k: v for k, v in state.items() if k.startswith("layers")}
    assert_same_weights({k.removeprefix("layers."): v for k, v in layers.items()}, stand_in.layers)


@executed
def test_contrastive_pretraining(project):
    views = ("augment(image), augment(image)", "image, image.flip(2)")
    state = run("Contrastive pretraining", "model.layers.state_dict()", edit=views)
    stand_in = project.make_model()
    head = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 64))
    with torch.random.fork_rng():
        model = selfsupervised.WithProjection(stand_in.layers, 512, 10)
    model.projection = head
    loader = DataLoader(project.train_set, batch_size=64, shuffle=True)
    fit(
        model,
        Changed(loader, lambda x, y: (torch.cat([x, x.flip(3)]), torch.cat([y, y]))),
        5,
        loss_fn=selfsupervised.ContrastiveLoss(temperature=0.5),
        optimizer=momentum(model.parameters()),
        schedule=constant,
        show_progress=False,
    )
    assert_same_weights(state, stand_in.layers)


@executed
def test_the_views_and_the_loss_of_contrastive_pretraining():
    z = torch.randn(20, 8)
    after = f"""
z = torch.load({str(saved(z))!r})
losses = [nt_xent(z, t) for t in (0.1, 0.5)]
one, other = TwoViews()[0]
"""
    result = "(losses, one, other, model.fc.out_features)"
    losses, one, other, classes = run("Contrastive pretraining", result, after=after)
    for got, temperature in zip(losses, (0.1, 0.5), strict=True):
        torch.testing.assert_close(got, selfsupervised.nt_xent(z, temperature))
    assert one.shape == other.shape == (3, 16, 16) and not one.equal(other)
    assert classes == 10


COPIES = """
import my_project
generator = torch.Generator().manual_seed(0)
pixels = torch.randint(0, 256, (60, 3, 4, 4), dtype=torch.uint8, generator=generator)
pixels = pixels.repeat_interleave(4, 2).repeat_interleave(4, 3)
targets = [0] * 30 + [1] * 18 + [2] * 12
for one, other in ((0, 1), (1, 2), (5, 29), (30, 31), (7, 59)):
    pixels[other] = pixels[one]
    pixels[other, :, 3, 3] ^= 31  # a copy of a copy is a little further away
my_project.train_set = my_project.Digits(pixels / 255, targets)
"""


@executed
def test_copies_and_a_grouped_split():
    result = "dict(pixels=pixels, groups=groups, conflicts=conflicts, train=train, val=val)"
    got = run("Copies and a grouped split", result, before=COPIES)
    labels = torch.tensor([0] * 30 + [1] * 18 + [2] * 12)
    found = find_duplicates(got["pixels"].permute(0, 2, 3, 1).contiguous())
    groups = got["groups"]
    same, package = (g[:, None] == g for g in (groups, found.groups))
    assert same.equal(package) and len(groups.unique()) == 55
    conflicts = label_conflicts(labels, found.groups).tolist()
    assert sorted(got["conflicts"].tolist()) == sorted(conflicts) == [7, 59]
    assert sorted(got["train"] + got["val"] + conflicts) == list(range(60))
    assert not torch.isin(groups[got["val"]], groups[got["train"]]).any()
    assert torch.bincount(labels[got["val"]]).min() >= 1


@executed
def test_copies_are_found_without_all_pairs_in_memory():
    before = """
import my_project
pixels = torch.rand(700, 3, 8, 8)
pixels[699] = pixels[0]
my_project.train_set = my_project.Digits(pixels, [i % 3 for i in range(700)])
cdist, sizes = torch.cdist, []
def measured(*args, **options):
    sizes.append(cdist(*args, **options).numel())
    return cdist(*args, **options)
torch.cdist = measured
"""
    largest, groups = run("Copies and a grouped split", "(max(sizes), groups)", before=before)
    assert largest <= 256 * 700
    assert groups[699] == groups[0] == 0 and len(groups.unique()) == 699


@executed
def test_groups_of_ones_own_may_mix_classes():
    own = ("groups = copies", "groups = 1000 + torch.arange(60) // 6 * 7")
    result = "dict(groups=groups, conflicts=conflicts, train=train, val=val)"
    got = run("Copies and a grouped split", result, before=COPIES, edit=own)
    assert sorted(got["conflicts"].tolist()) == [7, 59]  # the copies alone
    assert len(got["train"] + got["val"]) == 58
    assert not torch.isin(got["groups"][got["val"]], got["groups"][got["train"]]).any()


@executed
@pytest.mark.parametrize("costs", [(20, 1), (3, 2)])
def test_calibration_and_a_cost_threshold(project, costs):
    after = """
after_logits = logits_of(test_set)
"""
    result = "dict(z=logits, t=temperature, limit=threshold, test=after_logits, decided=decided)"
    edit = ("costly, miss, false_alarm = 9, 20, 1", f"costly, miss, false_alarm = 9, *{costs}")
    got = run("Calibration and a cost threshold", result, after=after, edit=edit)
    assert got["t"] == pytest.approx(fit_temperature(got["z"], project.val_set.targets), rel=1e-3)
    assert got["t"] != pytest.approx(1, abs=0.02)
    assert got["limit"] == pytest.approx(cost_threshold(*costs))
    probabilities = (got["test"] / got["t"]).softmax(1)
    assert got["decided"].equal(decide(probabilities, 9, got["limit"]))
    assert not got["decided"].equal(probabilities.argmax(1))


@executed
def test_one_file_for_use(project):
    before = f"import tempfile; tempfile.tempdir = {os.environ['RECIPE_FOLDER']!r}"
    after = """
loaded["temperature"], mean, std = 2.0, mean + 0.25, std * 0.5
names, probabilities = predict(torch.stack([x for x, _ in val_set]))
try:
    predict(torch.zeros(1, 3, 8, 8))
except ValueError as error:
    refused = str(error)
"""
    result = "(loaded['weights'], names, probabilities, refused)"
    weights, names, probabilities, refused = run(
        "One file for use", result, before=before, after=after
    )
    assert "resize them to 16" in refused
    model = project.make_model()
    model.load_state_dict(weights)
    classes = [f"digit {c}" for c in range(10)]
    ours = Predictor(model, classes, [0.25] * 3, [0.5] * 3, 16, temperature=2.0)
    images = torch.stack([x for x, _ in project.val_set])
    with torch.inference_mode():
        # The package takes stored pixels, the recipe floats: undo the division by 255.
        want = ours((255 * images).permute(0, 2, 3, 1)).max(1)
    assert names == [classes[c] for c in want.indices]
    np.testing.assert_allclose(probabilities, want.values, rtol=1e-4)


@executed
def test_combination(project):
    got = run("Combination", "model.state_dict()", edit=("0.2, 10", "0.2, 2"))
    model, loader = project.make_model(), DataLoader(project.train_set, 64, shuffle=True)
    beta = torch.distributions.Beta(0.2, 0.2)

    def mixed_with_the_same_draws(images, labels):
        partner, share = torch.randperm(len(images)), beta.sample((len(images),))[:, None]
        soft = F.one_hot(labels, 10).float()
        pixels = torch.lerp(images[partner], images, share[:, :, None, None])
        return pixels, torch.lerp(soft[partner], soft, share)

    fit(
        model,
        Changed(loader, mixed_with_the_same_draws),
        2,
        loss_fn=losses.LogitAdjustedLoss(counts_of(project)),
        optimizer=momentum(model.parameters()),
        schedule=cosine(2 * len(loader)),
        show_progress=False,
    )
    assert_same_weights(got, model)


@executed
def test_mixing_of_the_combination(project):
    images, labels = torch.rand(64, 3, 16, 16), torch.arange(64) % 10
    after = f"""
data = torch.load({str(saved({"x": images, "y": labels}))!r})
torch.manual_seed(3)
mixed, soft = mixup(data["x"], data["y"])
torch.manual_seed(3)
partner, share = torch.randperm(64), beta.sample((64,))
scores = torch.randn(64, 10)
loss = F.cross_entropy(scores + log_prior, soft)
"""
    edit = ("alpha, epochs = 0.2, 10", "alpha, epochs = 0.2, 1")
    result = "(mixed, soft, partner, share, scores, loss)"
    mixed, soft, partner, share, scores, loss = run("Combination", result, after=after, edit=edit)
    own = Mixup(10, alpha=0.2).label_share(share, labels, labels[partner])
    torch.testing.assert_close(
        mixed, own.view(-1, 1, 1, 1) * images + (1 - own).view(-1, 1, 1, 1) * images[partner]
    )
    eye = torch.eye(10)
    torch.testing.assert_close(
        soft, own[:, None] * eye[labels] + (1 - own)[:, None] * eye[labels[partner]]
    )
    assert 0.05 < share.std() and (soft.sum(1) - 1).abs().max() < 1e-5
    package = losses.LogitAdjustedLoss(counts_of(project))
    torch.testing.assert_close(loss, package(scores, soft))


@executed
def test_ensemble_of_trained_models(project):
    result = "(logits, alone, differ, [m.state_dict() for m in ensemble.members])"
    logits, alone, differ, weights_of = run("Ensemble of trained models", result)
    members = [project.make_model() for _ in weights_of]
    for member, state in zip(members, weights_of, strict=True):
        member.load_state_dict(state)
    images = torch.stack([x for x, _ in project.test_set])
    with torch.inference_mode():
        ours = Ensemble(members).eval()(images)
    torch.testing.assert_close(logits, ours, rtol=1e-4, atol=1e-4)
    assert differ == pytest.approx(disagreement(alone), abs=1e-6) and differ > 0


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
            schedule=stages.schedule_part(schedule, begin / epochs, end / epochs),
            val_batches=DataLoader(Subset(project.train_set, val), batch_size=256),
            monitor=lambda confusion, scores=scores: next(scores),  # so the last epoch is kept
            show_progress=False,
        )
    assert_same_weights(state, model)
