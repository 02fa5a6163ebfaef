from __future__ import annotations

import asyncio
import gc
import sys
from pathlib import Path

import httpx
import pytest

from semroute.errors import ConfigError
from semroute.http_client import PROXIES
from semroute.providers.connection import ClientPool, close, shared_client
from semroute.providers.transport import AiohttpTransport


@pytest.mark.slow
def test_a_loop_has_one_client_even_when_many_ask_at_once() -> None:
    async def work() -> set[int]:
        return {id(client) for client in await asyncio.gather(*(shared_client() for _ in range(20)))}

    assert len(asyncio.run(work())) == 1


@pytest.mark.slow
def test_the_client_is_closed_with_its_loop_and_the_next_loop_gets_another() -> None:
    first, second = asyncio.run(shared_client()), asyncio.run(shared_client())
    assert first is not second
    assert first.is_closed
    assert second.is_closed


@pytest.mark.slow
def test_a_closed_client_is_replaced() -> None:
    async def work() -> tuple[httpx.AsyncClient, httpx.AsyncClient, bool]:
        first = await shared_client()
        await close()
        await close()
        second = await shared_client()
        return first, second, second.is_closed

    first, second, was_closed = asyncio.run(work())
    assert first is not second
    assert first.is_closed
    assert not was_closed


def shared_transport() -> httpx.AsyncBaseTransport:
    return asyncio.run(shared_client())._transport_for_url(httpx.URL("https://example.invalid/"))


@pytest.fixture
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.usefixtures("_no_proxies")
def test_calls_go_over_aiohttp_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(shared_transport(), AiohttpTransport)
    monkeypatch.delitem(sys.modules, AiohttpTransport.__module__)
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    assert isinstance(shared_transport(), httpx.AsyncHTTPTransport)


@pytest.mark.usefixtures("_no_proxies")
@pytest.mark.parametrize("name", ["HTTP_PROXY", "https_proxy", "ALL_PROXY"])
def test_a_proxy_of_any_kind_keeps_httpxs_own_transport(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert isinstance(shared_transport(), httpx.AsyncHTTPTransport)


@pytest.mark.usefixtures("_no_proxies")
def test_a_certificate_file_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    with pytest.raises(ConfigError, match=r"^SSL_CERT_FILE "):
        shared_transport()


class User:
    pass


@pytest.mark.slow
def test_the_last_user_of_a_client_closes_it() -> None:
    async def work() -> None:
        pool, first, second = ClientPool(httpx.AsyncClient), User(), User()
        client = await pool.client(first)
        assert await pool.client(second) is client
        await pool.client(first)
        await pool.release(first)
        await pool.release(first)
        assert not client.is_closed
        await pool.release(second)
        assert client.is_closed
        assert await pool.client(first) is not client

    asyncio.run(work())


def test_a_client_that_someone_uses_without_an_end_stays_open_until_its_loop_ends() -> None:
    async def work() -> httpx.AsyncClient:
        pool, user = ClientPool(httpx.AsyncClient), User()
        client = await pool.client()
        await pool.client(user)
        await pool.release(user)
        assert not client.is_closed
        return client

    assert asyncio.run(work()).is_closed


def test_to_release_what_was_never_used_does_nothing() -> None:
    async def work() -> None:
        pool = ClientPool(httpx.AsyncClient)
        await pool.release(User())
        client = await pool.client(User())
        await pool.release(User())
        assert not client.is_closed
        await pool.close()

    asyncio.run(work())


@pytest.mark.slow
def test_a_user_that_is_gone_keeps_no_client_open() -> None:
    async def work() -> None:
        pool, user = ClientPool(httpx.AsyncClient), User()
        client = await pool.client(User())
        gc.collect()
        await pool.client(user)
        await pool.release(user)
        assert client.is_closed

    asyncio.run(work())
