from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest

from semroute import bridge
from semroute.config import Config, Deployment
from semroute.dispatch import complete
from semroute.errors import AuthenticationError, NoDeploymentError
from semroute.testing import FakeProvider, fail
from semroute.types import Completion, Request

KEY = "sk-proj-a1b2c3d4e5f6g7h8"
HELLO = Request(({"role": "user", "content": "hello"},))


@pytest.fixture(autouse=True)
def _direct_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as running:
        yield running


def config(provider: FakeProvider, *places: tuple[str, str], key: str | None = None) -> Config:
    return Config(
        deployments=tuple(
            Deployment(name=name, model=model, base_url=provider.base_url, api_key_env=key) for name, model in places
        )
    )


def ask(where: Config, *candidates: str, env: dict[str, str] | None = None) -> Completion:
    return asyncio.run(complete(HELLO, candidates, where, env=env or {}))


def test_the_first_candidate_is_called_at_its_first_deployment(provider: FakeProvider) -> None:
    answer = ask(config(provider, ("a", "large"), ("b", "coder"), ("c", "coder")), "coder", "large")
    assert (answer.text, answer.model, answer.deployment) == ("hello", "coder", "b")
    assert len(provider.requests) == 1


def test_a_candidate_without_a_deployment_is_passed_over(provider: FakeProvider) -> None:
    assert ask(config(provider, ("a", "large")), "coder", "large").model == "large"


def test_the_attempt_is_recorded(provider: FakeProvider) -> None:
    answer = ask(config(provider, ("a", "large")), "large")
    (attempt,) = answer.attempts
    assert (attempt.deployment, attempt.model, attempt.status, attempt.error) == ("a", "large", 200, None)
    assert attempt.latency_ms == answer.latency_ms > 0


def test_no_deployment_of_any_candidate_names_the_models_the_key_and_init() -> None:
    with pytest.raises(NoDeploymentError) as caught:
        ask(Config(), "coder", "large")
    message = str(caught.value)
    assert '"coder", "large"' in message
    assert "deployments" in message
    assert "semroute init" in message


def test_no_candidates_at_all_is_an_error_of_the_tree() -> None:
    with pytest.raises(NoDeploymentError, match="no model to call"):
        ask(Config())


@pytest.mark.parametrize("env", [{}, {"THE_KEY": " "}])
def test_a_key_that_is_not_set_is_named_and_nothing_is_called(provider: FakeProvider, env: dict[str, str]) -> None:
    with pytest.raises(NoDeploymentError, match="export THE_KEY") as caught:
        ask(config(provider, ("a", "large"), key="THE_KEY"), "large", env=env)
    assert caught.value.deployment == "a"
    assert provider.requests == []


def test_the_key_is_read_from_the_environment_and_its_line_break_dropped(provider: FakeProvider) -> None:
    ask(config(provider, ("a", "large"), key="THE_KEY"), "large", env={"THE_KEY": f"{KEY}\n"})
    assert provider.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_the_process_environment_is_read_at_each_call(provider: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    where = config(provider, ("a", "large"), key="SEMROUTE_TEST_KEY")
    monkeypatch.setenv("SEMROUTE_TEST_KEY", KEY)
    assert asyncio.run(complete(HELLO, ["large"], where)).text == "hello"
    monkeypatch.delenv("SEMROUTE_TEST_KEY")
    with pytest.raises(NoDeploymentError):
        asyncio.run(complete(HELLO, ["large"], where))


def test_a_failed_call_raises_its_error_without_the_key(provider: FakeProvider) -> None:
    provider.script(fail(401, f"bad key {KEY}"))
    with pytest.raises(AuthenticationError) as caught:
        ask(config(provider, ("a", "large"), key="THE_KEY"), "large", env={"THE_KEY": KEY})
    assert KEY not in str(caught.value)
    assert "THE_KEY" in str(caught.value)


def test_a_client_of_the_callers_own_is_used_and_left_open(provider: FakeProvider) -> None:
    async def work() -> bool:
        async with httpx.AsyncClient(trust_env=False, headers={"x-mine": "yes"}) as client:
            await complete(HELLO, ["large"], config(provider, ("a", "large")), client=client)
            return client.is_closed

    assert asyncio.run(work()) is False
    assert provider.requests[0].headers["x-mine"] == "yes"


def test_it_works_through_the_bridge_and_many_at_once(provider: FakeProvider) -> None:
    where = config(provider, ("a", "large"))

    async def many() -> list[Completion]:
        return await asyncio.gather(*(complete(HELLO, ["large"], where) for _ in range(8)))

    assert [answer.text for answer in bridge.run(many())] == ["hello"] * 8
    assert bridge.run(complete(HELLO, ["large"], where)).text == "hello"
