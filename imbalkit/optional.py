"""Libraries that only parts of the package need: loaded when used, and named where missing."""

import importlib
import sys
from types import ModuleType


def optional(name: str, extra: str = "") -> ModuleType:
    """Import a module that not every installation has.

    Args:
        name: the module, such as "matplotlib.pyplot".
        extra: the extra of imbalkit that installs it, such as "plots"; "" for a library that
            people have or do not need.

    Raises:
        ImportError: it is not installed; one sentence says who needs it, and the pip line.

    Example:
        >>> optional("no_such_library.part", "plots")
        Traceback (most recent call last):
        ModuleNotFoundError: imbalkit.optional needs no_such_library, which is not installed; ...
    """
    library = name.partition(".")[0]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != library:
            raise  # the library is there, and lacks something itself
        caller = sys._getframe(1).f_globals["__name__"]
        what = f'"imbalkit[{extra}]"' if extra else library
        raise ModuleNotFoundError(
            f"{caller} needs {library}, which is not installed; run pip install {what}.",
            name=library,
        ) from error


__all__ = ["optional"]
