from __future__ import annotations

import asyncio

import httpx
import pytest
from patience import PATIENCE_S

from semroute.config import Config
from semroute.dispatch.status import Probe, probe_all
from semroute.testing import FakeProvider, answer, fail, hang


def probes(config: Config, env: dict[str, str]) -> list[Probe]:
    async def inside() -> list[Probe]:
        async with httpx.AsyncClient() as client:
            return await probe_all(config, env=env, client=client)

    return asyncio.run(inside())


def test_each_key_of_each_deployment_is_tried_and_a_failure_of_one_does_not_hide_the_others() -> None:
    with FakeProvider(key="right") as provider:
        common = {"model": "m", "base_url": provider.base_url}
        config = Config.model_validate(
            {"deployments": [{"name": "a", **common, "api_key_env": ["GOOD", "BAD", "UNSET"]}, {"name": "b", **common}]}
        )
        found = probes(config, {"GOOD": "right", "BAD": "wrong"})
    assert [(probe.deployment, probe.credential, probe.error_kind) for probe in found] == [
        ("a", "GOOD", None),
        ("a", "BAD", "AuthenticationError"),
        ("a", "UNSET", "NoDeploymentError"),
        ("b", None, "AuthenticationError"),
    ]
    assert found[0].upstream_model == "m"
    assert "wrong" not in repr(found)


@pytest.mark.slow
def test_places_are_called_side_by_side_and_each_within_its_timeout() -> None:
    with FakeProvider() as provider:
        provider.script(hang(), hang(), hang())
        common = {"model": "m", "base_url": provider.base_url, "timeout_s": 1.0}
        config = Config.model_validate({"deployments": [{"name": name, **common} for name in "abc"]})
        found = probes(config, {})
        assert provider.wait_idle(PATIENCE_S)
        calls = provider.requests
    assert [probe.error_kind for probe in found] == ["ProviderTimeoutError"] * 3
    assert max(call.at for call in calls) < min(call.ended or 0.0 for call in calls)


def test_an_error_of_the_provider_is_shown() -> None:
    with FakeProvider() as provider:
        provider.script(fail(503, "no room"))
        config = Config.model_validate({"deployments": [{"name": "a", "model": "m", "base_url": provider.base_url}]})
        (found,) = probes(config, {})
    assert found.error is not None
    assert "no room" in found.error


@pytest.mark.slow
def test_a_model_whose_reasoning_takes_the_probes_few_tokens_is_there_and_one_that_says_nothing_is_not() -> None:
    with FakeProvider() as provider:
        provider.script(answer("", reasoning="hm", finish="length"), answer(""))
        config = Config.model_validate({"deployments": [{"name": "a", "model": "m", "base_url": provider.base_url}]})
        (thinks,), (empty,) = probes(config, {}), probes(config, {})
    assert (thinks.error, thinks.upstream_model) == (None, "m")
    assert empty.error_kind == "EmptyAnswerError"
