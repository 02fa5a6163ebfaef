from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from patience import PATIENCE_S
from resilience.gates_contract import GatesContract
from resilience.redis_server import OwnRedis, own_redis
from resilience.test_redis_gates import own_prefix

from semroute.config import BreakerRules, Selection
from semroute.errors import StateError
from semroute.resilience import MemoryGates
from semroute.resilience.gates import SampledPermit, SamplingSignals
from semroute.resilience.redis.failover import FailoverGates, Replicas, share
from semroute.resilience.redis.gates import RedisGates
from semroute.resilience.redis.server import Server
from semroute.types import BreakerState, CallResult, Endpoint, Permit, Rejection

RULES = BreakerRules(jitter=0.0)
# The contract lets hours pass at once, in which no process could say that it lives.
SLOT_S = 1e6
HEARTBEAT_S = 0.05
# A Redis that is stopped answers no sooner for a longer wait; one that runs may take its time on a busy machine.
SILENT_S = 0.1


@pytest.fixture(scope="module")
def lasting_redis() -> Iterator[OwnRedis]:
    with own_redis() as running:
        yield running


@pytest.fixture
def redis() -> Iterator[OwnRedis]:
    with own_redis() as running:
        yield running


class FailoverWorld:
    """Gates whose time, shared and local, is the wall's at the start, and goes on only when told."""

    def __init__(self, url: str, rules: BreakerRules) -> None:
        self._now = time.time()
        server, prefix = Server(url, timeout_s=PATIENCE_S), own_prefix()
        shared = RedisGates(server, rules, prefix=prefix, slot_s=SLOT_S, clock=self.now)
        # A heartbeat stores its time with that of the gates.
        replicas = Replicas(server, prefix=prefix, wall=self.now)
        self.gates: Any = FailoverGates(shared, replicas, lambda: MemoryGates(rules, clock=self.now, wall=self.now))

    def now(self) -> float:
        return self._now

    async def advance(self, seconds: float) -> None:
        self._now += seconds


@asynccontextmanager
async def failover_world(url: str, rules: BreakerRules) -> AsyncGenerator[FailoverWorld]:
    world = FailoverWorld(url, rules)
    yield world
    await world.gates.close()


class TestFailoverGatesWithRedis(GatesContract):
    @pytest.fixture(autouse=True)
    def _url(self, lasting_redis: OwnRedis) -> None:
        self.url = lasting_redis.url

    def world(self, rules: BreakerRules) -> AbstractAsyncContextManager[FailoverWorld]:
        return failover_world(self.url, rules)


class TestFailoverGatesWithoutRedis(GatesContract):
    def world(self, rules: BreakerRules) -> AbstractAsyncContextManager[FailoverWorld]:
        return failover_world("redis://127.0.0.1:1/0", rules)

    def run(self, test: Callable[[Any], Awaitable[Any]], rules: BreakerRules = RULES) -> None:
        async def with_local_enabling(world: Any) -> None:
            world.gates = LocalEnabling(world.gates)
            await test(world)

        super().run(with_local_enabling, rules)


class LocalEnabling:
    """The same gates, but that enabling a credential is content with this process."""

    def __init__(self, gates: FailoverGates) -> None:
        self._gates = gates

    def __getattr__(self, name: str) -> Any:
        return getattr(self._gates, name)

    async def enable(self, credential: str | None) -> None:
        with pytest.raises(StateError):
            await self._gates.enable(credential)

    async def lift(self, endpoints: Sequence[Endpoint]) -> None:
        with pytest.raises(StateError):
            await self._gates.lift(endpoints)


def replica(
    redis: OwnRedis, prefix: str = "semroute:{test}:", timeout_s: float = PATIENCE_S, **options: Any
) -> FailoverGates:
    server = Server(redis.url, timeout_s=timeout_s)
    shared = RedisGates(server, RULES, prefix=prefix)
    return FailoverGates(
        shared, Replicas(server, prefix=prefix), lambda: MemoryGates(RULES), **{"heartbeat_s": HEARTBEAT_S, **options}
    )


