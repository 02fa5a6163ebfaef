"""HTTP transport: JSON bodies, POST and response, shared client.

Errors of httpx become :class:`~semroute.errors.DispatchError`.
"""

from __future__ import annotations

import asyncio
import codecs
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, WeakSet

import httpx

from semroute import forks
from semroute.errors import (
    AuthenticationError,
    BrokenStreamError,
    DispatchError,
    Fault,
    MalformedResponseError,
    RequestError,
    UnavailableError,
)
from semroute.eventloop import look_up, timeout
from semroute.http_client import ACCEPTED, BodyCutError, BodyError, has_proxies, open_client, read_body
from semroute.providers.error_codes import quote_reply
from semroute.providers.failures import failure
from semroute.providers.streaming import CallClock
from semroute.providers.target import CallTarget
from semroute.types.tracing import upstream_headers

# JSON encoding and decoding.

T = TypeVar("T")

MAX_VALUES = 2_000_000
"""Most values, approximately, in parsed JSON. Parsing is one step of the interpreter, which no other thread can
interrupt, of 0.1 to 0.3 microseconds per value. An answer with the log probabilities of 100,000 tokens has half as
many."""

MAX_DEPTH = 200
"""Most nesting levels in parsed JSON: far below Python's recursion limit, so that it can be serialised anywhere."""

OFF_LOOP = 2**20
"""Bytes of JSON from which it is parsed in a thread of its own."""

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_SURROGATE_BYTES = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]")


def encode(body: Mapping[str, object], target: CallTarget) -> bytes:
    """Encode ``body`` as UTF-8 JSON, replacing lone surrogates by U+FFFD."""
    try:
        text = json.dumps(body, ensure_ascii=False, allow_nan=False, default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        message = f"{target.deployment.name}: the request cannot be written as JSON: {error}"
        raise RequestError(message, deployment=target.deployment.name) from None
    try:
        return text.encode()
    except UnicodeEncodeError:  # lone surrogates, which are rare; the search for them copies the body twice
        return _without_lone_surrogates(text).encode()


def read_json(text: str | bytes) -> object:
    """Parse JSON, replacing lone surrogates by U+FFFD.

    Raises:
        ValueError: it is not JSON, not UTF-8, or has too many values or levels.
    """
    opened, others = _structure(text)
    if opened + others > MAX_VALUES:
        raise ValueError("JSON of too many values")
    try:
        value: object = json.loads(text)
        if opened > MAX_DEPTH and _is_deeper(value, MAX_DEPTH):
            raise ValueError("JSON that is nested too deeply")
        # Only an escape, or invalid UTF-8, can contain one; for most texts the search for these suffices.
        again = json.dumps(value, ensure_ascii=False) if _has_surrogate(text) else ""
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None
    return value if again.isascii() else json.loads(_without_lone_surrogates(again))


class _BodyReader:
    """Thread that parses large JSON.

    The interpreter's lock lets the event loop run between its steps but not within one; :data:`MAX_VALUES` bounds
    these. It is not the loop's default executor, in which name look-ups may hang.
    """

    def __init__(self) -> None:
        self._lock = forks.lock()
        self._pool: ThreadPoolExecutor | None = None
        forks.in_child(self, _BodyReader._after_fork)

    def pool(self) -> ThreadPoolExecutor:
        """Return the pool of one thread."""
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(1, thread_name_prefix="semroute-json")
            return self._pool

    def _after_fork(self) -> None:
        forks.leave_behind(self._pool)
        self._pool = None


_reader = _BodyReader()


async def off_loop(read: Callable[[], T], size: int) -> T:
    """Run ``read`` of ``size`` bytes of JSON, off the event loop if large."""
    if size < OFF_LOOP:
        return read()
    return await asyncio.get_running_loop().run_in_executor(_reader.pool(), read)


def _has_surrogate(text: str | bytes) -> bool:
    # The search for one byte is a hundred times as fast as the pattern.
    if isinstance(text, bytes):
        return (b"\\u" in text or b"\xed" in text) and _SURROGATE_BYTES.search(text) is not None
    return "\\u" in text and _SURROGATE.search(text) is not None


def _structure(text: str | bytes) -> tuple[int, int]:
    """Count opening brackets and separators, including those within strings."""
    if isinstance(text, bytes):
        return text.count(b"[") + text.count(b"{"), text.count(b",")
    return text.count("[") + text.count("{"), text.count(",")


def _is_deeper(value: object, most: int) -> bool:
    """Return True if values are nested more than ``most`` levels deep."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(most):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def _without_lone_surrogates(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _plain(value: object) -> object:
    """Convert a mapping that is not a dict to one, for the JSON encoder."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON")


