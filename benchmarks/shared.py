"""What the leaderboard and the board have in common."""

import copy
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Sampler

from imbalkit.losses import LogitAdjustedLoss

ROOT = Path(__file__).resolve().parents[1]


def commit() -> str | None:
    """The commit of the code that runs, short; None outside of a repository."""
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return found or None


def with_prior_removed(model: nn.Module, counts: Sequence[int], tau: float) -> nn.Module:
    """A copy whose logits have tau log(n_c / N) subtracted: in the bias, so nothing is added."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        model.classifier.bias -= LogitAdjustedLoss(counts, tau).adjustment
    return model


class Rounds(Sampler[int]):
    """Passes of another sampler, one after the other, cut into epochs of `length` indices."""

    def __init__(self, sampler: Sampler[int], length: int):
        self.sampler, self.length = sampler, length
        self.rest: Iterator[int] = iter(())

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        for _ in range(self.length):
            index = next(self.rest, None)
            if index is None:
                self.rest = iter(self.sampler)
                index = next(self.rest)
            yield index


class Times(nn.Module):
    """Logits times a number."""

    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, logits: Tensor) -> Tensor:
        return logits * self.factor
