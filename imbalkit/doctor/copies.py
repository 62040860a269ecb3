"""Copies to examine in place of the caller's model, optimizer and loss, as far as there can be."""

import copy
import io
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from imbalkit.doctor.keeping import TRAINERS, shared
from imbalkit.doctor.outputs import first_line

PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)
# The same weights, averaged over the steps; timm's classes are named so.
AVERAGES = ("AveragedModel", "ModelEma", "ModelEmaV2", "ModelEmaV3")
SHARDED = ("FullyShardedDataParallel", "FSDPModule")


def model_device(model: nn.Module) -> torch.device:
    """Where the parameters are; one device for all of them.

    Raises:
        ValueError: they are on several devices, or on the meta device, where there are no numbers.
    """
    devices = {tensor.device for tensor in [*model.parameters(), *model.buffers()]}
    if len(devices) > 1:
        names = ", ".join(sorted(map(str, devices)))
        raise ValueError(
            f"the model's parameters and buffers lie on {names}; move all of it to one device with "
            "model.to(device)."
        )
    device = devices.pop() if devices else torch.device("cpu")
    if device.type == "meta":
        raise ValueError("the model is on the meta device and holds no numbers; load its weights.")
    return device


# ---- what stands around a model or an optimizer ----


def inner_model(model: Any) -> tuple[nn.Module, str]:
    """The module inside wrappers that compile, copy to devices, synchronise or average it.

    Returns:
        It, and why an optimizer says nothing about it, or "".

    Raises:
        TypeError: it is none, or one that cannot be looked into.
    """
    reason = ""
    while True:
        kinds = {kind.__name__ for kind in type(model).__mro__}
        if not isinstance(model, nn.Module):
            raise TypeError(f"model is a {type(model).__name__}; pass a torch.nn.Module.")
        if kinds & set(SHARDED) or any(hasattr(p, "device_mesh") for p in model.parameters()):
            raise TypeError(
                "the model's weights are sharded over processes (FSDP or DTensor); gather them "
                "on all ranks with torch.distributed.checkpoint.state_dict.get_model_state_dict "
                "(full_state_dict=True), load them into a plain model, and pass that."
            )
        if isinstance(model, PARALLEL):
            model = model.module
        elif isinstance(getattr(model, "_orig_mod", None), nn.Module):  # torch.compile
            model = model._orig_mod
        elif kinds & set(AVERAGES) and isinstance(getattr(model, "module", None), nn.Module):
            model, reason = model.module, "the model is an average that no optimizer steps on"
        else:
            return model, reason


def inner_optimizer(optimizer: Any) -> Optimizer | None:
    """torch's optimizer inside wrappers, such as those of accelerate and Lightning.

    Raises:
        TypeError: there is none.
    """
    one, seen = optimizer, 0
    while one is not None and seen < 10:
        inner = _optimizer_in(one)
        if inner is None:
            break
        one, seen = inner, seen + 1
    if one is not None and not isinstance(one, Optimizer):
        raise TypeError(f"optimizer is a {type(one).__name__}; pass a torch.optim.Optimizer.")
    return one


def _optimizer_in(one: Any) -> Optimizer | None:
    attributes = getattr(one, "__dict__", {})
    inner = [attributes.get(name) for name in ("optimizer", "_optimizer")]
    return next((o for o in inner if isinstance(o, Optimizer) and o is not one), None)


# ---- copies ----


@dataclass
class Copies:
    """What is examined.

    Attributes:
        model: a copy, or the caller's own where there can be none.
        optimizer: as `model`, or None.
        loss_fn: as `model`.
        no_trials: why nothing may be trained, or "".
        touched: what of the caller's the examination can still reach, to be put back.
        twins: the copy of each of the caller's tensors, by its id.
    """

    model: nn.Module
    optimizer: Optimizer | None
    loss_fn: Callable
    no_trials: str = ""
    touched: list[Any] = field(default_factory=list)
    twins: dict[int, Tensor] = field(default_factory=dict)


