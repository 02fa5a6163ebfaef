"""Answers of every model to the same queries, collected within a budget.

A log has one model's answer per query, so that models cannot be compared by it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

from semroute import _sync
from semroute.config import Config
from semroute.data.queries import iter_query_rows
from semroute.dispatch import Constraints, Dispatcher
from semroute.errors import DispatchError, InputError, QueryError
from semroute.outcomes.files import append_row, known_cells, only_appender, written_rows
from semroute.router.query import as_messages, routed_text
from semroute.text.names import known_names
from semroute.types import Attempt, Completion, Query, Request, total_cost
from semroute.types.protocols import Progress, silent
from semroute.workflows.workspace import Warn, Workspace, unheard


def ended_by(budget: float, spent: float, needed: float, what: str) -> str:
    """Return the reason why a run stopped at its budget.

    Args:
        budget: USD that may be spent.
        spent: USD that were spent.
        needed: maximum USD of the next step.
        what: name of that step's cost, for people, such as "the longest answers to the next query".
    """
    rest = budget - spent
    if rest <= 0:
        return f"the budget of USD {budget:g} is spent"
    return f"of the budget of USD {budget:g}, the rest of USD {rest:.4g} would not cover {what} (USD {needed:.4g})"


# The collector of answers.

CLOSED_S = 60.0
"""Maximum wait for closed endpoints before a model's answer is given up, in seconds."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Query to send to the models.

    Attributes:
        text: the routed text, which identifies the row.
        query: the query as it is sent.
        task: category or task; the empty string for none.
        models: models to call; None for all of the collector.
    """

    text: str
    query: Query
    task: str = ""
    models: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Collected:
    """Query with the answers of all models that were called.

    Attributes:
        asked: the query.
        completions: by model; failed ones are missing.
        failures: reason by model.
        usd: cost of its calls.
    """

    asked: Asked
    completions: Mapping[str, Completion]
    failures: Mapping[str, str]
    usd: float

    def row(self) -> dict[str, Any]:
        """Return the row of a file of outcomes.

        Its quality is null, since nobody has judged the answer.
        """
        outcomes = {model: _cell(completion) for model, completion in self.completions.items()}
        task = {"task": self.asked.task} if self.asked.task else {}
        return {"query": self.asked.text, **task, "outcomes": outcomes}


@dataclass
class Collector:
    """Collector of answers that keeps to a budget.

    Args:
        dispatcher: calls the models, with its limits, retries and breakers.
        models: models to call, unless a query names others.
        max_usd: the budget. A query starts only if the rest of the budget covers its longest answers; those of
            queries in flight are reserved, and it waits for them.
        max_tokens: longest answer.
        together: maximum queries in flight.

    Attributes:
        spent: USD so far.
        is_spent: whether the budget kept a query from being asked.
        needed: maximum USD of the longest answers to that query.
    """

    dispatcher: Dispatcher
    models: Sequence[str]
    max_usd: float
    max_tokens: int = 1024
    together: int = 4
    spent: float = 0.0
    is_spent: bool = False
    needed: float = 0.0
    _running: dict[asyncio.Task[Collected], float] = field(default_factory=dict, init=False)

    async def collect(self, queries: Iterable[Asked]) -> AsyncGenerator[Collected]:
        """Yield every query with its answers as soon as it has them.

        It ends when the budget does.

        Raises:
            InputError: a model cannot be called, or its price is unknown, so that no budget can be kept.
        """
        waiting, running = iter(queries), self._running
        next_one = next(waiting, None)
        try:
            while True:
                while next_one is not None and len(running) < self.together and await self._begin(next_one):
                    next_one = next(waiting, None)
                if not running:
                    return
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    del running[task]
                    yield task.result()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            running.clear()

    async def _begin(self, asked: Asked) -> bool:
        """Start a query if the budget allows it now.

        A query that it can never allow marks the budget as spent.
        """
        if self.is_spent:
            return False
        ahead = await self._ahead(asked)
        if self.spent + ahead > self.max_usd:
            self.is_spent, self.needed = True, ahead
            return False
        # Other reservations are released when they are answered, usually for less. The query is tried again then, and
        # the same queries are asked as one at a time would be.
        if self.spent + sum(self._running.values()) + ahead > self.max_usd:
            return False
        self._running[asyncio.create_task(self._ask(asked))] = ahead
        return True

    async def _ahead(self, asked: Asked) -> float:
        """Return USD of the longest answers to a query."""
        total = 0.0
        for model in self._models(asked):
            estimate = await self.dispatcher.estimate(self._request(asked), (model,))
            if estimate.closed is not None and estimate.wait_s is None:
                raise InputError(f"{model} cannot be called: {estimate.closed}")
            if estimate.usd is None and estimate.closed is None:
                raise InputError(f'the price of "{model}" is not known, so no budget can be kept; give it a price')
            total += estimate.usd or 0.0
        return total

    async def _ask(self, asked: Asked) -> Collected:
        completions: dict[str, Completion] = {}
        failures: dict[str, str] = {}
        attempts: list[Attempt] = []

        async def one(model: str) -> None:
            try:
                completions[model] = await self._complete(asked, model, attempts)
            except DispatchError as error:
                failures[model] = str(error)

        try:
            await asyncio.gather(*map(one, self._models(asked)))
        finally:
            # Failed and cancelled calls are charged as well.
            cost = total_cost(attempts)
            usd = 0.0 if cost is None else cost.usd
            self.spent += usd
        in_order = {model: completions[model] for model in self._models(asked) if model in completions}
        return Collected(asked, in_order, failures, usd)

    async def _complete(self, asked: Asked, model: str, attempts: list[Attempt]) -> Completion:
        """Return the answer, waiting once if all endpoints are closed for a while."""
        request = self._request(asked)
        try:
            return await self.dispatcher.complete(request, (model,), Constraints(model=model), attempts=attempts)
        except DispatchError as error:
            wait_s = getattr(error, "wait_s", None)
            if wait_s is None or wait_s > CLOSED_S:
                raise
        await asyncio.sleep(wait_s)
        return await self.dispatcher.complete(request, (model,), Constraints(model=model), attempts=attempts)

    def _models(self, asked: Asked) -> Sequence[str]:
        return self.models if asked.models is None else asked.models

    def _request(self, asked: Asked) -> Request:
        return Request(as_messages(asked.query), max_tokens=self.max_tokens)


def _cell(completion: Completion) -> dict[str, Any]:
    usage, cost = completion.usage, completion.total_cost
    known = {
        "cost_usd": None if cost is None else cost.usd,
        "input_tokens": None if usage is None else usage.input_tokens,
        "output_tokens": None if usage is None else usage.output_tokens,
        "latency_ms": completion.latency_ms,
        "response": completion.text or completion.refusal or "",
    }
    return {"quality": None, **{name: value for name, value in known.items() if value is not None}}


# The run: queries of a file or of the log, without those that the file of outcomes already answers.


@dataclass(frozen=True, slots=True)
class CollectPlan:
    """Settings of a run.

    Attributes:
        max_usd: the budget.
        queries: file of queries; None takes those of the log.
        models: models to call; None takes all with a deployment.
        sample: number of queries to draw.
        max_tokens: longest answer.
        together: maximum queries in flight.
        seed: of the sample.
    """

    max_usd: float
    queries: Path | None = None
    models: tuple[str, ...] | None = None
    sample: int = 500
    max_tokens: int = 1024
    together: int = 4
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Collection:
    """Result of a run.

    Attributes:
        path: file of the outcomes.
        models: models that were called.
        asked: queries that were asked.
        answers: answers that were stored.
        known_before: queries that needed no call.
        waiting: queries that the budget kept from being asked.
        spent_usd: cost of the run.
        budget_is_spent: whether the budget ended the run.
        failures: by model, the number of queries without an answer, and the last reason.
        ended_by: the reason why the budget ended the run, a sentence; None where it did not.
    """

    path: Path
    models: tuple[str, ...]
    asked: int
    answers: int
    known_before: int
    waiting: int
    spent_usd: float
    budget_is_spent: bool
    failures: Mapping[str, tuple[int, str]]
    ended_by: str | None

    def to_dict(self) -> dict[str, object]:
        """Return JSON-ready values."""
        return {
            "path": str(self.path), "asked": self.asked, "answers": self.answers, "known_before": self.known_before,
            "spent_usd": self.spent_usd, "budget_is_spent": self.budget_is_spent, "models": list(self.models),
        }  # fmt: skip


def collect_answers(
    out: Path,
    plan: CollectPlan,
    workspace: Workspace,
    *,
    log_url: str | None = None,
    progress: Progress = silent,
    warn: Warn = unheard,
) -> Collection:
    """Ask every model the same queries, and append the answers to a file.

    Answers that the file already has are not asked for again, so that a run that was stopped can go on.

    Args:
        out: file of outcomes, ``.jsonl``.
        plan: budget and queries.
        workspace: configuration with deployments and log.
        log_url: address of the log; None takes the configured one.
        progress: called with a step's name, the number done and the total.
        warn: receives the reasons of rows that are left out.

    Raises:
        InputError: there are no queries, a model cannot be called, or its price is unknown.
    """
    models = _served_models(plan.models, workspace.config)
    with only_appender(out):
        known = known_cells(written_rows(out))
        found = _from_log(workspace, log_url) if plan.queries is None else queries_of_file(plan.queries, warn)
        chosen = _sample(list(found), plan.sample, plan.seed)
        left = _without_answers(chosen, models, {key: frozenset(cells) for key, cells in known.items()})
        if not chosen:
            raise InputError("no queries to ask; keep them in the log (log: {text: full}), or give --queries FILE")
        collector = Collector(Dispatcher(workspace.config), models, plan.max_usd, plan.max_tokens, plan.together)
        asked, answers, failures = _sync.run(_collect(collector, left, out, progress))
    why = None
    if collector.is_spent:
        why = ended_by(plan.max_usd, collector.spent, collector.needed, "the longest answers to the next query")
    return Collection(
        path=out, models=tuple(models), asked=asked, answers=answers, known_before=len(chosen) - len(left),
        waiting=len(left) - asked, spent_usd=collector.spent, budget_is_spent=collector.is_spent,
        failures=failures, ended_by=why,
    )  # fmt: skip


def _served_models(models: tuple[str, ...] | None, config: Config) -> tuple[str, ...]:
    served = tuple(dict.fromkeys(deployment.model for deployment in config.deployments))
    if not served:
        raise InputError("no model can be called: semroute.yaml names no deployments (semroute init writes one)")
    if models is None:
        return served
    unknown = [name for name in models if name not in served]
    if unknown:
        raise InputError(f'no deployment serves "{unknown[0]}"; {known_names(unknown[0], served, "there are")}')
    return models


def queries_of_file(path: Path, warn: Warn = unheard) -> Iterator[Asked]:
    """Yield the queries of a file; a row without one is a warning.

    Raises:
        DataError: the file cannot be read.
    """
    for row in iter_query_rows(path):
        try:
            yield Asked(routed_text(row.query).strip(), row.query, row.task)
        except QueryError as error:
            warn(f"{path}:{row.line}: {error}; the row is left out")


def _from_log(workspace: Workspace, url: str | None) -> Iterator[Asked]:
    with workspace.open_log(url) as opened:
        for outcome in opened.outcomes():
            if outcome.query is not None and outcome.query.strip():
                yield Asked(outcome.query.strip(), outcome.query, outcome.category or "")


def _sample(found: Sequence[Asked], size: int, seed: int) -> list[Asked]:
    """Return a sample without repeats, in an order that the seed fixes."""
    once = list({one.text: one for one in found}.values())
    return Random(seed).sample(once, min(size, len(once)))


def _without_answers(
    chosen: Sequence[Asked], models: Sequence[str], known: Mapping[tuple[str, str], frozenset[str]]
) -> list[Asked]:
    """Return the queries without stored answers, each with the models to ask.

    An answer does not depend on the task, which for a query of the log is its category and may be another by now. New
    answers go to the task under which the file knows most of the others, so that they make one row.
    """
    tasks: dict[str, dict[str, frozenset[str]]] = {}
    for (text, task), answered in known.items():
        tasks.setdefault(text, {})[task] = answered
    wanted, left = frozenset(models), []
    for one in chosen:
        of = {one.task: frozenset[str](), **tasks.get(one.text, {})}
        task = max(of, key=lambda name: (len(of[name] & wanted), len(of[name])))
        missing = tuple(model for model in models if model not in of[task])
        if missing:
            left.append(replace(one, task=task, models=missing))
    return left


async def _collect(
    collector: Collector, queries: Sequence[Asked], out: Path, progress: Progress
) -> tuple[int, int, dict[str, tuple[int, str]]]:
    """Write every row as it arrives, and count the results.

    Returns:
        Numbers of queries and of answers, and by model the number of failures with a reason.
    """
    count = answers = 0
    failures: dict[str, tuple[int, str]] = {}
    try:
        async with aclosing(collector.collect(queries)) as rows:
            async for row in rows:
                for model, why in row.failures.items():
                    failures[model] = failures.get(model, (0, why))[0] + 1, why
                if row.completions:
                    append_row(out, row.row())
                count += 1
                answers += len(row.completions)
                progress("asking", count, len(queries))
    finally:
        await collector.dispatcher.close()
    return count, answers, failures
