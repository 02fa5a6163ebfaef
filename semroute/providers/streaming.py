"""Server-sent events out of bytes that arrive in any pieces.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation. ``id`` and ``retry``
are for clients that connect again, which no provider supports; they are skipped.
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


# How long a call may take, on a clock that runs only while the provider is waited for.

LIVELY_S = 1.0
"""Longest wait since the last token of a stream that is taken to go on, seconds."""


class TimeLimit(NamedTuple):
    """A moment of a call's clock, and what has not happened when it has come; a tuple, as there is one for each wait.

    Attributes:
        at: the moment, seconds on the call's clock.
        seconds: how long that was from where it was counted.
        message: what has not happened; ``{}`` stands for ``seconds``.
        is_the_requests: whether it is the request's own limit, and not the deployment's.
    """

    at: float
    seconds: float
    message: str
    is_the_requests: bool = False


class CallClock:
    """The clock of one call. It stands while the reader holds a piece, and while this process blocks its event loop.

    The deployment's limits (``timeout_s`` and ``timeouts``) are counted on it. Comments and pings put off ``idle_s``,
    for a model may think for long without a word; only tokens put off ``first_token_s`` and ``keepalive_s``. The
    request's own limit is counted on the wall, moved by the reader's pauses alone. Made on a running event loop, where
    the call begins.

    Args:
        within_s: what the request has left, seconds.
        silent_s: longest wait for the first piece of an answer, seconds; None is no limit besides the others.

    Attributes:
        waited_s: seconds that the provider was waited for.
        quiet_s: those of them since the last token.
        stalled_s: seconds of the waits in which this process did not run its event loop.
        longest_pause_s: longest time that the reader held a piece, seconds.
        has_begun: whether a first token has come.
        is_connecting: whether a connection is still being made, so that nothing has been sent.
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
        """The clock itself, or a new one that starts now."""
        return within if isinstance(within, CallClock) else cls(within)

    @property
    def is_answering(self) -> bool:
        """Whether tokens have come, and the last one a moment ago."""
        return self.has_begun and self.quiet_s <= LIVELY_S

    def begin(self) -> None:
        """Take note of a piece of the answer."""
        self.has_begun = True
        self.quiet_s = 0.0

    def paused(self) -> _Pause:
        """Let the clock stand while the reader holds a piece: a context manager."""
        return _Pause(self)

    def waiting(self, target: CallTarget, *, streaming: bool = False) -> _Wait:
        """Wait for the provider, bounded by whichever limit comes first: an asynchronous context manager.

        Raises:
            ProviderTimeoutError: its moment came; ``is_cut_short`` where it was the request's.
        """
        return _Wait(self, target, self._limit(target, streaming))

    def ends_at(self) -> float:
        """The request's own limit, by the event loop's clock."""
        return self._ends_at

    def pause(self, seconds: float) -> None:
        """Take note of a time in which the reader held a piece."""
        self._ends_at += seconds
        self.longest_pause_s = max(self.longest_pause_s, seconds)

    def wait(self, spent_s: float, stalled_s: float) -> None:
        """Take note of a wait that is over."""
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
"""Seconds that a call may take, or the clock of the call that it is a part of."""


class _Pause:
    """A time in which the reader holds a piece."""

    def __init__(self, clock: CallClock) -> None:
        self._clock = clock
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> None:
        self._began = self._loop.time()

    def __exit__(self, *error: object) -> None:
        self._clock.pause(self._loop.time() - self._began)


class _Wait:
    """One wait for the provider: what is left of it, and which limit ended it."""

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
        # What arrived while this process stalled has still to be read.
        grace_s = self._grace.grace_s()
        if grace_s <= 0.0 and of_request <= of_limit:
            message = "no complete answer within {} s, which is what the request had left"
            self._limit = TimeLimit(0.0, self._clock.within_s, message, is_the_requests=True)
        return grace_s

    def _spent(self) -> tuple[float, float]:
        """Seconds waited, and seconds stalled, of this wait."""
        stalled_s = self._meter.seconds() - self._stalled_before
        return max(self._loop.time() - self._began - stalled_s, 0.0), stalled_s
