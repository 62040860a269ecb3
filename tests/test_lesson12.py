"""Lesson 12 from its first cell to its last, on folders that are not its own."""

import os
import re
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

from imbalkit.inference import load

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "12_your_own_data.ipynb"
MODES = ("RGB", "L", "RGBA", "RGB", "P", "I;16")
# What the temperature says where nearly all validation images are right, as in a folder of one
# frequent class; whether it does depends on the processor's rounding.
TOO_FEW = "so they cannot calibrate it; take more, or others."
ODD_NAMES = ("gato montés", "two words", "猫", "a & b <c>")


def write_folder(root, classes, largest, smallest=2):
    """Pictures of one colour each, with noise; sizes, modes and class counts differ."""
    random = np.random.default_rng(0)
    names = [*ODD_NAMES[: classes - 2], *(f"class {c:02}" for c in range(classes))][:classes]
    counts = np.geomspace(largest, smallest, classes).round().astype(int)
    for c, (name, count) in enumerate(zip(names, counts, strict=True)):
        (root / name).mkdir(parents=True)
        colour = random.integers(0, 256, 3)
        for i in range(count):
            height, width = random.integers(20, 70, 2)
            pixels = random.normal(colour, 40, (height, width, 3)).clip(0, 255).astype(np.uint8)
            mode = MODES[(i + c) % len(MODES)]
            if mode == "I;16":
                image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
            else:
                image = Image.fromarray(pixels).convert(mode)
            image.save(root / name / f"{i}.{'jpg' if mode in 'RGB' and i % 2 else 'png'}")
        whole = (root / name / "0.png").read_bytes()
        (root / name / "copy.png").write_bytes(whole)
        if c % 3 == 0:
            (root / name / "torn.png").write_bytes(whole[: len(whole) // 2])
    return root


def run(folder, model_folder, monkeypatch):
    """The notebook after its execution, with a training of a few steps."""
    monkeypatch.setenv("IMBALKIT_FOLDER", str(folder))
    monkeypatch.setenv("IMBALKIT_PROFILE", "cpu")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        cell.source = cell.source.replace("steps = 60 *", "steps = 1 *")
        cell.source = cell.source.replace('"my_model"', repr(str(model_folder)))
    resources = {"metadata": {"path": str(NOTEBOOK.parent)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    return notebook


def printed(notebook):
    texts = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                warned = output.text.count("Warning: ")
                assert warned == output.text.count(TOO_FEW) > 0, output.text
            texts.append(output.get("text") or output.get("data", {}).get("text/plain", ""))
    return "\n".join(texts)


@pytest.mark.notebooks(minutes=1)
@pytest.mark.timeout(600)
@pytest.mark.parametrize("classes, largest, smallest", [(3, 80, 2), (60, 40, 2), (2, 30, 1)])
def test_the_lesson_runs_on_any_folder(tmp_path, monkeypatch, classes, largest, smallest):
    folder = write_folder(tmp_path / "my images", classes, largest, smallest)
    before = sorted(folder.rglob("*"))
    model_folder = tmp_path / "my_model"
    text = printed(run(folder, model_folder, monkeypatch))
    torn = -(-classes // 3)
    assert f"of {classes} classes; {torn} files skipped" in text and "torn.png" in text
    assert re.search(r"careful: 0 of \d+ test images have a copy", text)
    assert "exit status 1" in text  # the command met the damaged file that the lesson adds
    assert sorted(folder.rglob("*")) == before
    assert load(model_folder / "model.pt").settings["size"] == 32  # and it is still there
