"""The fault bench: broken and healthy trainings, and whether `diagnose` tells them apart.

python -m benchmarks.faults                 all of it, and write benchmarks/results/faults.json
python -m benchmarks.faults NAME [NAME...]  these cases, with their reports
"""

import argparse
import json
from pathlib import Path

import torch

from benchmarks.faults.bench import HALVES, as_dict, confusion_table, run, summary
from benchmarks.faults.data import source
from imbalkit.device import describe
from imbalkit.files import atomic_path

RESULTS = Path(__file__).parents[1] / "results" / "faults.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="run only these cases and print their reports")
    parser.add_argument("--half", choices=HALVES, help="run only this half")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    outcomes = []
    for half, cases in HALVES.items():
        for case in cases.values():
            if options.names and case.name not in options.names:
                continue
            if options.half in (None, half):
                outcome, diagnosis = run(case, half)
                outcomes.append(outcome)
                print(confusion_table([outcome]).splitlines()[0], flush=True)
                if options.names:
                    print(diagnosis)
    print()
    print(confusion_table(outcomes))
    if not options.names and options.half is None:
        result = {
            "data": source(),
            "torch": torch.__version__,
            "device": describe(torch.device("cpu")),
            "halves": {h: summary([o for o in outcomes if o.half == h]) for h in HALVES},
            "cases": [as_dict(o) for o in outcomes],
        }
        with atomic_path(options.output) as temporary:
            temporary.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
