"""The wheel, installed where there is nothing else of this project, works for an engineer."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
pytestmark = [pytest.mark.notebooks, pytest.mark.timeout(600)]  # it builds and installs: minutes


def pip(*arguments):
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True, text=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, so that no build folder is left in the checkout."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "LICENSE", "LICENSE-docs", "imbalkit", "docs/package.md"):
        (source / name).parent.mkdir(exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", out, source)
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("installed")
    pip("install", "--no-deps", "--no-index", "--target", folder, wheel)
    return folder


@pytest.fixture(scope="module")
def metadata(wheel):
    with zipfile.ZipFile(wheel) as file:
        (name,) = [n for n in file.namelist() if n.endswith("dist-info/METADATA")]
        return message_from_bytes(file.read(name))


def test_it_has_every_module_and_is_typed(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {str(p.relative_to(ROOT).as_posix()) for p in ROOT.glob("imbalkit/**/*.py")}
    assert modules <= names
    assert {"imbalkit/py.typed", "imbalkit/__init__.pyi", "imbalkit/data/__init__.pyi"} <= names
    assert not [name for name in names if not name.startswith(("imbalkit/", "imbalkit-"))]


def test_it_asks_for_torch_and_numpy_alone(metadata):
    asked = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    assert [re.match(r"[\w-]+", line).group() for line in asked] == ["torch", "numpy"]
    assert set(metadata.get_all("Provides-Extra")) == set(PROJECT["optional-dependencies"])


def test_its_description_has_no_link_that_breaks_on_an_index(metadata):
    text = metadata.get_payload()
    assert "pip install" in text
    assert [t for t in re.findall(r"\]\(([^)]*)\)", text) if not t.startswith("https://")] == []
    labels = {line.split(",")[0] for line in metadata.get_all("Project-URL")}
    assert labels == {"Documentation", "Source", "Issues", "Changelog"}


def run(installed, *command):
    """Run python in an empty folder, with the wheel and without the checkout."""
    environment = os.environ | {"PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=installed.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_an_engineer_uses_it_where_only_torch_and_numpy_are(installed):
    result = run(installed, ROOT / "tests" / "only_torch.py")
    assert result.returncode == 0, result.stderr
    ends = json.loads(result.stdout.splitlines()[-1])
    assert Path(ends.pop("imbalkit")).is_relative_to(installed)
    assert {use: error for use, error in ends.items() if error} == {}


@pytest.mark.parametrize("command", [(), ("diagnose",), ("predict",), ("data",), ("check",)])
def test_its_commands_explain_themselves(installed, command):
    result = run(installed, "-m", "imbalkit", *command, "--help")
    assert result.returncode == 0 and "usage: imbalkit" in result.stdout, result.stderr


@pytest.mark.skipif(os.name != "posix", reason="the script is a program there")
def test_its_command_is_installed(installed):
    script = (installed / "bin" / "imbalkit").read_text(encoding="utf-8")
    assert "from imbalkit.cli import main" in script
