from __future__ import annotations

import asyncio
import gc

import httpx
import pytest

from semroute.providers.connection import ClientPool, close, shared_client


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
