"""Files, folders and classes have the names that a stranger chose.

Lost: a tag or an attribute in a notebook that is none of ours, a character that a terminal obeys, a
cell that a spreadsheet computes, a row that is broken, a file that cannot be found again by its
printed name, a figure that cannot be drawn.
"""

import csv
import io
import os
import unicodedata
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from random import Random

import matplotlib.pyplot as plt
import torch
from test_texts import CONTROLS, Tags

from imbalkit import metrics, plots, predict
from imbalkit.data import ImageSet, import_folder
from imbalkit.plots.display import as_png
from imbalkit.texts import FORMULA, name_on_disk
from tests.chaos import refuse
from tests.fuzz import readers

PIECES = [
    "=1+1", "-2", "+", "@", "<svg onload=alert(1)>", "</td>", "&lt;", '"', "'", ",", ";", "\t",
    "\r", "\n", "\x1b[2J", "\x07", "\x9b", "\u202e", "\u2028", "\u0301", "e", "\xe9", "\udce9",
    "\udcff", "\\x0d", "\\", "$x^", "$\\frac$", "_", "{", "%s", "猫", "\U0001f469\u200d\U0001f52c",
    " ", ".", "~", "-", "\ufeff", "\u00ad", "CON", "a" * 60,
]  # fmt: skip


def attack(random: Random, folder: Path) -> None:
    """Name what can be named, and look at each place that shows a name."""
    root = folder / "pictures"
    paths = set()
    for _ in range(3):
        paths |= {root / name(random) / name(random) for _ in range(2)}
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random.choice([readers.seeds("folder")[0], b"torn"]))
    model, table = readers.sealed_file(folder / "m.pt", "model"), folder / "table.csv"
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()) as said:
        predict.main([str(model), str(root), "--output", str(table)])
    look_at_table(table.read_text(encoding="utf-8"), root, paths)
    look_at_terminal(said.getvalue())
    try:
        found = import_folder(root, 4)
    except ValueError as error:  # fewer than two classes
        return look_at_terminal(str(error))
    look_at_notebook(found)
    for file in (*found.files, *found.skipped):
        refuse((root / name_on_disk(file)).is_file(), f"{file!r} cannot be found again")
    look_at_figures(random, found.images)


def name(random: Random) -> str:
    """A name that this system can give to a file, and that is not passed over as hidden."""
    text = "".join(random.choices(PIECES, k=random.randint(1, 4))).replace("/", "")
    text = text.lstrip(".") or "x"
    return text if len(os.fsencode(text)) < 200 else "long"


def look_at_table(text: str, root: Path, paths: set[Path]) -> None:
    """The CSV for a spreadsheet."""
    rows = list(csv.reader(io.StringIO(text, newline="")))[1:]
    refuse(text.count("\n") == 1 + len(rows), "a row is broken")
    refuse(not CONTROLS - {"\n"} & set(text), "a control character in a cell")
    for row in rows:
        refuse(len(row) == 3, f"a row of {len(row)} cells")
        refuse(not row[0].startswith(tuple(FORMULA)), f"a spreadsheet computes {row[0]!r}")
        path = os.path.normpath(root / name_on_disk(row[0]))
        refuse(path in {str(each) for each in paths}, f"{row[0]!r} cannot be found again")


def look_at_terminal(text: str) -> None:
    """What is printed."""
    acting = CONTROLS - {"\n"} & set(text) | {c for c in text if c in "\u202e\u2028\u2029"}
    refuse(not acting, f"a terminal obeys {acting}")
    halves = [c for c in text if unicodedata.category(c) == "Cs"]
    refuse(not halves, f"no terminal prints {halves}")


def look_at_notebook(shown: object) -> None:
    """The table that a notebook shows."""
    page = Tags(shown._repr_html_())
    harmless = page.tags <= {"table", "thead", "tbody", "tr", "th", "td", "p", "div", "b", "br"}
    refuse(harmless, f"tags {page.tags}")
    refuse(page.attributes <= {"class", "style", "scope"}, f"attributes {page.attributes}")
    look_at_terminal(repr(shown))


def look_at_figures(random: Random, images: ImageSet) -> None:
    """A report of these classes, and one figure."""
    classes = len(images.classes)
    logits = torch.eye(classes)[images.labels]
    look_at_notebook(metrics.report(images.labels, logits, [9] * classes, images.classes))
    counts = list(range(9, 9 + classes))
    draw = random.choice(
        [
            lambda: plots.class_histogram(counts, images.classes),
            lambda: plots.confusion_heatmap(torch.eye(classes).long(), images.classes),
            lambda: plots.image_grid(images, 1),
        ]
    )
    figure = draw().figure
    as_png(figure)
    plt.close(figure)
