"""Two sizes of every lesson: one for a laptop's processor, one for a GPU."""

import os
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Profile:
    """How large a lesson's trainings are.

    Attributes:
        name: "cpu" or "gpu".
        epochs: passes over the training images of a full training.
        width: channels of a network's first block.

    Example:
        >>> PROFILES["cpu"]
        Profile(name='cpu', epochs=8, width=32)
    """

    name: str
    epochs: int
    width: int


PROFILES = {
    "cpu": Profile("cpu", epochs=8, width=32),
    "gpu": Profile("gpu", epochs=30, width=64),
}


def current_profile(device: torch.device) -> Profile:
    """The profile that ``IMBALKIT_PROFILE`` names, else the one that fits the device.

    Raises:
        ValueError: the name is not in `PROFILES`.

    Example:
        >>> current_profile(torch.device("cpu")) in PROFILES.values()
        True
    """
    name = os.environ.get("IMBALKIT_PROFILE") or ("cpu" if device.type == "cpu" else "gpu")
    if name not in PROFILES:
        raise ValueError(
            f"IMBALKIT_PROFILE is '{name}', which is no profile; set it to one of "
            f"{', '.join(PROFILES)} or leave it unset."
        )
    return PROFILES[name]
