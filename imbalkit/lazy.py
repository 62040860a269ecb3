"""Names that are loaded when they are first used, after scientific-python's lazy_loader.

``import imbalkit`` then costs next to nothing, and nobody pays for what they do not use.
"""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module


def attach(
    package: str, modules: Sequence[str], names: dict[str, str]
) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """The `__getattr__`, `__dir__` and `__all__` of a package that loads nothing by itself.

    Args:
        package: its name.
        modules: those of its modules that are attributes.
        names: where each further name lives, such as {"fit": "training.fit"}.

    Example:
        >>> load, names, public = attach("imbalkit", ["weights"], {"fit": "training.fit"})
        >>> public
        ['fit', 'weights']
        >>> load("weights").__name__
        'imbalkit.weights'
    """

    def load(name: str) -> object:
        if name in modules:
            return import_module(f"{package}.{name}")
        if name not in names:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        module, _, attribute = names[name].partition(".")
        value = getattr(import_module(f"{package}.{module}"), attribute)
        setattr(sys.modules[package], name, value)  # the next use asks nobody
        return value

    public = sorted([*modules, *names])
    return load, lambda: public, public


__all__ = ["attach"]
