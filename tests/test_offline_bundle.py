"""The offline bundle: made from small stand-ins for the packages, then used with no network."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from helpers import accept_checksums, write_cifar

from imbalkit.data.download import CIFAR

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "data_scripts"
REFUSED = "http://127.0.0.1:9"  # the discard port: nothing listens there
PROJECT = """
[build-system]
requires = ["standin-build>=1"]
build-backend = "standin_build"
[project]
name = "imbalkit"
dependencies = ["standin-torch>=1"]
optional-dependencies.learn = ["standin-lab"]
"""
# What setuptools does for an editable installation, as far as pip asks for it.
BACKEND = """
import zipfile
def build_editable(folder, config_settings=None, metadata_directory=None):
    name = "imbalkit-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(f"{folder}/{name}", "w") as wheel:
        info = "imbalkit-0.1.0.dist-info/"
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nTag: py3-none-any\\n")
        wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: imbalkit\\n"
            "Version: 0.1.0\\nRequires-Dist: standin-torch>=1\\nProvides-Extra: learn\\n"
            'Requires-Dist: standin-lab; extra == "learn"\\n')
        wheel.writestr(info + "RECORD", "")
    return name
"""
JUPYTER = """
import json, os, sys
def main():
    json.dump([os.getcwd(), *sys.argv[1:]], open("started.json", "w"))
