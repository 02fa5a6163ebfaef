from __future__ import annotations

import asyncio
import threading

import pytest

from semroute import _sync


async def double(value: int) -> int:
    await asyncio.sleep(0)
    return 2 * value


def test_work_is_done_and_its_result_handed_back() -> None:
    assert _sync.run(double(21)) == 42


def test_an_error_comes_through_as_it_is() -> None:
    async def fail() -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        _sync.run(fail())


def test_it_works_inside_a_running_loop() -> None:
    async def caller() -> int:
        return _sync.run(double(4))

    assert asyncio.run(caller()) == 8


def test_threads_share_one_loop() -> None:
    loops = []

    async def note() -> None:
        loops.append(asyncio.get_running_loop())

    threads = [threading.Thread(target=lambda: _sync.run(note())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(loops) == 6
    assert len(set(map(id, loops))) == 1


def test_a_call_from_the_loop_itself_is_refused_instead_of_waiting_for_ever() -> None:
    async def inner() -> None:
        _sync.run(double(1))

    with pytest.raises(RuntimeError, match="await the coroutine instead"):
        _sync.run(inner())
