"""Sending an answer: at the speed of a model, in parts, or with the fault that its script asks for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, repeat
from typing import Protocol

from semroute.testing.http11 import LAST_CHUNK, chunk, head
from semroute.testing.neutral import StreamEvent
from semroute.testing.replies import Delivery, Then

_FOR_EVER_S = 86_400.0
_BEFORE_RESET_S = 0.02  # a reset may overtake bytes that the client has not read yet
_DRIPS = 8


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast the model seems to be, seconds: to the headers, from there to the first token, and between tokens.

    An answer that is not streamed comes after all of them.
    """

    latency_s: float = 0.0
    first_token_s: float = 0.0
    token_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Response:
    """An answer in its wire format: a body, or the events of a stream.

    Attributes:
        status: HTTP status.
        headers: of the answer, without its framing.
        body: bytes; unused where there are events.
        events: of a stream.
        tokens: length of a body's text, for its time.
        error_event: the event that an ``error`` fault sends.
        malformed_event: the event that a ``malformed`` fault sends.
        keepalive: bytes of a sign of life.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    events: tuple[StreamEvent, ...] | None = None
    tokens: int = 0
    error_event: bytes = b""
    malformed_event: bytes = b""
    keepalive: bytes = b": keep-alive\n\n"


class Out(Protocol):
    """Where bytes go."""

    def write(self, data: bytes) -> None:
        """Send bytes, or keep them until they can be sent."""

    async def drain(self) -> None:
        """Wait while too many bytes are kept."""

    def reset(self) -> None:
        """End the connection with RST."""

    def close(self) -> None:
        """End the connection in order."""


async def deliver(out: Out, response: Response, delivery: Delivery, speed: Speed) -> None:
    """Send one answer; where a fault ends the connection, ``out`` is closed."""
    if response.events is None:
        await _deliver_body(out, response, delivery, speed)
    else:
        await _deliver_events(out, response, response.events, delivery, speed)


async def _deliver_body(out: Out, response: Response, delivery: Delivery, speed: Speed) -> None:
    thinking = speed.first_token_s + speed.token_s * max(0, response.tokens - 1) if response.tokens else 0.0
    if thinking:
        await asyncio.sleep(thinking)
    start = head(response.status, {**response.headers, "content-length": str(len(response.body))})
    if delivery.then in ("stall", "reset", "close"):
        out.write(start + response.body[: len(response.body) // 2])
        await _end(out, delivery.then)
    elif delivery.sizes or delivery.interval_s:
        out.write(start)
        sizes = delivery.sizes or (len(response.body) // _DRIPS + 1,)
        await _send_slowly(out, _sliced(response.body, sizes), delivery.interval_s)
    else:
        out.write(start + response.body)
        await out.drain()


async def _deliver_events(
    out: Out, response: Response, events: tuple[StreamEvent, ...], delivery: Delivery, speed: Speed
) -> None:
    sent, ending = _planned(response, events, delivery)
    out.write(head(response.status, {**response.headers, "transfer-encoding": "chunked"}))
    if delivery.sizes:
        content = b"".join(event.data for event in sent)
        await _send_slowly(out, map(chunk, _sliced(content, delivery.sizes)), delivery.interval_s)
    elif delivery.interval_s:
        await _send_slowly(out, (chunk(event.data) for event in sent), delivery.interval_s)
    else:
        await _send_paced(out, sent, speed)
    if ending == "stall" and delivery.keepalive_s:
        await _send_slowly(out, repeat(chunk(response.keepalive)), delivery.keepalive_s)
    elif ending in ("stall", "reset"):
        await _end(out, ending)
    else:
        out.write(LAST_CHUNK)
        await out.drain()


def _planned(
    response: Response, events: tuple[StreamEvent, ...], delivery: Delivery
) -> tuple[Sequence[StreamEvent], Then | None]:
    """The events to send, and how the connection ends."""
    then = delivery.then
    if then is None:
        return events, None
    if then == "unmarked":
        return [event for event in events if event.kind != "end"], None
    place = _after_finish(events) if delivery.at_end else _place(events, delivery.after)
    if then == "error":
        return [*events[:place], StreamEvent(response.error_event, "frame")], None
    if then == "malformed":
        return [*events[:place], StreamEvent(response.malformed_event, "frame"), *events[place:]], None
    return events[:place], then


def _place(events: Sequence[StreamEvent], after: int | None) -> int:
    """Where a fault comes: before the piece that follows ``after`` pieces, and before the finish at the latest."""
    sent = 0
    for place, event in enumerate(events):
        if event.kind in ("finish", "end") or (event.kind == "piece" and sent == after):
            return place
        sent += event.kind == "piece"
    return len(events)


def _after_finish(events: Sequence[StreamEvent]) -> int:
    """Where a fault comes that leaves the reason why the answer ended: before what may follow it."""
    return 1 + next(place for place, event in enumerate(events) if event.kind == "finish")


async def _send_paced(out: Out, events: Iterable[StreamEvent], speed: Speed) -> None:
    """Each event as a chunk of its own; what no wait parts goes out in one write."""
    ready: list[bytes] = []
    wait = speed.first_token_s
    for event in events:
        if event.kind == "piece":
            if wait:
                out.write(b"".join(ready))
                ready.clear()
                await out.drain()
                await asyncio.sleep(wait)
            wait = speed.token_s
        ready.append(chunk(event.data))
    out.write(b"".join(ready))
    await out.drain()


async def _send_slowly(out: Out, parts: Iterable[bytes], interval_s: float) -> None:
    for part in parts:
        out.write(part)
        await out.drain()
        await asyncio.sleep(interval_s)


def _sliced(content: bytes, sizes: Iterable[int]) -> Iterator[bytes]:
    start = 0
    for size in cycle(sizes):
        if start >= len(content):
            return
        yield content[start : start + size]
        start += size


async def _end(out: Out, then: Then) -> None:
    await out.drain()
    if then == "stall":
        await asyncio.sleep(_FOR_EVER_S)
    if then == "reset":
        await asyncio.sleep(_BEFORE_RESET_S)
        out.reset()
    else:
        out.close()
