"""Conversations that several processes share through Redis, and that go on without it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from patience import PATIENCE_S
from resilience.redis_server import OwnRedis, own_redis
from server.conftest import Served

from semroute.config import Config, Deployment
from semroute.providers import CallTarget
from semroute.providers.sealed import SealedItems
from semroute.resilience.redis.server import Server
from semroute.server.sessions import (
    MOST_BYTES,
    MOST_CACHES,
    MOST_CALLS,
    PREFIX,
    SEALED_TTL_MS,
    CachedPrefix,
    Session,
    Sessions,
    SessionStore,
    SharedSession,
    identity,
)
from semroute.testing import answer
from semroute.types import Completion, NativeBody, Request, ToolCall, Usage

SECRET = "carrot soup of my grandmother"
TURNS = (
    {"role": "user", "content": f"recipe for {SECRET}"},
    {"role": "assistant", "content": "Take carrots."},
    {"role": "user", "content": "And then?"},
)
FIRST, SECOND = Request(TURNS[:1]), Request(TURNS)
HEADERS = {"session-id": "one"}
COMPLETION = Completion(
    "",
    "small",
    "small-1",
    "small",
    "tool_calls",
    Usage(100, 7, 80),
    1.0,
    tool_calls=(ToolCall("call_1", "read", "{}"),),
)
RESULT = Request((*TURNS[:2], {"role": "tool", "tool_call_id": "call_1", "content": "fine"}))


class Clock:
    """Seconds of one process."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def redis() -> Iterator[OwnRedis]:
    pytest.importorskip("redis", reason='needs the extra "redis"')
    with own_redis() as running:
        yield running


class Process:
    """The sessions of one process, on a clock of its own."""

    def __init__(self, redis: OwnRedis, now: float = 1000.0, timeout_s: float = PATIENCE_S, **limits: float) -> None:
        self.clock = Clock(now)
        self.server = Server(redis.url, timeout_s=timeout_s)
        self.store = SessionStore(self.server, 300.0, **{"read_s": PATIENCE_S, "return_s": 0.01, **limits})
        self.sessions = Sessions(300.0, clock=self.clock, store=self.store)

    def answered(self, completion: Completion = COMPLETION, caller: str | None = "key") -> Session:
        """Note an answer, as at the end of a turn, and share it."""
        session = self.sessions.start(caller, identity(HEADERS, FIRST))
        session.note(completion, 100, self.clock(), moves=True)
        self.sessions.share(caller, identity(HEADERS, FIRST), session)
        return session

    async def found(self, caller: str | None = "key", request: Request = SECOND) -> Session | None:
        """Return the session of a request, as at the beginning of a turn."""
        name = identity(HEADERS, request)
        await self.sessions.take(caller, name, self.sessions.begin_read(caller, name, request))
        return self.sessions.find(caller, identity(HEADERS, request))

    async def written(self) -> None:
        """Wait until Redis has what was shared."""
        while self.store.pending:
            await asyncio.sleep(0)


def together(work: Callable[..., Awaitable[None]], redis: OwnRedis, **limits: float) -> None:
    """Run ``work`` with two processes whose clocks have nothing to do with each other."""

    async def run() -> None:
        one, other = Process(redis, 1000.0, **limits), Process(redis, 5.0, **limits)
        try:
            await work(one, other)
        finally:
            await one.sessions.close()
            await other.sessions.close()

    asyncio.run(run())


@pytest.mark.slow
def test_a_conversation_goes_on_in_another_process(redis: OwnRedis) -> None:
    async def work(one: Process, other: Process) -> None:
        one.answered()
        await one.written()
        found = await other.found()
        assert found is not None
        assert (found.model, found.deployment, found.output_tokens) == ("small", "small-1", 7)
        assert found.owns(RESULT) == ("small", "small-1")
        assert found.caches["small-1"].tokens == 80
        assert found.used <= other.clock.now
        assert await other.found("another key") is None
        assert await other.found(None) is None

    together(work, redis)


@pytest.mark.slow
def test_a_caller_who_is_refused_takes_nothing_over(redis: OwnRedis) -> None:
    async def work(one: Process, other: Process) -> None:
        one.answered()
        await one.written()
        assert other.sessions.begin_read("key", identity(HEADERS, SECOND), SECOND) is not None
        await other.written()  # the answer is there, and nobody has taken it
        assert len(other.sessions) == 0
        assert other.sessions.find("key", identity(HEADERS, SECOND)) is None

    together(work, redis)


@pytest.mark.slow
def test_redis_has_digests_with_an_end_and_no_word_of_the_conversation(redis: OwnRedis) -> None:
    async def work(one: Process, other: Process) -> None:
        one.answered()
        await one.written()
        (key,) = await one.server.command("KEYS", "*")
        assert key.decode().startswith(PREFIX)
        assert 0 < await one.server.command("PTTL", key) <= 300_000
        value = (await one.server.command("GET", key)).decode()
        assert not [word for word in ("carrot", "grandmother", "call_1", "key") if word in value + key.decode()]

    together(work, redis)


