"""Files that notice when they are damaged: each carries a digest of itself.

A changed bit in the weights of a network is no error for `torch.load`: the network just answers
differently. `write` and `write_json` therefore add a SHA-256 digest, and `read` and `read_json`
compare it, before anything in the file is looked at, and then ask a schema (`imbalkit.schema`)
whether the content can be right. Against a person who changes a file on purpose a digest does
nothing; what protects there is that no code in a file is run.
"""

import hashlib
import io
import json
import os
import warnings
from pathlib import Path
from typing import Any

import torch

from imbalkit.files import atomic_path
from imbalkit.schema import Check

MARK = b"imbalkit sha256 "
LENGTH = len(MARK) + 64


def write(path: str | os.PathLike, content: dict[str, Any]) -> None:
    """Write tensors, numbers and text to a file that also ``torch.load(weights_only=True)`` reads.

    The write is atomic.

    Args:
        path: of the file.
        content: a dict, with a text "format" that says what kind of file it is.

    Example:
        >>> import tempfile
        >>> from imbalkit.schema import one_of, record, tensor
        >>> schema = record(format=one_of("example 1"), x=tensor)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write(f"{folder}/x.pt", {"format": "example 1", "x": torch.ones(2)})
        ...     read(f"{folder}/x.pt", "example 1", schema)["x"]
        tensor([1., 1.])
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    # It is a zip archive, and the digest its comment. The archive ends with the length of the
    # comment in two bytes, 0 as torch writes it.
    body = buffer.getvalue()[:-2] + LENGTH.to_bytes(2, "little")
    with atomic_path(path) as temporary:
        temporary.write_bytes(body + _seal(body))


def read(
    path: str | os.PathLike, kind: str, schema: Check, device: torch.device | str = "cpu"
) -> dict[str, Any]:
    """Read what `write` wrote. No code in the file is run.

    Args:
        path: of the file.
        kind: what "format" must say.
        schema: the check of the whole content.
        device: where the tensors go.

    Raises:
        OSError: the file cannot be opened.
        ValueError: in half a sentence, without the path: the file is damaged, of another kind, or
            holds what cannot be right.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save({"x": 1}, f"{folder}/x.pt")
        ...     read(f"{folder}/x.pt", "example 1", print)
        Traceback (most recent call last):
        ValueError: it has no digest: it is damaged, or imbalkit did not write it
    """
    data = Path(path).read_bytes()
    if not data[-LENGTH:].startswith(MARK):
        raise ValueError("it has no digest: it is damaged, or imbalkit did not write it")
    if data[-LENGTH:] != _seal(data[:-LENGTH]):
        raise ValueError("it is damaged: its digest does not fit")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what a stranger wrote; the schema says it better
            content = torch.load(io.BytesIO(data), map_location=device, weights_only=True)
    except Exception as error:  # torch raises many kinds, from the zip reader to the unpickler
        raise ValueError(f"it cannot be read as tensors ({type(error).__name__})") from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != kind:
        raise ValueError(f"it holds no {kind}, but {found if type(found) is str else 'others'}")
    schema(content, "")
    return content


def write_json(path: str | os.PathLike, content: dict[str, Any], indent: int | None = None) -> None:
    """Write JSON with the digest of its content as the field "digest". The write is atomic.

    Args:
        path: of the file.
        content: what JSON can hold.
        indent: as `json.dumps` takes it.

    Example:
        >>> import tempfile
        >>> from imbalkit.schema import number, record
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_json(f"{folder}/x.json", {"ratio": 100.0})
        ...     read_json(f"{folder}/x.json", record(ratio=number(1)))
        {'ratio': 100.0}
    """
    sealed = json.dumps(content | {"digest": _digest(content)}, indent=indent)
    with atomic_path(path) as temporary:
        temporary.write_text(sealed + "\n", encoding="utf-8")


def read_json(path: str | os.PathLike, schema: Check) -> dict[str, Any]:
    """Read what `write_json` wrote, without the digest.

    Spaces, the order of the fields and 8 in place of 8.0 make no difference: other programs change
    them.

    Raises:
        OSError: the file cannot be opened.
        ValueError: in half a sentence, without the path, as `read`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "x.json").write_text('{"ratio": 100.0}')
        ...     read_json(f"{folder}/x.json", print)
        Traceback (most recent call last):
        ValueError: it has no digest: it is damaged, or imbalkit did not write it
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is no JSON ({error})") from error
    if not isinstance(content, dict) or "digest" not in content:
        raise ValueError("it has no digest: it is damaged, or imbalkit did not write it")
    digest = content.pop("digest")
    schema(content, "")
    if digest != _digest(content):
        raise ValueError("it is damaged or was altered: its digest does not fit")
    return content


def _seal(body: bytes) -> bytes:
    return MARK + hashlib.sha256(body).hexdigest().encode()


def _digest(content: dict[str, Any]) -> str:
    same = json.loads(json.dumps(content), parse_float=_number)
    return hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()


def _number(digits: str) -> int | float:
    value = float(digits)
    return int(value) if value.is_integer() else value


__all__ = ["read", "read_json", "write", "write_json"]
