"""Load on Chat Completions: a closed loop over kept connections.

The client frames HTTP/1.1 by itself, since on two cores a client of httpx would be slower than the servers that it is
to measure. It is the same for all of them.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from types import MappingProxyType
from urllib.parse import urlsplit

QUESTIONS = (
    "Write a Python function that reverses a linked list.",
    "What is the derivative of x squared times sine x?",
    "My parcel has not arrived, what can I do?",
    "Translate good morning into French.",
    "Summarize the plot of Hamlet in two sentences.",
    "Which clause ends a lease early?",
)
FILLER = "Answer in the language of the question, and keep to the rules of the house that follow below. "
TOKENS_OF_FILLER = 20
_CONTENT = re.compile(rb'"content":\s*"[^"]')
_HEAD_BYTES = 2**20
STREAM_END, STREAM_ERROR = b"data: [DONE]", b'data: {"error"'


@dataclass(frozen=True, slots=True)
class Setting:
    """Settings of a load: the request, and how many at once.

    Attributes:
        model: name of the model in the body.
        connections: each sends its next request when the answer to its last one is complete.
        streaming: whether answers are streamed.
        tokens: length of a prompt, about; a short question after a long system message.
        requests: in all.
    """

    model: str
    connections: int
    streaming: bool
    tokens: int
    requests: int


@dataclass(slots=True)
class Burst:
    """Measurements of a burst of requests.

    Attributes:
        first_s: of each request, seconds to the first piece of text; whole answers: as ``total_s``.
        total_s: of each request, seconds to the end of its answer.
        wall_s: seconds from the first request to the last answer.
    """

    first_s: list[float] = field(default_factory=list)
    total_s: list[float] = field(default_factory=list)
    wall_s: float = 0.0


class AnswerError(Exception):
    """An answer that is none: another status, or a connection that was cut."""


def body_of(setting: Setting, number: int) -> bytes:
    """Return the body of a numbered request; no two are the same."""
    system = FILLER * (setting.tokens // TOKENS_OF_FILLER)
    question = f"{QUESTIONS[number % len(QUESTIONS)]} (Case {number}.)"
    messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
    return json.dumps({"model": setting.model, "messages": messages, "stream": setting.streaming}).encode()


async def burst(
    url: str,
    setting: Setting,
    numbers: Iterator[int] | None = None,
    *,
    key: str = "any",
    headers: Mapping[str, str] = MappingProxyType({}),
) -> Burst:
    """Send a setting's requests to ``url``, and measure each.

    Args:
        url: of the server, up to ``/v1``.
        setting: what is sent.
        numbers: numbers of the requests; None counts from 0.
        key: sent as the bearer's.
        headers: sent besides.

    Raises:
        AnswerError: a request was not answered with 200 and an end.
    """
    found, numbers = Burst(), numbers or count()
    bodies = [body_of(setting, next(numbers)) for _ in range(setting.requests)]
    lines = "".join(f"{name}: {value}\r\n" for name, value in {"authorization": f"Bearer {key}", **headers}.items())
    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(min(setting.connections, setting.requests)):
            group.create_task(_connection(url, lines, bodies, found, is_stream=setting.streaming))
    found.wall_s = time.perf_counter() - start
    return found


async def _connection(url: str, lines: str, bodies: list[bytes], found: Burst, *, is_stream: bool) -> None:
    """Send one body after the other over one connection, until none is left."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=_HEAD_BYTES)
    head = f"POST {parts.path}/chat/completions HTTP/1.1\r\nhost: {parts.netloc}\r\n{lines}"
    try:
        while bodies:
            body = bodies.pop()
            start = time.perf_counter()
            writer.write(f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
            first, end = await _answer(reader, is_stream=is_stream)
            found.first_s.append((first if is_stream and first else end) - start)
            found.total_s.append(end - start)
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise AnswerError(f"{url}: the connection was cut ({type(error).__name__})") from None
    finally:
        writer.close()


async def _answer(reader: asyncio.StreamReader, *, is_stream: bool) -> tuple[float, float]:
    """Read an answer; return the times of its first text and its end.

    The first is 0 if no text came.
    """
    status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    first, content = 0.0, b""
    async for piece in _pieces(reader, headers):
        content = piece if len(content) > _HEAD_BYTES else content + piece
        if not first and _CONTENT.search(content):
            first = time.perf_counter()
    end = time.perf_counter()
    if status.split()[1] != "200":
        raise AnswerError(f"{status}: {content[:300].decode(errors='replace')}")
    if is_stream and (not content.rstrip().endswith(STREAM_END) or STREAM_ERROR in content):
        raise AnswerError(f"a stream that is not whole: {content[-300:].decode(errors='replace')}")
    return first, end


async def _pieces(reader: asyncio.StreamReader, headers: dict[str, str]) -> AsyncIterator[bytes]:
    """Yield the pieces of a body of known length or in chunks."""
    if "chunked" not in headers.get("transfer-encoding", ""):
        yield await reader.readexactly(int(headers["content-length"]))
        return
    while size := int((await reader.readline()).split(b";")[0], 16):
        yield (await reader.readexactly(size + 2))[:-2]
    await reader.readline()
