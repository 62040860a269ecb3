"""The fast recipe against time: balanced accuracy on CIFAR-10-LT, ratio 100, and what each trick
of it gains.

    python -m benchmarks.fast               # some hours on two CPU cores; nothing else may run
    python -m benchmarks.fast --only NAME   # one recipe, or the tricks

It can be stopped: started again it goes on with the next training. The result is written to
notebooks/fast.json, from which lesson 11 and the README draw.

A recipe trains on all 12,406 images with a schedule that was fixed beforehand, and looks at the
test images once, at the end. Before and after it, in the same process, steps of LDAM-DRW's recipe
(ResNet-32, 200 epochs) are timed, so that the two times can be compared. README.md says on which
images the settings were found. "tricks" builds the recipe up from `gelu_net`, one trick at a time.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from datetime import date
from functools import partial
from itertools import chain, islice, pairwise, repeat
from pathlib import Path

import torch
from torch import nn

from benchmarks.gelu_net import gelu_net
from benchmarks.paper import ldam_net
from imbalkit import fast, metrics
from imbalkit.augmentation import ColorJitter, PerClass, RandomAffine
from imbalkit.course.embedded import find_data
from imbalkit.data import Batches, ImageSet, channel_statistics, make_long_tail
from imbalkit.device import autocast, describe, memory_format, pick_device, synchronize
from imbalkit.ensembles import Ensemble
from imbalkit.files import atomic_path
from imbalkit.losses import LDAMLoss, LogitAdjustedLoss
from imbalkit.schema import Check, list_of, number, record, table_of
from imbalkit.sealed import read_json, write_json
from imbalkit.stages import deferred
from imbalkit.training import predict, sgd, warmup_linear

RESULT = Path(__file__).parents[1] / "notebooks" / "fast.json"
SEEDS = 3
LDAM_EPOCHS, BATCH = 200, 128
WARM_UP, TIMED = 3, 12  # steps
TRICK_EPOCHS = 8
FIGURES = {
    "seconds": number(0),
    "balanced_accuracy": number(0, 1),
    "recall": list_of(number(0, 1), 2),
}
TRICKS = record(**FIGURES)  # what the file of a finished training must hold, see `tricks`
MEASURED = record(**FIGURES, ldam_seconds=table_of(number(0)))  # and see `train`


@dataclass(frozen=True)
class Recipe:
    """What `fast.fit_fast` is given, and how the model is tested.

    strong: the share of images with strong changes. shifted: six copies of an image at test, else
    it and its mirror image. members: of an ensemble, each trained for so many epochs.
    """

    width: int
    epochs: int
    strong: float = 0.0
    shifted: bool = False
    members: int = 1

    def augment(self, classes: int):
        changes = [RandomAffine(15, 0.1), ColorJitter(0.4, 0.4, 0.4)]
        strong = [PerClass([self.strong] * classes, changes)] if self.strong else []
        return [*fast.AUGMENT, *strong]


RECIPES = {
    "width 32, 8 epochs": Recipe(width=32, epochs=8),
    "width 32, 16 epochs": Recipe(width=32, epochs=16),
    "width 64, 32 epochs": Recipe(width=64, epochs=32, strong=0.4),
    "two of width 64, 32 epochs": Recipe(64, epochs=32, strong=0.4, shifted=True, members=2),
}


RUNGS = [
    "gelu_net",
    "balanced softmax",
    "whitened first layer",
    "Muon",
    "ReLU for GELU",
    "small images first",
    "mirror image at test",
    "shifted copies at test",
]


# --- the trainings: each returns what goes into the file


def train(recipe: Recipe, seed: int) -> dict:
    """One training with its wall-clock time; the test images are seen at its end."""
    torch.manual_seed(seed)
    images, test = load()
    before = ldam_clock(images)
    started = time.perf_counter()
    augment, members = recipe.augment(len(images.classes)), []
    for _ in range(recipe.members):
        model = fast.fast_net(images, recipe.width)
        fast.fit_fast(model, images, recipe.epochs, augment, show_progress=False)
        members.append(fast.MirrorAveraged(fast.ShiftAveraged(model) if recipe.shifted else model))
    seconds = time.perf_counter() - started
    after = ldam_clock(images)
    ldam = {name: round((before[name] + after[name]) / 2) for name in before}
    return {"seconds": round(seconds, 1), "ldam_seconds": ldam} | judge(
        Ensemble(members), images, test
    )


def tricks(rung: str, seed: int) -> dict:
    """A training of a few epochs with the tricks up to `rung`."""
    with_tricks = set(RUNGS[: RUNGS.index(rung) + 1])
    torch.manual_seed(seed)
    images, test = load()
    mean, std = channel_statistics(images.images)
    started = time.perf_counter()
    model = rung_net(images, with_tricks)
    loss = nn.CrossEntropyLoss()
    if "balanced softmax" in with_tricks:
        loss = LogitAdjustedLoss(images.class_counts())
    optimizer = fast.muon_and_sgd(model) if "Muon" in with_tricks else sgd(model)
    small = [fast.Resize(fast.SMALL)] if "small images first" in with_tricks else []
    options = {"mean": mean, "std": std, "shuffle": True}
    deferred(
        model,
        Batches(images, BATCH, augment=[*fast.AUGMENT, *small], **options),
        Batches(images, BATCH, augment=fast.AUGMENT, **options),
        TRICK_EPOCHS,
        switch=round(fast.SMALL_SHARE * TRICK_EPOCHS),
        loss_fn=loss,
        late_loss_fn=loss,
        optimizer=optimizer,
        schedule=warmup_linear,
        show_progress=False,
    )
    seconds = time.perf_counter() - started
    tested = fast.ShiftAveraged(model) if "shifted copies at test" in with_tricks else model
    tested = fast.MirrorAveraged(tested) if "mirror image at test" in with_tricks else tested
    return {"seconds": round(seconds, 1)} | judge(tested, images, test)


def rung_net(images: ImageSet, with_tricks: set[str]) -> nn.Module:
    """The network between `gelu_net` and `fast_net` that has these tricks."""
    width, classes = 32, len(images.classes)
    if "whitened first layer" not in with_tricks:
        return gelu_net(classes, width)
    model = fast.fast_net(images, width)
    features = model.features
    for i, layer in enumerate(features):
        if isinstance(layer, nn.ReLU) and "ReLU for GELU" not in with_tricks:
            features[i] = nn.GELU()
    return model


# --- what they share


def load() -> tuple[ImageSet, ImageSet]:
    full, test = find_data()
    return make_long_tail(full, ratio=100)[0], test


def judge(model: nn.Module, images: ImageSet, test: ImageSet) -> dict:
    mean, std = channel_statistics(images.images)
    logits, labels = predict(model, Batches(test, 1000, mean=mean, std=std))
    confusion = metrics.confusion(labels, logits.argmax(1), len(images.classes))
    return {
        "balanced_accuracy": metrics.summary(confusion)["balanced_accuracy"],
        "recall": metrics.per_class(confusion)["recall"].tolist(),
    }


def ldam_clock(images: ImageSet) -> dict[str, float]:
    """Seconds of LDAM-DRW's whole recipe on this machine: those of a step, times its steps."""
    steps = LDAM_EPOCHS * -(-len(images) // BATCH)
    device = pick_device()
    ways = {"float32": nullcontext(), describe(device).split(", ")[-1]: autocast(device)}
    # The global generator belongs to the training that follows.
    with torch.random.fork_rng():
        return {name: steps * ldam_step(images, device, way) for name, way in ways.items()}


def ldam_step(images: ImageSet, device: torch.device, precision) -> float:
    """Seconds of one step, the median of some."""
    mean, std = channel_statistics(images.images)
    batches = Batches(images, BATCH, mean=mean, std=std, shuffle=True, augment=fast.AUGMENT)
    model = ldam_net(len(images.classes))
    model.to(device, memory_format=memory_format(device)).train()
    loss_fn, optimizer = LDAMLoss(images.class_counts()).to(device), sgd(model)
    clock = [time.perf_counter()]
    for inputs, targets in islice(chain.from_iterable(repeat(batches)), WARM_UP + TIMED):
        with precision:
            logits = model(inputs)
        loss = loss_fn(logits.float(), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        synchronize(device)
        clock.append(time.perf_counter())
    return statistics.median(later - earlier for earlier, later in pairwise(clock[WARM_UP:]))


# --- the command


def cells() -> dict[str, Callable[[], dict]]:
    """The function of each training, by its name in the folder."""
    seeds = range(SEEDS)
    found = {
        f"{name}, seed {s}": partial(train, r, s) for name, r in RECIPES.items() for s in seeds
    }
    return found | {f"tricks, {r}, seed {s}": partial(tricks, r, s) for r in RUNGS for s in seeds}


def finish(folder: Path, only: str = "") -> dict[str, dict]:
    """Run what has no file in `folder` yet; return the results by name."""
    folder.mkdir(parents=True, exist_ok=True)
    done = {}
    for name, run in cells().items():
        path = folder / f"{name}.json"
        if not path.exists() and name.startswith(only):
            result = run()
            write_json(path, result)
            print(
                f"{name}: {result['balanced_accuracy']:.2%}, {result['seconds']:.0f} s", flush=True
            )
        if path.exists():
            done[name] = finished(path, TRICKS if name.startswith("tricks") else MEASURED)
    return done


def finished(path: Path, schema: Check) -> dict:
    """What a finished training left in its file, or in a sentence what is wrong with it."""
    try:
        return read_json(path, schema)
    except ValueError as error:
        raise ValueError(
            f"{path}: is no result: {error}; delete it, and it is trained again."
        ) from error


def report(done: dict[str, dict]) -> dict:
    """What is written: the runs of each recipe and of each trick, and what they ran on."""
    full, _ = find_data()

    def runs(beginning):
        return [done[name] for s in range(SEEDS) if (name := f"{beginning}, seed {s}") in done]

    return {
        "data": full.source,
        "manifest": make_long_tail(full, ratio=100)[1].checksum,
        "device": describe(pick_device()),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "date": str(date.today()),
        "recipes": [
            {"name": name} | asdict(recipe) | {"runs": runs(name)}
            for name, recipe in RECIPES.items()
        ],
        "tricks": [{"name": rung, "runs": runs(f"tricks, {rung}")} for rung in RUNGS],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="run what begins with this name")
    parser.add_argument(
        "--folder", type=Path, default=Path("build/fast"), help="finished trainings"
    )
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    result = report(finish(options.folder, options.only))
    with atomic_path(options.output) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
