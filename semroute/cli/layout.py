"""Widths of a table's columns, and text wrapped to a width.

In a narrow terminal headers shrink first, then texts, then names at their parts; numbers never do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.cells import cell_len, chop_cells
from rich.text import Text

# Text wrapped to a width: between words, in names between their parts, and within a word only as a last resort.

INDENT = 2
"""Indent of a name's continuation lines, in cells."""
_IDEOGRAPHS = "\u2e80-\u303e\u3041-\ua4cf\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\U00020000-\U0003fffd"
"""Scripts that are written without spaces and may be broken after any character."""
_PARTS = re.compile(f"[{_IDEOGRAPHS}][-_./:,; 、。]*|[^-_./: {_IDEOGRAPHS}]*[-_./: ]*")
_WORDS = re.compile(r"\s+|\S+\s*")


def parts(name: str) -> list[str]:
    """Return the parts of a name; each keeps the separators at its end."""
    return [part for part in _PARTS.findall(name) if part]


def longest_part(text: str) -> int:
    """Return the cells of the widest part, without the spaces at its end."""
    return max((cell_len(part.rstrip()) for part in parts(text)), default=0)


def longest_word(text: str) -> int:
    """Return the cells of the widest word; ideographs are words of their own."""
    return max((longest_part(word) if _is_ideographic(word) else cell_len(word) for word in text.split()), default=0)


def folded(name: str, width: int) -> list[str]:
    """Wrap a name into lines of at most ``width`` cells.

    All lines but the first are indented. A part that is longer than a line is cut anywhere.
    """
    if cell_len(name) <= width or width <= INDENT + 1:
        return chop_cells(name, max(1, width)) or [""]
    lines = [""]
    for part in parts(name):
        if lines[-1].strip() and cell_len(lines[-1] + part.rstrip()) > width:
            lines.append(" " * INDENT)
        while cell_len(lines[-1] + part.rstrip()) > width:
            head = chop_cells(part, width - cell_len(lines[-1]))[0]
            lines[-1] += head
            part = part[len(head) :]
            lines.append(" " * INDENT)
        lines[-1] += part
    return [line.rstrip() for line in lines]


def wrapped(text: Text, width: int, *, whole_words: bool = False) -> list[Text]:
    """Wrap a text into lines of at most ``width`` cells, between words.

    A word longer than a line is cut, unless ``whole_words``.

    Args:
        text: of one line or several.
        width: cells.
        whole_words: whether a word that is longer than a line stays whole.
    """
    lines: list[Text] = []
    for paragraph in text.split("\n", allow_blank=True):
        for start, end in _spans(paragraph.plain, max(1, width), whole_words):
            line = paragraph[start:end]
            line.rstrip()
            lines.append(line)
    return lines or [Text()]


def excerpt(text: str, width: int) -> str:
    """Cut a line of text to ``width`` cells, between words, with ``...``."""
    if cell_len(text) <= width:
        return text
    quote = '"' if text.endswith('"') else ""
    mark = f" ...{quote}"
    starts = [end for _, end in _units(text, width)]
    kept = ""
    for end in starts:
        if cell_len(text[:end].rstrip() + mark) > width:
            break
        kept = text[:end].rstrip()
    if kept.strip('"'):
        return kept + mark
    return chop_cells(text, max(1, width - cell_len(mark)))[0] + mark.lstrip() if width > cell_len(mark) else ""


def _spans(text: str, width: int, whole_words: bool) -> Iterator[tuple[int, int]]:
    start = end = 0
    for _, until in _units(text, width, whole_words):
        if end > start and cell_len(text[start:until].rstrip()) > width:
            yield start, end
            start = end
        end = until
    yield start, end


def _units(text: str, width: int, whole_words: bool = False) -> Iterator[tuple[int, int]]:
    """Yield the ends of unbreakable units of a text.

    Units are words, parts of words that are longer than a line, and pieces of those.
    """
    place = 0
    for word in _WORDS.findall(text):
        pieces = [word]
        if _is_ideographic(word) or (cell_len(word.rstrip()) > width and not whole_words):
            pieces = parts(word)
        for piece in pieces:
            is_cut = cell_len(piece.rstrip()) > width and not whole_words
            for bit in chop_cells(piece, width) if is_cut else [piece]:
                yield place, place + len(bit)
                place += len(bit)


def _is_ideographic(word: str) -> bool:
    return re.search(f"[{_IDEOGRAPHS}]", word) is not None


Kind = Literal["name", "number", "words", "label", "excerpt"]
"""``name``: broken between its parts; ``number``: right-justified, broken between its numbers at most; ``words``:
broken between words; ``label``: never broken; ``excerpt``: the beginning of a text, in one line."""

GAP = 2
"""Gap between columns, in cells."""
UNBOUNDED = 100_000
"""Width of output that is no terminal: a row is a line there."""
READABLE = 24
"""Cells below which a text column is useless, unless the text is shorter."""
_SHORT = 16


@dataclass(frozen=True, slots=True)
class Column:
    """Column of a table.

    Attributes:
        header: name, with the unit of its figures.
        kind: how its cells shrink.
        style: rich style of its cells.
        most: maximum number of cells at a terminal.
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
        """Include a cell's lines in the extent."""
        for line in cell.split("\n"):
            self.natural = max(self.natural, cell_len(line))
        self.joined = max(self.joined, cell_len(cell.replace("\n", " ")))
        self.word = max(self.word, longest_word(cell))
        self.part = max(self.part, longest_part(cell))


@dataclass(frozen=True, slots=True)
class Layout:
    """Column widths of a table.

    Attributes:
        widths: cells of each column; 0 for one on a line of its own.
        below: index of the excerpt on a line of its own; None if it is an ordinary column.
    """

    widths: tuple[int, ...]
    below: int | None = None


def laid_out(columns: Sequence[Column], extents: Sequence[Extent], room: int) -> Layout | None:
    """Return widths that fit ``room``; None if no widths do."""
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
    # A width beyond the line is useless, and each removed cell costs a step.
    return min(widest, max(room, 1)) if column.kind in ("words", "excerpt") else widest


def _least(column: Column, extent: Extent, stage: int) -> int:
    """Return the minimum cells of a column at a stage of shrinking."""
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
