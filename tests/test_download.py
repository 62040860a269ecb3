"""Downloads from a local server that breaks in every way a real one does."""

import errno
import hashlib
import io
import itertools
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from helpers import accept_checksums, md5_of, write_archive, write_cifar

from imbalkit.data import command
from imbalkit.data import download as module
from imbalkit.data.download import DownloadError, download, fetch_cifar
from imbalkit.data.workplace import workplace

CONTENT = bytes(range(256)) * 4000  # 1 MB
HALF = len(CONTENT) // 2
ROOT = Path(__file__).parents[1]


def md5(content):
    return hashlib.md5(content).hexdigest()


@dataclass
class Server:
    """What a test wants of the server, and what the server saw."""

    content: bytes = CONTENT
    ranges: bool = True  # honour Range requests
    say_length: bool = True
    break_after: list = field(default_factory=list)  # bytes sent per request; None: all
    status: list = field(default_factory=list)  # an error code per request; None: serve
    reason: str | None = None  # what goes with an error code
    part_from: int | None = None  # answer a Range request with another part
    asked: list = field(default_factory=list)  # the Range header of each request
    url: str = ""

    def answer(self, handler):
        self.asked.append(handler.headers["Range"])
        if status := self.status.pop(0) if self.status else None:
            handler.send_error(status, self.reason)
            return
        start = 0
        if self.ranges and handler.headers["Range"]:
            start = int(handler.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            start = start if self.part_from is None else self.part_from
            handler.send_response(206)
            size = len(self.content)
            handler.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        else:
            handler.send_response(200)
        body = self.content[start:]
        if self.say_length:
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[: self.break_after.pop(0) if self.break_after else None])


