"""Attacks on the whole package, at random: ``python -m tests.chaos --seed 0 --seconds 60``.

A module holds one kind of attack. Its docstring says when something counts as lost; its function
`attack(random, folder)` makes one attempt in an empty folder, all of it drawn from `random`, and
raises `Lost`. Whatever else it raises is lost as well, and so is an attempt that hangs.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # as pytest has it: the attacks use the tests


class Lost(AssertionError):
    """What an attack found, in one sentence."""


def refuse(right: bool, sentence: str) -> None:
    """Raise Lost with the sentence, unless it is all right."""
    if not right:
        raise Lost(sentence)


def check_sentence(error: BaseException) -> None:
    """An error is told in one line that a terminal shows and does not obey."""
    from test_texts import CONTROLS

    message = str(error)
    refuse(bool(message) and not CONTROLS & set(message), f"not one line: {message!r}")


def check_left(folder: Path, *expected: str) -> None:
    """Nothing else lies in the folder."""
    left = {path.name for path in folder.iterdir()} - set(expected)
    refuse(not left, f"left behind: {', '.join(sorted(left))}")