@pytest.mark.slow
def test_the_newer_of_two_sessions_counts(redis: OwnRedis) -> None:
    large = Completion("x", "large", "large-1", "large", "stop", Usage(100, 9), 1.0)

    async def work(one: Process, other: Process) -> None:
        other.answered()
        await other.written()
        other.clock.now += 5
        one.answered(large)
        await one.written()
        newer = await other.found()
        assert newer is not None
        assert newer.model == "large"
        other.clock.now += 5
        session = other.sessions.start("key", identity(HEADERS, FIRST))
        session.note(COMPLETION, 100, other.clock(), moves=True)  # and is not shared: as while Redis was away
        assert await other.found() is session

    together(work, redis)


@pytest.mark.slow
def test_what_another_version_wrote_is_left_alone(redis: OwnRedis) -> None:
    async def work(one: Process, other: Process) -> None:
        one.answered()
        await one.written()
        (key,) = await one.server.command("KEYS", "*")
        for value in ("{}", "not JSON", '{"version": 2}', '{"version": 1, "caches": {"a": "b"}}'):
            await one.server.command("SET", key, value)
            assert await other.found() is None

    together(work, redis)


@pytest.mark.slow
def test_without_redis_each_process_goes_on_and_shares_again_when_it_is_back(redis: OwnRedis) -> None:
    async def work(one: Process, other: Process) -> None:
        one.answered()
        await one.written()
        redis.kill()
        assert await other.found() is None
        assert other.store.is_away
        own = one.answered()
        assert await one.found() is own
        redis.start()
        while one.store.is_away or other.store.is_away:
            await asyncio.sleep(0.01)
        one.answered()
        await one.written()
        assert await other.found() is not None

    together(work, redis)


@pytest.mark.slow
def test_a_silent_redis_is_not_waited_for(redis: OwnRedis) -> None:
    async def work(one: Process, other: Process) -> None:
        one.answered()
        await one.written()
        redis.freeze()
        try:
            assert await other.found() is None  # the answer comes too late
            while not other.store.is_away:
                await asyncio.sleep(0.01)
            assert await other.found() is None  # and now none is asked for
            assert other.store.pending == 0
        finally:
            redis.thaw()
        while await other.found() is None:  # it is back, and in time again
            await asyncio.sleep(0.01)

    together(work, redis, read_s=0.05, timeout_s=0.1)


@pytest.mark.slow
def test_a_conversation_that_begins_asks_nothing_of_redis(redis: OwnRedis) -> None:
    async def work(one: Process, other: Process) -> None:
        redis.kill()
        assert await one.found(request=FIRST) is None
        assert not one.store.is_away

    together(work, redis)


@pytest.mark.slow
def test_a_session_that_is_too_large_stays_in_its_process(redis: OwnRedis) -> None:
    async def work(one: Process, other: Process) -> None:
        session = one.answered()
        await one.written()
        await one.server.command("FLUSHALL")
        session.model = "m" * MOST_BYTES
        one.sessions.share("key", identity(HEADERS, FIRST), session)
        await one.written()
        assert await one.server.command("DBSIZE") == 0

    together(work, redis)


@pytest.mark.slow
def test_the_redis_follows_the_configuration(redis: OwnRedis) -> None:
    async def work() -> None:
        sessions = Sessions(300.0)
        sessions.follow(Config(state=redis.url))
        session = sessions.start(None, identity(HEADERS, FIRST))
        sessions.share(None, identity(HEADERS, FIRST), session)
        await sessions.close()
        sessions.follow(Config())
        sessions.share(None, identity(HEADERS, Request(({"role": "user", "content": "another"},))), session)
        await sessions.close()
        server = Server(redis.url)
        assert await server.command("DBSIZE") == 1
        await server.close()

    asyncio.run(work())


@pytest.mark.slow
def test_a_turn_goes_on_at_another_gateway(serve: Callable[..., Served], redis: OwnRedis) -> None:
    one, other = serve(state=redis.url), serve(state=redis.url)
    one.provider.script(answer("Take carrots."), answer("Boil them."))
    body: dict[str, Any] = {"model": "auto", "messages": list(TURNS[:1])}
    first = httpx.post(f"{one.url}/v1/chat/completions", json=body, headers=HEADERS)
    second = httpx.post(f"{other.url}/v1/chat/completions", json={**body, "messages": list(TURNS)}, headers=HEADERS)
    assert (first.headers["x-semroute-session"], second.headers["x-semroute-session"]) == ("new", "stays")
    assert second.headers["x-semroute-model"] == first.headers["x-semroute-model"]


@pytest.mark.slow
def test_no_request_fails_without_redis(serve: Callable[..., Served], redis: OwnRedis) -> None:
    served = serve(state=redis.url)
    body: dict[str, Any] = {"model": "auto", "messages": list(TURNS[:1])}
    assert httpx.post(f"{served.url}/v1/chat/completions", json=body, headers=HEADERS).status_code == 200
    redis.kill()
    again = httpx.post(f"{served.url}/v1/chat/completions", json={**body, "messages": list(TURNS)}, headers=HEADERS)
    assert (again.status_code, again.headers["x-semroute-session"]) == (200, "stays")


