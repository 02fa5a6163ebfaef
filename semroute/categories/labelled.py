"""Labelled files: queries with the category where each belongs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

from semroute.categories.jsonl import json_rows
from semroute.categories.lines import file_lines
from semroute.categories.model import LabelledQuery
from semroute.categories.notes import Notes, Report, combined
from semroute.categories.parquet import parquet_rows
from semroute.categories.rfc4180 import csv_rows
from semroute.categories.rows import kind, query_text
from semroute.errors import DataError

_COLUMNS = ("query", "category")

_Rows: TypeAlias = Iterator[tuple[int, dict[str, object]]]


def read_labelled(path: Path | str) -> list[LabelledQuery]:
    """Read a labelled file: ``.jsonl``, ``.csv`` or ``.parquet`` with ``query`` and ``category`` in each row.

    A category that is null, empty or, in a JSONL row, absent is out of scope: None. Other columns are ignored.
    Whitespace around a query or a category is dropped. Parquet needs the extra "parquet".

    Raises:
        DataError: the file cannot be used. The message has one line for each problem, with the line (of Parquet the
            1-based row) and the fix; ``line`` is that of the first.
        MissingExtraError: a Parquet file, and the extra is not installed.
    """
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"a labelled file is one of {', '.join(_READERS)}; convert it and name it so", path=path)
    notes = Notes(path)
    # Only Parquet has rows without lines; there the message names the row.
    report = _by_row(notes) if reader is parquet_rows else notes.problem
    found = []
    labels = False
    for number, row in reader(path, report):
        found.append(_labelled(row, number, report))
        labels = labels or "category" in row
    if not found and not notes.problems:
        notes.problem('holds no rows; give it some, with "query" and "category"')
    if found and not labels:
        notes.problem('no row has the key "category"; add it, with null for queries that are out of scope')
    if notes.problems:
        raise combined(notes.problems)
    return [labelled for labelled in found if labelled is not None]


def _labelled(row: Mapping[str, object], number: int, report: Report) -> LabelledQuery | None:
    query = query_text(row, number, report)
    category = row.get("category")
    if category is not None and not isinstance(category, str):
        message = f'"category" must be a category\'s name, or null for out of scope, not {kind(category)}'
        report(message, number)
        return None
    return None if query is None else LabelledQuery(query, (category or "").strip() or None)


def _jsonl(path: Path, report: Report) -> _Rows:
    return json_rows(file_lines(path, report), report)


def _csv(path: Path, report: Report) -> _Rows:
    return csv_rows(file_lines(path, report), report, required=_COLUMNS)


def _by_row(notes: Notes) -> Report:
    def report(message: str, row: int | None) -> None:
        notes.problem(message if row is None else f"row {row}: {message}")

    return report


_READERS: Mapping[str, Callable[[Path, Report], _Rows]] = MappingProxyType(
    {".jsonl": _jsonl, ".csv": _csv, ".parquet": parquet_rows}
)
