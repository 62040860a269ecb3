"""The project's files agree with one another."""

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import imbalkit
import write_tables

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/teaching.md"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def requirements():
    """Every requirement of the package and of its extras, but for the extras of its own."""
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    found = [Requirement(line) for group in groups for line in group]
    return [r for r in found if r.name != PROJECT["name"]]


def pins():
    lines = [x for x in read("constraints.txt").splitlines() if x and not x.startswith("#")]
    return [Requirement(line) for line in lines]


# --- installing


def test_constraints_pin_each_package_once_and_exactly():
    names = [canonicalize_name(pin.name) for pin in pins()]
    assert len(set(names)) == len(names)
    assert [str(p) for p in pins() if not re.fullmatch(r"==[^*,]+", str(p.specifier))] == []


def test_pins_install_on_the_first_release_of_the_oldest_python():
    """Debian 12 has Python 3.11.2: a pin that asks for 3.11.5 cannot be installed there."""
    oldest = PROJECT["requires-python"].removeprefix(">=") + ".0"
    installed = {canonicalize_name(d.name): d.metadata for d in metadata.distributions()}
    asked = {
        str(pin): installed[name].get("Requires-Python")
        for pin in pins()
        if (name := canonicalize_name(pin.name)) in installed
        and installed[name]["Version"] in pin.specifier
    }
    assert len(asked) > 20
    too_new = {p: asks for p, asks in asked.items() if oldest not in SpecifierSet(asks or "")}
    assert too_new == {}


@pytest.mark.parametrize("requirement", requirements(), ids=lambda r: r.name)
def test_each_requirement_is_pinned_within_its_range(requirement):
    pinned = {canonicalize_name(pin.name): pin.specifier for pin in pins()}
    (pin,) = pinned[canonicalize_name(requirement.name)]
    assert pin.version in requirement.specifier
    assert any(s.operator in (">=", "~=", "==") for s in requirement.specifier)


def test_everything_a_learner_and_a_tester_need_is_required():
    needed = {
        "torch", "torchvision", "jupyterlab", "matplotlib", "seaborn", "scikit-learn", "nbval",
        "pytest",
    }  # fmt: skip
    assert needed <= {r.name for r in requirements()}


def test_the_core_needs_torch_and_numpy_alone_and_a_lesson_all_that_the_package_can_use():
    assert {Requirement(line).name for line in PROJECT["dependencies"]} == {"torch", "numpy"}
    learn = map(Requirement, PROJECT["optional-dependencies"]["learn"])
    own = [r for r in learn if r.name == PROJECT["name"]]
    assert {extra for r in own for extra in r.extras} == {"data", "plots"}


def test_conda_environment_installs_the_package_with_the_pins():
    *conda, last = ENVIRONMENT["dependencies"]
    python = next(Requirement(entry) for entry in conda if entry.startswith("python"))
    oldest = PROJECT["requires-python"].removeprefix(">=")
    assert oldest in python.specifier
    assert "3.10" not in python.specifier and "3.10" not in SpecifierSet(PROJECT["requires-python"])
    assert {"pip", "make"} <= set(conda)
    assert last["pip"][0] == "-c constraints.txt"
    (install,) = last["pip"][1:]
    extras = re.fullmatch(r"-e \.\[([\w,]+)\]", install).group(1).split(",")
    learned = {"data", "plots"}  # part of [learn]
    assert set(extras) | learned == set(PROJECT["optional-dependencies"])


def test_python_releases_agree():
    newest = workflow("tests")["jobs"]["quick"]["strategy"]["matrix"]["include"][-1]["python"]
    oldest = PROJECT["requires-python"].removeprefix(">=")
    for name in ("README.md", "docs/index.md", "docs/teaching.md", "Makefile"):
        assert f"Python {oldest} to {newest}" in " ".join(read(name).split()), name


