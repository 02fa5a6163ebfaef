"""Labelling session of answers: remaining rows, file for labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from semroute.errors import InputError
from semroute.learn.labelling import Answer, Pick, draw, fingerprint, picks, random_sample
from semroute.outcomes.files import append_row, known_cells, only_appender, read_outcomes, written_rows
from semroute.outcomes.table import OutcomeTable
from semroute.predictors.query_quality import check_encoder, read_query_classifier
from semroute.text.signals import NO_SIGNALS
from semroute.types.protocols import Progress, silent
from semroute.workflows.workspace import Workspace


@dataclass(frozen=True, slots=True)
class LabelingResult:
    """Result of a labelling session.

    Attributes:
        path: file of the labels; absent if nothing was labelled.
        judged: number of queries labelled in this session.
        random_sample: number of all labelled queries that are a random sample; None if unknown.
    """

    path: Path
    judged: int
    random_sample: int | None

    def to_dict(self) -> dict[str, object]:
        """Return JSON-ready values."""
        return {"path": str(self.path), "judged": self.judged, "random_sample": self.random_sample}


class LabelingSession:
    """Answers that are not labelled yet, and the file for their labels.

    Args:
        table: outcomes with responses.
        out: file that labelled rows are appended to.
        written: the rows that are already in it.
        most: maximum number of answers labelled per query; None for all.
    """

    def __init__(
        self, table: OutcomeTable, out: Path, written: Sequence[Mapping[str, Any]], most: int | None = None
    ) -> None:
        self.table, self.out = table, out
        self._written, self._done, self._most = written, _judged_models(written), most
        self.rows = [row for row in range(len(table)) if self.room(row)]
        self._sizes: list[int] = []

    def query(self, row: int) -> str:
        """Return the text of a query."""
        return self.table.queries[row]

    def models_of(self, row: int) -> list[str]:
        """Return the models whose answers were unlabelled when the session began."""
        answers, done = (self.table.responses or [])[row], self._judged(row)
        pairs = zip(self.table.models, answers, strict=True)
        return [model for model, answer in pairs if answer is not None and model not in done]

    def room(self, row: int) -> int:
        """Return the number of those answers that are to be labelled."""
        left = len(self.models_of(row))
        return left if self._most is None else min(left, max(0, self._most - len(self._judged(row))))

    def _judged(self, row: int) -> frozenset[str]:
        signals = self.table.signals[row] if self.table.signals else NO_SIGNALS
        return self._done.get((self.table.queries[row], self.table.tasks[row], _key(signals)), frozenset())

    def answer(self, row: int, model: str) -> str:
        """Return the answer of a model."""
        return (self.table.responses or [])[row][self.table.models.index(model)] or ""

    def has_rows_of(self, judged_by: str) -> bool:
        """Return True if the file already holds labels of this judge."""
        return any(row.get("judged_by") == judged_by for row in self._written)

    def answers(self) -> Iterator[Answer]:
        """Yield all known answers, labelled or not, of outcomes and file."""
        table = self.table
        for query, task, told in zip(table.queries, table.tasks, table.responses or [], strict=True):
            yield from (
                (query, task, model) for model, text in zip(table.models, told, strict=True) if text is not None
            )
        for (query, task, _), models in self._done.items():
            yield from ((query, task, model) for model in models)

    def picks(
        self, workspace: Workspace, *, classifier: Path | None = None, seed: int = 0, progress: Progress = silent
    ) -> list[Pick]:
        """Return the rows that are left, in the order of labelling.

        Args:
            workspace: encoder whose vectors find rare queries.
            classifier: folder of a classifier; queries of which it is unsure come first. None orders without one.
            seed: of the random sample.
            progress: called with a step's name, the number done and the total.

        Raises:
            InputError: the labelled rows were drawn by another seed, or from other outcomes.
        """
        self._check_draws(seed)
        draws = np.array([draw(self.query(row), self.table.tasks[row], seed) for row in self.rows])
        queries = [self.query(row) for row in self.rows]
        responses = self.table.responses or []
        answers = [[answer for answer in responses[row] if answer is not None] for row in self.rows]
        vectors = workspace.vectors(queries, None, progress)
        predicted = None
        if classifier is not None:
            predictor = read_query_classifier(classifier)
            check_encoder(predictor, workspace.encoder, classifier)
            signals = self.table.signals
            predicted = predictor.predict(queries, vectors, signals and [signals[row] for row in self.rows])
        found = picks(answers, vectors, predicted, draws=draws)
        return [replace(pick, row=self.rows[pick.row]) for pick in found]

    def _check_draws(self, seed: int) -> None:
        here = set(zip(self.table.queries, self.table.tasks, strict=True))
        for row in self._written:
            key = str(row.get("query")), str(row.get("task") or "")
            if "draw" in row and row["draw"] != draw(*key, seed):
                raise InputError(f"{self.out}: was begun with another --seed; give that one, or name another file")
            if "draw" in row and key not in here:
                raise InputError(f"{self.out}: holds queries of other outcomes; name these too, or another file")

    @cached_property
    def _drawn_from(self) -> str:
        table, told = self.table, self.table.responses or []
        models = [
            [model for model, answer in zip(table.models, row, strict=True) if answer is not None] for row in told
        ]
        return fingerprint(zip(table.queries, table.tasks, models, strict=True))

    def append(self, row: int, marks: Mapping[str, float], *, judged_by: str, pick: Pick | None = None) -> None:
        """Append a labelled row to the file.

        ``pick`` is why a person was asked.
        """

        table = self.table
        cells: dict[str, dict[str, Any]] = {}
        for model, quality in marks.items():
            column = table.models.index(model)
            known = {
                "cost_usd": table.cost[row, column], "input_tokens": table.input_tokens[row, column],
                "output_tokens": table.output_tokens[row, column], "latency_ms": table.latency[row, column],
            }  # fmt: skip
            told = {name: _plain(value) for name, value in known.items() if value == value}
            cells[model] = {"quality": quality, **told, "response": self.answer(row, model)}
        task = {"task": table.tasks[row]} if table.tasks[row] else {}
        reason = {} if pick is None else {"picked": pick.reason, "draw": pick.draw, "drawn_from": self._drawn_from}
        signals = {"signals": dict(table.signals[row])} if table.signals and table.signals[row] else {}
        self._sizes.append(self.out.stat().st_size if self.out.exists() else 0)
        values = {"query": self.query(row), **task, **signals, "judged_by": judged_by, **reason, "outcomes": cells}
        append_row(self.out, values)

    def sampled(self) -> int | None:
        """Return how many labelled queries are a random sample; None if unknown."""

        found = random_sample(written_rows(self.out))
        return None if found is None else len({(query, task) for query, task, _ in found})

    def result(self, judged: int) -> LabelingResult:
        """Return the result of a session in which so many queries were labelled."""
        return LabelingResult(self.out, judged, self.sampled())

    def undo(self) -> None:
        """Remove the row that was added last."""
        with self.out.open("r+b") as file:
            file.truncate(self._sizes.pop())


@contextmanager
def labeling_session(outcomes: Sequence[Path], out: Path, most: int | None = None) -> Iterator[LabelingSession]:
    """Open a session, and lock its file against other processes.

    Arguments and errors as those of :func:`open_session`.
    """
    with only_appender(out):
        yield open_session(outcomes, out, most)


def open_session(outcomes: Sequence[Path], out: Path, most: int | None = None) -> LabelingSession:
    """Read the answers and their existing labels.

    Args:
        outcomes: files with responses.
        out: file that labelled rows are appended to.
        most: maximum number of answers labelled per query; None for all.

    Raises:
        InputError: a file cannot be used, or holds no answers.
    """

    if any(path.resolve() == out.resolve() for path in outcomes):
        raise InputError(f"{out}: is what is judged; name another file for the judgements")
    written = written_rows(out)
    table = read_outcomes(outcomes, keep_responses=True)
    if not any(any(answer is not None for answer in answers) for answers in table.responses or []):
        raise InputError(
            'the outcomes hold no "response", so there is nothing to judge; semroute collect asks for some'
        )
    return LabelingSession(table, out, written, most)


def _plain(value: np.float32) -> int | float:
    """Return the shortest number equal to this one in 32 bits.

    It is the original number, if that had six digits or fewer.
    """
    number = float(str(value))
    return int(number) if number.is_integer() else number


_SignalsKey: TypeAlias = tuple[tuple[str, float], ...]


def _key(signals: object) -> _SignalsKey:
    """Return signals, of which a row may have some, as a key."""
    return tuple(sorted(signals.items())) if isinstance(signals, Mapping) else ()


def _judged_models(written: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str, _SignalsKey], frozenset[str]]:
    """Return models with labelled answers by query, task and signals."""
    rows_of: dict[_SignalsKey, list[Mapping[str, Any]]] = {}
    for row in written:
        rows_of.setdefault(_key(row.get("signals")), []).append(row)
    return {
        (*key, signals): frozenset(model for model, cell in cells.items() if cell.get("quality") is not None)
        for signals, rows in rows_of.items()
        for key, cells in known_cells(rows).items()
    }
