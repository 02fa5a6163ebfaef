"""Text in so many cells: broken between words, names between their parts, and anywhere only where neither is left."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rich.cells import cell_len, chop_cells
from rich.text import Text

INDENT = 2
"""Cells before what goes on of a name."""
_IDEOGRAPHS = "\u2e80-\u303e\u3041-\ua4cf\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\U00020000-\U0003fffd"
"""Scripts that are written without spaces and may be broken after any character."""
_PARTS = re.compile(f"[{_IDEOGRAPHS}][-_./:,; 、。]*|[^-_./: {_IDEOGRAPHS}]*[-_./: ]*")
_WORDS = re.compile(r"\s+|\S+\s*")


def parts(name: str) -> list[str]:
    """Return the parts that a name may be broken between; each keeps the separators at its end."""
    return [part for part in _PARTS.findall(name) if part]


def longest_part(text: str) -> int:
    """Return the cells of the widest part, without the spaces at its end."""
    return max((cell_len(part.rstrip()) for part in parts(text)), default=0)


def longest_word(text: str) -> int:
    """Return the cells of the widest word; ideographs are words of their own."""
    return max((longest_part(word) if _is_ideographic(word) else cell_len(word) for word in text.split()), default=0)


def folded(name: str, width: int) -> list[str]:
    """Return the lines of a name, each at most ``width`` cells; all but the first are indented.

    A part that is longer than a line is cut anywhere.
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
    """Return the lines of a text, each at most ``width`` cells, broken between words where words fit a line.

    Args:
        text: of one line or several.
        width: cells.
        whole_words: whether a word that is longer than a line stays whole all the same.
    """
    lines: list[Text] = []
    for paragraph in text.split("\n", allow_blank=True):
        for start, end in _spans(paragraph.plain, max(1, width), whole_words):
            line = paragraph[start:end]
            line.rstrip()
            lines.append(line)
    return lines or [Text()]


def excerpt(text: str, width: int) -> str:
    """Return the beginning of a line of text in at most ``width`` cells, cut between words and marked by ``...``."""
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
    """Yield the ends between which a line may be broken: words, parts of words that are longer, pieces of those."""
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
