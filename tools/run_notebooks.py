"""Execute the lessons in order, each in a fresh kernel and in its own folder.

python tools/run_notebooks.py --output build/course           copies, the lessons stay as they are
python tools/run_notebooks.py --in-place --timings notebooks/timings.json [NOTEBOOK ...]
python tools/run_notebooks.py --output build/seed1 --seed 1   do the claims hold for another seed?
python tools/run_notebooks.py --seeds notebooks/seeds.json    for seeds 0, 1, 2; and keep the tables

The limit of a cell's time follows how fast this machine trains; --cell-timeout sets another one.
A notebook whose cell fails is not saved: the run stops, names the cell and exits with 1.
"""

import argparse
import json
import re
import sys
import time
from pathlib import Path

import nbformat
import torch
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat.v4 import new_code_cell

from imbalkit.course.profiles import current_profile
from imbalkit.device import describe, pick_device
from imbalkit.files import atomic_path
from timings import (
    code_hash,
    images_per_second,
    kind_of,
    limit_here,
    read_timings,
    with_entry,
)

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
SEEDS = [0, 1, 2]
COMPARISON = re.compile(r"^comparison\b.* = ", re.MULTILINE)
# Run after the last cell of a lesson. Four digits: more would only differ between machines.
READ_COMPARISON = """
import json
json_table = json.loads(comparison.round(4).to_json(orient="split"))
data = f"{lab.full.source}, {lab.profile.name} profile"
print(json.dumps({"data": data, "table": json_table}))
"""


class LessonFailed(Exception):
    """One sentence that names the notebook, the cell and the error."""


def execute(
    path: Path, cell_timeout: int, seed: int = 0, last_cell: str | None = None
) -> tuple[nbformat.NotebookNode, dict[int, float]]:
    """Run a notebook; return it with its new outputs, and the seconds of each code cell.

    A `seed` other than 0 stands in for 0 wherever the lesson seeds torch. `last_cell` is code to
    run at the end. The seconds are keyed by execution count, the number that stands beside the
    cell.
    Raises LessonFailed.
    """
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.source = cell.source.replace("manual_seed(0)", f"manual_seed({seed})")
    if last_cell:
        notebook.cells.append(new_code_cell(last_cell))
    started: dict[int, float] = {}
    seconds: dict[int, float] = {}

    def start(cell, cell_index):
        started[len(started) + 1] = time.perf_counter()

    def stop(cell, cell_index, execute_reply):
        seconds[len(started)] = time.perf_counter() - started[len(started)]

    client = NotebookClient(
        notebook,
        timeout=cell_timeout,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        record_timing=False,  # times would make every saved notebook differ
        coalesce_streams=True,  # as JupyterLab does: one output for a run of prints
        extra_arguments=["--IPKernelApp.log_level=ERROR"],  # keeps its log out of our lines
        on_cell_execute=start,
        on_cell_executed=stop,
    )
    try:
        client.execute()
    except CellExecutionError as error:
        print(error.traceback, file=sys.stderr)
        reason = f"{error.ename}: {error.evalue}"
    except CellTimeoutError:
        reason = f"no end after {cell_timeout} s (--cell-timeout)"
    except DeadKernelError:
        reason = "the kernel died, perhaps for want of memory"
    else:
        return notebook, seconds
    raise LessonFailed(f"{path.name}, cell [{len(started)}]: {reason}")


def normalise(notebook: nbformat.NotebookNode) -> None:
    """Leave the metadata that JupyterLab would save, and nothing of this machine or this run."""
    language = notebook.metadata.get("language_info", {"name": "python"})
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    notebook.metadata = nbformat.from_dict({"kernelspec": kernel, "language_info": language})
    for cell in notebook.cells:
        for left_over in ("execution", "lines_to_next_cell"):
            cell.metadata.pop(left_over, None)


def write_text(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def read_results(path: Path) -> dict[str, dict]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def run(path: Path, destination: Path, cell_timeout: int, seed: int = 0) -> dict[int, float]:
    """Execute one notebook and save it; return the seconds of its cells."""
    print(path.name, end=" ", flush=True)
    notebook, seconds = execute(path, cell_timeout, seed)
    normalise(notebook)
    write_text(destination, nbformat.writes(notebook) + "\n")
    total, slowest = sum(seconds.values()), max(seconds, key=seconds.get, default=None)
    print(f"{total / 60:.1f} min", end="")
    print(f", slowest cell [{slowest}] {seconds[slowest]:.0f} s" if slowest else "", flush=True)
    return seconds


def note_times(path: Path, seconds: dict[int, float], speed: float, timings: Path) -> None:
    """Write what a notebook took on this kind of processor, which trains at that speed."""
    device = pick_device()
    entry = {
        "seconds": round(sum(seconds.values()), 1),
        "slowest_cell_seconds": round(max(seconds.values(), default=0), 1),
        "images_per_second": round(speed),
        "device": describe(device),
        "profile": current_profile(device).name,
        "torch": torch.__version__.split("+")[0],
        "code": code_hash(path),
    }
    merged = with_entry(read_timings(timings), path.name, kind_of(device), entry)
    write_text(timings, json.dumps(merged, indent=1, ensure_ascii=False) + "\n")


def compares(path: Path) -> bool:
    """Does the lesson keep a table `comparison` of its methods?"""
    cells = nbformat.read(path, as_version=4).cells
    return any(c.cell_type == "code" and COMPARISON.search(c.source) for c in cells)


def repeat(path: Path, results: Path, cell_timeout: int, seeds: list[int]) -> None:
    """Execute one notebook for each seed, claims included, and note its table `comparison`."""
    for seed in seeds:
        print(f"{path.name}, seed {seed}", end=" ", flush=True)
        notebook, seconds = execute(path, cell_timeout, seed, READ_COMPARISON)
        found = json.loads(notebook.cells[-1].outputs[0].text)
        print(f"{sum(seconds.values()) / 60:.1f} min, all claims hold", flush=True)
        measured = read_results(results)
        entry = measured.get(path.name, {})
        if entry.get("data") != found["data"]:
            entry = {"data": found["data"], "seeds": {}}  # do not mix two sources
        entry["seeds"] = dict(sorted((entry["seeds"] | {str(seed): found["table"]}).items()))
        merged = dict(sorted((measured | {path.name: entry}).items()))
        write_text(results, json.dumps(merged, indent=1, ensure_ascii=False) + "\n")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: every lesson, in order")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--in-place", action="store_true", help="save over the lesson itself")
    action.add_argument("--output", type=Path, metavar="DIR", help="save in this folder")
    action.add_argument("--seeds", type=Path, metavar="FILE", help="tables of three seeds")
    parser.add_argument("--timings", type=Path, metavar="FILE", help="note the timings here")
    parser.add_argument("--seed", type=int, default=0, help="with --output: seed torch with this")
    parser.add_argument("--cell-timeout", type=int, metavar="SECONDS", help="for each cell")
    args = parser.parse_args(arguments)
    if args.seed and not args.output:
        parser.error("--seed needs --output: the lessons themselves keep seed 0")
    paths = args.notebooks or sorted(NOTEBOOKS.glob("*.ipynb"))
    speed = images_per_second()
    cell_timeout = args.cell_timeout or limit_here(speed)
    try:
        for path in paths:
            if args.seeds:
                if compares(path):
                    repeat(path, args.seeds, cell_timeout, SEEDS)
                continue
            destination = args.output / path.name if args.output else path
            seconds = run(path, destination, cell_timeout, args.seed)
            if args.timings:
                note_times(path, seconds, speed, args.timings)
    except LessonFailed as failure:
        print(f"\n{failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
