from __future__ import annotations

import asyncio

import httpx

from semroute.providers.connection import close, shared_client


def test_a_loop_has_one_client_even_when_many_ask_at_once() -> None:
    async def work() -> set[int]:
        return {id(client) for client in await asyncio.gather(*(shared_client() for _ in range(20)))}

    assert len(asyncio.run(work())) == 1


def test_the_client_is_closed_with_its_loop_and_the_next_loop_gets_another() -> None:
    first, second = asyncio.run(shared_client()), asyncio.run(shared_client())
    assert first is not second
    assert first.is_closed
    assert second.is_closed


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
