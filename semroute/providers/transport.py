"""HTTP transport for httpx over aiohttp, which takes less CPU time.

httpx's own transport parses HTTP in Python and walks its pool for every call; aiohttp does the first in C and not the
second. The client stays httpx's, and so do its errors: retries and costs depend on whether a call may have reached the
provider, so that each error here is the one that httpx raises in the same place. Needs the extra "serve";
:mod:`semroute.providers.connection` chooses it where it is installed.
"""

from __future__ import annotations

import asyncio
import logging
import select
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, TypeAlias

import aiohttp
import httpx
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from semroute import eventloop, forks

Trace: TypeAlias = Callable[[str, Mapping[str, Any]], Awaitable[None]]
"""``trace`` extension of a request: awaited with the name of a step and its details."""

WRITE_BYTES = 2**16
"""Bytes of a request's body that are written before the socket is waited for."""

MAX_FIELD = 2**16
"""Longest status line or header of a response, bytes; h11, below httpx's own transport, takes 100 kB of all headers."""

_AUTOMATIC = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""Headers that aiohttp adds unless it is told not to: httpx's client has decided about them."""

_ERRORS: tuple[tuple[type[Exception], type[httpx.TransportError]], ...] = (
    (aiohttp.ConnectionTimeoutError, httpx.ConnectTimeout),
    (aiohttp.ClientConnectorError, httpx.ConnectError),  # names, refused connections, TLS
    (aiohttp.InvalidURL, httpx.ConnectError),
    (aiohttp.NonHttpUrlClientError, httpx.UnsupportedProtocol),
    (UnicodeError, httpx.ConnectError),  # of the resolver: a name that there cannot be
    (OverflowError, httpx.ConnectError),  # of the socket: a port that there cannot be
    (ValueError, httpx.LocalProtocolError),  # a header that cannot be written
    (TimeoutError, httpx.ReadTimeout),
    (aiohttp.ServerDisconnectedError, httpx.RemoteProtocolError),
    (aiohttp.ClientResponseError, httpx.RemoteProtocolError),  # not HTTP
    (aiohttp.ClientPayloadError, httpx.RemoteProtocolError),  # a body that was cut off
    (aiohttp.ClientError, httpx.ReadError),
    (OSError, httpx.ReadError),
)
"""Errors of aiohttp, the first that fits counts, with httpx's. Only the ``Connect…`` ones say that nothing was sent."""

_connecting: ContextVar[tuple[Trace | None, float | None]] = ContextVar("semroute_connecting", default=(None, None))
"""The running request's trace, and its longest time to connect in seconds."""


