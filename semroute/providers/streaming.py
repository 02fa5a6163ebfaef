"""Streaming: parser of server-sent events, and timeouts of a call.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation. ``id`` and ``retry``
are for reconnecting clients, which no provider supports; they are skipped.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, TypeAlias

from semroute.errors import ProviderTimeoutError
from semroute.eventloop import Countdown, bounded, stall_meter
from semroute.providers.target import CallTarget

MAX_EVENT = 16 * 2**20
"""Most bytes of one event, and so of one line; an image inside an answer fits."""

_LINE_END = re.compile(rb"\r\n|\r|\n")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """Server-sent event; ``event`` is its type, None if the server names none."""

    event: str | None
    data: str


class EventTooLongError(ValueError):
    """Error of an event longer than the parser's limit."""


class Parser:
    """Incremental parser of events, independent of how bytes are split.

    An event counts once its empty line has arrived: an incomplete one at the end is dropped, as the standard requires.

    Args:
        most: most bytes of one event.
    """

    def __init__(self, most: int = MAX_EVENT) -> None:
        self._most = most
        self._pieces: list[bytes] = []  # chunks of the line that has not ended yet
        self._piece_bytes = 0
        self._after_cr = False  # the next byte may be the LF of a split CRLF
        self._is_first = True
        self._type: str | None = None
        self._data: list[str] = []
        self._data_bytes = 0

    def feed(self, chunk: bytes) -> Iterator[ServerSentEvent]:
        """Yield the events that end in ``chunk``; must be iterated to its end.

        Raises:
            EventTooLongError: an event is longer than the limit.
        """
        if self._after_cr and chunk.startswith(b"\n"):
            chunk, self._after_cr = chunk[1:], False
        if not chunk:
            return
        self._after_cr = chunk.endswith(b"\r")
        # Few servers send CR, and the search for a byte is faster than the pattern.
        *lines, rest = _LINE_END.split(chunk) if b"\r" in chunk else chunk.split(b"\n")
        for line in lines:
            if self._field(self._whole(line)):
                continue
            if self._data:
                yield ServerSentEvent(self._type, "\n".join(self._data))
            self._type, self._data, self._data_bytes = None, [], 0
        if rest:
            self._keep(rest)

    def _whole(self, end: bytes) -> bytes:
        """Return the line that ends with ``end``."""
        self._keep(end)
        line = b"".join(self._pieces) if len(self._pieces) > 1 else end
        self._pieces, self._piece_bytes = [], 0
        if self._is_first:
            line, self._is_first = line.removeprefix(_BYTE_ORDER_MARK), False
        return line

    def _keep(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._piece_bytes += len(piece)
        if self._piece_bytes + self._data_bytes > self._most:
            raise EventTooLongError(f"an event of more than {self._most} bytes")

    def _field(self, line: bytes) -> bool:
        """Read a line; return False for the empty one that ends an event."""
        if not line:
            return False
        # Line ends are ASCII, so a line never splits a UTF-8 character.
        name, _, value = line.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
            self._data_bytes += len(line)
        elif name == "event":
            self._type = value or None
        return True


# Timeouts of a call, on a clock that runs only while waiting for the provider.

LIVELY_S = 1.0
"""Longest wait since the last token after which a stream still counts as answering, seconds."""


class TimeLimit(NamedTuple):
    """Timeout on a call's clock; a tuple, because one is made for each wait.

    Attributes:
        at: end of the timeout, seconds on the call's clock.
        seconds: length of the timeout.
        message: error message, with ``{}`` for ``seconds``.
        is_the_requests: True if it is the request's own limit, not the deployment's.
    """

    at: float
    seconds: float
    message: str
    is_the_requests: bool = False


class CallClock:
    """Clock of one call, running only while waiting for the provider.

    It is paused while the reader holds a chunk, and while this process blocks its event loop.

    The deployment's limits (``timeout_s`` and ``timeouts``) run on it. Comments and pings reset ``idle_s``, since a
    model may think for long without output; only tokens reset ``first_token_s`` and ``keepalive_s``. The request's own
    limit runs on wall time, extended by the reader's pauses alone. Made on a running event loop, at the start of the
    call.

    Args:
        within_s: remaining time of the request, seconds.
        silent_s: longest wait for the first chunk of an answer, seconds; None for no additional limit.

    Attributes:
        waited_s: total wait for the provider, seconds.
        quiet_s: the part of it since the last token, seconds.
        stalled_s: part of the waits in which this process did not run its event loop, seconds.
        longest_pause_s: longest time that the reader held a chunk, seconds.
        has_begun: True once a first token has arrived.
        is_connecting: True while a connection is being made, so that nothing has been sent.
    """

    def __init__(self, within_s: float, silent_s: float | None = None) -> None:
        self.within_s = within_s
        self.silent_s = silent_s
        self.waited_s = 0.0
        self.quiet_s = 0.0
        self.stalled_s = 0.0
        self.longest_pause_s = 0.0
        self.has_begun = False
        self.is_connecting = False
        self._loop = asyncio.get_running_loop()
        self._ends_at = self._loop.time() + within_s

    @classmethod
    def of(cls, within: Within) -> CallClock:
        """Return the given clock, or a new one that starts now."""
        return within if isinstance(within, CallClock) else cls(within)

    @property
    def is_answering(self) -> bool:
        """True if tokens have arrived, the last one recently."""
        return self.has_begun and self.quiet_s <= LIVELY_S

    def begin(self) -> None:
        """Record a token of the answer."""
        self.has_begun = True
        self.quiet_s = 0.0

    def paused(self) -> _Pause:
        """Return a context manager that pauses the clock for the reader."""
        return _Pause(self)

    def waiting(self, target: CallTarget, *, streaming: bool = False) -> _Wait:
        """Return an async context manager that bounds a wait by all limits.

        Raises:
            ProviderTimeoutError: the limit was reached; ``is_cut_short`` if it was the request's.
        """
        return _Wait(self, target, self._limit(target, streaming))

    def ends_at(self) -> float:
        """End of the request's own limit, on the event loop's clock."""
        return self._ends_at

    def pause(self, seconds: float) -> None:
        """Record a time in which the reader held a chunk."""
        self._ends_at += seconds
        self.longest_pause_s = max(self.longest_pause_s, seconds)

    def wait(self, spent_s: float, stalled_s: float) -> None:
        """Record a finished wait."""
        self.waited_s += spent_s
        self.quiet_s += spent_s
        self.stalled_s += stalled_s

    def _limit(self, target: CallTarget, streaming: bool) -> TimeLimit:
        deployment, timeouts = target.deployment, target.deployment.timeouts
        limits = [TimeLimit(deployment.timeout_s, deployment.timeout_s, "no complete answer within {} s (timeout_s)")]
        if streaming and self.has_begun:
            at = self.waited_s + timeouts.idle_s
            limits.append(TimeLimit(at, timeouts.idle_s, "the stream was silent for {} s (timeouts.idle_s)"))
            most_s = timeouts.most_silent_s
            message = "nothing but signs of life for {} s (timeouts.keepalive_s)"
            limits.append(TimeLimit(self.waited_s - self.quiet_s + most_s, most_s, message))
        elif streaming:
            message = "no first token within {} s (timeouts.first_token_s)"
            limits.append(TimeLimit(timeouts.first_token_s, timeouts.first_token_s, message))
        if self.silent_s is not None and not self.has_begun:
            message = "no sign of an answer within {} s, after which the request leaves time for another place"
            limits.append(TimeLimit(self.silent_s, self.silent_s, message, is_the_requests=True))
        return min(limits)


Within: TypeAlias = float | CallClock
"""Time limit of a call, seconds, or the clock of the call that it is part of."""


class _Pause:
    """Pause in which the reader holds a chunk."""

    def __init__(self, clock: CallClock) -> None:
        self._clock = clock
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> None:
        self._began = self._loop.time()

    def __exit__(self, *error: object) -> None:
        self._clock.pause(self._loop.time() - self._began)


class _Wait:
    """One wait for the provider, with its remaining time and limit."""

    def __init__(self, clock: CallClock, target: CallTarget, limit: TimeLimit) -> None:
        self._clock = clock
        self._target = target
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._meter = stall_meter()

    async def __aenter__(self) -> None:
        self._meter.start()
        self._began = self._loop.time()
        self._stalled_before = self._meter.seconds()
        self._grace = Countdown(0.0, self._meter)
        self._bound = bounded(self._left_s)
        await self._bound.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._bound.__aexit__(kind, error, trace)
            if error is not None and kind is TimeoutError:
                raise error
        except TimeoutError:
            name = self._target.deployment.name
            message = f"{name}: {self._limit.message.format(f'{self._limit.seconds:g}')}"
            late = ProviderTimeoutError(message, deployment=name)
            late.is_cut_short = self._limit.is_the_requests
            raise late from None
        finally:
            self._clock.wait(*self._spent())
            self._meter.stop()

    def _left_s(self) -> float:
        of_limit = self._limit.at - self._clock.waited_s - self._spent()[0]
        of_request = self._clock.ends_at() - self._loop.time()
        left = min(of_limit, of_request)
        if left > 0.0:
            return left
        # Data that arrived while this process stalled is still unread.
        grace_s = self._grace.grace_s()
        if grace_s <= 0.0 and of_request <= of_limit:
            message = "no complete answer within {} s, which is what the request had left"
            self._limit = TimeLimit(0.0, self._clock.within_s, message, is_the_requests=True)
        return grace_s

    def _spent(self) -> tuple[float, float]:
        """Return the seconds waited and the seconds stalled."""
        stalled_s = self._meter.seconds() - self._stalled_before
        return max(self._loop.time() - self._began - stalled_s, 0.0), stalled_s
