"""Rows to label, LLM-judge runs, and agreement with a golden set."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from semroute.errors import DispatchError, InputError

if TYPE_CHECKING:
    from rich.console import Group

    from semroute.cli.tables import DataTable
    from semroute.dispatch import Dispatcher
    from semroute.learn.labelling import Answer, Grade, Pick
    from semroute.outcomes.table import OutcomeTable
    from semroute.types import ModelClient


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
        told = zip(self.table.models, answers, strict=True)
        return [model for model, answer in told if answer is not None and model not in done]

    def room(self, row: int) -> int:
        """Return the number of those answers that are to be labelled."""
        left = len(self.models_of(row))
        return left if self._most is None else min(left, max(0, self._most - len(self._judged(row))))

    def _judged(self, row: int) -> frozenset[str]:
        return self._done.get((self.table.queries[row], self.table.tasks[row]), frozenset())

    def answer(self, row: int, model: str) -> str:
        """Return the answer of a model."""
        return (self.table.responses or [])[row][self.table.models.index(model)] or ""

    def has_rows_of(self, judged_by: str) -> bool:
        """True if the file already holds labels of this judge."""
        return any(row.get("judged_by") == judged_by for row in self._written)

    def answers(self) -> Iterator[Answer]:
        """Yield all known answers, labelled or not, of outcomes and file."""
        table = self.table
        for query, task, told in zip(table.queries, table.tasks, table.responses or [], strict=True):
            yield from (
                (query, task, model) for model, text in zip(table.models, told, strict=True) if text is not None
            )
        for (query, task), models in self._done.items():
            yield from ((query, task, model) for model in models)

    def picks(self, classifier: Path | None, index: Path | None, config_path: Path | None, seed: int) -> list[Pick]:
        """Return the rows that are left, in the order of labelling.

        Raises:
            InputError: the labelled rows were drawn by another seed, or from other outcomes.
        """
        import numpy as np

        from semroute.cli.console import progress_bars
        from semroute.cli.encoding import Encoding
        from semroute.learn.labelling import draw, picks
        from semroute.predictors.query_quality import check_encoder, read_query_classifier

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
        from semroute.learn.labelling import draw

        here = set(zip(self.table.queries, self.table.tasks, strict=True))
        for row in self._written:
            key = str(row.get("query")), str(row.get("task") or "")
            if "draw" in row and row["draw"] != draw(*key, seed):
                raise InputError(f"{self.out}: was begun with another --seed; give that one, or name another file")
            if "draw" in row and key not in here:
                raise InputError(f"{self.out}: holds queries of other outcomes; name these too, or another file")

    @cached_property
    def _drawn_from(self) -> str:
        from semroute.learn.labelling import fingerprint

        table, told = self.table, self.table.responses or []
        models = [
            [model for model, answer in zip(table.models, row, strict=True) if answer is not None] for row in told
        ]
        return fingerprint(zip(table.queries, table.tasks, models, strict=True))

    def append(self, row: int, marks: Mapping[str, float], *, judged_by: str, pick: Pick | None = None) -> None:
        """Append a labelled row to the file.

        ``pick`` is why a person was asked.
        """
        from semroute.outcomes.files import append_row

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
        """Return how many labelled queries are a random sample; None if unknown."""
        from semroute.learn.labelling import random_sample
        from semroute.outcomes.files import written_rows

        found = random_sample(written_rows(self.out))
        return None if found is None else len({(query, task) for query, task, _ in found})

    def undo(self) -> None:
        """Remove the row that was added last."""
        with self.out.open("r+b") as file:
            file.truncate(self._sizes.pop())


def read_sheet(outcomes: Sequence[Path], out: Path, most: int | None = None) -> LabelingSession:
    """Read the answers and their existing labels.

    Args:
        outcomes: files with responses.
        out: file that labelled rows are appended to.
        most: maximum number of answers labelled per query; None for all.

    Raises:
        InputError: a file cannot be used, or holds no answers.
    """
    from semroute.outcomes.files import read_outcomes, written_rows

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


def _judged_models(written: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], frozenset[str]]:
    """Return the models with labelled answers, by query and task."""
    from semroute.outcomes.files import known_cells

    return {
        key: frozenset(model for model, cell in cells.items() if cell.get("quality") is not None)
        for key, cells in known_cells(written).items()
    }


# Progress and result of an LLM-judge run.

Stop: TypeAlias = Literal["budget", "no readable grade"]

LEAST_TRIED = 5
"""Initial replies without any grade after which a judge is given up."""


@dataclass
class JudgeRun:
    """Accounting of an LLM-judge run.

    Attributes:
        judge: the model.
        as_json: whether its replies are constrained to a schema.
        wanted: answers to judge.
        max_usd: the budget; None for none.
        has_graded: whether the file already holds its grades, of an earlier run.
        judged: answers that it graded.
        without_grade: replies without a readable grade.
        spent: USD so far.
        needed: USD of the longest grades of the query that exceeded the budget.
        stopped_by: why it ended before all were judged; None if it did not.
        example: the first reply without a grade.
    """

    judge: str
    as_json: bool
    wanted: int
    max_usd: float | None
    has_graded: bool = False
    judged: int = 0
    without_grade: int = 0
    spent: float = 0.0
    needed: float = 0.0
    stopped_by: Stop | None = None
    example: Grade | None = None

    @property
    def asked(self) -> int:
        """Return the number of its replies."""
        return self.judged + self.without_grade

    @property
    def is_hopeless(self) -> bool:
        """True if enough replies were without a grade to give the judge up."""
        # Unreadable answers of an earlier run come first in the next one, and must not keep the rest from being judged.
        return not self.judged and not self.has_graded and self.without_grade >= LEAST_TRIED

    @property
    def has_failed(self) -> bool:
        """True if nothing was judged, although answers were left to judge.

        A few leftovers of an earlier run do not count.
        """
        is_leftover = self.has_graded and self.stopped_by is None and self.without_grade < LEAST_TRIED
        return bool(self.wanted) and not self.judged and not is_leftover

    def add(self, grade: Grade) -> None:
        """Count a reply."""
        self.spent += grade.usd
        if grade.value is None:
            self.without_grade += 1
            self.example = self.example or grade
        else:
            self.judged += 1

    def allows(self, ahead: float) -> bool:
        """True if the budget allows grades of at most so many USD.

        Otherwise the run is marked as stopped.
        """
        if self.max_usd is None or self.spent + ahead <= self.max_usd:
            return True
        self.stopped_by, self.needed = "budget", ahead
        return False

    def plain(self) -> dict[str, Any]:
        """Return the accounting as JSON-ready values."""
        return {
            "judge": self.judge, "judged": self.judged, "without_grade": self.without_grade,
            "spent_usd": self.spent, "stopped_by": self.stopped_by,
        }  # fmt: skip

    def problems(self) -> list[str]:
        """Return problems for the user, a sentence each.

        Where nothing was judged, they include the reason.
        """
        found = [self._unreadable()] if self.without_grade else []
        return [*found, self._short_of_money()] if self.stopped_by == "budget" else found

    def _unreadable(self) -> str:
        from semroute.data.examples import shortened

        said = "" if self.example is None else shortened(self.example.reply, 160)
        if not self.judged:
            return f"none of {self.asked:,} replies of {self.judge} holds a grade, such as {said}; {self._remedy()}"
        return (
            f"{self.without_grade:,} of {self.asked:,} replies of {self.judge} hold no grade, such as {said}; "
            "the next run asks about them again"
        )

    def _remedy(self) -> str:
        from semroute.learn.labelling import MOST_TOKENS

        if self.example is not None and self.example.is_cut:
            return (
                f"it was cut off at {MOST_TOKENS} tokens: let a model judge that answers without thinking aloud, or "
                "turn its thinking off"
            )
        wanted = '{"grade": 7}' if self.as_json else "the number alone, such as 7"
        hold = (
            ""
            if self.as_json
            else "; where its provider can hold answers to a schema, say so in semroute.yaml (models: "
            f"{{{self.judge}: {{capabilities: [json_schema]}}}})"
        )
        return f"a judge must answer with {wanted}: name another model with --judge{hold}"

    def _short_of_money(self) -> str:
        from semroute.workflows.collect import ended_by

        why = ended_by(self.max_usd or 0.0, self.spent, self.needed, "the longest grades of the next query")
        return f"{why}: {self.wanted - self.asked:,} answers were not judged; give more with --max-usd to go on"


# Agreement of an LLM judge with a person: on the random sample, and on all answers that both labelled.


def check_golden(golden: Path, sheet: LabelingSession) -> None:
    """Reject an unusable golden set before paying for a judge.

    Raises:
        InputError: the file cannot be used, is that of the judge, or shares no answer with the rows to judge.
    """
    from semroute.outcomes.files import read_outcomes

    if golden.resolve() == sheet.out.resolve():
        raise InputError(f"{golden}: is what a person judged; name another file for the judge's with --out")
    by_person = _marks(read_outcomes(golden))
    if not by_person:
        raise InputError(f"{golden}: holds no judged answer; judge some by hand (semroute label without --judge)")
    if by_person.keys().isdisjoint(sheet.answers()):
        raise InputError(
            f"{golden}: shares no answer (query, task and model) with the outcomes; name those that it was judged from"
        )


def agreement_dict(judged: Path, golden: Path) -> dict[str, Any] | None:
    """Return the agreement of judge and person on answers both labelled.

    Answers match by query, task and model. ``random_sample`` is the agreement on the random sample alone, which
    represents all queries; None where the file has none. The whole is None where the two share no answer yet.

    Raises:
        InputError: a file cannot be used.
    """
    from dataclasses import asdict

    from semroute.evaluate.metrics import finite
    from semroute.learn.labelling import agreement
    from semroute.outcomes.files import read_outcomes

    by_judge, by_person = _marks(read_outcomes(judged)), _marks(read_outcomes(golden))
    both = sorted(by_judge.keys() & by_person.keys())
    if not both:
        return None
    sample = _sample(golden)
    sampled = [answer for answer in both if answer in sample]

    def compared(answers: Sequence[Answer]) -> dict[str, Any]:
        said, truth = (np.array([marks[answer] for answer in answers]) for marks in (by_judge, by_person))
        found = finite(asdict(agreement(said, truth)))
        assert isinstance(found, dict)
        return found

    return {**compared(both), "random_sample": compared(sampled) if sampled else None}


def _marks(table: OutcomeTable) -> dict[Answer, float]:
    """Return the quality of every labelled answer."""
    keys = zip(table.queries, table.tasks, table.quality.tolist(), strict=True)
    return {
        (query, task, model): quality
        for query, task, row in keys
        for model, quality in zip(table.models, row, strict=True)
        if math.isfinite(quality)
    }


def _sample(golden: Path) -> frozenset[Answer]:
    """Return the answers of the random sample; none if it is unknown."""
    from semroute.data.examples import stop_at_first
    from semroute.data.rows import file_lines, json_rows
    from semroute.learn.labelling import random_sample

    if golden.suffix.lower() != ".jsonl":
        return frozenset()
    report = stop_at_first(golden)
    return random_sample([row for _, row in json_rows(file_lines(golden, report), report)]) or frozenset()


def agreement_shown(compared: dict[str, Any]) -> Group:
    """Return the agreement for people, of the random sample first."""
    from rich.console import Group
    from rich.text import Text

    sample = compared["random_sample"]
    first = (
        (Text("no random sample in the golden file: the agreement may be another on all queries", style="yellow"),)
        if sample is None
        else (Text("on the random sample, which tells of all queries", style="bold"), _agreement_table(sample))
    )
    return Group(
        *first, Text("on all that both judged, the hard ones among them", style="bold"), _agreement_table(compared)
    )


def _agreement_table(compared: dict[str, Any]) -> DataTable:
    from semroute.cli.tables import figures, number

    def rate(name: str) -> str:
        of = compared[name]
        return (
            f"{of['value']:.1%} ({of['low']:.1%} to {of['high']:.1%}) of {of['n']:,}" if of["n"] else "none to tell by"
        )

    return figures(
        same_as_the_person=rate("same"),
        kappa=number(compared["kappa"], 2),
        bad_ones_called_good=rate("too_kind"),
        good_ones_called_bad=rate("too_strict"),
    )


# An LLM-judge run over all rows.


def judge_all(
    sheet: LabelingSession, judge: str, limit: int | None, max_usd: float | None, config_path: Path | None
) -> JudgeRun:
    """Let a model grade the answers of every row that is left.

    It ends early where the budget does, and where none of the first replies holds a grade.

    Raises:
        InputError: the judge cannot be called.
        DispatchError: it stopped answering; its grades so far are saved.
    """
    from semroute import _sync
    from semroute.config import load_config
    from semroute.dispatch import Dispatcher
    from semroute.text.names import did_you_mean

    config = load_config(config_path)
    members = config.members(judge)
    if not any(deployment.model in members for deployment in config.deployments):
        placed = dict.fromkeys([*config.groups, *(deployment.model for deployment in config.deployments)])
        fix = did_you_mean(judge, placed) or "add one to semroute.yaml"
        raise InputError(f'no deployment serves the judge "{judge}"; {fix}')
    specs = [config.models[name] for name in members if name in config.models]
    as_json = bool(specs) and all("json_schema" in (spec.capabilities or ()) for spec in specs)
    rows = sheet.rows if limit is None else sheet.rows[:limit]
    wanted = sum(len(sheet.models_of(row)) for row in rows)
    told = JudgeRun(judge, as_json, wanted, max_usd, sheet.has_rows_of(_name(judge)))
    _sync.run(_judge(sheet, rows, told, Dispatcher(config)))
    return told


async def _judge(sheet: LabelingSession, rows: Sequence[int], told: JudgeRun, dispatcher: Dispatcher) -> None:
    from semroute.cli.console import print_warning, progress_bars
    from semroute.dispatch import Constraints
    from semroute.router.query import ConstrainedClient

    caller = ConstrainedClient(dispatcher, Constraints())
    try:
        with progress_bars() as progress:
            for done, row in enumerate(rows):
                if told.max_usd is not None and not told.allows(await _ahead(sheet, row, told, caller)):
                    break
                await _judge_row(sheet, row, told, caller)
                if told.is_hopeless:
                    told.stopped_by = "no readable grade"
                    break
                progress("judging", done + 1, len(rows))
    except DispatchError:
        print_warning(f"{told.judged:,} answers were judged before {told.judge} stopped answering, and are kept")
        raise
    finally:
        await dispatcher.close()


async def _judge_row(sheet: LabelingSession, row: int, told: JudgeRun, caller: ModelClient) -> None:
    """Grade the answers of a row, and save the grades."""
    import asyncio

    from semroute.learn.labelling import grade

    models, query = sheet.models_of(row), sheet.query(row)
    asked = (grade(query, sheet.answer(row, model), told.judge, caller, as_json=told.as_json) for model in models)
    grades = await asyncio.gather(*asked)
    for one in grades:
        told.add(one)
    marks = {model: one.value for model, one in zip(models, grades, strict=True) if one.value is not None}
    if marks:
        sheet.append(row, marks, judged_by=_name(told.judge))


def _name(judge: str) -> str:
    """Return the name of a judge in the file."""
    return f"model: {judge}"


async def _ahead(sheet: LabelingSession, row: int, told: JudgeRun, caller: ModelClient) -> float:
    """Return the maximum expected cost of judging a row, in USD.

    Raises:
        InputError: the judge's price is not known.
    """
    from semroute.learn.labelling import grading_request

    total = 0.0
    for model in sheet.models_of(row):
        request = grading_request(sheet.query(row), sheet.answer(row, model), as_json=told.as_json)
        estimate = await caller.estimate(request, (told.judge,))
        if estimate.usd is None and estimate.closed is None:
            raise InputError(f'the price of "{told.judge}" is not known, so no budget can be kept; give it a price')
        total += estimate.usd or 0.0
    return total
