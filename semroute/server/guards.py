"""Guards of every route: host, origin, framing, header and body size.

A page in a browser can reach a server on loopback: by a name that it lets point there (DNS rebinding), which the Host
header shows, or across origins, which the Origin header shows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, MutableMapping
from functools import lru_cache
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from semroute.server.formats import json_bytes

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
MAX_HEADER_BYTES = 32 * 1024
"""Largest header of a request, names and values together."""
MAX_BODY_BYTES = 64 * 1024 * 1024
"""Largest body: images of a long conversation; beyond it the vendors refuse too."""


class Guards:
    """ASGI middleware that refuses a request before anything of it is read.

    Args:
        app: the application behind it.
        hosts: names that the Host header may have; empty allows all.
        origins: origins of pages that may call; none by default.
    """

    def __init__(self, app: Application, hosts: Collection[str] = LOOPBACK, origins: Collection[str] = ()) -> None:
        self._app = app
        self._hosts = frozenset(hosts)
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or hand it to the application."""
        if scope["type"] == "websocket":
            # Answered at once, since clients fall back to HTTP only then.
            await send({"type": "websocket.close", "code": 1008, "reason": "semroute serves HTTP only"})
            return
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            await _refuse(send, *refusal)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        values = dict(headers)
        names = [name for name, _ in headers]
        if sum(len(name) + len(value) for name, value in headers) > MAX_HEADER_BYTES:
            return 431, f"the header is larger than {MAX_HEADER_BYTES // 1024} KB"
        if self._hosts and _host(values.get("host", "")) not in self._hosts:
            return 421, "the Host header names another server; start with --host, or allow it with --allow-host"
        if (origin := values.get("origin")) is not None and origin not in self._origins:
            return 403, "pages of other origins may not call this server"
        if names.count("host") != 1 or ("content-length" in names and "transfer-encoding" in names):
            return 400, "the request's framing is ambiguous"
        if values.get("content-encoding", "identity") != "identity":
            return 415, "a body must not have a content-encoding"
        length = values.get("content-length", "0")
        if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
            return 413, f"the body is larger than {MAX_BODY_BYTES // 2**20} MB"
        return None


@lru_cache(maxsize=64)
def _host(value: str) -> str:
    try:
        return urlsplit(f"//{value}").hostname or ""
    except ValueError:
        return ""


async def _refuse(send: Send, status: int, message: str) -> None:
    body = json_bytes({"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}})
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
