"""Read plain text: fastText, Markdown, and an example a line."""

from __future__ import annotations

import re
from collections.abc import Sequence

from semroute.categories.importing.opening import ImportSource
from semroute.categories.importing.records import ImportedRecord, ImportNotes, Records
from semroute.categories.importing.shapes import without_entities
from semroute.categories.importing.tables import Table

_PREFIX = "__label__"
_HEADING = re.compile(r"(#{1,6})\s+(.*?)\s*#*$")
_ITEM = re.compile(r"(\s*)(?:[-*+\u2022]|\d{1,6}[.)])\s+(?:\[[ xX]\]\s+)?(.*)")
_BOLD = re.compile(r"\*\*(.+?):?\*\*:?|([^.!?]{1,80}):")
_RASA_HEADING = re.compile(r"(intent|synonym|lookup|regex)\s*:\s*(.*)")
_RULE = re.compile(r"[|:\- ]+")
_CELL = re.compile(r"(?<!\\)\|")
_WRAPPED = re.compile(r'(["`\u201c\u201e\u00ab])(.+)(["`\u201d\u201c\u00bb])')


def is_fasttext(lines: Sequence[str]) -> bool:
    """Return whether most lines have a label in fastText's format."""
    written = [line for line in lines if line.strip()]
    return bool(written) and sum(_PREFIX in line for line in written) * 2 > len(written)


def fasttext_records(source: ImportSource, notes: ImportNotes) -> tuple[list[ImportedRecord], list[list[str]]]:
    """Read texts and their labels, from the start or the end of each line.

    (https://fasttext.cc/docs/en/supervised-tutorial.html)
    """
    records, labels = [], []
    for number, line in source.lines():
        words = line.split()
        if not words:
            continue
        first, last = 0, len(words)
        while first < last and words[first].startswith(_PREFIX):
            first += 1
        while last > first and words[last - 1].startswith(_PREFIX):
            last -= 1
        found = [word.removeprefix(_PREFIX).rstrip(",") for word in (*words[:first], *words[last:])]
        if not found:
            notes.skip(source.path, "a line without __label__", number)
            continue
        records.append(ImportedRecord(" ".join(words[first:last]), None, number))
        labels.append(found)
    return records, labels


def is_markdown(lines: Sequence[str]) -> bool:
    """Return whether text is a list throughout, or has items under headings."""
    written = [line for line in lines if line.strip()]
    items = sum(_ITEM.fullmatch(line.rstrip()) is not None for line in written)
    headings = sum(_HEADING.fullmatch(line.strip()) is not None for line in written)
    return items > 0 and (headings > 0 or items == len(written))


def markdown_records(source: ImportSource, notes: ImportNotes) -> Records:
    """Yield the items of lists with their category.

    It is the heading, a line that ends in a colon, or the item above deeper ones.
    """
    lines = [(number, line.rstrip()) for number, line in source.lines()]
    label: str | None = None
    taken = True
    has_headings = any(_HEADING.fullmatch(line.strip()) for _, line in lines)
    pending: list[tuple[int, str, int]] = []
    is_fenced = False
    for number, line in lines:
        if line.strip().startswith(("```", "~~~")):
            is_fenced = not is_fenced
        text = line.strip()
        item = None if is_fenced else _ITEM.fullmatch(line)
        heading = None if is_fenced else _HEADING.fullmatch(text)
        # Under headings a line such as "Examples:" introduces the list; without any it is the heading.
        bold = None if heading or item or has_headings or is_fenced else _BOLD.fullmatch(text)
        title = heading[2] if heading is not None else (bold[1] or bold[2]) if bold is not None else None
        if title is not None:
            yield from _flushed(pending, label if taken else None)
            label, taken = _label(title, notes, source, number)
        elif item is not None and taken:
            pending.append((len(item[1].expandtabs(4)), _plain(item[2]), number))
        elif item is None and text and not text.startswith("<!--"):
            notes.skip(source.path, "a line that is no item of a list", number)
    yield from _flushed(pending, label if taken else None)


def _flushed(items: list[tuple[int, str, int]], label: str | None) -> Records:
    """Yield the items since the last heading.

    Without a heading, an item above deeper ones names their category.
    """
    found = list(items)
    items.clear()
    if label is None and len({depth for depth, _, _ in found}) > 1:
        least = min(depth for depth, _, _ in found)
        name: str | None = None
        for depth, text, line in found:
            if depth == least:
                name = text.rstrip(":")
            else:
                yield ImportedRecord(text, name, line)
        return
    for _, text, line in found:
        yield ImportedRecord(text, label, line)


def _label(heading: str, notes: ImportNotes, source: ImportSource, line: int) -> tuple[str | None, bool]:
    """Return a heading's category, and whether its items are texts.

    Rasa's lists of words are none.
    """
    rasa = _RASA_HEADING.fullmatch(heading.strip())
    if rasa is None:
        return _plain(heading), True
    if rasa[1] == "intent":
        return rasa[2].strip(), True
    notes.skip(source.path, f"a {rasa[1]} of Rasa's, which is no category", line)
    return None, False


def _plain(text: str) -> str:
    """Strip Markdown's marks and quotation from an item or heading."""
    text = without_entities(text.strip())
    for mark in ("**", "`"):
        if len(text) > 2 * len(mark) and text.startswith(mark) and text.endswith(mark):
            text = text[len(mark) : -len(mark)]
    wrapped = _WRAPPED.fullmatch(text)
    return wrapped[2].strip() if wrapped is not None and wrapped[1] not in wrapped[2] else text


def markdown_table(source: ImportSource) -> Table | None:
    """Open a table of Markdown, if there is one.

    (https://github.github.com/gfm/#tables-extension-)
    """
    found: list[tuple[int, list[str]]] = []
    for number, line in source.lines():
        text = line.strip()
        if text.startswith("|") and not _RULE.fullmatch(text):
            cells = _CELL.split(text.strip("|"))
            found.append((number, [_plain(cell.replace("\\|", "|")) for cell in cells]))
    if len(found) < 2 or len({len(cells) for _, cells in found}) != 1 or len(found[0][1]) < 2:
        return None
    (_, header), *rows = found
    if len(set(header)) < len(header):
        return None
    return Table(header, lambda skip: ((number, dict(zip(header, cells, strict=True))) for number, cells in rows))


def line_records(source: ImportSource) -> Records:
    """Yield every line that is not blank."""
    return (ImportedRecord(text.strip(), None, number) for number, text in source.lines() if text.strip())
