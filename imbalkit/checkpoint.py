"""All that a training needs to go on where it was cut off, in one file. `fit` writes and reads it.

Used in lesson 12.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from imbalkit.device import random_state, set_random_state
from imbalkit.files import atomic_path


def save_checkpoint(
    path: str | Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    history: dict[str, Any],
    best_weights: dict[str, Tensor] | None,
) -> None:
    """Write all that a training needs to go on, the random state included. The write is atomic."""
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "history": history,
        "best_weights": best_weights,
        "random": random_state(),
    }
    with atomic_path(path) as temporary:
        torch.save(state, temporary)


def load_checkpoint(
    path: str | Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    device: torch.device,
) -> tuple[dict[str, Any], dict[str, Tensor] | None]:
    """Restore what `save_checkpoint` wrote; return the history's fields and the best weights.

    Raises:
        ValueError: the file is damaged, or belongs to another model.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        scheduler.load_state_dict(state["scheduler"])
    except Exception as error:
        raise ValueError(
            f"{path}: cannot be resumed from ({type(error).__name__}); it is damaged or belongs to "
            "another model: delete it or name another file."
        ) from error
    set_random_state(state["random"])
    history = state["history"]
    return history | {"shares": history["shares"].cpu()}, state["best_weights"]
