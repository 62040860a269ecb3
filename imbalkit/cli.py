"""The command line: ``imbalkit COMMAND``, also as ``python -m imbalkit COMMAND``.

The module of a command is loaded when it is asked for.
"""

import argparse
import platform
import re
import sys
import time
from importlib import import_module, metadata
from typing import TYPE_CHECKING

import imbalkit

if TYPE_CHECKING:
    import torch

COMMANDS = {  # the module and the function of each command, and what it does
    "diagnose": ("imbalkit.doctor.command", "main", "say what is wrong with a PyTorch classifier"),
    "predict": ("imbalkit.predict", "main", "name the images of a folder with a saved model"),
    "data": ("imbalkit.data.command", "main", "get CIFAR-10 or CIFAR-100, or show what is there"),
    "check": ("imbalkit.cli", "check", "say what this computer has and lacks for imbalkit"),
}
EXTRAS = ("data", "plots", "learn")  # what may be installed beside torch and numpy
READY, LACKING, WRONG_CALL = 0, 1, 2
STEPS, BATCH = 20, 128


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit status.

    Args:
        arguments: the command and what it is given; those of the process unless given.

    Example:
        >>> main(["data", "--help"])  # what the command line would show
        Traceback (most recent call last):
        SystemExit: 0
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(
        prog="imbalkit",
        description="Image classifiers on imbalanced data: what is wrong, and what helps.",
        epilog="'imbalkit COMMAND --help' says more about one of them. Exit status 2: wrong call.",
    )
    parser.add_argument("--version", action="version", version=f"imbalkit {imbalkit.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (_, _, what) in COMMANDS.items():
        commands.add_parser(name, help=what, add_help=False)
    wanted = parser.parse_args(arguments[:1])
    module, function, _ = COMMANDS[wanted.command]
    try:
        return getattr(import_module(module), function)(arguments[1:])
    except ModuleNotFoundError as error:
        if not isinstance(error.__cause__, ModuleNotFoundError):
            raise  # not one of `optional`, whose sentence says what to install
        print(f"imbalkit {wanted.command}: {error}", file=sys.stderr)
        return WRONG_CALL


def check(arguments: list[str] | None = None) -> int:
    """Print a line for each thing that imbalkit needs or can use, and return the exit status.

    Args:
        arguments: those of the command line, such as ``["--help"]``.

    Example:
        >>> check([])
        imbalkit  ...
        0
    """
    parser = argparse.ArgumentParser(
        prog="imbalkit check",
        description="Say what this computer has and lacks for imbalkit, and how fast it trains.",
        epilog="Exit status: 0 imbalkit works here, 1 it does not.",
    )
    parser.parse_args(arguments)
    print(f"imbalkit  {imbalkit.__version__}, Python {platform.python_version()}")
    try:
        import numpy
        import torch
    except (ImportError, OSError) as error:  # OSError: a library of torch's own is broken
        print(f"torch     MISSING: {error}; install torch and numpy")
        return LACKING
    from imbalkit.device import describe, pick_device

    device = pick_device()
    print(f"torch     {torch.__version__}, numpy {numpy.__version__}")
    print(f"device    {describe(device)}; about {images_per_second(device):,.0f} images a second")
    for extra in EXTRAS:
        missing = missing_libraries(extra)
        advice = f'lacks {", ".join(missing)}; pip install "imbalkit[{extra}]"'
        print(f"{f'[{extra}]':<9} {advice if missing else 'is installed'}")
    return READY


def missing_libraries(extra: str) -> list[str]:
    """What `extra` of imbalkit asks for and this Python lacks."""
    missing = []
    for line in metadata.requires("imbalkit") or []:
        name = re.split(r"[^\w.-]", line)[0]
        if re.search(rf"""extra == ['"]{extra}['"]""", line) and name != "imbalkit":
            try:
                metadata.version(name)
            except metadata.PackageNotFoundError:
                missing.append(name)
    return missing


def images_per_second(device: "torch.device") -> float:
    """How fast this computer trains the lessons' small network on images of 32 x 32 pixels."""
    import torch

    from imbalkit.device import synchronize, to_device
    from imbalkit.models import small_net
    from imbalkit.training import fit

    images = to_device(torch.randn(BATCH, 3, 32, 32), device)
    batches = [(images, torch.arange(BATCH, device=device) % 10)] * STEPS
    model = small_net()
    fit(model, batches[:2], 1, show_progress=False)  # the first steps are slow
    begin = time.perf_counter()
    fit(model, batches, 1, show_progress=False)
    synchronize(device)
    return STEPS * BATCH / (time.perf_counter() - begin)


__all__ = ["check", "main"]
