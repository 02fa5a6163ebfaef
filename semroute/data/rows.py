"""Rows of text, JSON Lines, Parquet and CSV files, read within bounds.

JSON Lines (https://jsonlines.org) has one JSON object a line.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from semroute._optional import require
from semroute.data.examples import Report, shortened
from semroute.text.signals import NO_SIGNALS, SIGNALS, Signals

# Bytes to numbered lines of text.
#
# A line ends at ``\n``, as editors and RFC 4180 count; Unicode's other separators are part of the text.

Lines: TypeAlias = Iterable[tuple[int, str]]
"""1-based line number and text, line end included."""

NOT_UTF_8 = "is not UTF-8 text; save the file as UTF-8"
MAX_LINE_BYTES = 8 << 20
"""Longest line or record: a query of a million words fits, and JSON of this length takes 300 MB at most as values."""


def decoded_lines(raw: Iterable[bytes], report: Report) -> Iterator[tuple[int, str]]:
    """Decode UTF-8 lines lazily, with or without a byte order mark.

    Ends after reporting the first line that is not UTF-8, or is longer than :data:`MAX_LINE_BYTES`.
    """
    for number, line in enumerate(raw, start=1):
        if len(line) > MAX_LINE_BYTES:
            report(too_long("line"), number)
            return
        try:
            yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            report(NOT_UTF_8, number)
            return


def file_lines(path: Path, report: Report) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file lazily; report one that cannot be opened.

    Such a file has no lines.
    """
    try:
        stream = path.open("rb")
    except (OSError, ValueError) as error:
        failure: Exception = error
    else:
        with stream:
            yield from decoded_lines(bounded_lines(stream), report)
        return
    report(_why(failure), None)


def bounded_lines(stream: BinaryIO) -> Iterator[bytes]:
    """Read lines of at most :data:`MAX_LINE_BYTES`.

    Of a longer one a byte more is read: a device may have no end.
    """
    return iter(lambda: stream.readline(MAX_LINE_BYTES + 1), b"")


def too_long(unit: str) -> str:
    """Return the message for a line or record beyond :data:`MAX_LINE_BYTES`."""
    return f"the {unit} is longer than {MAX_LINE_BYTES >> 20} MiB; shorten its text, or split it"


