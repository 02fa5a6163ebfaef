"""Tables and numbers in the common format of all commands.

At a terminal a table keeps to its width: nothing is cut but an excerpt, which ends between words. Elsewhere a row is
one line of any length, so that a program reads one record per line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeGuard

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.text import Text

from semroute.cli.console import print_line, print_words, stdout, visible
from semroute.cli.layout import (
    GAP,
    READABLE,
    UNBOUNDED,
    Column,
    Extent,
    Kind,
    Layout,
    excerpt,
    folded,
    laid_out,
    wrapped,
)
from semroute.data.examples import shortened

if TYPE_CHECKING:
    from semroute.index import Manifest


SOURCES = {"file": "category file", "out-of-scope": "out-of-scope queries", "in-scope": "held-out examples"}
"""Meaning of ``threshold_from``, for people."""

Cell = str | Text
MOST_SHOWN, MOST_PIPED = 200, 60
"""Characters of a text in a row, at a terminal and elsewhere."""


def percent(share: object) -> str:
    """Return a share as ``97.2%``; a dash for None or NaN."""
    return f"{share:.1%}" if _is_number(share) else "-"


def number(value: object, digits: int = 3) -> str:
    """Return a number with so many decimals; a dash for None or NaN."""
    return f"{value:.{digits}f}" if _is_number(value) else "-"


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and value == value


def size(count: int) -> str:
    """Return bytes for people, such as ``23.4 MB``; decimal units."""
    amount, unit = float(count), "B"
    for larger in ("kB", "MB", "GB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"


class DataTable:
    """Table without a frame.

    Args:
        columns: from left to right.
        caption: line below the table.
        has_header: whether the names of columns are shown.
        narrow: alternative shown if the columns do not fit side by side; None shows a block for each row.
    """

    def __init__(
        self, *columns: Column, caption: str = "", has_header: bool = True, narrow: RenderableType | None = None
    ) -> None:
        self.columns = list(columns)
        self.caption = caption
        self._has_header = has_header
        self._narrow = narrow
        self._rows: list[list[Text]] = []
        self._extents = [Extent() for _ in columns]

    def add_column(self, header: str, kind: Kind = "words", style: str = "") -> None:
        """Add a column on the right, before any row."""
        self.columns.append(Column(header, kind, style))
        self._extents.append(Extent())

    def add_row(self, *cells: Cell, style: str | None = None) -> None:
        """Add a row; omitted cells at its end are empty."""
        self._rows.append(self.prepared(cells, style or ""))

    def prepared(self, cells: Sequence[Cell], style: str = "") -> list[Text]:
        """Return formatted cells, and include them in the columns' extents."""
        row = []
        for place, column in enumerate(self.columns):
            text = _text(cells[place] if place < len(cells) else "", style or column.style)
            self._extents[place].include(text.plain)
            row.append(text)
        return row

    def layout(self, room: int) -> Layout | None:
        """Return column widths for a line; None if they do not fit."""
        columns = self.columns if self._has_header else [Column("", c.kind, c.style, c.most) for c in self.columns]
        return laid_out(columns, self._extents, room)

    def header(self, layout: Layout) -> Iterator[Text]:
        """Yield the lines of the header."""
        names = [Text(column.header, style="bold") for column in self.columns]
        columns = [Column("", "number" if column.kind == "number" else "words") for column in self.columns]
        yield from _lines(columns, names, layout, from_below=True)

    def lines(self, row: Sequence[Text], layout: Layout) -> Iterator[Text]:
        """Yield the lines of a row."""
        yield from _lines(self.columns, row, layout)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """Return the width for panels and the like, limited to the line."""
        layout = self.layout(options.max_width)
        if layout is None or layout.below is not None:
            return Measurement(options.max_width, options.max_width)
        width = sum(layout.widths) + GAP * (len(layout.widths) - 1)
        return Measurement(width, width).with_maximum(options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render header, rows and caption."""
        layout = self.layout(options.max_width)
        if layout is None and self._narrow is not None:
            yield self._narrow
            return
        if layout is None:
            yield from self._blocks(options.max_width)
        else:
            if self._has_header:
                yield from self.header(layout)
            for row in self._rows:
                yield from self.lines(_joined(row, options.max_width), layout)
        if self.caption:
            yield from wrapped(Text(visible(self.caption), style="dim italic"), options.max_width)

    def _blocks(self, room: int) -> Iterator[Text]:
        """Yield a block of lines for each row, a cell after the other."""
        for place, row in enumerate(self._rows):
            if place and len(self.columns) > 1:
                yield Text()
            for column, cell in zip(self.columns, row, strict=True):
                if not cell.plain:
                    continue
                label = Text(f"{column.header}: " if self._has_header and column.header else "", style="dim")
                yield from _indented(wrapped(label + cell, max(room - GAP, 1)))


def _text(cell: Cell, style: str) -> Text:
    text = cell.copy() if isinstance(cell, Text) else Text(cell)
    shown = visible(text.plain).replace("\t", " ")
    if shown != text.plain:
        text = Text(shown, style=text.style)
    if style:
        text.stylize_before(style)
    return text


def _joined(row: list[Text], room: int) -> list[Text]:
    """Return the row with multi-line cells joined, where a row is a line."""
    if room < UNBOUNDED:
        return row
    return [Text(" ").join(cell.split("\n")) if "\n" in cell.plain else cell for cell in row]


def _indented(lines: Sequence[Text]) -> Iterator[Text]:
    for place, line in enumerate(lines):
        yield Text(" " * GAP).append_text(line) if place else line


def _lines(
    columns: Sequence[Column], row: Sequence[Text], layout: Layout, *, from_below: bool = False
) -> Iterator[Text]:
    """Yield the lines of a row, without trailing spaces."""
    shown = [place for place in range(len(columns)) if place != layout.below]
    cells = [_cell_lines(columns[place], row[place], layout.widths[place]) for place in shown]
    height = max(map(len, cells), default=0)
    for at in range(height):
        line = Text(no_wrap=True, overflow="ignore")
        for place, lines in zip(shown, cells, strict=True):
            found = at - (height - len(lines)) if from_below else at
            cell = lines[found] if 0 <= found < len(lines) else Text()
            spare = max(layout.widths[place] - cell.cell_len, 0)
            if place != shown[0]:
                line.append(" " * GAP)
            if columns[place].kind == "number":
                line.append(" " * spare).append_text(cell)
            else:
                line.append_text(cell).append(" " * spare)
        line.rstrip()
        yield line
    if layout.below is not None and row[layout.below].plain:
        width = sum(layout.widths) + GAP * (len(shown) - 1)
        cell = row[layout.below]
        short = excerpt(cell.plain, max(width - GAP, 1))
        yield Text(" " * GAP, no_wrap=True, overflow="ignore").append(short, style=cell.style)


def _cell_lines(column: Column, cell: Text, width: int) -> list[Text]:
    if column.kind == "excerpt":
        return [Text(excerpt(cell.plain, width), style=cell.style)]
    if cell_len(cell.plain) <= width and "\n" not in cell.plain:
        return [cell]
    if column.kind == "name":
        return [Text(line, style=_style_of(cell)) for line in folded(cell.plain, width)]
    return wrapped(cell, width)


def _style_of(cell: Text) -> str:
    """Return the style of a whole name."""
    own = [span.style for span in cell.spans if span.start == 0 and span.end == len(cell)]
    return " ".join(str(style) for style in (*own, cell.style) if style)


class RowPrinter:
    """Printer of rows as they arrive.

    At a terminal a header stands above them; elsewhere each is a line, without a header.

    Args:
        columns: from left to right.
        likely: for each column, expected cells: room is reserved for them.
    """

    def __init__(self, *columns: Column, likely: Sequence[Iterable[Cell]] = ()) -> None:
        self._console = stdout()
        self._is_terminal = self._console.is_terminal
        self._table = DataTable(*(columns if self._is_terminal else (replace(one, header="") for one in columns)))
        self._room = self._console.width if self._is_terminal else UNBOUNDED
        self._layout: Layout | None = None
        for place, cells in enumerate(likely):
            for cell in cells:
                self._table.prepared([*[""] * place, cell])
        for place, column in enumerate(columns):
            if column.kind == "excerpt":  # else the first long one would move it to another line
                self._table.prepared([*[""] * place, "-" * READABLE])
        self._is_headed = False

    def excerpt(self, text: str) -> str:
        """Return the start of a text in quotes.

        Its length depends on the room at a terminal; elsewhere it is constant.
        """
        return shortened(text, MOST_SHOWN if self._is_terminal else MOST_PIPED)

    def print_all(self, rows: Sequence[Sequence[Cell]]) -> None:
        """Print rows that are all available: columns fit the widest cell."""
        for prepared in [self._table.prepared(row) for row in rows]:
            self._print(prepared)

    def print(self, *cells: Cell) -> None:
        """Print a row; columns grow if it needs more room."""
        self._print(self._table.prepared(cells))

    def print_words(self, first: Cell, words: str) -> None:
        """Print a row with words in place of its figures."""
        row = self._table.prepared([first])
        layout = self._table.layout(self._room)
        width = layout.widths[0] if layout is not None else row[0].cell_len
        label = Text(" " * max(width - row[0].cell_len, 0) + " " * GAP)
        print_words(self._console, row[0] + label + words, indent=GAP)

    def _print(self, row: list[Text]) -> None:
        layout = self._table.layout(self._room)
        if layout is None:  # a very narrow terminal
            single = DataTable(*self._table.columns)
            single.add_row(*row)
            if self._is_headed:
                self._console.print()
            self._is_headed = True
            self._console.print(single)
            return
        if self._is_terminal and not self._is_headed:
            self._send(self._table.header(layout))
        self._is_headed = True
        self._send(self._table.lines(_joined(row, self._room), layout))

    def _send(self, lines: Iterable[Text]) -> None:
        for line in lines:
            if self._is_terminal:
                self._console.print(line, soft_wrap=True)
            else:  # there may be a million lines, and they have no styles
                print_line(line.plain)


def plain_table(*numeric: str, first: str = "category") -> DataTable:
    """Return a table of a column of names, then columns of numbers."""
    return DataTable(Column(first, "name"), *(Column(name) for name in numeric))


def figures(**rows: str) -> DataTable:
    """Return a table of name and value; underscores are shown as spaces."""
    table = DataTable(Column("", "name", "dim"), Column("", "words"), has_header=False)
    for name, value in rows.items():
        table.add_row(name.replace("_", " "), value)
    return table


def category_table(manifest: Manifest) -> DataTable:
    """Return a table of an artifact's categories."""
    table = plain_table("examples", "prototypes", "threshold")
    table.add_column("from", style="dim")
    table.add_column("models")
    for name, entry in manifest.categories.items():
        table.add_row(
            Text(name, style="cyan"),
            f"{entry.examples:,}",
            f"{entry.prototypes:,}",
            number(entry.threshold),
            SOURCES.get(entry.threshold_from, entry.threshold_from),
            Text(", ".join(entry.models)) if entry.models else Text("the fallback's", style="dim"),
        )
    return table
