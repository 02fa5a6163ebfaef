"""Files of outcomes and of predictions: read, check and append.

JSON Lines, CSV and Parquet are read into one :class:`~semroute.outcomes.table.OutcomeTable`. A row holds a query with
all its models::

    {"query": "...", "task": "...", "outcomes": {"small": {"quality": 0.5, "cost_usd": 0.0001, "response": "..."}}}

or, as always in CSV, a query with one model: ``query``, ``task``, ``model``, ``quality``, ``cost_usd``,
``input_tokens``, ``output_tokens``, ``latency_ms``, ``probability``, ``response``. Only ``query``, the model and its
``quality`` are required; a quality of null (in CSV an empty field) was not judged. An outcome may have the
``logprobs`` of its response, a list with one for each token (not in CSV). A row may have the ``signals`` of the
conversation that its query is from (:mod:`semroute.text.signals`; not in CSV), and an outcome the reasoning ``effort``
that it was asked for with. Other keys are ignored.

``probability`` is the logging propensity: with one model a query, the probability that the model was chosen. Rows with
a propensity below 1 are never merged; models that were sampled for the same query at the same time belong in the same
row, under ``outcomes``.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

import filelock
import numpy as np

from semroute.config.cascade import Effort
from semroute.data.examples import Notes, Report, combined, shortened
from semroute.data.rows import csv_rows, file_lines, json_rows, kind, parquet_rows, query_text, row_signals, usable
from semroute.errors import DataError, InputError
from semroute.outcomes.table import NUMBERS, OutcomeTable, TableBuilder, is_drawn
from semroute.storage import is_special, json_line
from semroute.text.signals import Signals
from semroute.types import Matrix

if TYPE_CHECKING:
    from semroute.types import TokenCounter


# Validation of the values of one cell.

MAX_VALUE = 1e12
"""Largest count of tokens, cost in USD or latency in milliseconds."""

_EFFORTS = frozenset(get_args(Effort))
_LIMITS = {"quality": 1.0, "probability": 1.0}
_FIXES = {
    "quality": "scale it to that range",
    "probability": "write the share of queries that went to the model, above 0",
}


def cell_numbers(cell: Mapping[str, object], model: str, line: int, report: Report) -> dict[str, float | None] | None:
    """Return a cell's numbers, None for unknown ones; report invalid ones.

    With an invalid number the result is None.
    """
    if "quality" not in cell:
        keys = shortened(", ".join(cell))
        report(f'the outcome of {shortened(model)} has no "quality" (its keys: {keys}); null says "not judged"', line)
        return None
    numbers: dict[str, float | None] = {}
    for name in NUMBERS:
        value = cell.get(name)
        problem = None if value is None else _problem(name, value)
        if problem:
            report(f'"{name}" of {shortened(model)} {problem}', line)
            return None
        numbers[name] = None if value is None else float(value)  # type: ignore[arg-type]  # _problem saw a number
    return numbers


def cell_response(cell: Mapping[str, object], model: str, line: int, report: Report) -> str | None:
    """Return a cell's response, None without one; report one that is no text."""
    response = cell.get("response")
    if response is None or isinstance(response, str):
        return response
    report(f'"response" of {shortened(model)} must be text, not {kind(response)}', line)
    return None


def cell_logprobs(cell: Mapping[str, object], model: str, line: int, report: Report) -> list[float] | None:
    """Return a cell's log probabilities, None without; report invalid ones."""
    values = cell.get("logprobs")
    if values is None:
        return None
    if isinstance(values, list) and all(_is_logprob(value) for value in values):
        return [min(0.0, float(value)) for value in values]
    report(f'"logprobs" of {shortened(model)} must be a list of natural logarithms of probabilities, 0 at most', line)
    return None


def _effort(cell: Mapping[str, object], model: str, line: int, report: Report) -> str:
    """Return a cell's reasoning effort, or ""; report one that is no text."""
    effort = cell.get("effort")
    if effort is not None and not isinstance(effort, str):
        report(f'"effort" of {shortened(model)} must be text, such as "high", not {kind(effort)}', line)
    return effort if isinstance(effort, str) and effort in _EFFORTS else ""


def _is_logprob(value: object) -> bool:
    # Servers round: a little above 0 is 0.
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and -MAX_VALUE <= value <= 1e-3  # type: ignore[operator]  # it is a number


