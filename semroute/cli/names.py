"""Names in tables: where there is no room for one, it goes on in the next line, cut between its parts."""

from __future__ import annotations

import re

from rich.cells import cell_len, chop_cells
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.text import Text

_PARTS = re.compile(r"[^-_./: ]*[-_./: ]*")
_INDENT = 2


class Name:
    """A name such as ``high_school_microeconomics``; rich alone would cut it after any letter.

    Args:
        name: never read as markup.
        style: of rich.
    """

    def __init__(self, name: str, style: str = "cyan") -> None:
        self._name, self._style = name, style

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """As narrow as its longest part, as wide as the whole."""
        longest = max(map(cell_len, parts(self._name)), default=0)
        return Measurement(_INDENT + longest, cell_len(self._name)).with_maximum(options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The lines."""
        yield Text("\n".join(folded(self._name, options.max_width)), style=self._style, overflow="fold")


def parts(name: str) -> list[str]:
    """What a name is cut between: each part keeps the signs at its end."""
    return [part for part in _PARTS.findall(name) if part]


def folded(name: str, width: int) -> list[str]:
    """The lines of a name, each at most ``width`` cells; all but the first begin with two spaces.

    A part that is longer than a line is cut anywhere.
    """
    if cell_len(name) <= width or width <= _INDENT + 1:
        return chop_cells(name, max(1, width)) or [""]
    lines = [""]
    for part in parts(name):
        if lines[-1].strip() and cell_len(lines[-1] + part.rstrip()) > width:
            lines.append(" " * _INDENT)
        while cell_len(lines[-1] + part.rstrip()) > width:
            head = chop_cells(part, width - cell_len(lines[-1]))[0]
            lines[-1] += head
            part = part[len(head) :]
            lines.append(" " * _INDENT)
        lines[-1] += part
    return [line.rstrip() for line in lines]
