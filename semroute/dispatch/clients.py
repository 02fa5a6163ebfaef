"""One HTTP client for each event loop, so that connections are reused and closed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from weakref import WeakKeyDictionary

import httpx

from semroute.http_client import open_client

_open: WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[AsyncGenerator[httpx.AsyncClient], httpx.AsyncClient]]
_open = WeakKeyDictionary()


async def shared_client() -> httpx.AsyncClient:
    """The running loop's client, made on first use.

    ``asyncio.run`` closes it with the loop; :func:`close` does so earlier.

    Raises:
        ConfigError: a proxy or certificate that the environment names cannot be used.
    """
    loop = asyncio.get_running_loop()
    if loop not in _open:
        lifetime = _lifetime()
        _open[loop] = (lifetime, await anext(lifetime))
    return _open[loop][1]


async def close() -> None:
    """Close the running loop's client; the next call opens another."""
    held = _open.get(asyncio.get_running_loop())
    if held is not None:
        await held[0].aclose()


async def _lifetime() -> AsyncGenerator[httpx.AsyncClient]:
    """A generator that a loop which ends finishes by itself (``shutdown_asyncgens``), and the client with it."""
    # How many calls may run at once is for the throttle to say; httpx would let 100 through and let others wait. Few
    # idle connections are kept: httpcore's pool looks at each pair of connections for every call while many are idle
    # (500 calls at once: 12 s of processor time with 1,000 kept, 3 s with 20).
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
    client = open_client(limits=limits)
    try:
        yield client
    finally:
        _open.pop(asyncio.get_running_loop(), None)
        await client.aclose()
