"""How fast is `fit`, how much memory does it take, how does its cost grow, and what is an import?

Prints tables and writes all figures as JSON; README.md, beside this file, says what they mean.
"""

import argparse
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from datetime import date
from functools import partial
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
import torchvision
from torch.utils.data import DataLoader

import imbalkit
from imbalkit import models
from imbalkit.course.lab import Lab, set_up
from imbalkit.data import (
    Batches,
    ImageDataset,
    ImageSet,
    RandomCrop,
    RandomFlip,
    standard_transform,
)
from imbalkit.device import autocast, describe, memory_format, pick_device, synchronize
from imbalkit.files import atomic_path
from imbalkit.training import fit, sgd

HERE = Path(__file__).parent
BATCH = 128
MODELS = {
    "plain CNN": models.plain_cnn,
    "small BatchNorm net": models.small_net,
    "ResNet-32": models.resnet,
}


@dataclass(frozen=True)
class Size:
    """How much is measured.

    seconds: about how long each timed piece of a round takes, at most one epoch.
    rounds, growth_rounds, import_rounds: how often each piece is timed.
    images, classes: sizes of the synthetic sets whose cost is compared.
    memory_models: trained for their peak memory, on `memory_images` images (None: all).
    """

    seconds: float = 4.0
    rounds: int = 7
    growth_rounds: int = 3
    import_rounds: int = 15
    images: tuple[int, ...] = (5_000, 20_000, 50_000)
    classes: tuple[int, ...] = (10, 100, 1_000)
    memory_models: tuple[str, ...] = tuple(MODELS)
    memory_images: int | None = None


QUICK = Size(0.0, 2, 2, 1, (256, 512), (3, 10), ("plain CNN",), 256)


# --- speed: three ways to train, each a function that prepares the work and returns it


def bare_step(model, train: ImageSet, lab: Lab):
    """Forward, backward and step on one batch that is ready on the device: the limit."""
    model.to(lab.device, memory_format=memory_format(lab.device)).train()
    optimizer = sgd(model)
    images, targets = next(iter(lab.train_batches(train)))

    def work():
        for _ in range(len(train) // BATCH):
            optimizer.zero_grad(set_to_none=True)
            with autocast(lab.device):
                logits = model(images)
            F.cross_entropy(logits.float(), targets).backward()
            optimizer.step()

    return work


def with_fit(model, train: ImageSet, lab: Lab):
    """One epoch as the lessons train."""
    batches = lab.train_batches(train, augment=(RandomCrop(), RandomFlip()))
    return partial(fit, model, batches, epochs=1)


def usual_loop(model, train: ImageSet, lab: Lab):
    """One epoch as most people write it: a DataLoader, v2 transforms image by image, float32."""
    model.to(lab.device).train()
    optimizer = sgd(model)
    dataset = ImageDataset(train, standard_transform(lab.mean, lab.std, augment=True))
    loader = DataLoader(dataset, batch_size=BATCH, shuffle=True)

    def work():
        total = 0.0
        for images, targets in loader:
            images, targets = images.to(lab.device), targets.to(lab.device)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), targets)
            loss.backward()
            optimizer.step()
            total += loss.item()

    return work


WAYS = {"bare step": bare_step, "fit": with_fit, "usual loop": usual_loop}


