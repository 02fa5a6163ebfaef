"""A caller over a dispatcher, for what is handed one: calls reach a real server."""

from __future__ import annotations

from collections.abc import Sequence

from semroute.catalog import estimated_cost, needs_of
from semroute.dispatch import Constraints, Dispatcher
from semroute.types import CallEstimate, Completion, Request


class DispatchCaller:
    """Calls by ``dispatcher`` within ``constraints``; counts what it was asked."""

    def __init__(self, dispatcher: Dispatcher, constraints: Constraints | None = None) -> None:
        self.dispatcher = dispatcher
        self.constraints = constraints
        self.completed: list[Request] = []

    async def complete(
        self, request: Request, candidates: Sequence[str], *, deadline_s: float | None = None, reserve_s: float = 0.0
    ) -> Completion:
        self.completed.append(request)
        return await self.dispatcher.complete(request, candidates, Constraints(deadline_s=deadline_s))

    async def estimate(self, request: Request, candidates: Sequence[str]) -> CallEstimate:
        needs, config = needs_of(request), self.dispatcher.config
        costs = [
            cost.usd
            for name in candidates
            for place in config.deployments_of(name)
            if (cost := estimated_cost(place, config, needs.input_tokens, needs.max_output_tokens)) is not None
        ]
        return CallEstimate(usd=min(costs, default=None))
