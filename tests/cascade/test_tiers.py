from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.cascade import Cascade
from semroute.config.cascade import CascadeConfig
from semroute.errors import DispatchError, UnavailableError
from semroute.types import Attempt, CallEstimate, Completion, Cost, Delta, Request
from semroute.types.protocols import OnDelta

TIERS = ("a", "b", "c", "d")
REQUEST = Request(({"role": "user", "content": "how many?"},))


class Told:
    """A client each of whose candidates does what it is told: answers well, answers nothing, fails, or is closed."""

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
        on_delta: OnDelta | None = None,
    ) -> Completion:
        (name,) = candidates
        self.called.append(name)
        if self.fates[name] in ("fails", "closed"):
            error = UnavailableError(f"{name} is down")
            error.attempts = (self._attempt(name, "down"),)
            raise error
        text = "twelve" if self.fates[name] == "good" else ""
        for letter in text if on_delta is not None else "":
            await on_delta(Delta(letter))
        return Completion(text, name, f"{name}-1", name, "stop", None, 1.0, attempts=(self._attempt(name),))

    async def estimate(self, request: Request, candidates: Sequence[str]) -> CallEstimate:
        (name,) = candidates
        return CallEstimate(usd=1.0, closed="its breaker is open" if self.fates[name] == "closed" else None)


def answered(fates: Sequence[str], *, streaming: bool) -> tuple[Told, list[Delta | Completion], DispatchError | None]:
    client = Told(fates)
    cascade = Cascade.of(CascadeConfig.model_validate({"tiers": list(TIERS[: len(fates)])}))

    async def read() -> tuple[list[Delta | Completion], DispatchError | None]:
        events: list[Delta | Completion] = []

        async def receive(delta: Delta) -> None:
            events.append(delta)

        on_delta = receive if streaming else None
        try:
            events.append(await cascade.run("how many?", REQUEST, client, deadline_s=60.0, on_delta=on_delta))
        except DispatchError as error:
            return events, error
        return events, None

    return (client, *asyncio.run(read()))


@pytest.mark.slow
@given(st.lists(st.sampled_from(["good", "empty", "fails", "closed"]), min_size=1, max_size=4), st.booleans())
def test_whatever_the_tiers_do_tiers_are_called_in_order_and_nothing_is_lost(fates: list[str], streaming: bool) -> None:
    client, events, error = answered(fates, streaming=streaming)
    names = list(TIERS[: len(fates)])
    assert client.called == [name for name in names if name in client.called]  # in order, none twice
    if "good" in fates:  # it stops there
        assert client.called[-1] == names[fates.index("good")]
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
        assert [result.candidate for result in last.tiers] == names[: len(last.tiers)]
        assert sum(result.accepted for result in last.tiers) == ("good" in fates)
        assert tuple(attempt for result in last.tiers for attempt in result.attempts) == last.attempts
        attempts = last.attempts
        assert last.total_cost is not None
        assert last.total_cost.usd == pytest.approx(sum(1.0 + TIERS.index(name) for name in client.called))
    assert [attempt.model for attempt in attempts] == client.called


def test_what_may_not_be_called_is_no_tier() -> None:
    cascade = Cascade.of(CascadeConfig.model_validate({"tiers": ["a", "b", "c"]}))

    def kept(names: Sequence[str], allowed: Sequence[str]) -> tuple[str, ...]:
        return tuple(name for name in names if name in allowed)

    assert [tier.position for tier in cascade.within(["a", "c"], kept).tiers] == [0, 2]
    assert cascade.within([], kept).tiers == ()
