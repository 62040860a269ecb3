"""Libraries that only parts of the package need, and what to say where one is missing."""

import importlib
from types import ModuleType


def optional(name: str, extra: str, what: str) -> ModuleType:
    """Import and return the module `name`, such as "matplotlib.pyplot".

    extra: the extra of imbalkit that installs it, such as "plots".
    what: what needs it, as the subject of a sentence, such as "imbalkit.plots".

    Raises ImportError in one sentence, with the command that installs the extra.
    """
    library = name.partition(".")[0]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != library:
            raise  # the library is there, and lacks something itself
        raise ModuleNotFoundError(
            f'{what} needs {library}, which is not installed; run pip install "imbalkit[{extra}]".',
            name=library,
        ) from error


__all__ = ["optional"]
