"""Server-sent events out of bytes that arrive in any pieces.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation. ``id`` and ``retry``
are for clients that connect again, which no provider supports; they are skipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

MAX_EVENT = 16 * 2**20
"""Bytes of one event, and so of one line; a picture inside an answer fits."""

_LINE_END = re.compile(rb"\r\n|\r|\n")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event; ``event`` is its type, None where the server names none."""

    event: str | None
    data: str


class EventTooLongError(ValueError):
    """An event longer than the parser takes."""


class Parser:
    """Turns bytes into events; the same events however the bytes are cut.

    An event counts once its empty line has come: what is left when the bytes end is dropped, as the standard asks.

    Args:
        most: bytes of one event.
    """

    def __init__(self, most: int = MAX_EVENT) -> None:
        self._most = most
        self._pieces: list[bytes] = []  # of the line that has not ended yet
        self._piece_bytes = 0
        self._after_cr = False  # the next byte may be the LF of a CRLF that was cut in two
        self._is_first = True
        self._type: str | None = None
        self._data: list[str] = []
        self._data_bytes = 0

    def feed(self, chunk: bytes) -> Iterator[ServerSentEvent]:
        """The events that end in ``chunk``; has to be iterated to its end.

        Raises:
            EventTooLongError: an event is longer than the parser takes.
        """
        for line in self._lines(chunk):
            if line:
                self._field(line)
                continue
            if self._data:
                yield ServerSentEvent(self._type, "\n".join(self._data))
            self._type, self._data, self._data_bytes = None, [], 0

    def _lines(self, chunk: bytes) -> Iterator[bytes]:
        if self._after_cr and chunk.startswith(b"\n"):
            chunk, self._after_cr = chunk[1:], False
        if not chunk:
            return
        self._after_cr = chunk.endswith(b"\r")
        *ended, rest = _LINE_END.split(chunk)
        for piece in ended:
            self._keep(piece)
            line = b"".join(self._pieces)
            self._pieces, self._piece_bytes = [], 0
            if self._is_first:
                line, self._is_first = line.removeprefix(_BYTE_ORDER_MARK), False
            yield line
        if rest:
            self._keep(rest)

    def _keep(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._piece_bytes += len(piece)
        if self._piece_bytes + self._data_bytes > self._most:
            raise EventTooLongError(f"an event of more than {self._most} bytes")

    def _field(self, line: bytes) -> None:
        # Line ends are ASCII, so a line never cuts a character of UTF-8 in two.
        name, _, value = line.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
            self._data_bytes += len(line)
        elif name == "event":
            self._type = value or None
