"""A process that an attack may kill, or starve."""

import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any


def begin(work: Callable[[], Any]) -> tuple[int, Any]:
    """Do the work in a child process: its number, and the end of a pipe with the result."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child:
        os.close(writing)
        return child, os.fdopen(reading, "rb")
    try:  # from here on in the child
        os.close(reading)
        signal.setitimer(signal.ITIMER_REAL, 0)
        try:
            answer = work(), None
        except BaseException as error:
            answer = None, (type(error), str(error), traceback.format_exc(limit=-1))
        with os.fdopen(writing, "wb") as pipe:
            pickle.dump(answer, pipe)
    finally:
        os._exit(0)


def end(child: int, pipe: Any) -> tuple[Any, Any]:
    """Wait for the child: ``(result, None)``, ``(None, error)``, or (None, None) if it was killed.

    An error is its class, its text and where it was raised.
    """
    with pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    return pickle.loads(data) if data else (None, None)
