"""HTTP client: proxies of the environment, response bodies within bounds.

``httpx`` unpacks every ``content-encoding`` that is named, layer upon layer and without a bound: 8 kB that were packed
twice become 8 GB, on the event loop. Here one layer is unpacked, in slices between which the loop runs, and both
compressed and decompressed bytes are counted.
"""

from __future__ import annotations

import asyncio
import os
import urllib.request
import zlib
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from typing import Any, cast

import httpx

from semroute.errors import ConfigError

ACCEPTED = "gzip"
"""``accept-encoding`` that requests send."""

ENCODINGS = ("gzip", "x-gzip", "deflate")
"""Encodings that are read even where a server uses one that it was not asked for; ``identity`` too.

Source: https://www.rfc-editor.org/rfc/rfc9110#name-content-encoding
"""

SLICE = 2**18
"""Bytes that are unpacked at once: under a millisecond."""


PROXIES = ("http_proxy", "https_proxy", "all_proxy")
"""Variables that name a proxy, in lower case or upper; the lower case counts where both are set."""


def open_client(
    make_transport: Callable[[], httpx.AsyncBaseTransport] | None = None,
    kind: type[httpx.AsyncClient] = httpx.AsyncClient,
    **options: Any,
) -> httpx.AsyncClient:
    """Return a client that uses the environment's proxies and certificates.

    It follows no redirect.

    Args:
        make_transport: opens the transport, which reads no proxies (:func:`has_proxies`); None for httpx's own.
        kind: class of the client.
        options: further ones of :class:`httpx.AsyncClient`.

    Raises:
        ConfigError: a variable cannot be used; the message names it without its value.
    """
    try:
        if make_transport is not None:
            options["transport"] = make_transport()
        client = kind(follow_redirects=False, **options)
    except (httpx.InvalidURL, ValueError, ImportError, OSError) as error:
        raise ConfigError(_environment_fault(error)) from None
    for name, url in _proxies():
        # httpx finds out at the first call, and lets the interpreter's own error through.
        if not 0 <= (httpx.URL(url).port or 0) < 2**16:
            raise ConfigError(f"{name} names a port above 65535: correct it, or unset it")
    return client


def has_proxies() -> bool:
    """Return True if the environment or the system names a proxy."""
    return bool(urllib.request.getproxies().keys() & {"http", "https", "all"})


def _proxies() -> Iterator[tuple[str, str]]:
    """Yield each proxy variable that is set, with its address."""
    for name in (variable for proxy in PROXIES for variable in (proxy, proxy.upper())):
        if value := os.environ.get(name, ""):
            yield name, value if "://" in value else f"http://{value}"


def _environment_fault(error: Exception) -> str:
    """Return a message that names the faulty variable and the remedy."""
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
    """Unreadable body; the message continues after the server's name."""


class BodyTooLongError(BodyError):
    """Body of more bytes than allowed."""


class BodyEncodingError(BodyError):
    """Body with an unknown, repeated or wrongly declared encoding."""


class BodyCutError(BodyError):
    """Compressed body that was cut off."""


async def read_body(response: httpx.Response, max_bytes: int) -> bytes:
    """Return the whole decompressed body, of at most ``max_bytes`` bytes.

    Raises:
        BodyError: it is too long, or packed in a way that is not understood.
        httpx.RequestError: the connection failed.
    """
    content = bytearray()
    if response.is_stream_consumed or _encoding(response) is not None:
        async with aclosing(body_pieces(response, max_bytes)) as chunks:
            async for chunk in chunks:
                content += chunk
        return bytes(content)
    # Most bodies: without the layers of generators, which take most of the time of a short one.
    async for chunk in cast("httpx.AsyncByteStream", response.stream):
        content += chunk
        if len(content) > max_bytes:
            raise _too_long(max_bytes)
    return bytes(content)


async def body_pieces(response: httpx.Response, max_bytes: int) -> AsyncGenerator[bytes]:
    """Yield the decompressed body in pieces.

    A piece has at most :data:`SLICE` bytes, or is what arrived.

    Raises:
        BodyError, httpx.RequestError: as :func:`read_body`.
    """
    if response.is_stream_consumed:  # a transport that was handed in, such as httpx.MockTransport, has read it
        if len(response.content) > max_bytes:
            raise _too_long(max_bytes)
        yield response.content
        return
    encoding = _encoding(response)
    inflater = None if encoding is None else _Inflater(encoding)
    # Compressed bytes are counted too: gzip members without content could arrive for ever.
    received = decoded = 0
    async with aclosing(cast("AsyncGenerator[bytes]", response.aiter_raw())) as raw_chunks:
        async for raw in raw_chunks:
            received += len(raw)
            if received > max_bytes:
                raise _too_long(max_bytes)
            for chunk in (raw,) if inflater is None else inflater.feed(raw):
                decoded += len(chunk)
                if decoded > max_bytes:
                    raise _too_long(max_bytes)
                yield chunk
                if inflater is not None:
                    await asyncio.sleep(0)
    if inflater is not None and not inflater.is_complete:
        raise BodyCutError("broke its answer off: the packed body has no end")


class _Inflater:
    """Streaming decompressor of gzip and deflate.

    Gzip may have any number of members; deflate comes with or without zlib's header.
    """

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._has_begun = False
        self._stream = self._new(is_raw=False)

    @property
    def is_complete(self) -> bool:
        """True if no data is missing; an empty body is complete."""
        return self._stream.eof or not self._has_begun

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._stream.eof:
                if self._encoding == "deflate":
                    return  # what follows is not part of the body
                self._stream = self._new(is_raw=False)
            chunk, self._has_begun = self._unpack(data), True
            if chunk:
                yield chunk
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
    """Return the one encoding of a body; None for an unencoded one."""
    names = [name.strip().lower() for name in response.headers.get_list("content-encoding", split_commas=True)]
    encodings = [name for name in names if name and name != "identity"]
    if not encodings:
        return None
    if len(encodings) > 1:
        raise BodyEncodingError(f"packed its answer {len(encodings)} times; at most one content-encoding is read")
    if encodings[0] not in ENCODINGS:
        shown = "".join(letter for letter in encodings[0][:20] if letter.isalnum() or letter in "-_")
        raise BodyEncodingError(f"answered in the content-encoding {shown}, which it was not asked for")
    return encodings[0]


def _too_long(max_bytes: int) -> BodyTooLongError:
    shown = f"{max_bytes // 2**20} MiB" if max_bytes >= 2**20 else f"{max_bytes} bytes"
    return BodyTooLongError(f"answered with more than {shown}; the rest was not read")
