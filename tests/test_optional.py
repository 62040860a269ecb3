"""A missing optional library is one sentence with the command that installs it."""

import pytest

from imbalkit.optional import optional


def test_a_library_that_is_there_is_returned():
    assert optional("os.path", "data").join("a", "b")


def test_a_missing_library_is_one_sentence_with_who_needs_it_and_the_command():
    with pytest.raises(ImportError) as caught:
        optional("no_such_library.part", "plots")
    assert str(caught.value) == (
        f"{__name__} needs no_such_library, which is not installed; "
        'run pip install "imbalkit[plots]".'
    )


def test_a_library_that_no_extra_installs_is_installed_by_its_own_name():
    with pytest.raises(ImportError, match=r"installed; run pip install no_such_library\.$"):
        optional("no_such_library.part")


def test_a_library_that_is_broken_says_so_itself(tmp_path, monkeypatch):
    (tmp_path / "half_installed.py").write_text("import no_such_part")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="No module named 'no_such_part'"):
        optional("half_installed", "plots")
