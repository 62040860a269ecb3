"""What a file must hold, said in one place and checked before anything is made of it.

A check is a function ``(value, name)`` that raises ValueError, in words that name the field, for a
value that cannot be right. The functions below make checks; `record` puts them together to the
schema of a file, which stands in the module that writes the file.
"""

import math
import reprlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Check = Callable[[Any, str], None]
LARGEST = torch.finfo(torch.float32).max


def anything(value: Any, name: str) -> None:
    """A check that accepts every value.

    Example:
        >>> anything(3, "size")
    """


def must_be(right: bool, value: Any, name: str, what: str) -> None:
    """Raise ValueError, saying what the field is and must be, unless it is `right`."""
    if not right:
        short = f"a {type(value).__name__}" if isinstance(value, Tensor) else reprlib.repr(value)
        raise ValueError(f"{name or 'the content'} is {short}, and must be {what}")


def whole(low: int = 0, high: int = 2**63 - 1) -> Check:
    """A whole number from `low` to `high`.

    Example:
        >>> whole(1, 8)(9, "size")
        Traceback (most recent call last):
        ValueError: size is 9, and must be a whole number from 1 to 8
    """

    def check(value: Any, name: str) -> None:
        right = type(value) is int and low <= value <= high
        must_be(right, value, name, f"a whole number from {low} to {high}")

    return check


def number(low: float = -math.inf, high: float = math.inf, nan: bool = False) -> Check:
    """A number from `low` to `high`; NaN is one only where `nan` says so.

    Example:
        >>> number(0, 1)(float("nan"), "share")
        Traceback (most recent call last):
        ValueError: share is nan, and must be a number from 0 to 1
    """

    def check(value: Any, name: str) -> None:
        right = type(value) is float or (type(value) is int and abs(value) < 2**63)
        right = right and (low <= value <= high or (nan and value != value))
        must_be(right, value, name, f"a number from {low:g} to {high:g}")

    return check


def text(longest: int = 10_000) -> Check:
    """Text of at most so many characters.

    Example:
        >>> text(3)("long", "label")
        Traceback (most recent call last):
        ValueError: label is 'long', and must be text of at most 3 characters
    """

    def check(value: Any, name: str) -> None:
        right = type(value) is str and len(value) <= longest
        must_be(right, value, name, f"text of at most {longest} characters")

    return check


def one_of(*values: Any) -> Check:
    """One of a few values.

    Example:
        >>> one_of("a", "b")("c", "label")
        Traceback (most recent call last):
        ValueError: label is 'c', and must be 'a' or 'b'
    """

    def check(value: Any, name: str) -> None:
        right = any(type(value) is type(each) and value == each for each in values)
        must_be(right, value, name, " or ".join(map(repr, values)))

    return check


def optional(check: Check) -> Check:
    """None, or what `check` accepts.

    Example:
        >>> optional(whole())(None, "size")
    """
    return lambda value, name: None if value is None else check(value, name)


def list_of(check: Check, shortest: int = 0, longest: int = 2**63 - 1) -> Check:
    """A list whose entries `check` accepts, with so many of them.

    Example:
        >>> list_of(whole())([1, 2.5], "sizes")
        Traceback (most recent call last):
        ValueError: sizes[1] is 2.5, and must be a whole number from 0 to 9223372036854775807
    """

    def check_list(value: Any, name: str) -> None:
        must_be(type(value) in (list, tuple), value, name, "a list")
        length = f"{name} has {len(value)} entries, and must have"
        if len(value) < shortest:
            raise ValueError(f"{length} {shortest} or more")
        if len(value) > longest:
            raise ValueError(f"{length} at most {longest}")
        for i, each in enumerate(value):
            check(each, f"{name}[{i}]")

    return check_list


def table_of(check: Check) -> Check:
    """A dict with names for keys, whose values `check` accepts.

    Example:
        >>> table_of(number(0))({"a": 1, "b": -1}, "seconds")
        Traceback (most recent call last):
        ValueError: seconds.b is -1, and must be a number from 0 to inf
    """

    def check_table(value: Any, name: str) -> None:
        must_be(isinstance(value, dict), value, name, "a table of names and values")
        for key, each in value.items():
            must_be(type(key) is str, key, f"a name in {name or 'it'}", "text")
            check(each, _inside(name, key))

    return check_table


def some_of(**fields: Check) -> Check:
    """A dict with fields of these names; any may be missing.

    Example:
        >>> some_of(width=whole(1))({"wide": 8}, "arguments")
        Traceback (most recent call last):
        ValueError: arguments has 'wide', which is no part of it
    """

    def check(value: Any, name: str) -> None:
        table_of(anything)(value, name)
        for key in value:
            if key not in fields:
                raise ValueError(f"{name or 'it'} has {reprlib.repr(key)}, which is no part of it")
        for key, check_field in fields.items():
            if key in value:
                check_field(value[key], _inside(name, key))

    return check