def proven_copies(model: nn.Module, optimizer: Optimizer | None, loss_fn: Callable) -> Copies:
    """Copies of which it is proven that they share nothing with the originals.

    The optimizer's copy holds the copies of the parameters, and of its state only single numbers,
    such as the steps. What leads back to the caller's, a forward that calls another network for
    example, is examined as it is and not trained.
    """
    memo = _memo(model, optimizer)
    try:
        new, no_trials = copy.deepcopy(model, memo), ""
    except Exception as error:
        new, no_trials = model, f"it raises {type(error).__name__}: {first_line(error)}"
    kept = shared([new], [model])
    if any(isinstance(one, nn.Module) or _trains(one) for one in kept):
        no_trials = no_trials or (
            "its copy is the model itself"
            if new is model
            else "it leads to weights that are not its own, in a closure or a global"
        )
    if no_trials:
        no_trials = f"the model cannot be copied: {no_trials}"
    result = Copies(new, optimizer, loss_fn, no_trials)
    if not no_trials:
        _tidy(new)
        result.twins = {id(p): q for p, q in zip(_state(model), _state(new), strict=False)}
        result.loss_fn = _copied_loss(loss_fn, memo)
    if optimizer is not None and not no_trials:
        result.optimizer, result.no_trials = _copied_optimizer(optimizer, model, memo)
    if not result.no_trials and any(isinstance(m, Scripted) for m in new.modules()):
        result.no_trials = "the layers of a ScriptModule cannot be drawn anew"
    result.touched = shared([new, result.loss_fn], [model, loss_fn, optimizer])
    return result


def _memo(model: nn.Module, optimizer: Optimizer | None) -> dict[int, Any]:
    """What a deep copy takes in place of some objects.

    A tensor of the last forward pass goes without its history, which cannot be copied; a trainer
    that a module knows is left behind with all its data; of an optimizer's state the large tensors
    are not needed.
    """
    memo: dict[int, Any] = {}
    for script in _scripts(model):
        memo[id(script)] = Scripted(script).copied(memo)
    for module in model.modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
            if name in TRAINERS and value is not None:
                memo[id(value)] = types.SimpleNamespace()
    for state in optimizer.state.values() if optimizer is not None else ():
        for value in state.values() if isinstance(state, dict) else ():
            if isinstance(value, Tensor) and value.numel() > 1:
                memo[id(value)] = value.new_empty(0)
    return memo


class Scripted(nn.Module):
    """A scripted or traced module as one layer, of which the weights can be seen alone."""

    def __init__(self, script: torch.jit.ScriptModule):
        super().__init__()
        self.script = [script]  # in a list, where it is no part of the model
        # Those of a copy are no nn.Parameter, and may be registered under no name with a dot.
        self._parameters.update(script.named_parameters())
        self._buffers.update(script.named_buffers())

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.script[0](*args, **kwargs)

    def train(self, mode: bool = True) -> "Scripted":
        self.script[0].train(mode)
        return super().train(mode)

    def copied(self, memo: dict[int, Any]) -> "Scripted":
        """A copy by way of a file: in a deep one gradients flow on into the original."""
        file = io.BytesIO()
        torch.jit.save(self.script[0], file)
        file.seek(0)
        new = Scripted(torch.jit.load(file))
        memo |= {id(old): q for old, q in zip(_state(self), _state(new), strict=True)}
        return new

    __deepcopy__ = copied


def _scripts(model: nn.Module) -> Iterator[torch.jit.ScriptModule]:
    """The scripted or traced modules in it, those inside of them left out."""
    if isinstance(model, torch.jit.ScriptModule):
        yield model
        return
    for child in model.children():
        yield from _scripts(child)


def _copied_loss(loss_fn: Callable, memo: dict[int, Any]) -> Callable:
    """A copy of a loss that keeps something, and of the method of one; a function stays itself."""
    owner = getattr(loss_fn, "__self__", loss_fn)
    if isinstance(owner, types.FunctionType | types.BuiltinFunctionType | types.ModuleType | type):
        return loss_fn
    try:
        return copy.deepcopy(loss_fn, memo)
    except Exception:  # then it is used as it is, and put back
        return loss_fn


