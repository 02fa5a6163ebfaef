"""The answers that are judged, and the file that the judgements go to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semroute.errors import InputError

if TYPE_CHECKING:
    from semroute.learn.labelling.order import Pick
    from semroute.outcomes.table import OutcomeTable


class Sheet:
    """What is left to judge.

    Args:
        table: outcomes with responses.
        out: where judged rows go.
        done: models whose answers are judged there already, by query and task.
        most: answers of a query that are judged, if not all.
    """

    def __init__(
        self, table: OutcomeTable, out: Path, done: Mapping[tuple[str, str], frozenset[str]], most: int | None = None
    ) -> None:
        self.table, self.out = table, out
        self._done, self._most = done, most
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

    def picks(self, classifier: Path | None, index: Path | None, config_path: Path | None, seed: int) -> list[Pick]:
        """The rows that are left, in the order in which they should be judged."""
        from semroute.cli.encoding import Encoding
        from semroute.cli.progress import progress_bars
        from semroute.heads.queries import check_encoder, read_query_classifier
        from semroute.learn.labelling.order import Pick, picks

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
        return [Pick(self.rows[pick.row], pick.reason) for pick in picks(answers, vectors, predicted, seed=seed)]

    def keep(self, row: int, marks: Mapping[str, float], *, judged_by: str, picked: str | None = None) -> None:
        """Add a judged row to the file."""
        from semroute.outcomes.appending import append_row

        table = self.table
        cells: dict[str, dict[str, Any]] = {}
        for model, quality in marks.items():
            column = table.models.index(model)
            known = {
                "cost_usd": table.cost[row, column], "input_tokens": table.input_tokens[row, column],
                "output_tokens": table.output_tokens[row, column], "latency_ms": table.latency[row, column],
            }  # fmt: skip
            told = {name: float(value) for name, value in known.items() if value == value}
            cells[model] = {"quality": quality, **told, "response": self.answer(row, model)}
        task = {"task": table.tasks[row]} if table.tasks[row] else {}
        reason = {} if picked is None else {"picked": picked}
        self._sizes.append(self.out.stat().st_size if self.out.exists() else 0)
        append_row(self.out, {"query": self.query(row), **task, "judged_by": judged_by, **reason, "outcomes": cells})

    def take_back(self) -> None:
        """Remove the row that was added last."""
        with self.out.open("r+b") as file:
            file.truncate(self._sizes.pop())


def read_sheet(outcomes: Sequence[Path], out: Path, most: int | None = None) -> Sheet:
    """Read the answers, and what is judged already.

    Args:
        outcomes: files with responses.
        out: where judged rows go.
        most: answers of a query that are judged, if not all.

    Raises:
        InputError: a file cannot be used, or holds no answers.
    """
    from semroute.outcomes.appending import known_cells, written_rows
    from semroute.outcomes.files import read_outcomes

    if any(path.resolve() == out.resolve() for path in outcomes):
        raise InputError(f"{out}: is what is judged; name another file for the judgements")
    done = {
        key: frozenset(model for model, cell in cells.items() if cell.get("quality") is not None)
        for key, cells in known_cells(written_rows(out)).items()
    }
    table = read_outcomes(outcomes, keep_responses=True)
    if not any(any(answer is not None for answer in answers) for answers in table.responses or []):
        raise InputError(
            'the outcomes hold no "response", so there is nothing to judge; semroute collect asks for some'
        )
    return Sheet(table, out, done, most)
