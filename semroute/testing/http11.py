"""HTTP/1.1 (RFC 9112) as far as a test server needs it: requests out of bytes, and the framing of answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, unquote

_LONGEST_HEAD = 64 * 1024
_LONGEST_BODY = 64 * 1024 * 1024
LAST_CHUNK = b"0\r\n\r\n"


class BadRequestError(Exception):
    """Bytes that are no HTTP/1.1 request; the connection cannot go on."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request. ``target`` is path and query as sent; header names are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    content: bytes
    keep_alive: bool

    @property
    def path(self) -> str:
        """The path without the query, decoded."""
        return unquote(self.target.partition("?")[0])

    @property
    def query(self) -> dict[str, str]:
        """Parameters of the query; of one that is repeated, the last value."""
        return {name: values[-1] for name, values in parse_qs(self.target.partition("?")[2]).items()}

    def json(self) -> Any:
        """The body's JSON; None where it is not JSON."""
        try:
            return json.loads(self.content)
        except (ValueError, RecursionError):
            return None


class RequestParser:
    """Takes bytes as they arrive, split anywhere, and gives the requests that are complete."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._head: tuple[str, str, dict[str, str], bool] | None = None
        self._expects = False

    def feed(self, data: bytes) -> list[HttpRequest]:
        """Add bytes.

        Raises:
            BadRequestError: they are no request of HTTP/1.1.
        """
        self._buffer += data
        complete = []
        while (request := self._next()) is not None:
            complete.append(request)
        return complete

    def expects_continue(self) -> bool:
        """Whether the client waits for ``100 Continue`` before it sends the body; true once per request."""
        expects, self._expects = self._expects, False
        return expects

    def _next(self) -> HttpRequest | None:
        if self._head is None:
            self._head = self._take_head()
        if self._head is None:
            return None
        method, target, headers, keep_alive = self._head
        if "chunked" in headers.get("transfer-encoding", "").lower():
            content = self._take_chunks()
        else:
            content = self._take_length(headers.get("content-length", "0"))
        if content is None:
            return None
        self._head, self._expects = None, False
        return HttpRequest(method, target, headers, content, keep_alive)

    def _take_head(self) -> tuple[str, str, dict[str, str], bool] | None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > _LONGEST_HEAD:
                raise BadRequestError("the head is too long")
            return None
        first, *lines = self._buffer[:end].decode("latin-1").lstrip("\r\n").split("\r\n")
        del self._buffer[: end + 4]
        method, _, rest = first.partition(" ")
        target, _, version = rest.partition(" ")
        if not target.startswith("/") or not version.startswith("HTTP/1."):
            raise BadRequestError("the first line is not that of an HTTP/1.1 request")
        headers = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon:
                raise BadRequestError("a header has no colon")
            headers[name.lower()] = value.strip()
        connection = headers.get("connection", "").lower()
        self._expects = headers.get("expect", "").lower() == "100-continue"
        return method, target, headers, connection != "close" if version != "HTTP/1.0" else connection == "keep-alive"

    def _take_length(self, text: str) -> bytes | None:
        if not text.isascii() or not text.isdigit() or int(text) > _LONGEST_BODY:
            raise BadRequestError("content-length is not a number, or too large")
        if len(self._buffer) < int(text):
            return None
        return self._take(int(text))

    def _take_chunks(self) -> bytes | None:
        """The whole chunked body, or None until its last chunk is here (RFC 9112, section 7.1)."""
        place, content = 0, bytearray()
        while (end := self._buffer.find(b"\r\n", place)) >= 0:
            size_text = bytes(self._buffer[place:end]).partition(b";")[0].strip()
            try:
                size = int(size_text, 16)
            except ValueError:
                raise BadRequestError("the size of a chunk is not a number") from None
            if size == 0:
                return self._take_trailer(end, bytes(content))
            content += self._buffer[end + 2 : end + 2 + size]
            place = end + 2 + size + 2
            if len(content) > _LONGEST_BODY:
                raise BadRequestError("the body is too large")
        return None

    def _take_trailer(self, place: int, content: bytes) -> bytes | None:
        end = self._buffer.find(b"\r\n\r\n", place)
        if end < 0:
            return None
        del self._buffer[: end + 4]
        return content

    def _take(self, length: int) -> bytes:
        taken = bytes(self._buffer[:length])
        del self._buffer[:length]
        return taken


def head(status: int, headers: Mapping[str, str]) -> bytes:
    """Status line and headers of an answer."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:  # such as 529
        phrase = "Unknown"
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body; ``data`` must not be empty, as an empty chunk ends the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)
