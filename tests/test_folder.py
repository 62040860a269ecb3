"""Folders of images as people have them: everything is read or named, and nothing is guessed."""

import errno
import inspect
import os
import pathlib
import sys
import unicodedata

import numpy as np
import pytest
from PIL import Image

from imbalkit.course.embedded import embedded_digits
from imbalkit.course.example import write_example_folder
from imbalkit.data import (
    find_duplicates,
    import_folder,
    label_conflicts,
    read_image,
)
from imbalkit.data.folder import image_files
from imbalkit.data.picture import UnreadableImage


def save(path, size=(32, 32), colour=(10, 20, 200), mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **options)
    return path


def pixels(path, size=8):
    return read_image(path, size)[0]


@pytest.fixture
def pets(tmp_path):
    root = tmp_path / "pets"
    save(root / "dog" / "b.png", (40, 20))
    save(root / "dog" / "a.jpg", (10, 90))
    save(root / "dog" / "deeper" / "c.gif")
    save(root / "cat" / "1.png", colour=77, mode="L")
    return root


# --- one image


def test_an_image_becomes_rgb_of_one_size(tmp_path):
    got, size, mode = read_image(save(tmp_path / "x.png", (40, 30)), 24)
    assert (
        got.shape == (24, 24, 3) and got.dtype == np.uint8 and got[3, 4].tolist() == [10, 20, 200]
    )
    assert size == (40, 30) and mode == "RGB"


def test_grey_has_three_equal_channels(tmp_path):
    assert pixels(save(tmp_path / "x.png", colour=77, mode="L"))[0, 0].tolist() == [77] * 3


def test_what_is_transparent_lies_over_white(tmp_path):
    half = save(tmp_path / "half.png", colour=(0, 0, 0, 127), mode="RGBA")
    none = save(tmp_path / "none.png", colour=(0, 0, 0, 0), mode="RGBA")
    full = save(tmp_path / "full.png", colour=(0, 9, 0, 255), mode="RGBA")
    grey = save(tmp_path / "grey.png", colour=(50, 0), mode="LA")
    assert pixels(half)[0, 0].tolist() == [128] * 3
    assert pixels(none)[0, 0].tolist() == pixels(grey)[0, 0].tolist() == [255] * 3
    assert pixels(full)[0, 0].tolist() == [0, 9, 0]
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([200, 0, 0, 0, 0, 0])
    palette.save(tmp_path / "p.png", transparency=0)
    assert pixels(tmp_path / "p.png")[0, 0].tolist() == [255] * 3


