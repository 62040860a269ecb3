"""The fault bench: broken and healthy trainings, and whether `diagnose` tells them apart.

python -m benchmarks.faults                 all of it; status 1 if it falls short
python -m benchmarks.faults --write         the same, and write benchmarks/results/faults.json
python -m benchmarks.faults NAME [NAME...]  these cases, with their reports
"""

import argparse
import json
import sys
from pathlib import Path

import torch

from benchmarks.faults.bench import PARTS, Outcome, as_dict, line, run, summary, table
from benchmarks.faults.data import source
from imbalkit.device import describe
from imbalkit.files import atomic_path

RESULTS = Path(__file__).parents[1] / "results" / "faults.json"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="run only these cases and print their reports")
    parser.add_argument("--part", choices=PARTS, help="run only this part")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    options = parser.parse_args()
    outcomes = []
    for part, cases in PARTS.items():
        for case in cases.values():
            if options.names and case.name not in options.names:
                continue
            if options.part in (None, part):
                outcome, diagnosis = run(case, part)
                outcomes.append(outcome)
                print(line(outcome), flush=True)
                if options.names:
                    print(diagnosis)
    print(f"\n{table(outcomes)}")
    if options.write:
        write(outcomes)
    return 0 if good_enough(summary(outcomes)) else 1


def good_enough(figures: dict) -> bool:
    """Nothing changed, nobody healthy accused, nine faults in ten named first."""
    blameless = not figures["changed"] and not figures["accused"]
    return blameless and figures["first"] >= 0.9 * figures["faults"]


def write(outcomes: list[Outcome]) -> None:
    """Write all figures as JSON, with what they were measured on."""
    result = {
        "data": source(),
        "torch": torch.__version__.split("+")[0],
        "device": describe(torch.device("cpu")),
        "parts": {part: summary([o for o in outcomes if o.part == part]) for part in PARTS},
        "cases": [as_dict(outcome) for outcome in outcomes],
    }
    with atomic_path(RESULTS) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
