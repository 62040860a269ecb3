"""A training is killed at random moments, again and again, and goes on each time.

Lost: it does not go on, its weights at the end are not those of one that was never stopped, bit for
bit, or the file of a killed process is there for ever.
"""

import contextlib
import os
import signal
import time
from functools import cache
from pathlib import Path
from random import Random

import torch
from test_checkpoint import LOADERS, train

from tests.chaos import check_left, children, refuse

KILLS = 4
LONGEST = 0.12  # seconds until the next kill; a training takes half as long


def attack(random: Random, folder: Path) -> None:
    """Kill a training up to four times."""
    if not hasattr(os, "fork"):
        return
    kind = random.choice(sorted(LOADERS))
    expected = whole_training(kind)
    options = {"checkpoint": folder / "run.pt", "resume": True}

    def go_on() -> dict[str, torch.Tensor]:
        return {name: value.numpy() for name, value in train(LOADERS[kind], **options)[0].items()}

    for _ in range(random.randint(1, KILLS)):
        child, pipe = children.begin(go_on)
        time.sleep(random.uniform(0, LONGEST))
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        _, error = children.end(child, pipe)
        refuse(error is None, f"a training with generators {kind!r} does not go on: {error}")
    found, error = children.end(*children.begin(go_on))
    refuse(error is None, f"a training with generators {kind!r} does not go on: {error}")
    for name, value in expected.items():
        refuse((value == found[name]).all(), f"{name} differs, with the generators {kind!r}")
    for left in folder.glob(".*"):
        os.utime(left, (0, 0))  # as if the kill were long ago
    children.end(*children.begin(lambda: train(LOADERS[kind], checkpoint=folder / "run.pt")))
    check_left(folder, "run.pt")


@cache
def whole_training(kind: str) -> dict:
    """The weights of a training that nobody kills. It also loads all that the children need."""
    return {name: value.numpy() for name, value in train(LOADERS[kind])[0].items()}
