"""Labelled files: queries with the category where each belongs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

from semroute.categories.jsonl import json_rows
from semroute.categories.lines import file_lines
from semroute.categories.model import Finding, LabelledQuery
from semroute.categories.notes import Notes, Report, combined
from semroute.categories.parquet import parquet_rows
from semroute.categories.rfc4180 import csv_rows
from semroute.categories.rows import is_blank, kind, query_text
from semroute.errors import DataError
from semroute.texts.names import normalize_name

_COLUMNS = ("query", "category")
OUT_OF_SCOPE = frozenset({"null", "none", "nan", "<na>", "oos", "ood", "out_of_scope", "out_of_domain"})
"""Labels of queries that belong to no category, as programs and data sets write them; a category may still be called so
(:attr:`~semroute.categories.model.LabelledQuery.written`)."""

_Rows: TypeAlias = Iterator[tuple[int, dict[str, object]]]


def read_labelled(path: Path | str, warn: Callable[[Finding], object] = lambda finding: None) -> list[LabelledQuery]:
    """Read a labelled file: ``.jsonl``, ``.csv`` or ``.parquet`` with ``query`` and ``category`` in each row.

    A category that is null, empty, one of :data:`OUT_OF_SCOPE` or, in a JSONL row, absent is out of scope: None. Other
    columns are ignored, and rows without a text left out. Whitespace around a query or a category is dropped. Parquet
    needs the extra "parquet".

    Args:
        path: the file.
        warn: called once for the rows that are left out.

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
    blank: list[int] = []
    for number, row in reader(path, report):
        labels = labels or "category" in row
        if is_blank(row):
            blank.append(number)
        else:
            found.append(_labelled(row, number, report))
    if not found and not notes.problems:
        notes.problem('holds no rows; give it some, with "query" and "category"')
    if found and not labels:
        notes.problem('no row has the key "category"; add it, with null for queries that are out of scope')
    if notes.problems:
        raise combined(notes.problems)
    if blank:
        rows = "a row" if len(blank) == 1 else f"{len(blank):,} rows"
        warn(Finding(f"{rows} without a query, this the first; left out", path, blank[0]))
    return [labelled for labelled in found if labelled is not None]


def is_out_of_scope(label: str) -> bool:
    """Whether a label is a word for "out of scope" (:data:`OUT_OF_SCOPE`), in any case and with any separator."""
    return "_".join(re.split(r"[\s_-]+", label.strip().casefold())) in OUT_OF_SCOPE


def _labelled(row: Mapping[str, object], number: int, report: Report) -> LabelledQuery | None:
    query = query_text(row, number, report)
    category = row.get("category")
    if category is not None and not isinstance(category, str):
        message = f'"category" must be a category\'s name, or null for out of scope, not {kind(category)}'
        report(message, number)
        return None
    label = normalize_name((category or "").strip())
    if query is None or not label:
        return None if query is None else LabelledQuery(query, None, line=number)
    outside = is_out_of_scope(label)
    return LabelledQuery(query, None if outside else label, label if outside else None, number)


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
