"""Tables as text: in Markdown for terminals and files, in HTML for notebooks."""

import html
import itertools
import textwrap
from collections.abc import Collection, Sequence

LEAST = 8  # characters of a column that is made narrower
GAP = "  "


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; a bar in a cell does not end it."""
    rows = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(heads, *rows, strict=True)]
    lines = [heads, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def markdown_within(
    width: int | None, heads: Sequence[str], rows: Sequence[Sequence[str]], keep: Collection[str], whole: str
) -> str:
    """``markdown`` for a terminal: what does not fit is left out from the right, and named below.

    Args:
        width: of the terminal; None: there is none, and nothing is left out.
        heads, rows: of the table.
        keep: heads of the columns that stay; the cells of the widest one are cut if they have to be.
        whole: where the whole table is.
    """
    columns = list(zip(heads, *rows, strict=True))
    left_out: list[str] = []

    def excess() -> int:
        return 0 if width is None else markdown(*_from_columns(columns)).index("\n") - width

    while excess() > 0 and (others := [column for column in columns if column[0] not in keep]):
        columns.remove(others[-1])
        left_out.insert(0, others[-1][0])
    if (over := excess()) > 0:
        widest = max(range(len(columns)), key=lambda n: max(map(len, columns[n])))
        room = max(max(map(len, columns[widest])) - over, LEAST)
        columns[widest] = tuple(cell if len(cell) <= room else f"{cell[: room - 3]}..." for cell in columns[widest])
    text = markdown(*_from_columns(columns))
    if width is None or not left_out:
        return text
    return f"{text}\n" + textwrap.fill(f"({whole} also has: {', '.join(left_out)})", width)


def _from_columns(columns: Sequence[Sequence[str]]) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """The heads and the rows."""
    heads, *rows = zip(*columns, strict=True)
    return heads, rows


def aligned(rows: Sequence[Sequence[str]], width: int | None = None) -> str:
    """A table in columns, as terminals show it; in one of this width long cells have several lines."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    while width is not None and sum(widths) + len(GAP) * (len(widths) - 1) > width and max(widths) > LEAST:
        widths[widths.index(max(widths))] -= 1
    lines: list[tuple[str, ...]] = []
    for row in rows:
        cells = [
            textwrap.wrap(cell, room, break_on_hyphens=False) if len(cell) > room else [cell]
            for cell, room in zip(row, widths, strict=True)
        ]
        lines += itertools.zip_longest(*cells, fillvalue="")
    return "\n".join(GAP.join(map(str.ljust, line, widths)).rstrip() for line in lines)


def as_html(heads: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> str:
    """A table in HTML, as notebooks show it."""

    def line(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    above = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    body = "".join(line("td", row) for row in rows)
    return f"<table>{above}<thead>{line('th', heads)}</thead><tbody>{body}</tbody></table>"
