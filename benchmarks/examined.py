"""How long does `diagnose` take, and how much memory above that of the training?

    python -m benchmarks.examined                     measure all, write results/examined.json
    python -m benchmarks.examined "ResNet-32" SGD     one, in this process

README.md, beside this file, says what the figures mean and which promise they have to keep.
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from datetime import date
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.memory import in_own_process, peak_memory
from imbalkit import diagnose, models
from imbalkit.files import atomic_path

RESULTS = Path(__file__).parent / "results" / "examined.json"
SECONDS, LATE = 20, 1.2  # the budget, and how many times as long it may take
LARGE, COPIES = 50e6, 2.0  # parameters, and copies of them in memory above the training's own
CLASSES = 10


class Made(Dataset):
    """Random inputs that depend on their class, made anew at each look."""

    def __init__(self, make: Callable[[int], Tensor], length: int):
        self.make, self.length = make, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.make(index), index % CLASSES


def image(side: int) -> Callable[[int], Tensor]:
    def make(index: int) -> Tensor:
        noise = torch.randn(3, side, side, generator=torch.Generator().manual_seed(index))
        return noise + index % CLASSES / CLASSES

    return make


def words(index: int) -> Tensor:
    return torch.randint(8_000, (32,), generator=torch.Generator().manual_seed(index))


class Text(nn.Module):
    """A transformer of the size of BERT: 12 layers, 768 wide."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(8_000, 768)
        layer = nn.TransformerEncoderLayer(768, 12, 3_072, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 12)
        self.head = nn.Linear(768, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(self.words(x)).mean(1))


def of_torchvision() -> nn.Module:
    from torchvision.models import resnet18

    return resnet18(num_classes=CLASSES)


def of_timm() -> nn.Module:
    import timm

    return timm.create_model("vit_tiny_patch16_224", num_classes=CLASSES)


# Each with an input and the size of a batch.
MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Tensor], int]] = {
    "ResNet-32": (lambda: models.resnet(32, num_classes=CLASSES), image(32), 128),
    "torchvision's resnet18, 3 x 224 x 224": (of_torchvision, image(224), 16),
    "timm's vit_tiny, 3 x 224 x 224": (of_timm, image(224), 16),
    "transformer, 32 words": (Text, words, 8),
}
OPTIMIZERS: dict[str, Callable] = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, 0.01, momentum=0.9),
    "Adam": lambda parameters: torch.optim.Adam(parameters, 1e-4),
}


def measure(name: str, optimizer_name: str, seconds: float = SECONDS) -> dict:
    """Two steps of training, then `diagnose`; the peak memory of both, in MB."""
    make, inputs, batch = MODELS[name]
    torch.manual_seed(0)
    model = make()
    optimizer = OPTIMIZERS[optimizer_name](model.parameters())
    loader = DataLoader(Made(inputs, 2_048), batch, shuffle=True)
    for _, (x, y) in zip(range(2), loader, strict=False):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    before, parameters = peak_memory(), sum(p.numel() for p in model.parameters())
    begin = time.perf_counter()
    report = diagnose(model, loader, optimizer=optimizer, seconds=seconds)
    spent, after = time.perf_counter() - begin, peak_memory()
    above = None if before is None or after is None else after - before
    return {
        "model": name,
        "parameters": parameters,
        "optimizer": optimizer_name,
        "batch": batch,
        "seconds": spent,
        "training MB": before,
        "above MB": above,
        "copies": None if above is None else above * 1e6 / (4 * parameters),
        "left out": sorted(n for n, why in report.not_checked.items() if "no time" in why),
    }


def measure_apart(name: str, optimizer: str) -> dict:
    """The same in a process of its own: memory, once used, says nothing about who used it."""
    return in_own_process("benchmarks.examined", name, optimizer)


def broken_promises(rows: list[dict]) -> list[str]:
    """Which examinations took too long, or more copies of a large model than are promised."""
    broken = []
    for row in rows:
        who = f"{row['model']} with {row['optimizer']}"
        if row["seconds"] > LATE * SECONDS:
            broken.append(f"{who}: {row['seconds']:.1f} s")
        if row["parameters"] > LARGE and row["copies"] is not None and row["copies"] > COPIES:
            broken.append(f"{who}: {row['copies']:.2f} copies")
    return broken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", choices=MODELS)
    parser.add_argument("optimizer", nargs="?", choices=OPTIMIZERS, default="SGD")
    parser.add_argument("--beside", default="nothing else", help="what else ran, for the record")
    wanted = parser.parse_args()
    if wanted.model:
        print(json.dumps(measure(wanted.model, wanted.optimizer)))
        return 0
    rows = []
    for name in MODELS:
        if name.startswith("timm") and find_spec("timm") is None:
            continue
        for optimizer in OPTIMIZERS:
            rows.append(measure_apart(name, optimizer))
            print(json.dumps(rows[-1]), flush=True)
    record = {
        "date": str(date.today()),
        "torch": torch.__version__,
        "machine": f"{platform.system()}, {platform.machine()}, CPU, 1 thread",
        "beside": wanted.beside,
        "budget": SECONDS,
        "rows": rows,
    }
    with atomic_path(RESULTS) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    broken = broken_promises(rows)
    print("\n".join(broken) or "all promises are kept")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
