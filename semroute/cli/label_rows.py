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
        done: queries that are judged there already.
    """

    def __init__(self, table: OutcomeTable, out: Path, done: set[str]) -> None:
        self.table, self.out = table, out
        self.rows = [row for row, query in enumerate(table.queries) if query not in done and self.models_of(row)]
        self._sizes: list[int] = []

    def query(self, row: int) -> str:
        """The text of a query."""
        return self.table.queries[row]

    def models_of(self, row: int) -> list[str]:
        """The models whose answer is known."""
        answers = (self.table.responses or [])[row]
        return [model for model, answer in zip(self.table.models, answers, strict=True) if answer is not None]

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
        answers = [[self.answer(row, model) for model in self.models_of(row)] for row in self.rows]
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


def read_sheet(outcomes: Sequence[Path], out: Path) -> Sheet:
    """Read the answers, and what is judged already.

    Raises:
        InputError: a file cannot be used, or holds no answers.
    """
    from semroute.outcomes.appending import written_rows
    from semroute.outcomes.files import read_outcomes

    if any(path.resolve() == out.resolve() for path in outcomes):
        raise InputError(f"{out}: is what is judged; name another file for the judgements")
    done = {str(row.get("query")) for row in written_rows(out)}
    table = read_outcomes(outcomes, keep_responses=True)
    if not any(any(answer is not None for answer in answers) for answers in table.responses or []):
        raise InputError(
            'the outcomes hold no "response", so there is nothing to judge; semroute collect asks for some'
        )
    return Sheet(table, out, done)
