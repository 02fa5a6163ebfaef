"""A server that sends bytes as they are scripted: cut connections, split events, what no honest server sends."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias

CUT = object()
"""Step of a script: break the connection off, without what is not sent yet."""

RESET = object()
"""Step of a script: break the connection off with a reset, as after a crash."""

LISTEN = object()
"""Step of a script: send nothing more until the client has gone."""

ROUNDS = 5
"""Rounds of the event loop after which a connection that was accepted is made, handled and closed, and one more."""

Step: TypeAlias = "bytes | float | object"
"""Bytes to send, seconds to wait, or one of the above."""


@dataclass
class RawServer:
    """What a running server has seen.

    ``left`` is set when a client has gone while the script listened.
    """

    url: str = ""
    bodies: list[Any] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)
    connections: int = 0
    left: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def serve(
    *scripts: list[Step], host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[RawServer]:
    """Play the first script for the first request, and so on; the last one again and again."""
    state = RawServer()

    handlers: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        state.connections += 1
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            is_open = True
            while is_open:
                state.bodies.append(await _request(reader, state))
                script = scripts[min(len(state.bodies), len(scripts)) - 1]
                is_open = await _play(script, reader, writer, state)

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def ended(task: asyncio.Task[None]) -> None:
            handlers.discard(task)
            writer.close()  # not in the task, which on a busy machine may be cancelled before it has begun

        task = asyncio.ensure_future(handle(reader, writer))
        handlers.add(task)
        task.add_done_callback(ended)

    server = await asyncio.start_server(connected, host, 0, ssl=tls)
    shown, scheme = f"[{host}]" if ":" in host else host, "http" if tls is None else "https"
    state.url = f"{scheme}://{shown}:{server.sockets[0].getsockname()[1]}/v1"
    async with server:
        try:
            yield state
        finally:
            # Sockets that were accepted a moment ago get transports and handlers in the next rounds, as a closed server
            # would not give them; transports close in another round.
            for listening in server.sockets:
                asyncio.get_running_loop().remove_reader(listening)
            for _ in range(ROUNDS):
                running = list(handlers)
                for task in running:
                    task.cancel()
                await asyncio.gather(*running, return_exceptions=True)
                await asyncio.sleep(0)


async def _request(reader: asyncio.StreamReader, state: RawServer) -> Any:
    state.heads.append(await reader.readuntil(b"\r\n\r\n"))
    head = state.heads[-1].lower()
    length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return json.loads(await reader.readexactly(length))


async def _play(
    script: list[Step], reader: asyncio.StreamReader, writer: asyncio.StreamWriter, state: RawServer
) -> bool:
    """Whether the connection may serve another request: only after a script that frames its answer."""
    for step in script:
        if isinstance(step, bytes):
            writer.write(step)
            await writer.drain()
        elif isinstance(step, float):
            await asyncio.sleep(step)
        elif step in (CUT, RESET):
            if step is RESET:
                peer = writer.get_extra_info("socket")
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return False
        elif step is LISTEN:
            with suppress(ConnectionError):
                await reader.read()
            state.left.set()
            return False
    return isinstance(script[-1], bytes) and script[-1].endswith(b"0\r\n\r\n")


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
STREAM_END = b"0\r\n\r\n"


@dataclass(frozen=True)
class Raw:
    """What tests need of this file."""

    serve: Callable[..., Any] = serve
    cut: object = CUT
    reset: object = RESET
    listen: object = LISTEN

    @staticmethod
    def events(*data: object, done: bool = True) -> list[Step]:
        """A whole stream of OpenAI's: each datum JSON unless it is text or bytes, in a chunk of its own."""
        return [STREAM_HEAD, *Raw.pieces(*data), *(Raw.pieces("[DONE]") if done else ()), STREAM_END]

    @staticmethod
    def pieces(*data: object) -> list[Step]:
        """The same without head and end."""
        texts = [datum if isinstance(datum, str) else json.dumps(datum) for datum in data]
        return [_chunk(f"data: {text}\n\n".encode()) for text in texts]

    @staticmethod
    def bytes(*parts: bytes, end: bool = True) -> list[Step]:
        """A stream of bytes as they are, each in a chunk of its own."""
        return [STREAM_HEAD, *(_chunk(part) for part in parts), *((STREAM_END,) if end else ())]

    @staticmethod
    def head() -> list[Step]:
        """The head of a stream that has not sent anything yet."""
        return [STREAM_HEAD]

    @staticmethod
    def answer(body: object, status: str = "200 OK", **headers: str) -> list[Step]:
        """One framed answer in JSON; ``_`` in a header's name stands for ``-``."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"HTTP/1.1 {status}", "content-type: application/json", f"content-length: {len(content)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        return ["\r\n".join(lines).encode() + b"\r\n\r\n" + content]