@asynccontextmanager
async def replicas(redis: OwnRedis, count: int, timeout_s: float = PATIENCE_S) -> AsyncGenerator[list[FailoverGates]]:
    """Replicas that have seen each other; a short timeout is for those whose Redis falls silent."""
    made = [replica(redis, timeout_s=timeout_s) for _ in range(count)]
    for _ in range(2):
        for one in made:
            await one.heartbeat()
    try:
        yield made
    finally:
        for one in made:
            await one.close()


async def passes(gates: FailoverGates, endpoint: Endpoint, calls: int, tokens: int = 0) -> list[Permit]:
    answers = [await gates.acquire(endpoint, tokens) for _ in range(calls)]
    return [answer for answer in answers if isinstance(answer, Permit)]


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.02)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def inside() -> None:
        await test()

    asyncio.run(inside())


def test_replicas_count_each_other_and_share_one_limit(redis: OwnRedis) -> None:
    async def test() -> None:
        async with replicas(redis, 3) as all_three:
            assert [one.replicas for one in all_three] == [3, 3, 3]
            assert len({one.replica for one in all_three}) == 3
            passed = [len(await passes(one, Endpoint("p", rpm=10), 6)) for one in all_three]
            assert passed == [6, 4, 0]

    run(test)


def test_a_killed_redis_raises_nothing_and_is_told_of_once(redis: OwnRedis, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with replicas(redis, 2) as (one, other):
            endpoint = Endpoint("p", "KEY", rpm=100, tpm=10_000, parallel=100, budget_usd=10.0)
            before = await passes(one, endpoint, 3, 10)
            assert one.mode == other.mode == "shared"
            redis.kill()
            taken = await asyncio.gather(*(one.acquire(endpoint, 10, 0.01) for _ in range(20)))
            assert one.mode == "local"
            for permit in [*before, *taken]:
                assert isinstance(permit, Permit)
                await one.release(permit, CallResult.SUCCESS, tokens=5, usd=0.01)
                await one.release(permit, CallResult.FAILURE)
            assert (await one.statuses([endpoint]))[0].in_flight == 0
            await one.publish({"places": []})
            assert await one.read_snapshots() == {}
            with pytest.raises(StateError):
                await one.enable("KEY")

    run(test)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert f"127.0.0.1:{redis.port}" in warnings[0]
    assert "one part in 2" in warnings[0]


@pytest.mark.slow
def test_no_call_waits_for_a_redis_that_is_known_to_be_away(redis: OwnRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    run_script = Server.run

    async def noted(server: Server, script: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        asked.append(script)
        return await run_script(server, script, keys, args)

    async def test() -> None:
        async with replicas(redis, 1, SILENT_S) as (one,), asyncio.timeout(PATIENCE_S):
            monkeypatch.setattr(Server, "run", noted)
            redis.freeze()
            for permit in await passes(one, Endpoint("p"), 100):
                await one.release(permit, CallResult.SUCCESS)
            assert [script for script in asked if script != "heartbeat"] == ["acquire"]
            redis.thaw()

    run(test)


def test_while_it_is_away_the_replicas_together_stay_within_the_limit(redis: OwnRedis) -> None:
    async def test() -> None:
        async with replicas(redis, 3) as all_three:
            redis.kill()
            endpoint = Endpoint("p", rpm=30, tpm=3000)
            assert [len(await passes(one, endpoint, 30, 100)) for one in all_three] == [10, 10, 10]

    run(test)


def test_what_a_replica_had_used_before_counts_against_its_share(redis: OwnRedis) -> None:
    async def test() -> None:
        async with replicas(redis, 3) as all_three:
            endpoint = Endpoint("p", rpm=30)
            before = [len(await passes(one, endpoint, 10)) for one in all_three]
            redis.kill()
            after = [len(await passes(one, endpoint, 30)) for one in all_three]
            assert (before, after) == ([10] * 3, [0] * 3)

    run(test)


def test_the_overshoot_around_the_moment_it_goes_away_is_at_most_what_is_stated(redis: OwnRedis) -> None:
    async def test() -> None:
        async with replicas(redis, 3) as (greedy, *others):
            endpoint = Endpoint("p", rpm=30)
            assert len(await passes(greedy, endpoint, 40)) == 30
            redis.kill()
            assert len(await passes(greedy, endpoint, 30)) == 0
            assert sum([len(await passes(other, endpoint, 30)) for other in others]) == 30 * 2 // 3

    run(test)


@pytest.mark.slow
def test_when_it_is_back_it_knows_what_passed_meanwhile(redis: OwnRedis) -> None:
    async def test() -> None:
        async with replicas(redis, 2) as (one, other):
            endpoint = Endpoint("p", "KEY", rpm=10, tpm=1000, parallel=10, budget_usd=10.0)
            redis.kill()
            mine = [await one.acquire(endpoint, 100, 1.0) for _ in range(4)]
            his = await other.acquire(endpoint, 100, 1.0)
            assert isinstance(his, Permit)
            for permit in mine[:2]:
                assert isinstance(permit, Permit)
                await one.release(permit, CallResult.SUCCESS, tokens=10, usd=0.5)
            redis.start()
            await eventually(lambda: one.mode == other.mode == "shared")
            (found,) = await other.statuses([endpoint])
            assert (found.in_flight, found.spent_usd) == (3, 4.0)
            assert found.headroom == pytest.approx(0.4)  # of the requests: 5 were made, this would be the sixth
            for gates, permit in ((one, mine[2]), (one, mine[3]), (other, his)):
                assert isinstance(permit, Permit)
                await gates.release(permit, CallResult.SUCCESS, tokens=100, usd=0.0)
                await gates.release(permit, CallResult.SUCCESS, tokens=100, usd=9.0)
            (found,) = await one.statuses([endpoint])
            assert (found.in_flight, found.spent_usd) == (0, 1.0)
            assert len(await passes(one, endpoint, 10)) == 5

    run(test)


@pytest.mark.slow
def test_a_redis_that_comes_back_empty_is_told_the_last_minute_and_the_budgets(redis: OwnRedis) -> None:
    async def test() -> None:
        async with replicas(redis, 2) as (one, other):
            endpoint = Endpoint("p", "KEY", rpm=10, tpm=1000, parallel=10, budget_usd=10.0)
            ended, running = [await one.acquire(endpoint, 100, 2.0) for _ in range(2)]
            his = await other.acquire(endpoint, 200, 1.0)
            for gates, permit in ((one, ended), (other, his)):
                assert isinstance(permit, Permit)
                await gates.release(permit, CallResult.SUCCESS)
            await asyncio.gather(one.statuses([endpoint]), other.statuses([endpoint]))
            redis.kill()
            assert isinstance(await one.acquire(endpoint, 100, 0.5), Permit)
            redis.start()
            await other.heartbeat()
            await eventually(lambda: one.mode == other.mode == "shared")
            (found,) = await other.statuses([endpoint])
            assert (found.in_flight, found.spent_usd) == (2, 5.5)
            assert len(await passes(other, endpoint, 10, 100)) == 5  # 500 tokens of the first four are counted
            assert isinstance(running, Permit)
            await one.release(running, CallResult.SUCCESS, tokens=0)
            assert len(await passes(other, endpoint, 10, 100)) == 1

    run(test)


@pytest.mark.slow
def test_a_redis_that_kept_its_memory_counts_nothing_twice(redis: OwnRedis) -> None:
    async def test() -> None:
        async with replicas(redis, 1, SILENT_S) as (one,):
            endpoint = Endpoint("p", "KEY", rpm=10, tpm=1000, parallel=10, budget_usd=10.0)
            ended, running = [await one.acquire(endpoint, 100, 2.0) for _ in range(2)]
            assert isinstance(ended, Permit)
            await one.release(ended, CallResult.SUCCESS, tokens=50, usd=1.0)
            redis.freeze()
            await one.statuses([endpoint])
            assert one.mode == "local"
            redis.thaw()
            await eventually(lambda: one.mode == "shared")
            (found,) = await one.statuses([endpoint], 850)
            assert (found.in_flight, found.spent_usd, found.wait_s) == (1, 3.0, 0.0)
            assert len(await passes(one, endpoint, 10, 850)) == 1
            assert isinstance(running, Permit)
            await one.release(running, CallResult.SUCCESS, tokens=0, usd=0.0)

    run(test)


@pytest.mark.slow
def test_what_the_calls_meanwhile_brought_reaches_the_others(redis: OwnRedis) -> None:
    async def test() -> None:
        async with replicas(redis, 2) as (one, other):
            hinted, refused = Endpoint("p", "KEY"), Endpoint("q", "OTHER_KEY")
            redis.kill()
            (permit,) = await passes(one, hinted, 1)
            await one.release(permit, CallResult.FAILURE, wait_s=30.0)
            (permit,) = await passes(one, refused, 1)
            await one.release(permit, CallResult.DISABLE, reason="401: no such key")
            (permit,) = await passes(other, hinted, 1)
            redis.start()
            await eventually(lambda: one.mode == other.mode == "shared")
            found = await other.statuses([hinted, refused])
            assert found[0].wait_s == pytest.approx(30.0, abs=2.0)
            assert found[1].breaker is BreakerState.DISABLED
            assert "401: no such key" in (found[1].reason or "")

    run(test)


@pytest.mark.slow
def test_a_pass_of_redis_that_comes_back_while_it_is_away_is_given_back_later(redis: OwnRedis) -> None:
    async def test() -> None:
        async with replicas(redis, 1, SILENT_S) as (one,):
            endpoint = Endpoint("p", "KEY", tpm=1000, parallel=2, budget_usd=5.0)
            permit = await one.acquire(endpoint, 900, 3.0)
            assert isinstance(permit, Permit)
            redis.freeze()
            await one.release(permit, CallResult.SUCCESS, tokens=100, usd=1.0)
            assert one.mode == "local"
            redis.thaw()
            await eventually(lambda: one.mode == "shared")
            (found,) = await one.statuses([endpoint])
            assert (found.in_flight, found.spent_usd) == (0, 1.0)
            assert len(await passes(one, endpoint, 1, 900)) == 1

    run(test)


@pytest.mark.slow
def test_an_answer_that_comes_too_late_leaves_nothing_behind(redis: OwnRedis) -> None:
    async def test() -> None:
        async with replicas(redis, 1, SILENT_S) as (one,):
            endpoint = Endpoint("p", "KEY", tpm=1000, parallel=2, budget_usd=5.0)
            redis.freeze()
            permit = await one.acquire(endpoint, 500, 1.0)  # the question is in the server's buffer
            assert isinstance(permit, Permit)
            await one.release(permit, CallResult.NEUTRAL, tokens=0, usd=0.0)
            redis.thaw()
            await eventually(lambda: one.mode == "shared")
            (found,) = await one.statuses([endpoint])
            assert (found.in_flight, found.spent_usd) == (0, 0.0)
            assert len(await passes(one, endpoint, 1, 1000)) == 1

    run(test)


def test_a_breaker_of_this_process_opens_while_redis_is_away(redis: OwnRedis) -> None:
    async def test() -> None:
        async with replicas(redis, 1) as (one,):
            endpoint = Endpoint("p", "KEY")
            for number in range(RULES.in_a_row):
                if number == 2:  # what failed before counts
                    redis.kill()
                (permit,) = await passes(one, endpoint, 1)
                await one.release(permit, CallResult.FAILURE)
            refusal = await one.acquire(endpoint, 0)
            assert isinstance(refusal, Rejection)
            assert refusal.endpoint == endpoint
            assert "breaker open" in refusal.reason

    run(test)


def test_of_a_budget_each_replica_spends_its_part_of_what_was_left(redis: OwnRedis) -> None:
    async def test() -> None:
        async with replicas(redis, 2) as (one, other):
            endpoint = Endpoint("p", "KEY", budget_usd=10.0)
            permit = await one.acquire(endpoint, 0, 4.0)
            assert isinstance(permit, Permit)
            await other.statuses([endpoint])
            redis.kill()
            spent = {}
            for gates in (one, other):
                answers = [await gates.acquire(endpoint, 0, 1.0) for _ in range(10)]
                spent[gates] = sum(isinstance(answer, Permit) for answer in answers)
            assert list(spent.values()) == [3, 3]

    run(test)


def test_replicas_show_each_other_what_they_see(redis: OwnRedis) -> None:
    async def test() -> None:
        async with replicas(redis, 2) as (one, other):
            await one.publish({"latencies": [1, 2]})
            await one.publish({"latencies": "a second one within a second is left out"})
            await other.publish({"latencies": []})
            expected = {one.replica: {"latencies": [1, 2]}, other.replica: {"latencies": []}}
            assert await other.read_snapshots() == expected

    run(test)


@pytest.mark.slow
def test_a_replica_that_says_nothing_is_no_longer_counted(redis: OwnRedis) -> None:
    async def test() -> None:
        now, wall, prefix = 0.0, 1_794_656_600.0, own_prefix()
        server = Server(redis.url)
        quick: dict[str, Any] = {"live_s": 0.1, "clock": lambda: now, "wall": lambda: wall}
        one, other = [Replicas(server, prefix=prefix, **quick) for _ in range(2)]
        await one.beat("{}")
        await other.beat("{}")
        assert other.count == 2
        wall += 0.12
        await other.beat()
        assert other.count == 2  # a moment ago there were two
        now = 0.2
        await other.beat()
        assert other.count == 1
        await server.close()

    run(test)


def test_a_replica_that_only_looks_is_not_counted(redis: OwnRedis) -> None:
    async def test() -> None:
        async with replicas(redis, 1) as (one,):
            onlooker = replica(redis)
            await onlooker.statuses([Endpoint("p")])
            await onlooker.read_snapshots()
            await one.heartbeat()
            assert one.replicas == 1
            await onlooker.close()

    run(test)


def test_a_share_is_a_part_of_every_limit_but_never_nothing() -> None:
    endpoint = Endpoint("p", "KEY", rpm=10, tpm=2, parallel=None, budget_usd=10.0)
    assert share(endpoint, 4, 2.0) == Endpoint("p", "KEY", rpm=2, tpm=1, parallel=None, budget_usd=2.0)
    assert share(endpoint, 4, 12.0).budget_usd == 0.0


@pytest.mark.services
def test_no_secret_shows_when_redis_goes_away(caplog: pytest.LogCaptureFixture) -> None:
    secret = "pass-" + secrets.token_hex(8)

    async def test(running: OwnRedis) -> None:
        server = Server(running.url, password=secret)
        gates = FailoverGates(
            RedisGates(server, RULES), Replicas(server), lambda: MemoryGates(RULES), heartbeat_s=HEARTBEAT_S
        )
        await gates.acquire(Endpoint("p"), 0)
        assert gates.mode == "shared"
        running.kill()
        answer = await gates.acquire(Endpoint("p"), 0)
        assert gates.mode == "local"
        assert secret not in repr(gates) + repr(vars(gates)) + repr(answer)
        await gates.close()

    with own_redis(secret) as running, caplog.at_level("DEBUG"):
        asyncio.run(test(running))
    assert "going on" in caplog.text
    assert secret not in caplog.text


SIGNAL = SamplingSignals(0.01, None, 1.0)


def test_an_endpoint_is_sampled_in_redis_and_without_it_by_the_caller(redis: OwnRedis) -> None:
    async def test() -> None:
        async with replicas(redis, 2) as (one, other):
            endpoint = Endpoint("p", rpm=10)

            async def sampled() -> SampledPermit:
                return await one.acquire_sampled([endpoint], 5, [SIGNAL], [0.01], Selection(), 0.5)

            found = await sampled()
            assert (found.sampled, one.mode) == (0, "shared")
            assert found.permit is not None
            assert (await other.statuses([endpoint]))[0].in_flight == 1
            redis.kill()
            without = await sampled()
            assert (without.sampled, without.permit, one.mode) == (None, None, "local")
            # Its own share of the limit, with the call that Redis has permitted counted.
            assert (without.statuses[0].in_flight, without.statuses[0].wait_s) == (1, 0.0)
            assert len(await passes(one, endpoint, 10)) == 4
            await one.release(found.permit, CallResult.SUCCESS)

    run(test)


def test_an_answer_does_not_wait_for_the_release_of_its_call(redis: OwnRedis) -> None:
    async def test() -> None:
        async with replicas(redis, 2) as (one, other):
            one.answers_first = True
            endpoint = Endpoint("p", "KEY", tpm=1000, budget_usd=1.0)
            permit = await one.acquire(endpoint, 500, 0.5)
            assert isinstance(permit, Permit)
            redis.freeze()
            try:
                await one.release(permit, CallResult.SUCCESS, tokens=100, usd=0.1)
            finally:
                redis.thaw()
            await one.close()
            (found,) = await other.statuses([endpoint])
            assert (found.in_flight, found.spent_usd, found.headroom) == (0, 0.1, 0.9)

    run(test)


@pytest.mark.parametrize(
    ("endpoint", "result", "wait_s"),
    [
        (Endpoint("p"), CallResult.FAILURE, None),
        (Endpoint("p"), CallResult.SUSPEND, None),
        (Endpoint("p"), CallResult.DISABLE, None),
        (Endpoint("p"), CallResult.NEUTRAL, 5.0),
        (Endpoint("p", parallel=1), CallResult.SUCCESS, None),
    ],
)
def test_a_release_on_which_the_next_call_depends_is_waited_for(
    redis: OwnRedis, endpoint: Endpoint, result: CallResult, wait_s: float | None
) -> None:
    async def test() -> None:
        async with replicas(redis, 1) as (one,):
            one.answers_first = True
            permit = await one.acquire(endpoint, 0)
            assert isinstance(permit, Permit)
            redis.freeze()
            try:
                releasing = asyncio.create_task(one.release(permit, result, wait_s=wait_s))
                for _ in range(100):
                    await asyncio.sleep(0)
                assert not releasing.done()
            finally:
                redis.thaw()
            await releasing

    run(test)


@pytest.mark.slow
def test_the_releases_of_a_cut_off_redis_are_sent_when_it_is_back(redis: OwnRedis) -> None:
    async def test() -> None:
        async with replicas(redis, 1, SILENT_S) as (one,):
            one.answers_first = True
            endpoint = Endpoint("p", "KEY", budget_usd=1.0)
            permit = await one.acquire(endpoint, 0, 0.5)
            assert isinstance(permit, Permit)
            redis.freeze()
            await one.release(permit, CallResult.SUCCESS, usd=0.1)
            await eventually(lambda: one.mode == "local")
            redis.thaw()
            await eventually(lambda: one.mode == "shared")
            (found,) = await one.statuses([endpoint])
            assert (found.in_flight, found.spent_usd) == (0, 0.1)

    run(test)
