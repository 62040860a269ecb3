"""Every method on a good network, over budgets, seeds and data sets.

    python -m benchmarks.board                                    what is missing of the whole plan
    python -m benchmarks.board --budgets short --images cifar10-100
    python -m benchmarks.board --methods "balanced softmax" mixup     these alone
    python -m benchmarks.board --own my_methods.py --methods "my loss"    a method of your own

Stop it whenever you like: each finished training is a line of the file --output, and is not trained
again. Two trainings run at a time, with one thread each.
"""

import argparse
import importlib.util
import json
import platform
import time
from collections.abc import Iterable
from datetime import date
from pathlib import Path

import joblib
import torch

import benchmarks.board.corrections
import benchmarks.board.representations  # noqa: F401  # both register methods
from benchmarks.board.cell import BUDGETS, Cell, run
from benchmarks.board.images import SETS
from benchmarks.board.registry import METHODS
from benchmarks.parent import end_with_parent
from benchmarks.shared import ROOT, commit

SEEDS = {"short": range(5), "medium": range(5), "long": range(3)}
MAIN = "cifar10-100"
# The rows that matter on the other sets.
FEW = (
    "cross-entropy", "balanced softmax", "balanced sampling", "late sampling (DRS)",
    "late weights (DRW)", "LDAM-DRW", "mixup", "mixup, balanced softmax",
    "strong augmentation for all", "strong augmentation for all, balanced softmax",
)  # fmt: skip


def key(record: dict) -> Cell:
    return Cell(**record["cell"])


def read(path: Path) -> dict[Cell, dict]:
    """The finished cells of the file."""
    if not path.exists():
        return {}
    records = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return {key(record): record for record in records}


def finish(cells: Iterable[Cell], path: Path, jobs: int, own: Path | None = None) -> dict:
    """The records of all cells; those that the file lacks are trained first, and added to it."""
    finished = read(path)
    missing = [cell for cell in dict.fromkeys(cells) if cell not in finished]
    path.parent.mkdir(parents=True, exist_ok=True)
    trained = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)(
        joblib.delayed(train)(cell, own) for cell in missing
    )
    for done, record in enumerate(trained, start=1):
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record | origin()) + "\n")
        scores = [f"{name} {row['balanced_accuracy']:.1%}" for name, row in record["rows"].items()]
        cell = key(record)
        print(
            f"{time.strftime('%H:%M:%S')}  {done} of {len(missing)}  {cell.images}, "
            f"{cell.epochs} epochs, seed {cell.seed}, {cell.setting}: {', '.join(scores)}",
            flush=True,
        )
    return read(path)


def train(cell: Cell, own: Path | None) -> dict:
    """What a process does."""
    end_with_parent()
    register(own)
    return run(cell)


def register(own: Path | None) -> None:
    """Import a file of one's own that registers methods, once in a process."""
    if own is not None and own.stem not in LOADED:
        spec = importlib.util.spec_from_file_location(own.stem, own)
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
        LOADED.add(own.stem)


LOADED: set[str] = set()


def origin() -> dict:
    """With which code and releases a cell was trained."""
    return {
        "date": date.today().isoformat(),
        "commit": commit(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def chosen(method: str, epochs: int, done: dict[Cell, dict]) -> Cell | None:
    """The setting that the validation images favor, at seed 0 on the main set; None: not known."""
    tried = [Cell(method, setting, MAIN, epochs, 0) for setting in METHODS[method].grid]
    if any(cell not in done for cell in tried):
        return None

    def score(cell: Cell) -> float:
        return max(row["validation"] for row in done[cell]["rows"].values())

    return max(tried, key=score)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", nargs="+", help="names of rows; default: all of a set's plan")
    parser.add_argument("--images", nargs="+", choices=SETS, default=[MAIN])
    parser.add_argument("--budgets", nargs="+", choices=BUDGETS, default=list(BUDGETS))
    parser.add_argument("--own", type=Path, metavar="FILE", help="a file that registers methods")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time; one thread each")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/board.jsonl")
    wanted = parser.parse_args(argv)
    register(wanted.own)
    unknown = set(wanted.methods or ()) - set(METHODS)
    if unknown:
        parser.error(f"there is no method {', '.join(sorted(unknown))}; use {', '.join(METHODS)}.")

    def all_of(cells: Iterable[Cell]) -> dict[Cell, dict]:
        with joblib.parallel_config("loky", inner_max_num_threads=1):
            return finish(cells, wanted.output, wanted.jobs, wanted.own)

    for budget in wanted.budgets:
        # The long budget takes the settings of the medium one: a grid of long ones costs hours.
        tried_at = BUDGETS["medium" if budget == "long" else budget]
        methods = wanted.methods or list(METHODS)
        grid = [
            Cell(method, setting, MAIN, tried_at, 0)
            for method in methods
            for setting in METHODS[method].grid
        ]
        done = all_of(grid)
        settings = {m: chosen(m, tried_at, done).setting for m in methods}
        for images in wanted.images:
            rows = methods if images == MAIN or wanted.methods else FEW
            all_of(
                Cell(m, settings[m], images, BUDGETS[budget], seed)
                for seed in SEEDS[budget]
                for m in rows
            )
    print(f"{len(read(wanted.output))} trainings lie in {wanted.output}")


if __name__ == "__main__":
    main()