def _problem(name: str, value: object) -> str | None:
    maximum = _LIMITS.get(name, MAX_VALUE)
    allowed = f"a number from 0 to {maximum:g}" if name in _LIMITS else "a number from 0"
    if isinstance(value, bool) or not isinstance(value, int | float):
        shown = shortened(value) if isinstance(value, str) else kind(value)
        return f"must be {allowed}, not {shown}"
    if not 0 <= value <= maximum:  # also what is not a number
        shown_number = f"{value:g}" if isinstance(value, float) and math.isfinite(value) else str(value)[:20]
        return f"must be {allowed}, not {shown_number}; {_FIXES.get(name, 'correct it')}"
    if name == "probability" and value == 0:
        return f"must be above 0; {_FIXES[name]}"
    return None


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

    The same query of the same task is one row of the table, whether it is in one row of the files or in several; if a
    model occurs twice the numbers are averaged, and ``findings`` holds the count. Rows with a propensity
    (``probability``) below 1 are never merged. Whitespace around a query, a task or a model is dropped. Parquet needs
    the extra "parquet".

    Args:
        paths: ``.jsonl``, ``.csv`` or ``.parquet`` files.
        count: token counter for responses without cost and ``output_tokens``; None leaves them unknown.
        keep_responses: True stores the responses and the log probabilities of their tokens in the table.

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
    """Reader of one file into a table builder, with notes of problems."""

    def __init__(self, notes: Notes, builder: TableBuilder) -> None:
        self._notes = notes
        self._builder = builder
        reader = _READERS.get(notes.path.suffix.lower())
        if reader is None:
            message = f"a file of outcomes is one of {', '.join(FORMATS)}; convert it and name it so"
            raise DataError(message, path=notes.path)
        # Only Parquet has rows without lines; there the message names the row.
        self._report: Report = self._report_row if reader is _parquet else notes.problem
        self._rows = reader(notes.path, self._report)
        self._repeated: list[int] = []

    def read(self) -> None:
        count = 0
        for number, row in self._rows:
            count += 1
            query = query_text(row, number, self._report)
            task = self._name(row.get("task"), '"task"', number) if row.get("task") is not None else ""
            cells, signals = self._cells(row, number), row_signals(row, number, self._report)
            if query is not None and task is not None and signals is not None:
                self._add(query, task, cells, number, signals)
        if not count and not self._notes.problems:
            self._notes.problem('holds no rows; give it some, such as {"query": "...", "outcomes": {...}}')
        if self._repeated:
            message = f"a query and model that occurred before, {len(self._repeated):,} times; "
            self._notes.warn(f"{message}the numbers are averaged", self._repeated[0])

    def _add(
        self, query: str, task: str, cells: Iterable[tuple[str, Mapping[str, object]]], number: int, signals: Signals
    ) -> None:
        valid = []
        for model, cell in cells:
            numbers = cell_numbers(cell, model, number, self._report)
            response = cell_response(cell, model, number, self._report)
            logprobs = cell_logprobs(cell, model, number, self._report)
            if numbers is not None:
                valid.append((model, numbers, response, logprobs, _effort(cell, model, number, self._report)))
        is_draw = any(is_drawn(numbers) for _, numbers, *_ in valid)
        row = self._builder.row(query, task, is_draw=is_draw, signals=signals)
        repeats = False
        for entry in valid:
            repeats |= not self._builder.add(row, *entry)
        if repeats:
            self._repeated.append(number)

    def _cells(self, row: Mapping[str, object], number: int) -> list[tuple[str, Mapping[str, object]]]:
        """Return the models and cells of a row; report a row without any."""
        if "outcomes" not in row:
            return self._single_model(row, number)
        outcomes = row["outcomes"]
        if not isinstance(outcomes, dict):
            self._report(f'"outcomes" must be an object with a key for each model, not {kind(outcomes)}', number)
            return []
        # A table with a column for each model has null where the row has no outcome of the model.
        given = {model: cell for model, cell in outcomes.items() if cell is not None}
        if not given:
            self._report('"outcomes" names no model; give it one, or remove the row', number)
        cells: list[tuple[str, Mapping[str, object]]] = []
        for model, cell in given.items():
            name = self._name(model, "a model's name", number)
            if not isinstance(cell, dict):
                message = f'the outcome of {shortened(model)} must be an object such as {{"quality": 0.5}}'
                self._report(f"{message}, not {kind(cell)}", number)
            elif name is not None:
                cells.append((name, cell))
        return cells

    def _single_model(self, row: Mapping[str, object], number: int) -> list[tuple[str, Mapping[str, object]]]:
        if "model" not in row:
            keys = shortened(", ".join(row))
            self._report(f'has neither "outcomes" nor "model" (its keys: {keys}); put its models under one', number)
            return []
        name = self._name(row["model"], '"model"', number)
        return [] if name is None else [(name, row)]

    def _name(self, value: object, field: str, number: int) -> str | None:
        if isinstance(value, str):
            # An empty field of a CSV file is a task that was not given.
            return "" if field == '"task"' and not value.strip() else usable(value, field, number, self._report)
        self._report(f"{field} must be text, not {kind(value)}; put it in quotes", number)
        return None

    def _report_row(self, message: str, row: int | None) -> None:
        self._notes.problem(message if row is None else f"row {row}: {message}")


