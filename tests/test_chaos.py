"""One minute of attacks at random; the nightly workflow makes ten (`python -m tests.chaos`)."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos import Lost, arguments
from tests.chaos import __main__ as chaos

ROOT = Path(__file__).parents[1]


@pytest.mark.timeout(400)
@pytest.mark.notebooks(minutes=1)  # slow, though no notebook
def test_nothing_is_lost_in_a_minute():
    command = [sys.executable, "-W", "ignore", "-m", "tests.chaos", "--seconds", "60"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]


def test_what_is_lost_is_told_with_the_line_that_shows_it_again(monkeypatch, capsys):
    def attack(random, folder):
        if random.random() < 0.5:
            raise Lost("the third file")

    monkeypatch.setattr(chaos, "ATTACKS", {"files": attack})
    assert chaos.main(["--seed", "7", "--seconds", "0.2", "--kinds", "files"]) == 1
    told = capsys.readouterr().out
    assert "the third file" in told and "--again files/7/" in told
    again = next(line.split()[-1] for line in told.splitlines() if "--again" in line)
    assert chaos.main(["--again", again]) == 1
    assert capsys.readouterr().out == "the third file\n"


def test_an_attempt_that_hangs_is_lost(monkeypatch):
    def attack(random, folder):
        while True:
            pass

    monkeypatch.setattr(chaos, "ATTACKS", {"files": attack})
    monkeypatch.setattr(chaos, "HANGS", 0.05)
    assert "it hangs" in chaos.attempt("files/0/0")


def test_every_public_function_is_attacked_or_waits():
    attacked = {name.rpartition(".")[2] for name in arguments.public_functions()}
    assert {
        "weighted_sampler",
        "per_class",
        "plain_cnn",
        "Predictor",
        "stratified_split",
    } < attacked
    assert len(attacked) > 80
