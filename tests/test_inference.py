"""One file that holds all of a model; and a command that names the images of a folder."""

import csv
import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from imbalkit import inference, models, predict
from imbalkit.data import Batches, read_image
from imbalkit.inference import Predictor, export, load, save
from imbalkit.training import fit, sgd

CLASSES, CPU = ("dog", "gato montés", "猫"), torch.device("cpu")
MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)
NETWORK = {"network": "small_net", "num_classes": 3, "width": 8}


def predictor(**settings):
    torch.manual_seed(0)
    model = models.small_net(3, 8)
    with torch.no_grad():
        model.classifier.weight *= 10  # so that the answers differ
    return Predictor(model, CLASSES, MEAN, STD, 32, **settings)


@pytest.fixture
def images():
    return torch.randint(0, 256, (6, 32, 32, 3), dtype=torch.uint8)


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model.pt"
    save(predictor(temperature=2.0, costly="gato montés", threshold=0.3), path, **NETWORK)
    return path


# --- what it computes


def test_it_normalises_as_the_batches_of_a_training(tiny_set):
    model = predictor().model
    batches = Batches(tiny_set, 60, mean=MEAN, std=STD, device=CPU)
    wanted = model(next(iter(batches))[0]).softmax(1).detach()
    got = predictor().probabilities(tiny_set.images, CPU)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def test_every_setting_acts(images):
    plain = predictor()
    p = plain.probabilities(images)
    assert p.shape == (6, 3) and p.device == CPU and not p.requires_grad
    torch.testing.assert_close(p.sum(1), torch.ones(6))
    warm = predictor(temperature=2.0).probabilities(images)
    torch.testing.assert_close(warm, (p.log() / 2).softmax(1))
    for change in ({"mean": (0, 0, 0)}, {"std": (1, 1, 1)}):
        other = Predictor(plain.model, CLASSES, **{"mean": MEAN, "std": STD} | change, size=32)
        assert not torch.allclose(other.probabilities(images), p)
    alarm = predictor(costly="猫", threshold=0.0)
    assert alarm.decisions(p).tolist() == [2] * 6
    assert plain.decisions(p).equal(p.argmax(1))


def test_it_is_in_evaluation_mode_and_batches_do_not_show(images, monkeypatch):
    one = predictor()
    assert not one.model.training
    whole = one.probabilities(images)
    monkeypatch.setattr(inference, "BATCH", 4)
    torch.testing.assert_close(one.probabilities(images), whole)


@pytest.mark.parametrize("bad", [torch.zeros(2, 32, 32, 3), torch.zeros(2, 3, 32, 32).byte()])
def test_other_images_are_refused(bad):
    with pytest.raises(ValueError, match=r"takes uint8 of shape \(N, 32, 32, 3\)"):
        predictor().probabilities(bad)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"classes": ["a", "a"]}, "different names"), ({"classes": ["a"]}, "2 or more"),
     ({"std": (1, 0, 1)}, "std above 0"), ({"mean": (1, 1)}, "three numbers"),
     ({"size": 0}, "above 0"), ({"temperature": 0.0}, "above 0"),
     ({"costly": "dog"}, "belong together"), ({"threshold": 0.5}, "belong together"),
     ({"costly": "cow", "threshold": 0.5}, "give a class"),
     ({"costly": "dog", "threshold": 1.5}, "a probability")],
)  # fmt: skip
def test_settings_that_do_not_fit(change, message):
    settings = {"classes": CLASSES, "mean": MEAN, "std": STD, "size": 32} | change
    with pytest.raises(ValueError, match=message):
        Predictor(models.plain_cnn(3), **settings)


def test_it_runs_on_the_meta_device():
    meta = torch.device("meta")
    on_meta = predictor().to(meta)
    assert on_meta(torch.zeros(2, 32, 32, 3, dtype=torch.uint8, device=meta)).shape == (2, 3)


# --- the file


def test_a_file_gives_the_same_predictor_back(saved, images):
    one, other = predictor(temperature=2.0, costly="gato montés", threshold=0.3), load(saved)
    assert other.settings == one.settings and not other.model.training
    p = other.probabilities(images)
    assert p.equal(one.probabilities(images)) and other.decisions(p).equal(one.decisions(p))
    torch.load(saved, weights_only=True)  # no code in it


