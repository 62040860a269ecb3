"""Copies to examine in place of the caller's model, optimizer and loss; and the caller's left as
they were."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy


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


def copies(
    model: nn.Module, optimizer: torch.optim.Optimizer | None, loss_fn: Callable
) -> tuple[nn.Module, torch.optim.Optimizer | None, Callable]:
    """Copies that share nothing with the originals.

    The optimizer's copy holds the model's copy, and that of the loss where it is a module (or the
    method of one).
    """
    if isinstance(getattr(loss_fn, "__self__", loss_fn), nn.Module):
        return duplicate((model, optimizer, loss_fn), model)
    return *duplicate((model, optimizer), model), loss_fn


def duplicate(things: Any, model: nn.Module) -> Any:
    """A deep copy of `things`, among them `model`.

    The model may keep tensors of its last forward pass: they go without their history, which cannot
    be copied.

    Raises:
        TypeError: the model holds something else that cannot be copied.
    """
    kept = [t for module in model.modules() for t in vars(module).values()]
    memo = {id(t): t.detach().clone() for t in kept if isinstance(t, Tensor) and not t.is_leaf}
    try:
        return copy.deepcopy(things, memo)
    except Exception as error:
        raise TypeError(
            f"the model cannot be copied ({type(error).__name__}: {error}); detach tensors that it "
            "keeps from its last forward pass, and drop hooks."
        ) from error


@contextmanager
def untouched(model: nn.Module, optimizer: torch.optim.Optimizer | None) -> Iterator[None]:
    """Put gradients and buffers back at the end.

    The copies do not touch them, but a loss that holds the model (a penalty on its weights), or a
    forward made of a closure, does.
    """
    groups = optimizer.param_groups if optimizer is not None else []
    parameters = [*model.parameters(), *(p for group in groups for p in group["params"])]
    gradients = [(p, p.grad, None if p.grad is None else p.grad.clone()) for p in parameters]
    buffers = [(b, b.clone()) for b in model.buffers() if not is_lazy(b)]
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, gradient, value in gradients:
                parameter.grad = gradient
                if gradient is not None:
                    gradient.copy_(value)
            for buffer, value in buffers:
                buffer.copy_(value)


def renew(model: nn.Module) -> set[str]:
    """New random weights, as each layer draws them itself; other parameters get small numbers.

    Frozen parameters too: a trial training is about the learning rate, and pretrained weights that
    are good stay as they are, because such a model is not failing.

    Returns:
        The names of the parameters that their layer drew.
    """
    owners = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            owners[id(parameter)] = module
    renewed = set()
    for module in {id(m): m for m in owners.values()}.values():
        reset = getattr(module, "reset_parameters", None) or getattr(
            module, "_reset_parameters", None
        )
        if callable(reset):
            reset()
            renewed.add(id(module))
    with torch.no_grad():
        for parameter in model.parameters():
            if id(owners[id(parameter)]) not in renewed and parameter.is_floating_point():
                nn.init.trunc_normal_(parameter, std=0.02)
        for buffer in model.buffers():
            if buffer.is_floating_point() and not buffer.isfinite().all():
                buffer.zero_()
    return {name for name, p in model.named_parameters() if id(owners[id(p)]) in renewed}
