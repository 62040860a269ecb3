"""The set-up check: each finding with an input of which the answer is known."""

import ast
import importlib.util
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import accept_checksums, write_cifar

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "tools" / "check_setup.py"


@pytest.fixture
def check(monkeypatch):
    spec = importlib.util.spec_from_file_location("check_setup", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "check_setup", module)  # a dataclass looks for its module
    spec.loader.exec_module(module)
    return module


def state_of(finding, *words):
    """The state. The words are in what was found and advised; where all is good is no advice."""
    text = f"{finding.found} {finding.advice}"
    assert all(word in text for word in words), text
    assert (finding.advice == "") == (finding.state == "good" or "not known" in text)
    return finding.state


@pytest.mark.parametrize(
    "version, state",
    [
        ((3, 8), "MISSING"),
        ((3, 10), "MISSING"),
        ((3, 11), "good"),
        ((3, 14), "good"),
        ((3, 15), "MISSING"),
    ],
)
def test_python(check, version, state):
    assert state_of(check.python_version(version), "3.") == state


def test_the_python_releases_are_those_of_the_project(check):
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'requires-python = ">={}.{}"'.format(*check.OLDEST_PYTHON) in text
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "Python {}.{} to {}.{},".format(*check.OLDEST_PYTHON, *check.NEWEST_PYTHON) in text


@pytest.mark.parametrize(
    "name, processor, macos, state, words",
    [
        ("Linux", "x86_64", "", "good", ["Linux x86_64"]),
        ("Linux", "aarch64", "", "good", ["Linux aarch64"]),
        ("Linux", "armv7l", "", "MISSING", ["use another computer"]),
        ("Darwin", "arm64", "14.5", "good", ["macOS 14.5 arm64"]),
        ("Darwin", "arm64", "13.7.1", "MISSING", ["13.7.1", "update macOS to 14 or newer"]),
        ("Darwin", "x86_64", "15.1", "MISSING", ["use another computer"]),
        ("Windows", "amd64", "", "good", ["Windows amd64"]),
        ("Windows", "arm64", "", "MISSING", ["use another computer"]),
        ("Windows", "win32", "", "MISSING", ["use another computer"]),
        ("FreeBSD", "amd64", "", "MISSING", ["use another computer"]),
    ],
)
def test_system(check, name, processor, macos, state, words):
    assert state_of(check.system(name, processor, macos, installed=False), *words) == state
    assert state_of(check.system(name, processor, macos, installed=True)) == "good"


def test_this_computer_has_packages(check):
    release = platform.mac_ver()[0]
    finding = check.system(platform.system(), check.machine(), release, installed=False)
    assert state_of(finding) == "good"


@pytest.mark.parametrize(
    "free, installed, system, state",
    [
        (0.5e9, True, "Linux", "MISSING"),
        (2e9, True, "Linux", "good"),
        (5e9, False, "Linux", "MISSING"),
        (5e9, False, "Windows", "good"),
        (2e9, False, "Windows", "MISSING"),
    ],
)
def test_free_disk(check, free, installed, system, state):
    assert state_of(check.free_disk(free, installed, system), "GB free") == state


@pytest.mark.parametrize(
    "total, state", [(1e9, "MISSING"), (3e9, "note"), (8e9, "good"), (None, "note")]
)
def test_memory(check, total, state):
    assert state_of(check.memory(total)) == state


def test_the_memory_of_this_computer_is_known(check):
    assert check.total_memory() > 1e9


@pytest.mark.parametrize("count, state", [(1, "note"), (2, "good"), (16, "good")])
def test_cores(check, count, state):
    assert state_of(check.cores(count), str(count)) == state


