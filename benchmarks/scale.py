"""How do memory and time grow with the number of images, files or classes?

    python -m benchmarks.scale                  measure all, write results/scale.json
    python -m benchmarks.scale "fit" 1000       one job at one size, in this process

README.md, beside this file, says what the figures mean and which bounds they have to keep.
"""

import argparse
import contextlib
import io
import json
import math
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from itertools import pairwise
from pathlib import Path

import torch
from PIL import Image
from torch import nn

from benchmarks.memory import in_own_process, peak_memory
from imbalkit import inference, models, predict
from imbalkit.data import find_duplicates, import_folder
from imbalkit.files import atomic_path
from imbalkit.training import fit

RESULTS = Path(__file__).parent / "results" / "scale.json"
SIZES = (1_000, 10_000, 100_000)
ROUNDS = {1_000: 5, 10_000: 3}  # the fastest counts: another program can only slow one down
# What an item may cost in memory, in bytes: the arrays that hold it, a few times over. FIXED is for
# the libraries and what a fixed number of images takes.
BYTES = {
    "find_duplicates, different pictures": 12_000,  # 3 kB of pixels, 0.8 kB of thumbnail
    "find_duplicates, pictures that look alike": 12_000,
    "fit, classes": 12_000,  # 128 validation scores of 4 bytes, and weights, for each class
    "import_folder": 16_000,
    "predict": 8_000,
}
FIXED = 900e6  # bytes
TOLERANCE = 1.5  # times n log n, from one size to the next


def find_copies(images: torch.Tensor) -> Callable:
    return lambda: find_duplicates(images)


def different_pictures(n: int) -> Callable:
    """Pictures of a few soft shades, as photographs are from afar."""
    generator = torch.Generator().manual_seed(0)
    images = torch.empty(n, 32, 32, 3, dtype=torch.uint8)
    for part in images.split(1_000):
        shades = torch.randint(256, (len(part), 3, 3, 3), generator=generator).float()
        soft = nn.functional.interpolate(shades, (32, 32), mode="bilinear")
        part.copy_(soft.permute(0, 2, 3, 1))
    return find_copies(images)


def alike_pictures(n: int) -> Callable:
    """One picture with a little noise, n times, as of parts on a belt."""
    generator = torch.Generator().manual_seed(0)
    fields = torch.randint(10, 246, (8, 8, 3), generator=generator)
    one = fields.repeat_interleave(4, 0).repeat_interleave(4, 1)
    images = torch.empty(n, 32, 32, 3, dtype=torch.uint8)
    for part in images.split(1_000):
        part.copy_(one + torch.randint(-9, 10, part.shape, generator=generator))
    return find_copies(images)


def fit_classes(n: int) -> Callable:
    """Two epochs of a training with n classes, each with a validation and a checkpoint."""
    torch.manual_seed(0)
    model = nn.Linear(8, n)
    batches = [(torch.randn(64, 8), torch.randint(n, (64,))) for _ in range(2)]

    def job() -> None:
        with tempfile.TemporaryDirectory() as folder:
            fit(
                model, batches, 2, val_batches=batches, checkpoint=f"{folder}/run.pt",
                device=torch.device("cpu"), show_progress=False,
            )  # fmt: skip

    return job


def folder_of(n: int) -> str:
    """n small images in ten class folders."""
    folder = tempfile.mkdtemp(dir=os.environ.get("SCALE_FOLDER"))
    pixels = torch.randint(256, (10, 32, 32, 3), generator=torch.Generator().manual_seed(0))
    for c, image in enumerate(pixels.byte().numpy()):
        os.mkdir(f"{folder}/class {c}")
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        for i in range(c, n, 10):
            Path(f"{folder}/class {c}/{i}.png").write_bytes(file.getvalue())
    return folder


def import_files(n: int) -> Callable:
    folder = folder_of(n)
    return lambda: import_folder(folder)


def predict_files(n: int) -> Callable:
    folder = folder_of(n)
    model = models.plain_cnn(num_classes=10, width=4)
    file, classes = f"{folder}.pt", [f"class {c}" for c in range(10)]
    predictor = inference.Predictor(model, classes, [0.5] * 3, [0.25] * 3, 32)
    inference.save(predictor, file, "plain_cnn", num_classes=10, width=4)

    def job() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            status = predict.main([file, folder, "--output", f"{folder}.csv"])
        if status:
            raise RuntimeError(f"imbalkit predict ended with status {status}.")

    return job


JOBS: dict[str, Callable[[int], Callable]] = {
    "find_duplicates, different pictures": different_pictures,
    "find_duplicates, pictures that look alike": alike_pictures,
    "fit, classes": fit_classes,
    "import_folder": import_files,
    "predict": predict_files,
}


def measure(name: str, n: int) -> dict:
    """Processor seconds of a job, and the peak memory of this process until its end, in MB."""
    job = JOBS[name](n)
    begin = time.process_time()
    job()
    return {"seconds": time.process_time() - begin, "peak MB": peak_memory()}


def measure_apart(name: str, n: int) -> dict:
    """The best of some rounds, each in a process of its own."""
    rounds = []
    for _ in range(ROUNDS.get(n, 1)):
        with tempfile.TemporaryDirectory() as folder:
            rounds.append(in_own_process("benchmarks.scale", name, str(n), SCALE_FOLDER=folder))
    return {"items": n, **min(rounds, key=lambda r: r["seconds"])}


def exponents(rows: list[dict]) -> list[float]:
    """From each size to the next: which power of the number of items the seconds grow with."""
    return [
        math.log(b["seconds"] / a["seconds"]) / math.log(b["items"] / a["items"])
        for a, b in pairwise(rows)
    ]


def broken_bounds(name: str, rows: list[dict]) -> list[str]:
    """What is worse than n log n in time, or than the stated bytes an item."""
    broken = []
    for a, b in pairwise(rows):
        n_log_n = b["items"] * math.log(b["items"]) / (a["items"] * math.log(a["items"]))
        if b["seconds"] > TOLERANCE * n_log_n * a["seconds"]:
            broken.append(f"{name}: {b['items']} items take {b['seconds']:.1f} s")
    for row in rows:
        if row["peak MB"] is not None and row["peak MB"] > most_megabytes(name, row["items"]):
            broken.append(f"{name}: {row['items']} items take {row['peak MB']:.0f} MB")
    return broken


def most_megabytes(name: str, n: int) -> float:
    """The stated bound."""
    return (FIXED + BYTES[name] * n) / 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("job", nargs="?", choices=JOBS)
    parser.add_argument("size", nargs="?", type=int, default=SIZES[0])
    wanted = parser.parse_args()
    if wanted.job:
        print(json.dumps(measure(wanted.job, wanted.size)))
        return 0
    jobs, broken = {}, []
    for name in JOBS:
        jobs[name] = [measure_apart(name, n) for n in SIZES]
        for row in jobs[name]:
            print(f"{name}: {row['items']:,} items, {row['seconds']:.2f} s, {row['peak MB']} MB")
        broken += broken_bounds(name, jobs[name])
    record = {
        "date": str(date.today()),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "bytes an item": BYTES,
        "exponents": {name: exponents(rows) for name, rows in jobs.items()},
        "jobs": jobs,
    }
    with atomic_path(RESULTS) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print("\n".join(broken) or "all bounds are kept")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
