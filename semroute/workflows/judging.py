"""LLM-judge runs within a budget, and their agreement with a golden set."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from semroute import _sync
from semroute.config import Config
from semroute.data.examples import shortened, stop_at_first
from semroute.data.rows import file_lines, json_rows
from semroute.dispatch import Constraints, Dispatcher
from semroute.errors import DispatchError, InputError
from semroute.evaluate.metrics import finite
from semroute.learn.labelling import (
    MAX_TOKENS,
    Agreement,
    Answer,
    Grade,
    agreement,
    grade,
    grading_request,
    random_sample,
)
from semroute.outcomes.files import read_outcomes
from semroute.outcomes.table import OutcomeTable
from semroute.router.query import ConstrainedClient
from semroute.text.names import did_you_mean
from semroute.types import ModelClient
from semroute.types.protocols import Progress, silent
from semroute.workflows.collect import ended_by
from semroute.workflows.labeling import LabelingSession
from semroute.workflows.workspace import Warn, unheard

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
        """Return True if the budget allows grades of at most so many USD.

        Otherwise the run is marked as stopped.
        """
        if self.max_usd is None or self.spent + ahead <= self.max_usd:
            return True
        self.stopped_by, self.needed = "budget", ahead
        return False

    def to_dict(self) -> dict[str, Any]:
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
        reply = "" if self.example is None else shortened(self.example.reply, 160)
        if not self.judged:
            return f"none of {self.asked:,} replies of {self.judge} holds a grade, such as {reply}; {self._remedy()}"
        return (
            f"{self.without_grade:,} of {self.asked:,} replies of {self.judge} hold no grade, such as {reply}; "
            "the next run asks about them again"
        )

    def _remedy(self) -> str:
        if self.example is not None and self.example.is_cut:
            return (
                f"it was cut off at {MAX_TOKENS} tokens: let a model judge that answers without thinking aloud, or "
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
        why = ended_by(self.max_usd or 0.0, self.spent, self.needed, "the longest grades of the next query")
        return f"{why}: {self.wanted - self.asked:,} answers were not judged; give more with --max-usd to go on"


# Agreement of an LLM judge with a person: on the random sample, and on all answers that both labelled.


@dataclass(frozen=True, slots=True)
class JudgeAgreement:
    """Agreement of an LLM judge with a person.

    Attributes:
        all: on all answers that both labelled, the hard ones among them.
        random_sample: on the random sample alone, which represents all queries; None where the file has none.
    """

    all: Agreement
    random_sample: Agreement | None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values; undefined figures are None."""
        return {
            **_figures(self.all),
            "random_sample": None if self.random_sample is None else _figures(self.random_sample),
        }


def _figures(of: Agreement) -> dict[str, Any]:
    return {name: finite(value) for name, value in asdict(of).items()}


def check_golden(golden: Path, session: LabelingSession) -> None:
    """Reject an unusable golden set before paying for a judge.

    Raises:
        InputError: the file cannot be used, is that of the judge, or shares no answer with the rows to judge.
    """
    if golden.resolve() == session.out.resolve():
        raise InputError(f"{golden}: is what a person judged; name another file for the judge's with --out")
    by_person = _labels(read_outcomes(golden))
    if not by_person:
        raise InputError(f"{golden}: holds no judged answer; judge some by hand (semroute label without --judge)")
    if by_person.keys().isdisjoint(session.answers()):
        raise InputError(
            f"{golden}: shares no answer (query, task and model) with the outcomes; name those that it was judged from"
        )


def judge_agreement(judged: Path, golden: Path) -> JudgeAgreement | None:
    """Return the agreement of judge and person on answers both labelled.

    Answers match by query, task and model. None where the two share no answer yet.

    Raises:
        InputError: a file cannot be used.
    """
    by_judge, by_person = _labels(read_outcomes(judged)), _labels(read_outcomes(golden))
    both = sorted(by_judge.keys() & by_person.keys())
    if not both:
        return None
    sample = _sample(golden)
    sampled = [answer for answer in both if answer in sample]

    def compared(answers: Sequence[Answer]) -> Agreement:
        judge, person = (np.array([labels[answer] for answer in answers]) for labels in (by_judge, by_person))
        return agreement(judge, person)

    return JudgeAgreement(compared(both), compared(sampled) if sampled else None)


def _labels(table: OutcomeTable) -> dict[Answer, float]:
    """Return the quality of every labelled answer."""
    rows = zip(table.queries, table.tasks, table.quality.tolist(), strict=True)
    return {
        (query, task, model): quality
        for query, task, row in rows
        for model, quality in zip(table.models, row, strict=True)
        if math.isfinite(quality)
    }


