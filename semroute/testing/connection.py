"""One connection: requests in order, each answered by a handler that is cancelled when the client leaves."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeAlias, cast

from semroute.testing.http11 import BadRequestError, HttpRequest, RequestParser, head

Handler: TypeAlias = "Callable[[HttpRequest, Connection], Awaitable[None]]"


class Connection(asyncio.Protocol):
    """The server's end of a connection.

    A protocol rather than a pair of streams, because it hears at once that the client left.

    Args:
        handle: answers a request.
        everyone: the server's open connections, kept up to date.
        ending: set when the server ends; a connection that is only made then is ended at once.

    Attributes:
        gone: whether the client left.
    """

    def __init__(self, handle: Handler, everyone: set[Connection], ending: asyncio.Event) -> None:
        self.gone = False
        self._handle = handle
        self._everyone = everyone
        self._ending = ending
        self._parser = RequestParser()
        self._waiting: deque[HttpRequest] = deque()
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._everyone.add(self)
        if self._ending.is_set():  # accepted before the server ended the connections that it knew of
            self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self.gone = True
        self._everyone.discard(self)
        self._writable.set()
        self.cancel()

    def eof_received(self) -> bool:
        """A client that says it sends no more has left: nobody half-closes a connection that it waits on."""
        return False

    def data_received(self, data: bytes) -> None:
        try:
            self._waiting.extend(self._parser.feed(data))
        except BadRequestError as error:
            self._give_up(400, str(error))
            return
        if self._parser.expects_continue():
            self.write(head(100, {}))
        if self._waiting and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._serve())

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # What a handler and the server call.

    def write(self, data: bytes) -> None:
        """Send bytes, or keep them until they can be sent."""
        self._transport.write(data)

    async def drain(self) -> None:
        """Wait while too many bytes are kept."""
        if not self._writable.is_set():
            await self._writable.wait()

    def reset(self) -> None:
        """End the connection with RST: close() with a linger time of 0."""
        owner = self._transport.get_extra_info("socket")
        owner.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def close(self) -> None:
        """End the connection when everything is sent."""
        self._transport.close()

    def abort(self) -> None:
        """End the connection now, and the answer with it."""
        self.cancel()
        self._transport.abort()

    def cancel(self) -> None:
        """End the answer that is under way."""
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()

    @property
    def task(self) -> asyncio.Task[None] | None:
        """The answer that is under way."""
        return self._task

    async def _serve(self) -> None:
        try:
            while self._waiting and not self._transport.is_closing():
                request = self._waiting.popleft()
                await self._handle(request, self)
                if not request.keep_alive:
                    self.close()
        except Exception as error:  # a bug here or in a user's reply function; the client must not wait for ever
            said = f"{type(error).__name__}: {error}"
            asyncio.get_running_loop().call_exception_handler({"message": said, "exception": error})
            self._give_up(500, said)
        finally:
            self._task = None

    def _give_up(self, status: int, message: str) -> None:
        content = message.encode("utf-8", "replace")
        headers = {"content-type": "text/plain", "content-length": str(len(content)), "connection": "close"}
        self.write(head(status, headers) + content)
        self.close()
