"""Diagnose a classifier from the command line: ``imbalkit diagnose package.module:name``.

The named function takes no arguments and returns a dict of the arguments of `imbalkit.diagnose`,
or a pair of the model and its training batches:

    def to_diagnose():
        return {"model": model, "train_batches": loader, "optimizer": optimizer}
"""

import argparse
import importlib
import json
import sys
import traceback
from collections.abc import Callable
from typing import Any

from imbalkit.doctor import diagnose

OPTIONAL = ("loss_fn", "optimizer", "eval_batches", "forward", "targets", "accumulate")
HEALTHY, FAULTY, WRONG_CALL = 0, 1, 2


def main(arguments: list[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: those of the command line; None for the process's own.

    Returns:
        The exit status: 0 healthy, 1 a fault was found, 2 it could not be diagnosed.
    """
    parser = argparse.ArgumentParser(
        prog="imbalkit diagnose",
        description="Say what is wrong with a PyTorch classifier.",
        epilog="Exit status: 0 healthy, 1 a fault was found, 2 it could not be diagnosed.",
    )
    parser.add_argument(
        "factory",
        help="package.module:function; it returns (model, train_batches) or a dict of the "
        "arguments of imbalkit.diagnose",
    )
    parser.add_argument("--seconds", type=float, default=20, help="time budget (default: 20)")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    options = parser.parse_args(arguments)
    try:
        function = find(options.factory)
        given = arguments_from(function(), options.factory)
        diagnosis = diagnose(**given, seconds=options.seconds)
    except (TypeError, ValueError) as error:
        if not _is_ours(error):
            traceback.print_exc()
        print(f"imbalkit diagnose: {error}", file=sys.stderr)
        return WRONG_CALL
    except Exception:  # of the function's own; status 1 would say that a fault was found
        traceback.print_exc()
        return WRONG_CALL
    print(json.dumps(diagnosis.to_dict(), indent=1) if options.json else diagnosis)
    return HEALTHY if diagnosis.healthy else FAULTY


def _is_ours(error: Exception) -> bool:
    """Was it raised by this package? Then its sentence says all."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return (frame.f_globals.get("__package__") or "").startswith("imbalkit")


def find(factory: str) -> Callable:
    """Import the function that "package.module:name" names.

    Raises:
        ValueError: there is no such function.
    """
    module_name, _, name = factory.partition(":")
    if not name:
        raise ValueError(f"'{factory}' names no function; write package.module:function.")
    sys.path.insert(0, "")  # the folder that the command was started in
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{error}; start the command in the folder that holds it, or install the package."
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise ValueError(f"{module_name} has no function '{name}'.")
    return function


def arguments_from(result: Any, factory: str) -> dict:
    """The arguments of `diagnose` in what the function returned.

    Raises:
        TypeError, ValueError: it returned something else.
    """
    if isinstance(result, (tuple, list)) and len(result) == 2:
        return {"model": result[0], "train_batches": result[1]}
    if not isinstance(result, dict):
        raise TypeError(
            f"{factory} returned a {type(result).__name__}; return (model, train_batches) or a "
            "dict of the arguments of imbalkit.diagnose."
        )
    required = {"model", "train_batches"}
    if not required <= set(result) <= required | set(OPTIONAL):
        raise ValueError(
            f"{factory} returned a dict with the keys {', '.join(map(str, result))}; it must have "
            f"model and train_batches, and may have {', '.join(OPTIONAL)}."
        )
    return result
