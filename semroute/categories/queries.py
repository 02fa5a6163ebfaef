"""A stream of queries to be routed, read as it comes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from semroute.categories.jsonl import json_rows
from semroute.categories.lines import Lines, bounded_lines, decoded_lines, file_lines
from semroute.categories.notes import Report, stop_at_first
from semroute.categories.rfc4180 import csv_rows
from semroute.categories.rows import kind, no_query
from semroute.errors import DataError

if TYPE_CHECKING:
    from semroute.types import Query

STDIN = "-"


@dataclass(frozen=True, slots=True)
class QueryRow:
    """A row of a file of queries.

    Attributes:
        line: 1-based.
        query: text or chat messages.
        task: its name; the empty string where none is given.
    """

    line: int
    query: Query
    task: str = ""


def iter_queries(source: Path | str, stdin: Iterable[bytes] | None = None) -> Iterator[tuple[int, Query]]:
    """Yield the 1-based line and the query of every row, each as soon as its line is there.

    Args:
        source: a ``.jsonl`` or ``.csv`` file with a ``query`` in each row, a ``.txt`` file with one in each line that
            is not blank, or ``-`` for JSONL on standard input. In JSONL a query may be a list of chat messages. A blank
            query in a row is handed on: what it leads to is for the router to say.
        stdin: lines of bytes in place of the process's standard input.

    Raises:
        DataError: the source cannot be opened, or a line is malformed; the queries before it have been yielded.
    """
    return ((row.line, row.query) for row in iter_query_rows(source, stdin))


def iter_query_rows(source: Path | str, stdin: Iterable[bytes] | None = None) -> Iterator[QueryRow]:
    """Yield every row as :func:`iter_queries` does, with its ``task`` where it has one.

    Raises:
        DataError: as :func:`iter_queries`.
    """
    if str(source) == STDIN:
        report = stop_at_first(Path("<stdin>"))
        raw = bounded_lines(sys.stdin.buffer) if stdin is None else stdin
        return _from_rows(json_rows(decoded_lines(raw, report), report), report)
    path = Path(source)
    report = stop_at_first(path)
    lines = file_lines(path, report)
    match path.suffix.lower():
        case ".jsonl":
            return _from_rows(json_rows(lines, report), report)
        case ".csv":
            return _from_rows(csv_rows(lines, report, required=("query",)), report)
        case ".txt":
            return _from_text(lines)
    raise DataError("a file of queries is one of .jsonl, .csv, .txt; convert it and name it so", path=path)


def _from_text(lines: Lines) -> Iterator[QueryRow]:
    return (QueryRow(number, text.strip()) for number, text in lines if text.strip())


def _from_rows(rows: Iterable[tuple[int, Mapping[str, object]]], report: Report) -> Iterator[QueryRow]:
    for number, row in rows:
        query, task = row.get("query"), row.get("task")
        if isinstance(query, str) or (isinstance(query, list) and all(isinstance(part, dict) for part in query)):
            yield QueryRow(number, query, task.strip() if isinstance(task, str) else "")
        elif "query" in row:
            report(f'"query" must be text or a list of chat messages, not {kind(query)}', number)
        else:
            report(no_query(row), number)