def test_sixteen_bits_of_grey_are_scaled_and_not_cut(tmp_path):
    values = np.array([[0, 257 * 100], [257 * 200, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "x.png")
    Image.fromarray(values).save(tmp_path / "x.tif")
    Image.fromarray(values.astype(np.int32)).save(tmp_path / "i.tif")
    for name in ("x.png", "x.tif", "i.tif"):
        assert pixels(tmp_path / name, 2)[..., 0].tolist() == [[0, 100], [200, 255]]


@pytest.mark.parametrize("values", [np.full((2, 2), 70_000), np.full((2, 2), -1), np.ones((2, 2))])
def test_pixels_of_an_unknown_range_are_refused(tmp_path, values):
    kind = np.float32 if values.dtype == float else np.int32
    Image.fromarray(values.astype(kind)).save(tmp_path / "x.tif")
    with pytest.raises(UnreadableImage, match=r"16 bits?"):
        read_image(tmp_path / "x.tif", 2)


def test_an_image_is_turned_as_its_exif_says(tmp_path):
    left_red = np.zeros((20, 40, 3), dtype=np.uint8)
    left_red[:, :20, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees to the right: the left side comes to the top
    Image.fromarray(left_red).save(tmp_path / "x.png", exif=exif)
    got, size, _ = read_image(tmp_path / "x.png", 8)
    assert size == (20, 40)
    assert (got[:3, :, 0] > 250).all() and (got[5:, :, 0] < 5).all()


def test_of_an_animation_the_first_picture_is_taken(tmp_path):
    frames = [Image.new("RGB", (8, 8), c) for c in ((255, 0, 0), (0, 0, 255))]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    assert pixels(tmp_path / "x.gif")[0, 0].tolist() == [255, 0, 0]


def cut_off(tmp_path):
    whole = save(tmp_path / "whole.jpg", (200, 200)).read_bytes()
    return whole[: len(whole) // 2]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(lambda _: b"", "empty"), (lambda _: b"text", "not an image"), (cut_off, "damaged"),
     (lambda _: b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "damaged|not an image")],
)  # fmt: skip
def test_why_a_file_cannot_be_read(tmp_path, content, reason):
    (tmp_path / "x.jpg").write_bytes(content(tmp_path))
    with pytest.raises(UnreadableImage, match=reason):
        read_image(tmp_path / "x.jpg", 8)


# --- a folder


def test_the_home_folder_may_be_a_tilde(pets, monkeypatch):
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(pets.parent))
    assert import_folder(f"~/{pets.name}", 16).files == import_folder(pets, 16).files


def test_a_folder_is_read_with_its_report(pets):
    got = import_folder(pets, 16)
    assert got.images.classes == ("cat", "dog") and got.images.labels.tolist() == [0, 1, 1, 1]
    assert got.files == ("cat/1.png", "dog/a.jpg", "dog/b.png", "dog/deeper/c.gif")
    assert got.images.images.shape == (4, 16, 16, 3) and got.images.source == "folder pets"
    assert got.sizes.tolist() == [[32, 32], [10, 90], [40, 20], [32, 32]]
    assert got.modes == ("L", "RGB", "RGB", "P") and not got.skipped and not got.left_out
    row = got.table().loc["dog"]
    assert (row["images"], row["smallest"], row["largest"]) == (3, "10 x 20", "40 x 90")
    assert row["modes"] == "RGB 2, P 1" and list(got.table().index) == ["dog", "cat"]


def test_what_cannot_be_used_is_skipped_named_and_counted(pets):
    (pets / "dog" / "torn.jpg").write_bytes(b"no image")
    (pets / "outside.txt").write_text("x")
    (pets / ".hidden.png").write_bytes(b"")
    (pets / "dog" / ".DS_Store").write_bytes(b"")
    (pets / "empty class").mkdir()
    (pets / "torn class").mkdir()
    (pets / "torn class" / "x.png").write_bytes(b"")
    got = import_folder(pets)
    assert got.skipped == {
        "dog/torn.jpg": "not an image that Pillow can read",
        "outside.txt": "lies in no class folder",
        "torn class/x.png": "the file is empty",
    }
    assert got.left_out == ("empty class", "torn class")
    assert got.table().loc["dog", "skipped"] == 1
    for text in (repr(got), got._repr_html_()):
        assert "4 images of 2 classes; 3 files skipped; left out" in text and "empty class" in text


@pytest.mark.parametrize("name", ["wild cat", "gato montés", "猫", "a & b <c>", "100 % sure"])
def test_names_of_classes_may_be_anything(pets, name):
    save(pets / name / "x.png")
    got = import_folder(pets)
    assert name in got.images.classes and f"{name}/x.png" in got.files
    assert name in repr(got)


def test_an_accent_is_the_same_in_both_ways_to_write_it(pets):
    for form in ("NFC", "NFD"):
        save(pets / unicodedata.normalize(form, "montés") / f"{form}.png")
    got = import_folder(pets)
    assert got.images.classes == ("cat", "dog", "montés")
    assert got.images.class_counts().tolist() == [1, 3, 2]


@pytest.mark.skipif(
    os.name == "nt" or os.uname().sysname == "Darwin", reason="such names need Linux"
)
def test_a_name_that_is_no_utf8_can_be_printed(pets):
    folder = os.fsencode(pets) + b"/caf\xe9"
    os.mkdir(folder)
    (pets / "cat" / "1.png").rename(os.fsdecode(folder + b"/x.png"))
    names = import_folder(pets).images.classes
    assert names == ("caf\\xe9", "dog") and "".join(names).encode()


def test_a_folder_without_two_classes_is_answered_in_a_sentence(tmp_path, pets):
    with pytest.raises(ValueError, match=r"nowhere: there is no such folder; check the path"):
        import_folder(tmp_path / "nowhere")
    (pets / "cat" / "1.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"pets: 1 sub-folders .* \(1 files were skipped\)"):
        import_folder(pets)
    with pytest.raises(ValueError, match=r"size is 0"):
        import_folder(pets, 0)


def test_keep_leaves_files_and_images_aligned_and_empty_classes_out(pets):
    got = import_folder(pets)
    kept = got.keep([3, 1])
    assert kept.files == ("dog/a.jpg", "dog/deeper/c.gif") and kept.images.labels.tolist() == [0, 0]
    assert kept.images.images.equal(got.images.images[[1, 3]])
    assert kept.images.classes == ("dog",) and kept.left_out == ("cat",)
    assert kept.modes == ("RGB", "P") and kept.sizes.tolist() == [[10, 90], [32, 32]]
    assert got.keep(range(4)).files == got.files


def test_hidden_files_and_folders_are_passed_over(pets):
    save(pets / ".cache" / "x.png")
    save(pets / "dog" / ".thumbs" / "x.png")
    assert [file.name for file in image_files(pets)[0]] == ["1.png", "a.jpg", "b.png", "c.gif"]
    assert import_folder(pets).left_out == ()


def test_a_link_to_a_folder_counts_like_the_folder(pets, tmp_path):
    save(tmp_path / "elsewhere" / "1.png")
    save(pets / ".store" / "emu" / "1.png")
    (pets / "linked").symlink_to(tmp_path / "elsewhere")
    (pets / "emu").symlink_to(pets / ".store" / "emu")
    got = import_folder(pets)
    assert got.images.classes == ("cat", "dog", "emu", "linked") and not got.skipped


def test_no_link_leads_round_and_no_image_is_read_twice(pets, tmp_path):
    (pets / "dog" / "round").symlink_to(pets)
    (pets / "zoo").symlink_to(pets / "dog")
    (tmp_path / "elsewhere").mkdir()
    save(tmp_path / "elsewhere" / "1.png")
    (tmp_path / "elsewhere" / "back").symlink_to(pets)
    for name in ("a", "b"):
        (pets / "cat" / name).symlink_to(tmp_path / "elsewhere")
    files, skipped = image_files(pets)
    assert len(files) == 5 and len({os.path.realpath(file) for file in files}) == 5
    names = {path.name for path in skipped}
    assert {"round", "zoo", "back"} < names and len(names & {"a", "b"}) == 1
    assert "zoo" in import_folder(pets).left_out


def forbid(monkeypatch, name):
    """Folders of this name may not be looked into; file rights would not bind every user."""
    real = pathlib.Path.iterdir

    def iterdir(path):
        if path.name == name:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(pathlib.Path, "iterdir", iterdir)


def test_a_folder_that_may_not_be_looked_into_is_named(pets, monkeypatch):
    save(pets / "dog" / "locked" / "1.png")
    forbid(monkeypatch, "locked")
    reason = "the folder cannot be looked into: Permission denied"
    assert import_folder(pets).skipped == {"dog/locked": reason}
    forbid(monkeypatch, pets.name)
    with pytest.raises(ValueError, match=r"pets: the folder cannot be looked into: Permission"):
        import_folder(pets)


def test_a_deep_folder_needs_no_deep_stack(pets):
    save(pets.joinpath("dog", *"d" * 200) / "1.png")
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 60)
    try:
        files, _ = image_files(pets)
    finally:
        sys.setrecursionlimit(before)
    assert len(files) == 5


# --- the example


def test_the_example_has_the_faults_that_it_names(tmp_path):
    digits = embedded_digits.__wrapped__(40, 1)[0]
    wanted = {3: 30, 6: 20, 1: 2}
    got = import_folder(write_example_folder(tmp_path / "x", digits, wanted, copies=16))
    assert set(got.images.classes) == {"a three", "número seis", "one"}
    counts = dict(zip(got.images.classes, got.images.class_counts().tolist(), strict=True))
    assert counts == {"a three": 30 + 16 + 4, "número seis": 20 + 16 + 3, "one": 2}
    assert len(got.skipped) == 4 and got.left_out == ("still to sort",)
    assert {"RGB", "L", "I;16", "RGBA"} <= set(got.modes) and len(got.sizes.unique(dim=0)) >= 4
    found = find_duplicates(got.images.images)
    assert len(found.exact) == 7 and len(found.near) == 16 + 16
    assert len(label_conflicts(got.images.labels, found.groups)) == 6
    again = import_folder(write_example_folder(tmp_path / "y", digits, wanted, copies=16))
    assert again.images.images.equal(got.images.images) and again.files == got.files
    without = import_folder(write_example_folder(tmp_path / "z", digits, wanted, copies=0))
    assert len(without.files) == len(got.files) - 32
    with pytest.raises(ValueError, match="class 2 has 40 images and 41 are wanted"):
        write_example_folder(tmp_path / "w", digits, {2: 41})