"""


def write_wheel(folder, name, version, code="", scripts=""):
    """A package of one module, as a wheel. Return its path."""
    module = name.replace("-", "_")
    path, info = folder / f"{module}-{version}-py3-none-any.whl", f"{module}-{version}.dist-info"
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{module}.py", code)
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        wheel.writestr(f"{info}/entry_points.txt", scripts)
        wheel.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def maker(monkeypatch):
    """The script that makes bundles, as a module."""
    monkeypatch.syspath_prepend(SCRIPTS)
    import make_offline_bundle

    return make_offline_bundle


@pytest.fixture
def checker(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    import check_offline_bundle

    return check_offline_bundle


@pytest.fixture
def project(tmp_path, maker, monkeypatch):
    """A course of stand-ins: its packages are on a shelf, its data is small, its lesson is real."""
    root = tmp_path / "project"
    shutil.copytree(SCRIPTS, root / "data_scripts")
    (root / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / "00_start_here.ipynb", root / "notebooks")
    shutil.copy(ROOT / "Makefile", root)
    (root / "pyproject.toml").write_text(PROJECT)
    (root / "constraints.txt").write_text("standin-torch==1.0\nstandin-lab==1.0\n")
    shelf = tmp_path / "shelf"
    write_wheel(shelf, "standin-build", "1.0", BACKEND)
    write_wheel(shelf, "standin-torch", "1.0")
    write_wheel(shelf, "standin-torch", "2.0")  # newer than what was tested
    scripts = "[console_scripts]\njupyter = standin_lab:main\n"
    write_wheel(shelf, "standin-lab", "1.0", JUPYTER, scripts)
    monkeypatch.setattr(maker, "ROOT", root)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    monkeypatch.setenv("IMBALKIT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    accept_checksums(monkeypatch, write_cifar(tmp_path / "data"))
    return root


@pytest.fixture
def without_pip(maker, monkeypatch, tmp_path):
    """pip takes a second a call, and most tests are about something else."""

    def collect(folder, work):
        wheels = shutil.copytree(tmp_path / "shelf", folder / "wheels", dirs_exist_ok=True)
        return sorted(wheels.iterdir())

    monkeypatch.setattr(maker, "collect_wheels", collect)


@pytest.fixture
def bundle(project, maker, without_pip, tmp_path, capsys):
    assert maker.main([str(tmp_path / "stick")]) == 0
    capsys.readouterr()
    return tmp_path / "stick"


def error_of(capsys, *words):
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1, message
    for word in words:
        assert word in message


# --- what is in it


def test_the_bundle_holds_packages_data_lessons_and_a_text(bundle, project):
    assert {p.name for p in bundle.iterdir()} == {
        "START_HERE.txt", "bundle.json", "course", "data", "wheels",
    }  # fmt: skip
    lesson = "notebooks/00_start_here.ipynb"
    assert (bundle / "course" / lesson).read_bytes() == (project / lesson).read_bytes()
    assert {p.name for p in (bundle / "data").rglob("data_batch_*")} == {
        f"data_batch_{n}" for n in range(1, 6)
    }


def test_the_copy_of_the_course_is_one_that_can_be_worked_with(maker, tmp_path):
    (tmp_path / "work").mkdir()
    maker.copy_course(tmp_path, tmp_path / "work")
    course = tmp_path / "course"
    makefile = subprocess.run(["make", "-n", "course"], cwd=course, capture_output=True, text=True)
    assert makefile.returncode == 0, makefile.stderr
    assert {p.name for p in ROOT.glob("notebooks/*")} - {"__pycache__", ".ipynb_checkpoints"} == {
        p.name for p in (course / "notebooks").iterdir()
    }
    assert (course / "imbalkit" / "data" / "download.py").exists()
    assert not list(course.rglob("__pycache__")) and not list(course.rglob("*.pt"))


def test_pip_is_asked_for_all_that_a_learner_installs(maker):
    names = " ".join(maker.requirements())
    assert all(name in names for name in ("torch", "jupyterlab", "ipykernel", "setuptools"))
    assert "pytest" not in names


@pytest.mark.parametrize(
    "system, words",
    [
        ("Linux", ['make PYTHON=python3.11 learn OFFLINE="BUNDLE"', ".venv/bin/jupyter lab note"]),
        ("Darwin", ['make PYTHON=python3.11 learn OFFLINE="BUNDLE"', "/Volumes/"]),
        ("Windows", ["py -3.11 -m venv .venv", ".venv\\Scripts\\jupyter lab note", "PowerShell"]),
    ],
)
def test_the_text_has_the_lines_of_the_system(maker, monkeypatch, system, words):
    computer = {"system": system, "machine": "arm64", "python": "3.11"}
    monkeypatch.setattr(maker, "this_computer", lambda: computer)
    text = maker.start_here(Path("imbalkit-bundle"))
    assert f"{system} arm64 with Python 3.11" in text and "no other" in text
    for word in [*words, 'check_offline_bundle.py "BUNDLE"', '--no-index --find-links "BUNDLE']:
        assert word in text
    assert ("make" in text) == (system != "Windows")
    assert "{" not in text


@pytest.mark.parametrize(("system", "slash"), [("Linux", "/"), ("Darwin", "/"), ("Windows", "\\")])
def test_the_lines_of_the_text_hold_for_a_path_with_spaces(maker, monkeypatch, system, slash):
    computer = {"system": system, "machine": "arm64", "python": "3.11"}
    monkeypatch.setattr(maker, "this_computer", lambda: computer)
    text = maker.start_here(Path("imbalkit-bundle"))
    commands = text.split("write the path")[1]
    quoted = re.findall(r'"(BUNDLE[^"]*)"', commands)
    assert {"BUNDLE", f"BUNDLE{slash}wheels", f"BUNDLE{slash}data"} == set(quoted)
    assert commands.count("BUNDLE") == len(quoted)


# --- what stops it


def test_a_folder_of_the_course_itself(project, maker, without_pip, capsys):
    assert maker.main([str(project / "bundle")]) == 1
    error_of(capsys, "lies in the course itself", "name a folder outside")
    assert not (project / "bundle").exists()


def test_a_file(project, maker, without_pip, capsys, tmp_path):
    (tmp_path / "stick").write_text("")
    assert maker.main([str(tmp_path / "stick")]) == 1
    error_of(capsys, "stick is a file", "name a folder")


def test_a_folder_of_somebody_else_is_left_alone(project, maker, without_pip, capsys, tmp_path):
    mine = tmp_path / "stick" / "course" / "essay.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    assert maker.main([str(tmp_path / "stick")]) == 1
    error_of(capsys, "holds other files", "name a new folder")
    assert [p for p in (tmp_path / "stick").rglob("*") if p.is_file()] == [mine]


def test_a_bundle_for_another_computer_is_left_alone(bundle, maker, monkeypatch, capsys):
    computer = {"system": "Windows", "machine": "AMD64", "python": "3.13"}
    monkeypatch.setattr(maker, "this_computer", lambda: computer)
    before = (bundle / "bundle.json").read_bytes()
    assert maker.main([str(bundle)]) == 1
    error_of(capsys, "name another folder")
    assert (bundle / "bundle.json").read_bytes() == before


def test_too_little_space(project, maker, tmp_path, monkeypatch, capsys):
    class Disk:
        free = 300_000_000

    monkeypatch.setattr(maker, "wheels_in_use", lambda wheels: None)
    monkeypatch.setattr(maker.shutil, "disk_usage", lambda folder: Disk)
    assert maker.main([str(tmp_path / "stick")]) == 1
    error_of(capsys, "300 MB are free", "free some space")


def test_no_data(bundle, project, maker, without_pip, monkeypatch, capsys, tmp_path):
    shutil.rmtree(bundle / "data")
    shutil.rmtree(tmp_path / "data")
    monkeypatch.setattr(CIFAR["cifar10"], "url", (tmp_path / "absent.tar.gz").as_uri())
    assert maker.main([str(bundle)]) == 1
    error_of(capsys, "cannot be reached")
    assert not (bundle / "START_HERE.txt").exists()


def test_damaged_data_is_not_taken(project, maker, without_pip, monkeypatch, capsys, tmp_path):
    (tmp_path / "data" / CIFAR["cifar10"].base_folder / "test_batch").write_bytes(b"damaged")
    monkeypatch.setattr(CIFAR["cifar10"], "url", (tmp_path / "absent.tar.gz").as_uri())
    assert maker.main([str(tmp_path / "stick")]) == 1
    error_of(capsys, "cannot be reached")


@pytest.mark.parametrize("step", ["collect_wheels", "collect_data", "copy_course", "start_here"])
def test_an_interrupted_bundle_does_not_look_whole(
    bundle, maker, checker, monkeypatch, capsys, step
):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(maker, step, interrupt)
        assert maker.main([str(bundle)]) == 1
    error_of(capsys, "interrupted", "run the same command again")
    assert not (bundle / "START_HERE.txt").exists() and not (bundle / ".partial").exists()
    assert checker.main([str(bundle)]) == 1
    error_of(capsys, "not finished")
    assert maker.main([str(bundle)]) == 0
    assert "there already" in capsys.readouterr().out
    checker.check(bundle, maker.ROOT)


# --- is it whole, and is it for this computer?


def refusal(checker, bundle, course):
    with pytest.raises(checker.BundleError) as error:
        checker.check(bundle, course)
    return str(error.value)


def test_a_whole_bundle_is_accepted(bundle, project, checker):
    checker.check(bundle, project)


@pytest.mark.parametrize("other", [{"python": "3.8"}, {"machine": "arm64"}, {"system": "Windows"}])
def test_another_computer_is_refused(bundle, project, checker, other):
    mark = json.loads((bundle / "bundle.json").read_text())
    mark["computer"] |= other
    (bundle / "bundle.json").write_text(json.dumps(mark))
    message = refusal(checker, bundle, project)
    assert "is for " in message and "and this is " in message and "make a bundle" in message
    assert next(iter(other.values())) in message


def test_a_cut_copy_is_refused(bundle, project, checker):
    next((bundle / "wheels").iterdir()).write_bytes(b"cut")
    (bundle / "data" / CIFAR["cifar10"].base_folder / "test_batch").unlink()
    message = refusal(checker, bundle, project)
    assert "2 of 11 files" in message and "copy the bundle again" in message


def test_another_release_of_the_course_is_refused(bundle, project, checker):
    (project / "constraints.txt").write_text("standin-torch==2.0\n")
    assert "another release of the course" in refusal(checker, bundle, project)


def test_a_folder_that_is_no_bundle_is_refused(tmp_path, checker):
    assert "no offline bundle" in refusal(checker, tmp_path, tmp_path)


@pytest.mark.parametrize("mark", ["", "{", "[]", "{}", "null", "[" * 100_000,
    '{"finished": true, "computer": {}, "files": {}}',
    '{"finished": 1, "computer": null, "files": []}'])  # fmt: skip
def test_a_damaged_mark_is_a_sentence(tmp_path, checker, mark):
    (tmp_path / "bundle.json").write_text(mark)
    assert "bundle.json is not in it, or is damaged" in refusal(checker, tmp_path, tmp_path)


def test_the_check_runs_with_a_python_that_is_too_old():
    source = (SCRIPTS / "check_offline_bundle.py").read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 7))
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [node.names[0].name])
    }
    assert imported <= {"argparse", "json", "platform", "sys", "pathlib"}


# --- with pip and make, which take seconds


@pytest.mark.notebooks
@pytest.mark.timeout(600)
def test_pip_collects_what_the_constraints_name(project, maker, checker, tmp_path, capfd):
    stick = tmp_path / "stick"
    stick.mkdir()
    write_wheel(stick / "wheels", "standin-torch", "1.0+cpu")  # somebody prefers this one
    assert maker.main([str(stick)]) == 0
    names = {p.name.split("-py3")[0] for p in (stick / "wheels").iterdir()}
    assert names == {"standin_build-1.0", "standin_torch-1.0+cpu", "standin_lab-1.0"}
    checker.check(stick, project)
    assert "3 wheels" in capfd.readouterr().out

    # A cut wheel is fetched again, one that nothing needs is removed, nothing else is fetched.
    (stick / "wheels" / "standin_lab-1.0-py3-none-any.whl").write_bytes(b"PK cut")
    write_wheel(stick / "wheels", "standin-old", "1.0")
    assert maker.main([str(stick)]) == 0
    assert {p.name.split("-py3")[0] for p in (stick / "wheels").iterdir()} == names
    assert "3 wheels" in capfd.readouterr().out
    shutil.rmtree(tmp_path / "shelf")
    assert maker.main([str(stick)]) == 0
    assert "there already" in capfd.readouterr().out

    # A package that is nowhere.
    (project / "pyproject.toml").write_text(PROJECT.replace("standin-lab", "standin-absent"))
    assert maker.main([str(stick)]) == 1
    error = capfd.readouterr().err.splitlines()[-1]
    assert error.startswith("error: pip could not download") and "again" in error


def cut_off():
    """A command prefix after which there is no network, where the system allows that."""
    prefix = ["unshare", "--map-root-user", "--net"]
    try:
        allowed = subprocess.run([*prefix, "true"], capture_output=True).returncode == 0
    except OSError:
        allowed = False
    return prefix if allowed else []


@pytest.mark.notebooks
@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.timeout(600)
def test_make_learn_with_a_bundle_needs_no_network(
    project, maker, without_pip, tmp_path, monkeypatch
):
    stick = tmp_path / "usb stick"  # a path with a space, as sticks often have
    assert maker.main([str(stick)]) == 0
    learner = tmp_path / "learner"
    shutil.copytree(stick / "course", learner)
    # Our small data passes for the official one in the learner's process too.
    cifar = CIFAR["cifar10"]
    shutil.copytree(ROOT / "imbalkit", learner / "imbalkit")
    script = learner / "imbalkit" / "data" / "command.py"
    patch = (
        "from torchvision.datasets import CIFAR10\n"
        f"CIFAR10.train_list, CIFAR10.test_list = {cifar.train_list!r}, {cifar.test_list!r}\n"
        f"CIFAR10.meta = {cifar.meta!r}\n"
    )
    script.write_text(patch + script.read_text(encoding="utf-8"), encoding="utf-8")
    for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS", "IMBALKIT_DATA"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{sysconfig.get_path('purelib')}")
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, REFUSED)
        monkeypatch.setenv(name.upper(), REFUSED)
    shutil.rmtree(tmp_path / "shelf")

    command = [*cut_off(), "make", f"PYTHON={sys.executable}", "learn", f"OFFLINE={stick}"]
    result = subprocess.run(command, cwd=learner, capture_output=True, text=True, timeout=500)

    assert result.returncode == 0, result.stdout + result.stderr
    folder, *arguments = json.loads((learner / "started.json").read_text())
    assert Path(folder) == learner and arguments == ["lab", "notebooks/00_start_here.ipynb"]
    cached = [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    assert {p.name: p.read_bytes() for p in cached} == {
        p.name: p.read_bytes() for p in (stick / "data").rglob("*") if p.is_file()
    }


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.skipif(sys.platform == "win32", reason="its shell drops the \\ of Windows paths")
def test_make_refuses_a_bundle_before_it_installs(project, tmp_path):
    (tmp_path / "none").mkdir()
    command = ["make", f"PYTHON={sys.executable}", "learn", f"OFFLINE={tmp_path / 'none'}"]
    result = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=60)
    assert result.returncode != 0 and "is no offline bundle" in result.stderr
    assert not (project / ".venv").exists()
