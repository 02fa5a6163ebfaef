"""Ask every model the same queries, within a budget: what a log of one answer a query cannot tell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from semroute.dispatch import Constraints, Dispatcher
from semroute.errors import DispatchError, InputError
from semroute.router.text import as_messages
from semroute.types import Completion, Query, Request

CLOSED_S = 60.0
"""Longest wait for places that are closed for now, before a model's answer is given up."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A query to be asked.

    Attributes:
        text: the routed text, which names the row.
        query: what is sent.
        task: category or task; the empty string for none.
        models: whom to ask; None for all that the collector asks.
    """

    text: str
    query: Query
    task: str = ""
    models: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Collected:
    """A query with the answers of all models that were asked.

    Attributes:
        asked: the query.
        completions: by model; those that failed are missing.
        failures: by model, why.
        usd: what its calls cost.
    """

    asked: Asked
    completions: Mapping[str, Completion]
    failures: Mapping[str, str]
    usd: float

    def row(self) -> dict[str, Any]:
        """The row of a file of outcomes; a quality of null says that nobody has judged the answer."""
        outcomes = {model: _cell(completion) for model, completion in self.completions.items()}
        task = {"task": self.asked.task} if self.asked.task else {}
        return {"query": self.asked.text, **task, "outcomes": outcomes}


@dataclass
class Collector:
    """Asks, and keeps account.

    Args:
        dispatcher: calls the models, with its limits, retries and breakers.
        models: whom to ask, unless a query says otherwise.
        max_usd: the budget. A query is begun only where the longest answers to it would still be paid by what is left.
        max_tokens: longest answer.
        together: queries that are asked at the same time.

    Attributes:
        spent: USD so far.
        is_spent: whether the budget kept a query from being asked.
    """

    dispatcher: Dispatcher
    models: Sequence[str]
    max_usd: float
    max_tokens: int = 1024
    together: int = 4
    spent: float = 0.0
    is_spent: bool = False
    _reserved: float = field(default=0.0, init=False)

    async def collect(self, queries: Iterable[Asked]) -> AsyncGenerator[Collected]:
        """Every query with its answers, each as soon as it has them; ends when the budget does.

        Raises:
            InputError: a model cannot be called, or its price is not known, so that no budget can be kept.
        """
        waiting = iter(queries)
        running: set[asyncio.Task[Collected]] = set()
        try:
            while True:
                while len(running) < self.together and not self.is_spent:
                    asked = next(waiting, None)
                    if asked is None:
                        break
                    ahead = await self._ahead(asked)
                    if self.spent + self._reserved + ahead > self.max_usd:
                        self.is_spent = True
                        break
                    self._reserved += ahead
                    running.add(asyncio.create_task(self._ask(asked, ahead)))
                if not running:
                    return
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    yield task.result()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _ahead(self, asked: Asked) -> float:
        """USD of the longest answers to a query."""
        total = 0.0
        for model in self._models(asked):
            outlook = await self.dispatcher.outlook(self._request(asked), (model,))
            if outlook.closed is not None and outlook.wait_s is None:
                raise InputError(f"{model} cannot be called: {outlook.closed}")
            if outlook.usd is None and outlook.closed is None:
                raise InputError(f'the price of "{model}" is not known, so no budget can be kept; give it a price')
            total += outlook.usd or 0.0
        return total

    async def _ask(self, asked: Asked, ahead: float) -> Collected:
        completions: dict[str, Completion] = {}
        failures: dict[str, str] = {}

        async def one(model: str) -> None:
            try:
                completions[model] = await self._complete(asked, model)
            except DispatchError as error:
                failures[model] = str(error)

        try:
            await asyncio.gather(*map(one, self._models(asked)))
        finally:
            self._reserved -= ahead
        usd = sum(one.total_cost.usd for one in completions.values() if one.total_cost is not None)
        self.spent += usd
        in_order = {model: completions[model] for model in self._models(asked) if model in completions}
        return Collected(asked, in_order, failures, usd)

    async def _complete(self, asked: Asked, model: str) -> Completion:
        """The answer; waits once where every place is closed for a while."""
        request = self._request(asked)
        try:
            return await self.dispatcher.complete(request, (model,), Constraints(model=model))
        except DispatchError as error:
            wait_s = getattr(error, "wait_s", None)
            if wait_s is None or wait_s > CLOSED_S:
                raise
        await asyncio.sleep(wait_s)
        return await self.dispatcher.complete(request, (model,), Constraints(model=model))

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
