"""The answers that are judged, and the file that the judgements go to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semroute.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from semroute.learn.labelling.order import Pick
    from semroute.learn.labelling.sample import Answer
    from semroute.outcomes.table import OutcomeTable


class LabelingSession:
    """What is left to judge.

    Args:
        table: outcomes with responses.
        out: where judged rows go.
        written: the rows that are there already.
        most: answers of a query that are judged, if not all.
    """

    def __init__(
        self, table: OutcomeTable, out: Path, written: Sequence[Mapping[str, Any]], most: int | None = None
    ) -> None:
        self.table, self.out = table, out
        self._written, self._done, self._most = written, _judged_models(written), most
        self.rows = [row for row in range(len(table)) if self.room(row)]
        self._sizes: list[int] = []

    def query(self, row: int) -> str:
        """The text of a query."""
        return self.table.queries[row]

    def models_of(self, row: int) -> list[str]:
        """The models whose answer is known, and was not judged when the sheet was read."""
        answers, done = (self.table.responses or [])[row], self._judged(row)
        told = zip(self.table.models, answers, strict=True)
        return [model for model, answer in told if answer is not None and model not in done]

    def room(self, row: int) -> int:
        """How many of them are to be judged."""
        left = len(self.models_of(row))
        return left if self._most is None else min(left, max(0, self._most - len(self._judged(row))))

    def _judged(self, row: int) -> frozenset[str]:
        return self._done.get((self.table.queries[row], self.table.tasks[row]), frozenset())

    def answer(self, row: int, model: str) -> str:
        """The answer of a model."""
        return (self.table.responses or [])[row][self.table.models.index(model)] or ""

    def has_rows_of(self, judged_by: str) -> bool:
        """Whether somebody's judgements are in the file already."""
        return any(row.get("judged_by") == judged_by for row in self._written)

    def answers(self) -> Iterator[Answer]:
        """All answers that are known, judged or not: of the outcomes, and of the file."""
        table = self.table
        for query, task, told in zip(table.queries, table.tasks, table.responses or [], strict=True):
            yield from (
                (query, task, model) for model, text in zip(table.models, told, strict=True) if text is not None
            )
        for (query, task), models in self._done.items():
            yield from ((query, task, model) for model in models)

    def picks(self, classifier: Path | None, index: Path | None, config_path: Path | None, seed: int) -> list[Pick]:
        """The rows that are left, in the order in which they should be judged.

        Raises:
            InputError: what is judged already was drawn by another seed, or from other outcomes.
        """
        import numpy as np

        from semroute.cli.encoding import Encoding
        from semroute.cli.progress import progress_bars
        from semroute.heads.queries import check_encoder, read_query_classifier
        from semroute.learn.labelling.order import picks
        from semroute.learn.labelling.sample import draw

        self._check_draws(seed)
        draws = np.array([draw(self.query(row), self.table.tasks[row], seed) for row in self.rows])
        queries = [self.query(row) for row in self.rows]
        told = self.table.responses or []
        answers = [[answer for answer in told[row] if answer is not None] for row in self.rows]
        encoding = Encoding(index, config_path)
        with progress_bars() as progress:
            vectors = encoding.vectors(queries, None, progress)
        predicted = None
        if classifier is not None:
            predictor = read_query_classifier(classifier)
            check_encoder(predictor, encoding.encoder, classifier)
            predicted = predictor.predict(queries, vectors)
        found = picks(answers, vectors, predicted, draws=draws)
        return [replace(pick, row=self.rows[pick.row]) for pick in found]

    def _check_draws(self, seed: int) -> None:
        from semroute.learn.labelling.sample import draw

        here = set(zip(self.table.queries, self.table.tasks, strict=True))
        for row in self._written:
            key = str(row.get("query")), str(row.get("task") or "")
            if "draw" in row and row["draw"] != draw(*key, seed):
                raise InputError(f"{self.out}: was begun with another --seed; give that one, or name another file")
            if "draw" in row and key not in here:
                raise InputError(f"{self.out}: holds queries of other outcomes; name these too, or another file")

    @cached_property
    def _drawn_from(self) -> str:
        from semroute.learn.labelling.sample import fingerprint

        table, told = self.table, self.table.responses or []
        models = [
            [model for model, answer in zip(table.models, row, strict=True) if answer is not None] for row in told
        ]
        return fingerprint(zip(table.queries, table.tasks, models, strict=True))

    def append(self, row: int, marks: Mapping[str, float], *, judged_by: str, pick: Pick | None = None) -> None:
        """Add a judged row to the file; ``pick`` is why a person was asked."""
        from semroute.outcomes.appending import append_row

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
        self._sizes.append(self.out.stat().st_size if self.out.exists() else 0)
        append_row(self.out, {"query": self.query(row), **task, "judged_by": judged_by, **reason, "outcomes": cells})

    def sampled(self) -> int | None:
        """How many of the judged queries are a random sample of all; None where the file does not tell which."""
        from semroute.learn.labelling.sample import random_sample
        from semroute.outcomes.appending import written_rows

        found = random_sample(written_rows(self.out))
        return None if found is None else len({(query, task) for query, task, _ in found})

    def undo(self) -> None:
        """Remove the row that was added last."""
        with self.out.open("r+b") as file:
            file.truncate(self._sizes.pop())


def read_sheet(outcomes: Sequence[Path], out: Path, most: int | None = None) -> LabelingSession:
    """Read the answers, and what is judged already.

    Args:
        outcomes: files with responses.
        out: where judged rows go.
        most: answers of a query that are judged, if not all.

    Raises:
        InputError: a file cannot be used, or holds no answers.
    """
    from semroute.outcomes.appending import written_rows
    from semroute.outcomes.files import read_outcomes

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
    """The shortest number that is this one in 32 bits: as it was told, where that was in six digits or fewer."""
    number = float(str(value))
    return int(number) if number.is_integer() else number


def _judged_models(written: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], frozenset[str]]:
    """The models whose answers are judged, by query and task."""
    from semroute.outcomes.appending import known_cells

    return {
        key: frozenset(model for model, cell in cells.items() if cell.get("quality") is not None)
        for key, cells in known_cells(written).items()
    }
