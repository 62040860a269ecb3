"""Libraries that only some of the modules need: imported when used, named if missing."""

import importlib
from types import ModuleType


def optional(name: str, extra: str) -> ModuleType:
    """Import the module `name`, which comes with the extra `extra` of this package.

    Raises:
        ImportError: it is not installed; the message is one sentence with the pip line.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f'{name} is needed here; install it with: pip install "imbalkit[{extra}]"'
        ) from error