def _sample(golden: Path) -> frozenset[Answer]:
    """Return the answers of the random sample; none if it is unknown."""
    if golden.suffix.lower() != ".jsonl":
        return frozenset()
    report = stop_at_first(golden)
    return random_sample([row for _, row in json_rows(file_lines(golden, report), report)]) or frozenset()


# The run over all rows.


@dataclass(frozen=True, slots=True)
class JudgeResult:
    """Result of an LLM-judge run.

    Attributes:
        path: file of the grades; absent if nothing was judged.
        run: accounting.
        agreement: with the golden set; None without one, and where the two share no answer yet.
    """

    path: Path
    run: JudgeRun
    agreement: JudgeAgreement | None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        compared = None if self.agreement is None else self.agreement.to_dict()
        return {"path": str(self.path), **self.run.to_dict(), "agreement": compared}


def judge_answers(
    session: LabelingSession,
    judge: str,
    config: Config,
    *,
    golden: Path | None = None,
    limit: int | None = None,
    max_usd: float | None = None,
    progress: Progress = silent,
    warn: Warn = unheard,
) -> JudgeResult:
    """Let a model grade the answers of every row that is left.

    It ends early where the budget does, and where none of the first replies holds a grade.

    Args:
        session: answers to grade, and the file for their grades.
        judge: model or group.
        config: deployments of the judge.
        golden: labels of a person to compare with; None compares with none.
        limit: maximum number of queries; None takes all.
        max_usd: budget; None for none.
        progress: called with a step's name, the number done and the total.
        warn: receives a sentence if the judge stops answering.

    Raises:
        InputError: the judge cannot be called, or a file cannot be used.
        DispatchError: it stopped answering; its grades so far are saved.
    """
    if golden is not None:
        check_golden(golden, session)
    members = config.members(judge)
    if not any(deployment.model in members for deployment in config.deployments):
        served = dict.fromkeys([*config.groups, *(deployment.model for deployment in config.deployments)])
        fix = did_you_mean(judge, served) or "add one to semroute.yaml"
        raise InputError(f'no deployment serves the judge "{judge}"; {fix}')
    specs = [config.models[name] for name in members if name in config.models]
    as_json = bool(specs) and all("json_schema" in (spec.capabilities or ()) for spec in specs)
    rows = session.rows if limit is None else session.rows[:limit]
    wanted = sum(len(session.models_of(row)) for row in rows)
    run = JudgeRun(judge, as_json, wanted, max_usd, session.has_rows_of(_grader(judge)))
    _sync.run(_judge(session, rows, run, Dispatcher(config), progress, warn))
    compared = None if golden is None or not session.out.exists() else judge_agreement(session.out, golden)
    return JudgeResult(session.out, run, compared)


async def _judge(
    session: LabelingSession, rows: Sequence[int], run: JudgeRun, dispatcher: Dispatcher, progress: Progress, warn: Warn
) -> None:
    client = ConstrainedClient(dispatcher, Constraints())
    try:
        for done, row in enumerate(rows):
            if run.max_usd is not None and not run.allows(await _highest_cost(session, row, run, client)):
                break
            await _judge_row(session, row, run, client)
            if run.is_hopeless:
                run.stopped_by = "no readable grade"
                break
            progress("judging", done + 1, len(rows))
    except DispatchError:
        warn(f"{run.judged:,} answers were judged before {run.judge} stopped answering, and are kept")
        raise
    finally:
        await dispatcher.close()


async def _judge_row(session: LabelingSession, row: int, run: JudgeRun, client: ModelClient) -> None:
    """Grade the answers of a row, and save the grades."""
    models, query = session.models_of(row), session.query(row)
    calls = (grade(query, session.answer(row, model), run.judge, client, as_json=run.as_json) for model in models)
    grades = await asyncio.gather(*calls)
    for one in grades:
        run.add(one)
    labels = {model: one.value for model, one in zip(models, grades, strict=True) if one.value is not None}
    if labels:
        session.append(row, labels, judged_by=_grader(run.judge))


def _grader(judge: str) -> str:
    """Return the name of a judge in the file."""
    return f"model: {judge}"


async def _highest_cost(session: LabelingSession, row: int, run: JudgeRun, client: ModelClient) -> float:
    """Return the maximum expected cost of judging a row, in USD.

    Raises:
        InputError: the judge's price is not known.
    """
    total = 0.0
    for model in session.models_of(row):
        request = grading_request(session.query(row), session.answer(row, model), as_json=run.as_json)
        estimate = await client.estimate(request, (run.judge,))
        if estimate.usd is None and estimate.closed is None:
            raise InputError(f'the price of "{run.judge}" is not known, so no budget can be kept; give it a price')
        total += estimate.usd or 0.0
    return total