class AiohttpTransport(httpx.AsyncBaseTransport):
    """HTTP/1.1 over aiohttp, without proxies, redirects or cookies.

    Connections belong to the event loop that opened them; in another loop, or in a forked child, others are opened. The
    ``trace`` extension is awaited for two steps alone, ``connection.connect_tcp.started`` before a connection is made
    and ``http11.send_request_headers.started`` after it.

    Args:
        verify: as of :class:`httpx.AsyncClient`, with the same certificates of the environment.
        cert: client certificate, as of :class:`httpx.AsyncClient`.
        trust_env: read ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``.
        limits: of connections; one that is in use when the last permitted is asked for is waited for.

    Raises:
        OSError, ValueError: a certificate cannot be used.
    """

    def __init__(
        self,
        *,
        verify: Any = True,
        cert: Any = None,
        trust_env: bool = True,
        limits: httpx.Limits = httpx.Limits(max_connections=100, max_keepalive_connections=20),  # noqa: B008  # immutable
    ) -> None:
        self._tls = httpx.create_ssl_context(verify, cert, trust_env)
        self._tls.set_alpn_protocols(["http/1.1"])
        self._limits = limits
        self._loop: asyncio.AbstractEventLoop | None = None
        self._session: aiohttp.ClientSession | None = None
        self._places: asyncio.Semaphore | None = None
        self._open: set[_OpenBody] = set()
        self._finalizer: weakref.finalize[..., AiohttpTransport] | None = None
        forks.in_child(self, AiohttpTransport._leave_behind)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and return the head of its response with an open body.

        Raises:
            httpx.TransportError: the request failed; :class:`httpx.ConnectError` and :class:`httpx.ConnectTimeout` if
                nothing of it was sent.
        """
        session, places = self._opened()
        timeouts = request.extensions.get("timeout", {})
        _connecting.set((request.extensions.get("trace"), timeouts.get("connect")))
        if places is not None:
            await _acquire(places, timeouts.get("pool"))
        response = None
        try:
            response = await self._sent(session, request, timeouts)
        except (aiohttp.ClientError, ValueError, OverflowError, OSError) as error:
            raise _mapped(error) from error
        finally:
            if response is None and places is not None:
                places.release()
        stream = _OpenBody(response, places, self._open)
        reason = (response.reason or "").encode("utf-8", "surrogateescape")
        version = b"HTTP/1.0" if response.version == aiohttp.HttpVersion10 else b"HTTP/1.1"
        return httpx.Response(
            response.status,
            headers=list(response.raw_headers),
            stream=stream,
            extensions={"http_version": version, "reason_phrase": reason},
        )

    async def aclose(self) -> None:
        """Close all connections; a response that is still read fails."""
        session, self._session = self._session, None
        # Its reader would otherwise never hear of it.
        for stream in list(self._open):
            await stream.aclose()
        if session is not None:
            self._forget()
            await session.close()

    async def _sent(
        self, session: aiohttp.ClientSession, request: httpx.Request, timeouts: Mapping[str, float | None]
    ) -> aiohttp.ClientResponse:
        url = request.url
        # Without a user's name, which is in a header, and as it is escaped already.
        address = f"{url.scheme}://{url.netloc.decode('ascii')}{url.raw_path.decode('ascii')}"
        body: object = None
        if not isinstance(request.stream, httpx.ByteStream):
            body = _parts(request)
        elif request.content:
            body = _RequestBody(request.content, timeouts.get("write"))
        return await session.request(
            request.method,
            URL(address, encoded=True),
            headers=_headers(request.headers),
            data=body,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_read=timeouts.get("read")),
            server_hostname=request.extensions.get("sni_hostname"),
        )

    def _opened(self) -> tuple[aiohttp.ClientSession, asyncio.Semaphore | None]:
        """Return the running loop's session and places; open them on first use."""
        loop = asyncio.get_running_loop()
        if self._session is None or self._loop is not loop:
            if self._finalizer is not None:  # of a loop that is over
                self._finalizer()
            most = self._limits.max_connections
            self._loop, self._places = loop, None if most is None else asyncio.Semaphore(most)
            self._session = aiohttp.ClientSession(
                connector=_Connector(self._tls, self._limits),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=_AUTOMATIC,
                max_line_size=MAX_FIELD,
                max_field_size=MAX_FIELD,
            )
            self._finalizer = weakref.finalize(self, _close_left_open, self._session, loop)
        return self._session, self._places

    def _forget(self) -> None:
        if self._finalizer is not None:
            self._finalizer.detach()
        self._session = self._loop = self._finalizer = None

    def _leave_behind(self) -> None:
        forks.leave_behind(self._session, *self._open)
        self._forget()
        self._open = set()


def _close_left_open(session: aiohttp.ClientSession, loop: asyncio.AbstractEventLoop) -> None:
    """Close the connections that a transport's owner left open.

    aiohttp would complain about them on standard error.
    """
    if loop.is_closed():
        with suppress(StopIteration):  # there is nothing left to wait for
            session.close().send(None)
    else:
        with suppress(RuntimeError):  # closed by now
            asyncio.run_coroutine_threadsafe(session.close(), loop)


_log = logging.getLogger("httpx")
_FOREIGN = ("data", "files", "json", "cookies")
"""Options of a request that :class:`LeanClient` leaves to httpx."""


