"""Queries: labelled files, streams, and lines of a pipe as they arrive."""

from __future__ import annotations

import io
import os
import re
import select
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

from semroute.data.examples import Finding, LabelledQuery, Notes, Report, combined, stop_at_first
from semroute.data.rows import (
    MAX_LINE_BYTES,
    Lines,
    bounded_lines,
    csv_rows,
    decoded_lines,
    file_lines,
    is_blank,
    json_rows,
    kind,
    no_query,
    parquet_rows,
    query_text,
    row_signals,
)
from semroute.errors import DataError
from semroute.text.names import normalize_name
from semroute.text.signals import NO_SIGNALS, Signals

if TYPE_CHECKING:
    from semroute.types import Query


BLOCK = 65_536


class ArrivingLines:
    """Lines of a binary stream, each as soon as it is complete.

    It reads the file descriptor itself: the content of a buffered reader cannot be seen from outside. A stream without
    a descriptor (bytes in memory) is always ready. A line beyond :data:`~semroute.data.rows.MAX_LINE_BYTES` is yielded
    truncated, to be refused, and nothing is read after it.

    Args:
        stream: unread stream.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lines: deque[bytes] = deque()
        self._partial: list[bytes] = []
        self._partial_bytes = 0
        self._ended = False
        try:
            self._descriptor: int | None = stream.fileno()
        except (io.UnsupportedOperation, AttributeError):
            self._descriptor = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._descriptor is None:
            return next(bounded_lines(self._stream))
        while not self._lines and not self._ended:
            self._read(self._descriptor)
        if not self._lines:
            raise StopIteration
        return self._lines.popleft()

    def ready(self) -> bool:
        """Return True if a line that is not blank, or the end, is available."""
        if self._descriptor is None:
            return True
        while not self._ended and not any(line.strip() for line in self._lines):
            if not _readable(self._descriptor):
                return False
            self._read(self._descriptor)
        return True

    def _read(self, descriptor: int) -> None:
        block = os.read(descriptor, BLOCK)
        self._ended = not block
        head, *rest = block.split(b"\n")
        self._partial.append(head)
        self._partial_bytes += len(head)
        # Joined once a line is complete, so that a line of a megabyte is not copied at every block.
        for part in rest:
            self._lines.append(b"".join(self._partial) + b"\n")
            self._partial, self._partial_bytes = [part], len(part)
        self._ended |= self._partial_bytes > MAX_LINE_BYTES
        if self._ended and (last := b"".join(self._partial)):
            self._lines.append(last)
            self._partial = []


def _readable(descriptor: int) -> bool:
    try:
        return bool(select.select([descriptor], [], [], 0)[0])
    except (OSError, ValueError):  # Windows selects sockets only: there a line waits for nothing but itself.
        return False


# Labelled files: queries with their categories.

_COLUMNS = ("query", "category")
OUT_OF_SCOPE = frozenset({"null", "none", "nan", "<na>", "oos", "ood", "out_of_scope", "out_of_domain"})
"""Labels of queries that belong to no category, as programs and data sets write them; a category may still have such a
name (:attr:`~semroute.data.examples.LabelledQuery.written`)."""

_Rows: TypeAlias = Iterator[tuple[int, dict[str, object]]]


def read_labelled(path: Path | str, warn: Callable[[Finding], object] = lambda finding: None) -> list[LabelledQuery]:
    """Read a labelled file, with ``query`` and ``category`` in each row.

    The file is ``.jsonl``, ``.csv`` or ``.parquet``, which needs the extra "parquet". A category that is null, empty,
    one of :data:`OUT_OF_SCOPE` or, in a JSONL row, absent is out of scope: None. Other columns are ignored, and rows
    without a text left out. Whitespace around a query or a category is dropped.

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
    queries = []
    labels = False
    blank_lines: list[int] = []
    for number, row in reader(path, report):
        labels = labels or "category" in row
        if is_blank(row):
            blank_lines.append(number)
        else:
            queries.append(_labelled(row, number, report))
    if not queries and not notes.problems:
        notes.problem('holds no rows; give it some, with "query" and "category"')
    if queries and not labels:
        notes.problem('no row has the key "category"; add it, with null for queries that are out of scope')
    if notes.problems:
        raise combined(notes.problems)
    if blank_lines:
        rows = "a row" if len(blank_lines) == 1 else f"{len(blank_lines):,} rows"
        warn(Finding(f"{rows} without a query, this the first; left out", path, blank_lines[0]))
    return [labelled for labelled in queries if labelled is not None]


