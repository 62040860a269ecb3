"""A small table as text and as HTML, without a library for it."""

from imbalkit.texts import html_text, printable


def text_table(rows: list[dict[str, str]]) -> str:
    """Columns as wide as they need to be, flush right.

    Args:
        rows: each the text of a cell by the name of its column. The first has every column; a cell
            that another lacks stays empty.

    Returns:
        A line of names and a line for each row; "" without rows.

    Example:
        >>> print(text_table([{"epoch": "1", "loss": "2.303"}, {"epoch": "10 *", "loss": "0.9"}]))
        epoch   loss
            1  2.303
         10 *    0.9
    """
    if not rows:
        return ""
    lines = _lines(rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )


def html_table(rows: list[dict[str, str]]) -> str:
    """The same as an HTML table, for a notebook.

    Example:
        >>> html_table([{"epoch": "1"}])
        '<table><thead><tr><th>epoch</th></tr></thead><tbody><tr><td>1</td></tr></tbody></table>'
    """
    if not rows:
        return ""
    names, *lines = _lines(rows)
    head = "".join(f"<th>{html_text(name)}</th>" for name in names)
    body = "".join(
        f"<tr>{''.join(f'<td>{html_text(cell)}</td>' for cell in line)}</tr>" for line in lines
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _lines(rows: list[dict[str, str]]) -> list[list[str]]:
    """The names of the columns, and the cells of each row."""
    names = list(rows[0])
    return [
        [printable(cell) for cell in line]
        for line in (names, *([row.get(name, "") for name in names] for row in rows))
    ]


__all__ = ["html_table", "text_table"]
