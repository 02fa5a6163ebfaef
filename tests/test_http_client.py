from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from semroute.config import Config
from semroute.dispatch import Dispatcher
from semroute.errors import ConfigError, UnavailableError
from semroute.http_client import PROXIES, BodyTooLongError, open_client, read_body
from semroute.providers.connection import shared_client
from semroute.testing import FakeProvider
from semroute.types import Request

SECRET = "hunter2-secret"
HELLO = Request(({"role": "user", "content": "hello"},))


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXIES, "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"):
        for spelt in {name, name.lower(), name.upper()}:
            monkeypatch.delenv(spelt, raising=False)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "https_proxy", "ALL_PROXY", "http_proxy"])
@pytest.mark.parametrize(
    "value",
    [":::", f"http://me:{SECRET}@[::", f"ftp://me:{SECRET}@host", "a b\nc"],
)
def test_a_proxy_that_cannot_be_used_is_named_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"{name} is not the address of a proxy") as caught:
        open_client()
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


def test_an_impossible_port_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://me:{SECRET}@host:99999999")
    with pytest.raises(ConfigError, match="HTTP_PROXY names a port above 65535") as caught:
        open_client()
    assert SECRET not in str(caught.value)


def test_a_socks_proxy_without_its_package_names_the_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", f"socks5://me:{SECRET}@host:1080")
    with pytest.raises(ConfigError, match=r'ALL_PROXY names a SOCKS proxy.*pip install "httpx\[socks\]"') as caught:
        open_client()
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("NO_PROXY", "[::1"), ("no_proxy", "[::1"), ("SSL_CERT_FILE", "missing.pem")],
)
def test_other_variables_that_cannot_be_used_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str
) -> None:
    if name.startswith("SSL"):
        value = str(tmp_path / value)
    else:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"^{name} "):
        open_client()


def test_a_call_reports_a_broken_pool_and_the_next_recovers(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask(dispatcher: Dispatcher) -> str:
        with pytest.raises(ConfigError, match="HTTPS_PROXY"):
            await dispatcher.complete(HELLO, ("small",))
        monkeypatch.delenv("HTTPS_PROXY")
        return (await dispatcher.complete(HELLO, ("small",))).text

    monkeypatch.setenv("HTTPS_PROXY", ":::")
    with FakeProvider() as provider:
        place: dict[str, Any] = {"name": "a", "model": "small", "base_url": provider.base_url}
        assert asyncio.run(ask(Dispatcher(Config.model_validate({"deployments": [place]})))) == "hello"


@pytest.mark.parametrize(
    ("address", "proxy"),
    [
        ("http://a..b/v1", ""),
        (f"http://{'x' * 64}.com/v1", ""),
        ("http://127.0.0.1:1/v1", "http://a..b:1"),
    ],
)
def test_an_impossible_host_is_unreachable(monkeypatch: pytest.MonkeyPatch, address: str, proxy: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy)
    place = {"name": "a", "model": "small", "base_url": address}
    dispatcher = Dispatcher(Config.model_validate({"deployments": [place], "retries": {"attempts": 1}}))
    with pytest.raises(UnavailableError, match="could not be reached"):
        asyncio.run(dispatcher.complete(HELLO, ("small",)))


def test_a_proxy_that_can_be_used_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")

    async def ask() -> None:
        with pytest.raises(httpx.ConnectError):
            await (await shared_client()).get("http://example.invalid/")

    asyncio.run(ask())


def test_a_body_that_a_transport_has_read_already_is_taken_within_the_bound() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text="x" * 100)

    async def ask(most: int) -> bytes:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
            response = await client.send(client.build_request("GET", "http://example.invalid/"), stream=True)
            return await read_body(response, most)

    assert asyncio.run(ask(100)) == b"x" * 100
    with pytest.raises(BodyTooLongError):
        asyncio.run(ask(99))
