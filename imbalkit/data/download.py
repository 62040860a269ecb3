"""Download over a network that may break, and never leave half a file behind."""

import http.client
import os
import queue
import shutil
import sys
import tarfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from imbalkit.data.workplace import workplace
from imbalkit.files import atomic_path
from imbalkit.optional import optional
from imbalkit.texts import printable

optional("torchvision", "data")  # or one sentence that names it

from torchvision.datasets import CIFAR10, CIFAR100  # noqa: E402
from torchvision.datasets.utils import check_integrity  # noqa: E402

CIFAR = {"cifar10": CIFAR10, "cifar100": CIFAR100}
CHUNK = 1 << 18  # bytes read at a time
PAUSE = 1.0  # seconds before the second attempt; twice that before the third, and so on
PATIENCE = 6  # times the timeout until an answer has begun; it bounds a single wait alone
SLOWEST = 1000  # bytes a second; a connection with less is as good as broken
FURTHER = 1 << 16  # bytes that an attempt must bring to count as one that got further
MOST_BYTES = 200_000_000  # more than any official archive, however it is packed


class DownloadError(RuntimeError):
    """A download that could not be completed; the message is one sentence that says what to do.

    What a server said is in it as text that no terminal obeys.

    Example:
        >>> raise DownloadError("the server answered \x1b[2J")
        Traceback (most recent call last):
        imbalkit.data.download.DownloadError: the server answered \\x1b[2J
    """

    def __init__(self, message: str):
        super().__init__(printable(message))


class _Broken(Exception):
    """The connection failed in a way that another attempt may cure."""

    def __init__(self, message: str):
        super().__init__(printable(message))


class _NothingBeyond(_Broken):
    """The server has no byte behind those that are here: they are not the beginning of its file."""


def download(
    url: str,
    destination: str | os.PathLike,
    md5: str,
    *,
    attempts: int = 3,
    timeout: float = 10,
    most: int | None = None,
    show: Callable[[str], object] = print,
) -> Path:
    """Download a file whose MD5 is known.

    After a broken connection the download goes on where it stopped, or from the start if the
    server cannot do that. `destination` holds the whole, checked file or is left as it was. A file
    that is already there with the right checksum is not fetched again.

    Args:
        url: where it lies.
        destination: the file to write.
        md5: its checksum, in hexadecimal.
        attempts: how many times in a row the connection may break without getting any further.
        timeout: seconds without a single byte after which a connection counts as broken; so does
            one that brings less than 1 kB a second over them.
        most: bytes; what is larger is not the file, and no more of it is received.
        show: receives the messages, a line each; with `print` in a terminal a progress line is
            added.

    Returns:
        the path of the file.

    Raises:
        DownloadError: in one sentence, what failed.

    Example:
        >>> download("nowhere", "file.zip", md5="0" * 32)
        Traceback (most recent call last):
        imbalkit.data.download.DownloadError: nowhere: is not an address ...
    """
    destination = Path(destination)
    begin = time.monotonic()
    try:
        if check_integrity(str(destination), md5):
            return destination
        with atomic_path(destination) as partial:
            _receive_all(url, partial, md5, attempts, timeout, most, show)
    except OSError as error:  # those of the network have become DownloadError by now
        raise _unwritable(destination, error) from error
    _show_done(destination, begin, show)
    return destination