def record(**fields: Check) -> Check:
    """A dict with exactly these fields.

    Example:
        >>> record(size=whole(1, 8), label=text())({"size": 3}, "")
        Traceback (most recent call last):
        ValueError: it lacks 'label'
    """

    def check(value: Any, name: str) -> None:
        table_of(anything)(value, name)
        for field in fields:
            if field not in value:
                raise ValueError(f"{name or 'it'} lacks {field!r}")
        some_of(**fields)(value, name)

    return check


def tensor(value: Any, name: str) -> None:
    """A check: a plain tensor (not sparse, nested, quantized or on "meta") without a NaN.

    Example:
        >>> tensor(torch.tensor([1, float("nan")]), "x")
        Traceback (most recent call last):
        ValueError: x holds NaN
    """
    must_be(_is_plain(value), value, name, "a plain tensor")
    # A view may show a few numbers in a file as more than any memory holds.
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise ValueError(f"{name} is larger than what the file holds of it")
    _check_nan(value, name)


def _check_nan(value: Tensor, name: str) -> None:
    if value.isnan().any():
        raise ValueError(f"{name} holds NaN")


def _is_plain(value: Any) -> bool:
    """A tensor with its numbers in one block? Sparse, nested, quantized and "meta" ones are not."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and not (value.is_nested or value.is_quantized or value.is_meta)
    )


def tensors_like(expected: dict[str, Any]) -> Check:
    """A dict with the names of `expected`, and tensors of their shapes and dtypes without a NaN.

    What is no tensor in `expected` is not looked at: only the model knows what it keeps there.

    Example:
        >>> tensors_like({"weight": torch.zeros(2, 3)})({"weight": torch.zeros(3)}, "model")
        Traceback (most recent call last):
        ValueError: model.weight is float32 of shape (3,), and must be float32 of shape (2, 3)
    """
    return record(**{name: _tensor_like(value) for name, value in expected.items()})


def like(expected: Any) -> Check:
    """What has the layout of `expected`, such as the state of an optimizer made in the same way.

    A dict has the fields of the expected one, a list its length, a tensor its shape and dtype; a
    number is finite, and nothing is NaN.

    Example:
        >>> like({"lr": 0.1, "betas": (0.9, 0.99)})({"lr": 0.2, "betas": (0.5,)}, "group")
        Traceback (most recent call last):
        ValueError: group.betas has 1 entries, and must have 2 or more
    """

    def check(value: Any, name: str) -> None:
        no_nan(value, name)
        _has_layout(expected, value, name)

    return check


def _has_layout(expected: Any, value: Any, name: str) -> None:
    if isinstance(expected, dict):
        must_be(isinstance(value, dict), value, name, "a table of names and values")
        for key, each in expected.items():
            if key not in value:
                raise ValueError(f"{name} lacks {key!r}")
            _has_layout(each, value[key], _inside(name, str(key)))
    elif isinstance(expected, list | tuple):
        list_of(anything, len(expected), len(expected))(value, name)
        for i, each in enumerate(expected):
            _has_layout(each, value[i], f"{name}[{i}]")
    elif isinstance(expected, Tensor):
        _tensor_like(expected)(value, name)
    elif isinstance(expected, bool | str):
        must_be(type(value) is type(expected), value, name, f"a {type(expected).__name__}")
    elif isinstance(expected, int | float):
        number(-LARGEST, LARGEST)(value, name)


def no_nan(value: Any, name: str) -> None:
    """A check for what others lay out, such as the state of an optimizer: no number in it is NaN.

    Dicts, lists and tensors may hold one another, at most ten deep.

    Example:
        >>> no_nan({"state": [0.5, float("nan")]}, "optimizer")
        Traceback (most recent call last):
        ValueError: optimizer['state'][1] is nan, and must be a number, text or a tensor
    """
    waiting = [(value, name, 0)]
    while waiting:
        one, where, depth = waiting.pop()
        if isinstance(one, Tensor):
            tensor(one, where)
        elif isinstance(one, dict | list | tuple):
            must_be(depth < 10, one, where, "less deep")
            pairs = one.items() if isinstance(one, dict) else enumerate(one)
            waiting += [(each, f"{where}[{key!r}]", depth + 1) for key, each in pairs]
        else:
            must_be(one is None or (isinstance(one, bool | int | float | str) and one == one),
                    one, where, "a number, text or a tensor")  # fmt: skip


def _tensor_like(expected: Any) -> Check:
    def check(value: Any, name: str) -> None:
        must_be(_is_plain(value), value, name, "a plain tensor")
        if (value.shape, value.dtype) != (expected.shape, expected.dtype):
            raise ValueError(f"{name} is {_kind(value)}, and must be {_kind(expected)}")
        _check_nan(value, name)

    known = isinstance(expected, Tensor) and expected.layout == torch.strided
    return check if known and not expected.is_quantized else anything


def _inside(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key


def _kind(value: Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"


__all__ = [
    "anything", "like", "list_of", "no_nan", "number", "one_of", "optional", "record", "some_of",
    "table_of", "tensor", "tensors_like", "text", "whole",
]  # fmt: skip