def test_an_own_network_is_brought_along(tmp_path, images):
    one = Predictor(nn.Sequential(nn.Flatten(), nn.Linear(3072, 3)), CLASSES, MEAN, STD, 32)
    save(one, tmp_path / "own.pt")
    with pytest.raises(ValueError, match=r"own\.pt: .*names no network; pass load"):
        load(tmp_path / "own.pt")
    again = load(tmp_path / "own.pt", nn.Sequential(nn.Flatten(), nn.Linear(3072, 3)))
    assert again.probabilities(images).equal(one.probabilities(images))
    with pytest.raises(ValueError, match=r"own\.pt: the predictor cannot be restored"):
        load(tmp_path / "own.pt", nn.Linear(2, 2))


@pytest.mark.parametrize(
    "network", [{**NETWORK, "width": 16}, {"network": "resnet", "depth": 8}, {**NETWORK, "wide": 1}]
)
def test_a_network_that_is_not_this_one_is_not_written(tmp_path, network):
    with pytest.raises(ValueError, match="does not have the weights of this model"):
        save(predictor(), tmp_path / "model.pt", **network)
    with pytest.raises(ValueError, match="there is no network 'Classifier'; use one of plain_cnn"):
        save(predictor(), tmp_path / "model.pt", network="Classifier")
    assert not list(tmp_path.iterdir())


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def checkpoint_of_a_training(path, tiny_set):
    model = models.plain_cnn(3, 4)
    batches = Batches(tiny_set, 60, mean=MEAN, std=STD, device=CPU)
    fit(model, batches, 1, optimizer=sgd(model), checkpoint=path, show_progress=False)


WRONG_FILES = {
    "bare weights": (lambda p, _: torch.save(nn.Linear(2, 2).state_dict(), p), "no predictor"),
    "a list": (lambda p, _: torch.save([1], p), "no predictor"),
    "a checkpoint": (checkpoint_of_a_training, "perhaps a checkpoint"),
    "a text": (lambda p, _: p.write_text("x"), "cannot be read as saved weights"),
    "empty": (lambda p, _: p.write_bytes(b""), "cannot be read as saved weights"),
    "a folder": (lambda p, _: p.mkdir(), "no such file"),
    "nothing": (lambda p, _: None, "no such file"),
    "code": (lambda p, _: torch.save({"format": Bomb()}, p), "cannot be read as saved weights"),
}


@pytest.mark.parametrize("kind", WRONG_FILES)
def test_a_wrong_file_is_answered_in_a_sentence(tmp_path, tiny_set, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    write, message = WRONG_FILES[kind]
    write(tmp_path / "model.pt", tiny_set)
    with pytest.raises(ValueError, match=rf"model\.pt: .*{message}"):
        load(tmp_path / "model.pt")
    assert not (tmp_path / "exploded").exists()


def test_a_cut_off_or_altered_file_is_answered_in_a_sentence(saved):
    whole = saved.read_bytes()
    saved.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="damaged or another kind"):
        load(saved)
    saved.write_bytes(whole)
    content = torch.load(saved, weights_only=True)
    for change in (
        {"network": "__import__"}, {"arguments": {"num_classes": 9}}, {"weights": {}},
        {"settings": {"classes": ["a", "b"]}}, {"settings": content["settings"] | {"new": 1}},
    ):  # fmt: skip
        torch.save(content | change, saved)
        with pytest.raises(ValueError, match=r"model\.pt: the predictor cannot be restored"):
            load(saved)


