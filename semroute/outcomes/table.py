"""Outcome table: arrays with a row a query and a column a model."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from semroute.data.examples import Finding
from semroute.errors import InputError
from semroute.text.names import known_names
from semroute.text.signals import NO_SIGNALS, Signals

if TYPE_CHECKING:
    from semroute.types import TokenCounter


Floats = NDArray[np.float32]
Rows = NDArray[np.int64] | NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class EffortLength:
    """Mean length of a model's answers at one reasoning effort.

    Attributes:
        model: its name.
        effort: the effort; "" for answers that were asked for without any.
        answers: number of them with known output tokens.
        output_tokens: their mean.
        share: that mean, divided by the one of all answers of the model.
    """

    model: str
    effort: str
    answers: int
    output_tokens: float
    share: float


@dataclass(frozen=True, slots=True)
class OutcomeTable:
    """Outcomes of ``n`` queries and ``m`` models; NaN is "not known".

    Attributes:
        queries: ``n`` texts without surrounding whitespace; a text occurs once for each time that models were sampled
            for it, and once for each set of signals.
        tasks: ``n`` names; the empty string if none was given.
        models: ``m`` names, in the order in which the files name them first.
        quality: ``(n, m)`` float32 in 0..1.
        cost: ``(n, m)`` float32, USD of the whole call.
        input_tokens, output_tokens: ``(n, m)`` float32.
        latency: ``(n, m)`` float32, milliseconds.
        probability: ``(n, m)`` float32, logging propensity: the probability with which the policy that logged the row
            chose the model; needed by off-policy estimates (:mod:`semroute.evaluate.offpolicy`).
        counted: ``(n, m)`` True if ``output_tokens`` were counted here, with another tokenizer than the model's.
        responses: ``n`` tuples of ``m`` answers, None for unknown ones; None if they were not stored.
        logprobs: like ``responses``, the natural-log probabilities of an answer's tokens.
        signals: ``n`` signals of the conversations that the queries are from; None if no row has any.
        efforts: lengths of the answers of models with answers at several efforts, over all rows of the files, since a
            row may be the mean of answers at different ones.
        findings: warnings about the files, which can be used all the same.
    """

    queries: list[str]
    tasks: list[str]
    models: tuple[str, ...]
    quality: Floats
    cost: Floats
    input_tokens: Floats
    output_tokens: Floats
    latency: Floats
    probability: Floats
    counted: NDArray[np.bool_]
    responses: list[tuple[str | None, ...]] | None = None
    logprobs: list[tuple[Sequence[float] | None, ...]] | None = None
    signals: list[Signals] | None = None
    efforts: tuple[EffortLength, ...] = ()
    findings: tuple[Finding, ...] = ()

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def is_complete(self) -> NDArray[np.bool_]:
        """Mask ``(n,)`` of the rows where the quality of every model is known."""
        return np.asarray(np.isfinite(self.quality).all(axis=1))

    def take(self, rows: Rows) -> OutcomeTable:
        """Select rows by ``(k,)`` ordered row numbers or an ``(n,)`` mask."""
        numbers = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        row_numbers = numbers.tolist()
        return replace(
            self,
            queries=[self.queries[row] for row in row_numbers],
            tasks=[self.tasks[row] for row in row_numbers],
            responses=None if self.responses is None else [self.responses[row] for row in row_numbers],
            logprobs=None if self.logprobs is None else [self.logprobs[row] for row in row_numbers],
            signals=None if self.signals is None else [self.signals[row] for row in row_numbers],
            **{name: getattr(self, name)[numbers] for name in ARRAYS},
        )

    def with_models(self, models: Sequence[str]) -> OutcomeTable:
        """Select the columns of some models, in the given order.

        Raises:
            InputError: a model is not in the table; the message names those that are.
        """
        missing = [model for model in models if model not in self.models]
        if missing:
            remedy = known_names(missing[0], self.models, "they hold")
            raise InputError(f'the outcomes hold no model "{missing[0]}"; {remedy}')
        columns = [self.models.index(model) for model in models]
        responses, logprobs = self.responses, self.logprobs
        return replace(
            self,
            models=tuple(models),
            responses=None if responses is None else [tuple(row[column] for column in columns) for row in responses],
            logprobs=None if logprobs is None else [tuple(row[column] for column in columns) for row in logprobs],
            **{name: getattr(self, name)[:, columns] for name in ARRAYS},
        )


ARRAYS = tuple(field.name for field in fields(OutcomeTable) if str(field.type) in ("Floats", "NDArray[np.bool_]"))
"""Names of the ``(n, m)`` fields of :class:`OutcomeTable`."""


# Building of an :class:`~semroute.outcomes.table.OutcomeTable` cell by cell.
#
# Cells go into flat arrays as they come, 36 bytes each: a million rows of dictionaries would be gigabytes.

NUMBERS = ("quality", "cost_usd", "input_tokens", "output_tokens", "latency_ms", "probability")
"""The numbers of a cell, as the files name them."""

_BATCH = 1024
_NAN = float("nan")


class TableBuilder:
    """Builder of an outcome table from cells.

    A cell is the outcome of one model on one query of one task. The same query of the same task is one row, wherever it
    occurs; but rows with a propensity below 1, or of conversations with different signals, are never merged. If a row
    has a model twice, as with repeated runs, the numbers are averaged and the first response is stored.

    Args:
        count: token counter for a response with unknown cost and ``output_tokens``; None leaves them unknown.
        keep_responses: True stores the responses and the log probabilities of their tokens.
    """

    def __init__(self, count: TokenCounter | None = None, *, keep_responses: bool = False) -> None:
        self._count = count
        self._queries: list[str] = []
        self._tasks: list[str] = []
        self._places: dict[str, dict[object, int]] = {}
        self._signals: dict[int, Signals] = {}
        self._lengths: dict[int, dict[str, tuple[int, float]]] = {}
        self._models: dict[str, int] = {}
        self._told: list[int] = []  # of each row, a bit for every model that it has
        self._row = array("q")
        self._model = array("i")
        self._numbers = {name: array("f") for name in NUMBERS}
        self._counted = array("q")
        self._waiting: list[tuple[int, str]] = []
        self._responses: list[dict[int, str]] | None = [] if keep_responses else None
        self._logprobs: dict[tuple[int, int], Sequence[float]] = {}

    def row(self, query: str, task: str, *, is_draw: bool = False, signals: Signals = NO_SIGNALS) -> int:
        """Return the row number of a query; add the row if there is none yet.

        Args:
            query: its text.
            task: its task.
            is_draw: True if its models were sampled (see :func:`is_drawn`): always a new row.
            signals: of the conversation that it is from. An agent asks the same again and again while its tools run,
                and each such request is a row of its own.
        """
        # Samples merged into one row would need the probability that any of them chose the model. That is not
        # 1 - prod(1 - p): a sample of another model does not give this model's p, and samples of one query may be the
        # same draw, since an experiment assigns by the query's text. In separate rows each p is right, and the mean
        # over rows is the mean over the queries asked.
        row = len(self._queries)
        if not is_draw:
            key = (query, tuple(sorted(signals.items()))) if signals else query
            row = self._places.setdefault(task, {}).setdefault(key, row)
        if row == len(self._queries):
            self._queries.append(query)
            self._tasks.append(task)
            self._told.append(0)
            if signals:
                self._signals[row] = signals
            if self._responses is not None:
                self._responses.append({})
        return row

    def add(
        self,
        row: int,
        model: str,
        numbers: Mapping[str, float | None],
        response: str | None,
        logprobs: Sequence[float] | None = None,
        effort: str = "",
    ) -> bool:
        """Add a cell to a row; return False if the row had the model already.

        Numbers that are None or left out are unknown. ``effort`` is the reasoning effort that the answer was asked for
        with.
        """
        column = self._models.setdefault(model, len(self._models))
        is_new = not self._told[row] >> column & 1
        self._told[row] |= 1 << column
        cell = len(self._row)
        self._row.append(row)
        self._model.append(column)
        for name, values in self._numbers.items():
            value = numbers.get(name)
            values.append(_NAN if value is None else value)
        if (length := numbers.get("output_tokens")) is not None:
            count, total = self._lengths.setdefault(column, {}).get(effort, (0, 0.0))
            self._lengths[column][effort] = count + 1, total + length
        if response is not None:
            # With a known cost the tokens are not needed.
            needs_tokens = numbers.get("output_tokens") is None and numbers.get("cost_usd") is None
            self._take_response(cell, column, response, is_counted=needs_tokens)
            if logprobs is not None and is_new and self._responses is not None:
                self._logprobs[row, column] = array("f", logprobs)
        return is_new

    def table(self, findings: tuple[Finding, ...] = ()) -> OutcomeTable:
        """Return the table of all cells."""
        self._count_waiting()
        shape = len(self._queries), len(self._models)
        cell = np.frombuffer(self._row, np.int64) * shape[1] + np.frombuffer(self._model, np.int32)
        means = {name: _means(cell, np.frombuffer(values, np.float32), shape) for name, values in self._numbers.items()}
        counted = np.zeros(shape, np.bool_)
        counted.flat[cell[np.frombuffer(self._counted, np.int64)]] = True
        responses = self._responses
        columns = range(shape[1])
        return OutcomeTable(
            queries=self._queries,
            tasks=self._tasks,
            models=tuple(self._models),
            quality=means["quality"],
            cost=means["cost_usd"],
            input_tokens=means["input_tokens"],
            output_tokens=means["output_tokens"],
            latency=means["latency_ms"],
            probability=means["probability"],
            counted=counted,
            responses=None if responses is None else [tuple(map(row.get, columns)) for row in responses],
            logprobs=[tuple(self._logprobs.get((row, column)) for column in columns) for row in range(shape[0])]
            if self._logprobs
            else None,
            efforts=tuple(self._effort_lengths()),
            signals=[self._signals.get(row, NO_SIGNALS) for row in range(shape[0])] if self._signals else None,
            findings=findings,
        )

    def _effort_lengths(self) -> Iterator[EffortLength]:
        """Yield lengths by effort of the models that have several efforts."""
        names = list(self._models)
        for column, lengths in self._lengths.items():
            answers, total = (sum(numbers) for numbers in zip(*lengths.values(), strict=True))
            if len(lengths) < 2 or not total:
                continue
            for effort, (count, length) in lengths.items():
                mean = length / count
                yield EffortLength(names[column], effort, int(count), mean, mean * answers / total)

    def _take_response(self, cell: int, column: int, response: str, *, is_counted: bool) -> None:
        if self._responses is not None:
            self._responses[self._row[cell]].setdefault(column, response)
        if self._count is not None and is_counted:
            self._waiting.append((cell, response))
            if len(self._waiting) == _BATCH:
                self._count_waiting()

    def _count_waiting(self) -> None:
        if self._count is None or not self._waiting:
            return
        tokens = self._numbers["output_tokens"]
        for (cell, _), number in zip(self._waiting, self._count([text for _, text in self._waiting]), strict=True):
            tokens[cell] = number
            self._counted.append(cell)
        self._waiting.clear()


def is_drawn(numbers: Mapping[str, float | None]) -> bool:
    """Return True if a cell was sampled: its propensity is below 1."""
    probability = numbers.get("probability")
    return probability is not None and probability < 1


def _means(cell: NDArray[np.int64], values: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return the ``shape`` float32 means of known values per cell, else NaN."""
    size = shape[0] * shape[1]
    is_known = np.isfinite(values)
    if not is_known.any():
        return np.full(shape, np.nan, np.float32)
    counts: NDArray[Any] = np.bincount(cell[is_known], minlength=size)
    sums = np.bincount(cell[is_known], weights=values[is_known], minlength=size)
    means = np.divide(sums, counts, out=np.full(size, np.nan), where=counts > 0)
    return np.asarray(means, np.float32).reshape(shape)


