"""imbalkit diagnose: its exit status, its output, and what it says of a wrong call."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from imbalkit.doctor import command
from imbalkit.doctor.causes import CAUSES

ROOT = Path(__file__).parent.parent

FACTORIES = """
import torch
import torch.nn.functional as F
from torch import nn


def data():
    torch.manual_seed(0)
    y = torch.arange(240) % 3
    x = 0.3 * torch.randn(240, 8)
    x[:, :3] += 3 * F.one_hot(y, 3)
    order = torch.randperm(240)
    return list(zip(x[order].split(30), y[order].split(30)))


def trained(*last):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 3), *last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for x, y in 5 * data():
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model, optimizer


def healthy():
    model, optimizer = trained()
    return {
        "model": model, "train_batches": data(), "optimizer": optimizer,
        "loss_fn": nn.CrossEntropyLoss(), "eval_batches": data(),
    }


def pair():
    return trained(nn.Softmax(1))[0], data()


def listed():
    return list(pair())


def broken():
    raise RuntimeError("the factory is closed")


def mistaken():
    raise ValueError("could not read my_data.csv")


def nothing():
    return None


def triple():
    return 1, 2, 3


def no_batches():
    return {"model": trained()[0]}


def more():
    return healthy() | {"seconds": 3}


def empty():
    return trained()[0], []


def no_model():
    return data, data()


constant = 7
"""


@pytest.fixture
def main(tmp_path, monkeypatch, capsys):
    """Run the command in a folder with a module of factories; return status, output, errors."""
    (tmp_path / "my_factories.py").write_text(FACTORIES)
    (tmp_path / "needs_more.py").write_text("import a_module_that_is_not_there\n")
    (tmp_path / "wrong_syntax.py").write_text("def to_diagnose(:\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    importlib.invalidate_caches()

    def run(name, *options):
        arguments = [name if ":" in name or name == "alone" else f"my_factories:{name}", *options]
        status = command.main(arguments)
        return status, *capsys.readouterr()

    yield run
    for name in ("my_factories", "needs_more", "wrong_syntax"):
        sys.modules.pop(name, None)


def test_a_healthy_model_ends_with_status_0(main):
    status, output, errors = main("healthy")
    assert status == 0 and output.startswith("Diagnosis: healthy") and errors == ""


@pytest.mark.parametrize("name", ["pair", "listed"])
def test_a_fault_ends_with_status_1(main, name):
    status, output, errors = main(name)
    assert status == 1 and output.startswith("Diagnosis: double_softmax") and errors == ""
    assert "train_batches" not in output and "Read: 8 training batches, 240 images" in output


@pytest.mark.parametrize(
    ("name", "status", "cause"), [("healthy", 0, "healthy"), ("pair", 1, "double_softmax")]
)
def test_json_is_all_there_is_on_the_output(main, name, status, cause):
    ended, output, errors = main(name, "--json")
    report = json.loads(output, parse_constant=lambda number: pytest.fail(f"{number} is no JSON"))
    assert (ended, report["cause"], errors) == (status, cause, "")
    assert all(finding["cause"] in CAUSES for finding in report["findings"])


WRONG = [
    (
        "nothing",
        "my_factories:nothing returned a NoneType; return (model, train_batches) or a dict",
    ),
    ("triple", "my_factories:triple returned a tuple"),
    ("no_batches", "a dict with the keys model; it must have model and train_batches"),
    ("more", "eval_batches, seconds; it must have model and train_batches"),
    ("empty", "train_batches is empty"),
    ("no_model", "model is a function; pass a torch.nn.Module"),
    ("constant", "my_factories has no function 'constant'"),
    ("not_there", "my_factories has no function 'not_there'"),
    ("alone", "'alone' names no function; write package.module:function"),
    ("not_there_either:f", "No module named 'not_there_either'; start the command in the folder"),
    ("needs_more:f", "No module named 'a_module_that_is_not_there'"),
]


@pytest.mark.parametrize(("name", "sentence"), WRONG)
def test_a_wrong_call_ends_with_status_2_and_one_sentence(main, name, sentence):
    status, output, errors = main(name)
    assert status == 2 and output == "" and sentence in errors
    assert errors.startswith("imbalkit diagnose: ") and errors.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("broken", "RuntimeError: the factory is closed"),
        ("mistaken", "ValueError: could not read my_data.csv"),
        ("wrong_syntax:f", "SyntaxError"),
    ],
)
def test_an_error_of_the_function_keeps_its_traceback_and_is_no_fault(main, name, error):
    status, output, errors = main(name)
    assert status == 2 and output == "" and "Traceback" in errors and error in errors


def test_the_time_budget_is_handed_on(main, monkeypatch):
    given = []
    monkeypatch.setattr(command, "diagnose", lambda **options: given.append(options) or _Healthy())
    assert main("healthy", "--seconds", "3.5")[0] == 0
    assert given[0]["seconds"] == 3.5 and {"model", "eval_batches", "loss_fn"} <= set(given[0])
    main("healthy")
    assert given[1]["seconds"] == 20


class _Healthy:
    healthy = True


def test_a_call_without_arguments_shows_the_usage(capsys):
    with pytest.raises(SystemExit) as ended:
        command.main([])
    assert ended.value.code == 2 and "usage: imbalkit diagnose" in capsys.readouterr().err


@pytest.mark.notebooks  # slow: its processes import torch
def test_from_the_shell(tmp_path):
    (tmp_path / "my_factories.py").write_text(FACTORIES)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    start = "import sys; from imbalkit.doctor.command import main; sys.exit(main())"
    call = [sys.executable, "-W", "error", "-c", start, "my_factories:pair", "--json"]
    done = subprocess.run(
        call, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["cause"] == "double_softmax"
