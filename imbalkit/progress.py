"""Live progress: one line with the time left, in a notebook and in a terminal.

What a saved notebook keeps is the final table alone.
"""

import sys
import time
from typing import Any

SECONDS_BETWEEN_UPDATES = 0.5


class Progress:
    """Count steps towards `total` and show where we are; `finish` replaces the line.

    Text written to a file or a pipe gets no progress line at all.

    Args:
        total: steps in all.
        visible: show it.

    Example:
        >>> progress = Progress(total=2, visible=False)
        >>> progress.step("epoch 1 of 1")
        >>> progress.done, progress.total
        (1, 2)
    """

    def __init__(self, total: int, visible: bool = True):
        self.total, self.done = total, 0
        self.started = self.shown = time.perf_counter()
        self.done_before = 0
        shell = ipython_shell()
        self.in_notebook = visible and shell is not None and hasattr(shell, "kernel")
        self.in_terminal = visible and shell is None and sys.stdout.isatty()
        self.handle: Any = empty_output() if self.in_notebook else None

    def start_at(self, done: int) -> None:
        """Begin at `done` steps, as a resumed training does."""
        self.done = self.done_before = done

    def step(self, note: str = "") -> None:
        """Count one step; update the line at most twice a second."""
        self.done += 1
        now = time.perf_counter()
        if now - self.shown < SECONDS_BETWEEN_UPDATES:
            return
        self.shown = now
        self._write(f"{note} · {self.done} of {self.total} batches · {self._left(now)} left")

    def finish(self, result: object = None) -> None:
        """Replace the line by `result`, shown as a notebook shows any object."""
        if self.in_notebook:
            self.handle.update({"text/plain": ""} if result is None else result, raw=result is None)
        elif self.in_terminal:
            sys.stdout.write("\r\033[K" + ("" if result is None else f"{result}\n"))
            sys.stdout.flush()

    def _left(self, now: float) -> str:
        per_step = (now - self.started) / (self.done - self.done_before)
        minutes, seconds = divmod(round(per_step * (self.total - self.done)), 60)
        return f"{minutes}:{seconds:02d}"

    def _write(self, line: str) -> None:
        if self.in_notebook:
            self.handle.update({"text/plain": line}, raw=True)
        elif self.in_terminal:
            sys.stdout.write("\r\033[K" + line)
            sys.stdout.flush()


def ipython_shell() -> Any:
    """The shell of IPython that runs this code, or None; it has loaded IPython then."""
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython else None


def empty_output() -> Any:
    """A new output of the notebook's cell, to be updated."""
    from IPython.display import display

    return display({"text/plain": ""}, raw=True, display_id=True)


__all__ = ["Progress"]