MAX_ANSWER = 64 * 2**20
"""Most bytes of an answer that is not streamed."""

MAX_ERROR = 2**20
"""Most bytes of an error response."""

MAX_TEXT = 2**16
"""Most bytes read of a response that is not JSON."""

_CHARSETS = ("utf", "iso8859", "latin", "ascii", "cp", "gb", "big5", "shift_jis", "euc", "koi8")


def authorization(target: CallTarget) -> dict[str, str]:
    """Return the vendor's header with the key; empty without a key.

    Raises:
        AuthenticationError: no header can carry the key.
    """
    key, vendor = target.key, target.deployment.vendor
    if key is None:
        return {}
    if not (key.isascii() and key.isprintable()) or " " in key:
        message = (
            f"{target.deployment.name}: the key in {target.credential or 'use'} holds a character that no key has "
            "(a space, a line break, a letter outside ASCII); set it again"
        )
        raise AuthenticationError(message, deployment=target.deployment.name, is_charged=False, fault=Fault.KEY)
    return {vendor.key_header: f"{vendor.key_prefix}{key}"}


def build(
    client: httpx.AsyncClient,
    target: CallTarget,
    path: str,
    body: Mapping[str, object],
    headers: Mapping[str, str],
    query: Mapping[str, str] | None,
    clock: CallClock | None = None,
) -> httpx.Request:
    """Build the POST request without sending it.

    Raises:
        RequestError: the body is not JSON, or the address is invalid.
    """
    deployment = target.deployment
    try:
        return client.build_request(
            "POST",
            _address(f"{deployment.base_url.rstrip('/')}{path}"),
            content=encode(body, target),
            headers={
                "content-type": "application/json",
                "accept-encoding": ACCEPTED,
                **headers,
                **upstream_headers.get(),
            },
            params=query,
            timeout=_timeout(deployment.timeouts.connect_s),
            extensions={"trace": _Connecting(deployment.timeouts.connect_s, clock)},
        )
    except httpx.InvalidURL:
        message = f"{deployment.name}: {deployment.base_url} is not an address; correct base_url"
        raise RequestError(message, deployment=deployment.name, fault=Fault.ADDRESS) from None


@lru_cache(maxsize=1024)
def _address(text: str) -> httpx.URL:
    """Parse an address once.

    For a small request that took a tenth of the client's time.
    """
    return httpx.URL(text)


@lru_cache(maxsize=1024)
def _timeout(connect_s: float) -> httpx.Timeout:
    """Return the timeouts within httpx: that of the connection alone.

    See :class:`CallClock` for the others.
    """
    return httpx.Timeout(None, connect=connect_s)


class _Connecting:
    """DNS look-up before a connection is made, as trace extension of httpcore.

    httpcore awaits it before each step (https://www.encode.io/httpcore/extensions/#trace). Without it a hanging look-up
    takes a thread of asyncio's default executor from every other host.

    Args:
        connect_s: longest look-up, seconds.
        clock: clock that records whether a connection is being made: a call abandoned then costs nothing.
    """

    def __init__(self, connect_s: float, clock: CallClock | None) -> None:
        self._connect_s = connect_s
        self._clock = clock

    async def __call__(self, step: str, details: Mapping[str, Any]) -> None:
        is_connecting = step == "connection.connect_tcp.started"
        if self._clock is not None and (is_connecting or step.endswith(".send_request_headers.started")):
            self._clock.is_connecting = is_connecting
        if not is_connecting:
            return
        try:
            async with timeout(self._connect_s):
                await look_up(details["host"], details["port"])
        except TimeoutError:
            raise httpx.ConnectTimeout(f"the name {details['host']} was not resolved") from None
        except OSError as error:
            raise httpx.ConnectError(str(error)) from None


