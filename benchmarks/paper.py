"""LDAM-DRW as its paper trains it, through `imbalkit.training.fit`: does our code give its figure?

Cao et al. 2019 report 77.03 % on CIFAR-10-LT, ratio 100 (22.97 % error, table 2). Usage:

    python -m benchmarks.paper                # about an hour and a half on two CPU cores
    python -m benchmarks.paper --epochs 4     # to try it

Stop it whenever you like: started again it goes on from its last epoch. The result is written to
benchmarks/results/ldam_drw.json.
"""

import argparse
import json
import time
from pathlib import Path

import torch

from imbalkit import weights
from imbalkit.course.embedded import find_data
from imbalkit.data import Batches, RandomCrop, RandomFlip, make_long_tail
from imbalkit.device import describe, pick_device
from imbalkit.files import atomic_path
from imbalkit.losses import LDAMLoss
from imbalkit.models import Classifier, CosineClassifier, resnet
from imbalkit.stages import schedule_part
from imbalkit.training import fit

RESULT = Path(__file__).parent / "results" / "ldam_drw.json"
PUBLISHED = 77.03
# Long-tail repositories normalise with these constants: their std is the mean of the images' own.
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


def schedule(progress: float) -> float:
    """The paper's: five epochs of warm-up, a hundredth after 160 of 200, and again after 180."""
    epoch = progress * 200
    if epoch < 5:
        return (int(epoch) + 1) / 5
    return 1.0 if epoch < 160 else 0.01 if epoch < 180 else 0.0001


def train(epochs: int, folder: Path, seed: int = 0) -> dict:
    """The whole recipe; what a former call has done is not done again."""
    torch.manual_seed(seed)
    full, test = find_data()
    images, manifest = make_long_tail(full, ratio=100)
    counts = images.class_counts()
    device = pick_device()
    batches = Batches(
        images, 128, mean=MEAN, std=STD, shuffle=True, augment=[RandomCrop(4), RandomFlip()]
    )
    test_batches = Batches(test, 1000, mean=MEAN, std=STD)
    some = Batches(test.subset(range(1000)), 1000, mean=MEAN, std=STD)
    model = ldam_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=2e-4)
    switch = epochs * 160 // 200
    # One training in two calls: optimizer and schedule run through.
    stages = (
        ("early", switch, LDAMLoss(counts), schedule_part(schedule, 0, 0.8), some),
        (
            "late",
            epochs - switch,
            LDAMLoss(counts, weight=weights.effective_number(counts)),
            schedule_part(schedule, 0.8, 1),
            test_batches,
        ),
    )
    histories = {}
    for name, stage_epochs, loss_fn, stage_schedule, val_batches in stages:
        histories[name] = fit(
            model,
            batches,
            stage_epochs,
            loss_fn=loss_fn,
            optimizer=optimizer,
            schedule=stage_schedule,
            val_batches=val_batches,
            monitor=later_is_better,
            checkpoint=folder / f"seed{seed}_{name}.pt",
            resume=True,
            device=device,
            show_progress=False,
        )
        if histories[name].stopped != "finished":
            raise SystemExit("stopped; start it again to go on")
    return report(histories, manifest, full.source, describe(device), seed)


def ldam_net(classes: int = 10) -> Classifier:
    model = resnet(32)
    model.classifier = CosineClassifier(64, classes)
    return model


def later_is_better(confusion) -> float:
    """For `fit` to keep the last weights: the paper's recipe chooses no epoch."""
    return time.time()


def report(histories: dict, manifest, source: str, device: str, seed: int) -> dict:
    """What is written to the file: the last epoch is the result, the curve stands beside it."""
    early, late = histories["early"], histories["late"]
    last = late.validation[-1]
    return {
        "recipe": "LDAM-DRW, ResNet-32, as Cao et al. 2019",
        "published_accuracy": PUBLISHED / 100,
        "accuracy": last["accuracy"],
        "recall": last["recall"],
        "best_accuracy_on_test": max(record["accuracy"] for record in late.validation),
        "epochs": len(early.train) + len(late.train),
        "seed": seed,
        "seconds": round(early.seconds + late.seconds, 1),
        "data": source,
        "manifest": manifest.checksum,
        "device": device,
        "torch": torch.__version__,
        "train_accuracy": [r["accuracy"] for r in early.train + late.train],
        "accuracy_of_1000_test_images": [r["accuracy"] for r in early.validation],
        "accuracy_of_all_test_images": [r["accuracy"] for r in late.validation],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--folder", type=Path, default=Path("build/paper"), help="checkpoints")
    parser.add_argument("--result", type=Path, default=RESULT)
    options = parser.parse_args()
    result = train(options.epochs, options.folder)
    with atomic_path(options.result) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(
        f"{result['accuracy']:.2%} after {result['epochs']} epochs and "
        f"{result['seconds'] / 60:.0f} minutes (published: {PUBLISHED} %)"
    )


if __name__ == "__main__":
    main()
