"""What closes a place, and what opens it again: another key, a person, the end of a call."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import httpx
import pytest
from resilience.redis_server import own_redis

from semroute.config import Config
from semroute.dispatch import Dispatcher
from semroute.dispatch.status import enable, endpoints_of, read_status, wish_file
from semroute.errors import AllClosedError, DataError, DispatchError, InputError
from semroute.testing import FakeProvider, fail, hang
from semroute.types import BreakerState, CallResult, EndpointStatus, Permit, Request

HELLO = Request(({"role": "user", "content": "hello there you"},), max_tokens=100)


def config(provider: FakeProvider, **sections: Any) -> Config:
    where = {"name": "a", "model": "large", "base_url": provider.base_url, "api_key_env": "THE_KEY"}
    quick = {"backoff_s": 0.001, "most_backoff_s": 0.001, "deadline_s": 5.0}
    return Config.model_validate({"deployments": [where | sections.pop("place", {})], "retries": quick, **sections})


async def asked(dispatcher: Dispatcher) -> str:
    return (await dispatcher.complete(HELLO, ("large",))).text


async def disabled(dispatcher: Dispatcher, reason: str = "401: invalid key") -> EndpointStatus:
    """Let the gates hold the key of the place for invalid, as dispatch does."""
    from semroute.resilience.breaker import digest_key

    (place,) = endpoints_of(dispatcher.config)
    permit = await dispatcher.gates.acquire(place, 1)
    assert isinstance(permit, Permit)
    await dispatcher.gates.release(permit, CallResult.DISABLE, reason=reason, refused=digest_key("old"))
    (found,) = await dispatcher.gates.statuses([place])
    assert found.breaker is BreakerState.DISABLED
    return found


@pytest.mark.slow
@pytest.mark.services
def test_a_key_that_was_replaced_while_the_process_was_down_is_used_at_once(provider: FakeProvider) -> None:
    async def process(where: Config, key: str) -> Any:
        async with httpx.AsyncClient() as client:
            dispatcher = Dispatcher(where, client=client, env={"THE_KEY": key})
            try:
                return await asked(dispatcher)
            finally:
                await dispatcher.close()

    with own_redis() as redis:
        where = config(provider, state=redis.url)

        async def refuse() -> None:
            dispatcher = Dispatcher(where, env={"THE_KEY": "old"})
            found = await disabled(dispatcher)
            assert found.refused is not None
            assert "old" not in found.refused
            await dispatcher.close()

        asyncio.run(refuse())
        with pytest.raises(AllClosedError, match="THE_KEY is disabled"):
            asyncio.run(process(where, "old"))
        assert provider.requests == []
        assert asyncio.run(process(where, "new")) == "hello there you"
        assert len(provider.requests) == 1


@pytest.mark.services
def test_nothing_that_is_shared_holds_the_key_or_a_plain_digest_of_it(provider: FakeProvider) -> None:
    import hashlib

    key = "sk-secret-of-many-letters"

    async def refuse(where: Config) -> str:
        from semroute.resilience.breaker import digest_key

        dispatcher = Dispatcher(where, env={"THE_KEY": key})
        (place,) = endpoints_of(where)
        for result in (CallResult.SUSPEND, CallResult.DISABLE):
            permit = await dispatcher.gates.acquire(place, 1)
            assert isinstance(permit, Permit)
            await dispatcher.gates.release(permit, result, refused=digest_key(key))
            await dispatcher.gates.lift([place]) if result is CallResult.SUSPEND else None
        server = dispatcher.gates._shared.server  # type: ignore[union-attr]
        names = await server.command("KEYS", "*")
        found = [await server.command("HGETALL", name) for name in names if b"disabled" in name or b"breaker" in name]
        await dispatcher.close()
        return repr(found)

    with own_redis() as redis:
        stored = asyncio.run(refuse(config(provider, state=redis.url)))
    assert "refused" in stored
    assert key not in stored
    for digest in (hashlib.sha256, hashlib.sha1, hashlib.md5, hashlib.blake2b):
        assert digest(key.encode()).hexdigest()[:16] not in stored


def test_the_tokens_that_a_cancelled_call_did_not_take_go_back(provider: FakeProvider) -> None:
    provider.script(hang())
    where = config(provider, place={"limits": {"tpm": 3000}})

    async def cancelled() -> tuple[float, str]:
        async with httpx.AsyncClient() as client:
            dispatcher = Dispatcher(where, client=client, env={"THE_KEY": "k"})
            long = Request(HELLO.messages, max_tokens=2900)
            asking = asyncio.create_task(dispatcher.complete(long, ("large",)))
            while not provider.requests:
                await asyncio.sleep(0.01)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            (found,) = await dispatcher.gates.statuses(endpoints_of(where))
            answer = (await dispatcher.complete(long, ("large",))).text
            await dispatcher.close()
            return found.headroom, answer

    headroom, answer = asyncio.run(cancelled())
    assert 0.9 < headroom < 1.0  # its input was read
    assert answer == "hello there you"


@pytest.mark.parametrize("name", ["a", "THE_KEY"])
def test_a_process_with_state_of_its_own_lifts_what_it_is_asked_to(
    provider: FakeProvider, tmp_path: Path, name: str
) -> None:
    file = tmp_path / "state.json"
    provider.script(fail(429, retry_after=30))
    where = config(provider)

    async def closed_and_enabled() -> str:
        async with httpx.AsyncClient() as client:
            dispatcher = Dispatcher(where, client=client, env={"THE_KEY": "old"}, state_file=file)
            with pytest.raises(DispatchError):
                await asked(dispatcher)
            await disabled_too(dispatcher)
            await dispatcher._reporter.report()
            (place,) = (await read_status(where, {}, file=file))["places"]
            assert place["wait_s"] != 0.0
            assert "refused" not in place
            await dispatcher._reporter.finish()  # a report under way would write what was before
            await enable(where, {}, name, file=file)
            (place,) = (await read_status(where, {}, file=file))["places"]
            assert (place["breaker"], place["wait_s"]) == ("closed", 0.0)
            answer = await asked(dispatcher)
            await dispatcher.close()
            return answer

    async def disabled_too(dispatcher: Dispatcher) -> None:
        await dispatcher.gates.lift(endpoints_of(where))
        await disabled(dispatcher)

    assert asyncio.run(closed_and_enabled()) == "hello there you"


def test_a_wish_of_before_the_process_began_is_an_old_one(provider: FakeProvider, tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    wish_file(file).write_text(json.dumps({"a|THE_KEY": 1.0}))

    async def test() -> None:
        dispatcher = Dispatcher(config(provider), env={"THE_KEY": "old"}, state_file=file)
        await disabled(dispatcher)
        with pytest.raises(AllClosedError):
            await asked(dispatcher)
        await dispatcher.close()

    asyncio.run(test())


@pytest.mark.parametrize("content", ["[]", "{", '{"a|": "now"}', "[" * 100_000])
def test_a_damaged_list_of_wishes_is_a_warning_for_the_process_and_an_error_for_who_adds_to_it(
    provider: FakeProvider, tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "state.json"

    async def test() -> None:
        async with httpx.AsyncClient() as client:
            dispatcher = Dispatcher(config(provider), client=client, env={"THE_KEY": "k"}, state_file=file)
            await asked(dispatcher)
            await dispatcher._reporter.report()
            wish_file(file).write_text(content)
            dispatcher._reporter._looked = float("-inf")
            assert await asked(dispatcher) == "hello there you"
            with pytest.raises(DataError, match="delete it"):
                await enable(dispatcher.config, {}, "a", file=file)
            await dispatcher.close()

    with caplog.at_level(logging.WARNING, logger="semroute"):
        asyncio.run(test())
    assert "what shall be enabled could not be read" in caplog.text


def test_a_name_that_is_neither_deployment_nor_key_is_not_repeated(provider: FakeProvider, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there are THE_KEY and the deployments a") as caught:
        asyncio.run(enable(config(provider), {}, "sk-pasted", file=tmp_path / "state.json"))
    assert "sk-pasted" not in str(caught.value)


def test_a_key_is_one_at_each_host(provider: FakeProvider) -> None:
    bases = ["https://API.example/v1", "https://api.example:443/other", "http://api.example/v1", "https://b.example"]
    places = [{"name": f"d{i}", "model": "m", "base_url": base, "api_key_env": "K"} for i, base in enumerate(bases)]
    keyless = {"name": "free", "model": "m", "base_url": "http://localhost:1"}
    found = [place.origin for place in endpoints_of(Config.model_validate({"deployments": [*places, keyless]}))]
    here = "https://api.example:443"
    assert found == [here, here, "http://api.example:80", "https://b.example:443", None]