async def send(client: httpx.AsyncClient, request: httpx.Request, target: CallTarget) -> httpx.Response:
    """Send a request and return the head of a successful response.

    Any other response is read and raised as a DispatchError.
    """
    deployment = target.deployment
    try:
        response = await client.send(request, stream=True, follow_redirects=False)
    except httpx.ConnectTimeout:
        reason = f"no connection within {deployment.timeouts.connect_s:g} s (timeouts.connect_s)"
        raise _unreachable(target, reason, is_charged=False) from None
    except (UnicodeError, OverflowError):  # raised by sockets for invalid names and ports
        reason = "base_url, or the address of a proxy, has a host or a port that there cannot be"
        raise _unreachable(target, reason, is_charged=False) from None
    except RuntimeError:
        if not client.is_closed:
            raise
        message = f"{deployment.name}: the HTTP client was closed while the call was under way"
        raise UnavailableError(message, deployment=deployment.name, is_charged=False, fault=Fault.TRANSIENT) from None
    except httpx.RequestError as error:
        # The cause is left out: a transport's own message may repeat a header.
        reason = quote_reply(str(error) or type(error).__name__, target.key)
        raise _unreachable(target, reason, is_charged=not isinstance(error, httpx.ConnectError)) from None
    if response.is_success:
        return response
    try:
        content = await read_content(response, target, MAX_ERROR)
    except DispatchError:  # cut off, or too long: the status is enough
        content = b""
    url = str(request.url.copy_with(query=None))
    raise failure(response.status_code, json_or_text(response, content), response.headers, target, url=url)


def _unreachable(target: CallTarget, reason: str, *, is_charged: bool) -> UnavailableError:
    deployment = target.deployment
    message = f"{deployment.name}: {deployment.base_url} could not be reached: {reason}"
    return UnavailableError(message, deployment=deployment.name, is_charged=is_charged)


async def read_content(response: httpx.Response, target: CallTarget, most: int = MAX_ANSWER) -> bytes:
    """Read a body of at most ``most`` bytes and close the response."""
    name, status = target.deployment.name, response.status_code
    try:
        return await read_body(response, most)
    except BodyCutError as error:
        raise UnavailableError(f"{name} {error}", deployment=name, status=status) from None
    except BodyError as error:
        raise MalformedResponseError(f"{name} {error}", deployment=name, status=status) from None
    except httpx.RequestError as error:
        reason = quote_reply(str(error) or type(error).__name__, target.key)
        message = f"{name} broke its answer off: {reason}"
        raise UnavailableError(message, deployment=name, status=status) from None
    finally:
        await response.aclose()


async def next_piece(pieces: AsyncIterator[bytes], target: CallTarget) -> bytes | None:
    """Return the next bytes of a stream; None at its end."""
    name = target.deployment.name
    try:
        return await anext(pieces, None)
    except BodyCutError as error:
        raise BrokenStreamError(f"{name} {error}", deployment=name, status=200) from None
    except BodyError as error:
        raise MalformedResponseError(f"{name} {error}", deployment=name, status=200) from None
    except httpx.RequestError as error:
        reason = quote_reply(str(error) or type(error).__name__, target.key)
        message = f"{name} broke its stream off: {reason}"
        raise BrokenStreamError(message, deployment=name, status=200) from None


def json_or_text(response: httpx.Response, content: bytes) -> object:
    """Return the body as parsed JSON, or as text if it is not JSON."""
    try:
        return read_json(content)
    except ValueError:
        return decoded(response, content)


def decoded(response: httpx.Response, content: bytes) -> str:
    """Return the beginning of the body as text, whatever its content."""
    try:
        name = codecs.lookup(response.charset_encoding or "utf-8").name
    except (LookupError, ValueError):  # a charset that Python does not know
        name = "utf-8"
    # Some of Python's codecs are not charsets and take quadratic time (punycode, idna).
    is_charset = name.startswith(_CHARSETS) and name != "utf-7"
    return content[:MAX_TEXT].decode(name if is_charset else "utf-8", "replace")