def measure_speed(build, lab: Lab, size: Size) -> dict:
    """Time the three ways in turn, round after round, and compare them within each round.

    A machine's speed drifts, so a ratio of two neighbouring figures says more than either.
    """

    def step_time(way, steps: int) -> float:
        """Seconds per step, in `steps` steps of full batches."""
        chosen = torch.randperm(len(lab.train))[: steps * BATCH]
        torch.manual_seed(0)  # each piece starts from the same weights
        work = way(build(num_classes=len(lab.classes)), lab.train.subset(chosen), lab)
        return seconds_of(work, lab.device) / steps

    steps = {}
    for name, way in WAYS.items():
        step_time(way, 1)  # the first step of a shape is slow
        steps[name] = round(size.seconds / step_time(way, 2))
        steps[name] = min(max(1, steps[name]), len(lab.train) // BATCH)

    rounds = []
    for number in range(size.rounds):
        names = list(WAYS) if number % 2 == 0 else list(WAYS)[::-1]  # so that drift favours none
        rounds.append({name: step_time(WAYS[name], steps[name]) for name in names})
    return {
        "fit / bare step": spread(r["bare step"] / r["fit"] for r in rounds),
        "fit / usual loop": spread(r["usual loop"] / r["fit"] for r in rounds),
        "images per second": {name: spread(BATCH / r[name] for r in rounds) for name in WAYS},
        "steps per round": steps,
    }


def seconds_of(work, device: torch.device) -> float:
    """How long `work` takes, on the device too. What it prints is dropped."""
    synchronize(device)
    started = time.perf_counter()
    with redirect_stdout(io.StringIO()):  # `fit` shows each training's table in a terminal
        work()
    synchronize(device)
    return time.perf_counter() - started


def spread(values) -> dict:
    """Median, least and greatest of the values."""
    values = sorted(values)
    return {"median": statistics.median(values), "min": values[0], "max": values[-1]}


# --- memory


def measure_memory(size: Size) -> dict:
    """Peak memory in MB of fresh processes: `import torch` alone, then one per model."""
    images = ["--images", str(size.memory_images)] if size.memory_images else []
    runs = {"import torch alone": []}
    runs |= {name: [MODELS[name].__name__, *images] for name in size.memory_models}
    return {name: peak_memory_of(arguments) for name, arguments in runs.items()}


def peak_memory_of(arguments: list[str]) -> float | None:
    command = [sys.executable, str(HERE / "memory.py"), *arguments]
    environment = os.environ | {"IMBALKIT_OFFLINE": "1"}  # this process has tried the download
    process = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=environment
    )
    return json.loads(process.stdout.splitlines()[-1])


# --- imports


IMPORTS = ["import torch", "import imbalkit", "from imbalkit import FocalLoss"]


