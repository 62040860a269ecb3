"""The state of every random generator that a training draws from, to keep and to put back.

There are torch's own on each device, numpy's and Python's, and those that a loader, a sampler, a
data set, an augmentation or a loss brings along.
"""

import random
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from imbalkit.schema import Check, anything, list_of, record, table_of, tensor

GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
MOST_PARTS = 100  # a longer list holds data
STATE: Check = record(  # in a file
    cpu=tensor,
    gpus=list_of(tensor),
    numpy=table_of(anything),
    python=list_of(anything, 3, 3),
    own=list_of(anything),
)


def random_state(*owners: Any) -> dict[str, Any]:
    """The state of all generators, as tensors, numbers and text.

    Args:
        *owners: loaders, samplers, losses, whose own generators count too, see `generators_of`.

    Example:
        >>> generator = np.random.default_rng(0)
        >>> state, first = random_state([generator]), generator.random()
        >>> set_random_state(state, [generator])
        >>> generator.random() == first
        True
    """
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        gpus = [torch.mps.get_rng_state()]
    return {
        "cpu": torch.get_rng_state(),
        "gpus": gpus,
        "numpy": _plain(np.random.get_state(legacy=False)),  # noqa: NPY002
        "python": random.getstate(),
        "own": [_state_of(generator) for generator in generators_of(*owners)],
    }


def set_random_state(state: dict[str, Any], *owners: Any) -> None:
    """Put back what `random_state` returned; all of it, or nothing where that is impossible.

    Args:
        state: of `random_state`.
        *owners: as they were given there.

    Raises:
        ValueError: the owners have other generators than those had, or a state is none.

    Example:
        >>> state, first = random_state(), torch.rand(1)
        >>> set_random_state(state)
        >>> torch.rand(1).equal(first)
        True
    """
    generators = generators_of(*owners)
    if len(generators) != len(state["own"]):
        raise ValueError(
            f"{len(state['own'])} random generators of the batches and the loss were kept, and "
            f"there are {len(generators)} now"
        )
    before = random_state(*owners)
    try:
        _set(state, generators)
    except Exception as error:  # numpy, torch and Python each raise others
        _set(before, generators)
        raise ValueError(
            f"the state of a random generator cannot be put back ({type(error).__name__})"
        ) from error


@contextmanager
def random_state_kept(*owners: Any) -> Iterator[None]:
    """Put every state back at the end, see `random_state`.

    Example:
        >>> with random_state_kept():
        ...     first = torch.rand(1)
        >>> torch.rand(1).equal(first)
        True
    """
    generators = generators_of(*owners)  # those that somebody adds meanwhile are none of ours
    state = random_state(*generators)
    try:
        yield
    finally:
        set_random_state(state, *generators)


def generators_of(*owners: Any) -> list[Any]:
    """The generators that are attributes of `owners`, of their attributes, and so on.

    Short lists and dicts are looked into too; what a function has closed over is not seen.

    Args:
        *owners: any objects, such as a DataLoader, `Batches`, or a loss.

    Returns:
        ``torch.Generator``, numpy's and ``random.Random``, each once, in an order that is the same
        for objects that were made in the same way.

    Example:
        >>> generator = torch.Generator()
        >>> images = torch.utils.data.TensorDataset(torch.zeros(8))
        >>> sampler = torch.utils.data.RandomSampler(images, generator=generator)
        >>> generators_of(torch.utils.data.DataLoader(images, sampler=sampler)) == [generator]
        True
    """
    found: list[Any] = []
    seen: set[int] = set()
    waiting = deque(owners)
    while waiting:
        one = waiting.popleft()
        if id(one) in seen or isinstance(one, type | ModuleType | Tensor | np.ndarray):
            continue
        seen.add(id(one))
        if isinstance(one, GENERATORS):
            found.append(one)
        elif type(one) in (list, tuple, dict):  # to iterate over another kind may do something
            if len(one) <= MOST_PARTS:
                waiting += one.values() if type(one) is dict else one
        else:
            waiting += getattr(one, "__dict__", {}).values()
    return found


def _set(state: dict[str, Any], generators: list[Any]) -> None:
    torch.set_rng_state(state["cpu"].cpu())
    gpus = [gpu.cpu() for gpu in state["gpus"]]
    if torch.cuda.is_available() and len(gpus) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(gpus)
    if torch.backends.mps.is_available() and len(gpus) == 1:
        torch.mps.set_rng_state(gpus[0])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    _set_python(random, state["python"])
    for generator, of_it in zip(generators, state["own"], strict=True):
        if isinstance(generator, torch.Generator):
            generator.set_state(of_it.cpu())
        elif isinstance(generator, np.random.Generator):
            generator.bit_generator.state = of_it
        elif isinstance(generator, np.random.RandomState):
            generator.set_state(of_it)
        else:
            _set_python(generator, of_it)


def _set_python(generator: Any, state: Any) -> None:
    version, numbers, gauss = state
    generator.setstate((version, tuple(numbers), gauss))


def _state_of(generator: Any) -> Any:
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, np.random.Generator):
        return _plain(generator.bit_generator.state)
    if isinstance(generator, np.random.RandomState):
        return _plain(generator.get_state(legacy=False))
    return generator.getstate()


def _plain(state: Any) -> Any:
    """A state of numpy with lists in place of arrays: `torch.load` reads those from any file."""
    if isinstance(state, dict):
        return {name: _plain(value) for name, value in state.items()}
    return state.tolist() if isinstance(state, np.ndarray | np.generic) else state


__all__ = ["generators_of", "random_state", "random_state_kept", "set_random_state"]
