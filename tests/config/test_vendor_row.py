from __future__ import annotations

from typing import Any

import pytest

from semroute.catalog.parameters import NAMES
from semroute.config import VENDORS, Deployment
from semroute.config.deployments import UNNAMED, with_vendor_row
from semroute.config.load import validate


def deployment(**said: Any) -> Deployment:
    return Deployment.model_validate({"name": "a", "model": "m", **said})


@pytest.mark.parametrize("provider", [name for name, vendor in VENDORS.items() if vendor.base_url is not None])
def test_a_provider_fills_in_format_address_and_key(provider: str) -> None:
    vendor, filled = VENDORS[provider], deployment(provider=provider)
    assert (filled.format, filled.base_url) == (vendor.format, vendor.base_url)
    assert filled.api_key_env == (() if vendor.api_key_env is None else (vendor.api_key_env,))
    assert filled.vendor is vendor


def test_keys_of_a_deployment_take_precedence_over_its_providers_row() -> None:
    own = deployment(provider="openai", base_url="https://proxy/v1", api_key_env="MY_KEY")
    assert (own.base_url, own.api_key_env) == ("https://proxy/v1", ("MY_KEY",))
    assert deployment(provider="openai", api_key_env=[]).api_key_env == ()
    assert deployment(provider="openai", base_url=None).base_url == "https://api.openai.com/v1"


@pytest.mark.parametrize("format", UNNAMED)
def test_a_format_alone_means_its_own_vendors_address_and_no_key(format: str) -> None:
    plain = deployment(format=format)
    assert plain.base_url == VENDORS[UNNAMED[format]].base_url
    assert plain.api_key_env == ()
    assert plain.vendor.speaks(format)


@pytest.mark.parametrize("provider", ["openai", "groq", "vllm"])
def test_a_vendor_of_openais_format_may_be_called_in_responses(provider: str) -> None:
    place = deployment(provider=provider, format="responses")
    assert (place.format, place.base_url) == ("responses", VENDORS[provider].base_url)
    assert place.vendor is place.row is VENDORS[provider]
    assert deployment(format="responses").row is VENDORS["openai"]


def test_the_rows_are_usable() -> None:
    for name, vendor in VENDORS.items():
        assert vendor.base_url is None or not vendor.base_url.endswith("/"), name
        assert vendor.lacks <= {"tools", "json_schema", "vision", "logprobs", "cache_control", *NAMES}, name
        assert deployment(provider=name, base_url="https://host/v1").vendor is vendor


@pytest.mark.parametrize(
    ("said", "line", "key", "says"),
    [
        ("provider: opnai", 4, "provider", 'no such provider; did you mean "openai"?'),
        ("provider: nowhere-at-all", 4, "provider", "use one of openai, azure, anthropic"),
        ("provider: 5", 4, "provider", "must be text"),
        ("provider: azure", 2, "base_url", "is missing"),
        ("provider: vertex", 2, "base_url", "add your own address"),
        ("provider: anthropic\n    format: openai", 5, "format", 'speaks the format "anthropic"; leave format out'),
        ("provider: google\n    format: responses", 5, "format", 'speaks the format "gemini"; leave format out'),
        ("provider: openai\n    base_url: ftp://x", 5, "base_url", "http"),
        ("provider: openai\n    bogus:", 5, "bogus", "unknown key"),
    ],
)
def test_a_problem_with_the_provider_points_at_the_key_that_is_wrong(said: str, line: int, key: str, says: str) -> None:
    _, (problem,) = validate(f"deployments:\n  - name: a\n    model: m\n    {said}\n")
    assert (problem.line, problem.key) == (line, f"deployments.0.{key}")
    assert says in problem.text


def test_filling_in_defaults_does_not_change_the_input() -> None:
    said = {"provider": "openai", "name": "a"}
    assert with_vendor_row(said)["format"] == "openai"
    assert said == {"provider": "openai", "name": "a"}