def too_long(target: CallTarget, most: int) -> MalformedResponseError:
    """Return the error for an answer of more than ``most`` bytes."""
    message = f"{target.deployment.name} answered with more than {most // 2**20} MiB; the rest was not read"
    return MalformedResponseError(message, deployment=target.deployment.name, status=200)


# One HTTP client per event loop, so that connections are reused and closed.


@dataclass(slots=True)
class _OpenClient:
    """Client of one loop, the generator that closes it, and who uses it.

    ``is_kept``: someone uses it who will not release it, so that it stays open until its loop ends.
    """

    lifetime: AsyncGenerator[httpx.AsyncClient]
    client: httpx.AsyncClient
    users: WeakSet[object] = field(default_factory=WeakSet)
    is_kept: bool = False


class ClientPool:
    """HTTP clients, one for each event loop, which close with their loop.

    Args:
        make: opens a client; called once for each loop.
    """

    def __init__(self, make: Callable[[], httpx.AsyncClient]) -> None:
        self._make = make
        self._open: WeakKeyDictionary[asyncio.AbstractEventLoop, _OpenClient] = WeakKeyDictionary()

    async def client(self, user: object = None) -> httpx.AsyncClient:
        """Return the running loop's client, opened on first use.

        Args:
            user: who will :meth:`release` it; None keeps it open until the loop ends.

        Raises:
            ConfigError: a proxy or certificate that the environment names cannot be used.
        """
        loop = asyncio.get_running_loop()
        held = self._open.get(loop)
        if held is None:
            lifetime = self._lifetime()
            held = self._open[loop] = _OpenClient(lifetime, await anext(lifetime))
        if user is None:
            held.is_kept = True
        elif user not in held.users:
            held.users.add(user)
        return held.client

    async def release(self, user: object) -> None:
        """End the use of the running loop's client; its last user closes it."""
        held = self._open.get(asyncio.get_running_loop())
        if held is not None and user in held.users:
            held.users.discard(user)
            if not held.users and not held.is_kept:
                await held.lifetime.aclose()

    async def close(self) -> None:
        """Close the running loop's client; the next call opens another."""
        held = self._open.get(asyncio.get_running_loop())
        if held is not None:
            await held.lifetime.aclose()

    async def _lifetime(self) -> AsyncGenerator[httpx.AsyncClient]:
        """Yield the client, and close it with the loop.

        An ending loop finishes its generators (``shutdown_asyncgens``).
        """
        client = self._make()
        try:
            yield client
        finally:
            self._open.pop(asyncio.get_running_loop(), None)
            await client.aclose()


def _shared() -> httpx.AsyncClient:
    """Open a client over aiohttp where it is installed and no proxy is named.

    Concurrency is limited by admission control; httpx would admit 100 calls and queue the others.
    """
    if not has_proxies():
        with suppress(ImportError):
            from semroute.providers.transport import AiohttpTransport, LeanClient

            return open_client(partial(AiohttpTransport, limits=httpx.Limits(max_connections=None)), LeanClient)
    # Few idle connections are kept: for every call httpcore's pool compares each pair of connections while many are
    # idle (500 concurrent calls: 12 s of processor time with 1,000 kept, 3 s with 20).
    return open_client(limits=httpx.Limits(max_connections=None, max_keepalive_connections=20))


SHARED = ClientPool(_shared)
"""Clients of all calls for which the program hands in no client of its own."""


async def shared_client() -> httpx.AsyncClient:
    """Return the running loop's HTTP client, made on first use.

    ``asyncio.run`` closes it with the loop; :func:`close` does so earlier.

    Raises:
        ConfigError: a proxy or certificate that the environment names cannot be used.
    """
    return await SHARED.client()


async def close() -> None:
    """Close the running loop's client; the next call opens another."""
    await SHARED.close()