def is_out_of_scope(label: str) -> bool:
    """Return True if a label means "out of scope" (:data:`OUT_OF_SCOPE`).

    Case and separators are ignored.
    """
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


# Streams of queries, read as they arrive.

STDIN = "-"


@dataclass(frozen=True, slots=True)
class QueryRow:
    """Row of a file of queries.

    Attributes:
        line: 1-based.
        query: text or chat messages.
        task: its name; the empty string where none is given.
        signals: of the conversation that a text is from, where the row has them; those of messages are in the messages.
    """

    line: int
    query: Query
    task: str = ""
    signals: Signals = field(default_factory=dict)


def iter_queries(source: Path | str, stdin: Iterable[bytes] | None = None) -> Iterator[tuple[int, Query]]:
    """Yield the 1-based line and the query of every row, as it arrives.

    Args:
        source: a ``.jsonl`` or ``.csv`` file with a ``query`` in each row, a ``.txt`` file with one in each line that
            is not blank, or ``-`` for JSONL on standard input. In JSONL a query may be a list of chat messages. A blank
            query in a row is yielded: the router decides on it.
        stdin: lines of bytes in place of the process's standard input.

    Raises:
        DataError: the source cannot be opened, or a line is malformed; the queries before it have been yielded.
    """
    return ((row.line, row.query) for row in iter_query_rows(source, stdin))


def iter_queries_or_errors(
    source: Path | str, stdin: Iterable[bytes] | None = None
) -> Iterator[tuple[int, Query] | DataError]:
    """Yield every row as :func:`iter_queries` does, malformed ones as errors.

    Raises:
        DataError: the source cannot be opened, or the rest of it cannot be read: it is not UTF-8, or has no end.
    """
    path = Path("<stdin>") if str(source) == STDIN else Path(source)
    report = stop_at_first(path)
    if path.suffix.lower() == ".csv":
        failures: list[DataError] = []
        rows = csv_rows(file_lines(path, report), _noting(path, failures), required=("query",))
        for row in rows:
            yield from failures
            failures.clear()
            yield from _one(_from_rows([row], report))
        yield from failures
    elif str(source) != STDIN and path.suffix.lower() != ".jsonl":
        yield from iter_queries(source)
    else:
        raw = bounded_lines(sys.stdin.buffer) if stdin is None else stdin
        lines = decoded_lines(raw, report) if str(source) == STDIN else file_lines(path, report)
        # A reader for each line, so that a malformed one neither ends the reading nor waits for the line after it.
        for line in lines:
            yield from _one(_from_rows(json_rows([line], report), report))


def _one(rows: Iterator[QueryRow]) -> Iterator[tuple[int, Query] | DataError]:
    try:
        yield from [(row.line, row.query) for row in rows]
    except DataError as error:
        yield error


def _noting(path: Path, failures: list[DataError]) -> Report:
    def report(message: str, line: int | None) -> None:
        failures.append(DataError(message, path=path, line=line))

    return report


def iter_query_rows(source: Path | str, stdin: Iterable[bytes] | None = None) -> Iterator[QueryRow]:
    """Yield every row as :func:`iter_queries` does, with its ``task`` if any.

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
            # Text in a column of that name is somebody else's: a file of queries may have columns of any kind.
            has_signals = isinstance(query, str) and isinstance(row.get("signals"), dict)
            signals = row_signals(row, number, report) if has_signals else None
            yield QueryRow(number, query, task.strip() if isinstance(task, str) else "", signals or NO_SIGNALS)
        elif "query" in row:
            report(f'"query" must be text or a list of chat messages, not {kind(query)}', number)
        else:
            report(no_query(row), number)
