"""One file that holds all of a model; and a command that names the images of a folder."""

import csv
import errno
import io
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from imbalkit import inference, models, predict, sealed
from imbalkit.data import Batches, read_image
from imbalkit.inference import Predictor, export, load, save
from imbalkit.training import fit, sgd

CLASSES, CPU = ("dog", "gato montés", "猫"), torch.device("cpu")
MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)
NAN = math.nan
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
    [({"classes": ["a", "a", "b"]}, "different names"), ({"classes": ["a"]}, "must have 2 or more"),
     ({"classes": ["a", 2, "b"]}, r"classes\[1\] is 2, and must be text"),
     ({"classes": ["a", "b"]}, r"2 classes, and the output of .* is \(1, 3\)"),
     ({"std": (1, 0, 1)}, r"std\[1\] is 0.0, and must be a number from 1e-06"),
     ({"std": (1, NAN, 1)}, r"std\[1\] is nan"), ({"mean": (NAN, 1, 1)}, r"mean\[0\] is nan"),
     ({"mean": (1, 1)}, "mean has 2 entries, and must have 3"),
     ({"size": 0}, "size is 0, and must be"), ({"size": 10**9}, "size is 10+, and must be"),
     ({"temperature": 0.0}, "temperature is 0.0, and must be"),
     ({"temperature": NAN}, "temperature is nan"), ({"temperature": math.inf}, "is inf"),
     ({"costly": "dog"}, "belong together"), ({"threshold": 0.5}, "belong together"),
     ({"costly": "cow", "threshold": 0.5}, "give one of the classes"),
     ({"costly": "dog", "threshold": 1.5}, "threshold is 1.5, and must be a number from 0 to 1"),
     ({"costly": "dog", "threshold": NAN}, "threshold is nan")],
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


def deep(levels):
    content = 1
    for _ in range(levels):
        content = {"classes": [content]}
    return content["classes"]


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def checkpoint_of_a_training(path, tiny_set):
    model = models.plain_cnn(3, 4)
    batches = Batches(tiny_set, 60, mean=MEAN, std=STD, device=CPU)
    fit(model, batches, 1, optimizer=sgd(model), checkpoint=path, show_progress=False)


WRONG_FILES = {
    "bare weights": (lambda p, _: torch.save(nn.Linear(2, 2).state_dict(), p), "has no digest"),
    "a list": (lambda p, _: sealed.write(p, [1]), "holds no imbalkit predictor 1, but others"),
    "a checkpoint": (checkpoint_of_a_training, "holds no imbalkit predictor 1, but imbalkit check"),
    "a text": (lambda p, _: p.write_text("x"), "has no digest"),
    "empty": (lambda p, _: p.write_bytes(b""), "has no digest"),
    "a folder": (lambda p, _: p.mkdir(), "no such file"),
    "nothing": (lambda p, _: None, "no such file"),
    "code": (lambda p, _: sealed.write(p, {"format": Bomb()}), "cannot be read as tensors"),
    "code without a digest": (lambda p, _: torch.save({"format": Bomb()}, p), "has no digest"),
}