class LeanClient(httpx.AsyncClient):
    """httpx's client, whose streamed calls go to its transport at once.

    A call of the adapters has no use for redirects, cookies, hooks and a flow of authentication, which took a third of
    the client's time. Cookies that a provider sets are not kept: with them one caller's would go upstream with
    another's. Any other call is httpx's own.

    Args:
        transport: all that is sent goes to it.
        options: further ones of :class:`httpx.AsyncClient`, without cookies, parameters and base address.
    """

    def __init__(self, *, transport: httpx.AsyncBaseTransport, **options: Any) -> None:
        super().__init__(transport=transport, **options)
        self._direct = transport
        self._own_headers = [(name.decode("ascii"), value.decode("ascii")) for name, value in self.headers.raw]

    def build_request(self, method: str, url: httpx.URL | str, **options: Any) -> httpx.Request:
        """Build a request; as of :class:`httpx.AsyncClient`."""
        if not isinstance(url, httpx.URL) or url.is_relative_url or any(map(options.get, _FOREIGN)):
            return super().build_request(method, url, **options)
        given = options.get("headers") or {}
        items = list(given.items())
        names = {name.lower() for name, _ in items}
        headers = [*(one for one in self._own_headers if one[0].lower() not in names), *items]
        timeout = options.get("timeout", self.timeout)
        timeout = timeout if isinstance(timeout, httpx.Timeout) else httpx.Timeout(timeout)
        extensions = {"timeout": timeout.as_dict(), **(options.get("extensions") or {})}
        content, params = options.get("content"), options.get("params")
        return httpx.Request(method, url, content=content, params=params, headers=headers, extensions=extensions)

    async def send(self, request: httpx.Request, *, stream: bool = False, **options: Any) -> httpx.Response:
        """Send a request; as of :class:`httpx.AsyncClient`.

        Raises:
            RuntimeError: the client is closed.
        """
        wants_more = options.get("follow_redirects") or options.get("auth") or any(self._event_hooks.values())
        if not stream or wants_more or request.url.userinfo:
            return await super().send(request, stream=stream, **options)
        if self.is_closed:
            raise RuntimeError("Cannot send a request, as the client has been closed.")
        response = await self._direct.handle_async_request(request)
        response.request = request
        if _log.isEnabledFor(logging.INFO):
            _log.info(
                'HTTP Request: %s %s "%s %d %s"',
                request.method,
                request.url,
                response.http_version,
                response.status_code,
                response.reason_phrase,
            )
        return response


class _Connector(aiohttp.TCPConnector):
    """Connection pool with httpx's limits, free of closed connections.

    aiohttp learns of a closed connection from the event loop, which may not have looked since: after a blocked loop the
    first request would be lost in it, and could not be sent again, since the server may have read it.
    """

    def __init__(self, tls: Any, limits: httpx.Limits) -> None:
        self._most_idle = limits.max_keepalive_connections
        # Without a cache of names and with the resolver that asyncio has: what httpx's transport does.
        super().__init__(
            ssl=tls,
            limit=0,
            use_dns_cache=False,
            resolver=aiohttp.ThreadedResolver(),
            keepalive_timeout=limits.keepalive_expiry,
        )

    async def _get(self, key: Any, traces: Any) -> Any:
        idle = self._conns.get(key)
        while idle and _has_ended(idle[0][0]):
            idle.popleft()[0].close()
        return await super()._get(key, traces)

    def _release(self, key: Any, protocol: ResponseHandler, *, should_close: bool = False) -> None:
        is_full = self._most_idle is not None and sum(map(len, self._conns.values())) >= self._most_idle
        super()._release(key, protocol, should_close=should_close or is_full)

    async def _create_connection(self, req: aiohttp.ClientRequest, traces: Any, timeout: Any) -> ResponseHandler:
        trace, connect_s = _connecting.get()
        if trace is not None:
            await trace("connection.connect_tcp.started", {"host": req.url.raw_host, "port": req.port})
        try:
            # aiohttp's own bounds neither the look-up nor all addresses of a name together, and counts our stalls.
            async with asyncio.timeout(None) if connect_s is None else eventloop.timeout(connect_s):
                protocol = await super()._create_connection(req, traces, timeout)
        except TimeoutError:
            raise httpx.ConnectTimeout("the connection was not made in time") from None
        try:
            if trace is not None:
                await trace("http11.send_request_headers.started", {})
        except BaseException:
            protocol.close()
            raise
        return protocol


