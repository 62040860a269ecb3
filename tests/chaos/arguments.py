"""A public function is called with arguments of the right types whose values may be wrong.

Hypothesis draws them: for each argument either what fits, or anything that its type lets in (any
shape, any dtype, NaN, negative, empty, ragged). A function may work, or refuse. Lost: an exception
that is raised in another library, or that is no ValueError, TypeError, IndexError or OSError in one
line; a call that does not end.
"""

import importlib
import inspect
import io
import linecache
import pkgutil
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from torch import nn

import imbalkit
from imbalkit import models
from imbalkit.data import DownloadError, ImageSet
from tests.chaos import Lost

SETTINGS = settings(
    max_examples=15,  # calls in an attempt
    database=None,
    deadline=None,
    print_blob=False,
    report_multiple_bugs=False,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)
ELSEWHERE = {  # what another attack or no wrong argument is about
    "imbalkit.checks", "imbalkit.cli", "imbalkit.course", "imbalkit.data.command",
    "imbalkit.doctor", "imbalkit.lazy", "imbalkit.integrations", "imbalkit.predict",
    "imbalkit.__main__", "imbalkit.optional", "imbalkit.schema",
}  # fmt: skip
# They open connections or train.
NAMES_ELSEWHERE = {"copy_cifar", "download", "fetch_cifar", "find_cifar", "fit_fast"}
OURS = Path(imbalkit.__file__).parent

LABELS = torch.tensor([0, 1, 2, 0, 1, 2])
IMAGES = torch.arange(288).remainder(251).to(torch.uint8).reshape(6, 4, 4, 3)
LOGITS = torch.linspace(-2, 2, 18).reshape(6, 3).sin()
FITTING: dict[str, Callable[[], Any]] = {  # an argument of this name, made anew for each call
    "batch_size": lambda: 2,
    "calibrations": lambda: {"x": imbalkit.metrics.calibration(LOGITS, LABELS)},
    "classes": lambda: ("a", "b", "c"),
    "classifier": lambda: nn.Linear(4, 3),
    "confusion": lambda: torch.eye(3).long() * 4,
    "counts": lambda: [30, 20, 10],
    "features": nn.Flatten,
    "generator": torch.Generator,
    "image_set": lambda: ImageSet(IMAGES.clone(), LABELS.clone(), ("a", "b", "c"), "noise"),
    "images": IMAGES.clone,
    "indices": lambda: (0, 1, 3),
    "labels": LABELS.clone,
    "logits": LOGITS.clone,
    "losses": lambda: torch.rand(6),
    "matrix": lambda: torch.rand(3, 3),
    "mean": lambda: [0.5] * 3,
    "members": lambda: [models.plain_cnn(3, 2)] * 2,
    "model": lambda: models.plain_cnn(3, 2),
    "num_classes": lambda: 3,
    "positives": lambda: [3, 2],
    "predictions": LABELS.clone,
    "probabilities": lambda: LOGITS.softmax(1),
    "projections": lambda: torch.rand(6, 4),
    "ratio": lambda: 3.0,
    "recall": lambda: [0.5, 0.2, 1.0],
    "scale": lambda: torch.ones(3),
    "series": lambda: {"x": [0.5, 0.2, 0.1]},
    "share": lambda: [0.5, 0.3, 0.2],
    "shares": lambda: [0.5, 0.3, 0.2],
    "size": lambda: 4,
    "std": lambda: [0.25] * 3,
    "targets": LABELS.clone,
    "train": lambda: FITTING["image_set"](),
    "train_counts": lambda: [30, 20, 10],
    "train_prior": lambda: [0.5, 0.3, 0.2],
    "turns": lambda: torch.tensor([0, 1, 2, 3, 0, 1]),
    "width": lambda: 4,
}

SHAPES = [(), (0,), (1,), (3,), (6,), (3, 2), (2, 3), (0, 3), (6, 3), (6, 1), (6, 4, 4, 3),
          (6, 3, 4, 4), (0, 4, 4, 3), (1, 3, 4, 4)]  # fmt: skip
DTYPES = [torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool, torch.float16,
          torch.bfloat16, torch.complex64, torch.int32, torch.int8]  # fmt: skip
WHOLE = st.sampled_from([-3, -1, 0, 1, 2, 3, 5, 9, 100])
NAN, INF = float("nan"), float("inf")
NUMBER = WHOLE | st.sampled_from([-1.0, 0.5, 1e-30, 1e30, NAN, INF, -INF])
TEXT = st.sampled_from(["", "a", "x" * 50, "nowhere", "\x1b[2J"])
CLASSES = st.sampled_from([(), ("a",), ("a", "b", "c"), ("a", "a", "a"), ("<b>", "$x^", "c")])


@st.composite
def tensors(draw: Any) -> torch.Tensor:
    """Any small tensor."""
    shape, dtype = draw(st.sampled_from(SHAPES)), draw(st.sampled_from(DTYPES))
    fill = draw(st.none() | NUMBER)
    n = int(np.prod(shape))
    values = torch.arange(n).double() if fill is None else torch.full((n,), float(fill)).double()
    return values.reshape(shape).to(dtype)


@st.composite
def arrays(draw: Any) -> Any:
    """The same as a tensor, an array of numpy or a list; or what is no array at all."""
    value = draw(tensors())
    kind = draw(st.sampled_from(["tensor", "numpy", "list", "odd"]))
    if kind == "odd":
        return draw(st.sampled_from([["a", "b"], [[1, 2], [3]], None, [], "abc", [None], [1, "x"]]))
    if kind == "tensor" or value.dtype == torch.bfloat16:
        return value
    return value.numpy() if kind == "numpy" else value.tolist()