def test_an_interrupted_write_keeps_the_old_file(saved, monkeypatch):
    old = saved.read_bytes()
    monkeypatch.setattr(torch, "save", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        save(predictor(), saved, **NETWORK)
    assert saved.read_bytes() == old and len(list(saved.parent.iterdir())) == 1


# --- torch.export


@pytest.mark.parametrize(
    "network", ["plain_cnn", pytest.param("small_net", marks=pytest.mark.notebooks)]
)
def test_the_exported_computation_gives_the_same(tmp_path, images, network):
    one = Predictor(getattr(models, network)(3, 8), CLASSES, MEAN, STD, 32, temperature=1.5)
    one.probabilities(images, CPU)  # which changes the memory format of the weights
    export(one, tmp_path / "model.pt2")
    settings = {"settings.json": ""}
    program = torch.export.load(tmp_path / "model.pt2", extra_files=settings)
    for part in (images, images[:1]):
        got = program.module()(part).detach()
        torch.testing.assert_close(got, one.probabilities(part, CPU), rtol=1e-4, atol=1e-5)
    assert "gato montés" in settings["settings.json"]


# --- the command


@pytest.fixture
def folder(tmp_path, images):
    root = tmp_path / "new images"
    (root / "été").mkdir(parents=True)
    for i, image in enumerate(images.numpy()):
        Image.fromarray(image).save(root / ("été" if i % 2 else "") / f"{i}.png")
    return root


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_the_command_names_every_image(saved, folder, capsys, monkeypatch):
    monkeypatch.setattr(predict, "BATCH", 4)
    assert predict.main([str(saved), str(folder)]) == predict.ALL_READ
    rows = rows_of(capsys.readouterr().out)
    assert [row["file"] for row in rows] == ["0.png", "2.png", "4.png"] + [
        f"été/{i}.png" for i in (1, 3, 5)
    ]
    one = load(saved)
    for row in rows:
        p = one.probabilities(torch.from_numpy(read_image(folder / row["file"], 32)[0][None]))
        decided = one.decisions(p).item()
        assert row["class"] == CLASSES[decided]
        assert float(row["probability"]) == pytest.approx(p[0, decided].item(), abs=1e-3)


def test_what_cannot_be_read_is_named_and_changes_the_exit_status(saved, folder, tmp_path, capsys):
    (folder / "torn.jpg").write_bytes(b"no image")
    table = tmp_path / "out" / "table.csv"
    arguments = [str(saved), str(folder), "--output", str(table)]
    assert predict.main(arguments) == predict.SOME_SKIPPED
    captured = capsys.readouterr()
    assert captured.err == "skipped torn.jpg: not an image that Pillow can read\n"
    assert not captured.out and len(rows_of(table.read_text(encoding="utf-8"))) == 6


def test_a_folder_without_a_file_is_a_wrong_call(saved, tmp_path, capsys):
    (tmp_path / "empty" / "below").mkdir(parents=True)
    assert predict.main([str(saved), str(tmp_path / "empty")]) == predict.WRONG_CALL
    captured = capsys.readouterr()
    assert "empty: there is no file in it; check the path" in captured.err and not captured.out


def test_a_folder_that_may_not_be_looked_into_is_named(saved, folder, monkeypatch, capsys):
    real = Path.iterdir

    def iterdir(path):
        if path.name == "été":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert predict.main([str(saved), str(folder)]) == predict.SOME_SKIPPED
    captured = capsys.readouterr()
    assert captured.err == "skipped été: the folder cannot be looked into: Permission denied\n"
    assert len(rows_of(captured.out)) == 3


def test_one_bad_image_loses_no_row(saved, folder, monkeypatch, capsys):
    def resize(image, *arguments):
        if image.size == (9, 9):
            raise MemoryError
        return real(image, *arguments)

    real = Image.Image.resize
    monkeypatch.setattr(Image.Image, "resize", resize)
    Image.new("RGB", (9, 9)).save(folder / "bad.png")
    assert predict.main([str(saved), str(folder)]) == predict.SOME_SKIPPED
    captured = capsys.readouterr()
    assert "skipped bad.png: too large for the memory" in captured.err
    assert len(rows_of(captured.out)) == 6


def test_a_wrong_call_is_answered_in_a_sentence(saved, folder, tmp_path, capsys):
    for arguments in ([tmp_path / "no.pt", folder], [saved, tmp_path / "no"]):
        assert predict.main(list(map(str, arguments))) == predict.WRONG_CALL
        captured = capsys.readouterr()
        assert (
            captured.err.startswith("imbalkit predict: ") and "there is no such f" in captured.err
        )
        assert captured.err.count("\n") == 1 and not captured.out


@pytest.mark.notebooks
def test_the_command_as_it_is_typed(saved, folder):
    command = [sys.executable, "-m", "imbalkit", "predict", str(saved), str(folder)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=100)
    assert done.returncode == 0 and not done.stderr
    assert len(rows_of(done.stdout)) == 6 and "été/1.png" in done.stdout
    assert np.isfinite([float(row["probability"]) for row in rows_of(done.stdout)]).all()
