"""Widths of a table's columns: headers give way first, then texts, names at their parts, and numbers never."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.cells import cell_len

from semroute.cli.wrapping import INDENT, longest_part, longest_word

Kind = Literal["name", "number", "words", "label", "excerpt"]
"""``name``: broken between its parts; ``number``: right-justified, broken between its numbers at most; ``words``:
broken between words; ``label``: never broken; ``excerpt``: the beginning of a text, in one line."""

GAP = 2
"""Cells between columns."""
UNBOUNDED = 100_000
"""Width of what is no terminal: a row is a line there."""
READABLE = 24
"""Cells below which a text is not worth its column, unless it is shorter."""
_SHORT = 16


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        header: with the unit of its figures.
        kind: how its cells give way.
        style: of rich, for its cells.
        most: cells that it takes at most, at a terminal.
    """

    header: str
    kind: Kind = "number"
    style: str = ""
    most: int | None = None


@dataclass(slots=True)
class Extent:
    """Cells that a column needs, over all rows so far.

    Attributes:
        natural: of the longest line.
        joined: of the longest cell, in one line.
        word: of the longest word.
        part: of the longest part.
    """

    natural: int = 0
    joined: int = 0
    word: int = 0
    part: int = 0

    def include(self, cell: str) -> None:
        """Take a cell's lines into account."""
        for line in cell.split("\n"):
            self.natural = max(self.natural, cell_len(line))
        self.joined = max(self.joined, cell_len(cell.replace("\n", " ")))
        self.word = max(self.word, longest_word(cell))
        self.part = max(self.part, longest_part(cell))


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the cells of a row go.

    Attributes:
        widths: cells of each column; 0 for one that stands below.
        below: number of the excerpt that has a line of its own; None where it is a column like the others.
    """

    widths: tuple[int, ...]
    below: int | None = None


def laid_out(columns: Sequence[Column], extents: Sequence[Extent], room: int) -> Layout | None:
    """Return the widths that fit ``room``; None where no width of columns side by side does."""
    below = next((place for place, column in enumerate(columns) if column.kind == "excerpt"), None)
    widths = _narrowed(columns, extents, room, (0, 1))
    if widths is not None:
        return Layout(widths)
    if below is not None:
        others = [place for place in range(len(columns)) if place != below]
        found = _narrowed([columns[at] for at in others], [extents[at] for at in others], room, (0, 1, 2, 3))
        if found is None:
            return None
        by_place = dict(zip(others, found, strict=True))
        return Layout(tuple(by_place.get(place, 0) for place in range(len(columns))), below)
    widths = _narrowed(columns, extents, room, (0, 1, 2, 3))
    return None if widths is None else Layout(widths)


def _narrowed(
    columns: Sequence[Column], extents: Sequence[Extent], room: int, stages: Sequence[int]
) -> tuple[int, ...] | None:
    widths = [_widest(column, extent, room) for column, extent in zip(columns, extents, strict=True)]
    spare = room - GAP * (len(columns) - 1)
    for stage in stages:
        least = [_least(column, extent, stage) for column, extent in zip(columns, extents, strict=True)]
        while sum(widths) > spare:
            place = max(range(len(widths)), key=lambda at: (widths[at] > least[at], widths[at]))
            if widths[place] <= least[place]:
                break
            widths[place] -= 1
        if sum(widths) <= spare:
            return tuple(widths)
    return None


def _widest(column: Column, extent: Extent, room: int) -> int:
    widest = max(extent.natural if room < UNBOUNDED else extent.joined, cell_len(column.header))
    if column.most is not None and room < UNBOUNDED:
        widest = min(widest, max(column.most, longest_word(column.header)))
    # Wider than the line is no use, and each cell that is taken away costs a step.
    return min(widest, max(room, 1)) if column.kind in ("words", "excerpt") else widest


def _least(column: Column, extent: Extent, stage: int) -> int:
    """Return the least cells of a column; from stage to stage it gives way more."""
    header, natural = longest_word(column.header), extent.natural
    by_kind: dict[Kind, tuple[int, int, int, int]] = {
        "label": (natural, natural, natural, natural),
        "number": (natural, natural, natural, extent.word),
        "name": (natural, natural, min(natural, max(_SHORT, INDENT + extent.part)), min(natural, INDENT + extent.part)),
        "words": (
            natural,
            min(natural, max(READABLE, extent.word)),
            min(natural, max(_SHORT, extent.word)),
            min(natural, extent.part),
        ),
        "excerpt": (min(natural, READABLE),) * 4,
    }
    return max(header, by_kind[column.kind][stage])