def fetch_cifar(
    name: str,
    root: str | os.PathLike,
    url: str | None = None,
    md5: str | None = None,
    *,
    show: Callable[[str], object] = print,
) -> Path:
    """Put CIFAR in its official layout under the folder `root`.

    The address, the checksums and the layout are those that torchvision knows. Only the official
    files are taken out of the archive, each is checked, and nothing is unpickled. Files that are
    there already and whole are kept; damaged or absent ones are replaced. What a process left that
    was killed in its download is gone on from, or removed.

    Args:
        name: "cifar10" or "cifar100".
        root: the folder in which the data's own folder is to lie.
        url: another place for the archive (a classroom mirror).
        md5: another checksum for it.
        show: receives the messages, a line each.

    Returns:
        the data's own folder.

    Raises:
        DownloadError: in one sentence, what failed.
        ValueError: an unknown name.

    Example:
        >>> fetch_cifar("mnist", "data")
        Traceback (most recent call last):
        ValueError: there is no data set 'mnist'; choose one of cifar10, cifar100.
    """
    dataset = cifar_named(name)
    url = url or dataset.url
    target = Path(root) / dataset.base_folder
    files = official_files(name)
    try:
        if not damaged_files(target, files):
            return target
        Path(root).mkdir(parents=True, exist_ok=True)
        with workplace(Path(root), f".{name}-") as folder:
            archive, fresh = folder / dataset.filename, folder / dataset.base_folder
            _receive_archive(url, archive, md5 or dataset.tgz_md5, show)
            _extract(archive, fresh, files, url)
            _move_in_place(fresh, target, files)
    except OSError as error:
        raise _unwritable(target, error) from error
    return target


def copy_cifar(name: str, source: str | os.PathLike, root: str | os.PathLike) -> Path:
    """Like `fetch_cifar`, from a folder that has CIFAR in its official layout.

    Args:
        name: "cifar10" or "cifar100".
        source: the folder in which the data's own folder lies.
        root: the folder in which it is to lie.

    Returns:
        the data's own folder, under `root`.

    Raises:
        DownloadError: in one sentence, what failed.
        ValueError: an unknown name.

    Example:
        >>> copy_cifar("mnist", "usb stick", "data")
        Traceback (most recent call last):
        ValueError: there is no data set 'mnist'; choose one of cifar10, cifar100.
    """
    folder, files = cifar_named(name).base_folder, official_files(name)
    target = Path(root) / folder
    try:
        absent = damaged_files(target, files)
        if damaged := damaged_files(Path(source) / folder, {file: files[file] for file in absent}):
            raise DownloadError(
                f"{Path(source) / folder}: {', '.join(damaged)} is absent or altered; copy the "
                "official files there again."
            )
        for file in absent:
            with atomic_path(target / file) as partial:
                shutil.copyfile(Path(source) / folder / file, partial)
    except OSError as error:
        raise _unwritable(target, error) from error
    return target


def cifar_named(name: str) -> Any:
    """torchvision's class of a data set; raises ValueError for an unknown name."""
    if name not in CIFAR:
        raise ValueError(f"there is no data set {name!r}; choose one of {', '.join(CIFAR)}.")
    return CIFAR[name]


def official_files(name: str) -> dict[str, str]:
    """The files of CIFAR that torchvision reads.

    Args:
        name: "cifar10" or "cifar100".

    Returns:
        file name -> MD5.

    Raises:
        ValueError: an unknown name.

    Example:
        >>> sorted(official_files("cifar100"))
        ['meta', 'test', 'train']
    """
    dataset = cifar_named(name)
    return {
        **dict(dataset.train_list),
        **dict(dataset.test_list),
        dataset.meta["filename"]: dataset.meta["md5"],
    }


def _receive_archive(url: str, archive: Path, md5: str, show: Callable[[str], object]) -> None:
    """Like `download`, straight to the file, so that another process can go on from it."""
    if check_integrity(str(archive), md5):
        return
    begin = time.monotonic()
    _receive_all(url, archive, md5, 3, 10, MOST_BYTES, show)
    _show_done(archive, begin, show)


def _show_done(file: Path, begin: float, show: Callable[[str], object]) -> None:
    seconds = time.monotonic() - begin
    show(f"Downloaded {file.name}: {_megabytes(_size(file))} in {seconds:.0f} s.")


