"""The lessons' times on each kind of processor, and the limit of a cell's time that follows.

python tools/timings.py     the seconds that a cell of a lesson may take on this machine

notebooks/timings.json keeps for each notebook an entry for each kind. An entry also holds how fast
its machine trained, so that times measured there say what to expect here.
"""

import hashlib
import json
import sys
import time
from pathlib import Path

import nbformat
import torch
from torch.nn.functional import cross_entropy

from imbalkit.device import autocast, has_native_bfloat16, pick_device, synchronize, to_device
from imbalkit.models import small_net

TIMINGS = Path(__file__).resolve().parent.parent / "notebooks" / "timings.json"
# Two lessons that run side by side, or another program, slow a cell down further.
MARGIN, LEAST_LIMIT = 3, 120


def read_timings(path: Path = TIMINGS) -> dict[str, dict[str, dict]]:
    """{notebook: {kind of processor: entry}}; nothing where there is no file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def kind_of(device: torch.device) -> str:
    """In what a processor trains, "bfloat16" or "float32"; or "gpu"."""
    if device.type != "cpu":
        return "gpu"
    return "bfloat16" if has_native_bfloat16(device) else "float32"


def code_hash(path: Path) -> str:
    """A short hash of a notebook's code. Prose and outputs make no difference."""
    cells = nbformat.read(path, as_version=4).cells
    code = "\0".join(cell.source for cell in cells if cell.cell_type == "code")
    return hashlib.sha256(code.encode()).hexdigest()[:12]


def with_entry(timings: dict, notebook: str, kind: str, entry: dict) -> dict:
    """The timings with a new entry. Entries of other kinds that measured other code are dropped."""
    of_same_code = {
        other: old
        for other, old in timings.get(notebook, {}).items()
        if old["code"] == entry["code"]
    }
    kinds = dict(sorted((of_same_code | {kind: entry}).items()))
    return dict(sorted((timings | {notebook: kinds}).items()))


def images_per_second(budget: float = 3.0) -> float:
    """How fast the lessons' small network is trained here, from `budget` seconds of steps."""
    device = pick_device()
    with torch.random.fork_rng():
        model = small_net().to(device)
        images = to_device(torch.randn(128, 3, 32, 32), device)
        labels = (torch.arange(128) % 10).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)

    def step():
        with autocast(device):
            loss = cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        synchronize(device)

    for _ in range(3):  # the first steps are slow
        step()
    steps, begin = 0, time.perf_counter()
    while not steps or time.perf_counter() - begin < budget:
        step()
        steps += 1
    return len(images) * steps / (time.perf_counter() - begin)


def cell_limit(timings: dict, kind: str, speed: float) -> int:
    """Seconds that a cell may take where `speed` images are trained in a second.

    The longest cell of all lessons, as measured on this kind of processor or else on another one,
    would take as many times longer here as that machine trained faster; three times that, and at
    least two minutes.
    """
    entries = [kinds.get(kind) or next(iter(kinds.values())) for kinds in timings.values()]
    here = [e["slowest_cell_seconds"] * e["images_per_second"] / speed for e in entries]
    return max(LEAST_LIMIT, round(MARGIN * max(here, default=0)))


def limit_here(speed: float, timings: Path = TIMINGS) -> int:
    """The limit of this machine, which trains at that speed; one line on stderr says so."""
    kind = kind_of(pick_device())
    limit = cell_limit(read_timings(timings), kind, speed)
    print(f"{speed:.0f} images a second ({kind}): a cell may take {limit} s.", file=sys.stderr)
    return limit


if __name__ == "__main__":
    print(limit_here(images_per_second()))
