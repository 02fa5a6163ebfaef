"""Files of outcomes: JSON Lines, CSV and Parquet to one :class:`~semroute.outcomes.table.OutcomeTable`.

A row holds a query with all its models::

    {"query": "...", "task": "...", "outcomes": {"small": {"quality": 0.5, "cost_usd": 0.0001, "response": "..."}}}

or, as always in CSV, a query with one model: ``query``, ``task``, ``model``, ``quality``, ``cost_usd``,
``input_tokens``, ``output_tokens``, ``latency_ms``, ``probability``, ``response``. Only ``query``, the model and its
``quality`` are required; a quality of null (in CSV an empty field) was not judged. An outcome may tell
the ``logprobs`` of its response, a list with one for each token (not in CSV). Other keys are ignored.

``probability`` is that with which the log came to know the answer: with one model a query, that the model was chosen.
A row of a file in which it is below 1 is one draw; models that were drawn for the same query at the same time belong in
the same row, under ``outcomes``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from semroute.categories.jsonl import json_rows
from semroute.categories.lines import file_lines
from semroute.categories.notes import Notes, Report, combined, shortened
from semroute.categories.parquet import parquet_rows
from semroute.categories.rfc4180 import csv_rows
from semroute.categories.rows import kind, query_text, usable
from semroute.errors import DataError
from semroute.outcomes.building import NUMBERS, TableBuilder, is_drawn
from semroute.outcomes.cells import cell_logprobs, cell_numbers, cell_response
from semroute.outcomes.table import OutcomeTable

if TYPE_CHECKING:
    from semroute.types import TokenCounter

FORMATS = (".jsonl", ".csv", ".parquet")
_LONG = ("model", *NUMBERS, "response")

_Rows: TypeAlias = Iterator[tuple[int, dict[str, object]]]


def read_outcomes(
    paths: Path | str | Sequence[Path | str],
    *,
    count: TokenCounter | None = None,
    keep_responses: bool = False,
) -> OutcomeTable:
    """Read files of outcomes, row by row, into one table.

    The same query of the same task is one row of the table, whether it stands in one row of the files or in several;
    where a model is told of twice the numbers are averaged, and ``findings`` says how often. A row of a file that tells
    a ``probability`` below 1 stays a row of its own. Whitespace around a query, a task or a model is dropped. Parquet
    needs the extra "parquet".

    Args:
        paths: ``.jsonl``, ``.csv`` or ``.parquet`` files.
        count: counts the tokens of responses without cost and ``output_tokens``; None leaves them unknown.
        keep_responses: whether the table gets the responses and the log probabilities of their tokens.

    Raises:
        DataError: a file cannot be used. The message has one line for each problem, with the line (of Parquet the
            1-based row) and the fix; ``line`` is that of the first.
        MissingExtraError: a Parquet file, and the extra is not installed.
    """
    builder = TableBuilder(count, keep_responses=keep_responses)
    sources = [Path(paths)] if isinstance(paths, Path | str) else [Path(path) for path in paths]
    notes = [Notes(path) for path in sources]
    for note in notes:
        _FileReader(note, builder).read()
    problems = list(chain.from_iterable(note.problems for note in notes))
    if problems:
        raise combined(problems)
    return builder.table(tuple(chain.from_iterable(note.warnings for note in notes)))


class _FileReader:
    """Reads one file into the builder; problems and warnings go to the notes."""

    def __init__(self, notes: Notes, builder: TableBuilder) -> None:
        self._notes = notes
        self._builder = builder
        reader = _READERS.get(notes.path.suffix.lower())
        if reader is None:
            message = f"a file of outcomes is one of {', '.join(FORMATS)}; convert it and name it so"
            raise DataError(message, path=notes.path)
        # Only Parquet has rows without lines; there the message names the row.
        self._report: Report = self._by_row if reader is _parquet else notes.problem
        self._rows = reader(notes.path, self._report)
        self._repeated: list[int] = []

    def read(self) -> None:
        seen = 0
        for number, row in self._rows:
            seen += 1
            query = query_text(row, number, self._report)
            task = self._name(row.get("task"), '"task"', number) if row.get("task") is not None else ""
            cells = self._cells(row, number)
            if query is not None and task is not None:
                self._add(query, task, cells, number)
        if not seen and not self._notes.problems:
            self._notes.problem('holds no rows; give it some, such as {"query": "...", "outcomes": {...}}')
        if self._repeated:
            message = f"a query and model that were told of before, {len(self._repeated):,} times; "
            self._notes.warn(f"{message}the numbers are averaged", self._repeated[0])

    def _add(self, query: str, task: str, cells: Iterable[tuple[str, Mapping[str, object]]], number: int) -> None:
        told = []
        for model, cell in cells:
            numbers = cell_numbers(cell, model, number, self._report)
            response = cell_response(cell, model, number, self._report)
            logprobs = cell_logprobs(cell, model, number, self._report)
            if numbers is not None:
                told.append((model, numbers, response, logprobs))
        place = self._builder.row(query, task, is_draw=any(is_drawn(numbers) for _, numbers, _, _ in told))
        repeats = False
        for one in told:
            repeats |= not self._builder.add(place, *one)
        if repeats:
            self._repeated.append(number)

    def _cells(self, row: Mapping[str, object], number: int) -> list[tuple[str, Mapping[str, object]]]:
        """The models that a row tells of; none, and a report, where there is none to use."""
        if "outcomes" not in row:
            return self._long(row, number)
        outcomes = row["outcomes"]
        if not isinstance(outcomes, dict):
            self._report(f'"outcomes" must be an object with a key for each model, not {kind(outcomes)}', number)
            return []
        # A table with a column for each model has null where the row does not know the model.
        told = {model: cell for model, cell in outcomes.items() if cell is not None}
        if not told:
            self._report('"outcomes" names no model; give it one, or remove the row', number)
        found: list[tuple[str, Mapping[str, object]]] = []
        for model, cell in told.items():
            name = self._name(model, "a model's name", number)
            if not isinstance(cell, dict):
                message = f'the outcome of {shortened(model)} must be an object such as {{"quality": 0.5}}'
                self._report(f"{message}, not {kind(cell)}", number)
            elif name is not None:
                found.append((name, cell))
        return found

    def _long(self, row: Mapping[str, object], number: int) -> list[tuple[str, Mapping[str, object]]]:
        if "model" not in row:
            has = shortened(", ".join(row))
            self._report(f'has neither "outcomes" nor "model" (its keys: {has}); put its models under one', number)
            return []
        name = self._name(row["model"], '"model"', number)
        return [] if name is None else [(name, row)]

    def _name(self, value: object, what: str, number: int) -> str | None:
        if isinstance(value, str):
            # An empty field of a CSV file is a task that was not given.
            return "" if what == '"task"' and not value.strip() else usable(value, what, number, self._report)
        self._report(f"{what} must be text, not {kind(value)}; put it in quotes", number)
        return None

    def _by_row(self, message: str, row: int | None) -> None:
        self._notes.problem(message if row is None else f"row {row}: {message}")


def _jsonl(path: Path, report: Report) -> _Rows:
    return json_rows(file_lines(path, report), report)


def _csv(path: Path, report: Report) -> _Rows:
    for number, row in csv_rows(file_lines(path, report), report, required=("query", "model", "quality")):
        yield number, row | {name: _number(row[name]) for name in NUMBERS if name in row}


def _number(field: object) -> object:
    """A number; None for an empty field; what is neither as it is, to be reported."""
    text = str(field).strip()
    try:
        return float(text) if text else None
    except ValueError:
        return text


_parquet = partial(parquet_rows, required=("query",), optional=("task", "outcomes", *_LONG))

_READERS: Mapping[str, Callable[[Path, Report], _Rows]] = MappingProxyType(
    {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
)
