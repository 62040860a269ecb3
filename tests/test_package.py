"""The package as somebody else's project meets it: its names, what it loads, and what it needs."""

import ast
import importlib
import json
import os
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path
from types import ModuleType

import pytest

import imbalkit
import imbalkit.data

ROOT = Path(__file__).parents[1]
PACKAGES = [imbalkit, imbalkit.data]


def in_a_fresh_process(code):
    """What the last line of `code` prints, as JSON."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=110
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


# --- names


@pytest.mark.parametrize("package", PACKAGES, ids=lambda p: p.__name__)
def test_each_public_name_is_there_and_each_module_is_a_name(package):
    assert set(dir(package)) == set(package._MODULES) | set(package._NAMES)
    for name in dir(package):
        assert getattr(package, name) is not None
    here = Path(package.__file__).parent
    files = {path.stem for path in here.glob("*.py")} | {
        p.parent.name for p in here.glob("*/__init__.py")
    }
    for module in files - {"__init__", "__main__"}:
        assert getattr(package, module) is importlib.import_module(f"{package.__name__}.{module}")


@pytest.mark.parametrize("package", PACKAGES, ids=lambda p: p.__name__)
def test_nothing_is_hidden_by_something_of_its_own_name(package):
    here = Path(package.__file__).parent
    for name in package._NAMES:
        assert not (here / f"{name}.py").exists() and not (here / name).exists()


def test_no_module_is_hidden_by_a_name_that_its_package_imports():
    folders = sorted(path.parent for path in Path(imbalkit.__file__).parent.rglob("__init__.py"))
    for folder in folders:
        parts = folder.relative_to(Path(imbalkit.__file__).parents[1]).parts
        package = importlib.import_module(".".join(parts))
        inside = [path.stem for path in folder.glob("[!_]*.py")]
        inside += [path.parent.name for path in folder.glob("*/__init__.py")]
        for name in inside:
            assert isinstance(getattr(package, name, package), ModuleType), (package, name)


def test_no_file_of_the_package_is_longer_than_500_lines():
    here = Path(imbalkit.__file__).parent
    files = [path for path in here.rglob("*.py") if "exercises" not in path.parts]
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert len(files) > 80 and {p: n for p, n in lines.items() if n > 500} == {}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda p: p.__name__)
def test_the_stub_tells_an_editor_the_same_names_and_where_they_are_from(package):
    tree = ast.parse(Path(package.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    told, listed = {}, None
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            module = node.module.removeprefix(package.__name__).removeprefix(".")
            for alias in node.names:
                told[alias.asname or alias.name] = f"{module}.{alias.name}".removeprefix(".")
        elif isinstance(node, ast.Assign):
            listed = ast.literal_eval(node.value)
    assert told == {name: name for name in package._MODULES} | package._NAMES
    assert listed == package.__all__


def test_a_star_import_leaves_out_what_needs_an_extra_and_no_more():
    assert set(dir(imbalkit)) - set(imbalkit.__all__) == {"course", "plots"}
    assert imbalkit.data.__all__ == dir(imbalkit.data)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'imbalkit' has no attribute 'FocalLos'"):
        _ = imbalkit.FocalLos
    with pytest.raises(ImportError, match="FocalLos"):
        exec("from imbalkit import FocalLos")


# --- what is loaded


def test_the_package_by_itself_loads_nothing_but_the_standard_library():
    loaded = in_a_fresh_process(
        "import importlib, sys; before = set(sys.modules); import imbalkit, json\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    of_others = [name for name in loaded if name.partition(".")[0] not in sys.stdlib_module_names]
    assert of_others == ["imbalkit", "imbalkit.lazy"]


def test_the_data_by_itself_loads_nothing_but_the_standard_library():
    code = "import imbalkit.data, sys, json; print(json.dumps(sorted(sys.modules)))"
    loaded = {name.partition(".")[0] for name in in_a_fresh_process(code)}
    assert not loaded & {"torch", "numpy", "torchvision", "PIL", "pandas", "scipy"}


# --- torch and numpy are enough


@pytest.fixture(scope="module")
def ends():
    """How each use of `only_torch.py` ended: None, or its error."""
    return in_a_fresh_process(SCRIPT)


SCRIPT = (ROOT / "tests" / "only_torch.py").read_text(encoding="utf-8")
USES = re.findall(r"\w+", re.search(r"USES = \((.*?)\)", SCRIPT, re.DOTALL).group(1))


@pytest.mark.parametrize("use", USES)
def test_torch_and_numpy_are_enough(ends, use):
    assert ends[use] is None


# --- the rooms: arrows point one way


def rooms_below():
    """Which rooms of the package each of its rooms imports, wherever in its code it does."""
    below = {}
    for path in (ROOT / "imbalkit").rglob("*.py"):
        room = path.relative_to(ROOT / "imbalkit").parts[0].removesuffix(".py")
        names = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            elif isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
        inside = {name.split(".")[1] for name in names if name and name.startswith("imbalkit.")}
        below.setdefault(room, set()).update(inside - {room})
    rooms = set(below) - {"__init__", "__main__"}
    return {room: below[room] & rooms for room in rooms}


def test_no_room_needs_a_room_that_needs_it():
    TopologicalSorter(rooms_below()).prepare()  # raises CycleError


def test_no_room_knows_that_of_the_lessons():
    assert {room for room, below in rooms_below().items() if "course" in below} == set()


@pytest.mark.parametrize("leaf", ["losses", "models", "sampling", "weights", "ensembles"])
def test_a_remedy_knows_the_checks_at_most(leaf):
    assert rooms_below()[leaf] <= {"checks"}
