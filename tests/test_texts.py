"""Names and replies of strangers: no terminal obeys them, no browser, no spreadsheet."""

import ast
import csv
import io
import os
import sys
import unicodedata
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import imbalkit
from imbalkit import inference, metrics, models, predict
from imbalkit.data import ImageSet, ImportedFolder, import_folder
from imbalkit.doctor.report import Diagnosis, Finding
from imbalkit.history import History
from imbalkit.texts import (
    csv_cell,
    csv_path,
    html_text,
    name_on_disk,
    printable,
    printable_lines,
    printable_name,
)

ATTACK = "<svg onload=alert(1)>\x1b[2J\"'&"
CONTROLS = {chr(c) for c in (*range(32), *range(127, 160))}
# What the names of files and folders may be: any character, and bytes that are no UTF-8.
NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\0")
    | st.integers(0xDC80, 0xDCFF).map(chr),
    min_size=1,
)  # fmt: skip


# --- text


@settings(max_examples=40, deadline=None)
@given(st.text())
def test_what_is_printed_is_one_line_that_no_terminal_obeys(text):
    for shown in (printable(text), printable_name(text)):
        assert not CONTROLS & set(shown) and "\u202e" not in shown
        assert len(f"|{shown}|".splitlines()) == 1
        shown.encode()
    assert printable_lines(text).count("\n") == text.count("\n")
    assert CONTROLS & set(printable_lines(text)) <= {"\n"}


@pytest.mark.parametrize(
    "name", ["gato montés", "猫", "👩‍🔬", "a\u202fb", "a & b <c>", "100 % sure"]
)
def test_names_that_can_be_seen_stay_as_they_are(name):
    assert printable(name) == printable_name(name) == csv_path(name) == name


@settings(max_examples=40, deadline=None)
@given(NAMES)
@pytest.mark.skipif(os.name == "nt", reason="its names are no bytes")
def test_a_printed_name_leads_back_to_the_file(name):
    name = os.fsdecode(os.fsencode(name))  # as a folder would list it
    assert name_on_disk(printable_name(name)) == name
    assert os.path.normpath(name_on_disk(csv_path(printable_name(name)))) == os.path.normpath(name)


@settings(max_examples=40, deadline=None)
@given(st.text())
def test_a_cell_is_no_formula_and_keeps_its_row(text):
    for cell in (csv_cell(text), csv_path(printable_name(text))):
        row = io.StringIO(newline="")
        csv.writer(row, lineterminator="\n").writerow([cell, "next"])
        assert list(csv.reader(io.StringIO(row.getvalue(), newline=""))) == [[cell, "next"]]
        assert row.getvalue().count("\n") == 1 and "\r" not in row.getvalue()
        assert cell[:1] not in set("=@\t\r") and (cell[:1] not in set("+-") or float(cell) < 1e400)


# --- HTML


class Tags(HTMLParser):
    """What a browser would take for tags, and their attributes."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes = set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


def attacked_folder():
    images = ImageSet(
        torch.zeros(2, 8, 8, 3, dtype=torch.uint8), torch.tensor([0, 1]), (ATTACK, "b"), ATTACK
    )
    sizes = torch.ones(2, 2, dtype=torch.int64)
    return ImportedFolder(images, (ATTACK, "b/1"), sizes, (ATTACK,) * 2, {ATTACK: "x"}, (ATTACK,))


def attacked_history():
    row = {"loss": 1.0, "accuracy": 0.5, "balanced_accuracy": 0.5}
    return History(train=[row], warning=ATTACK)


def attacked_report():
    logits = np.array([[2.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    return metrics.report([0, 1], logits, [90, 10, 5], [ATTACK, "dog", ATTACK + "2"])


def attacked_diagnosis():
    finding = Finding(ATTACK, ATTACK, {ATTACK: ATTACK}, ATTACK, ATTACK, ATTACK)
    return Diagnosis([finding], {ATTACK: ATTACK}, {ATTACK: ATTACK}, 0.5, [ATTACK], 1.0)


ATTACKED = {
    ImportedFolder: attacked_folder,
    History: attacked_history,
    metrics.Report: attacked_report,
    Diagnosis: attacked_diagnosis,
}


def test_each_class_that_a_notebook_shows_is_attacked_here():
    shown = {
        node.name
        for path in Path(imbalkit.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
        and "_repr_html_" in {getattr(part, "name", "") for part in node.body}
    }
    assert shown == {kind.__name__ for kind in ATTACKED}


@pytest.mark.parametrize("kind", ATTACKED, ids=lambda kind: kind.__name__)
def test_no_name_becomes_a_tag_or_reaches_a_terminal(kind):
    shown = ATTACKED[kind]()
    page = Tags(shown._repr_html_())
    assert html_text("<svg onload=alert(1)>") in shown._repr_html_()
    assert not page.tags & {"svg", "script", "img", "iframe"}
    assert not {name for name in page.attributes if name.startswith("on")}
    assert not CONTROLS - {"\n"} & set(repr(shown))


# --- folders and tables


needs_linux = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="such names need Linux"
)


@pytest.fixture
def names():
    return ["=cmd|' !A0.png", "-1+1.png", "+x.png", "@x.png", "a\rb.png", "a\nb.png",
            "a,\"b'.png", "two\\x0d.png", "\x1b[31mred.png", "caf\udce9.png",
            unicodedata.normalize("NFD", "é.png"), "\u202egnp.exe.png"]  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m.pt"
    network = models.plain_cnn(num_classes=2, width=4)
    classes = ["=1+1", "@\x1b[2J\nb"]
    predictor = inference.Predictor(network, classes, [0.5] * 3, [0.5] * 3, 8)
    inference.save(predictor, path, "plain_cnn", num_classes=2, width=4)
    return path


@needs_linux
def test_each_row_of_a_prediction_names_a_file_that_is_there(names, model, tmp_path):
    root, table = tmp_path / "=folder", tmp_path / "table.csv"
    for folder in ("", "-below"):
        (root / folder).mkdir()
        for name in names:
            Image.new("RGB", (8, 8)).save(root / folder / name, "PNG")
    assert predict.main([str(model), str(root), "--output", str(table)]) == predict.ALL_READ
    with open(table, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found = {os.path.normpath(root / name_on_disk(row["file"])) for row in rows}
    assert found == {str(root / folder / name) for folder in ("", "-below") for name in names}
    text = table.read_text(encoding="utf-8")
    assert not CONTROLS - {"\n"} & set(text) and text.count("\n") == 1 + 2 * len(names)
    assert not any(line[0] in "=+-@" or ",=" in line or ",@" in line for line in text.splitlines())


@needs_linux
def test_an_imported_folder_names_files_that_are_there(names, tmp_path):
    for name in [*names, "plain"]:
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "1.png")
        (tmp_path / name / "torn").write_bytes(b"x")
    found = import_folder(tmp_path, 8)
    for name in [*found.files, *found.skipped]:
        assert (tmp_path / name_on_disk(name)).is_file()
    assert len(found.images.classes) == len(names) + 1
    assert "é.png" in found.images.classes  # composed
    assert (found.table()["skipped"] == 1).all()
