"""Read tables, and choose their columns of texts and labels."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeAlias

from semroute.data.examples import shortened
from semroute.data.importing.records import ImportNotes, ImportOptions, ImportShapeError, ImportSource
from semroute.data.rows import csv_records, csv_row, json_rows
from semroute.errors import DataError

Rows: TypeAlias = Iterator[tuple[int | None, Mapping[str, object]]]
Skip: TypeAlias = Callable[[str, int | None], None]
"""Callback with the reason why a row is left out, and its line."""

SAMPLE = 500
"""Rows that are compared to find the columns."""
SNIFFED_LINES = 200
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
TEXTS = (
    "query", "text", "utterance", "sentence", "question", "message", "prompt", "input", "phrase", "example", "request",
    "content",
)  # fmt: skip
"""Names of columns of texts, in the singular."""
LABELS = (
    "category", "intent", "label", "class", "label_text", "label_name", "class_name", "category_name", "intent_name",
    "intent_label", "topic", "domain", "route", "target",
)  # fmt: skip
"""Names of columns of labels, in the singular."""
_IGNORED = ("", "id", "index", "idx", "unnamed:_0")
_SEPARATOR_LINE = re.compile(r'\ufeff?"?sep=(.)"?\s*')
_INTEGER = re.compile(r"-?\d{1,9}(?:\.0)?")


@dataclass(frozen=True, slots=True)
class Table:
    """Table whose rows can be read more than once.

    Attributes:
        columns: their names, in the order of the file; duplicate names are numbered.
        rows: opens the rows: 1-based line or row, and the values by column; rows left out are passed to its argument.
        class_names: names of numbered labels in the file itself, by column.
        headerless: whether the file named no columns, and they are numbered.
        is_sure: whether the format itself says which columns are which.
    """

    columns: Sequence[str]
    rows: Callable[[Skip], Rows]
    class_names: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    headerless: bool = False
    is_sure: bool = False

    def sample(self) -> list[Mapping[str, object]]:
        """Read the first rows."""
        return [row for _, row in islice(self.rows(_ignore), SAMPLE)]


@dataclass(frozen=True, slots=True)
class Chosen:
    """Columns of texts and labels; no labels in a table of one column."""

    table: Table
    text: str
    label: str | None


def delimited_table(source: ImportSource, options: ImportOptions, notes: ImportNotes) -> Table:
    """Open delimited text as a table.

    Fields are separated by commas, semicolons, tabs or bars; a first line ``sep=;`` is obeyed.

    Raises:
        DataError: the file cannot be read, or is empty.
    """
    first = list(islice(source.lines(), SNIFFED_LINES))
    if not first:
        raise ImportShapeError("is empty", path=source.path)
    separator = _SEPARATOR_LINE.fullmatch(first[0][1])
    head = first[1:] if separator else first
    delimiter = separator[1] if separator else _delimiter([text for _, text in head], source.suffix)
    if delimiter != "," and not separator:
        notes.guess(source.path, f"fields are separated by a {DELIMITERS[delimiter]}")
    quoting = delimiter != "\t" or _quotes_hold(source, delimiter)
    if not quoting:
        notes.guess(source.path, "quotes are part of the text: as quotes of CSV they would not match")

    def records() -> Iterator[tuple[int, list[str]]]:
        def refuse(message: str, line: int | None) -> None:
            raise DataError(message, path=source.path, line=line)

        lines = islice(source.lines(), 1 if separator else 0, None)
        return csv_records(lines, refuse, delimiter=delimiter, quoting=quoting)

    _, header = next(records(), (1, None))
    if header is None:
        raise ImportShapeError("is empty", path=source.path)
    while header and not header[-1].strip():
        header.pop()
    columns = _unique(header) if options.header else [str(position) for position in range(1, len(header) + 1)]

    def rows(skip: Skip, columns: Sequence[str] = columns, skipped: int = int(options.header)) -> Rows:
        for number, fields in islice(records(), skipped, None):
            row = csv_row(columns, fields, DELIMITERS.get(delimiter, "separator"))
            if isinstance(row, str):
                skip(row, number)
            elif row is not None:
                yield number, row

    table = Table(columns, rows, headerless=not options.header)
    if options.header and options.text is None and options.label is None and _first_is_a_row(table):
        numbered = [str(position) for position in range(1, len(columns) + 1)]
        notes.guess(source.path, "the first line is a row and not a header: its label is one of later rows")
        return Table(numbered, lambda skip: rows(skip, numbered, 0), headerless=True)
    return table


def json_lines_table(source: ImportSource) -> Table:
    """Open JSON Lines as a table.

    Lines are objects, or lists whose items are numbered columns.

    Raises:
        DataError: the file cannot be read, or no line is of that kind.
    """

    def rows(skip: Skip) -> Rows:
        for number, text in source.lines():
            if text.lstrip().startswith("["):
                text = _as_object(text)
            yield from json_rows([(number, text)], skip)

    return object_table(source, rows)


def object_table(source: ImportSource, rows: Callable[[Skip], Rows], **options: Any) -> Table:
    """Open rows of varying keys as a table.

    Keys of objects inside of rows are joined with dots.

    Raises:
        ImportShapeError: there are no rows.
    """

    def flat(skip: Skip) -> Rows:
        for number, row in rows(skip):
            yield number, _flattened(row)

    columns: dict[str, None] = {}
    for _, row in islice(flat(_ignore), SAMPLE):
        columns |= dict.fromkeys(row)
    if not columns:
        raise ImportShapeError("holds no rows", path=source.path)
    return Table(tuple(columns), flat, **options)


def chosen_columns(table: Table, options: ImportOptions, notes: ImportNotes, source: ImportSource) -> Chosen:
    """Choose the columns of texts and labels.

    The named ones, else those that are the only ones of a known name.

    Raises:
        DataError: no such column, or several are possible.
    """
    text = None if options.text is None else _named(options.text, table, "--text", source)
    label = None if options.label is None else _named(options.label, table, "--label", source)
    candidates = [column for column in table.columns if _singular(column) not in _IGNORED or column in (text, label)]
    sample = table.sample()
    text = text or _only([column for column in candidates if _singular(column) in TEXTS and column != label])
    if label is None:
        label_columns = [column for column in candidates if _singular(column) in LABELS and column != text]
        label = _only(label_columns) or _only([column for column in label_columns if not _all_integers(column, sample)])
    if len(candidates) == 1 and label is None:
        return Chosen(table, candidates[0], None)
    if len(candidates) == 2 and (text is None or label is None):
        text, label = _by_content(candidates, text, label, sample)
    if text is None or label is None:
        # JSON and YAML hold many other things than texts with labels.
        is_guess = text is None and label is None and source.suffix in (".json", ".yaml", ".yml")
        raise (ImportShapeError if is_guess else DataError)(
            _ambiguous_columns(table, text, label, sample), path=source.path
        )
    if not table.is_sure and (options.text is None or options.label is None):
        kind = "column" if not table.headerless else "column number"
        notes.guess(source.path, f"texts from {kind} {shortened(text)}, labels from {shortened(label)}")
    return Chosen(table, text, label)


def integer_label(value: object) -> int | None:
    """Parse a label that is a whole number, also as text or ``3.0``."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
        return int(value.strip().removesuffix(".0"))
    return None


