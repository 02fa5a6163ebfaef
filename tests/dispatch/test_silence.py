"""Silence as evidence: what hangs is found out and left in time, what is slow or answering is not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from random import Random
from types import SimpleNamespace
from typing import Any, TypeVar

import httpx
import pytest

from semroute.config import BreakerRules, Config, Deployment, Timeouts
from semroute.dispatch import Constraints, Dispatcher
from semroute.dispatch.attempt import ErrorPolicy, timed
from semroute.dispatch.silence import FLOOR_S, UNMEASURED_S, Patience, SilenceMonitor
from semroute.dispatch.status import endpoints_of
from semroute.errors import BrokenStreamError, DispatchError, ProviderTimeoutError, UnavailableError
from semroute.resilience import MemoryGates
from semroute.testing import FakeProvider, Reply, drip, fail, hang, stall_after
from semroute.testing import answer as scripted
from semroute.types import BreakerState, CallResult, Completion, Delta, Request

HELLO = Request(({"role": "user", "content": "hello there you"},), max_tokens=100)
FORMATS = ("openai", "anthropic", "gemini", "responses")
DEADLINE_S = 2.0
ONCE = {"in_a_row": 2, "open_s": 5.0, "jitter": 0.0, "probes": 1}
T = TypeVar("T")


def place(name: str, provider: FakeProvider, price: float, format: str = "openai", **more: Any) -> dict[str, Any]:
    urls = {
        "openai": provider.base_url,
        "anthropic": provider.anthropic_url,
        "gemini": provider.gemini_url,
        "responses": provider.base_url,
    }
    cost = {"input": price, "output": price}
    return {"name": name, "model": "large", "base_url": urls[format], "format": format, "price": cost, **more}


def config(*deployments: dict[str, Any], **sections: Any) -> Config:
    # The cheaper deployment always comes first.
    sections.setdefault("selection", {"sharpness": 500.0, "exploration": 0.0})
    return Config.model_validate({"deployments": list(deployments), **sections})


class Bench:
    """Two deployments, the first of which is preferred, and gates whose clock is moved by hand."""

    def __init__(self, where: Config) -> None:
        self.now = 0.0
        self.config = where
        self.gates = MemoryGates(where.breaker, clock=lambda: self.now, rng=Random(0))

    def run(self, work: Callable[[Dispatcher], Awaitable[T]]) -> T:
        async def inside() -> T:
            async with httpx.AsyncClient() as client:
                dispatcher = Dispatcher(self.config, client=client, gates=self.gates, env={}, random=Random(0))
                try:
                    return await work(dispatcher)
                finally:
                    await dispatcher.close()

        return asyncio.run(inside())

    async def state(self, name: str = "a") -> BreakerState:
        places = [one for one in endpoints_of(self.config) if one.deployment == name]
        return (await self.gates.statuses(places))[0].breaker


async def answered(dispatcher: Dispatcher, *, streaming: bool = False, **limits: Any) -> Completion:
    constraints = Constraints(**{"deadline_s": DEADLINE_S, **limits})
    if not streaming:
        return await dispatcher.complete(HELLO, ("large",), constraints)
    async with aclosing(dispatcher.stream(HELLO, ("large",), constraints)) as events:
        last = [event async for event in events][-1]
    assert isinstance(last, Completion)
    return last


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("streaming", [False, True])
def test_a_place_that_hangs_beside_a_healthy_one_loses_no_request_and_is_closed(
    first: FakeProvider, second: FakeProvider, format: str, streaming: bool
) -> None:
    first.script(*[hang()] * 20)
    bench = Bench(config(place("a", first, 1.0, format), place("b", second, 100.0, format), breaker=ONCE))

    async def work(dispatcher: Dispatcher) -> list[str]:
        for _ in range(3):  # so that it is known how long such a call takes
            await answered(dispatcher, streaming=streaming, deployment="b")
        return [(await answered(dispatcher, streaming=streaming)).deployment for _ in range(10)]

    assert bench.run(work) == ["b"] * 10
    # Two are enough where nothing else slows the healthy one down, by which silence is measured.
    assert 1 <= len(first.requests) <= 6
    assert asyncio.run(bench.state()) is BreakerState.OPEN


@pytest.mark.slow
def test_a_last_place_gets_all_the_time_that_is_left(first: FakeProvider, second: FakeProvider) -> None:
    first.script(fail(500), hang(0.6 * DEADLINE_S), hang(0.6 * DEADLINE_S))
    second.script(fail(500))
    alone = Bench(config(place("a", first, 1.0)))
    assert alone.run(lambda it: answered(it, deadline_s=2 * DEADLINE_S)).deployment == "a"
    # The other one is closed: it is nobody that time has to be left for.
    closed = config(place("a", first, 1.0), place("b", second, 100.0), breaker={**ONCE, "in_a_row": 1})

    async def work(dispatcher: Dispatcher) -> Completion:
        with suppress(DispatchError):
            await answered(dispatcher, deployment="b")
        return await answered(dispatcher)

    bench = Bench(closed.model_copy(update={"retries": closed.retries.model_copy(update={"same_place": 0})}))
    assert [attempt.deployment for attempt in bench.run(work).attempts] == ["a"]


@pytest.mark.slow
def test_a_slow_place_that_was_left_for_others_is_called_again_when_they_fail(
    first: FakeProvider, second: FakeProvider
) -> None:
    first.script(hang(), hang(0.1))
    second.script(*[fail(500)] * 9)
    where = config(place("a", first, 1.0), place("b", second, 100.0), retries={"same_place": 0})
    answer = Bench(where).run(answered)
    assert [attempt.deployment for attempt in answer.attempts] == ["a", "b", "a"]


@pytest.mark.slow
def test_no_time_is_left_for_a_place_that_the_budget_does_not_allow_after_this_one(
    first: FakeProvider, second: FakeProvider
) -> None:
    first.script(hang(1.2 * DEADLINE_S))

    async def work(dispatcher: Dispatcher) -> Completion:
        dear = await dispatcher.estimate(HELLO, ("large",), Constraints(deployment="b"))
        assert dear.usd is not None
        return await answered(dispatcher, deadline_s=2 * DEADLINE_S, total_usd=1.0001 * dear.usd)

    answer = Bench(config(place("a", first, 1.0), place("b", second, 100.0))).run(work)
    assert [attempt.deployment for attempt in answer.attempts] == ["a"]


@pytest.mark.slow
def test_a_stream_that_is_arriving_is_not_cut_for_another_place(first: FakeProvider, second: FakeProvider) -> None:
    first.script(drip(0.7 * DEADLINE_S / 8))
    bench = Bench(config(place("a", first, 1.0), place("b", second, 100.0)))
    assert [one.deployment for one in bench.run(lambda it: answered(it, streaming=True)).attempts] == ["a"]


@pytest.mark.slow
def test_a_place_that_is_known_to_be_slow_gets_what_it_usually_needs(first: FakeProvider, second: FakeProvider) -> None:
    deadline_s = 2.5  # room for a busy machine beyond the answer, which takes more than half of it
    first.script(*[hang(1.3)] * 9)
    bench = Bench(config(place("a", first, 1.0), place("b", second, 100.0)))

    async def work(dispatcher: Dispatcher) -> list[Completion]:
        await asyncio.gather(*(answered(dispatcher, deadline_s=30.0) for _ in range(3)))
        return [await answered(dispatcher, deadline_s=deadline_s)]

    assert [one.deployment for one in bench.run(work)[0].attempts] == ["a"]


@pytest.mark.slow
@pytest.mark.parametrize("leaves", [False, True])
def test_a_probe_that_is_cut_short_after_long_silence_opens_the_breaker_again(
    first: FakeProvider, second: FakeProvider, leaves: bool
) -> None:
    rules = {**ONCE, "in_a_row": 1, "failure_share": 0.2}
    bench = Bench(config(place("a", first, 1.0), place("b", second, 100.0), breaker=rules))

    async def work(dispatcher: Dispatcher) -> list[BreakerState]:
        # What is usual is given, since a busy machine would find a second usual, and four of silence nothing of note.
        measured(dispatcher._silence, "a", 0.05)
        first.script(fail(500), *[hang()] * 9)
        await answered(dispatcher, deadline_s=30.0)
        states = [await bench.state()]
        bench.now += 5.1
        states.append(await bench.state())
        if leaves:
            call = asyncio.create_task(answered(dispatcher, deployment="a", deadline_s=30.0))
            await asyncio.sleep(2 * FLOOR_S)
            call.cancel()
            await asyncio.wait({call})
        else:
            with suppress(DispatchError):  # silent for much longer than a stall of a busy machine
                await answered(dispatcher, deployment="a", deadline_s=4 * DEADLINE_S)
        return [*states, await bench.state()]

    assert bench.run(work) == [BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.OPEN]


@pytest.mark.slow
def test_a_probe_whose_stream_is_left_while_it_answers_is_a_success(first: FakeProvider) -> None:
    bench = Bench(config(place("a", first, 1.0), breaker={**ONCE, "in_a_row": 1, "successes": 1}))

    async def work(dispatcher: Dispatcher) -> BreakerState:
        first.script(fail(500), drip(0.02))
        with suppress(DispatchError):
            await dispatcher.complete(HELLO, ("large",), Constraints(deadline_s=5.0))
        bench.now += 5.1
        async with aclosing(dispatcher.stream(HELLO, ("large",))) as events:
            async for event in events:
                assert isinstance(event, Delta)
                break
        return await bench.state()

    assert bench.run(work) is BreakerState.CLOSED


@pytest.mark.slow
def test_a_probe_whose_stream_outlasts_its_deadline_is_a_success(first: FakeProvider) -> None:
    rules = {**ONCE, "in_a_row": 1, "successes": 1, "panic_per_s": 0}
    bench = Bench(config(place("a", first, 1.0), breaker=rules))

    async def work(dispatcher: Dispatcher) -> BreakerState:
        first.script(fail(500), drip(0.2 * DEADLINE_S, scripted("one two three four five six seven eight nine ten")))
        with suppress(DispatchError):
            await dispatcher.complete(HELLO, ("large",), Constraints(deadline_s=5.0))
        bench.now += 5.1
        with pytest.raises(ProviderTimeoutError):
            await answered(dispatcher, streaming=True, deadline_s=1.5 * DEADLINE_S)
        return await bench.state()

    assert bench.run(work) is BreakerState.CLOSED


@pytest.mark.slow
def test_failures_on_both_sides_of_streams_that_were_left_while_they_answered_are_no_row(first: FakeProvider) -> None:
    bench = Bench(config(place("a", first, 1.0), breaker=ONCE, retries={"same_place": 0}))

    async def work(dispatcher: Dispatcher) -> BreakerState:
        for _ in range(3):
            first.script(fail(500), drip(0.02))
            with suppress(DispatchError):
                await answered(dispatcher)
            async with aclosing(dispatcher.stream(HELLO, ("large",))) as events:
                await anext(events)
        return await bench.state()

    assert bench.run(work) is BreakerState.CLOSED


@pytest.mark.slow
def test_a_place_that_stops_in_the_middle_of_its_streams_is_closed_by_short_deadlines(first: FakeProvider) -> None:
    first.script(*[Reply()] * 3, *[stall_after(1)] * 8)
    bench = Bench(config(place("a", first, 1.0), breaker=ONCE))

    async def work(dispatcher: Dispatcher) -> BreakerState:
        started = time.monotonic()
        for _ in range(3):
            await answered(dispatcher, streaming=True, deadline_s=30.0)
        deadline_s = max(DEADLINE_S, 5 * (time.monotonic() - started))
        # Two silences close it. On a machine that has become busier, a first piece may come so late
        # that the rest of the deadline is no silence.
        for calls in range(1, 9):
            with pytest.raises(ProviderTimeoutError):
                await answered(dispatcher, streaming=True, deadline_s=deadline_s)
            if calls > 1 and await bench.state() is BreakerState.OPEN:
                break
            deadline_s *= 1.5
        return await bench.state()

    assert bench.run(work) is BreakerState.OPEN


@pytest.mark.slow
def test_a_client_that_leaves_soon_says_nothing_of_the_place(first: FakeProvider) -> None:
    first.script(*[hang()] * 9)
    bench = Bench(config(place("a", first, 1.0), breaker={**ONCE, "in_a_row": 1}))

    async def work(dispatcher: Dispatcher) -> BreakerState:
        for _ in range(3):
            call = asyncio.create_task(answered(dispatcher))
            await asyncio.sleep(0.05)
            call.cancel()
            await asyncio.wait({call})
        return await bench.state()

    assert bench.run(work) is BreakerState.CLOSED


@pytest.mark.slow
def test_slow_readers_and_a_blocked_loop_close_no_place(first: FakeProvider) -> None:
    first.script(*[hang(0.05, drip(0.02))] * 9)
    bench = Bench(config(place("a", first, 1.0, timeout_s=0.6), breaker={**ONCE, "in_a_row": 1}))

    async def slow(dispatcher: Dispatcher) -> None:
        async with aclosing(dispatcher.stream(HELLO, ("large",))) as events:
            async for _ in events:
                await asyncio.sleep(0.3)

    async def work(dispatcher: Dispatcher) -> BreakerState:
        await asyncio.gather(*(slow(dispatcher) for _ in range(3)))
        calls = [asyncio.create_task(dispatcher.complete(HELLO, ("large",))) for _ in range(3)]
        while len(first.requests) < 6:
            await asyncio.sleep(0.001)
        time.sleep(0.7)
        await asyncio.gather(*calls)
        assert dispatcher.latencies.snapshot() == []  # times that were not the place's are nobody's latency
        return await bench.state()

    assert bench.run(work) is BreakerState.CLOSED


# What counts, with clocks that are moved by hand.

SPOT, TWIN = Deployment(name="spot", model="m"), Deployment(name="twin", model="m")
KIND: dict[str, Any] = {"streaming": False, "prompt_tokens": 10}


def waited(seconds: float, *, quiet_s: float | None = None, has_begun: bool = False, **more: Any) -> Any:
    return SimpleNamespace(
        waited_s=seconds,
        quiet_s=seconds if quiet_s is None else quiet_s,
        has_begun=has_begun,
        **{"longest_pause_s": 0.0, "stalled_s": 0.0, **more},
    )


def measured(monitor: SilenceMonitor, name: str, seconds: float, *, streaming: bool = False) -> None:
    for _ in range(3):
        monitor.usual.observe(
            name, streaming=streaming, prompt_tokens=10, first_token_s=None, per_token_s=None, total_s=seconds
        )


def test_what_counts_as_silence_follows_the_place_then_its_siblings_then_its_limit() -> None:
    monitor = SilenceMonitor()
    assert monitor.allowed_s(SPOT, (SPOT, TWIN), **KIND) == UNMEASURED_S
    short = Deployment(name="short", model="m", timeout_s=4.0, timeouts=Timeouts(first_token_s=1.0))
    assert monitor.allowed_s(short, (), **KIND) == 2.0
    assert monitor.allowed_s(short, (), streaming=True, prompt_tokens=10) == 1.0
    measured(monitor, "twin", 0.5)
    assert monitor.allowed_s(SPOT, (SPOT, TWIN), **KIND) == 2.5
    measured(monitor, "spot", 2.0)
    assert monitor.allowed_s(SPOT, (SPOT, TWIN), **KIND) == 6.0
    assert monitor.allowed_s(TWIN, (SPOT, TWIN), **KIND) == 1.5


def test_many_short_waits_without_a_sign_of_life_are_one_long_one() -> None:
    now = [100.0]
    monitor = SilenceMonitor(lambda: now[0])
    endings = []
    for _ in range(5):
        now[0] += 3.0
        endings.append(monitor.result(SPOT, waited(3.0), Patience(10.0)))
    assert endings == [CallResult.NEUTRAL] * 3 + [CallResult.FAILURE] * 2
    monitor.heard(SPOT)
    now[0] += 3.0
    assert monitor.result(SPOT, waited(3.0), Patience(10.0)) is CallResult.NEUTRAL


def test_requests_that_leave_a_place_no_time_to_answer_say_nothing_of_it() -> None:
    now = [100.0]
    monitor = SilenceMonitor(lambda: now[0])
    measured(monitor, "spot", 8.0)
    patience = monitor.patience(SPOT, (SPOT,), **KIND)
    endings = []
    for seconds in [0.5] * 100 + [9.0] * 3:
        now[0] += seconds
        endings.append(monitor.result(SPOT, waited(seconds), patience))
    assert endings == [CallResult.NEUTRAL] * 102 + [CallResult.FAILURE]


def test_waits_at_the_same_time_are_not_added_up() -> None:
    now = [100.0]
    monitor = SilenceMonitor(lambda: now[0])
    now[0] += 3.0
    assert {monitor.result(SPOT, waited(3.0), Patience(10.0)) for _ in range(50)} == {CallResult.NEUTRAL}


def test_a_moment_of_silence_never_counts() -> None:
    now = [100.0]
    monitor = SilenceMonitor(lambda: now[0])
    for _ in range(100):
        now[0] += 0.2
        assert monitor.result(SPOT, waited(0.2), Patience(1.0)) is CallResult.NEUTRAL


def test_a_stream_that_has_begun_is_judged_by_its_last_silence() -> None:
    monitor = SilenceMonitor()
    idle_s = SPOT.timeouts.idle_s
    assert monitor.result(SPOT, waited(300.0, quiet_s=0.1, has_begun=True), Patience(1.0)) is CallResult.NEUTRAL
    assert monitor.result(SPOT, waited(300.0, quiet_s=idle_s, has_begun=True), Patience(100.0)) is CallResult.FAILURE
    assert monitor.result(SPOT, waited(300.0, quiet_s=1.1, has_begun=True), Patience(1.0)) is CallResult.FAILURE


def test_what_was_usual_is_still_known_when_a_breaker_has_been_open_for_long() -> None:
    now = [0.0]
    monitor = SilenceMonitor(lambda: now[0])
    measured(monitor, "spot", 0.5)
    now[0] += BreakerRules().most_open_s
    assert monitor.usual_s(SPOT, **KIND) == 0.5


@pytest.mark.parametrize(
    ("error", "clock", "result"),
    [
        (BrokenStreamError("x", status=200), waited(1.0, longest_pause_s=20.0), CallResult.NEUTRAL),
        (BrokenStreamError("x", status=200), waited(1.0, longest_pause_s=1.0), CallResult.FAILURE),
        (UnavailableError("no connection"), waited(1.0, stalled_s=4.0), CallResult.NEUTRAL),
        (UnavailableError("no connection"), waited(1.0), CallResult.FAILURE),
        (UnavailableError("x", status=500), waited(1.0, stalled_s=4.0), CallResult.FAILURE),
        (ProviderTimeoutError("x"), waited(9.0), CallResult.FAILURE),
    ],
)
def test_a_failure_that_the_reader_or_this_process_brought_about_is_not_the_places(
    error: DispatchError, clock: Any, result: CallResult
) -> None:
    policy = timed(ErrorPolicy(CallResult.FAILURE), error, clock, CallResult.NEUTRAL, idle_s=15.0)
    assert policy.result is result
