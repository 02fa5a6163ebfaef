from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.cascade import Cascade
from semroute.config.cascade import CascadeConfig
from semroute.errors import DispatchError, UnavailableError
from semroute.types import Attempt, CallEstimate, Completion, Cost, Delta, Request

TIERS = ("a", "b", "c", "d")
REQUEST = Request(({"role": "user", "content": "how many?"},))


class Told:
    """A caller each of whose candidates does what it is told: answers well, answers nothing, fails, or is closed."""

    def __init__(self, fates: Sequence[str]) -> None:
        self.fates = dict(zip(TIERS, fates, strict=False))
        self.called: list[str] = []

    def _attempt(self, name: str, error: str | None = None) -> Attempt:
        return Attempt(f"{name}-1", name, 1.0, error=error, cost=Cost(1.0 + TIERS.index(name)))

    async def complete(
        self,
        request: Request,
        candidates: Sequence[str],
        *,
        deadline_s: float | None = None,
        reserve_s: float = 0.0,
        total_usd: float | None = None,
    ) -> Completion:
        (name,) = candidates
        self.called.append(name)
        if self.fates[name] in ("fails", "closed"):
            error = UnavailableError(f"{name} is down")
            error.attempts = (self._attempt(name, "down"),)
            raise error
        text = "twelve" if self.fates[name] == "good" else ""
        return Completion(text, name, f"{name}-1", name, "stop", None, 1.0, attempts=(self._attempt(name),))

    async def stream(
        self,
        request: Request,
        candidates: Sequence[str],
        *,
        deadline_s: float | None = None,
        reserve_s: float = 0.0,
        total_usd: float | None = None,
    ) -> AsyncGenerator[Delta | Completion]:
        completion = await self.complete(request, candidates, deadline_s=deadline_s)
        for word in completion.text:
            yield Delta(word)
        yield completion

    async def outlook(self, request: Request, candidates: Sequence[str]) -> CallEstimate:
        (name,) = candidates
        return CallEstimate(usd=1.0, closed="its breaker is open" if self.fates[name] == "closed" else None)


def climbed(fates: Sequence[str], *, streaming: bool) -> tuple[Told, list[Delta | Completion], DispatchError | None]:
    caller = Told(fates)
    ladder = Cascade.of(CascadeConfig.model_validate({"tiers": list(TIERS[: len(fates)])}))

    async def read() -> tuple[list[Delta | Completion], DispatchError | None]:
        events: list[Delta | Completion] = []
        try:
            async for event in ladder.climb("how many?", REQUEST, caller, deadline_s=60.0, streaming=streaming):
                events.append(event)
        except DispatchError as error:
            return events, error
        return events, None

    return (caller, *asyncio.run(read()))


@given(st.lists(st.sampled_from(["good", "empty", "fails", "closed"]), min_size=1, max_size=4), st.booleans())
def test_whatever_the_tiers_do_the_ladder_is_climbed_in_order_and_nothing_is_lost(
    fates: list[str], streaming: bool
) -> None:
    caller, events, error = climbed(fates, streaming=streaming)
    names = list(TIERS[: len(fates)])
    assert caller.called == [name for name in names if name in caller.called]  # in order, none twice
    if "good" in fates:  # it stops there
        assert caller.called[-1] == names[fates.index("good")]
    if error is not None:
        assert not {"good", "empty"} & set(fates)
        attempts: tuple[Attempt, ...] = error.attempts
    else:
        *pieces, last = events
        assert isinstance(last, Completion)
        assert last.tier is not None
        given_fate = fates[last.tier]
        assert given_fate == ("good" if "good" in fates else "empty")
        assert all(isinstance(piece, Delta) for piece in pieces)
        if streaming:
            assert "".join(piece.text for piece in pieces) == last.text
        else:
            assert not pieces
        assert [trial.candidate for trial in last.tiers] == names[: len(last.tiers)]
        assert sum(trial.accepted for trial in last.tiers) == ("good" in fates)
        assert tuple(attempt for trial in last.tiers for attempt in trial.attempts) == last.attempts
        attempts = last.attempts
        assert last.total_cost is not None
        assert last.total_cost.usd == pytest.approx(sum(1.0 + TIERS.index(name) for name in caller.called))
    assert [attempt.model for attempt in attempts] == caller.called


def test_what_may_not_be_called_is_no_tier() -> None:
    ladder = Cascade.of(CascadeConfig.model_validate({"tiers": ["a", "b", "c"]}))

    def kept(names: Sequence[str], allowed: Sequence[str]) -> tuple[str, ...]:
        return tuple(name for name in names if name in allowed)

    assert [rung.tier for rung in ladder.within(["a", "c"], kept).rungs] == [0, 2]
    assert ladder.within([], kept).rungs == ()
