"""Lazy reader of rows in any format, with errors for unreadable ones."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO, TypeAlias

from semroute.data.examples import shortened
from semroute.data.importing.records import ImportNotes, ImportOptions, ImportSource
from semroute.data.importing.sources import parquet_schema
from semroute.data.importing.tables import DELIMITERS, delimited_table
from semroute.data.importing.trees import JsonTree, Tree, json_tree
from semroute.data.rows import json_rows, kind, parquet_rows
from semroute.errors import DataError, SemrouteError

STDIN = "-"
SHOWN_STDIN = Path("<stdin>")
_SNIFFED_LINES = 50
_LISTS = ("requests", "rows", "data", "items", "records")
"""Keys of a JSON object whose value may be its rows."""
_NAME = re.compile(r'"?[\w][\w .-]{0,40}"?')

Row: TypeAlias = Mapping[str, object]
RowOrError: TypeAlias = "tuple[int, Row] | SemrouteError"


@dataclass(frozen=True, slots=True)
class TableColumns:
    """Columns that a reader searches for.

    Attributes:
        known: names in lower case, by which tables without a header differ from plain text.
        text: column for a line of plain text.
        encoding: of the file; None takes UTF-8, or UTF-16 with its mark.
    """

    known: frozenset[str]
    text: str
    encoding: str | None = None


def iter_rows(source: Path | str, columns: TableColumns, stdin: BinaryIO) -> Iterator[RowOrError]:
    """Yield line and values of every row, or the error of an unreadable row.

    Formats are JSON Lines, JSON, CSV and the like, Parquet and plain text, packed with gzip or not. The format is that
    of the file's extension, else that of its content. Standard input, and other pipes, are first copied to a temporary
    file, since several formats cannot be detected, or read, in one pass.

    Args:
        source: the file; ``-`` is standard input.
        columns: columns that the rows are searched for.
        stdin: standard input.
    """
    path = Path(source)
    if str(source) == STDIN:
        yield from _copied(stdin, SHOWN_STDIN, columns)
        return
    if path.is_fifo() or path.is_char_device():
        try:
            with path.open("rb") as stream:
                yield from _copied(stream, path, columns)
        except OSError as error:
            yield DataError(f"cannot be read: {error.strerror or error}", path=path)
        return
    if path.is_dir():
        yield DataError("is a folder; name a file in it", path=path)
        return
    yield from _rows(path, columns)


def _copied(stream: BinaryIO, path_shown: Path, columns: TableColumns) -> Iterator[RowOrError]:
    """Read rows of a pipe from a copy of it; errors name the pipe."""
    with TemporaryDirectory(prefix="semroute-") as folder:
        path = Path(folder) / "rows"
        with path.open("wb") as copy:
            shutil.copyfileobj(stream, copy)
        for row_or_error in _rows(path, columns):
            if isinstance(row_or_error, DataError):
                location = f"{path}:{row_or_error.line}: " if row_or_error.line is not None else f"{path}: "
                yield DataError(str(row_or_error).removeprefix(location), path=path_shown, line=row_or_error.line)
            else:
                yield row_or_error


def _rows(path: Path, columns: TableColumns) -> Iterator[RowOrError]:
    try:
        source = ImportSource(path, ImportOptions(encoding=columns.encoding))
        yield from _READERS.get(source.suffix, _by_content)(source, columns)
    except SemrouteError as error:
        yield error


class _Errors:
    """Errors of rows, kept until they are yielded in order."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: list[SemrouteError] = []

    def __call__(self, message: str, line: int | None) -> None:
        self._held.append(DataError(message, path=self._path, line=line))

    def taken(self) -> list[SemrouteError]:
        """Return the errors since the last call."""
        errors, self._held = self._held, []
        return errors


def _json_lines(source: ImportSource, columns: TableColumns) -> Iterator[RowOrError]:
    errors = _Errors(source.path)
    for line in source.lines():
        yield from json_rows([line], errors)
        yield from errors.taken()


def _delimited(source: ImportSource, columns: TableColumns) -> Iterator[RowOrError]:
    options = ImportOptions(encoding=columns.encoding, text=columns.text)  # the first line is a header
    table, errors = delimited_table(source, options, ImportNotes()), _Errors(source.path)
    for number, row in table.rows(errors):
        yield from errors.taken()
        yield number or 0, row
    yield from errors.taken()


