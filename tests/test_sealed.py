"""A file with a digest notices every change; torch and other programs read it as before."""

import contextlib
import json
import zipfile

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imbalkit import sealed
from imbalkit.schema import anything, like, no_nan, tensor, tensors_like

CONTENT = {"format": "test 1", "x": torch.arange(5.0), "more": {"a": [1, None, "é"]}}
KEPT = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def tensors(tmp_path_factory):
    path = tmp_path_factory.mktemp("sealed") / "x.pt"
    sealed.write(path, CONTENT)
    return path.read_bytes()


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("sealed") / "x.json"
    sealed.write_json(path, {"ratio": 100.0, "names": ["a", "é"], "deep": {"n": 3}})
    return path.read_bytes()


def test_torch_and_zip_programs_read_it_too(tmp_path, tensors):
    (tmp_path / "x.pt").write_bytes(tensors)
    for options in ({}, {"mmap": True}):
        content = torch.load(tmp_path / "x.pt", weights_only=True, **options)
        assert content["x"].equal(CONTENT["x"]) and content["more"] == CONTENT["more"]
    with zipfile.ZipFile(tmp_path / "x.pt") as archive:
        assert archive.testzip() is None and archive.comment.startswith(sealed.MARK)


@KEPT
@given(data=st.data())
def test_any_change_of_the_bytes_is_noticed(tmp_path, tensors, data):
    begin = data.draw(st.integers(0, len(tensors) - 1))
    end = data.draw(st.integers(begin, len(tensors)))
    changed = tensors[:begin] + data.draw(st.binary(max_size=9)) + tensors[end:]
    (tmp_path / "x.pt").write_bytes(changed)
    if changed == tensors:
        assert sealed.read(tmp_path / "x.pt", "test 1", anything)
        return
    with pytest.raises(ValueError, match="it is damaged"):
        sealed.read(tmp_path / "x.pt", "test 1", anything)


@KEPT
@given(place=st.integers(0), bit=st.integers(0, 7))
def test_a_changed_bit_of_json_is_noticed_or_changes_nothing(tmp_path, text, place, bit):
    changed = bytearray(text)
    changed[place % len(text)] ^= 1 << bit
    (tmp_path / "x.json").write_bytes(changed)
    try:
        found = sealed.read_json(tmp_path / "x.json", anything)
    except ValueError as error:
        assert "\n" not in str(error)
    else:
        assert json.loads(text) == found | {"digest": json.loads(text)["digest"]}


@pytest.mark.parametrize("text", ["", "[", "3", "[" * 100_000, '{"a":' * 9_999, "{}", "\x00"])
def test_json_of_others_is_told_in_half_a_sentence(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match=r"it is no JSON|it has no digest"):
        sealed.read_json(tmp_path / "x.json", anything)


ODD_TENSORS = {
    "larger than what the file holds": torch.zeros(1).expand(10**9, 1000),
    "on meta": torch.zeros(2, device="meta"),
    "sparse": torch.eye(2).to_sparse(),
}


@pytest.mark.parametrize("kind", ODD_TENSORS)
def test_a_tensor_that_cannot_be_looked_at_is_refused(kind):
    odd = ODD_TENSORS[kind]
    for check in (tensor, no_nan, tensors_like({"x": torch.zeros(2)}), like({"x": torch.zeros(2)})):
        with pytest.raises(ValueError, match=r"plain tensor|larger than|x is float32"):
            check(odd if check is tensor else {"x": odd}, "it")


def test_what_torch_warns_of_is_not_told(tmp_path, recwarn):
    torch.save({"format": "test 1"}, tmp_path / "x.pt", pickle_protocol=5)
    body = (tmp_path / "x.pt").read_bytes()[:-2] + sealed.LENGTH.to_bytes(2, "little")
    (tmp_path / "x.pt").write_bytes(body + sealed._seal(body))
    with contextlib.suppress(ValueError):
        sealed.read(tmp_path / "x.pt", "test 1", anything)
    assert not recwarn.list


def test_a_write_that_fails_keeps_the_old_file(tmp_path):
    sealed.write(tmp_path / "x.pt", CONTENT)
    old = (tmp_path / "x.pt").read_bytes()
    with pytest.raises((AttributeError, TypeError)):
        sealed.write(tmp_path / "x.pt", {"format": (n for n in "ab")})
    assert (tmp_path / "x.pt").read_bytes() == old and len(list(tmp_path.iterdir())) == 1
