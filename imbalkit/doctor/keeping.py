"""What an examination can reach of the caller's: noted before, compared afterwards, put back."""

import dis
import functools
import sys
import types
import weakref
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

MOST_PARTS = 100  # a longer list holds data
CONTAINERS = (list, dict, set, OrderedDict, defaultdict, deque)
# Their objects keep books of their own, about threads, caches and compiled code.
LIBRARIES = {*sys.stdlib_module_names, "numpy"} - {"__main__"}
NO_PARTS = (type, types.ModuleType, str, bytes, int, float, type(None))
TRAINERS = ("_trainer", "_fabric")  # Lightning's: they know all data and go on meanwhile
INNER_PARTS = ("torch._", "torch.cuda", "torch.distributed", "torch.jit", "torch.multiprocessing")


def reachable(*roots: Any) -> list[Any]:
    """All objects that the roots lead to, each once, as somebody who calls them could reach them.

    That is by attributes, short lists, closures, the globals that a function uses, bound methods
    and weak references.
    """
    found: dict[int, Any] = {}
    waiting = deque(roots)
    while waiting:
        one = waiting.popleft()
        if id(one) in found or type(one) in weakref.ProxyTypes or isinstance(one, NO_PARTS):
            continue
        found[id(one)] = one
        waiting.extend(_parts(one))
    return list(found.values())


def _parts(one: Any) -> Iterable[Any]:
    if isinstance(one, Tensor | np.ndarray):
        return ()
    if isinstance(one, types.FunctionType):
        return _parts_of_function(one)
    if isinstance(one, types.MethodType):
        return one.__self__, one.__func__
    if isinstance(one, functools.partial):
        return one.func, one.args, one.keywords
    if isinstance(one, weakref.ref):
        return (one(),)
    if isinstance(one, Optimizer):
        held = [p for group in one.param_groups for p in group["params"]]
        return [*vars(one).values(), *one.param_groups, *one.state.values(), *held]
    if isinstance(one, torch.jit.ScriptModule):  # all else of it is compiled
        return [*one.parameters(), *one.buffers()]
    if isinstance(one, nn.Module):
        own = [type(one).forward] if isinstance(type(one).forward, types.FunctionType) else []
        tensors = [*one._parameters.values(), *one._buffers.values()]
        kept = [value for name, value in vars(one).items() if name not in TRAINERS]
        return [*kept, *one._modules.values(), *tensors, *own]
    # Not by an object's own methods, which may do anything; and it may have attributes, too.
    parts: list[Any] = []
    if isinstance(one, dict):
        parts = list(dict.values(one))
    elif isinstance(one, list | tuple | set | deque):
        base = next(kind for kind in (list, tuple, set, deque) if isinstance(one, kind))
        parts = list(base.__iter__(one))  # type: ignore[arg-type]
    if parts and len(parts) <= MOST_PARTS:
        return [*parts, *vars_of(one)]
    return vars_of(one)


def vars_of(one: Any) -> list[Any]:
    """The attributes that an object holds itself."""
    attributes = getattr(one, "__dict__", None)
    return list(attributes.values()) if isinstance(attributes, dict) else []


def _parts_of_function(function: types.FunctionType) -> Iterable[Any]:
    if _of_a_library(function):
        return ()
    cells = []
    for cell in function.__closure__ or ():
        try:
            cells.append(cell.cell_contents)
        except ValueError:  # not filled yet
            continue
    names = _names(function.__code__)
    used = [function.__globals__[name] for name in names if name in function.__globals__]
    return [*cells, *(function.__defaults__ or ()), *used, *vars(function).values()]


@functools.lru_cache(maxsize=1000)
def _names(code: types.CodeType) -> frozenset[str]:
    """The globals that it reads, not the attributes, which `co_names` holds as well."""
    read = ("LOAD_GLOBAL", "LOAD_NAME")
    names = {i.argval for i in dis.get_instructions(code) if i.opname in read}
    inner = [_names(part) for part in code.co_consts if isinstance(part, types.CodeType)]
    return frozenset(names.union(*inner))


def _of_a_library(one: Any) -> bool:
    name = getattr(one, "__module__", None) or ""
    return name.partition(".")[0] in LIBRARIES | {"torch", "torchvision"}


def tensors_of(*roots: Any) -> list[Tensor]:
    """The tensors that the roots lead to, those without numbers left out."""
    return [one for one in reachable(*roots) if isinstance(one, Tensor) and _has_numbers(one)]


def _has_numbers(tensor: Tensor) -> bool:
    plain = tensor.layout == torch.strided and tensor.device.type != "meta"
    return plain and not is_lazy(tensor) and not tensor.is_quantized


def shared(copies: Any, originals: Any) -> list[Any]:
    """The tensors, modules and optimizers of `originals` that `copies` lead to as well."""
    theirs = [
        one for one in reachable(*originals) if isinstance(one, Tensor | nn.Module | Optimizer)
    ]
    storages = {_storage(one) for one in theirs if isinstance(one, Tensor) and _has_numbers(one)}
    objects = {id(one) for one in theirs}
    return [
        one
        for one in reachable(*copies)
        if id(one) in objects
        or (isinstance(one, Tensor) and _has_numbers(one) and _storage(one) in storages - {0})
    ]


def _storage(tensor: Tensor) -> int:
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):  # a tensor that only stands for others
        return 0


