"""The examples of the docstrings run, and each public name has one."""

import doctest
import importlib
import inspect
import pkgutil

import matplotlib.pyplot as plt
import pytest

import imbalkit

OPTIONS = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
MODULES = [
    module.name
    for module in pkgutil.walk_packages(imbalkit.__path__, "imbalkit.")
    if "exercises" not in module.name and not module.name.endswith("__main__")
]
# Other people's trainers, which no extra installs.
NEEDS = {
    "imbalkit.integrations.huggingface": "transformers",
    "imbalkit.integrations.lightning": "lightning",
}
# Not here: the lessons' set-up and exercises, and the parts of a room, such as the doctor's.
COMPLETE = [
    "imbalkit.augmentation",
    "imbalkit.checkpoint",
    "imbalkit.checks",
    "imbalkit.cli",
    "imbalkit.course.advice",
    "imbalkit.course.comparisons",
    "imbalkit.course.example",
    "imbalkit.data",
    "imbalkit.data.batches",
    "imbalkit.data.download",
    "imbalkit.data.duplicates",
    "imbalkit.data.folder",
    "imbalkit.data.images",
    "imbalkit.data.longtail",
    "imbalkit.data.picture",
    "imbalkit.data.sources",
    "imbalkit.data.standard",
    "imbalkit.data.workplace",
    "imbalkit.decisions",
    "imbalkit.device",
    "imbalkit.doctor",
    "imbalkit.doctor.calling",
    "imbalkit.doctor.checks",
    "imbalkit.doctor.report",
    "imbalkit.ensembles",
    "imbalkit.fast",
    "imbalkit.files",
    "imbalkit.history",
    "imbalkit.inference",
    "imbalkit.intake",
    "imbalkit.lazy",
    "imbalkit.losses",
    "imbalkit.metrics",
    "imbalkit.models",
    "imbalkit.monitor",
    "imbalkit.multitask",
    "imbalkit.optional",
    "imbalkit.plots",
    "imbalkit.predict",
    "imbalkit.preflight",
    "imbalkit.priors",
    "imbalkit.progress",
    "imbalkit.randomness",
    "imbalkit.sampling",
    "imbalkit.schema",
    "imbalkit.sealed",
    "imbalkit.selfsupervised",
    "imbalkit.stages",
    "imbalkit.tables",
    "imbalkit.tally",
    "imbalkit.texts",
    "imbalkit.training",
    "imbalkit.weights",
]


@pytest.fixture(autouse=True)
def _without_a_screen():
    plt.switch_backend("Agg")
    yield
    plt.close("all")


def skip_without_its_library(name):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name], reason=f"needs {NEEDS[name]}")


IGNORED = pytest.mark.filterwarnings("ignore")  # of other people's trainers


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=IGNORED) if n in NEEDS else n for n in MODULES]
)
def test_examples_run(name):
    skip_without_its_library(name)
    result = doctest.testmod(importlib.import_module(name), optionflags=OPTIONS)
    assert result.failed == 0, "the examples that failed stand above"


@pytest.mark.parametrize("name", [*COMPLETE, *NEEDS])
def test_each_public_name_has_an_example(name):
    skip_without_its_library(name)
    module = importlib.import_module(name)
    public = {each: getattr(module, each) for each in module.__all__}
    documented = {
        each: value
        for each, value in public.items()
        if inspect.isclass(value) or inspect.isfunction(value)
    }
    assert documented
    assert [each for each, value in documented.items() if ">>>" not in (value.__doc__ or "")] == []