def _copied_optimizer(
    optimizer: Optimizer, model: nn.Module, memo: dict[int, Any]
) -> tuple[Optimizer, str]:
    """The copy, or the optimizer itself and why it may not be used."""
    name = type(optimizer).__name__
    try:
        new = copied_with_attributes(optimizer, memo)
    except Exception as error:
        return optimizer, f"the optimizer {name} cannot be copied: {type(error).__name__}"
    if shared([new], [optimizer, model]):
        return optimizer, f"the optimizer {name} cannot be copied: its copy leads back to yours"
    return new, ""


def copied_with_attributes(optimizer: Optimizer, memo: dict[int, Any]) -> Optimizer:
    """A deep copy with the attributes of a class of one's own, which torch's copy leaves out.

    Not with functions: a scheduler puts a `step` there that belongs to the original.
    """
    new = copy.deepcopy(optimizer, memo)
    for name, value in vars(optimizer).items():
        if name not in vars(new) and not name.startswith("_") and not callable(value):
            setattr(new, name, copy.deepcopy(value, memo))
    return new


def _trains(one: Any) -> bool:
    return isinstance(one, Tensor) and one.requires_grad


def _state(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


class _LocalBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Of any number of dimensions, and of this process alone."""

    def _check_input_dim(self, input: Tensor) -> None:
        pass


def _tidy(model: nn.Module) -> None:
    """Nothing in the copy waits for other processes, or for a compiler; and no gradient is left."""
    for module in model.modules():
        if isinstance(module, nn.SyncBatchNorm):
            module.__class__ = _LocalBatchNorm  # type: ignore[assignment]
        for name, child in list(module._modules.items()):
            inner = getattr(child, "_orig_mod", None)
            if isinstance(inner, nn.Module):
                module._modules[name] = inner
    for parameter in model.parameters():
        parameter.grad = None


def duplicate(things: Any, model: nn.Module) -> Any:
    """A deep copy of things that are copies already, among them `model`, for one trial."""
    return copy.deepcopy(things, _memo(model, None))


def duplicate_both(model: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
    """The same of a model and its optimizer."""
    memo = _memo(model, None)
    return copy.deepcopy(model, memo), copied_with_attributes(optimizer, memo)


def owners_of(model: nn.Module) -> dict[int, nn.Module]:
    """The module that each parameter belongs to, by the parameter's id."""
    owners = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            owners[id(parameter)] = module
    return owners


def reset_of(module: nn.Module) -> Callable | None:
    """The method by which a layer draws its weights, if it has one."""
    reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
    return reset if callable(reset) else None


def renew(model: nn.Module) -> None:
    """New random weights, as each layer draws them itself; other parameters get small numbers.

    Frozen parameters too: a trial training is about the learning rate, and pretrained weights that
    are good stay as they are, because such a model is not failing.
    """
    owners = owners_of(model)
    renewed = set()
    for module in {id(m): m for m in owners.values()}.values():
        reset = reset_of(module)
        if reset is not None:
            reset()
            renewed.add(id(module))
    with torch.no_grad():
        for parameter in model.parameters():
            if id(owners[id(parameter)]) not in renewed and parameter.is_floating_point():
                nn.init.trunc_normal_(parameter, std=0.02)
        for buffer in model.buffers():
            if buffer.is_floating_point() and not buffer.isfinite().all():
                buffer.zero_()


def sizes_of_new_weights(model: nn.Module) -> dict[str, float]:
    """The norm that each parameter has when its layer draws it anew; one layer is copied at a
    time."""
    owners, names = owners_of(model), {id(p): name for name, p in model.named_parameters()}
    sizes: dict[str, float] = {}
    for module in {id(m): m for m in owners.values()}.values():
        if reset_of(module) is None:
            continue
        try:
            new = duplicate(module, module)
        except Exception:  # then nothing is known of this one
            continue
        reset = reset_of(new)
        if reset is None or new is module or shared([new], [module]):
            continue
        reset()
        own = zip(module.parameters(recurse=False), new.parameters(recurse=False), strict=True)
        sizes |= {names[id(p)]: q.detach().norm().item() for p, q in own if id(p) in names}
    return sizes