# Means over groups of rows with unknown cells.


def numbered(names: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    """Return the distinct names by first occurrence, and ``(n,)`` row numbers."""
    numbers: dict[str, int] = {}
    rows = np.fromiter((numbers.setdefault(name, len(numbers)) for name in names), np.int64, len(names))
    return list(numbers), rows


def group_sums(
    values: NDArray[np.floating], groups: NDArray[np.int64], count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return ``(count, m)`` sums and counts of finite cells by group of rows."""
    sums, counts = np.empty((count, values.shape[1])), np.empty((count, values.shape[1]))
    for column, cells in enumerate(values.T):
        is_known = np.isfinite(cells)
        sums[:, column] = np.bincount(groups[is_known], weights=cells[is_known], minlength=count)
        counts[:, column] = np.bincount(groups[is_known], minlength=count)
    return sums, counts


def group_means(values: NDArray[np.floating], groups: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """Return the ``(count, m)`` mean of finite cells by group and column.

    Imputation of a group without any in a column: the column's mean over all groups, else the group's over all columns,
    else the mean of all; NaN if no cell is finite.
    """
    sums, counts = group_sums(values, groups, count)
    means = _ratio(sums, counts)
    for wider in (
        _ratio(sums.sum(axis=0), counts.sum(axis=0))[None, :],
        _ratio(sums.sum(axis=1), counts.sum(axis=1))[:, None],
        _ratio(sums.sum(), counts.sum()),
    ):
        means = np.where(np.isfinite(means), means, wider)
    return means


def _ratio(sums: NDArray[np.float64] | np.float64, counts: NDArray[np.float64] | np.float64) -> NDArray[np.float64]:
    sums, counts = np.asarray(sums), np.asarray(counts)
    return np.asarray(np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0), np.float64)