OTHER_PYTHON = """#!{python}
import collections, sys
if sys.argv[1] == "-c":
    info = collections.namedtuple("info", "major minor micro")
    sys.version_info = info(*{version})
    exec(sys.argv[2])
sys.exit("installs with " + " ".join(sys.argv[1:]))
"""


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.skipif(sys.platform == "win32", reason="a script cannot stand for Python there")
@pytest.mark.parametrize(
    "version, accepted",
    [((2, 7), False), ((3, 10), False), ((3, 11), True), ((3, 14), True), ((3, 15), False)],
)
def test_make_accepts_the_python_releases_and_names_them_otherwise(version, accepted, tmp_path):
    """A Python that says to be of another release, and only tells what it would install."""
    python = tmp_path / "other-python"
    python.write_text(OTHER_PYTHON.format(python=sys.executable, version=(*version, 0)))
    python.chmod(0o755)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    command = ["make", f"PYTHON={python}", ".venv/learn.stamp"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    words = f"imbalkit needs Python 3.11 to 3.14, and {python} is {version[0]}.{version[1]}: "
    assert (words in done.stderr) != accepted
    assert ("installs with -m venv .venv" in done.stderr) == accepted


def test_versions_agree():
    citation = yaml.safe_load(read("CITATION.cff"))
    assert imbalkit.__version__ == PROJECT["version"] == str(citation["version"])
    assert f"## {PROJECT['version']}" in read("CHANGELOG.md")


# --- documents


def make_targets():
    return set(re.findall(r"^([a-z]+):", read("Makefile"), flags=re.MULTILINE))


def make_commands(name):
    """The targets that a document tells its reader to make."""
    code = re.findall(r"```.*?```|`[^`\n]+`", read(name), flags=re.DOTALL)
    return {target for text in code for target in re.findall(r"\bmake ([a-z]+)", text)}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_make_commands_in_the_documents_exist(name):
    assert make_commands(name) <= make_targets()


def test_readme_names_every_make_command_but_help():
    assert make_targets() - {"help"} <= make_commands("README.md")


def test_readme_says_how_long_the_package_takes_to_read():
    """Ten lines a minute; the figures may lag behind the code by a tenth."""

    def lines(*patterns):
        files = {f for pattern in patterns for f in (ROOT / "imbalkit").glob(pattern)}
        return sum(len(f.read_text(encoding="utf-8").splitlines()) for f in files)

    names = "weights sampling augmentation priors stages ensembles multitask selfsupervised"
    remedies = lines("losses/*.py", *(f"{name}.py" for name in names.split()))
    doctor = lines("doctor/**/*.py")
    whole = lines("**/*.py") - lines("course/exercises/**/*.py")
    (paragraph,) = re.findall(r"\*\*To read the code.\*\*.*?\n\n", read("README.md"), re.DOTALL)
    said = [int(number.replace(",", "")) for number in re.findall(r"\d+,\d+", paragraph)]
    for told, there in zip(said, (remedies, doctor, whole), strict=True):
        assert abs(told / there - 1) < 0.1, (told, there)
    hours = int(re.search(r"some (\d+) hours", paragraph)[1])
    assert abs(hours / (whole / 600) - 1) < 0.1 and "four and a half hours" in paragraph
    assert 4 < remedies / 600 < 5


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_to_files_resolve(name):
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", read(name))
    local = [t for t in targets if not re.match(r"https?:|mailto:", t)]
    assert [t for t in local if not ((ROOT / name).parent / t).exists()] == []


def test_lesson_tables_of_the_documents_are_up_to_date():
    assert write_tables.main(["--check"]) == 0


# --- public CI


def workflow(name):
    return yaml.safe_load(read(f".github/workflows/{name}.yml"))


def steps(content):
    return [step for job in content["jobs"].values() for step in job["steps"]]


def test_public_ci_tries_the_oldest_and_the_newest_releases():
    matrix = workflow("tests")["jobs"]["quick"]["strategy"]["matrix"]
    assert {name.split("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}
    entries = {entry["releases"]: entry for entry in matrix["include"]}
    assert set(entries) == set(matrix["releases"]) == {"oldest", "newest"}
    assert f">={entries['oldest']['python']}" == PROJECT["requires-python"]
    ranges = {r.name: r.specifier for r in requirements()}
    for pinned in map(Requirement, entries["oldest"]["torch"].split()):
        (oldest,) = [s.version for s in ranges[pinned.name] if s.operator == ">="]
        assert str(pinned.specifier) == f"=={oldest}.*"
    assert set(entries["newest"]["torch"].split()) == {"torch", "torchvision"}
    newest = entries["newest"]["python"]
    python = next(Requirement(d) for d in ENVIRONMENT["dependencies"][:-1] if "python" in d)
    following = f"3.{int(newest.split('.')[1]) + 1}"
    assert newest in python.specifier and following not in python.specifier


def test_nightly_ci_has_a_browser_and_keeps_what_it_showed():
    job = workflow("nightly")["jobs"]["lessons"]["steps"]
    commands = [step.get("run") for step in job]
    assert "chromium --version" in commands[: commands.index("make test")]
    (keep,) = [step for step in job if "upload-artifact" in step.get("uses", "")]
    assert keep["if"] == "always()" and job.index(keep) > commands.index("make test")
    folders = keep["with"]["path"].split()
    assert folders == ["build/screenshots", "build/screens"]
    assert all(folder in read("CONTRIBUTING.md") for folder in folders)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_workflows_are_careful(path):
    content = workflow(path.stem)
    assert content["permissions"] == {"contents": "read"}
    assert content["concurrency"]["cancel-in-progress"] is True
    assert all(job["timeout-minutes"] <= 150 for job in content["jobs"].values())
    actions = [step["uses"] for step in steps(content) if "uses" in step]
    publisher = ["pypa/gh-action-pypi-publish@release/v1"] if path.stem == "release" else []
    others = [action for action in actions if action not in publisher]
    assert others and all(re.fullmatch(r"actions/[a-z-]+@v\d+", action) for action in others)


def test_a_release_is_tried_before_it_is_published_and_needs_no_password():
    content = workflow("release")
    assert content[True] == {"push": {"tags": ["v*"]}}  # YAML 1.1 reads "on" as true
    build, publish = content["jobs"]["build"], content["jobs"]["publish"]
    assert publish["needs"] == "build" and publish["permissions"] == {"id-token": "write"}
    assert "permissions" not in build
    commands = [step.get("run", "") for step in build["steps"]]
    (built,) = [i for i, command in enumerate(commands) if "-m build" in command]
    (tried,) = [i for i, command in enumerate(commands) if "tests/only_torch.py" in command]
    assert built < tried < len(commands) - 1
    assert "secrets" not in read(".github/workflows/release.yml")
    assert set(PROJECT["urls"]) == {"Documentation", "Source", "Issues", "Changelog"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_commands_of_the_workflows_exist(path):
    commands = "\n".join(step.get("run", "") for step in steps(workflow(path.stem)))
    targets = re.findall(r"\bmake ([a-z]+)", commands)
    modules = re.findall(r"python -m (\w+)", commands)
    assert targets or modules
    assert set(targets) <= make_targets()
    assert set(modules) <= {"pip", "venv", "build", *(r.name for r in requirements())}
    for extra in re.findall(r"\.\[(\w+)\]", commands):
        assert extra in PROJECT["optional-dependencies"]


# --- notebooks


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_lesson_was_timed_and_fits_its_time(path):
    kinds = json.loads(read("notebooks/timings.json"))[path.name]
    limits = {"bfloat16": (300, 90), "float32": (360, 150)}
    assert kinds.keys() & limits.keys()
    for kind in kinds.keys() & limits.keys():
        # With one thread, beside another lesson, twice the time of two threads at the most.
        factor = 2 if "1 threads" in kinds[kind]["device"] else 1
        lesson, cell = (factor * limit for limit in limits[kind])
        assert kinds[kind]["seconds"] <= lesson, "a lesson takes about four minutes"
        assert kinds[kind]["slowest_cell_seconds"] <= cell, "a cell takes about a minute"


# --- rules that hold everywhere


def tracked_files():
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout, so nothing says which files belong to the project")
    paths = [ROOT / name for name in listing.stdout.split("\0") if name]
    texts = (p for p in paths if p.is_file() and p.suffix not in {".png", ".ipynb"})
    return [p for p in texts if "corpus" not in p.parts]  # of a fuzzer: any bytes


def test_no_file_names_a_folder_of_one_machine():
    # Notebooks are left to test_notebooks.py, which looks at their sources and outputs.
    pattern = re.compile(r"(?<![\w.~/-])/(?:home|root|Users|work|tmp)/\w")
    faults = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in tracked_files()
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), start=1)
        if pattern.search(line)
    ]
    assert faults == []


def device_names(source):
    """Where Python code decides on a device by itself: `.cuda()`, "cuda:0", "mps"."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in {"cuda", "mps"}:
            yield node.lineno
        if isinstance(node, ast.Constant) and re.fullmatch(r"(cuda|mps)(:\d+)?", str(node.value)):
            yield node.lineno


@pytest.mark.parametrize(
    "source", ["x.cuda()", "torch.device('cuda')", "x.to('cuda:0')", "f(device='mps')"]
)
def test_device_names_are_seen(source):
    assert list(device_names(source)) == [1]


def test_only_one_module_names_a_device():
    sources = [
        (path.relative_to(ROOT), path.read_text(encoding="utf-8"))
        for path in sorted((ROOT / "imbalkit").rglob("*.py"))
        if path != ROOT / "imbalkit" / "device.py"
    ]
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        sources += [(path.name, cell.source) for cell in cells if cell.cell_type == "code"]
    assert sources
    faults = [f"{name}:{n}: {s}" for name, s in sources for n in device_names(s)]
    assert faults == [], "use imbalkit.device.pick_device()"
