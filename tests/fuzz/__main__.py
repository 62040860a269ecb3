"""Run a fuzzer over a reader: ``python -m tests.fuzz READER SECONDS``, with atheris installed.

    .venv/bin/python -m pip install atheris

Bytes that a reader does wrong with are written to tests/fuzz/corpus/READER; mend the reader, and
keep them. What leads further lies in build/fuzz, for the next time. atheris is in no extra: it has
no releases for every Python.
"""

import argparse
import sys
from pathlib import Path

import atheris
import torch._weights_only_unpickler as of_torch

with atheris.instrument_imports(include=["imbalkit", "tarfile", "PIL"]):
    from tests.fuzz.readers import READERS, seeds

of_torch.Unpickler.load = atheris.instrument_func(of_torch.Unpickler.load)

ROOT = Path(__file__).parents[2]


def main() -> None:
    """Fuzz one reader; libFuzzer ends the process, with status 77 if it found something."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("reader", choices=READERS)
    parser.add_argument("seconds", type=int)
    wanted = parser.parse_args()
    found, grown = ROOT / "tests/fuzz/corpus" / wanted.reader, ROOT / "build/fuzz" / wanted.reader
    for folder in (found, grown):
        folder.mkdir(parents=True, exist_ok=True)
    for i, seed in enumerate(seeds(wanted.reader)):
        (grown / f"seed{i}").write_bytes(seed)
    options = [
        f"-max_total_time={wanted.seconds}", f"-artifact_prefix={found}/", "-timeout=30",
        "-rss_limit_mb=3000", "-max_len=60000", "-print_final_stats=1",
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *options, str(grown), str(found)], READERS[wanted.reader])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
