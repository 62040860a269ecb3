"""Batches of any structure: dicts, lists and tuples of tensors, cut and joined row by row."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Path = tuple[Any, ...]  # the keys and places that lead to a leaf


class Column(list):
    """Something for each row that is no tensor, such as the paths of the images.

    Example:
        >>> batch = with_columns({"x": torch.zeros(2, 3), "path": ["a.png", "b.png"]}, rows=2)
        >>> type(batch["path"]).__name__, taken(batch, slice(0, 1), rows=2)["path"]
        ('Column', ['a.png'])
    """


class Main:
    """Stands where the inputs are that are kept apart."""


MAIN = Main()


def leaves(tree: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Everything in it that is no dict, list or tuple, with the way there."""
    if isinstance(tree, Mapping):
        for key in tree:
            yield from leaves(tree[key], (*path, key))
    elif isinstance(tree, list | tuple) and not isinstance(tree, Column):
        for place, part in enumerate(tree):
            yield from leaves(part, (*path, place))
    else:
        yield path, tree


def at(tree: Any, path: Path) -> Any:
    """What stands at the end of the path.

    Raises:
        KeyError, IndexError, TypeError: it ends before.
    """
    for key in path:
        tree = tree[key]
    return tree


def mapped(function: Callable[[Path, Any], Any], tree: Any, path: Path = ()) -> Any:
    """The same structure with `function(path, leaf)` for each leaf."""
    if isinstance(tree, Mapping):
        return {key: mapped(function, tree[key], (*path, key)) for key in tree}
    if isinstance(tree, list | tuple) and not isinstance(tree, Column):
        parts = [mapped(function, part, (*path, i)) for i, part in enumerate(tree)]
        if hasattr(tree, "_fields"):  # a namedtuple
            return type(tree)(*parts)
        return tuple(parts) if isinstance(tree, tuple) else parts
    return function(path, tree)


def with_columns(tree: Any, rows: int) -> Any:
    """The structure with lists of as many texts as there are rows taken for leaves."""
    if isinstance(tree, Mapping):
        return {key: with_columns(tree[key], rows) for key in tree}
    if isinstance(tree, list | tuple):
        plain = all(isinstance(part, str | bytes | int | float | None) for part in tree)
        if len(tree) == rows and plain:
            return Column(tree)
        parts = [with_columns(part, rows) for part in tree]
        if hasattr(tree, "_fields"):
            return type(tree)(*parts)
        return tuple(parts) if isinstance(tree, tuple) else parts
    return tree


def joined(trees: list[Any], rows: list[int], targets: Path | None = None) -> Any:
    """Batches of one structure in one: tensors and columns row by row, the rest from the first.

    Sequences are padded with zeros, integer targets with -100, which losses ignore.
    """

    def join(path: Path, first: Any) -> Any:
        parts = [at(tree, path) for tree in trees]
        if _has_rows(first, rows[0]):
            fill = -100 if path == targets and not first.is_floating_point() else 0
            return padded(parts, fill)
        if isinstance(first, Column):
            return Column([one for part in parts for one in part])
        return first

    return mapped(join, trees[0])


def taken(tree: Any, index: Any, rows: int, main: Tensor | None = None) -> Any:
    """The rows of a joined structure; `main`, cut already, where the inputs are kept apart."""

    def take(path: Path, leaf: Any) -> Any:
        if leaf is MAIN:
            return main
        if _has_rows(leaf, rows):
            return leaf[index]
        if isinstance(leaf, Column):
            places = range(rows)[index] if isinstance(index, slice) else index.tolist()
            return Column([leaf[i] for i in places])
        return leaf

    return mapped(take, tree)


def moved(tree: Any, device: torch.device, full: torch.dtype | None = None) -> Any:
    """The structure with its tensors on the device, never the same memory: a layer may write.

    Args:
        tree: the structure.
        device: where it goes.
        full: the precision that tensors of half precision get; None leaves them as they are.
    """

    def move(path: Path, leaf: Any) -> Any:
        if isinstance(leaf, Column):
            return list(leaf)
        if not isinstance(leaf, Tensor):
            return leaf
        half = leaf.dtype in (torch.float16, torch.bfloat16)
        there = leaf.to(device, full if half and full is not None else leaf.dtype)
        return there.clone() if there is leaf else there

    return mapped(move, tree)


def _has_rows(leaf: Any, rows: int) -> bool:
    return isinstance(leaf, Tensor) and leaf.ndim > 0 and len(leaf) == rows


def can_be_joined(x: Any, first: Any) -> bool:
    """Of one shape, or sequences: they are padded batch by batch, and can be padded further."""
    if not isinstance(x, Tensor) or not isinstance(first, Tensor):
        return type(x) is type(first)
    sequences = x.ndim == first.ndim == 3 or (
        x.ndim == first.ndim == 2 and not first.is_floating_point()
    )
    return (sequences and x.ndim == first.ndim) or x.shape[1:] == first.shape[1:]


def padded(batches: list[Tensor], fill: int = 0) -> Tensor:
    """All batches in one tensor, with `fill` behind the sequences that are shorter."""
    longest = [max(sizes) for sizes in zip(*(x.shape[1:] for x in batches), strict=True)]
    parts = []
    for x in batches:
        missing: list[int] = []
        for axis in range(x.ndim - 1, 0, -1):  # the last axis first, as F.pad wants it
            missing += [0, longest[axis - 1] - x.shape[axis]]
        parts.append(F.pad(x, missing, value=fill) if any(missing) else x)
    return torch.cat(parts)
