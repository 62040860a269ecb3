"""Attack until the time is over, and say what was tried and what was lost.

Exit status: 0 nothing was lost, 1 something was; the line of it says how to see it again.
"""

import argparse
import faulthandler
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from tests.chaos import Lost, arguments, disks, files, forgeries, kills, names, pictures, servers

ATTACKS = {
    "kills": kills.attack,
    "disks": disks.attack,
    "files": files.attack,
    "forgeries": forgeries.attack,
    "pictures": pictures.attack,
    "names": names.attack,
    "servers": servers.attack,
    "arguments": arguments.attack,
}
HANGS = 60  # seconds after which an attempt counts as one that hangs
MOST_MEMORY = 4e9  # bytes that this process may have taken at its largest
SHOWN = 20  # losses that are told in full


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", default="0", help="another one makes other attempts")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--kinds", nargs="+", choices=ATTACKS, default=list(ATTACKS))
    parser.add_argument("--again", metavar="KIND/SEED/NUMBER", help="only this attempt")
    wanted = parser.parse_args(arguments)
    os.environ["no_proxy"] = "127.0.0.1"
    if wanted.again:
        kind, what = wanted.again.split("/")[0], attempt(wanted.again)
        print(what or "nothing is lost")
        return int(what is not None)
    spent, tried, lost = Counter(dict.fromkeys(wanted.kinds, 0.0)), Counter(), {}
    end = time.monotonic() + wanted.seconds
    while time.monotonic() < end:
        kind = min(spent, key=spent.__getitem__)  # each kind gets as much time as the others
        name, begin = f"{kind}/{wanted.seed}/{tried[kind]}", time.monotonic()
        if what := attempt(name):
            lost[name] = what
        spent[kind] += time.monotonic() - begin
        tried[kind] += 1
    report(wanted.seed, tried, lost)
    return int(bool(lost))


def attempt(name: str) -> str | None:
    """Make the attempt of this name: what was lost in it, or None."""
    kind = name.split("/")[0]
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder, alarm(HANGS):
        try:
            ATTACKS[kind](random.Random(name), Path(folder))
        except Lost as error:
            return str(error)
        except Exception as error:
            at = traceback.extract_tb(error.__traceback__)[-1]
            return f"{type(error).__name__} in {Path(at.filename).name}:{at.lineno}: {error}"
    if memory() > MOST_MEMORY:
        return f"the process has taken {memory() / 1e9:.1f} GB by now"
    return None


class alarm:
    """Raise Lost in the block after so many seconds; end the process where that does not help."""

    def __init__(self, seconds: float):
        self.seconds = seconds

    def __enter__(self) -> None:
        faulthandler.dump_traceback_later(2 * self.seconds, exit=True, file=sys.__stderr__)
        if hasattr(signal, "SIGALRM"):
            self.handler = signal.signal(signal.SIGALRM, self.ring)
            self.left, _ = signal.setitimer(signal.ITIMER_REAL, self.seconds)

    def ring(self, *_: object) -> None:
        raise Lost(f"it hangs: after {self.seconds} seconds there is no answer")

    def __exit__(self, *_: object) -> None:
        if hasattr(signal, "SIGALRM"):
            signal.setitimer(signal.ITIMER_REAL, self.left)  # of pytest, if any
            signal.signal(signal.SIGALRM, self.handler)
        faulthandler.cancel_dump_traceback_later()


def memory() -> float:
    """Bytes that this process had at its largest; 0 where the system does not say it."""
    if not sys.platform.startswith("linux"):
        return 0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def report(seed: str, tried: Counter, lost: dict[str, str]) -> None:
    """Print a row a kind, and what was lost."""
    by_kind = Counter(name.split("/")[0] for name in lost)
    print(f"seed {seed}\n{'kind':<12}{'attempts':>9}{'lost':>6}")
    for kind in tried:
        print(f"{kind:<12}{tried[kind]:>9}{by_kind[kind]:>6}")
    print(f"{'all':<12}{tried.total():>9}{len(lost):>6}")
    for name, what in list(lost.items())[:SHOWN]:
        print(f"\nlost: {what}\n  see it again: python -m tests.chaos --again {name}")
    if len(lost) > SHOWN:
        print(f"\nand {len(lost) - SHOWN} more")


if __name__ == "__main__":
    sys.exit(main())