def _why(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file; check the path"
    if isinstance(error, IsADirectoryError):
        return "is a folder; name a file in it"
    return f"cannot be read: {getattr(error, 'strerror', None) or error}"


def json_rows(lines: Lines, report: Report) -> Iterator[tuple[int, dict[str, object]]]:
    """Yield line number and object of every line that is not blank.

    A line without an object is reported and left out.
    """
    for number, text in lines:
        if not text.strip():
            continue
        try:
            # Without its end: truncation is detected at the end of this line, and not at the start of the next.
            row = json.loads(text.rstrip("\r\n"), object_pairs_hook=_without_repeats)
        except json.JSONDecodeError as error:
            problem = f"malformed JSON at column {error.colno} ({error.msg}); write one JSON object a line"
        except RecursionError:
            problem = "malformed JSON: nested too deeply; write the query as text"
        except ValueError as error:
            problem = f"malformed JSON: {error}"
        else:
            if isinstance(row, dict):
                yield number, row
                continue
            problem = 'is not a JSON object; write rows such as {"query": "..."}'
        report(problem, number)


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    row = dict(pairs)
    if len(row) < len(pairs):
        duplicate = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {shortened(duplicate)} is written twice; keep one of the two")
    return row


# Rows of a Parquet file (https://parquet.apache.org/docs/file-format/), through the extra "parquet".
#
# Encodings repeat a value for a few bits a row, so a file of some kilobytes may stand for gigabytes. Text stays in its
# dictionary while a batch is in memory, and is counted before it is written out.

COLUMNS = ("query", "category")
BATCH = 4096
"""Rows that are decoded at once, their text in its dictionary."""
MIN_DECODED_BYTES = 256 << 20
"""Decoded size that any file may have, bytes."""
MAX_RATIO = 100
"""Allowed decoded bytes for each byte of a larger file: text compresses to a tenth, repeated queries to a fiftieth."""
ROW_BYTES = 64
"""Size of a row besides its text, bytes."""
_MAX_METADATA = 64 << 20


class _TooLargeError(Exception):
    """File that decodes to more than it may."""


def parquet_rows(
    path: Path, report: Report, *, required: Sequence[str] = COLUMNS, optional: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, object]]]:
    """Yield the 1-based number of every row and its values.

    Only the columns ``required`` and ``optional`` are read.

    A ``required`` column that is missing or duplicate is reported, as is an ``optional`` one that is duplicate. So is
    a file that is damaged, decodes to more than :data:`MIN_DECODED_BYTES` and :data:`MAX_RATIO` times its own size, or
    has a row of more than :data:`MAX_LINE_BYTES`; earlier rows have been yielded then.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    purpose = "reading a Parquet file"
    parquet = require("pyarrow.parquet", what=purpose, extra="parquet")
    arrow = require("pyarrow", what=purpose, extra="parquet")
    try:
        # A string's bytes may be no UTF-8, a time out of range: pyarrow decodes values when they are accessed.
        yield from _rows(path, parquet, report, required, optional)
    except FileNotFoundError:
        report("no such file; check the path", None)
    except _TooLargeError as error:
        report(str(error), None)
    except (arrow.ArrowException, OSError, ValueError, TypeError, LookupError, ArithmeticError, MemoryError) as error:
        report(f"cannot be read as a Parquet file: {shortened(str(error), 200)}", None)


def _rows(
    path: Path, parquet: Any, report: Report, required: Sequence[str], optional: Sequence[str]
) -> Iterator[tuple[int, dict[str, object]]]:
    limits = {"thrift_string_size_limit": _MAX_METADATA, "thrift_container_size_limit": 1_000_000}
    with parquet.ParquetFile(path, **limits) as file:
        names, metadata = file.schema_arrow.names, file.metadata
    columns = [*required, *(name for name in optional if name in names)]
    missing = [name for name in columns if names.count(name) != 1]
    if missing:
        message = f'must have one column "{missing[0]}" (its columns: {shortened(", ".join(names))}); rename or add it'
        report(message, None)
        return
    limit = max(MIN_DECODED_BYTES, MAX_RATIO * path.stat().st_size)
    texts = _checked_sizes(metadata, set(columns), limit)
    number = 0
    with parquet.ParquetFile(path, read_dictionary=texts, **limits) as file:
        # One by one: Arrow cannot join the dictionaries that two row groups have for a nested column.
        groups = range(metadata.num_row_groups)
        batches = (file.iter_batches(batch_size=BATCH, row_groups=[group], columns=columns) for group in groups)
        for batch in chain.from_iterable(batches):
            sizes = _sizes(batch)
            limit -= int(sizes.sum())
            if limit < 0:
                raise _TooLargeError(_too_large(number))
            for start, stop in _slices(sizes):
                if sizes[start] > MAX_LINE_BYTES:
                    report(too_long("row"), number + 1)
                    return
                for row in batch.slice(start, stop - start).to_pylist():
                    number += 1
                    yield number, row


def _checked_sizes(metadata: Any, columns: set[str], limit: int) -> list[str]:
    """Return the paths of the wanted text columns, if they fit into ``limit``.

    Their declared sizes are compared with it.

    Raises:
        _TooLargeError: they do not.
    """
    if metadata.num_rows * ROW_BYTES > limit:
        raise _TooLargeError(f"holds {metadata.num_rows:,} rows, too many for its size; is it damaged?")
    texts: dict[str, None] = {}
    total = 0
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        for index in range(row_group.num_columns):
            column = row_group.column(index)
            if column.path_in_schema.split(".")[0] in columns:
                total += column.total_uncompressed_size
                if column.physical_type == "BYTE_ARRAY":
                    texts[column.path_in_schema] = None
    if total > limit:
        raise _TooLargeError(_too_large(0))
    return list(texts)


def _too_large(row: int) -> str:
    location = f", from row {row + 1:,} on" if row else ""
    return f"decodes to more than {MAX_RATIO} times its size{location}; is it damaged? If not, write it as JSONL"


def _sizes(batch: Any) -> Any:
    """Return the approximate size of each row, ``(rows,)`` int64.

    It is that of the row as Python values.
    """
    import numpy as np

    sizes = np.full(len(batch), ROW_BYTES, np.int64)
    for column in batch.columns:
        sizes += _column_sizes(column)
    return sizes


def _column_sizes(column: Any) -> Any:
    """Return the row sizes of one column, ``(rows,)`` int64.

    Nested ones are added up.
    """
    import numpy as np
    import pyarrow as arrow
    import pyarrow.compute as compute

    kind = column.type
    if arrow.types.is_dictionary(kind):
        lengths = _filled(compute.binary_length(column.dictionary))
        indices = _filled(column.indices)
        # A row without a value has the index 0, which an empty dictionary does not have.
        return lengths[indices] if len(lengths) else np.zeros(len(column), np.int64)
    if arrow.types.is_struct(kind):
        parts = [_column_sizes(column.field(index)) for index in range(kind.num_fields)]
        return sum(parts, np.zeros(len(column), np.int64)) + 8 * kind.num_fields
    if arrow.types.is_list(kind) or arrow.types.is_large_list(kind) or arrow.types.is_map(kind):
        items = (
            arrow.StructArray.from_arrays([column.keys, column.items], ["k", "v"])
            if arrow.types.is_map(kind)
            else column.values
        )
        boundaries = np.concatenate([[0], np.cumsum(_column_sizes(items) + 8)])
        offsets = np.asarray(column.offsets, np.int64)
        return boundaries[offsets[1:]] - boundaries[offsets[:-1]]
    if kind.num_buffers == 3:  # text or bytes without a dictionary
        return _filled(compute.binary_length(column))
    return np.full(len(column), 8, np.int64)


def _filled(values: Any) -> Any:
    import numpy as np

    return np.asarray(values.fill_null(0), np.int64)


def _slices(sizes: Any) -> Iterator[tuple[int, int]]:
    """Yield runs of rows of at most :data:`MAX_LINE_BYTES`.

    A longer row is a run of its own.
    """
    start, total = 0, 0
    for row, size in enumerate(sizes.tolist()):
        if row > start and total + size > MAX_LINE_BYTES:
            yield start, row
            start, total = row, 0
        total += size
    if start < len(sizes):
        yield start, len(sizes)


# CSV by RFC 4180: comma, double quotes, a header, quoted fields that may span lines.
#
# Not read with the standard library's csv.reader, which with strict=True still
# * reads a quote inside an unquoted field as text ('5" pipe', 'say "hi"'), so that commas and lines shift unnoticed;
# * notices an unclosed quote at the end of the file only, after all of it was taken in, and names that line;
# * refuses a field above a limit that is global to the process (131,072 characters).

_END = re.compile(r"\r?\n?\Z")


@lru_cache
def _field(delimiter: str) -> re.Pattern[str]:
    return re.compile(rf'"(?P<quoted>[^"]*+(?:""[^"]*+)*+)"|(?P<plain>[^"{re.escape(delimiter)}\r\n]*+)')


def csv_rows(lines: Lines, report: Report, *, required: Sequence[str]) -> Iterator[tuple[int, dict[str, object]]]:
    """Yield the first line number of each record, and its fields by column.

    Blank lines, and rows of a spreadsheet without a value in any field, are left out.

    A record of another width than the header is reported and left out. A header without a ``required`` column or with a
    duplicate one, or a quote out of place, is reported and ends the reading: the rest cannot be trusted.
    """
    records = csv_records(lines, report)
    start, header = next(records, (1, None))
    if header is None:
        return
    columns = [name.strip() for name in header]
    problem = _header_problem(columns, required)
    if problem:
        report(problem, start)
        return
    for number, fields in records:
        row = csv_row(columns, fields)
        if isinstance(row, str):
            report(row, number)
        elif row is not None:
            yield number, row


def csv_row(columns: Sequence[str], fields: list[str], separator: str = "comma") -> dict[str, object] | str | None:
    """Return the fields by column; None for a row without a value.

    For a row of another width than the header, return a message.
    """
    if not any(field.strip() for field in fields):
        return None
    while len(fields) > len(columns) and not fields[-1].strip():
        fields.pop()  # spreadsheets write empty cells beyond the table
    if len(fields) == len(columns):
        return dict(zip(columns, fields, strict=True))
    widths = f"{len(fields)} field{'s' * (len(fields) != 1)} where the header has {len(columns)}"
    return f"{widths}; put a field that holds a {separator} or a line break in double quotes"


def csv_records(
    lines: Lines, report: Report, *, delimiter: str = ",", quoting: bool = True
) -> Iterator[tuple[int, list[str]]]:
    """Yield the first line number of each record, and its fields.

    Malformed quotes are reported and end the reading.

    Args:
        lines: numbered lines.
        report: receives problems.
        delimiter: one character.
        quoting: False reads quotes as text, as programs write them that put tabs between fields.
    """
    pending: list[str] = []
    start, quoted, length = 1, False, 0
    for number, text in lines:
        if not pending:
            start, length = number, 0
        pending.append(text)
        length += len(text)
        if length > MAX_LINE_BYTES:
            # An unclosed quote takes in the rest of the file.
            report(too_long("record"), start)
            return
        # Quotes come in pairs in a whole record, also those that stand for a quote inside a field.
        quoted ^= quoting and text.count('"') % 2 == 1
        if quoted:
            continue
        record, pending = "".join(pending), []
        if not record.strip("\r\n"):
            continue
        fields = _fields(record, start, report, delimiter) if quoting else record.rstrip("\r\n").split(delimiter)
        if fields is None:
            return
        yield start, fields
    if pending:
        _fields("".join(pending), start, report, delimiter)


def _fields(record: str, start: int, report: Report, delimiter: str) -> list[str] | None:
    fields = []
    at = 0
    pattern = _field(delimiter)
    while True:
        # The pattern's second half also matches nothing, so there is always a match.
        match = pattern.match(record, at)
        assert match is not None
        quoted = match["quoted"]
        fields.append(match["plain"] if quoted is None else quoted.replace('""', '"'))
        at = match.end()
        if _END.match(record, at):
            return fields
        if record[at] != delimiter:
            report(_misplaced(record, at, match), start + record.count("\n", 0, at))
            return None
        at += 1


def _misplaced(record: str, at: int, match: re.Match[str]) -> str:
    if match["quoted"] is not None:
        return (
            "malformed CSV: text after a closing quote; double the quotes inside a quoted field, and close every field"
        )
    if record[at] == "\r":
        return "malformed CSV: a carriage return alone; end lines with a line feed, or quote the field"
    if match.start() == at:
        return "malformed CSV: a quoted field that is never closed; close it, and double the quotes inside it"
    return "malformed CSV: a quote inside an unquoted field; put the field in quotes and double the quotes inside it"


def _header_problem(columns: Sequence[str], required: Sequence[str]) -> str | None:
    # Spreadsheets export empty columns, whose names are all empty.
    duplicate = next((name for name, count in Counter(columns).items() if name and count > 1), None)
    if duplicate is not None:
        return f"the column {shortened(duplicate)} is named twice in the header; keep one of the two"
    missing = next((name for name in required if name not in columns), None)
    if missing is None:
        return None
    if len(columns) == 1 and re.search(r"[;\t|]", columns[0]):
        return f'the header has no column "{missing}"; separate the columns with commas, or run "semroute import" on it'
    shown = shortened(", ".join(columns))
    return f'the header has no column "{missing}" (its columns: {shown}); name it in the first line'


# Values of a row, checked.

_SURROGATE = re.compile("[\ud800-\udfff]")
_MOST_SIGNAL = 1e9


def query_text(row: Mapping[str, object], line: int, report: Report) -> str | None:
    """Return the text under ``query`` without surrounding whitespace.

    Reports unusable text and returns None for it.
    """
    if "query" not in row:
        report(no_query(row), line)
        return None
    value = row["query"]
    if not isinstance(value, str):
        report(f'"query" must be text, not {kind(value)}; put it in quotes', line)
        return None
    return usable(value, '"query"', line, report)


def row_signals(row: Mapping[str, object], line: int, report: Report) -> Signals | None:
    """Return the signals of a row's conversation; none without the key.

    Names that are unknown here, and values of null, are left out. Reports what is no signal, and returns None for it.
    """
    given = row.get("signals")
    if given is None:
        return NO_SIGNALS
    if not isinstance(given, dict):
        report(f'"signals" must be an object such as {{"turns": 2, "tool_loop": 5}}, not {kind(given)}', line)
        return None
    found: dict[str, float] = {}
    for name in SIGNALS:
        value = given.get(name)
        # Parquet has a column for each signal, with 0 where a row has none; JSON knows no infinity, and Python's does.
        if value is None or value == 0:
            continue
        if not isinstance(value, bool | int | float) or not 0 < value < _MOST_SIGNAL:
            report(f'"{name}" of "signals" must be a number from 0, or true or false, not {kind(value)}', line)
            return None
        found[name] = value
    return found or NO_SIGNALS


def is_blank(row: Mapping[str, object]) -> bool:
    """Return True if a row has a ``query`` without text.

    Spreadsheets leave such rows behind, with spaces or nothing.
    """
    value = row.get("query", "-")
    return value is None or (isinstance(value, str) and not value.strip())


def no_query(row: Mapping[str, object]) -> str:
    """Return the message for a row without ``query``."""
    return f'has no key "query" (its keys: {shortened(", ".join(row))}); put the query under "query"'


def usable(text: str, field: str, line: int, report: Report) -> str | None:
    """Return ``text`` without surrounding whitespace.

    None, and a report, where it is blank or no valid Unicode.
    """
    text = text.strip()
    if not text:
        report(f"{field} is blank; write it, or remove it", line)
        return None
    if not text.isascii() and _SURROGATE.search(text):
        report(f"{field} holds half of a UTF-16 surrogate pair; correct the \\u escape", line)
        return None
    return text


def kind(value: object) -> str:
    """Return the JSON name of a value's type, with its article."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, list):
        return "a list"
    return "an object" if isinstance(value, dict) else f"a {type(value).__name__}"