def _jsonl(path: Path, report: Report) -> _Rows:
    return json_rows(file_lines(path, report), report)


def _csv(path: Path, report: Report) -> _Rows:
    for number, row in csv_rows(file_lines(path, report), report, required=("query", "model", "quality")):
        # A column of signals is somebody else's.
        yield number, row | {"signals": None} | {name: _number(row[name]) for name in NUMBERS if name in row}


def _number(field: object) -> object:
    """Parse a number; None for an empty field; invalid text as it is."""
    text = str(field).strip()
    try:
        return float(text) if text else None
    except ValueError:
        return text


_parquet = partial(parquet_rows, required=("query",), optional=("task", "outcomes", "signals", "effort", *_LONG))

_READERS: Mapping[str, Callable[[Path, Report], _Rows]] = MappingProxyType(
    {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
)


# Appending to a file of outcomes, also after an interruption.


@contextmanager
def only_appender(path: Path) -> Iterator[None]:
    """Lock a file against other processes that append to it.

    Two processes that continue it would both pay for the missing answers. The lock is next to the file and outlives
    neither the process nor the machine; a hidden file of that name stays. A file that is not regular, such as
    ``/dev/null``, needs no lock.

    Raises:
        InputError: another process, named in the message, appends to it; or no lock can be made there.
    """
    file = path.resolve()
    if is_special(file):
        yield
        return
    lock, holder = filelock.FileLock(file.with_name(f".{file.name}.lock")), file.with_name(f".{file.name}.writer")
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        raise InputError(f"{path}: {_named(holder)} is adding to it; wait for its end, or name another file") from None
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be locked for writing ({reason}); name a file in another folder") from error
    try:
        # A separate file: a process that tries to take the lock empties the lock file.
        with suppress(OSError):
            holder.write_text(f"process {os.getpid()} ({Path(sys.argv[0]).name} {' '.join(sys.argv[1:2])})", "utf-8")
        yield
    finally:
        with suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


def _named(holder: Path) -> str:
    """Return the description of the process that holds a lock."""
    try:
        return holder.read_text("utf-8", "replace")[:200].strip() or "another process"
    except OSError:
        return "another process"


def written_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows that a file holds already; none if it does not exist.

    Repairs the end of the file: an incomplete last line, left by an interrupted program, is removed; a complete one
    without a line end, as some editors write it, gets one.

    Raises:
        InputError: the file cannot be read, or a line is no JSON object.
    """
    try:
        raw = path.read_bytes() if path.exists() else b""
        complete, last = raw[: raw.rfind(b"\n") + 1], raw[raw.rfind(b"\n") + 1 :]
        if isinstance(_parsed(last), dict):
            with path.open("ab") as file:
                file.write(b"\n")
            complete = raw + b"\n"
        elif last:
            with path.open("r+b") as file:
                file.truncate(len(complete))
    except OSError as error:
        raise InputError(f"{path}: cannot be used ({error.strerror or error})") from error
    rows = []
    for number, line in enumerate(complete.splitlines(), 1):
        row = _parsed(line)
        if not isinstance(row, dict):
            raise InputError(f"{path}:{number}: not a line of outcomes; name another file, or remove the line")
        rows.append(row)
    return rows


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def known_cells(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], dict[str, Mapping[str, Any]]]:
    """Return the cells of each model, by query and task.

    The same query of two tasks is two rows of outcomes.

    Args:
        rows: rows of a file of outcomes, a query with all its models or with one; others are ignored. The empty string
            is no task.
    """
    cells_of: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        outcomes = row.get("outcomes", {str(row.get("model")): row} if "model" in row else {})
        cells = cells_of.setdefault((str(row.get("query")).strip(), str(row.get("task") or "").strip()), {})
        if isinstance(outcomes, dict):
            cells |= {model.strip(): cell for model, cell in outcomes.items() if isinstance(cell, dict)}
    return cells_of


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Append a row as one whole line.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        with path.open("ab") as file:
            file.write(json_line(row).encode("utf-8", "replace") + b"\n")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error


# Answers without a quality: they need judging, not more of them.


def check_judged(table: OutcomeTable) -> None:
    """Reject a table without any quality, as ``semroute collect`` writes it.

    Raises:
        InputError: there are queries, and the quality of no answer is known.
    """
    if len(table) and not np.isfinite(table.quality).any():
        raise InputError(
            f"the outcomes of {len(table):,} queries hold no quality: the answers are not judged; judge them with "
            "semroute label, by hand or with --judge MODEL"
        )


def judging_remedy(table: OutcomeTable) -> str:
    """Return the first part of a remedy if answers are unjudged, else "".

    An answer exists if its text, tokens, cost or latency is known.
    """
    is_answered = np.isfinite([table.cost, table.input_tokens, table.output_tokens, table.latency]).any(axis=0)
    if table.responses is not None:
        texts = [[text is not None for text in row] for row in table.responses]
        is_answered |= np.array(texts, np.bool_).reshape(is_answered.shape)
    count = int((is_answered & ~np.isfinite(table.quality)).sum())
    return f"judge the {count:,} answers that have no quality yet (semroute label), " if count else ""


# Predicted quality from a file, for the queries of an outcome table.


@dataclass(frozen=True, slots=True)
class Predictions:
    """Predicted quality of ``n`` queries and ``m`` models, from a file.

    Attributes:
        quality: ``(n, m)`` float32 in 0..1.
        seen: ``n`` values: True if the predictor was trained on the query; None if the file has no value.
    """

    quality: Matrix
    seen: tuple[bool | None, ...]

    @property
    def trained_on(self) -> int:
        """Number of queries that the predictor was trained on."""
        return self.seen.count(True)

    @property
    def not_told(self) -> int:
        """Number of queries without a ``seen`` value."""
        return self.seen.count(None)


def read_predictions(
    path: Path | str, queries: Sequence[str], models: Sequence[str], signals: Sequence[Signals] | None = None
) -> Predictions:
    """Read predicted quality from JSON Lines.

    ``semroute predict --json`` writes them, a query a line::

        {"query": "...", "quality": {"small": 0.4, "large": 0.9}, "seen": false}

    ``seen`` is true if the predictor was trained on the query, and may be left out. Other keys are ignored, as are
    queries and models that are not wanted. Lines are matched to queries by text without surrounding whitespace, and a
    line with ``signals`` to those with the same ones; of a query that occurs twice the last line counts.

    Args:
        path: the file.
        queries: ``n`` texts.
        models: ``m`` names.
        signals: of the conversation of each query; None without any. A line without signals counts for a query that no
            line with its own is there for.

    Raises:
        DataError: the file cannot be used, or misses a query or a model.
    """
    notes = Notes(Path(path))
    rows: dict[str, list[int]] = {}
    for row, text in enumerate(queries):
        rows.setdefault(text, []).append(row)
    predicted = np.full((len(queries), len(models)), np.nan, np.float32)
    seen_values: list[bool | None] = [None] * len(queries)
    has_own: set[int] = set()
    for number, line in json_rows(file_lines(notes.path, notes.problem), notes.problem):
        query = query_text(line, number, notes.problem)
        if query is not None and query in rows:
            cells = _cells(line.get("quality"), models, number, notes.problem)
            is_seen = line.get("seen")
            if is_seen is not None and not isinstance(is_seen, bool):
                notes.problem(f'"seen" must be true or false, not {kind(is_seen)}', number)
            elif cells is not None:
                for row in _matched(rows[query], line, signals, has_own, number, notes.problem):
                    predicted[row], seen_values[row] = cells, is_seen
    missing = np.flatnonzero(np.isnan(predicted).any(axis=1))
    if len(missing) and not notes.problems:
        first = shortened(queries[int(missing[0])])
        notes.problem(
            f"{len(missing):,} of the {len(queries):,} queries are missing, such as {first}; predict them too"
        )
    if notes.problems:
        raise combined(notes.problems)
    return Predictions(predicted, tuple(seen_values))


def _matched(
    rows: Sequence[int],
    line: Mapping[str, object],
    signals: Sequence[Signals] | None,
    has_own: set[int],
    number: int,
    report: Report,
) -> list[int]:
    """Return the rows of one text that a line of predictions is for.

    ``has_own`` gets those with the line's signals.
    """
    if signals is None:
        return list(rows)
    given = row_signals(line, number, report)
    same = [row for row in rows if signals[row] == given]
    has_own.update(same)
    return same if given else [*same, *(row for row in rows if row not in has_own)]


def _cells(quality: object, models: Sequence[str], line: int, report: Report) -> list[float] | None:
    if not isinstance(quality, dict):
        report(f'"quality" must be an object with a number for each model, not {kind(quality)}', line)
        return None
    cells = []
    for model in models:
        value = quality.get(model)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            shown = kind(value) if not isinstance(value, int | float) or isinstance(value, bool) else f"{value:g}"
            report(f'"quality" must have a number from 0 to 1 for {shortened(model)}, not {shown}', line)
            return None
        cells.append(float(value))
    return cells