@pytest.mark.parametrize("kind", WRONG_FILES)
def test_a_wrong_file_is_answered_in_a_sentence(tmp_path, tiny_set, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    write, message = WRONG_FILES[kind]
    write(tmp_path / "model.pt", tiny_set)
    with pytest.raises(ValueError, match=rf"model\.pt: .*{message}"):
        load(tmp_path / "model.pt")
    assert not (tmp_path / "exploded").exists()


def test_a_cut_off_file_is_answered_in_a_sentence(saved):
    whole = saved.read_bytes()
    for length in (len(whole) // 2, len(whole) - 1, 1):
        saved.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"model\.pt: .* it is damaged"):
            load(saved)


def test_one_changed_bit_anywhere_is_noticed(saved):
    whole = saved.read_bytes()
    random = np.random.default_rng(0)
    places = [*random.integers(0, len(whole), 40), *range(-90, 0, 2), 0, 1]
    for place in map(int, places):
        changed = bytearray(whole)
        changed[place] ^= 1 << int(random.integers(8))
        saved.write_bytes(changed)
        with pytest.raises(ValueError, match=r"model\.pt: .* it is damaged"):
            load(saved)


CHANGES = {
    "another network": ({"network": "__import__"}, "network is '__import__', and must be"),
    "other arguments": ({"arguments": {"num_classes": 9}}, "does not have the weights"),
    "a width without end": ({"arguments": {"width": 10**12}}, "width is 10+, and must"),
    "a depth without end": (
        {"network": "resnet", "arguments": {"depth": 6 * 10**12 + 2}}, "depth is 60+2, and must"),
    "no weights": ({"weights": {}}, "weights lacks"),
    "weights of another type": ({"weights": 3}, "weights is 3, and must be"),
    "few settings": ({"settings": {"classes": ["a", "b"]}}, "settings lacks 'mean'"),
    "one more field": ({"new": 1}, "has 'new'"),
    "deeper than any": ({"settings": deep(100)}, "settings is .*, and must be"),
}  # fmt: skip


@pytest.mark.parametrize("kind", CHANGES)
def test_a_file_with_a_right_digest_and_a_wrong_content_is_answered_in_a_sentence(saved, kind):
    change, message = CHANGES[kind]
    sealed.write(saved, torch.load(saved, weights_only=True) | change)
    with pytest.raises(ValueError, match=rf"model\.pt: the predictor cannot .*{message}"):
        load(saved)


SETTINGS = {
    "size": [None, "32", 0, 3.5, True, 10**9], "mean": [[NAN] * 3, [0.5] * 2, "abc", 3],
    "std": [[0.0] * 3, [-1.0] * 3, [math.inf] * 3], "temperature": [NAN, 0, -1.0, "1", math.inf],
    "classes": [["a"] * 3, ["a", 1, "b"], "abc"],
    "threshold": [NAN, 2, "x", None], "costly": ["cow", 3, None],
}  # fmt: skip


def test_settings_of_a_file_that_cannot_be_right_leave_a_given_model_as_it_was(saved):
    content = torch.load(saved, weights_only=True)
    mine = models.small_net(3, 8)
    before = {name: value.clone() for name, value in mine.state_dict().items()}
    for field, values in SETTINGS.items():
        for value in values:
            changed = content | {"settings": content["settings"] | {field: value}}
            sealed.write(saved, changed)
            with pytest.raises(ValueError, match=r"model\.pt: the predictor cannot") as error:
                load(saved, mine)
            assert "\n" not in str(error.value)
    assert all(value.equal(before[name]) for name, value in mine.state_dict().items())


def test_loading_draws_no_more_random_numbers_than_the_network_does(saved):
    state = torch.get_rng_state()
    models.small_net(3, 8)
    after = torch.get_rng_state()
    torch.set_rng_state(state)
    load(saved)
    assert torch.get_rng_state().equal(after)


# --- no answer is NaN


def spoiled(name, value):
    model = models.small_net(3, 8)
    with torch.no_grad():
        model.get_parameter(name).view(-1)[0] = value
    return model


@pytest.mark.parametrize("value", [NAN, math.inf])
def test_a_model_whose_answers_are_no_numbers_is_refused(saved, value):
    with pytest.raises(ValueError, match=r"holds NaN; train|not finite; train"):
        Predictor(spoiled("classifier.bias", value), CLASSES, MEAN, STD, 32)
    one = predictor()
    with torch.no_grad():
        one.model.classifier.bias[0] = value  # after it was looked at
    old = saved.read_bytes()
    with pytest.raises(ValueError, match="train it anew"):
        save(one, saved, **NETWORK)
    assert saved.read_bytes() == old


@pytest.mark.parametrize("value", [NAN, math.inf])
def test_a_file_whose_weights_are_no_numbers_is_refused(saved, value):
    content = torch.load(saved, weights_only=True)
    content["weights"]["classifier.weight"][0, 0] = value
    sealed.write(saved, content)
    with pytest.raises(ValueError, match=r"weights\.classifier\.weight holds NaN|not finite"):
        load(saved)


def test_probabilities_that_are_no_numbers_are_an_error_and_no_exit_status_0(
    tmp_path, folder, images, capsys
):
    model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 3))
    nn.init.constant_(model[1].weight, 1e38)  # of black images it makes 0, of others infinity
    nn.init.constant_(model[1].bias, 0)
    one = Predictor(model, CLASSES, (0, 0, 0), STD, 32)
    with pytest.raises(ValueError, match=r"of 6 of 6 images are NaN, first of image 0; "):
        one.probabilities(images, CPU)
    network = models.plain_cnn(3, 4)
    for parameter in network.parameters():
        nn.init.constant_(parameter, 1e13 if parameter.ndim > 1 else 0)
    save(Predictor(network, CLASSES, (0, 0, 0), STD, 32), tmp_path / "large.pt",
         "plain_cnn", num_classes=3, width=4)  # fmt: skip
    assert predict.main([str(tmp_path / "large.pt"), str(folder)]) == predict.WRONG_CALL
    captured = capsys.readouterr()
    assert "are NaN" in captured.err and not captured.out


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