def _named(name: str, table: Table, option: str, source: ImportSource) -> str:
    if name in table.columns:
        return name
    matching = [column for column in table.columns if column.strip().casefold() == name.strip().casefold()]
    if len(matching) == 1:
        return matching[0]
    if name.isdecimal() and 1 <= int(name) <= len(table.columns):
        return table.columns[int(name) - 1]
    available = ", ".join(shortened(column, 40) for column in table.columns[:20])
    raise DataError(f"{option}: there is no column {shortened(name)}; the columns are {available}", path=source.path)


def _by_content(
    columns: Sequence[str], text: str | None, label: str | None, sample: Sequence[Mapping[str, object]]
) -> tuple[str | None, str | None]:
    """Choose columns by content: the one that repeats holds the labels."""
    shares = {column: len({str(row.get(column)) for row in sample}) / max(1, len(sample)) for column in columns}
    if text is None and label is not None:
        return next(column for column in columns if column != label), label
    label_column, text_column = sorted(columns, key=lambda column: shares[column])
    shorter = _length(label_column, sample) < _length(text_column, sample)
    if (
        text is None
        and shares[label_column] <= 0.75
        and shares[text_column] >= max(0.7, 1.4 * shares[label_column])
        and (shorter or shares[label_column] <= 0.5)
    ):
        return text_column, label_column
    return (text_column, label_column) if text == text_column and shares[label_column] < 1 else (text, label)


