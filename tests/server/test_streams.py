"""Events of a streamed answer: in order, in few pieces, with signs of life, and not far ahead of the client."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass

from semroute.errors import DispatchError
from semroute.server.formats import ServedCall
from semroute.server.openai_chat import ChatCompletions
from semroute.server.streams import QUEUED, AnswerEvents, encoded
from semroute.types import Completion, Delta, Request

FORMAT = ChatCompletions()
CALL = ServedCall("auto", Request(({"role": "user", "content": "hello"},)), streaming=True)


async def answer(
    texts: Iterator[str], begins: asyncio.Event, made: list[str], error: Exception | None = None
) -> AsyncGenerator[Delta | Completion]:
    await begins.wait()
    for text in texts:
        made.append(text)
        yield Delta(text)
    if error is not None:
        raise error
    yield Completion("".join(made), "small", "small-1", "small", "stop", None, 1.0)


async def read(
    texts: list[str], *, ping_s: float = 60.0, waits: bool = False, error: Exception | None = None
) -> list[bytes]:
    """Return the pieces of an answer; with ``waits`` it begins after a sign of life."""
    begins = asyncio.Event()
    events = AnswerEvents(answer(iter(texts), begins, [], error))
    if not waits:
        begins.set()
    pieces = list[bytes]()
    try:
        first = await events.next(ping_s)
        async for piece in encoded(events, first, FORMAT.stream(CALL), FORMAT, ping_s):
            pieces.append(piece)
            begins.set()
    finally:
        await events.stop()
    return pieces


def test_pieces_that_are_there_go_out_together_and_stay_events_of_their_own() -> None:
    pieces = asyncio.run(read(["a", "b", "c"]))
    whole = b"".join(pieces)
    assert len(pieces) <= 2
    assert [whole.count(f'"content":"{text}"'.encode()) for text in "abc"] == [1, 1, 1]
    assert whole.index(b'"a"') < whole.index(b'"b"') < whole.index(b'"c"') < whole.index(b"[DONE]")
    assert whole.count(b"\n\n") == whole.count(b"data: ")


def test_silence_is_bridged_by_a_sign_of_life() -> None:
    pieces = asyncio.run(read(["a"], ping_s=0.001, waits=True))
    assert b": ping\n\n" in pieces[0]
    assert b'"a"' in b"".join(pieces[1:])
    assert pieces[-1].endswith(b"data: [DONE]\n\n")


def test_an_error_after_the_start_is_the_last_event_and_loses_nothing_before_it() -> None:
    whole = b"".join(asyncio.run(read(["a", "b"], error=DispatchError("it broke off"))))
    assert whole.index(b'"a"') < whole.index(b'"b"') < whole.index(b"it broke off")
    assert b"[DONE]" not in whole


def test_a_model_is_read_no_further_ahead_than_its_queue_is_long() -> None:
    async def test() -> None:
        begins, made = asyncio.Event(), list[str]()
        begins.set()
        events = AnswerEvents(answer(iter(map(str, range(10 * QUEUED))), begins, made))
        assert await events.next(60.0) is not None
        for _ in range(10 * QUEUED):  # the model has every chance to run ahead
            await asyncio.sleep(0)
        assert len(made) <= QUEUED + 1
        while not isinstance(await events.next(60.0), Completion):
            pass
        assert len(made) == 10 * QUEUED
        await events.stop()

    asyncio.run(test())


def test_to_stop_closes_the_source_while_it_waits_for_room() -> None:
    async def test() -> None:
        closed = asyncio.Event()

        async def endless() -> AsyncGenerator[Delta | Completion]:
            try:
                while True:
                    yield Delta("x")
            finally:
                closed.set()

        events = AnswerEvents(endless())
        assert await events.next(60.0) is not None
        await events.stop()
        assert closed.is_set()

    asyncio.run(test())


def test_nothing_within_the_interval_is_none() -> None:
    async def test() -> None:
        events = AnswerEvents(answer(iter("a"), begins := asyncio.Event(), []))
        assert await events.next(0.001) is None
        begins.set()
        assert await events.next(60.0) == Delta("a")
        await events.stop()

    asyncio.run(test())


class ClockedLoop:
    """The event loop with a clock that goes on when told, and the timers that were set on it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.set: list[ClockedTimer] = []
        self.create_future = asyncio.get_running_loop().create_future

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> ClockedTimer:
        self.set.append(ClockedTimer(when, callback))
        return self.set[-1]

    def advance(self, now: float) -> None:
        self.now = now
        for timer in [one for one in self.set if one.due <= now]:
            timer.due = math.inf
            timer.callback()


@dataclass
class ClockedTimer:
    due: float
    callback: Callable[[], None]

    def when(self) -> float:
        return self.due

    def cancel(self) -> None:
        self.due = math.inf


def test_a_silence_is_counted_from_the_piece_before_it_with_one_timer_for_many_pieces() -> None:
    async def test() -> None:
        turns = [asyncio.Event() for _ in range(20)]

        async def answer() -> AsyncGenerator[Delta | Completion]:
            for turn in turns:
                await turn.wait()
                yield Delta("x")

        events, loop = AnswerEvents(answer()), ClockedLoop()
        events._loop = loop  # type: ignore[assignment]
        for second, turn in enumerate(turns[:-1]):
            waiting = asyncio.create_task(events.next(30.0))
            await asyncio.sleep(0)
            loop.advance(float(second))
            turn.set()
            assert await waiting == Delta("x")
        assert len(loop.set) == 1
        waiting = asyncio.create_task(events.next(30.0))  # from second 18 on
        await asyncio.sleep(0)
        for now in (30.0, 47.9):
            loop.advance(now)
            await asyncio.sleep(0)
            assert not waiting.done()
        loop.advance(48.0)
        assert await waiting is None
        assert len(loop.set) == 2
        turns[-1].set()
        assert await events.next(30.0) == Delta("x")
        await events.stop()
        assert all(timer.due == math.inf for timer in loop.set)

    asyncio.run(test())
