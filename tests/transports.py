"""HTTP clients over each of the transports that semroute opens clients with."""

from __future__ import annotations

from typing import Any

import httpx

from semroute.providers.transport import AiohttpTransport, LeanClient

chosen: Any = httpx.AsyncHTTPTransport
"""Class of the transport that the fixture ``each_transport`` has chosen."""


def client(*, verify: bool = True, limits: httpx.Limits | None = None, **options: Any) -> httpx.AsyncClient:
    """A client over the chosen transport that reads nothing of the environment, of the class that goes with it."""
    limits = limits or httpx.Limits(max_connections=100, max_keepalive_connections=20)
    kind = LeanClient if chosen is AiohttpTransport else httpx.AsyncClient
    return kind(transport=chosen(verify=verify, trust_env=False, limits=limits), **options)


def open_connections(transport: httpx.AsyncBaseTransport) -> list[Any]:
    """The connections of a transport that are in use."""
    if isinstance(transport, AiohttpTransport):
        assert transport._session is not None
        connector: Any = transport._session.connector
        return list(connector._acquired)
    assert isinstance(transport, httpx.AsyncHTTPTransport)
    return [connection for connection in transport._pool.connections if not connection.is_idle()]
