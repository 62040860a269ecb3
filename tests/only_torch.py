"""Use the package where nothing but torch, numpy and what they need can be imported.

``python tests/only_torch.py`` prints, as JSON, what each use ended in: null, or an error. With
``--strict`` an error is also exit code 1.
`test_package.py` runs it on the source, and `test_wheel.py` on the installed wheel.
"""

import contextlib
import io
import json
import re
import sys
from importlib import metadata


def plain(name):
    """The name of a distribution as all files agree to write it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(name, seen):
    """`seen`, and the distribution `name` with all that it needs without extras."""
    try:
        lines = [] if name in seen else metadata.requires(name) or []
    except metadata.PackageNotFoundError:  # for another system
        return seen
    seen.add(name)
    for line in lines:
        if "extra ==" not in line:
            needed(plain(re.match(r"[\w.-]+", line).group()), seen)
    return seen


def hide_other_libraries():
    """Let an import of any library that torch and numpy do not need fail, as where it is missing.

    None in `sys.modules` is also what `find_spec` takes for a missing module, by which torch asks
    for libraries that it can use.
    """
    allowed = needed("torch", needed("numpy", set()))
    for name, owners in metadata.packages_distributions().items():
        if name not in sys.stdlib_module_names and name != "imbalkit":
            if not {plain(owner) for owner in owners} & allowed:
                sys.modules[name] = None


hide_other_libraries()

import torch  # noqa: E402
from torch import nn  # noqa: E402

import imbalkit  # noqa: E402

COUNTS = [30, 20, 10]
LABELS = torch.arange(60) % 3
IMAGES = torch.randn(60, 3, 8, 8) + LABELS[:, None, None, None]
BATCHES = list(zip(IMAGES.split(20), LABELS.split(20), strict=True))
LIBRARIES = ("pandas", "scipy", "sklearn", "matplotlib", "seaborn", "PIL", "torchvision", "IPython")
TRAINERS = ("transformers", "lightning", "pytorch_lightning")


def network():
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 3))


def image_set():
    pixels = torch.randint(256, (60, 8, 8, 3), dtype=torch.uint8)
    return imbalkit.data.ImageSet(pixels, LABELS, ("a", "b", "c"), "noise")


def gate():
    for name in LIBRARIES:
        try:
            __import__(name)
        except ModuleNotFoundError:
            continue
        raise AssertionError(f"{name} can be imported")


def star_import():
    names = {}
    exec("from imbalkit import *", names)
    assert set(imbalkit.__all__) <= set(names)


def losses():
    logits = torch.randn(60, 3, requires_grad=True)
    for loss in (
        imbalkit.WeightedCrossEntropy(imbalkit.balanced_weights(COUNTS)),
        imbalkit.FocalLoss(),
        imbalkit.LDAMLoss(COUNTS),
        imbalkit.LogitAdjustedLoss(COUNTS),
    ):
        loss(logits, LABELS).backward()


def further_losses():
    logits = torch.randn(60, 3, requires_grad=True)
    imbalkit.BalancedSoftmaxLoss(COUNTS)(logits, LABELS).backward()
    for loss in (imbalkit.SigmoidFocalLoss(), imbalkit.AsymmetricLoss()):
        loss(logits, nn.functional.one_hot(LABELS, 3).float()).backward()


def weights():
    assert len(imbalkit.effective_number_weights(COUNTS)) == 3
    assert len(imbalkit.square_root_weights(COUNTS)) == 3


def sampling():
    assert len(list(imbalkit.weighted_sampler(LABELS))) == 60


def priors():
    assert imbalkit.adjust_logits(torch.randn(4, 3), COUNTS).shape == (4, 3)


def stages():
    batches = imbalkit.data.Batches(image_set(), 16, mean=[0.5] * 3, std=[0.2] * 3)
    imbalkit.stages.deferred(network(), batches, BATCHES, 2, switch=1, show_progress=False)


def training():
    model = network()
    history = imbalkit.fit(model, BATCHES, 2, val_batches=BATCHES, show_progress=False)
    assert "balanced_accuracy" in str(history.validation[-1]) and str(history)
    imbalkit.training.evaluate(model, BATCHES)


def ensembles():
    assert imbalkit.ensembles.Ensemble([network(), network()]).eval()(IMAGES).shape == (60, 3)


def doctor():
    assert str(imbalkit.diagnose(network(), BATCHES, seconds=2))


def monitor():
    watch, model = imbalkit.CollapseMonitor(), network()
    for images, labels in BATCHES:
        logits = model(images)
        watch(logits, labels, nn.functional.cross_entropy(logits, labels))


def metrics():
    assert str(imbalkit.metrics.summary(imbalkit.metrics.confusion(LABELS, LABELS, 3)))


def decisions():
    assert imbalkit.decisions.fit_temperature(torch.randn(60, 3), LABELS) > 0


def models():
    assert imbalkit.models.small_net(num_classes=3)(torch.randn(4, 3, 32, 32)).shape == (4, 3)


def long_tail():
    few, _ = imbalkit.data.make_long_tail(image_set(), 2)
    assert few.class_counts().tolist() == [20, 14, 10]


def drawing():
    says_what_to_install(lambda: imbalkit.plots.use_style(), "plots")


def callbacks():
    assert imbalkit.integrations.__doc__ and not set(TRAINERS) & set(vars(imbalkit.integrations))
    assert not any(sys.modules.get(name) for name in TRAINERS)
    for name in ("huggingface", "lightning"):
        try:
            __import__(f"imbalkit.integrations.{name}")
        except ModuleNotFoundError as error:
            assert str(error).startswith(f"imbalkit.integrations.{name} needs "), error
        else:
            raise AssertionError(f"{name} did not miss its library")


def lessons():
    says_what_to_install(lambda: imbalkit.course, "learn")


def reading_images():
    says_what_to_install(lambda: imbalkit.data.read_image("image.png", 32), "data")


def command():
    assert imbalkit.cli.main(["check"]) == 0


def help_of_commands():
    for name in imbalkit.cli.COMMANDS:
        told = io.StringIO()
        with contextlib.suppress(SystemExit), contextlib.redirect_stdout(told):
            imbalkit.cli.main([name, "--help"])
        assert told.getvalue().startswith(f"usage: imbalkit {name} "), name


def command_without_its_library():
    told = io.StringIO()
    with contextlib.redirect_stderr(told):
        assert imbalkit.cli.main(["data", "--show"]) == 2
    assert told.getvalue().endswith('run pip install "imbalkit[data]".\n'), told.getvalue()


def says_what_to_install(use, extra):
    """`use` must end in one sentence that names the extra."""
    try:
        use()
    except ImportError as error:
        assert str(error).endswith(f'run pip install "imbalkit[{extra}]".'), error
    else:
        raise AssertionError(f"it did not miss [{extra}]")


USES = (
    gate, star_import, losses, further_losses, weights, sampling, priors, stages, training,
    ensembles, doctor, monitor, metrics, decisions, models, long_tail, drawing, lessons,
    reading_images, callbacks, command, help_of_commands, command_without_its_library,
)  # fmt: skip


def main():
    ends = {}
    for use in USES:
        try:
            use()
            ends[use.__name__] = None
        except Exception as error:
            ends[use.__name__] = f"{type(error).__name__}: {error}"
    print(json.dumps(ends | {"imbalkit": imbalkit.__file__}))
    if "--strict" in sys.argv:
        sys.exit(any(ends.values()))


if __name__ == "__main__":
    main()
