"""Long-tailed subsets: the published counts, the public subset, the manifest, the split."""

import json
import math
import os
import tempfile
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers import accept_checksums, write_cifar
from hypothesis import given, settings
from hypothesis import strategies as st
from imblearn.datasets import make_imbalance

from imbalkit.data.images import ImageSet
from imbalkit.data.longtail import (
    Manifest,
    long_tail_counts,
    long_tail_indices,
    make_long_tail,
    stratified_split,
)
from imbalkit.data.sources import data_folders, find_cifar, load_cifar
from imbalkit.sealed import write_json

CIFAR10_COUNTS = {
    10: [5000, 3871, 2997, 2320, 1796, 1391, 1077, 834, 645, 500],
    20: [5000, 3584, 2569, 1842, 1320, 946, 678, 486, 348, 250],
    50: [5000, 3237, 2096, 1357, 878, 568, 368, 238, 154, 100],
    100: [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50],
    200: [5000, 2775, 1540, 854, 474, 263, 146, 81, 45, 25],
}
TOTALS = {10: 20431, 20: 17023, 50: 13996, 100: 12406, 200: 11203}


def image_set(per_class, seed=0, source="noise train"):
    """Noise images with `per_class[c]` images of class c, in random order."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.repeat(np.arange(len(per_class)), per_class))
    images = random.integers(0, 256, (len(labels), 2, 2, 3), dtype=np.uint8)
    classes = tuple(f"class {c}" for c in range(len(per_class)))
    return ImageSet(torch.from_numpy(images), torch.from_numpy(labels), classes, source)


def one_sentence(error, *words):
    message = str(error.value)
    assert "\n" not in message and message.endswith(".") and ". " not in message, message
    for word in words:
        assert word in message


# Counts


@pytest.mark.parametrize("ratio", CIFAR10_COUNTS)
def test_the_published_counts_of_cifar10(ratio):
    assert long_tail_counts(5000, 10, ratio) == CIFAR10_COUNTS[ratio]
    assert sum(CIFAR10_COUNTS[ratio]) == TOTALS[ratio]


@pytest.mark.parametrize("ratio, tail, total", [(100, 50, 25250), (10, 500, 27500)])
def test_the_published_counts_of_the_step_profile(ratio, tail, total):
    counts = long_tail_counts(5000, 10, ratio, "step")
    assert counts == [5000] * 5 + [tail] * 5 and sum(counts) == total


@pytest.mark.parametrize("ratio, last, total", [(100, 5, 10847), (50, 10, 12608), (10, 50, 19573)])
def test_the_published_counts_of_cifar100(ratio, last, total):
    counts = long_tail_counts(500, 100, ratio)
    assert (counts[0], counts[-1], sum(counts)) == (500, last, total)


@settings(deadline=None)
@given(
    n_max=st.integers(1, 10_000),
    num_classes=st.integers(2, 200),
    ratio=st.floats(1, 1000),
    profile=st.sampled_from(["exponential", "step"]),
)
def test_counts_fall_from_the_largest_to_the_smallest(n_max, num_classes, ratio, profile):
    last = int(n_max * (1 / ratio))
    if last == 0:
        with pytest.raises(ValueError, match="without an image"):
            long_tail_counts(n_max, num_classes, ratio, profile)
        return
    counts = long_tail_counts(n_max, num_classes, ratio, profile)
    assert len(counts) == num_classes
    assert counts[0] == n_max and counts[-1] == last
    assert all(before >= after for before, after in pairwise(counts))


@pytest.mark.parametrize("ratio", [0.5, 0, -10, math.nan, math.inf])
def test_a_ratio_below_one(ratio):
    with pytest.raises(ValueError) as error:
        long_tail_counts(5000, 10, ratio)
    one_sentence(error, "ratio is", "1 or more")


def test_an_unknown_profile():
    with pytest.raises(ValueError) as error:
        long_tail_counts(5000, 10, 100, "linear")
    one_sentence(error, "'linear'", "exponential, step")


def test_too_few_classes_or_images():
    for n_max, num_classes in [(5000, 1), (0, 10)]:
        with pytest.raises(ValueError) as error:
            long_tail_counts(n_max, num_classes, 100)
        one_sentence(error, "at least 2 classes and 1 image")


def test_a_ratio_that_empties_a_class():
    with pytest.raises(ValueError) as error:
        long_tail_counts(50, 10, 100)
    one_sentence(error, "ratio 100 leaves class 8 without an image", "use a ratio below 50")


# The subset


def public_subset(labels, counts):
    """The published procedure, with the global generator of numpy as the papers use it."""
    np.random.seed(0)  # noqa: NPY002
    chosen = []
    for c, count in enumerate(counts):
        members = np.where(np.array(labels) == c)[0]
        np.random.shuffle(members)  # noqa: NPY002
        chosen.extend(members[:count].tolist())
    return chosen


def test_seed_0_is_the_public_subset():
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(10), 300))
    counts = long_tail_counts(300, 10, 20)
    indices = long_tail_indices(labels, counts)
    assert indices.dtype == torch.int64
    assert indices.tolist() == public_subset(labels, counts)
    assert long_tail_indices(labels, counts, seed=1).tolist() != indices.tolist()


def test_seed_0_is_the_public_subset_of_the_real_cifar10():
    folder = next((f for f in data_folders() if (f / "cifar-10-batches-py").is_dir()), None)
    if folder is None:
        pytest.skip("CIFAR-10 is not on this machine")
    train, _ = load_cifar(folder)
    subset, manifest = make_long_tail(train, 100)
    expected = public_subset(train.labels.tolist(), CIFAR10_COUNTS[100])
    assert list(manifest.indices) == expected
    assert subset.class_counts().tolist() == CIFAR10_COUNTS[100]


@pytest.mark.parametrize("profile", ["exponential", "step"])
def test_class_counts_agree_with_imbalanced_learn(profile):
    full = image_set([60] * 5)
    subset, _ = make_long_tail(full, 10, profile)
    counts = long_tail_counts(60, 5, 10, profile)
    _, y = make_imbalance(
        full.images.flatten(1).numpy(),
        full.labels.numpy(),
        sampling_strategy=dict(enumerate(counts)),
    )
    assert subset.class_counts().tolist() == np.bincount(y).tolist() == counts


def test_indices_are_distinct_images_of_their_class():
    labels = image_set([50, 40, 30]).labels
    indices = long_tail_indices(labels, [50, 20, 1], seed=3)
    assert len(set(indices.tolist())) == 71
    assert labels[indices].tolist() == [0] * 50 + [1] * 20 + [2]


def test_a_class_with_too_few_images():
    with pytest.raises(ValueError) as error:
        long_tail_indices(image_set([50, 20]).labels, [50, 21])
    one_sentence(error, "class 1 has 20 images and 21 are wanted")


def test_a_class_of_which_none_is_wanted():
    with pytest.raises(ValueError) as error:
        long_tail_indices(image_set([50, 20]).labels, [50, 0])
    one_sentence(error, "class 1", "at least 1")


@pytest.mark.parametrize("draw", [lambda y: long_tail_indices(y, [1, 1]), stratified_split])
@pytest.mark.parametrize(
    "labels, words",
    [
        (torch.tensor([0.0, 1.0]), "float32"),
        (torch.tensor([[0, 1]]), "shape (1, 2)"),
        (torch.tensor([-1, 0, 1]), "start at -1"),
        (torch.tensor([], dtype=torch.int64), "shape (0,)"),
    ],
)
def test_wrong_labels(draw, labels, words):
    with pytest.raises(ValueError) as error:
        draw(labels)
    one_sentence(error, words)


def test_labels_beyond_the_classes():
    with pytest.raises(ValueError) as error:
        long_tail_indices([0, 1, 2], [1, 1])
    one_sentence(error, "run to 2 but there are 2 classes")


# From the image set to the subset


@pytest.mark.parametrize("ratio, total", [(100, 10847), (50, 12608), (10, 19573)])
def test_cifar100_end_to_end(ratio, total, cifar100):
    subset, manifest = make_long_tail(cifar100, ratio)
    assert len(subset) == len(manifest.indices) == total
    assert subset.class_counts().tolist() == long_tail_counts(500, 100, ratio)


@pytest.fixture(scope="module")
def cifar100():
    """Noise in the official layout of CIFAR-100 and in its full size, read by the loader."""
    with tempfile.TemporaryDirectory() as root, pytest.MonkeyPatch.context() as monkeypatch:
        accept_checksums(monkeypatch, write_cifar(root, "cifar100", per_class=500), "cifar100")
        monkeypatch.setenv("IMBALKIT_DATA", root)
        train, _ = find_cifar("cifar100", download=False)
    assert train.source == "CIFAR-100 train" and len(train) == 50_000
    return train


def test_the_subset_holds_the_images_of_the_manifest():
    full = image_set([40] * 4)
    subset, manifest = make_long_tail(full, 8, "step", seed=5)
    assert torch.equal(subset.images, full.images[list(manifest.indices)])
    assert torch.equal(subset.labels, full.labels[list(manifest.indices)])
    assert (manifest.profile, manifest.ratio, manifest.seed) == ("step", 8, 5)
    assert manifest.source == full.source
    for word in (full.source, "step", "ratio 8", "seed 5"):
        assert word in subset.source


def test_the_smallest_class_sets_the_size_where_the_classes_differ():
    subset, _ = make_long_tail(image_set([50, 60, 40]), 4)
    assert subset.class_counts().tolist() == [40, 20, 10]


def test_an_empty_class_is_named():
    with pytest.raises(ValueError) as error:
        make_long_tail(image_set([50, 0, 40]), 4)
    one_sentence(error, "noise train", "'class 1' has no image")


# The manifest


@pytest.fixture
def drawn():
    full = image_set([40] * 4)
    subset, manifest = make_long_tail(full, 8)
    return full, subset, manifest


def test_a_saved_manifest_gives_the_same_subset(drawn, tmp_path):
    full, subset, manifest = drawn
    path = manifest.save(tmp_path / "new" / "subset.json")
    loaded = Manifest.load(path)
    assert loaded == manifest
    again = loaded.apply(full)
    assert torch.equal(again.images, subset.images) and torch.equal(again.labels, subset.labels)
    assert again.source == subset.source
    assert [p.name for p in path.parent.iterdir()] == ["subset.json"]


def test_an_interrupted_save_keeps_the_old_manifest(drawn, tmp_path, monkeypatch):
    path = drawn[2].save(tmp_path / "subset.json")

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        replace(drawn[2], seed=9).save(path)
    assert Manifest.load(path) == drawn[2]
    assert [p.name for p in tmp_path.iterdir()] == ["subset.json"]


def test_other_images_do_not_fit(drawn):
    for other in (
        image_set([40] * 4, seed=1),
        image_set([40] * 3),  # too few
        replace(drawn[0], labels=drawn[0].labels.flip(0)),
    ):
        with pytest.raises(ValueError) as error:
            drawn[2].apply(other)
        one_sentence(error, "manifest of 'noise train' does not fit", "altered")


def test_one_changed_pixel_does_not_fit(drawn):
    full, _, manifest = drawn
    full.images[manifest.indices[3]][0, 0, 0] += 1
    with pytest.raises(ValueError, match="does not fit"):
        manifest.apply(full)


OTHER = {
    "source": "other", "profile": "step", "ratio": 10, "seed": 1, "indices": [3, 2],
    "checksum": "0" * 64, "digest": "0" * 64,
}  # fmt: skip


@pytest.mark.parametrize("field", OTHER)
def test_an_altered_manifest_is_not_read(drawn, field, tmp_path):
    path = drawn[2].save(tmp_path / "subset.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: OTHER[field]}))
    with pytest.raises(ValueError) as error:
        Manifest.load(path)
    one_sentence(error, "subset.json", "damaged or was altered")


def test_an_altered_manifest_does_not_fit(drawn):
    full, _, manifest = drawn
    for field in ("source", "profile", "ratio", "seed", "indices", "checksum"):
        other = tuple(OTHER[field]) if field == "indices" else OTHER[field]
        with pytest.raises(ValueError) as error:
            replace(manifest, **{field: other}).apply(full)
        one_sentence(error, "does not fit")


def test_other_programs_may_rewrite_a_manifest(drawn, tmp_path):
    path = drawn[2].save(tmp_path / "subset.json")
    content = json.loads(path.read_text()) | {"ratio": 8}  # 8.0 before
    path.write_text(json.dumps(dict(reversed(content.items())), indent=2))
    assert len(Manifest.load(path).apply(drawn[0])) == len(drawn[1])


def test_one_changed_bit_anywhere_in_a_manifest_is_noticed(drawn, tmp_path):
    path = replace(drawn[2], indices=drawn[2].indices[:5]).save(tmp_path / "subset.json")
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    for place in range(0, len(whole), 3):
        changed = bytearray(whole)
        changed[place] ^= 1 << int(random.integers(8))
        path.write_bytes(changed)
        with pytest.raises(ValueError, match="is not a manifest"):
            Manifest.load(path)


GOOD = {
    "source": "noise",
    "profile": "step",
    "ratio": 8.0,
    "seed": 0,
    "indices": [1],
    "checksum": "0",
}
NO_MANIFESTS = [
    {"source": "noise"}, GOOD | {"more": 1}, GOOD | {"indices": []}, GOOD | {"indices": [-1]},
    GOOD | {"indices": [1.5]}, GOOD | {"indices": [True]}, GOOD | {"indices": 3},
    GOOD | {"profile": "linear"}, GOOD | {"ratio": 0.5}, GOOD | {"ratio": "8"},
    GOOD | {"ratio": math.nan}, GOOD | {"ratio": math.inf}, GOOD | {"source": 3},
    GOOD | {"seed": -1}, GOOD | {"seed": 1.5}, GOOD | {"seed": None}, GOOD | {"checksum": 0},
]  # fmt: skip


def test_a_manifest_with_its_digest_is_read(tmp_path):
    write_json(tmp_path / "subset.json", GOOD)
    assert Manifest.load(tmp_path / "subset.json").indices == (1,)


@pytest.mark.parametrize("content", NO_MANIFESTS)
def test_a_right_digest_makes_no_manifest(content, tmp_path):
    write_json(tmp_path / "subset.json", content)
    with pytest.raises(ValueError) as error:
        Manifest.load(tmp_path / "subset.json")
    one_sentence(error, "subset.json is not a manifest", "Manifest.save")


@pytest.mark.parametrize(
    "text", ["", "not JSON", "[1, 2]", "3", json.dumps(GOOD), "[" * 100_000, '{"ratio": ' * 9_999]
)
def test_a_file_that_is_no_manifest(text, tmp_path):
    path = tmp_path / "subset.json"
    path.write_text(text)
    with pytest.raises(ValueError) as error:
        Manifest.load(path)
    one_sentence(error, "subset.json is not a manifest", "Manifest.save")


def test_a_binary_file_is_no_manifest(tmp_path):
    (tmp_path / "image.png").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(ValueError) as error:
        Manifest.load(tmp_path / "image.png")
    one_sentence(error, "is not a manifest")


def test_an_absent_manifest(tmp_path):
    with pytest.raises(OSError) as error:
        Manifest.load(tmp_path / "absent.json")
    one_sentence(error, "absent.json", "cannot be read", "check the path")


def test_a_place_that_cannot_be_written(drawn, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError) as error:
        drawn[2].save(tmp_path / "file" / "subset.json")
    one_sentence(error, "subset.json", "cannot be written", "choose a folder")


# The validation split


@settings(max_examples=50, deadline=None)
@given(
    per_class=st.lists(st.integers(2, 40), min_size=1, max_size=6),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 5),
)
def test_the_split_is_a_partition_with_every_class_on_both_sides(per_class, fraction, seed):
    labels = image_set(per_class, seed).labels
    train, validation = stratified_split(labels, fraction, seed)
    assert train.dtype == validation.dtype == torch.int64
    assert sorted(train.tolist() + validation.tolist()) == list(range(len(labels)))
    for c, n in enumerate(per_class):
        size = int((labels[validation] == c).sum())
        assert size == min(max(round(fraction * n), 1), n - 1)
        assert int((labels[train] == c).sum()) == n - size >= 1


def test_the_seed_decides_the_split():
    labels = image_set([100, 50]).labels
    first, again, other = (stratified_split(labels, 0.1, seed)[1].tolist() for seed in (0, 0, 1))
    assert first == again != other


def test_a_class_with_one_image_cannot_be_split():
    with pytest.raises(ValueError) as error:
        stratified_split(image_set([30, 1, 20]).labels)
    one_sentence(error, "class 1 has 1 of the 51 images", "needs 2")


def test_a_gap_in_the_classes_cannot_be_split():
    with pytest.raises(ValueError) as error:
        stratified_split(image_set([30, 0, 20]).labels)
    one_sentence(error, "class 1 has 0 of the 50 images")


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 10, math.nan])
def test_a_fraction_that_is_none(fraction):
    with pytest.raises(ValueError) as error:
        stratified_split(image_set([10, 10]).labels, fraction)
    one_sentence(error, "fraction is", "between 0 and 1")