def _length(column: str, sample: Sequence[Mapping[str, object]]) -> int:
    return sum(len(str(row.get(column))) for row in sample)


def _ignore(message: str, line: int | None) -> None:
    """Drop a message: rows of a sample are read again, with a report."""


def _ambiguous_columns(
    table: Table, text: str | None, label: str | None, sample: Sequence[Mapping[str, object]]
) -> str:
    missing = "texts" if text is None else "labels"
    if text is None and label is None:
        missing = "texts and which the labels"
    first = sample[0] if sample else {}
    described = [
        f"{shortened(column, 30)} (such as {shortened(str(first.get(column, '')), 30)})" for column in table.columns
    ]
    rest = f" and {len(described) - 12} more" if len(described) > 12 else ""
    flags = f"--text {_word(text, 'COLUMN')} --label {_word(label, 'COLUMN')}"
    header = "" if table.headerless else "; where the first line is a row and no header, add --no-header"
    return (
        f"cannot tell which column holds the {missing}: {', '.join(described[:12])}{rest}; name them: {flags}{header}"
    )


def _word(name: str | None, default: str) -> str:
    return default if name is None else (name if name.isalnum() else f'"{name}"')


def _only(columns: Sequence[str]) -> str | None:
    return columns[0] if len(columns) == 1 else None


def _singular(column: str) -> str:
    """Normalise a column's name: last part, lower case, singular."""
    name = re.sub(r"[\s_-]+", "_", column.rsplit(".", 1)[-1].strip().casefold())
    if name.endswith("ies"):
        return name[:-3] + "y"
    return name[:-1] if name.endswith("s") and not name.endswith("ss") else name


def _all_integers(column: str, sample: Sequence[Mapping[str, object]]) -> bool:
    return all(integer_label(row.get(column)) is not None for row in sample)


def _first_is_a_row(table: Table) -> bool:
    """Return True if the header is a row itself.

    No column has a known name, and the label of the header occurs in later rows.
    """
    if any(_singular(column) in (*TEXTS, *LABELS, *_IGNORED) for column in table.columns) or len(table.columns) != 2:
        return False
    sample = table.sample()
    first = dict(zip(table.columns, table.columns, strict=True))
    _, label = _by_content(table.columns, None, None, [first, *sample])
    return label is not None and any(row.get(label) == label for row in sample)


def _delimiter(lines: Sequence[str], suffix: str) -> str:
    """Detect the delimiter by which most records have the header's width."""
    best, best_score = ("\t" if suffix in (".tsv", ".tab") else ","), (0.0, 0)
    for delimiter in dict.fromkeys([best, *DELIMITERS]):
        malformed: list[int | None] = []
        report = lambda message, line, seen=malformed: seen.append(line)  # noqa: E731
        numbered = list(enumerate(lines, 1))
        widths = [len(fields) for _, fields in csv_records(numbered, report, delimiter=delimiter)]
        if malformed and malformed[-1] is not None and malformed[-1] < len(lines) and delimiter == "\t":
            widths = [line.count("\t") + 1 for line in lines]
        if widths and widths[0] > 1:
            score = (round(widths.count(widths[0]) / len(widths), 2), widths[0])
            if score > best_score:
                best, best_score = delimiter, score
    return best


def _quotes_hold(source: ImportSource, delimiter: str) -> bool:
    malformed: list[str] = []
    for _ in csv_records(source.lines(), lambda message, line: malformed.append(message), delimiter=delimiter):
        pass
    return not malformed


def _unique(header: Iterable[str]) -> list[str]:
    counts: dict[str, int] = {}
    names = []
    for name in (name.strip() for name in header):
        counts[name] = counts.get(name, 0) + 1
        names.append(name if counts[name] == 1 or not name else f"{name} ({counts[name]})")
    return names


def _flattened(row: Mapping[str, object], prefix: str = "", depth: int = 0) -> dict[str, object]:
    if not any(isinstance(value, dict) for value in row.values()) and not prefix:
        return dict(row)
    flat: dict[str, object] = {}
    for key, value in row.items():
        if isinstance(value, dict) and depth < 4:
            flat |= _flattened(value, f"{prefix}{key}.", depth + 1)
        else:
            flat[prefix + key] = value
    return flat


def _as_object(text: str) -> str:
    """Rewrite a line that is a JSON list as an object."""
    import json

    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return json.dumps({str(position): value for position, value in enumerate(values, 1)})
