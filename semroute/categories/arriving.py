"""Lines of a pipe as they arrive, and whether one is there already."""

from __future__ import annotations

import io
import os
import select
from collections import deque
from collections.abc import Iterator
from typing import BinaryIO

from semroute.categories.lines import MOST_BYTES, bounded_lines

BLOCK = 65_536


class ArrivingLines:
    """The lines of a binary stream, each as soon as it is complete.

    Reads the file descriptor itself: what a buffered reader has taken in cannot be seen from outside. A stream without
    a descriptor (bytes in memory) is always ready. Of a line beyond :data:`~semroute.categories.lines.MOST_BYTES` its
    beginning is handed on, to be refused, and nothing is read after it.

    Args:
        stream: nothing may have been read from it yet.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lines: deque[bytes] = deque()
        self._partial: list[bytes] = []
        self._partial_bytes = 0
        self._ended = False
        try:
            self._descriptor: int | None = stream.fileno()
        except (io.UnsupportedOperation, AttributeError):
            self._descriptor = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._descriptor is None:
            return next(bounded_lines(self._stream))
        while not self._lines and not self._ended:
            self._read(self._descriptor)
        if not self._lines:
            raise StopIteration
        return self._lines.popleft()

    def ready(self) -> bool:
        """Whether a line that is not blank, or the end, is there without waiting."""
        if self._descriptor is None:
            return True
        while not self._ended and not any(line.strip() for line in self._lines):
            if not _readable(self._descriptor):
                return False
            self._read(self._descriptor)
        return True

    def _read(self, descriptor: int) -> None:
        block = os.read(descriptor, BLOCK)
        self._ended = not block
        head, *rest = block.split(b"\n")
        self._partial.append(head)
        self._partial_bytes += len(head)
        # Joined once a line is complete, so that a line of a megabyte is not copied at every block.
        for part in rest:
            self._lines.append(b"".join(self._partial) + b"\n")
            self._partial, self._partial_bytes = [part], len(part)
        self._ended |= self._partial_bytes > MOST_BYTES
        if self._ended and (last := b"".join(self._partial)):
            self._lines.append(last)
            self._partial = []


def _readable(descriptor: int) -> bool:
    try:
        return bool(select.select([descriptor], [], [], 0)[0])
    except (OSError, ValueError):  # Windows selects sockets only: there a line waits for nothing but itself.
        return False
