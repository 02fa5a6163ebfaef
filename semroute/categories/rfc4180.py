"""CSV as RFC 4180 has it: comma, double quotes, a header, quoted fields that may span lines.

The standard library's reader refuses a field above a limit that is global to the process (131,072 characters), takes a
quote in the middle of a field for text, and reports a quote that is never closed at the end of the file.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from semroute.categories.lines import MOST_BYTES, Lines, too_long
from semroute.categories.notes import Report, shortened

_FIELD = re.compile(r'"(?P<quoted>[^"]*+(?:""[^"]*+)*+)"|(?P<plain>[^",\r\n]*+)')
_END = re.compile(r"\r?\n?\Z")


def csv_rows(lines: Lines, report: Report, *, required: Sequence[str]) -> Iterator[tuple[int, dict[str, object]]]:
    """The line number at which each record starts, and its fields by column; blank lines are left out.

    A record of another width than the header is reported and left out. A header that lacks a ``required`` column or
    repeats one, or a quote out of place, is reported and ends the reading: what follows cannot be trusted.
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
        if len(fields) == len(columns):
            yield number, dict(zip(columns, fields, strict=True))
        else:
            widths = f"{len(fields)} field{'s' * (len(fields) != 1)} where the header has {len(columns)}"
            report(f"{widths}; put a field that holds a comma or a line break in double quotes", number)


def csv_records(lines: Lines, report: Report) -> Iterator[tuple[int, list[str]]]:
    """The line number at which each record starts, and its fields; ends after reporting malformed quotes."""
    held: list[str] = []
    start, quoted, length = 1, False, 0
    for number, text in lines:
        if not held:
            start, length = number, 0
        held.append(text)
        length += len(text)
        if length > MOST_BYTES:
            # A quote that is never closed takes in the rest of the file.
            report(too_long("record"), start)
            return
        # Quotes come in pairs in a whole record, also those that stand for a quote inside a field.
        quoted ^= text.count('"') % 2 == 1
        if quoted:
            continue
        record, held = "".join(held), []
        if not record.strip("\r\n"):
            continue
        fields = _fields(record, start, report)
        if fields is None:
            return
        yield start, fields
    if held:
        _fields("".join(held), start, report)


def _fields(record: str, start: int, report: Report) -> list[str] | None:
    fields = []
    at = 0
    while True:
        # The pattern's second half also matches nothing, so there is always a match.
        found = _FIELD.match(record, at)
        assert found is not None
        quoted = found["quoted"]
        fields.append(found["plain"] if quoted is None else quoted.replace('""', '"'))
        at = found.end()
        if _END.match(record, at):
            return fields
        if record[at] != ",":
            report(_misplaced(record, at, found), start + record.count("\n", 0, at))
            return None
        at += 1


def _misplaced(record: str, at: int, found: re.Match[str]) -> str:
    if found["quoted"] is not None:
        return (
            "malformed CSV: text after a closing quote; double the quotes inside a quoted field, and close every field"
        )
    if record[at] == "\r":
        return "malformed CSV: a carriage return alone; end lines with a line feed, or quote the field"
    if found.start() == at:
        return "malformed CSV: a quoted field that is never closed; close it, and double the quotes inside it"
    return "malformed CSV: a quote inside an unquoted field; put the field in quotes and double the quotes inside it"


def _header_problem(columns: Sequence[str], required: Sequence[str]) -> str | None:
    # Spreadsheets export empty columns, whose names are all empty.
    repeated = next((name for name, count in Counter(columns).items() if name and count > 1), None)
    if repeated is not None:
        return f"the column {shortened(repeated)} is named twice in the header; keep one of the two"
    missing = next((name for name in required if name not in columns), None)
    if missing is None:
        return None
    if len(columns) == 1 and re.search(r"[;\t|]", columns[0]):
        return f'the header has no column "{missing}"; separate the columns with commas'
    has = shortened(", ".join(columns))
    return f'the header has no column "{missing}" (its columns: {has}); name it in the first line'