def _receive_all(
    url: str,
    partial: Path,
    md5: str,
    attempts: int,
    timeout: float,
    most: int | None,
    show: Callable[[str], object],
) -> None:
    """Write the whole of `url` to the file `partial`, in as many connections as it takes."""
    failures, furthest = 0, 0
    while True:
        try:
            resumed = _receive(url, partial, timeout, most, show)
            if check_integrity(str(partial), md5):
                return
            if not resumed:
                raise DownloadError(
                    f"{url}: what arrived is not the expected file (its MD5 is not {md5}); "
                    "check the address, and that no log-in page of the network answered instead."
                )
            partial.unlink()
            raise _Broken("the parts received do not make up the expected file")
        except _Broken as problem:
            if isinstance(problem, _NothingBeyond):
                partial.unlink(missing_ok=True)
            failures = 1 if _size(partial) >= furthest + FURTHER else failures + 1
            furthest = max(furthest, _size(partial))
            if failures >= attempts:
                raise DownloadError(
                    f"{url}: {problem} ({failures} attempts without getting further); "
                    "try again on a better connection or later."
                ) from problem
            show(f"{urlsplit(url).netloc}: {problem}; trying again.")
            time.sleep(PAUSE * failures)


def _receive(
    url: str, partial: Path, timeout: float, most: int | None, show: Callable[[str], object]
) -> bool:
    """Receive from one connection what `partial` still lacks; True if it held a part before."""
    have = _size(partial)
    with _connect(url, have, timeout) as response:
        resumed = response.status == 206  # 200: the server ignores Range and sends everything
        if not resumed:
            have = 0
        length = response.headers.get("Content-Length", "")
        total = have + int(length) if length.isdigit() else None
        of_total = f" of {_megabytes(total)}" if total else ""
        if most and (total or 0) > most:
            raise DownloadError(
                f"{url}: the server has a file of {_megabytes(total or 0)}, and the expected "
                f"one is smaller than {_megabytes(most)}; check the address."
            )
        if not resumed:
            name = urlsplit(url).path.rpartition("/")[2]
            show(f"Downloading {name}{of_total} from {urlsplit(url).netloc or url}.")
        with open(partial, "ab" if resumed else "wb") as file, _LiveLine(show) as live:
            for chunk in _chunks(response, timeout):
                file.write(chunk)
                have += len(chunk)
                if most and have > most:
                    raise DownloadError(
                        f"{url}: the server sends more than the {_megabytes(most)} that the "
                        "expected file can have; check the address."
                    )
                live(_megabytes(have) + of_total)
    if total and have < total:
        raise _Broken(f"the connection broke after {_megabytes(have)}{of_total}")
    return resumed


class _Redirections(urllib.request.HTTPRedirectHandler):
    """Go where the server says, without what it sends beside it: that may have no end."""

    def redirect_request(self, request: Any, response: Any, *rest: Any) -> Any:
        response.close()
        return super().redirect_request(request, response, *rest)


_OPENER = urllib.request.build_opener(_Redirections)


def _connect(url: str, have: int, timeout: float) -> Any:
    """Open `url` from byte `have` on, and sort the failures into final and curable ones."""
    headers = {"User-Agent": "imbalkit"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        request = urllib.request.Request(url, headers=headers)
        return _within(PATIENCE * timeout, lambda: _OPENER.open(request, timeout=timeout))
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and have:
            raise _NothingBeyond("what is here is not the beginning of its file") from error
        if error.code in (408, 429) or error.code >= 500:
            raise _Broken(f"the server answered {error.code} {error.reason}") from error
        raise DownloadError(
            f"{url}: the server answered {error.code} {error.reason}; check the address."
        ) from error
    except urllib.error.URLError as error:
        if have:  # the network was there a moment ago
            raise _Broken(f"the connection is lost ({error.reason})") from error
        raise DownloadError(
            f"{url}: cannot be reached ({error.reason}); check the address and the network."
        ) from error
    except (ValueError, http.client.InvalidURL) as error:
        raise DownloadError(f"{url}: is not an address ({error}); check its spelling.") from error
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(f"the server did not answer ({error})") from error


def _within(seconds: float, call: Callable[[], Any]) -> Any:
    """What `call` returns. A server may send its headers byte by byte, each of them in time."""
    answers: queue.SimpleQueue = queue.SimpleQueue()

    def work() -> None:
        try:
            answers.put((call(), None))
        except BaseException as error:
            answers.put((None, error))

    threading.Thread(target=work, daemon=True).start()
    try:
        answer, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"its headers took more than {seconds:.0f} s") from None
    if error is not None:
        raise error
    return answer


