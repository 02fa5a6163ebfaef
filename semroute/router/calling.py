"""How those below dispatch call models for one request: within its limits, whoever asks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from semroute.dispatch import Constraints
from semroute.types import Attempt, CallEstimate, Completion, Delta, Request

if TYPE_CHECKING:
    from semroute.dispatch import Dispatcher


@dataclass(frozen=True, slots=True)
class ConstrainedClient:
    """A dispatcher and the limits of one request: a :class:`~semroute.types.ModelClient`.

    Attributes:
        dispatcher: makes the calls.
        constraints: the request's limits.
        attempts: takes every attempt of every call when it ends, those of cancelled calls among them.
    """

    dispatcher: Dispatcher
    constraints: Constraints
    attempts: list[Attempt] = field(default_factory=list)

    async def complete(
        self,
        request: Request,
        candidates: Sequence[str],
        *,
        deadline_s: float | None = None,
        reserve_s: float = 0.0,
        total_usd: float | None = None,
    ) -> Completion:
        """The whole answer; see :meth:`semroute.dispatch.Dispatcher.complete`."""
        limits = self._within(deadline_s, total_usd)
        return await self.dispatcher.complete(request, candidates, limits, reserve_s=reserve_s, attempts=self.attempts)

    def stream(
        self,
        request: Request,
        candidates: Sequence[str],
        *,
        deadline_s: float | None = None,
        reserve_s: float = 0.0,
        total_usd: float | None = None,
    ) -> AsyncGenerator[Delta | Completion]:
        """The answer as it arrives; see :meth:`semroute.dispatch.Dispatcher.stream`."""
        limits = self._within(deadline_s, total_usd)
        return self.dispatcher.stream(request, candidates, limits, reserve_s=reserve_s, attempts=self.attempts)

    async def outlook(self, request: Request, candidates: Sequence[str]) -> CallEstimate:
        """What a call would mean now."""
        return await self.dispatcher.outlook(request, candidates, self.constraints)

    def _within(self, deadline_s: float | None, total_usd: float | None) -> Constraints:
        own = self.constraints
        return replace(own, deadline_s=_least(own.deadline_s, deadline_s), total_usd=_least(own.total_usd, total_usd))


JUDGES_SHARE = 0.5
"""Share of a request's time that a judge may take at most: the answer needs the rest."""


def _least(*limits: float | None) -> float | None:
    return min((limit for limit in limits if limit is not None), default=None)


def judging_caller(
    dispatcher: Dispatcher, constraints: Constraints, attempts: list[Attempt] | None = None
) -> ConstrainedClient:
    """For a judge: the request's limits on where its text may go and how long it may take hold for the judge too.

    What the request pins or allows by name is meant for the answer, and not for who picks the model. ``attempts`` is
    that of :class:`BoundCaller`.
    """
    bounds = Constraints(
        deny=constraints.deny,
        regions=constraints.regions,
        max_usd=constraints.max_usd,
        deadline_s=None if constraints.deadline_s is None else JUDGES_SHARE * constraints.deadline_s,
    )
    return ConstrainedClient(dispatcher, bounds, [] if attempts is None else attempts)