class Notes:
    """What was there before, to compare and to put back.

    Args:
        owned: the model, the optimizer, the loss and so on, whose numbers must not change.
        read: the batches, whose counters must not.
    """

    def __init__(self, owned: Iterable[Any], read: Iterable[Any]):
        owned, read = list(owned), list(read)
        objects = reachable(*owned)
        self.tensors = [one for one in objects if isinstance(one, Tensor) and _has_numbers(one)]
        self.prints = [fingerprint(tensor) for tensor in self.tensors]
        gradients = [(p, p.grad) for p in self.tensors if p.is_leaf]
        self.gradients = [(p, g, fingerprint(g)) for p, g in gradients]
        self.flags = [(p, p.requires_grad) for p in self.tensors if p.is_leaf]
        self.places = [_Place(one) for one in objects + reachable(*read) if _is_noted(one)]
        self.values: dict[int, tuple[Tensor, Tensor]] = {}
        self.twins: dict[int, Tensor] = {}

    def keep_values(self, tensors: Iterable[Any]) -> None:
        """Keep the numbers of these, with their gradients: the examination can change them.

        A parameter that has a twin can be had from there.
        """
        for tensor in tensors:
            if not isinstance(tensor, Tensor) or not _has_numbers(tensor):
                continue
            had = isinstance(tensor, nn.Parameter) and id(tensor) in self.twins
            for one in (None if had else tensor, tensor.grad if tensor.is_leaf else None):
                if one is not None and id(one) not in self.values:
                    self.values[id(one)] = one, one.detach().clone()

    def put_back(self) -> list[str]:
        """Let everything be as it was.

        Returns:
            What was changed and cannot be put back.
        """
        for place in self.places:
            place.put_back()
        with torch.no_grad():
            for parameter, wanted in self.flags:
                if parameter.requires_grad != wanted:
                    parameter.requires_grad_(wanted)
            for parameter, gradient, _ in self.gradients:
                parameter.grad = gradient
            for tensor, value in self.values.values():
                if fingerprint(tensor) != fingerprint(value):
                    tensor.copy_(value)
            return [
                f"a tensor of shape {tuple(one.shape)}"
                for one, before in self._compared()
                if fingerprint(one) != before and not self._from_twin(one, before)
            ]

    def _compared(self) -> list[tuple[Tensor, Any]]:
        pairs = list(zip(self.tensors, self.prints, strict=True))
        return pairs + [(g, before) for _, g, before in self.gradients if g is not None]

    def _from_twin(self, tensor: Tensor, before: Any) -> bool:
        """Take the numbers of its copy in the examined model, which nothing trains."""
        twin = self.twins.get(id(tensor))
        if twin is None or fingerprint(twin) != before:
            return False
        tensor.copy_(twin)
        return True


def fingerprint(tensor: Tensor | None) -> Any:
    """The sum of a tensor's bits, which any training changes; it needs no second copy."""
    if tensor is None or not _has_numbers(tensor) or not tensor.numel():
        return None
    numbers = tensor.detach()
    if not numbers.is_contiguous():  # the order of the sum does not matter
        strides = numbers.stride()
        numbers = numbers.permute(*sorted(range(numbers.ndim), key=lambda d: -strides[d]))
    numbers = numbers.contiguous().reshape(-1).view(torch.uint8)
    # Whole words: torch would first copy smaller ones to int64.
    numbers = numbers.view(torch.int64) if len(numbers) % 8 == 0 else numbers
    return tensor.shape, tensor.dtype, int(numbers.sum(dtype=torch.int64))


class _Place:
    """A list, a dict, a set or an object, with what stood in it."""

    def __init__(self, one: Any):
        self.one = one
        self.content = self._now()

    def _now(self) -> Any:
        if isinstance(self.one, Optimizer):
            groups = [dict(group) for group in self.one.param_groups]
            return groups, {p: dict(state) for p, state in self.one.state.items()}
        if type(self.one) in CONTAINERS:
            return dict(self.one) if isinstance(self.one, dict) else list(self.one)
        return dict(vars(self.one))

    def put_back(self) -> None:
        now = self._now()
        if _alike(now, self.content):
            return
        if isinstance(self.one, Optimizer):
            groups, states = self.content
            for group, before in zip(self.one.param_groups, groups, strict=False):
                _refill(group, before)
            self.one.state.clear()
            self.one.state.update(states)
        elif type(self.one) in CONTAINERS:
            _refill(self.one, self.content)
        else:
            _refill(vars(self.one), self.content)


def _refill(place: Any, content: Any) -> None:
    place.clear()
    if isinstance(place, dict | set):
        place.update(content)
    else:
        place.extend(content)


def _alike(now: Any, before: Any) -> bool:
    """Do the same objects stand there? Compared without asking them, which may do anything."""
    if isinstance(now, dict):
        same = now.keys() == before.keys()
        return same and all(_alike(now[key], before[key]) for key in now)
    if isinstance(now, tuple | list) and type(now) is type(before):
        same = len(now) == len(before)
        return same and all(_alike(a, b) for a, b in zip(now, before, strict=True))
    plain = type(now) is type(before) and isinstance(now, int | float | str)
    return now is before or (plain and now == before)


def _is_noted(one: Any) -> bool:
    if isinstance(one, Tensor | np.ndarray | types.FunctionType | types.MethodType):
        return False
    if type(one) in CONTAINERS:
        return len(one) <= MOST_PARTS
    kind = type(one).__module__
    if kind.partition(".")[0] in LIBRARIES or kind.startswith(INNER_PARTS):
        return False
    return isinstance(getattr(one, "__dict__", None), dict)
