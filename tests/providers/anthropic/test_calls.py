"""What Anthropic's format alone has, over real HTTP; the rest is in test_formats.py and test_answer.py."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from semroute.config import Deployment
from semroute.providers import ADAPTERS, CallTarget
from semroute.testing import FakeProvider, refusal
from semroute.types import Completion, Request

KEY = "sk-ant-a1b2c3d4e5f6g7h8"
HELLO = Request(({"role": "user", "content": "hello out there"},))


def ask(provider: FakeProvider, *, streams: bool) -> Completion:
    where = CallTarget(
        Deployment(
            name="spot",
            model="large",
            format="anthropic",
            base_url=provider.anthropic_url,
            upstream_model="claude-test",
            api_key_env=("TEST_KEY",),
        ),
        "TEST_KEY",
        KEY,
    )

    async def work() -> Completion:
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
            if not streams:
                return await ADAPTERS["anthropic"].complete(client, where, HELLO, within_s=60.0)
            *_, last = [event async for event in ADAPTERS["anthropic"].stream(client, where, HELLO, within_s=60.0)]
            assert isinstance(last, Completion)
            return last

    return asyncio.run(work())


@pytest.mark.parametrize("streams", [False, True])
def test_a_refusal_is_an_answer_with_its_words_set_apart(provider: FakeProvider, streams: bool) -> None:
    provider.script(refusal("Not this."))
    found = ask(provider, streams=streams)
    assert (found.finish_reason, found.refusal) == ("refusal", "Not this.")


@pytest.mark.parametrize("streams", [False, True])
def test_the_version_of_the_api_is_named(provider: FakeProvider, streams: bool) -> None:
    ask(provider, streams=streams)
    assert provider.requests[0].headers["anthropic-version"] == "2023-06-01"
