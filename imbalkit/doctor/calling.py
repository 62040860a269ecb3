"""How a batch is read and the model is called on it: found by trying, or said by the caller."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from imbalkit.doctor.picking import TARGET_NAMES, pick_scores
from imbalkit.doctor.trees import MAIN, Column, Path, at, leaves, mapped, moved, taken, with_columns

INPUT_NAMES = (
    "pixel_values", "image", "images", "img", "imgs", "inputs", "input", "x", "data", "features",
    "input_ids", "tokens", "text",
)  # fmt: skip
REFUSALS = (RuntimeError, TypeError, ValueError, IndexError, AssertionError)
TWO_ARGUMENTS = (
    "forward=lambda model, batch: model(batch['image']) and targets=lambda batch: batch['label'], "
    "with your own names"
)


@dataclass(frozen=True)
class Way:
    """Which parts of a batch the model gets, and which are the targets.

    Attributes:
        targets: the path to them, None where the caller's function makes them.
        args: the paths to the arguments that are given by their place.
        kwargs: the names of the others, and the paths to them.
        inside: does the model get the targets too, and compute its loss?
        empty: an argument that is None.

    Example:
        >>> way = Way(targets=("label",), args=(("image",),))
        >>> batch = {"image": torch.ones(5, 2), "label": torch.zeros(5, dtype=torch.int64)}
        >>> way(nn.Linear(2, 3), batch).shape
        torch.Size([5, 3])
    """

    targets: Path | None
    args: tuple[Path, ...] = ()
    kwargs: tuple[tuple[str, Path], ...] = ()
    inside: bool = False
    empty: Path | None = None

    @property
    def inputs(self) -> tuple[Path, ...]:
        """The paths to all inputs."""
        paths = (*self.args, *(path for _, path in self.kwargs))
        return tuple(path for path in paths if path != self.targets)

    def without_targets(self) -> list["Way"]:
        """The same call, the targets left out, or None in their place."""
        kwargs = tuple((name, path) for name, path in self.kwargs if path != self.targets)
        left_out = replace(
            self, args=tuple(p for p in self.args if p != self.targets), kwargs=kwargs
        )
        return [left_out, replace(self, targets=None, empty=self.targets)]

    def __call__(self, model: nn.Module, batch: Any) -> Any:
        def argument(path: Path) -> Any:
            return None if path == self.empty else at(batch, path)

        kwargs = {name: argument(path) for name, path in self.kwargs}
        return model(*map(argument, self.args), **kwargs)


class Calling:
    """Reads batches and calls models; what it finds at the first batch holds for all.

    Args:
        model: the one to try on.
        forward: the caller's function ``(model, batch) -> outputs``, or None.
        targets: the caller's function ``batch -> targets``, or None.
        wants_loss: may the model compute the loss?

    Example:
        >>> model, calling = nn.Linear(2, 3), Calling(nn.Linear(2, 3))
        >>> batch = {"image": torch.ones(5, 2), "label": torch.zeros(5, dtype=torch.int64)}
        >>> inputs, targets, _ = calling.read(batch, "train_batches")
        >>> inputs.shape, targets.shape, calling.way.inputs
        (torch.Size([5, 2]), torch.Size([5]), (('image',),))
        >>> calling.outputs(model, batch, torch.device("cpu")).shape
        torch.Size([5, 3])
    """

    def __init__(
        self,
        model: nn.Module,
        forward: Callable | None = None,
        targets: Callable | None = None,
        wants_loss: bool = False,
    ):
        self.forward, self.targets, self.wants_loss = forward, targets, wants_loss
        self.way: Way | None = None
        self._model = model

    # ---- reading ----

    def read(self, batch: Any, argument: str) -> tuple[Any, Any, Any]:
        """The batch's inputs, its targets, and the batch itself, the inputs replaced by `MAIN`.

        Raises:
            TypeError: it is no batch that can be read; the sentence names two arguments.
        """
        batch = as_structure(batch)
        targets = self.targets(batch) if self.targets is not None else None
        if self.way is None:
            self.way = self._found(batch, targets, argument)
        way = self.way
        try:
            y = targets if self.targets is not None else at(batch, way.targets or ())
            parts = [(path, at(batch, path)) for path in way.inputs]
        except (KeyError, IndexError, TypeError) as error:
            raise TypeError(
                f"{argument} yields batches of different structures ({described(batch)}); give all "
                f"batches the same parts, or pass {TWO_ARGUMENTS}."
            ) from error
        rows = len(y) if isinstance(y, Tensor) and y.ndim else 0
        x, main = _main_input(parts, batch, y, self.forward is not None)
        needed = {*way.inputs, way.targets if way.inside else None}

        def kept(path: Path, leaf: Any) -> Any:
            if main is not None and path == main:
                return MAIN
            return leaf if self.forward is not None or path in needed else None

        return x, y, mapped(kept, with_columns(batch, rows))

    def _found(self, batch: Any, targets: Any, argument: str) -> Way:
        _check_structure(batch, argument)
        own = None if targets is None else _path_of(targets, batch)
        if self.forward is not None:
            paths = [own] if targets is not None else target_paths(batch)
            return Way(next(iter(paths), None) if targets is None else own)
        if _is_pair(batch) and targets is None and _wanted(self._model) < 2:
            return Way((1,), ((0,),))
        problems = []
        for way in _ways(self._model, batch, own, targets is not None, self.wants_loss):
            y = targets if targets is not None else at(batch, way.targets or ())
            if not isinstance(y, Tensor) or not y.ndim:
                continue
            problems.append(self._problem(way, batch, y))
            if not problems[-1]:
                return way
        raise TypeError(
            f"{argument} yields {described(batch)}, and the model cannot be called on parts of it "
            f"({next(iter(problems), 'no part of it looks like targets')}); pass {TWO_ARGUMENTS}."
        )

    def _problem(self, way: Way, batch: Any, targets: Tensor) -> str:
        """What stands against calling the model in this way, tried on two rows; or ""."""
        rows = len(targets)
        few = taken(with_columns(batch, rows), slice(0, 2), rows)
        self._model.eval()
        device = next((p.device for p in self._model.parameters()), torch.device("cpu"))
        try:
            with torch.no_grad():
                few = moved(few, device, _full_precision(self._model))
                outputs = outputs_of(way, self._model, few)
                pick_scores(outputs, targets[:2].to(device), int(_largest(targets)))
        except Exception as error:  # whatever it raises, the next way is tried
            return f"{type(error).__name__}: {next(iter(str(error).splitlines()), 'no message')}"
        return ""

    # ---- calling ----

    def outputs(self, model: nn.Module, batch: Any, device: torch.device) -> Any:
        """What the model returns for a batch, on its device."""
        batch = moved(batch, device, _full_precision(model))
        if self.forward is not None:
            return self.forward(model, batch)
        return outputs_of(self.way or Way((1,), ((0,),)), model, batch)


def _full_precision(model: nn.Module) -> torch.dtype | None:
    """What inputs of half precision become, as autocast in the training makes them; or None."""
    kinds = [p.dtype for p in model.parameters() if p.is_floating_point()]
    return kinds[0] if kinds and kinds[0].itemsize >= 4 else None


def outputs_of(way: Way, model: nn.Module, batch: Any) -> Any:
    """The outputs; a model that returns its loss alone is also called without the targets."""
    outputs = way(model, batch)
    if not way.inside or not isinstance(outputs, Tensor) or outputs.ndim > 0:
        return outputs
    for other in way.without_targets():
        try:
            return {"loss": outputs, "logits": other(model, batch)}
        except Exception:  # then the other one
            continue
    raise TypeError(
        "the model returns its loss alone and no scores; pass forward=lambda model, batch: "
        "{'loss': ..., 'logits': ...}"
    )


def as_structure(batch: Any) -> Any:
    """A batch that is an object with attributes, as its dict."""
    if isinstance(batch, Mapping | list | tuple | Tensor | str):
        return batch
    attributes = getattr(batch, "__dict__", {})
    return attributes if any(isinstance(v, Tensor) for v in attributes.values()) else batch


def described(batch: Any) -> str:
    """A batch in a few words, for sentences.

    Example:
        >>> described({"image": torch.ones(2, 3), "label": torch.ones(2)})
        "dicts with the keys 'image', 'label'"
        >>> described([torch.ones(2, 3), torch.ones(2)])
        'lists of Tensor, Tensor'
    """
    if isinstance(batch, Mapping):
        return f"dicts with the keys {', '.join(repr(key) for key in batch)}"
    if isinstance(batch, list | tuple):
        return f"{type(batch).__name__}s of {', '.join(type(part).__name__ for part in batch)}"
    return f"a {type(batch).__name__}"


def _check_structure(batch: Any, argument: str) -> None:
    if isinstance(batch, Mapping) and any(isinstance(v, Tensor) for _, v in leaves(batch)):
        return
    if not isinstance(batch, list | tuple) or len(batch) < 2:
        raise TypeError(
            f"{argument} yields {described(batch)}; each batch must be a pair (inputs, targets), "
            f"or pass {TWO_ARGUMENTS}."
        )
    for what, part in zip(("inputs", "targets"), batch[:2], strict=True):
        tensors = [leaf for _, leaf in leaves(part) if isinstance(leaf, Tensor)]
        if not tensors and len(batch) == 2:
            raise TypeError(
                f"the {what} of {argument} are a {type(part).__name__}; they must be a torch "
                "Tensor."
            )


def _is_pair(batch: Any) -> bool:
    return (
        isinstance(batch, list | tuple)
        and len(batch) == 2
        and all(isinstance(part, Tensor) for part in batch)
    )


def _path_of(targets: Any, batch: Any) -> Path | None:
    return next((path for path, leaf in leaves(batch) if leaf is targets), None)


def _largest(targets: Tensor) -> float:
    """The largest label, as far as these targets are labels."""
    if targets.is_floating_point() or not targets.numel():
        return 0
    return float(targets.max())


# ---- candidates ----


def target_paths(batch: Any) -> list[Path]:
    """Where the targets may be, the most likely first."""
    if isinstance(batch, Mapping):
        found = [p for p, leaf in leaves(batch) if isinstance(leaf, Tensor) and leaf.ndim]
        named = [(name,) for name in TARGET_NAMES if (name,) in found]
        nested = [p for p in found if p[-1] in TARGET_NAMES and p not in named]
        whole = [p for p in found if at(batch, p).ndim == 1 and _is_whole(at(batch, p))]
        return [*named, *nested, *(p for p in whole if p not in named and p not in nested)]
    if len(batch) == 2:
        if isinstance(batch[1], Tensor):
            return [(1,)]
        inner = [(1, *path) for path in target_paths(batch[1])] if batch[1] else []
        return inner or [(1, *p) for p, leaf in leaves(batch[1]) if isinstance(leaf, Tensor)]
    tensors = [i for i, part in enumerate(batch) if isinstance(part, Tensor) and part.ndim]
    data = [i for i in tensors if batch[i].ndim > 1 or batch[i].is_floating_point()]
    first = min(data, default=-1)
    labels = [i for i in tensors if batch[i].ndim == 1 and _is_whole(batch[i])]
    # A label stands behind its image; a number of the row may stand before it, or last.
    order = [*(i for i in labels if i > first), *(i for i in reversed(tensors) if i > first)]
    return [(i,) for i in dict.fromkeys([*order, *labels])]


def _is_whole(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() and not tensor.is_complex()


def _parameters(model: nn.Module) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(model.forward).parameters.values())
    except (TypeError, ValueError):
        return []


def _wanted(model: nn.Module) -> int:
    """How many arguments its forward cannot do without."""
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.default is p.empty and p.kind in plain for p in _parameters(model))


def _ways(
    model: nn.Module, batch: Any, own: Path | None, given: bool, wants_loss: bool
) -> Iterator[Way]:
    """Ways to call the model, the most usual first."""
    for target in [own] if given else target_paths(batch):
        if isinstance(batch, Mapping):
            yield from _ways_of_dict(model, batch, (), target, wants_loss)
        elif len(batch) == 2 and isinstance(batch[0], Mapping):
            yield from _ways_of_dict(model, batch[0], (0,), target, False)
        else:
            yield from _ways_of_row(model, batch, target)


def _ways_of_dict(
    model: nn.Module, part: Mapping, base: Path, target: Path | None, wants_loss: bool
) -> Iterator[Way]:
    names = {p.name for p in _parameters(model)}
    found = {(*base, *path): leaf for path, leaf in leaves(part) if isinstance(leaf, Tensor)}
    found = {path: leaf for path, leaf in found.items() if path != target and leaf.ndim}
    accepted = tuple((k, (*base, k)) for k in part if k in names and (*base, k) in found)
    if accepted and target is not None and target[-1] in names and wants_loss:
        yield Way(target, kwargs=(*accepted, (target[-1], target)), inside=True)
    if accepted:
        yield Way(target, kwargs=accepted)
    by_name = [path for name in INPUT_NAMES for path in found if path[-1] == name]
    by_size = sorted(found, key=lambda p: _size(found[p]), reverse=True)
    for path in dict.fromkeys([*by_name, *by_size]):
        yield Way(target, (path,))
    if base:
        yield Way(target, (base,))


def _size(tensor: Tensor) -> tuple[bool, int, int]:
    """By which one is more likely to be an image than another."""
    return tensor.is_floating_point(), tensor.ndim, tensor.numel()


def _ways_of_row(model: nn.Module, batch: Any, target: Path | None) -> Iterator[Way]:
    wanted = _wanted(model)
    if len(batch) == 2 and isinstance(batch[0], list | tuple):
        parts = tuple((0, i) for i in range(len(batch[0])))
        yield Way(target, parts)
        yield Way(target, ((0,),))
        yield Way(target, parts[:1])
        return
    tensors = [(i,) for i, part in enumerate(batch) if isinstance(part, Tensor) and part.ndim]
    data = [p for p in tensors if p != target]
    data.sort(key=lambda p: not (batch[p[0]].ndim > 1 or batch[p[0]].is_floating_point()))
    if wanted > 1 and target is not None:
        names = [p.name for p in _parameters(model)]
        if names[wanted - 1] in TARGET_NAMES:
            yield Way(target, (*data[: wanted - 1], target), inside=True)
        if len(data) >= wanted:
            yield Way(target, tuple(sorted(data[:wanted])))
        yield Way(target, (*data[: wanted - 1], target), inside=True)
    yield Way(target, tuple(data[:1]))
    yield Way(target, tuple(sorted(data)))


# ---- what the checks call inputs ----


def _main_input(
    parts: list[tuple[Path, Any]], batch: Any, targets: Any, whole: bool
) -> tuple[Any, Path | None]:
    """The inputs as one tensor, and where they stand, None where several stand side by side."""
    if whole:
        found = [(p, t) for p, t in leaves(batch) if isinstance(t, Tensor) and t is not targets]
        found = [(p, t) for p, t in found if t.ndim and isinstance(targets, Tensor)]
        found = [(p, t) for p, t in found if len(t) == len(targets)]
        if not found:
            return None, None
        path, x = max(found, key=lambda pair: (pair[1].is_floating_point(), pair[1].numel()))
        return x, path
    tensors = []
    for path, part in parts:
        inner = [(path + p, leaf) for p, leaf in leaves(part)]
        tensors += [(p, leaf) for p, leaf in inner if isinstance(leaf, Tensor) and leaf.ndim]
    if len(tensors) == 1:
        return tensors[0][1], tensors[0][0]
    if not tensors:
        return (parts[0][1] if parts else None), None
    flat = [t.flatten(1) if t.ndim > 1 else t[:, None] for _, t in tensors]
    return torch.cat(flat, 1), None


__all__ = ["Calling", "Column", "Way", "described"]
