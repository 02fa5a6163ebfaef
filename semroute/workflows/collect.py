"""Answers of every model to the same queries, collected within a budget.

A log has one model's answer per query, so that models cannot be compared by it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from semroute.dispatch import Constraints, Dispatcher
from semroute.errors import DispatchError, InputError
from semroute.router.query import as_messages
from semroute.types import Attempt, Completion, Query, Request, total_cost


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