def strategy_of(annotation: Any) -> st.SearchStrategy | None:
    """Whatever this type lets in; None for a type that has to fit."""
    plain = {int: WHOLE, float: NUMBER, str: TEXT, bool: st.booleans(), torch.Tensor: tensors()}
    if annotation in plain:
        return plain[annotation]
    text = str(annotation)
    if "Mapping" in text and "_SupportsArray" not in text:
        return None
    for part, strategy in {
        "Mapping[str": st.dictionaries(st.sampled_from(["x", "y"]), arrays()),
        "_SupportsArray": arrays(),
        "Sequence[str]": CLASSES,
        "tuple[str": CLASSES,
        "[float]": st.lists(NUMBER, max_size=4),
        "[int]": st.lists(NUMBER, max_size=4),
        "[torch.Tensor]": st.lists(tensors(), max_size=3),
        "float | None": st.none() | NUMBER,
        "int | None": st.none() | WHOLE,
        "str | None": st.none() | TEXT,
    }.items():
        if part in text:
            return strategy
    return None


@cache
def public_functions() -> dict[str, Callable]:
    """What is attacked, by its name."""
    return dict(_public_functions())


def _public_functions() -> Iterator[tuple[str, Callable]]:
    for found in pkgutil.walk_packages(imbalkit.__path__, "imbalkit."):
        if found.name.startswith(tuple(ELSEWHERE)):
            continue
        module = importlib.import_module(found.name)
        for name in getattr(module, "__all__", []):
            one = getattr(module, name)
            here = callable(one) and getattr(one, "__module__", "") == found.name
            is_error = inspect.isclass(one) and issubclass(one, Exception)
            if here and not is_error and name not in NAMES_ELSEWHERE and can_be_called(one):
                yield f"{found.name}.{name}", one


def parameters_of(function: Callable) -> list[inspect.Parameter]:
    """Those that have a name of their own."""
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    found = inspect.signature(function).parameters.values()
    return [one for one in found if one.kind not in several]


def can_be_called(function: Callable) -> bool:
    """Is there a value for each argument that it must have?"""
    return all(
        one.default is not one.empty
        or one.name in FITTING
        or strategy_of(one.annotation) is not None
        for one in parameters_of(function)
    )


def attack(random: Random, folder: Path) -> None:
    """Call one function some times."""
    matplotlib.use("Agg")
    name = random.choice(sorted(public_functions()))
    function = public_functions()[name]

    @seed(random.randrange(2**32))
    @SETTINGS
    @given(st.data())
    def call_it(data: Any) -> None:
        call(name, function, {one.name: value for one, value in drawn(data, function)})

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.chdir(folder)
        warnings.simplefilter("ignore")
        call_it()


def fits(one: inspect.Parameter) -> bool:
    """Is the fitting value of this name of the type that the argument has here?"""
    if one.name not in FITTING:
        return False
    if one.annotation in (int, float):
        return isinstance(FITTING[one.name](), int | float)
    return one.name != "shares" or "Mapping" not in str(one.annotation)


def drawn(data: Any, function: Callable) -> Iterator[tuple[inspect.Parameter, Any]]:
    """The arguments of a call; those with a default may be missing."""
    for one in parameters_of(function):
        if one.default is not one.empty and data.draw(st.booleans()):
            continue
        strategy = strategy_of(one.annotation)
        if fits(one) and (strategy is None or data.draw(st.booleans())):
            yield one, FITTING[one.name]()
        elif strategy is not None:
            yield one, data.draw(strategy)


def call(name: str, function: Callable, arguments: dict[str, Any]) -> None:
    """Call it, go once through what it gives, and raise Lost for an error in others' words."""
    try:
        with redirect_stdout(io.StringIO()):
            result = function(**arguments)
            if isinstance(result, torch.utils.data.Sampler | imbalkit.data.Batches):
                list(result)
    except Lost:  # the clock
        raise
    except Exception as error:
        if not is_refusal(error):
            ours = [at for at in traceback.extract_tb(error.__traceback__) if is_ours(at.filename)]
            at = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "no code of ours"
            shown = ", ".join(f"{key}={describe(value)}" for key, value in arguments.items())
            first = (str(error).splitlines() or [""])[0]
            raise Lost(f"{name}({shown}): {type(error).__name__} at {at}: {first[:120]}") from None
    finally:
        plt.close("all")


def is_refusal(error: Exception) -> bool:
    """Is it raised by a line of ours that raises, in one line of text, as an error of its kind?"""
    at = traceback.extract_tb(error.__traceback__)[-1]
    if not is_ours(at.filename):  # Python itself says so of an argument that is no argument
        return isinstance(error, TypeError) and at.name == "call"
    statement = "".join(
        linecache.getline(at.filename, line) for line in range(at.lineno, (at.end_lineno or 0) + 1)
    )
    kinds = (ValueError, TypeError, IndexError, OSError, DownloadError)
    return (
        isinstance(error, kinds)
        and statement.strip().startswith("raise ")
        and "\n" not in str(error)
    )


def is_ours(file: str) -> bool:
    return Path(file).is_relative_to(OURS)


def describe(value: Any) -> str:
    """Short, and enough to see what was wrong with it."""
    if isinstance(value, torch.Tensor | np.ndarray):
        plain = value.float() if value.dtype == torch.bfloat16 else value
        text = np.array2string(np.asarray(plain), threshold=6, edgeitems=2)
        return f"{value.dtype}{tuple(value.shape)}{' '.join(text.split())[:60]}"
    return repr(value)[:80]
