import errno
import os
import pickle

import pytest
import torch
from helpers import accept_checksums, write_cifar

from imbalkit.course import embedded
from imbalkit.course.embedded import find_data
from imbalkit.data import find_cifar, load_cifar, sources
from imbalkit.data.download import DownloadError


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    """No test sees the data of the machine it runs on."""
    monkeypatch.setattr(sources, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.delenv("IMBALKIT_DATA", raising=False)
    monkeypatch.delenv("IMBALKIT_OFFLINE", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def no_network(monkeypatch):
    def fetch(name, root, show):
        raise DownloadError("no network")

    monkeypatch.setattr(sources, "fetch_cifar", fetch)


@pytest.mark.parametrize("name, classes", [("cifar10", 10), ("cifar100", 100)])
def test_the_official_layout_is_read(monkeypatch, tmp_path, name, classes):
    folder = write_cifar(tmp_path, name, per_class=10)
    accept_checksums(monkeypatch, folder, name)
    train, test = load_cifar(tmp_path, name)
    assert train.class_counts().tolist() == [10] * classes
    assert test.class_counts().tolist() == [1] * classes
    assert train.images.shape == (10 * classes, 32, 32, 3)
    assert train.classes[0] == "class 00"
    assert train.source == f"CIFAR-{classes} train" and test.source == f"CIFAR-{classes} test"


def test_imbalkit_data_comes_first_then_the_cache(monkeypatch, tmp_path, own_cache):
    named = write_cifar(tmp_path / "named", seed=1)
    cached = write_cifar(own_cache, seed=2)
    accept_checksums(monkeypatch, cached)
    from_cache, _ = find_cifar()
    accept_checksums(monkeypatch, named)
    monkeypatch.setenv("IMBALKIT_DATA", str(tmp_path / "named"))
    from_named, _ = find_cifar()
    assert not from_cache.images.equal(from_named.images)
    assert from_named.images.equal(load_cifar(tmp_path / "named")[0].images)


def test_what_is_missing_is_downloaded_into_the_cache(monkeypatch, own_cache):
    def fetch(name, root, show):
        assert root == own_cache
        accept_checksums(monkeypatch, write_cifar(root, name))

    monkeypatch.setattr(sources, "fetch_cifar", fetch)
    assert find_cifar()[0].source == "CIFAR-10 train"


def test_without_network_the_embedded_set_is_used_and_said(no_network):
    said = []
    train, _ = find_data(show=said.append)
    assert train.source == "embedded digits train"
    assert "no network" in said[0] and "embedded set instead" in said[1] and len(said) == 2


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_the_download_can_be_refused(monkeypatch, how):
    monkeypatch.setattr(sources, "fetch_cifar", lambda *a, **k: pytest.fail("downloaded"))
    if how == "environment":
        monkeypatch.setenv("IMBALKIT_OFFLINE", "1")
    with pytest.raises(DownloadError, match="cifar10 is not on this computer; get it with"):
        find_cifar(download=how == "environment")
    train, _ = find_data(download=how == "environment", show=lambda text: None)
    assert train.source == "embedded digits train"


def test_a_wrong_imbalkit_data_is_said(monkeypatch, tmp_path, no_network):
    monkeypatch.setenv("IMBALKIT_DATA", str(tmp_path / "typo"))
    said = []
    find_data(show=said.append)
    assert "typo, and cifar10 is not there; check the path" in said[0]


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="no data set 'mnist'; choose one of cifar10, cifar100"):
        find_data("mnist")


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_a_pickle_with_a_wrong_checksum_is_never_opened(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    folder = write_cifar(tmp_path)
    accept_checksums(monkeypatch, folder)
    (folder / "data_batch_3").write_bytes(pickle.dumps(Bomb()))
    monkeypatch.setenv("IMBALKIT_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=r"corrupt: a file is absent.*imbalkit data cifar10"):
        load_cifar(tmp_path)
    with pytest.raises(DownloadError):
        find_cifar(download=False)
    assert not (tmp_path / "exploded").exists()
    pickle.loads((folder / "data_batch_3").read_bytes())
    assert (tmp_path / "exploded").exists(), "the bomb works, so the test means something"


def test_a_damaged_place_is_said_and_the_next_one_taken(monkeypatch, tmp_path, own_cache):
    cached = write_cifar(own_cache)
    accept_checksums(monkeypatch, cached)
    named = write_cifar(tmp_path / "named")
    (named / "data_batch_3").write_bytes(b"half")
    monkeypatch.setenv("IMBALKIT_DATA", str(tmp_path / "named"))
    said = []
    train, _ = find_cifar(show=said.append)
    assert train.images.equal(load_cifar(own_cache)[0].images)
    assert len(said) == 1 and "named" in said[0] and "is corrupt" in said[0]


def test_a_copy_that_stopped_half_way_does_not_block_the_embedded_set(own_cache, no_network):
    (write_cifar(own_cache) / "test_batch").unlink()
    said = []
    train, _ = find_data(show=said.append)
    assert train.source == "embedded digits train"
    assert "is corrupt" in said[0] and "no network" in said[1] and "instead" in said[2]


def test_a_file_that_may_not_be_read_does_not_block_the_next_source(
    monkeypatch, own_cache, no_network
):
    folder = write_cifar(own_cache)
    accept_checksums(monkeypatch, folder)

    def forbidden(path, *_):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", forbidden)
    monkeypatch.setattr(sources, "damaged_files", forbidden)
    assert sources.cifar_state(own_cache, "cifar10") == "corrupt"
    said = []
    train, _ = find_data(show=said.append)
    assert train.source == "embedded digits train"
    assert "cannot be read (Permission denied)" in said[0] and "Traceback" not in said[0]


def test_a_user_without_a_home_folder_is_answered_in_a_sentence(monkeypatch, tmp_path):
    monkeypatch.undo()
    for variable in ("HOME", "USERPROFILE", "HOMEPATH", "XDG_CACHE_HOME", "LOCALAPPDATA",
                     "IMBALKIT_DATA", "IMBALKIT_OFFLINE"):  # fmt: skip
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as where there is none
    with pytest.raises(DownloadError, match=r"there is no home folder.*set IMBALKIT_DATA"):
        sources.cache_folder()
    assert sources.data_folders() == []
    assert find_data(show=lambda text: None)[0].source == "embedded digits train"
    monkeypatch.setenv("IMBALKIT_DATA", str(tmp_path))
    assert sources.data_folders() == [tmp_path]


def test_an_absent_file_makes_the_set_corrupt(monkeypatch, tmp_path):
    folder = write_cifar(tmp_path)
    accept_checksums(monkeypatch, folder)
    assert sources.cifar_state(tmp_path, "cifar10") == "ready"
    (folder / "test_batch").unlink()
    assert sources.cifar_state(tmp_path, "cifar10") == "corrupt"
    assert sources.cifar_state(tmp_path / "elsewhere", "cifar10") == "missing"
    with pytest.raises(ValueError, match=r"elsewhere.* is missing"):
        load_cifar(tmp_path / "elsewhere")


def test_the_embedded_set_is_always_the_same_and_balanced():
    train, test = embedded.embedded_digits.__wrapped__(20, 10)
    again, _ = embedded.embedded_digits.__wrapped__(20, 10)
    assert train.images.equal(again.images) and train.images.shape == (200, 32, 32, 3)
    assert train.class_counts().tolist() == [20] * 10 and test.class_counts().tolist() == [10] * 10


def test_no_handwritten_digit_stands_in_train_and_test(monkeypatch):
    used = []
    real = embedded._paste

    def spy(shapes, photographs, generator):
        used.append({shape.numpy().tobytes() for shape in shapes})
        return real(shapes, photographs, generator)

    monkeypatch.setattr(embedded, "_paste", spy)
    embedded.embedded_digits.__wrapped__(500, 500)
    train, test = set.union(*used[:10]), set.union(*used[10:])
    assert len(train) > 1200 and len(test) > 400 and not train & test


def test_labels_are_int64(monkeypatch, tmp_path):
    accept_checksums(monkeypatch, write_cifar(tmp_path))
    assert load_cifar(tmp_path)[0].labels.dtype == torch.int64
