"""Image files of strangers: nothing in them runs, none takes the machine or the other images."""

import ast
import os
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from imbalkit.data import import_folder, picture
from imbalkit.data.picture import FORMATS, UnreadableImage, read_image

ROOT = Path(__file__).parents[1]
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n{} loop\n"


def why(file):
    with pytest.raises(UnreadableImage) as caught:
        read_image(file, 8)
    return str(caught.value)


def chunk(kind, content):
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def png(width, height):
    """A PNG that says it has this size; of its pixels, little is there."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(b"\0" * 100)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


# --- nothing runs


@pytest.mark.parametrize("name", ["cat.png", "cat.eps", "cat.jpg"])
def test_postscript_is_no_image_whatever_its_name(tmp_path, monkeypatch, name):
    started = []

    def stand_in(*_, **__):
        started.append(True)
        return Image.new("RGB", (10, 10)).im

    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", stand_in)
    (tmp_path / name).write_bytes(POSTSCRIPT)
    with Image.open(tmp_path / name) as opened:
        opened.load()
    assert started, "Pillow by itself hands it to Ghostscript, so the test means something"
    started.clear()
    assert why(tmp_path / name) == "not an image that Pillow can read" and not started


def test_every_place_that_opens_an_image_names_the_formats():
    """`Image.open` without `formats` opens PostScript, in whatever file it stands."""
    open_to_all = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for folder in ("imbalkit", "tools", "benchmarks", "data_scripts")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "Image.open"
        and "formats" not in {keyword.arg for keyword in node.keywords}
    ]
    assert open_to_all == []


@pytest.mark.parametrize("kind", FORMATS)
def test_each_format_of_the_list_is_read(tmp_path, kind):
    Image.init()
    if kind not in Image.SAVE:
        pytest.skip(f"this Pillow cannot write {kind}")
    Image.new("RGB", (16, 16), (10, 20, 200)).save(tmp_path / "image", kind)
    got, size, _ = read_image(tmp_path / "image", 8)
    assert size == (16, 16) and np.abs(got[4, 4].astype(int) - (10, 20, 200)).max() < 12


# --- nothing takes the machine


@pytest.mark.parametrize(
    ("width", "height", "reason"),
    [
        (8193, 8192, "more than 67,108,864 pixels"),
        (89_000_000, 1, "more than 67,108,864 pixels"),
        (2**31 - 1, 2**31 - 1, "more than 67,108,864 pixels"),
        (65_536, 1, "a side of more than 65,535 pixels"),
        (1, 65_536, "a side of more than 65,535 pixels"),
    ],
)
def test_the_size_is_looked_at_before_a_pixel_is_decoded(tmp_path, monkeypatch, width, height,
                                                         reason):  # fmt: skip
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda _: pytest.fail("decoded"))
    (tmp_path / "x.png").write_bytes(png(width, height))
    assert why(tmp_path / "x.png").startswith(reason)


def test_a_file_that_takes_too_long_is_left(tmp_path, monkeypatch):
    Image.effect_noise((400, 400), 90).save(tmp_path / "x.jpg", quality=95)
    monkeypatch.setattr(picture, "MOST_SECONDS", -1)
    assert "seconds" in why(tmp_path / "x.jpg")
    # The clock is looked at between parts of the file, not only when it is opened.
    looks = iter([0.0, *[1.0] * 20, *[99.0] * 100])
    monkeypatch.setattr(picture, "MOST_SECONDS", 30)
    monkeypatch.setattr(picture.time, "monotonic", lambda: next(looks))
    assert "takes more than 30 seconds" in why(tmp_path / "x.jpg")
    assert next(looks) == 99.0


def test_what_never_ends_is_not_begun(tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("pipes with a name need Unix")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zeros.png").symlink_to("/dev/zero")
    (tmp_path / "round.png").symlink_to("round.png")
    (tmp_path / "nothing.png").symlink_to("nowhere")
    assert why(tmp_path / "pipe.png") == why(tmp_path / "zeros.png") == "no ordinary file"
    assert "damaged" in why(tmp_path / "round.png") and "no such file" in why(
        tmp_path / "nothing.png"
    )


# --- one bad file loses no other


@pytest.mark.parametrize("error", [MemoryError(), RecursionError("deep"), KeyError("x"), OSError()])
@pytest.mark.parametrize("place", ["PIL.ImageFile.ImageFile.load", "PIL.Image.Image.resize"])
def test_whatever_a_decoder_raises_is_told_of_the_file(tmp_path, monkeypatch, error, place):
    def fail(*_, **__):
        raise error

    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    monkeypatch.setattr(place, fail)
    reason = why(tmp_path / "x.png")
    told = "too large for the memory" if isinstance(error, MemoryError) else "damaged: "
    assert reason.startswith(told)


def test_a_folder_with_hostile_files_gives_the_others(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "good.png")
    (tmp_path / "cat" / "program.png").write_bytes(POSTSCRIPT)
    (tmp_path / "cat" / "wide.png").write_bytes(png(89_000_000, 1))
    (tmp_path / "dog" / "long.png").write_bytes(png(60_000_000, 1))
    (tmp_path / "dog" / "torn.png").write_bytes(png(8, 8)[:40])
    got = import_folder(tmp_path, 8)
    assert got.files == ("cat/good.png", "dog/good.png")
    assert sorted(got.skipped) == [
        "cat/program.png", "cat/wide.png", "dog/long.png", "dog/torn.png"
    ]  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of a small picture in each format, by name."""
    folder, pixels = tmp_path_factory.mktemp("whole"), Image.effect_noise((24, 20), 60)
    for kind in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "PPM"):
        pixels.convert("RGB").save(folder / kind, kind)
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    shutil.rmtree(folder)
    return found


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_altered_bytes_give_an_image_or_a_reason(whole, tmp_path_factory, data):
    content = bytearray(whole[data.draw(st.sampled_from(sorted(whole)))])
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=6)):
        content[place] = data.draw(st.integers(0, 255))
    file = tmp_path_factory.getbasetemp() / "altered"
    file.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    try:
        assert read_image(file, 8)[0].shape == (8, 8, 3)
    except UnreadableImage as error:
        assert str(error) and "\n" not in str(error)