def fake_python(tmp_path, code):
    """A program that is called like Python and does what `code` says."""
    path = tmp_path / "python"
    path.write_text(f"#!{sys.executable}\n{code}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.skipif(sys.platform == "win32", reason="a script cannot stand for Python there")
@pytest.mark.parametrize(
    "code, state, words",
    [
        ("print('2.14.1, CPU')", "good", ["2.14.1, CPU"]),
        ("import no_such_torch", "MISSING", ["no_such_torch", "make learn"]),
        ("raise OSError('libtorch is damaged')", "MISSING", ["damaged", "delete the folder .venv"]),
        ("import os; os.abort()", "MISSING", ["ended with code", "delete the folder .venv"]),
    ],
)
def test_torch(check, tmp_path, code, state, words):
    assert state_of(check.installed_packages(fake_python(tmp_path, code)), *words) == state


def test_data(check, tmp_path, monkeypatch):
    monkeypatch.setenv("IMBALKIT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert state_of(check.data(), "embedded set", "make data") == "note"
    folder = write_cifar(tmp_path / "data")
    assert state_of(check.data(), "damaged", "make data") == "MISSING"
    accept_checksums(monkeypatch, folder)
    assert state_of(check.data(), str(tmp_path / "data")) == "good"


def test_speed(check):
    assert state_of(check.speed(15.0, 15.0, "CPU"), "about 4.0 minutes") == "good"
    assert state_of(check.speed(60.0, 15.0, "CPU, 2 threads"), "about 16 minutes", "2 threads") == (
        "note"
    )


def test_the_committed_training_is_that_of_lesson_00(check):
    seconds, device = check.committed_seconds()
    assert 2 < seconds < 100 and device


def test_the_training_is_timed_in_parts_of_the_whole(check, monkeypatch):
    """A clock that gives each part a second: all of them make up the training of lesson 00."""
    monkeypatch.setattr(check, "TRAIN_IMAGES", 256)
    monkeypatch.setattr(check, "VALIDATION_IMAGES", 64)
    ticks = iter(range(1000))
    monkeypatch.setattr(check.time, "perf_counter", lambda: float(next(ticks)))
    monkeypatch.setenv("IMBALKIT_PROFILE", "cpu")
    taken = check.training_seconds(budget=0.5)
    assert taken % (5 * check.PARTS) == 0 and taken > 0


def test_the_exit_code_says_whether_a_lesson_can_run(check, monkeypatch, capsys):
    good = check.Finding("disk", "good", "")
    for worst, code, words in (("note", 0, "Ready"), ("MISSING", 1, "Missing: torch")):
        found = [good, check.Finding("torch", worst, "no", "install it")]
        monkeypatch.setattr(check, "examine", lambda found=found: found)
        assert check.main() == code
        text = capsys.readouterr().out
        assert words in text and "-> install it" in text


def test_it_starts_with_an_old_python_that_has_nothing_installed():
    source = SCRIPT.read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 7))
    first = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
    names = {n.module if isinstance(n, ast.ImportFrom) else n.names[0].name for n in first}
    assert not {name.split(".")[0] for name in names} - sys.stdlib_module_names


def test_without_the_course_it_says_so_and_stops(tmp_path):
    """`-S` leaves out what is installed, as on a computer that has Python alone."""
    code = (
        "import runpy, sys; sys.argv = ['check']; import subprocess as s; run = s.run;"
        "s.run = lambda c, **k: run([c[0], '-S', *c[1:]], **k);"
        f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    )
    result = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True)
    assert result.returncode == 1, result.stderr
    assert "make learn" in result.stdout and "kernel" not in result.stdout
    assert result.stdout.splitlines()[-1].endswith("torch.")


def test_no_other_user_can_read_the_token_of_the_server(check, monkeypatch):
    """The command of a process stands in the list of processes; its environment does not."""
    started = {}

    class Server:
        def __init__(self, command, env=None, **_):
            started.update(command=command, env=env)

        def kill(self):
            pass

        def wait(self, timeout=None):
            pass

    def up(_, token):
        started["token"] = token
        return "http://127.0.0.1:1/"

    monkeypatch.setattr(check.subprocess, "Popen", Server)
    monkeypatch.setattr(check, "wait_for_server", up)
    monkeypatch.setattr(check, "ask", lambda *_, **__: None)
    assert state_of(check.jupyterlab(), "shows its page") == "good"
    assert len(started["token"]) >= 32 and started["token"] in started["env"].values()
    assert not [part for part in started["command"] if started["token"] in part]


@pytest.mark.notebooks
@pytest.mark.timeout(600)
def test_the_kernel_and_jupyterlab_start_here_and_their_absence_is_found(check):
    assert state_of(check.kernel()) == "good"
    assert state_of(check.kernel("no-such-kernel"), "does not start", "install again") == "MISSING"
    assert state_of(check.jupyterlab(), "shows its page") == "good"
    assert state_of(check.jupyterlab("no_such_module"), "No module named") == "MISSING"
