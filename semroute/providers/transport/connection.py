"""One request and the head and body of its answer, with httpx's errors turned into ours."""

from __future__ import annotations

import codecs
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx

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
from semroute.http_client import ACCEPTED, BodyCutError, BodyError, read_body
from semroute.providers.target import CallTarget
from semroute.providers.transport.failures import failure
from semroute.providers.transport.limits import CallClock
from semroute.providers.transport.reports import quote
from semroute.providers.transport.wire import encode, read_json

MAX_ANSWER = 64 * 2**20
"""Bytes of an answer that comes whole."""

MAX_ERROR = 2**20
"""Bytes of an answer that is not a success."""

MAX_TEXT = 2**16
"""Bytes that are looked at of an answer that is no JSON."""

_CHARSETS = ("utf", "iso8859", "latin", "ascii", "cp", "gb", "big5", "shift_jis", "euc", "koi8")


def authorization(target: CallTarget) -> dict[str, str]:
    """The header that carries the key, as the vendor's row says; empty without a key.

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
    """The POST, not yet sent.

    Raises:
        RequestError: the body is no JSON, or the address no address.
    """
    deployment = target.deployment
    try:
        return client.build_request(
            "POST",
            f"{deployment.base_url.rstrip('/')}{path}",
            content=encode(body, target),
            headers={"content-type": "application/json", "accept-encoding": ACCEPTED, **headers},
            params=query,
            timeout=httpx.Timeout(None, connect=deployment.timeouts.connect_s),
            extensions={"trace": _Connecting(deployment.timeouts.connect_s, clock)},
        )
    except httpx.InvalidURL:
        message = f"{deployment.name}: {deployment.base_url} is not an address; correct base_url"
        raise RequestError(message, deployment=deployment.name, fault=Fault.ADDRESS) from None


class _Connecting:
    """Looks a host up before a connection to it is made: httpcore's trace extension, which is awaited before each step.

    Source: https://www.encode.io/httpcore/extensions/#trace. Without it a look-up that hangs takes a thread of
    asyncio's default executor from every other host.

    Args:
        connect_s: longest look-up, seconds.
        clock: is told whether a connection is being made: a call that is left then costs nothing.
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
    """The head of an answer that is a success; any other is read and raised as the error that it is."""
    deployment = target.deployment
    try:
        response = await client.send(request, stream=True, follow_redirects=False)
    except httpx.ConnectTimeout:
        reason = f"no connection within {deployment.timeouts.connect_s:g} s (timeouts.connect_s)"
        raise _unreachable(target, reason, is_charged=False) from None
    except (UnicodeError, OverflowError):  # what sockets make of such names and ports
        reason = "base_url, or the address of a proxy, has a host or a port that there cannot be"
        raise _unreachable(target, reason, is_charged=False) from None
    except httpx.RequestError as error:
        # The cause is left out: a transport's own message may repeat a header.
        reason = quote(str(error) or type(error).__name__, target.key)
        raise _unreachable(target, reason, is_charged=not isinstance(error, httpx.ConnectError)) from None
    if response.is_success:
        return response
    try:
        content = await read_content(response, target, MAX_ERROR)
    except DispatchError:  # cut off, or too long: the status says enough
        content = b""
    url = str(request.url.copy_with(query=None))
    raise failure(response.status_code, json_or_text(response, content), response.headers, target, url=url)


def _unreachable(target: CallTarget, reason: str, *, is_charged: bool) -> UnavailableError:
    deployment = target.deployment
    message = f"{deployment.name}: {deployment.base_url} could not be reached: {reason}"
    return UnavailableError(message, deployment=deployment.name, is_charged=is_charged)


async def read_content(response: httpx.Response, target: CallTarget, most: int = MAX_ANSWER) -> bytes:
    """The whole body, if it has no more than ``most`` bytes; the response is closed after it."""
    name, status = target.deployment.name, response.status_code
    try:
        return await read_body(response, most)
    except BodyCutError as error:
        raise UnavailableError(f"{name} {error}", deployment=name, status=status) from None
    except BodyError as error:
        raise MalformedResponseError(f"{name} {error}", deployment=name, status=status) from None
    except httpx.RequestError as error:
        reason = quote(str(error) or type(error).__name__, target.key)
        message = f"{name} broke its answer off: {reason}"
        raise UnavailableError(message, deployment=name, status=status) from None
    finally:
        await response.aclose()


async def next_piece(pieces: AsyncIterator[bytes], target: CallTarget) -> bytes | None:
    """The next bytes of a stream; None at its end."""
    name = target.deployment.name
    try:
        return await anext(pieces, None)
    except BodyCutError as error:
        raise BrokenStreamError(f"{name} {error}", deployment=name, status=200) from None
    except BodyError as error:
        raise MalformedResponseError(f"{name} {error}", deployment=name, status=200) from None
    except httpx.RequestError as error:
        reason = quote(str(error) or type(error).__name__, target.key)
        message = f"{name} broke its stream off: {reason}"
        raise BrokenStreamError(message, deployment=name, status=200) from None


def json_or_text(response: httpx.Response, content: bytes) -> object:
    """The body as JSON says it, or as text where it is not JSON."""
    try:
        return read_json(content)
    except ValueError:
        return decoded(response, content)


def decoded(response: httpx.Response, content: bytes) -> str:
    """Return the beginning of the body as text, whatever it holds."""
    try:
        name = codecs.lookup(response.charset_encoding or "utf-8").name
    except (LookupError, ValueError):  # a charset that Python does not know
        name = "utf-8"
    # Some of Python's codecs are no charsets, and take time with the square of the length (punycode, idna).
    is_charset = name.startswith(_CHARSETS) and name != "utf-7"
    return content[:MAX_TEXT].decode(name if is_charset else "utf-8", "replace")


def too_long(target: CallTarget, most: int) -> MalformedResponseError:
    """The error for an answer of more than ``most`` bytes."""
    message = f"{target.deployment.name} answered with more than {most // 2**20} MiB; the rest was not read"
    return MalformedResponseError(message, deployment=target.deployment.name, status=200)