@contextmanager
def serving(wanted):
    """Answer as `wanted` says, at `wanted.url`, until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            wanted.answer(self)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        wanted.url = f"http://127.0.0.1:{http.server_port}/data.bin"
        http.handle_error = lambda *_: None  # a client that hangs up is part of the tests
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield wanted
        http.shutdown()
        thread.join()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(module, "PAUSE", 0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving(Server()) as wanted:
        yield wanted


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def fails(tmp_path, url, *words, checksum=None, **options):
    """The download fails with one sentence that has these words, and leaves nothing."""
    path = tmp_path / "data.bin"
    with pytest.raises(DownloadError) as caught:
        download(url, path, checksum or md5(CONTENT), show=lambda text: None, **options)
    assert_sentence(caught.value, *words)
    assert names(tmp_path) == []


def assert_sentence(error, *words):
    message = str(error)
    assert "\n" not in message and message.endswith(".") and ". " not in message, message
    for word in words:
        assert word in message


# One file


def test_a_download_is_complete_and_says_so_in_two_lines(server, tmp_path):
    lines = []
    path = download(server.url, tmp_path / "new" / "data.bin", md5(CONTENT), show=lines.append)
    assert path == tmp_path / "new" / "data.bin"
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == ["data.bin"]
    assert len(lines) == 2
    assert "1.0 MB" in lines[0] and "127.0.0.1" in lines[0] and "data.bin" in lines[1]


def test_a_file_that_is_there_is_not_fetched_again(server, tmp_path):
    for _ in range(2):
        download(server.url, tmp_path / "data.bin", md5(CONTENT))
    assert len(server.asked) == 1


def test_a_wrong_file_that_is_there_is_replaced(server, tmp_path):
    (tmp_path / "data.bin").write_bytes(b"old")
    download(server.url, tmp_path / "data.bin", md5(CONTENT))
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_a_broken_download_goes_on_where_it_stopped(server, tmp_path):
    server.break_after = [HALF]
    lines = []
    path = download(server.url, tmp_path / "data.bin", md5(CONTENT), show=lines.append)
    assert path.read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={HALF}-"]
    assert "trying again" in lines[1]
    assert names(tmp_path) == ["data.bin"]


def test_a_server_that_ignores_range_is_read_from_the_start(server, tmp_path):
    server.ranges, server.break_after = False, [HALF]
    path = download(server.url, tmp_path / "data.bin", md5(CONTENT))
    assert path.read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_as_many_breaks_as_it_takes_while_bytes_arrive(server, tmp_path):
    server.break_after = [len(CONTENT) // 10] * 9
    path = download(server.url, tmp_path / "data.bin", md5(CONTENT), attempts=2)
    assert path.read_bytes() == CONTENT


def test_broken_on_every_attempt(server, tmp_path):
    server.ranges, server.break_after = False, [HALF] * 9
    fails(tmp_path, server.url, "broke after 0.5 MB of 1.0 MB", "try again", attempts=3)
    assert len(server.asked) == 3


def test_a_server_that_hangs(server, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/data.bin"
        fails(tmp_path, url, "did not answer", attempts=2, timeout=0.1)


def test_the_right_beginning_of_another_file_is_fetched_anew(server, tmp_path):
    server.break_after = [HALF]
    changed = b"x" * len(CONTENT)  # the file changes on the server between the two requests

    def show(text):
        if "trying again" in text:
            server.content = changed

    path = download(server.url, tmp_path / "data.bin", md5(changed), show=show)
    assert path.read_bytes() == changed
    assert server.asked == [None, f"bytes={HALF}-", None]


def test_another_part_than_the_one_asked_for(server, tmp_path):
    server.break_after, server.part_from = [HALF], 7
    path = download(server.url, tmp_path / "data.bin", md5(CONTENT))
    assert path.read_bytes() == CONTENT


def test_a_server_that_does_not_say_the_length(server, tmp_path):
    server.say_length = False
    path = download(server.url, tmp_path / "data.bin", md5(CONTENT))
    assert path.read_bytes() == CONTENT


def test_wrong_checksum(server, tmp_path):
    server.content = b"<html>Welcome to the hotel: please log in</html>"
    fails(tmp_path, server.url, "not the expected file", "log-in page")
    assert len(server.asked) == 1


@dataclass
class Hostile(Server):
    """Sends `parts` with `pause` seconds between them, and no end unless they have one."""

    parts: object = ()
    pause: float = 0
    length: int | None = None

    def answer(self, handler):
        self.asked.append(handler.headers["Range"])
        handler.send_response(200)
        if self.length is not None:
            handler.send_header("Content-Length", str(self.length))
        handler.end_headers()
        for part in self.parts:
            handler.wfile.write(part)
            time.sleep(self.pause)


@pytest.fixture
def hostile(server, monkeypatch):
    other = Hostile(url=server.url)
    monkeypatch.setattr(server, "answer", other.answer, raising=False)
    return other


def test_a_server_that_sends_a_byte_now_and_then_counts_as_broken(hostile, tmp_path):
    hostile.parts, hostile.pause, hostile.length = itertools.repeat(b"x"), 0.02, 10**6
    fails(tmp_path, hostile.url, "bytes arrived in", "2 attempts", attempts=2, timeout=0.1)
    assert len(hostile.asked) == 2


def test_a_server_that_sends_its_headers_byte_by_byte_counts_as_broken(server, tmp_path):
    def trickle(handler):
        server.asked.append(None)
        for byte in b"HTTP/1.0 200 OK\r\nX: " + b"x" * 60_000:
            handler.wfile.write(bytes([byte]))
            time.sleep(0.02)

    server.answer = trickle
    begin = time.monotonic()
    fails(tmp_path, server.url, "did not answer", "headers took more", attempts=2, timeout=0.1)
    assert len(server.asked) == 2 and time.monotonic() - begin < 10


def test_a_server_that_gives_one_byte_a_connection_is_left_after_some(hostile, tmp_path):
    hostile.parts, hostile.length = [b"x"], 10**6
    fails(tmp_path, hostile.url, "without getting further", attempts=3)
    assert len(hostile.asked) == 3


def test_a_server_without_an_end_does_not_fill_the_disk(hostile, tmp_path):
    hostile.parts = itertools.repeat(bytes(1000))
    fails(tmp_path, hostile.url, "sends more than the 0.1 MB", "check the address", most=100_000)


def test_a_redirection_without_an_end_is_not_read(server, tmp_path, monkeypatch):
    sent = []

    def answer(handler):
        if handler.path == "/there":
            handler.send_response(200)
            handler.end_headers()
            handler.wfile.write(CONTENT)
            return
        handler.send_response(302)
        handler.send_header("Location", "/there")
        handler.end_headers()
        for _ in range(2000):  # 130 MB; in earnest for ever
            handler.wfile.write(bytes(1 << 16))
            sent.append(1)

    monkeypatch.setattr(server, "answer", answer, raising=False)
    path = download(server.url, tmp_path / "data.bin", md5(CONTENT), attempts=1)
    assert path.read_bytes() == CONTENT and len(sent) < 1000


def test_a_file_that_is_too_large_is_not_begun(hostile, tmp_path):
    hostile.parts, hostile.length = itertools.repeat(bytes(1000)), 10**12
    fails(tmp_path, hostile.url, "a file of 1000000 MB", "check the address", most=100_000)


def test_what_a_server_says_reaches_no_terminal(server, tmp_path):
    for status in (404, 503):  # the first is final, the second is tried again
        server.status, server.reason, said = [status] * 2, "\x1b[2Jgone", []
        with pytest.raises(DownloadError) as caught:
            download(server.url, tmp_path / "x", md5(CONTENT), attempts=2, show=said.append)
        for text in (str(caught.value), *said):
            assert "\x1b" not in text and "\\x1b[2Jgone" in text


def test_not_found(server, tmp_path):
    server.status = [404]
    fails(tmp_path, server.url, server.url, "404", "check the address")
    assert len(server.asked) == 1


def test_a_busy_server_is_asked_again(server, tmp_path):
    server.status = [503, 503]
    download(server.url, tmp_path / "data.bin", md5(CONTENT))
    server.status = [503] * 3
    (tmp_path / "data.bin").unlink()
    fails(tmp_path, server.url, "503", attempts=3)


def test_no_network(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    fails(tmp_path, f"http://127.0.0.1:{port}/data.bin", "cannot be reached", "network")


def test_not_an_address(tmp_path):
    fails(tmp_path, "data.bin", "is not an address")


def test_a_folder_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").write_text("a file stands where the folder should be")
    with pytest.raises(DownloadError) as caught:
        download(server.url, tmp_path / "file" / "data.bin", md5(CONTENT))
    assert_sentence(caught.value, "file/data.bin: cannot be written", "choose a folder")
    assert server.asked == []


def test_a_full_disk_is_not_taken_for_a_broken_connection(server, tmp_path, monkeypatch):
    class FullDisk(io.BytesIO):
        def write(self, _):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "open", lambda *_: FullDisk(), raising=False)
    fails(tmp_path, server.url, "the disk is full", "free some space")
    assert len(server.asked) == 1


def test_an_interrupt_leaves_nothing(server, tmp_path):
    def show(text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(server.url, tmp_path / "data.bin", md5(CONTENT), show=show)
    assert names(tmp_path) == []


def test_the_line_that_updates_only_in_a_terminal(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    download(server.url, tmp_path / "data.bin", md5(CONTENT))
    assert "MB of 1.0 MB  " in capsys.readouterr().out
    download(server.url, tmp_path / "again.bin", md5(CONTENT), show=lambda text: None)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False)
    download(server.url, tmp_path / "third.bin", md5(CONTENT))
    assert "\r" not in capsys.readouterr().out


# CIFAR


@pytest.fixture
def mirror(server, tmp_path, monkeypatch):
    """A mirror of a small CIFAR-10; `official` is the folder it was packed from."""
    official = write_cifar(tmp_path / "official", per_class=10)
    accept_checksums(monkeypatch, official)
    server.archive_md5 = write_archive(official, tmp_path / "archive.tar.gz")
    server.content = (tmp_path / "archive.tar.gz").read_bytes()
    server.official = official
    return server


def fetch(mirror, root):
    return fetch_cifar("cifar10", root, mirror.url, mirror.archive_md5, show=lambda text: None)


def same_files(folder, official):
    return {p.name: md5_of(p) for p in folder.iterdir()} == {
        p.name: md5_of(p) for p in official.iterdir()
    }


def fetch_fails(mirror, root, *words):
    with pytest.raises(DownloadError) as caught:
        fetch(mirror, root)
    assert_sentence(caught.value, *words)
    assert not root.is_dir() or names(root) == []


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_fetch_puts_the_official_layout_in_place(name, server, tmp_path, monkeypatch):
    official = write_cifar(tmp_path / "official", name, per_class=5)
    accept_checksums(monkeypatch, official, name)
    checksum = write_archive(official, tmp_path / "archive.tar.gz")
    server.content = (tmp_path / "archive.tar.gz").read_bytes()
    monkeypatch.setattr(module.CIFAR[name], "url", server.url)
    monkeypatch.setattr(module.CIFAR[name], "tgz_md5", checksum)
    for _ in range(2):  # the second time everything is there
        folder = fetch_cifar(name, tmp_path / "root")
    assert folder == tmp_path / "root" / official.name
    assert same_files(folder, official)
    assert names(tmp_path / "root") == [official.name]
    assert len(server.asked) == 1
    assert len(module.CIFAR[name](tmp_path / "root", train=True)) == 5 * (
        10 if name == "cifar10" else 100
    )


def test_fetch_repairs_a_damaged_folder(mirror, tmp_path):
    folder = fetch(mirror, tmp_path / "root")
    (folder / "data_batch_2").write_bytes(b"damaged")
    (folder / "test_batch").unlink()
    fetch(mirror, tmp_path / "root")
    assert same_files(folder, mirror.official)


def test_fetch_goes_on_after_a_broken_connection(mirror, tmp_path):
    mirror.break_after = [len(mirror.content) // 2]
    assert same_files(fetch(mirror, tmp_path / "root"), mirror.official)
    assert len(mirror.asked) == 2


def test_a_wrong_archive_leaves_nothing(mirror, tmp_path):
    mirror.content = mirror.content[:-1] + b"x"
    fetch_fails(mirror, tmp_path / "root", "not the expected file")


def test_an_archive_without_a_member(mirror, tmp_path):
    archive = tmp_path / "lacking.tar.gz"
    mirror.archive_md5 = write_archive(mirror.official, archive, skip="data_batch_3")
    mirror.content = archive.read_bytes()
    fetch_fails(mirror, tmp_path / "root", "data_batch_3 is absent or altered")


def test_an_archive_with_an_altered_member_is_never_unpickled(mirror, tmp_path):
    altered = tmp_path / "altered" / mirror.official.name
    shutil.copytree(mirror.official, altered)
    trap = tmp_path / "executed"
    (altered / "test_batch").write_bytes(pickle.dumps(Trap(trap)))
    archive = tmp_path / "altered.tar.gz"
    mirror.archive_md5 = write_archive(altered, archive)
    mirror.content = archive.read_bytes()
    fetch_fails(mirror, tmp_path / "root", "test_batch is absent or altered")
    assert not trap.exists()


class Trap:
    """Unpickling one makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_a_truncated_archive(mirror, tmp_path, keep):
    mirror.content = mirror.content[: int(keep * len(mirror.content))]
    mirror.archive_md5 = md5(mirror.content)  # as if the mirror itself held half a file
    fetch_fails(mirror, tmp_path / "root", "archive is damaged")


