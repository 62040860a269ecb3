"""The scripts in data_scripts and the command for data: what they write, say and end with."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import accept_checksums, write_archive, write_cifar

from imbalkit.course.embedded import embedded_digits
from imbalkit.data import command
from imbalkit.data.download import CIFAR
from imbalkit.data.folder import import_folder
from imbalkit.data.longtail import Manifest
from imbalkit.data.sources import cifar_state, load_cifar

ROOT = Path(__file__).parents[1]
SCRIPTS = ["make_long_tail"]


def script(name):
    path = ROOT / "data_scripts" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(name, *arguments):
    return script(name).main([str(argument) for argument in arguments])


def data(*arguments):
    """Run ``imbalkit data``."""
    return command.main([str(argument) for argument in arguments])


def error_of(capsys, *words):
    """What stands on stderr is one line that has these words."""
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1, message
    for word in words:
        assert word in message


@pytest.fixture(autouse=True)
def empty_machine(tmp_path, monkeypatch):
    """No data but what the test puts under tmp_path / "data"."""
    monkeypatch.setenv("IMBALKIT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def cifar10(tmp_path, monkeypatch):
    """A small CIFAR-10, 100 images of each class, where the scripts look for it."""
    folder = write_cifar(tmp_path / "data", per_class=100)
    accept_checksums(monkeypatch, folder)
    return folder


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """The address of an archive of a small CIFAR-10, as a file."""
    folder = write_cifar(tmp_path / "official")
    accept_checksums(monkeypatch, folder)
    path = tmp_path / "mirror" / "cifar-10-python.tar.gz"
    path.parent.mkdir()
    monkeypatch.setattr(CIFAR["cifar10"], "tgz_md5", write_archive(folder, path))
    return path.as_uri()


@pytest.mark.parametrize("name", SCRIPTS)
def test_help(name, capsys):
    with pytest.raises(SystemExit) as end:
        run(name, "--help")
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert "usage:" in text and "Exit code: 0" in " ".join(text.split())


@pytest.mark.parametrize("name", SCRIPTS)
def test_wrong_usage(name):
    with pytest.raises(SystemExit) as end:
        run(name, "--no-such-option")
    assert end.value.code == 2


# imbalkit data


def test_fetch_from_a_mirror(archive, tmp_path, capsys):
    for _ in range(2):
        assert data("cifar10", "--url", archive) == 0
    assert cifar_state(tmp_path / "data", "cifar10") == "ready"
    assert capsys.readouterr().out.count("cifar10 is ready in") == 2


def test_fetch_to_another_folder(archive, tmp_path):
    assert data("--root", tmp_path / "else" / "where", "--url", archive) == 0
    assert cifar_state(tmp_path / "else" / "where", "cifar10") == "ready"


def test_fetch_from_nowhere(archive, tmp_path, capsys):
    assert data("--url", (tmp_path / "absent.tar.gz").as_uri()) == 1
    error_of(capsys, "absent.tar.gz", "cannot be reached", "check the address")


def test_fetch_to_a_place_that_cannot_be_written(archive, tmp_path, capsys):
    (tmp_path / "file").write_text("not a folder")
    assert data("--root", tmp_path / "file", "--url", archive) == 1
    error_of(capsys, "cannot be written", "choose a folder")


def test_fetch_from_a_folder(cifar10, tmp_path):
    target = tmp_path / "copy" / cifar10.name
    assert data("--from", tmp_path / "data", "--root", tmp_path / "copy") == 0
    (target / "test_batch").write_bytes(b"damaged")
    assert data("--from", tmp_path / "data", "--root", tmp_path / "copy") == 0
    for file in cifar10.iterdir():
        assert (target / file.name).read_bytes() == file.read_bytes()


def test_fetch_from_a_damaged_folder(cifar10, tmp_path, capsys):
    (cifar10 / "data_batch_3").write_bytes(b"damaged")
    assert data("--from", tmp_path / "data", "--root", tmp_path / "copy") == 1
    error_of(capsys, "data_batch_3", "absent or altered", "copy the official files")
    assert not (tmp_path / "copy").exists()


def test_an_interrupted_fetch(archive, tmp_path, capsys, monkeypatch):

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("imbalkit.data.fetch_cifar", interrupt)
    assert command.main([]) == 1
    error_of(capsys, "interrupted")


# make_long_tail


def test_a_manifest_is_written(cifar10, tmp_path, capsys):
    path = tmp_path / "out" / "subset.json"
    assert run("make_long_tail", path, "--ratio", 20) == 0
    train, _ = load_cifar(tmp_path / "data")
    subset = Manifest.load(path).apply(train)
    assert subset.class_counts().tolist() == [100, 71, 51, 36, 26, 18, 13, 9, 6, 5]
    assert "[100, 71, 51, 36, 26, 18, 13, 9, 6, 5]" in capsys.readouterr().out


def test_the_options_act(cifar10, tmp_path):
    run("make_long_tail", tmp_path / "a.json", "--ratio", 5, "--profile", "step", "--seed", 3)
    manifest = Manifest.load(tmp_path / "a.json")
    assert (manifest.ratio, manifest.profile, manifest.seed) == (5, "step", 3)


def test_the_images_are_those_of_the_manifest(cifar10, tmp_path):
    path, folder = tmp_path / "subset.json", tmp_path / "new" / "images"
    assert run("make_long_tail", path, "--ratio", 50, "--images", folder) == 0
    train, _ = load_cifar(tmp_path / "data")
    subset = Manifest.load(path).apply(train)
    written = import_folder(folder).images
    assert written.classes == subset.classes
    assert written.class_counts().tolist() == subset.class_counts().tolist()
    order = sorted(range(len(subset)), key=Manifest.load(path).indices.__getitem__)
    first = next(i for i in order if subset.labels[i] == 0)
    assert torch.equal(written.images[0], subset.images[first])
    assert [p.name for p in folder.parent.iterdir()] == ["images"]


def test_an_existing_image_folder_is_kept(cifar10, tmp_path, capsys):
    (tmp_path / "images").mkdir()
    assert run("make_long_tail", tmp_path / "a.json", "--images", tmp_path / "images") == 1
    error_of(capsys, "images is there already", "name a new folder")
    assert not (tmp_path / "a.json").exists()


def test_a_ratio_that_is_none(cifar10, tmp_path, capsys):
    assert run("make_long_tail", tmp_path / "a.json", "--ratio", 0.5) == 1
    error_of(capsys, "ratio is 0.5")


def test_absent_data_is_not_replaced_by_other_data(tmp_path, capsys):
    assert run("make_long_tail", tmp_path / "a.json") == 1
    error_of(capsys, "cifar10 is not on this computer", "imbalkit data cifar10")
    assert not (tmp_path / "a.json").exists()


def test_the_embedded_set_needs_no_data(tmp_path, monkeypatch):
    small = embedded_digits(train_per_class=200, test_per_class=1)  # the full one takes seconds
    monkeypatch.setattr("imbalkit.course.embedded.embedded_digits", lambda: small)
    assert run("make_long_tail", tmp_path / "a.json", "--name", "embedded") == 0
    assert "embedded" in Manifest.load(tmp_path / "a.json").source


def test_corrupt_data_is_said_to_be(cifar10, tmp_path, capsys):
    (cifar10 / "data_batch_1").write_bytes(b"damaged")
    assert run("make_long_tail", tmp_path / "a.json") == 1
    captured = capsys.readouterr()
    assert "corrupt" in captured.out and "not on this computer" in captured.err


def test_a_manifest_that_cannot_be_written(cifar10, tmp_path, capsys):
    (tmp_path / "file").write_text("not a folder")
    assert run("make_long_tail", tmp_path / "file" / "a.json", "--ratio", 5) == 1
    error_of(capsys, "a.json: the manifest cannot be written")


# imbalkit data --show


def test_show_missing_data(tmp_path, capsys):
    assert data("--show") == 0
    text = capsys.readouterr().out
    assert str(tmp_path / "data") in text and text.count(" missing") == 4


def test_show_ready_data(cifar10, capsys):
    assert data("--show") == 0
    text = capsys.readouterr().out
    assert "1000 training images (100 in each of 10 classes), 10 test images" in text
    assert text.count(" missing") == 3


def test_show_corrupt_data(cifar10, tmp_path, capsys):
    (cifar10 / "test_batch").unlink()
    assert data("--show") == 1
    error_of(capsys, "cifar10", str(tmp_path / "data"), "corrupt", "imbalkit data cifar10 --root")


# As commands


COMMANDS = [  # what python runs, exit code, words
    (["-m", "imbalkit", "data", "--url", "file:///no/such/file"], 1, "cannot be reached"),
    (["-m", "imbalkit", "data", "--show"], 0, "missing"),
    ([ROOT / "data_scripts" / "make_long_tail.py", "subset.json"], 1, "not on this computer"),
]


@pytest.mark.notebooks  # slow: its processes import torch
def test_as_commands():
    processes = [  # side by side, since importing torch is what takes the time
        subprocess.Popen(
            [sys.executable, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        for command, _, _ in COMMANDS
    ]
    outputs = [process.communicate() for process in processes]
    for process, (out, err), (_, code, words) in zip(processes, outputs, COMMANDS, strict=True):
        assert process.returncode == code
        assert words in (err if code else out)
        assert "Traceback" not in err