def measure_imports(size: Size) -> dict:
    """Seconds of the imports, one after the other in a fresh process, and what they add to torch's.

    Each ratio is that of one process, since the time of `import torch` differs from one to the
    next by more than the package takes. The start of Python is not counted.
    """
    clock = "; print(time.perf_counter() - t); t = time.perf_counter()\n"
    code = "import time; t = time.perf_counter()\n" + "".join(name + clock for name in IMPORTS)
    environment = os.environ | {"PYTHONPATH": str(HERE.parent)}
    rounds = []
    for number in range(-1, size.import_rounds):
        run = subprocess.run(
            [sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True,
            env=environment,
        )  # fmt: skip
        seconds = [float(line) for line in run.stdout.split()]
        rounds += [seconds] if number >= 0 else []  # the first reads the files from the disk
    until = [[sum(r[: i + 1]) / r[0] for r in rounds] for i in range(len(IMPORTS))]
    return {
        "seconds": {name: spread(r[i] for r in rounds) for i, name in enumerate(IMPORTS)},
        "ratio": {name: spread(until[i]) for i, name in enumerate(IMPORTS) if i},
    }


# --- growth


def measure_growth(size: Size, device: torch.device) -> list[dict]:
    """Milliseconds per step of `fit` with the plain CNN, on synthetic sets of growing size.

    An epoch each, its end (the summary of the tally) included, divided by its steps.
    """
    sizes = [(images, size.classes[0]) for images in size.images]
    sizes += [(size.images[1], classes) for classes in size.classes[1:]]
    sets = {shape: synthetic_batches(*shape, device) for shape in sizes}
    times = {shape: [] for shape in sizes}
    for number in range(size.growth_rounds + 1):
        for shape, batches in sets.items():
            model = models.plain_cnn(num_classes=shape[1])
            seconds = seconds_of(partial(fit, model, batches, epochs=1), device)
            if number:  # the first round warms up
                times[shape].append(1000 * seconds / len(batches))
    return [
        {"images": images, "classes": classes, "ms per step": spread(seen)}
        for (images, classes), seen in times.items()
    ]


def synthetic_batches(images: int, classes: int, device: torch.device) -> Batches:
    image_set = ImageSet(
        torch.randint(256, (images, 32, 32, 3), dtype=torch.uint8),
        torch.arange(images) % classes,
        tuple(f"class {c}" for c in range(classes)),
        "synthetic",
    )
    return Batches(
        image_set,
        BATCH,
        mean=[0.5] * 3,
        std=[0.25] * 3,
        shuffle=True,
        augment=(RandomCrop(), RandomFlip()),
        device=device,
    )


# --- report


def measure(size: Size) -> dict:
    """All figures, and what they were measured on."""
    device = pick_device()
    started = time.perf_counter()
    lab = set_up()
    results = {
        "date": date.today().isoformat(),
        "device": describe(device),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "data": f"{lab.manifest.source}, long-tailed, ratio {lab.manifest.ratio:g}",
        "versions": {
            "python": platform.python_version(),
            "imbalkit": imbalkit.__version__,
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
        },
        "batch": BATCH,
        "size": asdict(size),
        "speed": {},
    }
    for name, build in MODELS.items():
        print(f"timing the {name} ...", flush=True)
        results["speed"][name] = measure_speed(build, lab, size)
    print("timing growing sets ...", flush=True)
    results["growth"] = measure_growth(size, device)
    print("timing imports ...", flush=True)
    results["imports"] = measure_imports(size)
    print("measuring memory ...", flush=True)
    results["peak memory in MB"] = measure_memory(size)
    results["seconds"] = round(time.perf_counter() - started)
    return results


def report(results: dict) -> str:
    """The figures as tables: medians, with the least and the greatest in brackets."""

    def show(figure: dict, pattern: str) -> str:
        median, least, most = (pattern.format(figure[k]) for k in ("median", "min", "max"))
        return f"{median} ({least} .. {most})"

    ratios = {
        name: {
            "fit / bare step": show(figures["fit / bare step"], "{:.1%}"),
            "fit / usual loop": show(figures["fit / usual loop"], "{:.2f}"),
        }
        for name, figures in results["speed"].items()
    }
    rates = {
        name: {way: show(figures["images per second"][way], "{:.0f}") for way in WAYS}
        for name, figures in results["speed"].items()
    }
    growth = [
        {**row, "ms per step": show(row["ms per step"], "{:.2f}")} for row in results["growth"]
    ]
    imports = [
        f"{name}: {show(ratio, '{:.3f}')}" for name, ratio in results["imports"]["ratio"].items()
    ]
    memory = [
        f"{name}: {'not measured on this system' if peak is None else f'{peak:.0f}'}"
        for name, peak in results["peak memory in MB"].items()
    ]
    return "\n".join([
        f"\n{results['device']}; {results['data']}; {results['date']}",
        "\nspeed of fit against the two others\n" + pd.DataFrame(ratios).T.to_string(),
        "\nimages per second\n" + pd.DataFrame(rates).T.to_string(),
        "\nfit, plain CNN, synthetic sets\n" + pd.DataFrame(growth).to_string(index=False),
        "\ntime until it is imported, as a multiple of import torch\n" + "\n".join(imports),
        "\npeak memory of a training in MB\n" + "\n".join(memory),
    ])  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="only see that everything runs")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="the JSON; default: results/DEVICE.json beside this script, with --quick none",
    )
    wanted = parser.parse_args(argv)
    output = wanted.output
    if output is None and not wanted.quick:
        output = HERE / "results" / f"{pick_device().type}.json"
    results = measure(QUICK if wanted.quick else Size())
    print(report(results))
    if output:
        with atomic_path(output) as temporary:
            temporary.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        print(f"\nwritten to {output}")


if __name__ == "__main__":
    main()