def test_something_else_than_an_archive(mirror, tmp_path):
    mirror.content = b"not an archive"
    mirror.archive_md5 = md5(mirror.content)
    fetch_fails(mirror, tmp_path / "root", "archive is damaged")


def test_only_the_official_files_are_taken(mirror, tmp_path):
    archive = tmp_path / "more.tar.gz"
    (mirror.official / "readme.html").write_text("more")
    mirror.archive_md5 = write_archive(mirror.official, archive)
    mirror.content = archive.read_bytes()
    folder = fetch(mirror, tmp_path / "root")
    assert "readme.html" not in names(folder) and len(names(folder)) == 7


def test_a_root_that_cannot_be_written(mirror, tmp_path):
    (tmp_path / "root").write_text("a file stands where the folder should be")
    fetch_fails(mirror, tmp_path / "root", "cannot be written", "choose a folder")
    assert mirror.asked == []


def test_a_file_in_the_place_of_the_data(mirror, tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / mirror.official.name).write_text("a file")
    with pytest.raises(DownloadError) as caught:
        fetch(mirror, tmp_path / "root")
    assert_sentence(caught.value, "cannot be written")
    assert names(tmp_path / "root") == [mirror.official.name]


def left_behind(mirror, root, content):
    """A folder as a process leaves it that was killed after it received `content`."""
    folder = root / ".cifar10-killed"
    folder.mkdir(parents=True)
    (folder / "lock").touch()
    (folder / module.CIFAR["cifar10"].filename).write_bytes(content)