def _parquet(source: ImportSource, columns: TableColumns) -> Iterator[RowOrError]:
    names, errors = parquet_schema(source).names, _Errors(source.path)
    columns_read = [name for name in dict.fromkeys(names) if column_key(name) in columns.known or name == columns.text]
    if not columns_read:
        yield DataError(
            f"has no column that is known here (its columns: {shortened(', '.join(names))})", path=source.path
        )
        return
    for number, row in parquet_rows(source.path, errors, required=columns_read):
        yield from errors.taken()
        # A list of structures has every key in every item; keys without a value were never written.
        yield number, {name: _without_nulls(value) for name, value in row.items()}
    yield from errors.taken()


def _json(source: ImportSource, columns: TableColumns) -> Iterator[RowOrError]:
    first_lines = list(islice((text for _, text in source.lines() if text.strip()), 2))
    is_lines = len(first_lines) == 2 and all(map(_is_object, first_lines))  # of any size
    tree = None if is_lines else json_tree(source.text(), source.path)
    if tree is None:
        yield from _json_lines(source, columns)
        return
    for item in _listed(tree, columns.known):
        value = item.value()
        if isinstance(value, str):
            value = {columns.text: value}
        if isinstance(value, dict):
            yield item.line, value
        else:
            yield DataError(f"is {kind(value)} among rows", path=source.path, line=item.line)


def _listed(tree: JsonTree, column_names: frozenset[str]) -> list[Tree]:
    """Return the rows of JSON.

    They are the items of a list, a list inside of an object, or one object alone.
    """
    pairs = tree.pairs()
    if pairs is None:
        items = tree.items()
        return [tree] if items is None else items
    keys = dict(pairs)
    if not column_names.isdisjoint(map(column_key, keys)):
        return [tree]
    named_lists = (keys[name].items() for name in _LISTS if name in keys)
    return next((items for items in named_lists if items is not None), [tree])


def _text(source: ImportSource, columns: TableColumns) -> Iterator[RowOrError]:
    first = next((text for _, text in source.lines() if text.strip()), "")
    if _is_object(first):
        yield from _json_lines(source, columns)
        return
    yield from ((number, {columns.text: text.strip()}) for number, text in source.lines() if text.strip())


def _by_content(source: ImportSource, columns: TableColumns) -> Iterator[RowOrError]:
    """Read a file whose name does not show its format."""
    if source.head.startswith(b"PAR1"):
        yield from _parquet(source, columns)
        return
    non_blank = [text for _, text in islice(source.lines(), _SNIFFED_LINES) if text.strip()]
    first = non_blank[0].strip() if non_blank else ""
    if first.startswith(("{", "[")) and first[-1:] in ("{", "[", "}", "]", ","):
        yield from _json(source, columns)
    elif first and _is_header(first, columns.known):
        yield from _delimited(source, columns)
    else:
        yield from _text(source, columns)


def _is_header(line: str, column_names: Collection[str]) -> bool:
    """Return True if a line is a header of column names.

    They are distinct, and a known one is among them.
    """
    if line.lstrip('"').startswith("sep="):
        return True
    for delimiter in DELIMITERS:
        names = line.split(delimiter)
        keys = [column_key(name) for name in names]
        if len(set(keys)) == len(keys) and all(map(_NAME.fullmatch, map(str.strip, names))):
            # A single word may be a query, but these words are unlikely queries.
            required = ("query", "messages", "prompt") if len(keys) == 1 else column_names
            if not set(required).isdisjoint(keys):
                return True
    return False


def column_key(name: str) -> str:
    """Normalise a column's name: lower case, words joined by underscores."""
    return re.sub(r"[\s-]+", "_", name.strip().strip('"').strip().casefold())


def _is_object(line: str) -> bool:
    if not line.lstrip().startswith("{"):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _without_nulls(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


_READERS: Mapping[str, Callable[[ImportSource, TableColumns], Iterator[RowOrError]]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json,
    ".csv": _delimited,
    ".tsv": _delimited,
    ".tab": _delimited,
    ".parquet": _parquet,
    ".pq": _parquet,
    ".txt": _text,
    ".text": _text,
}
