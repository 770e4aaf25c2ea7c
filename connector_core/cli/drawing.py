"""Tables and lines for people: drawn on a terminal, plain and aligned elsewhere, where logs and other programs read them."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import TextIO

_COLOUR = r"(?P<colour>\x1b\[[0-9;:]*m)"
_OTHERS = r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\].*?(?:\x07|\x1b\\)|\x1b.?|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
CONTROLS = re.compile(f"{_COLOUR}|{_OTHERS}", re.DOTALL)
"""Control characters and sequences, but for tabs and the ends of lines; colours are a group of their own."""

NARROW = 110
"""Columns of a terminal below which a table leaves out what it can do without."""


def harmless(text: str) -> str:
    """Return a text without control characters, which a terminal would obey."""
    return CONTROLS.sub("", "\n".join(text.splitlines()).expandtabs())


def print_table(
    out: TextIO,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    styles: Mapping[str, str] | None = None,
    unbroken: Collection[str] = (),
    spare: Collection[str] = (),
) -> None:
    """Print a table; a cell with several lines goes on below itself.

    Args:
        out: where to print.
        headings: the columns' headings.
        rows: the cells of each row.
        styles: how a terminal shows cells with these texts.
        unbroken: the headings of columns that a terminal does not break into lines.
        spare: the headings of columns that are left out on a narrow terminal.
    """
    cells = [[harmless(cell) for cell in row] for row in rows]
    if out.isatty():
        _draw(out, headings, cells, styles or {}, unbroken, spare)
    else:
        _align(out, [headings, *cells])


def print_line(out: TextIO, text: str, style: str = "") -> None:
    """Print a line, which is in this style on a terminal."""
    if out.isatty() and style:
        from rich.console import Console

        Console(file=out, highlight=False).print(harmless(text), style=style, markup=False, soft_wrap=True)
    else:
        print(harmless(text), file=out)


def _draw(
    out: TextIO,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    styles: Mapping[str, str],
    unbroken: Collection[str],
    spare: Collection[str],
) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=out, highlight=False)
    shown = [number for number, name in enumerate(headings) if console.width >= NARROW or name not in spare]
    table = Table(box=box.SIMPLE_HEAD)
    for number in shown:
        name = headings[number]
        table.add_column(Text(harmless(name)), overflow="fold", no_wrap=name in unbroken)
    for row in rows:
        table.add_row(*(Text(row[number], styles.get(row[number], ""), overflow="fold") for number in shown))
    console.print(table)


def _align(out: TextIO, rows: Sequence[Sequence[str]]) -> None:
    cells = [[cell.split("\n") for cell in row] for row in rows]
    widths = [max((len(line) for row in cells for line in row[column]), default=0) for column in range(len(rows[0]))]
    for row in cells:
        for number in range(max(map(len, row), default=0)):
            parts = [lines[number] if number < len(lines) else "" for lines in row]
            print("  ".join(part.ljust(width) for part, width in zip(parts, widths, strict=True)).rstrip(), file=out)
