"""The content of a model file, a checkpoint or a manifest is changed, and its digest made to fit.

A digest stops no person. Lost: an exception that is no sentence, a model that answers NaN, a
refused checkpoint that changed the training.
"""

import copy
import json
import math
from pathlib import Path
from random import Random
from typing import Any

import torch

from imbalkit import sealed
from tests.chaos import refuse
from tests.fuzz import readers

ODD = [
    None, True, 0, -1, 10**30, 0.5, -0.0, math.nan, math.inf, 1e308, "", "x" * 300, "\x1b[2J", [],
    {}, [[]], {"a": 1}, {"": None},
]  # fmt: skip
TENSORS = [
    torch.zeros(0), torch.tensor(math.nan), torch.tensor(math.inf), torch.full((2,), 1e38),
    torch.zeros(2, dtype=torch.bool), torch.zeros(2, dtype=torch.complex64),
    torch.zeros(1).expand(9), torch.ones(3, 2, dtype=torch.int8),
    torch.zeros(2, device="meta"), torch.eye(2).to_sparse(), torch.eye(2, dtype=torch.float16),
    torch.zeros(1).expand(10**6, 10**6), torch.zeros(2, 2, 2, 2),
    torch.nn.Parameter(torch.ones(2)),
]  # fmt: skip


def attack(random: Random, folder: Path) -> None:
    """Forge one file."""
    kind = random.choice(["model", "checkpoint", "manifest"])
    path = readers.sealed_file(folder / "file", kind)
    if kind == "manifest":
        content = json.loads(path.read_bytes())
        for _ in range(random.randint(1, 3)):
            change(random, content, ODD)
        data = readers.with_digest(json.dumps(content).encode())
    else:
        content = torch.load(path, weights_only=True)
        for _ in range(random.randint(1, 3)):
            change(random, content, ODD + TENSORS)
        sealed.write(path, content)
        data = path.read_bytes()[: -sealed.LENGTH]
    try:
        readers.READERS[kind](data)
    except AssertionError as error:
        refuse(False, f"a forged {kind}: {error}")


def change(random: Random, content: Any, odd: list[Any]) -> None:
    """Change one thing in what a file holds: take it away, or put in another."""
    while True:
        keys = list(content) if isinstance(content, dict) else list(range(len(content)))
        if not keys:
            return
        key = random.choice(keys)
        inside = content[key]
        if isinstance(inside, dict | list) and inside and random.random() < 0.9:
            content = inside
            continue
        break
    what = random.random()
    if what < 0.2:
        del content[key]
    elif what < 0.3 and isinstance(content, dict):
        content[random.choice(["", "x", 3, *keys])] = copy.deepcopy(random.choice(odd))
    elif what < 0.5 and isinstance(inside, torch.Tensor) and inside.numel():
        others = [inside * math.nan, inside * 1e38, inside[:0], inside.double()]
        content[key] = random.choice(others)
    else:
        content[key] = copy.deepcopy(random.choice(odd))