SECONDS = st.floats(0, 1e6)
NAMES = st.text(min_size=1, max_size=20)
SESSIONS = st.builds(
    Session,
    used=st.just(1e7),
    model=st.none() | NAMES,
    deployment=st.none() | NAMES,
    caches=st.dictionaries(
        NAMES, st.builds(CachedPrefix, st.integers(0, 10**7), SECONDS.map(lambda age: 1e7 - age)), max_size=MOST_CACHES
    ),
    owner=st.none() | st.tuples(NAMES, NAMES),
    calls=st.frozensets(st.text("0123456789abcdef", min_size=16, max_size=16), max_size=MOST_CALLS),
    output_tokens=st.none() | st.integers(0, 10**7),
    scale=st.floats(0.25, 4.0),
    forgone=st.dictionaries(NAMES, st.floats(0, 1e3), max_size=40),
)


@pytest.mark.slow
@settings(max_examples=50)
@given(SESSIONS, SECONDS)
def test_a_shared_session_is_the_same_but_for_its_clock(session: Session, age_s: float) -> None:
    shared = SharedSession.model_validate_json(SharedSession.of(session, session.used).model_dump_json())
    back = shared.session(5.0, age_s)
    assert (back.model, back.deployment, back.owner, back.calls) == (
        session.model,
        session.deployment,
        session.owner,
        session.calls,
    )
    assert (back.output_tokens, back.scale) == (session.output_tokens, session.scale)
    assert back.forgone.items() <= session.forgone.items()
    assert back.used == 5.0 - age_s
    for name, prefix in session.caches.items():
        assert back.caches[name].tokens == prefix.tokens
        assert back.used - back.caches[name].at == pytest.approx(session.used - prefix.at, abs=1e-3)


def reasoning(*contents: str) -> list[dict[str, Any]]:
    return [{"type": "reasoning", "id": f"rs_{content}", "encrypted_content": content} for content in contents]


def sealed_turn(*contents: str) -> Request:
    return replace(SECOND, native=NativeBody("responses", {"input": [*reasoning(*contents), *TURNS]}))


@pytest.mark.slow
def test_who_sealed_an_item_is_known_to_other_processes(redis: OwnRedis) -> None:
    own, foreign = (
        CallTarget(Deployment(name=name, model="large", base_url="https://host/v1", format="responses"), None, None)
        for name in ("own", "foreign")
    )

    async def test() -> None:
        memories = SealedItems(), SealedItems()
        servers = [Server(redis.url, timeout_s=PATIENCE_S) for _ in memories]
        stores = [SessionStore(server, 300.0, read_s=PATIENCE_S) for server in servers]
        one, other = (
            Sessions(300.0, store=store, sealed=memory) for store, memory in zip(stores, memories, strict=True)
        )
        memories[0].note(own, reasoning("SECRET-1", "SECRET-2"))
        while stores[0].pending:
            await asyncio.sleep(0)
        turn = sealed_turn("SECRET-1", "SECRET-2", "SECRET-3")
        name = identity(HEADERS, turn)
        await other.take("key", name, other.begin_read("key", name, turn))
        for target, kept in ((own, ["SECRET-1", "SECRET-2", "SECRET-3"]), (foreign, ["SECRET-3"])):
            body: dict[str, Any] = {"input": reasoning("SECRET-1", "SECRET-2", "SECRET-3")}
            memories[1].keep_own(body, target)
            assert [item["encrypted_content"] for item in body["input"]] == kept, "what nobody knows is sent"
        stored = await servers[0].command("KEYS", "*")
        assert len(stored) == 2
        assert "SECRET" not in f"{stored} {await servers[0].command('MGET', *stored)}"
        for key in stored:
            assert 0 < await servers[0].command("PTTL", key) <= SEALED_TTL_MS
        await one.close()
        await other.close()

    asyncio.run(test())


@pytest.mark.slow
def test_without_redis_sealed_items_are_sent_as_before(redis: OwnRedis) -> None:
    async def test() -> None:
        memory = SealedItems()
        store = SessionStore(Server(redis.url, timeout_s=PATIENCE_S), 300.0, read_s=PATIENCE_S, return_s=60.0)
        sessions = Sessions(300.0, store=store, sealed=memory)
        redis.kill()
        turn = sealed_turn("SECRET")
        for _ in range(2):
            name = identity(HEADERS, turn)
            await sessions.take("key", name, sessions.begin_read("key", name, turn))
        assert store.is_away
        assert len(memory.unknown({"input": reasoning("SECRET")})) == 1
        await sessions.close()

    asyncio.run(test())


@pytest.mark.slow
def test_a_gateway_that_has_gone_hears_of_no_items() -> None:
    memory, target = (
        SealedItems(),
        CallTarget(Deployment(name="own", model="large", base_url="https://host/v1"), None, None),
    )
    sessions = Sessions(300.0, sealed=memory)
    memory.note(target, reasoning("one"))  # there is no Redis to tell
    del sessions
    gc.collect()
    memory.note(target, reasoning("two"))
    assert memory.unknown({"input": reasoning("one", "two")}) == []