class _RequestBody(aiohttp.Payload):
    """Bytes of a request, written as fast as the server reads them.

    Args:
        content: the whole body.
        write_s: longest time to write it, seconds; None for no limit.
    """

    _autoclose = True

    def __init__(self, content: bytes, write_s: float | None) -> None:
        super().__init__(content)
        self._size = len(content)
        self._write_s = write_s

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return str(self._value.decode(encoding, errors))

    async def write(self, writer: AbstractStreamWriter) -> None:
        view = memoryview(self._value)
        try:
            async with asyncio.timeout(self._write_s):
                # A server may answer, and close, before it has read all: the answer counts.
                with suppress(ConnectionError):
                    for start in range(0, len(view), WRITE_BYTES):
                        await writer.write(view[start : start + WRITE_BYTES])
                    await writer.drain()
        except TimeoutError:
            raise httpx.WriteTimeout("the request was not read in time") from None

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        await self.write(writer)


class _OpenBody(httpx.AsyncByteStream):
    """Body of a response as it arrives, still encoded.

    Args:
        response: whose head was read.
        places: to release with the response, if connections are limited.
        streams: where it is listed until it is closed.
    """

    def __init__(
        self, response: aiohttp.ClientResponse, places: asyncio.Semaphore | None, streams: set[_OpenBody]
    ) -> None:
        self._response = response
        self._places = places
        self._streams = streams
        self._error: Exception | None = None
        streams.add(self)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            if self._error is not None:
                raise self._error
            data = await self._response.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            # What came before the connection was cut is part of the answer.
            if self._error is None and (rest := self._response.content._read_nowait(-1)):
                self._error = error
                return rest
            raise _mapped(error) from error
        if not data:
            raise StopAsyncIteration
        return data

    async def aclose(self) -> None:
        """Close the connection, unless the body was read to its end."""
        if self in self._streams:
            self._streams.discard(self)
            self._response.close()
            if self._places is not None:
                self._places.release()


def _headers(headers: httpx.Headers) -> list[tuple[str, str]]:
    """Return a request's headers without chunk framing.

    aiohttp adds that itself.
    """
    # aiohttp loses the first of two that are one but for their letters' case.
    spelt: dict[bytes, bytes] = {}
    return [
        (spelt.setdefault(name.lower(), name).decode("ascii"), value.decode())
        for name, value in headers.raw
        if name.lower() != b"transfer-encoding"
    ]


async def _parts(request: httpx.Request) -> AsyncIterator[bytes]:
    """Yield the body of a request whose length is not known."""
    if not isinstance(request.stream, httpx.AsyncByteStream):
        raise RuntimeError("an asynchronous client sends no body of a synchronous iterator")
    async for part in request.stream:
        yield part


async def _acquire(places: asyncio.Semaphore, seconds: float | None) -> None:
    try:
        async with asyncio.timeout(seconds):
            await places.acquire()
    except TimeoutError:
        raise httpx.PoolTimeout("no connection of the pool was free in time") from None


def _mapped(error: Exception) -> httpx.TransportError:
    """Return httpx's error for one of aiohttp's."""
    if isinstance(error.__cause__, httpx.TransportError):  # of the body, which aiohttp writes in a task of its own
        return error.__cause__
    kind = next(ours for theirs, ours in _ERRORS if isinstance(error, theirs))
    return kind(str(error) or type(error).__name__)


def _has_ended(protocol: ResponseHandler) -> bool:
    """Return True if an idle connection has something to read: its end."""
    transport = protocol.transport
    if transport is None or transport.is_closing():
        return True
    number = transport.get_extra_info("socket").fileno()
    if not hasattr(select, "poll"):  # Windows
        return bool(select.select([number], [], [], 0)[0])
    poller = select.poll()  # takes numbers above 1,023 too
    poller.register(number, select.POLLIN)
    return bool(poller.poll(0))
