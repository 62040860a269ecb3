"""Text that others chose, made fit to be shown: names of files and classes, replies of servers.

A name may hold what a terminal obeys, what a browser runs, what a spreadsheet computes. Whatever
is written to one of them goes through a function of this module first.
"""

import html
import os
import re
import unicodedata

# Control characters, halves of characters, ends of lines, and what turns the direction of writing.
UNSEEN = ("Cc", "Cs", "Zl", "Zp")
TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
FORMULA = "=+-@\uff1d\uff0b\uff0d\uff20"  # a cell that begins so is computed; also in wide letters
NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")


def printable(text: object) -> str:
    r"""Text on one line, with each character that acts in place of being seen written as its bytes.

    Args:
        text: anything; what it prints as is taken.

    Returns:
        the text; a byte of what does not show is written as a backslash, an x and two digits.

    Example:
        >>> print(printable("cat\x1b[2J\n"))
        cat\x1b[2J\x0a
    """
    return "".join(_bytes_of(c) if _acts(c) else c for c in str(text))


def printable_lines(text: str) -> str:
    """The same for text of several lines, which stay lines.

    Example:
        >>> print(printable_lines("a table" + chr(10) + "of two lines" + chr(7)))
        a table
        of two lines\\x07
    """
    return "\n".join(map(printable, text.split("\n")))


def printable_name(name: str) -> str:
    r"""A file's name as text that can be printed on every system, and found again.

    As `printable`; a backslash is written as its byte too, so that `name_on_disk` can go back.

    Args:
        name: as Python has it; also one whose bytes are no UTF-8.

    Example:
        >>> print(printable_name("two\rlines.png"), printable_name("caf\udce9"))
        two\x0dlines.png caf\xe9
    """
    return "".join(_bytes_of(c) if _acts(c) or c == "\\" else c for c in name)


def name_on_disk(printed: str) -> str:
    r"""The name that `printable_name` printed: it opens the file.

    Args:
        printed: one name or a path with forward slashes, as the tables of imbalkit have it.

    Example:
        >>> name_on_disk(r"cat/two\x0dlines.png")
        'cat/two\rlines.png'
    """
    parts = re.split(r"\\x([0-9a-f]{2})", printed)
    parts[1::2] = [chr(int(x, 16)) for x in parts[1::2]]
    pieces = [
        piece.encode("latin-1") if i % 2 else os.fsencode(piece) for i, piece in enumerate(parts)
    ]
    return os.fsdecode(b"".join(pieces))


def html_text(text: object) -> str:
    """Text for a place in HTML where it is to be read and not obeyed.

    Example:
        >>> html_text("<svg onload=alert(1)>")
        '&lt;svg onload=alert(1)&gt;'
    """
    return html.escape(printable_lines(str(text)))


def csv_cell(text: str) -> str:
    """Text for a cell that no spreadsheet computes: an apostrophe comes before a formula.

    Args:
        text: what the cell shall hold. A number stays as it is.

    Example:
        >>> csv_cell("=1+1"), csv_cell("-1"), csv_cell("cat")
        ("'=1+1", '-1', 'cat')
    """
    text = printable(text)
    return f"'{text}" if text.startswith(tuple(FORMULA)) and not NUMBER.fullmatch(text) else text


def csv_path(path: str) -> str:
    """A relative path, printable, for a cell: "./" comes before what would be a formula.

    Example:
        >>> csv_path("=1+1.png"), csv_path("cat/1.png")
        ('./=1+1.png', 'cat/1.png')
    """
    return f"./{path}" if path.startswith(tuple(FORMULA)) else path


def _acts(character: str) -> bool:
    return character in TURNING or unicodedata.category(character) in UNSEEN


def _bytes_of(character: str) -> str:
    try:
        code = os.fsencode(character)
    except UnicodeEncodeError:  # half a character, which no name on this disk can hold
        code = character.encode("utf-8", "surrogatepass")
    return "".join(f"\\x{byte:02x}" for byte in code)


__all__ = [
    "csv_cell",
    "csv_path",
    "html_text",
    "name_on_disk",
    "printable",
    "printable_lines",
    "printable_name",
]
