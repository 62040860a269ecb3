"""The one place that decides on which device to compute, and in which precision."""

from contextlib import AbstractContextManager, nullcontext

import torch


def pick_device() -> torch.device:
    """The best device of this machine: a CUDA GPU, then Apple's GPU (MPS), then the CPU.

    Example:
        >>> pick_device().type in ("cuda", "mps", "cpu")
        True
    """
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def checked_device(device: torch.device | str) -> torch.device:
    """A device by its name, or what is wrong with it.

    Raises:
        ValueError: there is no such device here.

    Example:
        >>> checked_device("cpu")
        device(type='cpu')
    """
    try:
        torch.empty(0, device=device)
        return torch.device(device)
    except (AssertionError, RuntimeError, TypeError) as error:  # torch raises each of them
        raise ValueError(
            f"the device {str(device)!r} cannot be used here; give one such as "
            f"{pick_device().type!r}, or leave it out."
        ) from error


def has_native_bfloat16(device: torch.device) -> bool:
    """Does the processor itself compute in bfloat16? Where it does not, emulation is slower.

    Example:
        >>> has_native_bfloat16(torch.device("cpu")) in (True, False)
        True
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # Older releases of torch cannot tell; float32 is then the safe answer.
    if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):
        cpu = torch.cpu.get_capabilities()
        return bool(cpu.get("avx512_bf16") or cpu.get("amx_bf16") or cpu.get("bf16"))
    return False


def free_memory(device: torch.device) -> int | None:
    """Bytes that are free on a GPU; None where nobody tells, as for the memory of a processor.

    Example:
        >>> free_memory(torch.device("cpu")) is None
        True
    """
    if device.type != "cuda":
        return None
    return torch.cuda.mem_get_info(device)[0]


def autocast(device: torch.device) -> AbstractContextManager:
    """Compute in bfloat16 where the processor has it natively, else change nothing.

    Example:
        >>> with autocast(torch.device("cpu")):
        ...     product = torch.ones(2, 2) @ torch.ones(2, 2)
        >>> product.dtype in (torch.bfloat16, torch.float32)
        True
    """
    if has_native_bfloat16(device):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def memory_format(device: torch.device) -> torch.memory_format:
    """The layout in which convolutions run fastest: the channel last on CPU and CUDA.

    Example:
        >>> memory_format(torch.device("cpu"))
        torch.channels_last
    """
    return torch.contiguous_format if device.type == "mps" else torch.channels_last


def to_device(images: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Images (N, C, H, W) on the device in its memory format; other shapes as they are.

    Example:
        >>> images = to_device(torch.zeros(2, 3, 4, 4), torch.device("cpu"))
        >>> images.is_contiguous(memory_format=torch.channels_last)
        True
    """
    if images.ndim != 4:
        return images.to(device, non_blocking=True)
    return images.to(device, memory_format=memory_format(device), non_blocking=True)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done its work; whoever times a GPU must ask for that.

    Example:
        >>> synchronize(torch.device("cpu"))
    """
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def describe(device: torch.device) -> str:
    """One short phrase for captions, such as "CPU, 2 threads, bfloat16".

    Example:
        >>> describe(torch.device("cpu"))
        'CPU, ... threads, ...'
    """
    precision = "bfloat16" if has_native_bfloat16(device) else "float32"
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, {precision}"
    if device.type == "cpu":
        return f"CPU, {torch.get_num_threads()} threads, {precision}"
    return f"{device.type.upper()}, {precision}"


__all__ = [
    "autocast",
    "checked_device",
    "describe",
    "free_memory",
    "has_native_bfloat16",
    "memory_format",
    "pick_device",
    "synchronize",
    "to_device",
]
