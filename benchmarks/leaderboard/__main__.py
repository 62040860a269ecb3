"""All methods of the course on CIFAR-10-LT, on one network and one budget, for several seeds.

    python -m benchmarks.leaderboard                          processes on this machine
    python -m benchmarks.leaderboard --scheduler ADDRESS      a Dask cluster
    python -m benchmarks.leaderboard --quick --methods focal  to see that it runs

Stop it whenever you like: what is finished lies in --folder and is not trained again. When all is
there, the figures go to notebooks/leaderboard.json.
"""

import argparse
import hashlib
import json
import platform
import time
from collections.abc import Iterable
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import joblib
import numpy as np
import torch
import torchvision

import imbalkit
from benchmarks.leaderboard import summary
from benchmarks.leaderboard.cell import QUICK, Budget, Cell, run, schema_of
from benchmarks.leaderboard.methods import METHODS
from benchmarks.parent import end_with_parent
from benchmarks.shared import commit
from imbalkit.course.embedded import find_data
from imbalkit.files import atomic_path
from imbalkit.sealed import read_json, write_json

ROOT = Path(__file__).resolve().parents[2]
SEEDS = (0, 1, 2)
# Each of the seeds, and two more, for an ensemble of one method.
ENSEMBLE_SEEDS = {0: (0, 3, 4), 1: (1, 5, 6), 2: (2, 7, 8)}
RATIO, OTHER_RATIOS = 100, (50, 10)


def train(cell: Cell) -> tuple[Cell, dict, dict[str, np.ndarray]]:
    """What a process or a worker of the cluster does: with one thread, so that the figures do not
    depend on where a cell was trained."""
    torch.set_num_threads(1)
    end_with_parent()
    record, logits = run(cell, METHODS[cell.method].train)
    return cell, record, logits


def finish(cells: Iterable[Cell], folder: Path, jobs: int) -> dict[Cell, dict]:
    """The records of all cells; those that are not in the folder yet are trained first."""
    cells = list(cells)
    missing = [cell for cell in cells if load(cell, folder) is None]
    results = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)(
        joblib.delayed(train)(cell) for cell in missing
    )
    for done, (cell, record, logits) in enumerate(results, start=1):
        save(cell, record | origin(), logits, folder)
        scores = [f"{name} {row['test']['balanced_accuracy']:.1%}" for name, row in
                  record["rows"].items()]  # fmt: skip
        now = time.strftime("%H:%M:%S")
        print(f"{now}  {done} of {len(missing)}  {cell.name}: {', '.join(scores)}", flush=True)
    return {cell: load(cell, folder) or {} for cell in cells}


def save(cell: Cell, record: dict, logits: dict[str, np.ndarray], folder: Path) -> None:
    """Both files of a cell, each in one step. The record comes last: it says that all is there."""
    with atomic_path(folder / f"{cell.name}.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **logits)
    digest = hashlib.sha256((folder / f"{cell.name}.npz").read_bytes()).hexdigest()
    write_json(folder / f"{cell.name}.json", record | {"logits": digest}, indent=1)


def load(cell: Cell, folder: Path) -> dict | None:
    """The record of a cell; None where there is none, or one that is damaged or of another cell."""
    path = folder / f"{cell.name}.json"
    if not path.exists():
        return None
    try:
        record = read_json(path, schema_of(cell))
        found = hashlib.sha256(path.with_suffix(".npz").read_bytes()).hexdigest()
        if found != record["logits"]:
            raise ValueError("its logits are damaged or of another training")
    except (OSError, ValueError) as error:
        print(f"{path} cannot be used ({error}); the cell is trained again.", flush=True)
        return None
    return record


def origin() -> dict:
    """With which code and releases a cell was trained."""
    return {
        "date": date.today().isoformat(),
        "commit": commit(),
        "versions": {
            "imbalkit": imbalkit.__version__,
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "python": platform.python_version(),
        },
    }


def chosen_settings(methods: list[str], budget: Budget, folder: Path, jobs: int) -> dict:
    """For each method the setting that the validation images favour, at the first seed."""
    cells = [
        Cell(method, setting, RATIO, SEEDS[0], budget)
        for method in methods
        for setting in METHODS[method].grid
    ]
    records = finish(cells, folder, jobs)

    def score(method, setting):
        record = records[Cell(method, setting, RATIO, SEEDS[0], budget)]
        return summary.first_row(record)["validation"]

    return {
        method: max(METHODS[method].grid, key=lambda setting: score(method, setting))
        for method in methods
    }


def compute(methods: list[str], budget: Budget, folder: Path, jobs: int) -> dict:
    """All cells, in the order in which they need each other, and what they come to."""
    settings = chosen_settings(methods, budget, folder, jobs)

    def trained(methods, ratio, seeds) -> list[dict]:
        wanted = [
            Cell(method, settings[method], ratio, seed, budget)
            for seed in seeds
            for method in methods
        ]
        return list(finish(wanted, folder, jobs).values())

    if budget == QUICK:  # to see that it runs
        return summary.summarise(trained(methods, RATIO, SEEDS[:1]), settings)
    records = trained(methods, RATIO, SEEDS)
    ranked = summary.ranked_methods(records)
    ensembles = {}
    if len(ranked) >= 3:
        ensembles["ensemble of three methods"] = {
            seed: [(m, seed) for m in ranked[:3]] for seed in SEEDS
        }
    of_seeds = {"ensemble of three seeds": ranked[0], "ensemble of the combination": "combination"}
    for name, method in of_seeds.items():
        if method in methods:
            trained([method], RATIO, sorted(s for seeds in ENSEMBLE_SEEDS.values() for s in seeds))
            ensembles[name] = {
                seed: [(method, s) for s in seeds] for seed, seeds in ENSEMBLE_SEEDS.items()
            }
    for name, by_seed in ensembles.items():
        for seed, members in by_seed.items():
            cells = [Cell(m, settings[m], RATIO, s, budget) for m, s in members]
            records.append(ensemble(name, seed, cells, folder))
    compared = [name for name in ("cross-entropy", *ranked[:8]) if name in methods]
    for ratio in OTHER_RATIOS:
        records += trained(dict.fromkeys(compared), ratio, SEEDS)
    return summary.summarise(records, settings)


def ensemble(name: str, seed: int, cells: list[Cell], folder: Path) -> dict:
    """The record of a row whose probabilities are the mean of those of the cells' first rows."""
    records = [load(cell, folder) or {} for cell in cells]
    logits = []
    for cell in cells:
        with np.load(folder / f"{cell.name}.npz") as rows:
            logits.append(torch.from_numpy(rows[rows.files[0]]).float())
    return summary.averaged(name, seed, records, logits, find_data()[1].labels)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time; one thread each")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "leaderboard")
    parser.add_argument("--output", type=Path, default=ROOT / "notebooks" / "leaderboard.json")
    parser.add_argument(
        "--quick", action="store_true", help="three epochs of a tiny network, one seed and ratio"
    )
    wanted = parser.parse_args(argv)
    with backend(wanted.scheduler):
        budget = QUICK if wanted.quick else Budget()
        result = compute(wanted.methods, budget, wanted.folder, wanted.jobs)
    with atomic_path(wanted.output) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"written to {wanted.output}")


@contextmanager
def backend(scheduler: str | None):
    """Processes with one thread each, or the workers of a Dask cluster."""
    if scheduler is None:
        with joblib.parallel_config("loky", inner_max_num_threads=1):
            yield
        return
    from distributed import Client  # needed for a cluster only

    with Client(scheduler), joblib.parallel_config("dask", wait_for_workers_timeout=60):
        yield


if __name__ == "__main__":
    main()
