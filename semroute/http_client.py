"""HTTP as a client: connections by way of the environment's proxies, and bodies read within bounds.

``httpx`` unpacks whatever ``content-encoding`` names, layer upon layer and without a bound: 8 kB that were packed twice
become 8 GB, on the event loop. Here one layer is unpacked, in slices between which the loop gets its turn, and both the
bytes on the wire and those that come out are counted.
"""

from __future__ import annotations

import asyncio
import os
import zlib
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any, cast

import httpx

from semroute.errors import ConfigError

ACCEPTED = "gzip"
"""What requests say that they take."""

ENCODINGS = ("gzip", "x-gzip", "deflate")
"""What is understood, where a server uses another than it was asked for; ``identity`` besides.

Source: https://www.rfc-editor.org/rfc/rfc9110#name-content-encoding
"""

SLICE = 2**18
"""Bytes that are unpacked at once: under a millisecond."""


PROXIES = ("http_proxy", "https_proxy", "all_proxy")
"""Variables that name a proxy, in lower case or upper; the lower case counts where both are set."""


def open_client(**options: Any) -> httpx.AsyncClient:
    """Return a client that follows no redirect and goes by the proxies and certificates that the environment names.

    Args:
        options: further ones of :class:`httpx.AsyncClient`.

    Raises:
        ConfigError: a variable cannot be used; the message names it, and not what it holds.
    """
    try:
        client = httpx.AsyncClient(follow_redirects=False, **options)
    except (httpx.InvalidURL, ValueError, ImportError, OSError) as error:
        raise ConfigError(_environment_fault(error)) from None
    for name, url in _proxies():
        # httpx finds out at the first call, and lets the interpreter's own error through.
        if not 0 <= (httpx.URL(url).port or 0) < 2**16:
            raise ConfigError(f"{name} names a port above 65535: correct it, or unset it")
    return client


def _proxies() -> Iterator[tuple[str, str]]:
    """Yield the variables that name a proxy, each with the address that it stands for."""
    for name in (spelt for proxy in PROXIES for spelt in (proxy, proxy.upper())):
        if value := os.environ.get(name, ""):
            yield name, value if "://" in value else f"http://{value}"


def _environment_fault(error: Exception) -> str:
    """Say which variable keeps a client from being made."""
    for name, url in _proxies():
        try:
            httpx.AsyncClient(proxy=url, trust_env=False)
        except ImportError:
            return (
                f'{name} names a SOCKS proxy, which needs one more package: pip install "httpx[socks]", or unset {name}'
            )
        except (httpx.InvalidURL, ValueError):
            return f"{name} is not the address of a proxy (http://host:port): correct it, or unset it"
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"):
        if isinstance(error, OSError) and os.environ.get(name):
            return f"{name} names something that cannot be used ({type(error).__name__}): correct it, or unset it"
    for name in ("no_proxy", "NO_PROXY"):
        if os.environ.get(name):
            return f"{name} holds something that is neither a host nor an address: correct it, or unset it"
    return f"no HTTP client can be made: {type(error).__name__}"


class BodyError(ValueError):
    """A body that cannot be read; the message goes on after the server's name."""


class BodyTooLongError(BodyError):
    """A body of more bytes than were allowed."""


class BodyEncodingError(BodyError):
    """A body in an encoding that is not understood, in several, or not in the one that is named."""


class BodyCutError(BodyError):
    """A packed body that ended before its end."""


async def read_body(response: httpx.Response, most: int) -> bytes:
    """Return the whole body, unpacked, if it has no more than ``most`` bytes.

    Raises:
        BodyError: it is too long, or packed in a way that is not understood.
        httpx.RequestError: the connection failed.
    """
    content = bytearray()
    async with aclosing(body_pieces(response, most)) as pieces:
        async for piece in pieces:
            content += piece
    return bytes(content)


async def body_pieces(response: httpx.Response, most: int) -> AsyncGenerator[bytes]:
    """Yield the body, unpacked, in pieces of at most :data:`SLICE` bytes or as they arrive.

    Raises:
        BodyError, httpx.RequestError: as :func:`read_body`.
    """
    encoding = _encoding(response)
    inflater = None if encoding is None else _Inflater(encoding)
    # What is packed is counted too: gzip members without content would come for ever.
    received = given = 0
    async with aclosing(cast("AsyncGenerator[bytes]", response.aiter_raw())) as arriving:
        async for raw in arriving:
            received += len(raw)
            if received > most:
                raise _too_long(most)
            for piece in (raw,) if inflater is None else inflater.feed(raw):
                given += len(piece)
                if given > most:
                    raise _too_long(most)
                yield piece
                if inflater is not None:
                    await asyncio.sleep(0)
    if inflater is not None and not inflater.is_complete:
        raise BodyCutError("broke its answer off: the packed body has no end")


class _Inflater:
    """Unpacks gzip, of any number of members, or deflate, with zlib's header or without."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._has_begun = False
        self._stream = self._new(is_raw=False)

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing; nothing at all is an empty body."""
        return self._stream.eof or not self._has_begun

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._stream.eof:
                if self._encoding == "deflate":
                    return  # what follows is not part of the body
                self._stream = self._new(is_raw=False)
            piece, self._has_begun = self._unpack(data), True
            if piece:
                yield piece
            # Output that did not fit into a slice comes first; then another member.
            data = self._stream.unconsumed_tail or (self._stream.unused_data if self._stream.eof else b"")

    def _unpack(self, data: bytes) -> bytes:
        try:
            return self._stream.decompress(data, SLICE)
        except zlib.error:
            if self._has_begun or self._encoding != "deflate":
                raise BodyEncodingError(f"answered with a body that is not in {self._encoding}, as it says") from None
        # Many servers leave out the header that the standard asks for.
        self._stream = self._new(is_raw=True)
        try:
            return self._stream.decompress(data, SLICE)
        except zlib.error:
            raise BodyEncodingError("answered with a body that is not in deflate, as it says") from None

    def _new(self, *, is_raw: bool) -> zlib._Decompress:
        if self._encoding == "deflate":
            return zlib.decompressobj(-zlib.MAX_WBITS if is_raw else zlib.MAX_WBITS)
        return zlib.decompressobj(zlib.MAX_WBITS | 16)


def _encoding(response: httpx.Response) -> str | None:
    """Return the one encoding of a body; None where it comes as it is."""
    named = [name.strip().lower() for name in response.headers.get_list("content-encoding", split_commas=True)]
    found = [name for name in named if name and name != "identity"]
    if not found:
        return None
    if len(found) > 1:
        raise BodyEncodingError(f"packed its answer {len(found)} times; at most one content-encoding is read")
    if found[0] not in ENCODINGS:
        shown = "".join(letter for letter in found[0][:20] if letter.isalnum() or letter in "-_")
        raise BodyEncodingError(f"answered in the content-encoding {shown}, which it was not asked for")
    return found[0]


def _too_long(most: int) -> BodyTooLongError:
    shown = f"{most // 2**20} MiB" if most >= 2**20 else f"{most} bytes"
    return BodyTooLongError(f"answered with more than {shown}; the rest was not read")
