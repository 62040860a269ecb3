"""Print the peak memory, in MB, of this process after one epoch of `fit` on CIFAR-10-LT.

    python benchmarks/memory.py small_net      any function of imbalkit.models
    python benchmarks/memory.py                what `import torch` alone takes

It is a process of its own because memory, once used, says nothing about who used it.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import torch


def peak_memory() -> float | None:
    """The most memory that this process ever held, in MB (10^6 bytes); None where not measured.

    Read from Linux's /proc: `resource.getrusage` would count the parent process too, because the
    figure it gives survives the start of a new program.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return None
    return int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) * 1024 / 1e6


def in_own_process(module: str, *arguments: str, **environment: str) -> dict:
    """What ``python -m module`` prints last, as JSON, with one thread."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def train_one_epoch(model_name: str, images: int | None) -> None:
    """Set up and train as a lesson does, validation included."""
    from imbalkit import models
    from imbalkit.course.lab import set_up
    from imbalkit.training import fit

    lab = set_up()
    train = lab.train if images is None else lab.train.subset(torch.arange(images))
    model = getattr(models, model_name)(num_classes=len(lab.classes))
    fit(model, lab.train_batches(train), 1, val_batches=lab.eval_batches(lab.validation))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", help="a function of imbalkit.models")
    parser.add_argument("--images", type=int, help="train on so many images only")
    wanted = parser.parse_args()
    if wanted.model:
        train_one_epoch(wanted.model, wanted.images)
    print(json.dumps(peak_memory()))
