"""One category file, in any of its formats."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

from semroute.categories.jsonl import json_rows
from semroute.categories.lines import Lines, file_lines
from semroute.categories.notes import Notes
from semroute.categories.parts import CategoryFile, Example
from semroute.categories.rfc4180 import csv_rows
from semroute.categories.rows import query_text, usable
from semroute.categories.yaml_file import read_yaml
from semroute.categories.yaml_nodes import MOST_BYTES

Reader: TypeAlias = Callable[[Lines, Notes], CategoryFile]


def read_category_file(path: Path, notes: Notes) -> CategoryFile:
    """Read a file by its extension, a key of :data:`READERS`; what cannot be used is noted as a problem."""
    content = READERS[path.suffix.lower()](file_lines(path, notes.problem), notes)
    if not content.examples and not notes.problems:
        notes.problem("a category needs examples, and here are none; add some, at least five, or remove the file")
    return content


def _yaml(lines: Lines, notes: Notes) -> CategoryFile:
    parts, length = [], 0
    for _, text in lines:
        parts.append(text)
        length += len(text)
        if length > MOST_BYTES:  # what is read so far is refused for its length
            break
    return CategoryFile() if notes.problems else read_yaml("".join(parts), notes)


def _text(lines: Lines, notes: Notes) -> CategoryFile:
    written = ((number, text) for number, text in lines if text.strip())
    found = ((number, usable(text, "the example", number, notes.problem)) for number, text in written)
    return CategoryFile(tuple(Example(text, number) for number, text in found if text is not None))


def _jsonl(lines: Lines, notes: Notes) -> CategoryFile:
    return _examples(json_rows(lines, notes.problem), notes)


def _csv(lines: Lines, notes: Notes) -> CategoryFile:
    return _examples(csv_rows(lines, notes.problem, required=("query",)), notes)


def _examples(rows: Iterable[tuple[int, Mapping[str, object]]], notes: Notes) -> CategoryFile:
    found = ((number, query_text(row, number, notes.problem)) for number, row in rows)
    return CategoryFile(tuple(Example(text, number) for number, text in found if text is not None))


READERS: Mapping[str, Reader] = MappingProxyType(
    {".yaml": _yaml, ".yml": _yaml, ".txt": _text, ".jsonl": _jsonl, ".csv": _csv}
)
"""The category formats by lower-case extension."""
