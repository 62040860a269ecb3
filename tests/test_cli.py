"""The command ``imbalkit`` hands on to the right place, and says in a sentence what is missing."""

import re
import sys
from types import SimpleNamespace

import pytest

import imbalkit
from imbalkit import cli


def test_its_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["--help"])
    text = capsys.readouterr().out
    assert end.value.code == 0
    assert re.findall(r"^    (\w+) ", text, re.MULTILINE) == list(cli.COMMANDS)


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_each_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main([command, "--help"])
    text = capsys.readouterr().out
    assert end.value.code == 0
    assert text.startswith(f"usage: imbalkit {command} ") and "Exit status: 0" in " ".join(
        text.split()
    )


@pytest.mark.parametrize("arguments", [[], ["diagnos"], ["--no-such-option"]])
def test_a_wrong_call_ends_with_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2 and "usage: imbalkit" in capsys.readouterr().err


def test_the_version(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"imbalkit {imbalkit.__version__}\n"


def test_arguments_and_status_pass_through(monkeypatch):
    seen = []
    monkeypatch.setitem(
        sys.modules, "some_command", SimpleNamespace(run=lambda a: seen.append(a) or 7)
    )
    monkeypatch.setitem(cli.COMMANDS, "predict", ("some_command", "run", "something"))
    assert cli.main(["predict", "model.pt", "--help"]) == 7
    assert seen == [["model.pt", "--help"]]


def test_a_missing_library_is_a_sentence(monkeypatch, capsys):
    def run(arguments):
        imbalkit.optional.optional("no_such_library", "data")

    monkeypatch.setitem(sys.modules, "some_command", SimpleNamespace(run=run))
    monkeypatch.setitem(cli.COMMANDS, "predict", ("some_command", "run", "something"))
    assert cli.main(["predict"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("imbalkit predict: ") and error.endswith(
        'pip install "imbalkit[data]".\n'
    )
    assert error.count("\n") == 1


def test_check_names_what_is_missing_and_how_to_get_it(monkeypatch, capsys):
    lines = ['matplotlib>=3; extra == "plots"', 'no-such-library>=1; extra == "plots"', "torch"]
    monkeypatch.setattr(cli.metadata, "requires", lambda name: lines)
    monkeypatch.setattr(cli, "images_per_second", lambda device: 1234.5)
    assert cli.main(["check"]) == 0
    text = capsys.readouterr().out
    assert 'lacks no-such-library; pip install "imbalkit[plots]"' in text
    assert re.search(r"^\[data\] +is installed$", text, re.MULTILINE)
    assert "about 1,23" in text and "torch     2." in text


def test_check_ends_with_status_1_without_torch(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert cli.main(["check"]) == 1
    assert "torch     MISSING: " in capsys.readouterr().out


def test_check_measures_a_speed():
    from imbalkit.device import pick_device

    assert cli.images_per_second(pick_device()) > 0
