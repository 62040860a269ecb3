"""A server is slow, lies about what it has, breaks off, or sends another file.

Lost: a wrong file, a part of one that stays, an error that is no sentence, a download that has not
ended after ten seconds.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
from test_download import CONTENT, serving

from imbalkit.data.download import DownloadError, download
from tests.chaos import check_left, check_sentence, refuse
from tests.helpers import md5_of

LONGEST = 10  # seconds
LIMITS = {"attempts": 3, "timeout": 0.2, "most": 2 * len(CONTENT)}


@dataclass
class Liar:
    """A server whose every answer is drawn."""

    random: Random
    answers: int = 0
    url: str = ""

    def answer(self, handler) -> None:
        """Answer one request."""
        random, whole = self.random, CONTENT
        self.answers += 1
        asked = handler.headers["Range"]
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        status = random.choice([200, 200, 206, 206, 301, 302, 304, 404, 416, 429, 500, 503, 999])
        handler.send_response(status, random.choice([None, "\x1b[2J", "é", "x" * 500]))
        body = random.choice([whole, whole[start:], whole[start:], whole[::-1], b"<html>", b""])
        for name, values in {
            "Content-Length": [None, None, str(len(body)), "0", "-1", "x", str(10**15), "1e3"],
            "Content-Range": [None, f"bytes {start}-{len(whole) - 1}/{len(whole)}", "bytes x", ""],
            "Location": [None, "/other", self.url, "file:///etc/passwd", "\x07", "ftp://x.invalid"],
            "Transfer-Encoding": [None, None, None, "chunked"],
            "Content-Encoding": [None, None, "gzip"],
        }.items():
            if (value := random.choice(values)) is not None:
                handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.flush()
        how = random.choice(["all", "all", "all", "break", "slow", "endless", "silence"])
        if how == "break":
            body = body[: random.randint(0, len(body))]
        if how == "slow":
            for byte in body[:20]:
                handler.wfile.write(bytes([byte]))
                time.sleep(0.05)
        if how == "silence":
            time.sleep(0.5)
        if how in ("all", "break"):
            handler.wfile.write(body)
        while how == "endless":
            handler.wfile.write(bytes(1 << 16))


def attack(random: Random, folder: Path) -> None:
    """Download one file."""
    source, target = folder / "source", folder / "target"
    source.write_bytes(CONTENT)
    checksum, said, begin = md5_of(source), [], time.monotonic()
    target.mkdir()
    with pytest.MonkeyPatch.context() as patch, serving(Liar(random)) as server:
        patch.setattr("imbalkit.data.download.PAUSE", 0)
        try:
            download(server.url, target / "data.bin", checksum, show=said.append, **LIMITS)
        except DownloadError as error:
            check_sentence(error)
            check_left(target)
        else:
            refuse(md5_of(target / "data.bin") == checksum, "another file was accepted")
            check_left(target, "data.bin")
        took = time.monotonic() - begin
    refuse(took < LONGEST, f"it took {took:.0f} s and {server.answers} answers")
    for line in said:
        check_sentence(ValueError(line))
