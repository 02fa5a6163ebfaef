from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncGenerator

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


async def numbers(ended: threading.Event, most: int = 1000) -> AsyncGenerator[int]:
    try:
        for number in range(most):
            await asyncio.sleep(0)
            yield number
    finally:
        ended.set()


def test_items_come_in_order_to_their_end() -> None:
    ended = threading.Event()
    assert list(_sync.iterate(numbers(ended))) == list(range(1000))
    assert ended.is_set()


@pytest.mark.slow
@given(most=st.integers(0, 40), taken=st.integers(0, 60))
def test_a_generator_is_closed_however_far_it_was_read(most: int, taken: int) -> None:
    ended = threading.Event()
    items = _sync.iterate(numbers(ended, most))
    assert list(itertools.islice(items, taken)) == list(range(min(most, taken)))
    items.close()
    assert ended.is_set() == (taken > 0)


def test_one_task_runs_a_generator_from_first_to_last_item() -> None:
    """A timeout of asyncio, for one, must be left in the task in which it was entered."""
    tasks = set()

    async def timed() -> AsyncGenerator[int]:
        async with asyncio.timeout(30):
            for number in range(3):
                tasks.add(asyncio.current_task())
                yield number

    assert list(_sync.iterate(timed())) == [0, 1, 2]
    assert len(tasks) == 1


def test_the_generators_own_error_comes_after_its_items() -> None:
    async def failing() -> AsyncGenerator[int]:
        yield 1
        raise KeyError("mine")

    items = _sync.iterate(failing())
    assert next(items) == 1
    with pytest.raises(KeyError, match="mine"):
        next(items)


def test_a_reader_that_stops_waits_for_the_generators_end() -> None:
    order: list[str] = []

    async def slow_to_end() -> AsyncGenerator[int]:
        try:
            yield 1
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            order.append("generator")

    items = _sync.iterate(slow_to_end())
    next(items)
    items.close()
    order.append("reader")
    assert order == ["generator", "reader"]
