from __future__ import annotations

import asyncio
import multiprocessing
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

from semroute.eventloop import GRACE_S, WorkerPool, look_up, stall_meter, timeout

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
