from __future__ import annotations

import subprocess
import sys

import pytest

from semroute.catalog.prices import listing_of, price_of
from semroute.config import Config, Deployment, ModelSpec, Price

OWN = Price(input=1.0, output=2.0)
OF_THE_MODEL = Price(input=3.0, output=4.0)


def test_the_deployments_own_price_goes_before_its_models_and_that_before_the_list() -> None:
    own = Deployment(name="a", model="m", upstream_model="gpt-4o-mini", provider="openai", price=OWN)
    shared = Deployment(name="b", model="m", upstream_model="gpt-4o-mini", provider="openai")
    spoken = Config(models={"m": ModelSpec(price=OF_THE_MODEL)}, deployments=(own, shared))
    assert price_of(own, spoken) == OWN
    assert price_of(shared, spoken) == OF_THE_MODEL
    listed = price_of(shared, Config(models={"m": ModelSpec()}, deployments=(own, shared)))
    assert listed is not None
    assert (listed.input, listed.output, listed.cached_input) == (0.15, 0.6, 0.075)


def test_a_zero_price_is_a_price() -> None:
    free = Deployment(name="a", model="m", provider="openai", upstream_model="gpt-4o", price=Price(input=0, output=0))
    assert price_of(free, Config()) == Price(input=0.0, output=0.0)


@pytest.mark.parametrize(
    ("provider", "upstream"),
    [
        ("openai", "gpt-4o"),
        ("anthropic", "claude-sonnet-4-5"),
        ("google", "gemini-2.5-flash"),
        ("groq", "openai/gpt-oss-20b"),
    ],
)
def test_the_list_is_that_of_the_vendor(provider: str, upstream: str) -> None:
    found = price_of(Deployment(name="a", model=upstream, provider=provider), Config())
    assert found is not None
    assert found.output > found.input > 0


def test_a_deployment_without_a_provider_has_the_list_price_only_at_the_vendors_own_address() -> None:
    at_home = Deployment(name="a", model="gpt-4o")
    elsewhere = Deployment(name="a", model="gpt-4o", base_url="http://localhost:8000/v1")
    assert price_of(at_home, Config()) is not None
    assert price_of(elsewhere, Config()) is None
    assert listing_of(elsewhere) is None


def test_a_server_of_ones_own_and_an_unknown_model_have_no_price() -> None:
    for deployment in (
        Deployment(name="a", model="gpt-4o", provider="vllm"),
        Deployment(name="a", model="no-such-model", provider="openai"),
    ):
        assert price_of(deployment, Config()) is None


@pytest.mark.slow
def test_importing_the_catalog_loads_neither_the_price_list_nor_its_http_client() -> None:
    code = "import sys, semroute.catalog; print([m for m in sys.modules if m.startswith(('genai_prices', 'httpx2'))])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_the_price_list_is_read_without_a_network_and_without_a_thread() -> None:
    code = (
        "import socket, threading\n"
        "def refuse(*args, **kwargs): raise AssertionError('network')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from semroute.catalog import price_of\n"
        "from semroute.config import Config, Deployment\n"
        "print(price_of(Deployment(name='a', model='gpt-4o'), Config()).input, threading.active_count())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2.5", "1"]
