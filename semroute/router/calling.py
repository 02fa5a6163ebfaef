"""How those below dispatch call models for one request: within its limits, whoever asks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace

from semroute.dispatch import Constraints, Dispatcher
from semroute.types import Completion, Delta, Outlook, Request


@dataclass(frozen=True, slots=True)
class BoundCaller:
    """A dispatcher and the limits of one request: a :class:`~semroute.types.Caller`."""

    dispatcher: Dispatcher
    constraints: Constraints

    async def complete(
        self,
        request: Request,
        candidates: Sequence[str],
        *,
        deadline_s: float | None = None,
        reserve_s: float = 0.0,
    ) -> Completion:
        """The whole answer; see :meth:`semroute.dispatch.Dispatcher.complete`."""
        return await self.dispatcher.complete(request, candidates, self._within(deadline_s), reserve_s=reserve_s)

    def stream(
        self,
        request: Request,
        candidates: Sequence[str],
        *,
        deadline_s: float | None = None,
        reserve_s: float = 0.0,
    ) -> AsyncGenerator[Delta | Completion]:
        """The answer as it arrives; see :meth:`semroute.dispatch.Dispatcher.stream`."""
        return self.dispatcher.stream(request, candidates, self._within(deadline_s), reserve_s=reserve_s)

    async def outlook(self, request: Request, candidates: Sequence[str]) -> Outlook:
        """What a call would mean now."""
        return await self.dispatcher.outlook(request, candidates, self.constraints)

    def _within(self, deadline_s: float | None) -> Constraints:
        own = self.constraints.deadline_s
        if deadline_s is None or (own is not None and own <= deadline_s):
            return self.constraints
        return replace(self.constraints, deadline_s=deadline_s)


JUDGES_SHARE = 0.5
"""Share of a request's time that a judge may take at most: the answer needs the rest."""


def judging_caller(dispatcher: Dispatcher, constraints: Constraints) -> BoundCaller:
    """For a judge: the request's limits on where its text may go and how long it may take hold for the judge too.

    What the request pins or allows by name is meant for the answer, and not for who picks the model.
    """
    bounds = Constraints(
        deny=constraints.deny,
        regions=constraints.regions,
        max_usd=constraints.max_usd,
        deadline_s=None if constraints.deadline_s is None else JUDGES_SHARE * constraints.deadline_s,
    )
    return BoundCaller(dispatcher, bounds)
