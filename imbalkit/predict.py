"""Name the images of a folder from the command line: ``imbalkit predict MODEL FOLDER``.

MODEL is a file that `imbalkit.inference.save` wrote. The result is CSV with the columns file, class
and probability. No spreadsheet computes what stands in it, and no name breaks a row: a byte of a
name that cannot be printed, and a backslash, is written as a backslash, an x and two digits
(`imbalkit.texts.name_on_disk` goes back). Derived in lesson 12.
"""

import argparse
import csv
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from imbalkit import data  # whose names are loaded when used: `--help` needs no library
from imbalkit.files import atomic_path
from imbalkit.inference import BATCH, Predictor, load
from imbalkit.texts import csv_cell, csv_path, printable

ALL_READ, SOME_SKIPPED, WRONG_CALL = 0, 1, 2
COLUMNS = ("file", "class", "probability")


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status.

    Args:
        arguments: those of the command line, without the name of the command.

    Example:
        >>> main(["no_such_model.pt", "folder"])  # it says so on the error stream
        2
    """
    parser = argparse.ArgumentParser(
        prog="imbalkit predict",
        description="Name the images of a folder, and of the folders in it.",
        epilog="Exit status: 0 all files were read, 1 some were skipped and named, 2 wrong call.",
    )
    parser.add_argument("model", help="a file that imbalkit.inference.save wrote")
    parser.add_argument("folder", help="a folder with images")
    parser.add_argument("--output", help="write the CSV to this file (default: to the terminal)")
    options = parser.parse_args(arguments)
    skipped: dict[str, str] = {}
    try:
        predictor, root = load(options.model), Path(os.path.expanduser(options.folder))
        rows = list(predict_folder(predictor, root, skipped))
        text = as_csv(rows)
        if options.output:
            with atomic_path(options.output) as temporary:
                temporary.write_text(text, encoding="utf-8", newline="")
        else:
            sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
            sys.stdout.write(text)
    except (ValueError, OSError) as error:
        print(f"imbalkit predict: {printable(error)}", file=sys.stderr)
        return WRONG_CALL
    for name, reason in skipped.items():
        print(f"skipped {name}: {printable(reason)}", file=sys.stderr)
    return SOME_SKIPPED if skipped else ALL_READ


def predict_folder(
    predictor: Predictor, root: Path, skipped: dict[str, str]
) -> Iterator[tuple[str, str, float]]:
    """Yield ``(file, class, probability of that class)``; put what cannot be read in `skipped`.

    Args:
        predictor: what `imbalkit.inference.load` returns.
        root: a folder with images, also in folders of it.
        skipped: gets the reason for each file that cannot be read, by its name.

    Raises:
        ValueError: there is no file at all.

    Example:
        >>> import tempfile
        >>> from imbalkit.inference import Predictor
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 2))
        >>> predictor = Predictor(model, ["cat", "fox"], mean=[0.5] * 3, std=[0.2] * 3, size=8)
        >>> skipped = {}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "a.png").write_bytes(b"no image")
        ...     list(predict_folder(predictor, Path(folder), skipped)), list(skipped)
        ([], ['a.png'])
    """
    size, classes = predictor.settings["size"], predictor.settings["classes"]
    files, unread = data.folder.image_files(root)
    skipped |= {data.folder.printed_path(path, root): reason for path, reason in unread.items()}
    if not files and not skipped:
        raise ValueError(f"{root}: there is no file in it; check the path.")
    for start in range(0, len(files), BATCH):
        names, pixels = [], []
        for file in files[start : start + BATCH]:
            name = data.folder.printed_path(file, root)
            try:
                pixels.append(data.read_image(file, size)[0])
                names.append(name)
            except data.UnreadableImage as error:
                skipped[name] = str(error)
        if names:
            probabilities = predictor.probabilities(torch.from_numpy(np.stack(pixels)))
            decided = predictor.decisions(probabilities)
            of_decided = probabilities.gather(1, decided[:, None]).squeeze(1)
            for name, c, p in zip(names, decided.tolist(), of_decided.tolist(), strict=True):
                yield name, classes[c], p


def as_csv(rows: list[tuple[str, str, float]]) -> str:
    """The rows as CSV text, with a header, safe in a spreadsheet.

    Args:
        rows: file, class and probability of each image.

    Example:
        >>> print(as_csv([("a.png", "cat", 0.875)]), end="")
        file,class,probability
        a.png,cat,0.8750
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((csv_path(name), csv_cell(label), f"{p:.4f}") for name, label, p in rows)
    return text.getvalue()


__all__ = ["as_csv", "main", "predict_folder"]
