from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing
from contextvars import ContextVar
from traceback import extract_tb
from typing import Any, TypeVar

import pytest

from semroute.eventloop import GRACE_S, WorkerPool, look_up, stall_meter, streamed, timeout

T = TypeVar("T")


class JumpingLoop(asyncio.SelectorEventLoop):
    """A loop whose clock can be moved: to its timers a jump is what a blocked loop is, without the wait."""

    jumped_s = 0.0

    def time(self) -> float:
        return super().time() + self.jumped_s


def jump(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, JumpingLoop)
    loop.jumped_s += seconds


def run(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(work())


def test_the_stalls_of_a_loop_are_measured_while_somebody_asks() -> None:
    async def work() -> tuple[float, float]:
        meter = stall_meter()
        meter.start()
        await asyncio.sleep(0)
        jump(4.0)
        at_once = meter.seconds()
        await asyncio.sleep(0.01)
        meter.stop()
        return at_once, meter.seconds()

    at_once, later = run(work)
    assert 3.9 < at_once <= later < 4.5


def test_a_result_that_came_during_a_stall_is_taken_although_the_time_is_over() -> None:
    async def work() -> str:
        result = asyncio.get_running_loop().create_future()
        async with timeout(3.0):
            await asyncio.sleep(0)
            jump(4.0)
            asyncio.get_running_loop().call_later(GRACE_S / 5, result.set_result, "there")
            return await result

    assert run(work) == "there"


def test_timeouts_end_hanging_work_despite_loop_stalls() -> None:
    async def stalling() -> None:
        while True:
            await asyncio.sleep(0.001)
            jump(0.5)

    async def work() -> None:
        busy = asyncio.create_task(stalling())
        with pytest.raises(TimeoutError):
            async with timeout(3.0):
                await asyncio.Event().wait()
        busy.cancel()

    run(work)


def test_a_pool_has_named_threads_of_its_own_and_works_on_after_it_was_closed() -> None:
    async def work() -> list[str]:
        pool = WorkerPool("mine", max_workers=1)
        names = [await pool.run(lambda: threading.current_thread().name)]
        pool.close()
        names.append(await pool.run(lambda: threading.current_thread().name))
        pool.close()
        return names

    assert all(name.startswith("mine") for name in asyncio.run(work()))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_closes_a_pool_that_its_parent_was_just_giving_work() -> None:
    pool = WorkerPool("mine", max_workers=1)
    asyncio.run(pool.run(int))
    _, executor = pool._threads
    with executor._shutdown_lock:  # as within submit()
        child = multiprocessing.get_context("fork").Process(target=pool.close)
        child.start()
    child.join(20)
    code = child.exitcode
    child.kill()
    assert code == 0


FORKED = """
import asyncio, os, signal
from semroute.eventloop import WorkerPool, look_up
pool = WorkerPool("mine", max_workers=1)
asyncio.run(pool.run(int))
if os.fork() == 0:
    signal.alarm(20)
    asyncio.run(pool.run(int))
    asyncio.run(look_up("localhost", 80))
    os._exit(7)
print(os.waitstatus_to_exitcode(os.wait()[1]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="the system has no fork")
def test_a_forked_child_has_threads_of_its_own() -> None:
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "7"


def test_look_ups_of_a_host_share_one_thread_and_hold_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, asked = threading.Event(), list[object]()

    def resolve(host: object, *more: Any, **options: Any) -> list[Any]:
        asked.append(host)
        if host == b"hanging.test":
            go_on.wait(30)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", resolve)

    async def work() -> None:
        hanging = [asyncio.create_task(look_up("hanging.test", 443)) for _ in range(50)]
        await asyncio.sleep(0)
        await look_up("healthy.test", 443)
        hanging.pop().cancel()  # who leaves takes it from nobody
        go_on.set()
        await asyncio.gather(*hanging)

    asyncio.run(work())
    assert sorted(map(str, asked)) == ["b'hanging.test'", "b'healthy.test'"]


def test_a_host_that_cannot_be_resolved_says_so_and_an_address_is_not_looked_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def resolve(*arguments: Any, **options: Any) -> list[Any]:
        raise socket.gaierror("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(OSError, match="no such name"):
        asyncio.run(look_up("nowhere.test", 443))
    for address in ("127.0.0.1", "::1", "fe80::1%eth0"):
        asyncio.run(look_up(address, 443))


# Streaming of a coroutine.


async def counted(pass_on: Callable[[int], Awaitable[None]], seen: list[str], *, fails: bool = False) -> str:
    """Pass 0 and 1 on, and return; clean up with an await, however it ends."""
    try:
        for number in range(2):
            await asyncio.sleep(0.001)
            seen.append(f"pass {number}")
            await pass_on(number)
        if fails:
            raise LookupError("counted to the end")
        return "whole"
    finally:
        await asyncio.sleep(0.001)
        seen.append("cleaned up")


def test_what_a_coroutine_passes_on_is_yielded_and_its_result_comes_last() -> None:
    seen: list[str] = []

    async def work() -> list[int | str]:
        return [event async for event in streamed(lambda pass_on: counted(pass_on, seen))]

    assert run(work) == [0, 1, "whole"]
    assert seen == ["pass 0", "pass 1", "cleaned up"]


def test_a_coroutine_goes_no_further_than_its_reader() -> None:
    seen: list[str] = []

    async def work() -> None:
        events = streamed(lambda pass_on: counted(pass_on, seen))
        assert seen == []
        assert await anext(events) == 0
        await asyncio.sleep(0.01)
        assert seen == ["pass 0"]
        await events.aclose()

    run(work)


def test_a_reader_that_leaves_waits_until_the_coroutine_has_cleaned_up() -> None:
    seen: list[str] = []

    async def work() -> None:
        async with aclosing(streamed(lambda pass_on: counted(pass_on, seen))) as events:
            async for _ in events:
                break
        assert seen == ["pass 0", "cleaned up"]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(work)


def test_an_error_of_the_coroutine_reaches_the_reader_with_its_traceback() -> None:
    async def work() -> None:
        async for _ in streamed(lambda pass_on: counted(pass_on, [], fails=True)):
            pass

    with pytest.raises(LookupError, match="counted to the end") as caught:
        run(work)
    assert "counted" in [frame.name for frame in extract_tb(caught.value.__traceback__)]


def test_an_error_that_the_reader_throws_in_is_raised_where_the_coroutine_waits_for_it() -> None:
    seen: list[str] = []

    async def work() -> None:
        events = streamed(lambda pass_on: counted(pass_on, seen))
        await anext(events)
        with pytest.raises(ZeroDivisionError):
            await events.athrow(ZeroDivisionError())
        assert seen == ["pass 0", "cleaned up"]

    run(work)


@pytest.mark.parametrize("is_waiting", [True, False])
def test_a_cancelled_reader_cancels_the_coroutine(is_waiting: bool) -> None:
    seen: list[str] = []

    async def read() -> None:
        async with aclosing(streamed(lambda pass_on: counted(pass_on, seen))) as events:
            await anext(events)
            await (anext(events) if is_waiting else asyncio.sleep(30))

    async def work() -> None:
        task = asyncio.create_task(read())
        while not seen:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert seen == ["pass 0", "cleaned up"]

    run(work)


def test_a_reader_that_is_cancelled_while_it_leaves_is_cancelled() -> None:
    stopped = list[BaseException]()

    async def slow(pass_on: Callable[[int], Awaitable[None]]) -> None:
        try:
            await pass_on(0)
        finally:
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError as error:
                stopped.append(error)
                raise

    async def work() -> None:
        events = streamed(slow)
        await anext(events)
        task = asyncio.create_task(events.aclose())
        await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(stopped) == 1

    run(work)


@pytest.mark.slow
def test_a_stream_that_nobody_closes_is_cleaned_up_by_its_loop() -> None:
    seen: list[str] = []

    async def work() -> None:
        await anext(streamed(lambda pass_on: counted(pass_on, seen)))
        gc.collect()
        while len(seen) < 2:
            await asyncio.sleep(0.001)

    run(work)
    assert seen == ["pass 0", "cleaned up"]


def test_a_coroutine_and_its_reader_share_their_context() -> None:
    name = ContextVar("name", default="nobody")

    async def telling(pass_on: Callable[[str], Awaitable[None]]) -> str:
        await pass_on(name.get())
        name.set("the coroutine")
        return name.get()

    async def work() -> None:
        name.set("the reader")
        assert [event async for event in streamed(telling)] == ["the reader", "the coroutine"]
        assert name.get() == "the coroutine"

    run(work)


def test_a_timeout_of_the_reader_ends_the_coroutine() -> None:
    seen: list[str] = []

    async def work() -> None:
        async def waits(pass_on: Callable[[int], Awaitable[None]]) -> None:
            try:
                await asyncio.sleep(30)
            finally:
                seen.append("cleaned up")

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01), aclosing(streamed(waits)) as events:
                await anext(events)

    run(work)
    assert seen == ["cleaned up"]
