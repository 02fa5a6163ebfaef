"""The calls of one query's tiers: what is asked, what is let out of a stream, and what all of it was charged."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import TypedDict

from semroute.cascade.check import Sampler
from semroute.cascade.early import can_stream_early
from semroute.cascade.ladder import Cascade, Tier
from semroute.errors import (
    CapabilityError,
    ContentFilterError,
    ContextLengthError,
    DispatchError,
    Fault,
    RequestError,
)
from semroute.types import Attempt, CallEstimate, Completion, Delta, ModelClient, Request, total_cost

RESERVED = 0.5
"""Share of what a query has left that a silent tier leaves to the tiers above, where one of them can be called."""
LEAST_S = 0.001
"""Handed to a call whose time is up: its own error says more than ours would."""


class _Limits(TypedDict):
    deadline_s: float
    reserve_s: float
    total_usd: float | None


class Calls:
    """Calls tiers for one query and keeps account.

    Attributes:
        attempts: every attempt of every tier, failed ones and samples among them.
        is_given_out: whether a piece of an answer has left: no other tier may be called then.
    """

    def __init__(
        self,
        ladder: Cascade,
        request: Request,
        caller: ModelClient,
        deadline_s: float,
        streaming: bool,
        spent_usd: float = 0.0,
    ) -> None:
        self.attempts: list[Attempt] = []
        self.is_given_out = False
        self._ladder = ladder
        self._request = request
        self._caller = caller
        self._deadline = time.monotonic() + deadline_s
        self._streaming = streaming
        self._reserved = 0.0
        self._before_usd = spent_usd

    @property
    def spent_usd(self) -> float:
        """Cost of the query so far, deciding included, USD."""
        spent = total_cost(self.attempts)
        return self._before_usd + (0.0 if spent is None else spent.usd)

    @property
    def _left_usd(self) -> float | None:
        most = self._ladder.max_usd
        return None if most is None else most - self.spent_usd

    @property
    def left_s(self) -> float:
        """Time that is left for the query, seconds; negative once it is over."""
        return self._deadline - time.monotonic()

    async def prepare(self, rung: Tier) -> tuple[Request, CallEstimate]:
        """What to ask of a tier, and what that would mean: log probabilities only where they are to be had.

        Raises:
            CapabilityError: the request asks for several answers; a cascade checks and gives one.
        """
        if self._request.n not in (None, 1):
            raise CapabilityError(f"n={self._request.n}: a cascade checks and gives one answer; leave n out")
        self._reserved = RESERVED if await self._can_climb(rung) else 0.0
        wants = rung.acceptance.wants_logprobs or self._may_be_early(rung)
        if wants and not self._request.logprobs and rung.name not in self._ladder.refusing:
            asked = replace(self._request, logprobs=True)
            outlook = await self._caller.outlook(asked, rung.candidates)
            if outlook.closed is None:
                return asked, outlook
        return self._request, await self._caller.outlook(self._request, rung.candidates)

    async def _can_climb(self, rung: Tier) -> bool:
        """Whether a tier above can be called now."""
        for later in self._ladder.rungs:
            if later.tier > rung.tier:
                outlook = await self._caller.outlook(self._request, later.candidates)
                if outlook.closed is None:
                    return True
        return False

    def _limits(self) -> _Limits:
        left_s = max(self.left_s, LEAST_S)
        return {"deadline_s": left_s, "reserve_s": self._reserved * left_s, "total_usd": self._left_usd}

    async def answer(self, rung: Tier, request: Request) -> AsyncGenerator[Delta | Completion]:
        """The tier's answer, last; pieces only of one that is given out before it is whole.

        A provider that refuses log probabilities is asked once more without, and not for them again.

        Raises:
            DispatchError: no place of the tier answered.
        """
        is_our_wish = request.logprobs and not self._request.logprobs
        try:
            async with aclosing(self._call(rung, request)) as events:
                async for event in events:
                    yield event
            return
        except DispatchError as error:
            if not (is_our_wish and _may_mean_the_wish(error)) or self.is_given_out:
                raise
        async with aclosing(self._call(rung, self._request)) as events:
            async for event in events:
                yield event
        # Only now is it known that nothing else was wrong with the request.
        self._ladder.refusing.add(rung.name)

    def sampler(self, rung: Tier) -> Sampler | None:
        """Draws further answers of a tier; None where the verdict on the first changes nothing any more."""
        if self.is_given_out or rung is self._ladder.rungs[-1]:
            return None

        async def sample(temperature: float) -> Completion | str:
            if self.left_s <= 0:
                return "the deadline has passed"
            try:
                droppable = self._request.droppable | {"temperature"}  # models that take none vary without
                asked = replace(self._request, temperature=temperature, droppable=droppable)
                return await self._complete(rung, asked)
            except DispatchError as error:
                return str(error)

        return sample

    async def _call(self, rung: Tier, request: Request) -> AsyncGenerator[Delta | Completion]:
        passes = self._streaming and rung is self._ladder.rungs[-1]
        if not passes and not self._may_be_early(rung):
            yield await self._complete(rung, request)
            return
        events = self._caller.stream(request, rung.candidates, **self._limits())
        try:
            async with aclosing(events):
                async for event in self._let_out(rung, events, at_once=passes):
                    yield event
        except DispatchError as error:
            self.attempts += error.attempts
            raise

    async def _complete(self, rung: Tier, request: Request) -> Completion:
        try:
            answer = await self._caller.complete(request, rung.candidates, **self._limits())
        except DispatchError as error:
            self.attempts += error.attempts
            raise
        self.attempts += answer.attempts
        return answer

    async def _let_out(
        self, rung: Tier, events: AsyncIterator[Delta | Completion], *, at_once: bool
    ) -> AsyncGenerator[Delta | Completion]:
        """Hold pieces back until it is clear that they may be given out, or the answer is whole."""
        held: list[Delta] = []
        async for event in events:
            if isinstance(event, Completion):
                self.attempts += event.attempts
                yield event
            elif self.is_given_out:
                yield event
            else:
                held.append(event)
                if at_once or can_stream_early(
                    held, self._ladder.stream_after_tokens, rung.acceptance.least_confidence
                ):
                    self.is_given_out = True
                    for piece in held:
                        yield piece

    def _may_be_early(self, rung: Tier) -> bool:
        after = self._ladder.stream_after_tokens
        return self._streaming and after is not None and rung.acceptance.least_confidence is not None


def _may_mean_the_wish(error: DispatchError) -> bool:
    """True if a refusal may be that of the log probabilities, which only the cascade has asked for."""
    if not isinstance(error, RequestError) or isinstance(error, ContentFilterError | ContextLengthError):
        return False
    return error.fault in (Fault.REQUEST, Fault.MODEL) and error.status != 413