def _chunks(response: Any, timeout: float) -> Iterator[bytes]:
    """What arrives, as it arrives. Each stretch of `timeout` seconds must bring enough."""
    begin, received = time.monotonic(), 0
    try:
        while chunk := response.read1(CHUNK):
            yield chunk
            received += len(chunk)
            seconds = time.monotonic() - begin
            if seconds > timeout:
                if received < SLOWEST * seconds:
                    raise _Broken(f"only {received} bytes arrived in {seconds:.0f} s")
                begin, received = time.monotonic(), 0
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(f"the connection broke ({error})") from error


class _LiveLine:
    """A line that rewrites itself; silent unless the messages are printed in a terminal."""

    def __init__(self, show: Callable[[str], object]):
        self.on = show is print and sys.stdout.isatty()
        self.last = 0.0

    def __call__(self, text: str) -> None:
        if self.on and time.monotonic() - self.last > 0.2:
            self.last = time.monotonic()
            print(f"\r{text:<30}", end="", flush=True)

    def __enter__(self) -> "_LiveLine":
        return self

    def __exit__(self, *_: object) -> None:
        if self.on:
            print(f"\r{'':<30}\r", end="", flush=True)


def _extract(archive: Path, fresh: Path, files: dict[str, str], url: str) -> None:
    """Copy the official files, and no other member, from the archive to the new folder `fresh`."""
    shutil.rmtree(fresh, ignore_errors=True)  # of a process that was killed
    fresh.mkdir()
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                path = PurePosixPath(member.name)
                wanted = path.parent.name == fresh.name and path.name in files
                if member.isfile() and wanted and member.size <= MOST_BYTES:
                    source = tar.extractfile(member)
                    assert source is not None  # it is only for what is no file
                    with source, open(fresh / path.name, "wb") as file:
                        shutil.copyfileobj(source, file)
    except Exception as error:  # each way to pack has errors of its own for a damaged archive
        if isinstance(error, OSError) and error.errno:  # of the disk
            raise
        raise DownloadError(
            f"{url}: the archive is damaged or no archive at all; use the official one."
        ) from error
    if damaged := damaged_files(fresh, files):
        raise DownloadError(
            f"{url}: in the archive {', '.join(damaged)} is absent or altered; "
            "use the official one."
        )


def _move_in_place(fresh: Path, target: Path, files: dict[str, str]) -> None:
    try:
        fresh.rename(target)  # in one step, where nothing stands yet
    except OSError:  # a damaged folder, or the whole one of another process that was faster
        for file in damaged_files(target, files):
            os.replace(fresh / file, target / file)


def damaged_files(folder: Path, files: dict[str, str]) -> list[str]:
    """The files that are absent from a folder or have another checksum.

    Args:
        folder: where they should lie.
        files: file name -> MD5.

    Returns:
        their names.

    Example:
        >>> damaged_files(Path("no such folder"), official_files("cifar100"))
        ['train', 'test', 'meta']
    """
    return [file for file, md5 in files.items() if not check_integrity(str(folder / file), md5)]


def _unwritable(path: Path, error: OSError) -> DownloadError:
    return DownloadError(
        f"{path}: cannot be written ({error.strerror or error}); "
        "free some space or choose a folder that you may write to."
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB" if size >= 1e7 else f"{size / 1e6:.1f} MB"


__all__ = [
    "DownloadError",
    "copy_cifar",
    "damaged_files",
    "download",
    "fetch_cifar",
    "official_files",
]