def test_a_killed_download_is_gone_on_from_and_others_are_removed(mirror, tmp_path):
    whole = mirror.content
    left_behind(mirror, tmp_path / "data", whole[: len(whole) // 2])
    (tmp_path / "data" / ".cifar10-older").mkdir()
    (tmp_path / "data" / ".cifar10-older" / "lock").touch()
    fetch(mirror, tmp_path / "data")
    assert mirror.asked == [f"bytes={len(whole) // 2}-"]
    assert names(tmp_path / "data") == ["cifar-10-batches-py"]


@pytest.mark.parametrize("left", ["other", "whole", "too long"])
def test_whatever_a_killed_download_left_the_data_is_right(mirror, tmp_path, left):
    content = {"other": b"x" * 1000, "whole": mirror.content, "too long": mirror.content + b"x"}
    left_behind(mirror, tmp_path / "data", content[left])
    fetch(mirror, tmp_path / "data")
    assert len(mirror.asked) == {"other": 2, "whole": 0, "too long": 2}[left]
    assert names(tmp_path / "data") == ["cifar-10-batches-py"]


def test_eight_kills_leave_one_folder_and_the_next_download_none(mirror, tmp_path):
    root = tmp_path / "data"
    code = (
        "import sys, os\nfrom pathlib import Path\nfrom imbalkit.data.workplace import workplace\n"
        "root = Path(sys.argv[1])\n"
        "for _ in range(8):\n"
        "    if os.fork() == 0:\n"
        "        with workplace(root, '.cifar10-') as folder:\n"
        "            (folder / 'part').open('ab').write(b'x')\n"
        "            os.kill(os.getpid(), 9)\n"
        "    os.wait()\n"
    )
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    root.mkdir()
    subprocess.run([sys.executable, "-c", code, root], check=True, cwd=ROOT)
    (folder,) = root.iterdir()
    assert len((folder / "part").read_bytes()) == 8, "each went on from what the last one left"
    fetch(mirror, root)
    assert names(root) == ["cifar-10-batches-py"]


def test_a_folder_in_use_is_left_alone(mirror, tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    with workplace(root, ".cifar10-") as busy:
        (busy / "work").write_text("of another")
        fetch(mirror, root)
        assert (busy / "work").read_text() == "of another"
    assert names(root) == ["cifar-10-batches-py"]


def test_without_locks_no_folder_is_taken_over(mirror, tmp_path, monkeypatch):
    left_behind(mirror, tmp_path / "data", b"x")

    def no_locks(_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("imbalkit.data.workplace._is_ours", no_locks)
    fetch(mirror, tmp_path / "data")
    assert names(tmp_path / "data") == [".cifar10-killed", "cifar-10-batches-py"]


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_an_altered_archive_is_a_sentence_however_it_is_packed(mirror, tmp_path, kind):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=f"w:{kind}") as tar:
        tar.addfile(tarfile.TarInfo("cifar-10-batches-py"), io.BytesIO())
    for place in range(0, len(packed.getvalue()), 7):
        content = bytearray(packed.getvalue())
        content[place] ^= 255
        archive = tmp_path / "archive"
        archive.write_bytes(content)
        with pytest.raises(DownloadError, match="archive"):
            module._extract(archive, tmp_path / "fresh", {"test_batch": "0" * 32}, "url")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize("sent", ["SIGTERM", "SIGHUP"])
def test_a_shutdown_leaves_nothing(tmp_path, monkeypatch, capsys, sent):
    if signal.getsignal(getattr(signal, sent)) == signal.SIG_IGN:
        pytest.skip("whoever started the tests has this signal ignored, as nohup does")

    def fetch_until_ended(name, root, url):
        with workplace(tmp_path, ".cifar10-") as folder:
            (folder / "part").write_bytes(b"x")
            os.kill(os.getpid(), getattr(signal, sent))
            pytest.fail("it went on")

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("imbalkit.data.fetch_cifar", fetch_until_ended)
    assert command.main(["cifar10", "--root", str(tmp_path)]) == command.FAILED
    assert "interrupted" in capsys.readouterr().err and names(tmp_path) == []
    assert signal.getsignal(signal.SIGTERM) == before


def test_many_at_once_all_end_well(mirror, tmp_path):
    with ThreadPoolExecutor(6) as pool:
        folders = list(pool.map(lambda _: fetch(mirror, tmp_path / "root"), range(6)))
    assert len(set(folders)) == 1 and same_files(folders[0], mirror.official)
    assert names(tmp_path / "root") == [mirror.official.name]


@pytest.mark.notebooks  # slow: its processes import torch
def test_two_processes_at_once_both_end_well(server, tmp_path):
    """This process is one of them; it begins when the other one has imported what it needs."""
    wanted = server.url, str(tmp_path / "data.bin"), md5(CONTENT)
    program = (
        "from imbalkit.data.download import download; "
        f"print('ready', flush=True); download(*{wanted!r})"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "ready\n"
        download(*wanted, show=lambda text: None)
        other.communicate(timeout=110)
    assert other.returncode == 0
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert names(tmp_path) == ["data.bin"]


def test_an_unknown_name(tmp_path):
    with pytest.raises(ValueError, match=r"cifar11.*choose one of cifar10, cifar100"):
        fetch_cifar("cifar11", tmp_path)


def test_the_command_offers_what_can_be_fetched():
    assert tuple(module.CIFAR) == command.CIFAR
