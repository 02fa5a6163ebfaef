from __future__ import annotations

import asyncio

import pytest

from semroute.dispatch.dispatcher import Call, hedge
from semroute.errors import UnavailableError
from semroute.types import Completion, Delta
from semroute.types.protocols import OnDelta


class Attempt:
    """An attempt that sends something after some time, and knows how it ended."""

    def __init__(self, name: str, *, after_s: float = 0.0, pieces: int = 2, fails: bool = False) -> None:
        self.name, self.after_s, self.pieces, self.fails = name, after_s, pieces, fails
        self.has_begun = self.was_released = False

    async def call(self, on_delta: OnDelta | None) -> Completion:
        self.has_begun = True
        try:
            async with asyncio.timeout(30):  # must be left in the task in which it was entered
                await asyncio.sleep(self.after_s)
                if self.fails:
                    raise UnavailableError(f"{self.name} failed")
                for number in range(self.pieces if on_delta is not None else 0):
                    assert on_delta is not None
                    await on_delta(Delta(f"{self.name}{number}"))
                return Completion(self.name, "m", self.name, "m", "stop", None, 1.0)
        finally:
            self.was_released = True


async def read(first: Attempt, second: Attempt | None, delay_s: float, *, streaming: bool) -> list[str]:
    found: list[str] = []

    async def another() -> Call | None:
        return None if second is None else second.call

    async def receive(delta: Delta) -> None:
        found.append(delta.text)

    answer = await hedge(first.call, delay_s, another, receive if streaming else None)
    return [*found, answer.text]


def run(first: Attempt, second: Attempt | None, delay_s: float = 0.01, *, streaming: bool = True) -> list[str]:
    return asyncio.run(read(first, second, delay_s, streaming=streaming))


def test_a_first_attempt_that_answers_in_time_goes_on_alone() -> None:
    first, second = Attempt("a"), Attempt("b")
    assert run(first, second) == ["a0", "a1", "a"]
    assert not second.has_begun
    assert first.was_released


@pytest.mark.parametrize("streaming", [True, False])
def test_a_silent_first_attempt_loses_to_a_faster_second_and_is_released(streaming: bool) -> None:
    first, second = Attempt("a", after_s=5), Attempt("b")
    assert run(first, second, streaming=streaming) == (["b0", "b1", "b"] if streaming else ["b"])
    assert first.was_released
    assert second.was_released


def test_a_first_attempt_may_still_win_after_the_second_started() -> None:
    first, second = Attempt("a", after_s=0.05), Attempt("b", after_s=5)
    assert run(first, second) == ["a0", "a1", "a"]
    assert second.has_begun
    assert second.was_released


def test_without_a_second_to_be_had_the_first_is_waited_for() -> None:
    assert run(Attempt("a", after_s=0.05), None) == ["a0", "a1", "a"]


@pytest.mark.parametrize("streaming", [True, False])
def test_a_failed_attempt_leaves_the_answer_to_the_other(streaming: bool) -> None:
    first, second = Attempt("a", after_s=0.03, fails=True), Attempt("b", after_s=0.06)
    assert run(first, second, streaming=streaming) == (["b0", "b1", "b"] if streaming else ["b"])


def test_the_last_to_fail_gives_the_error() -> None:
    first, second = Attempt("a", after_s=0.03, fails=True), Attempt("b", after_s=0.06, fails=True)
    with pytest.raises(UnavailableError, match="b failed"):
        run(first, second)


def test_a_failure_before_the_second_starts_is_raised_at_once() -> None:
    second = Attempt("b")
    with pytest.raises(UnavailableError, match="a failed"):
        run(Attempt("a", fails=True), second)
    assert not second.has_begun


def test_a_long_answer_passes_through_a_bounded_queue_in_order() -> None:
    assert run(Attempt("a", pieces=200), None) == [*(f"a{number}" for number in range(200)), "a"]


def test_a_reader_that_leaves_releases_every_attempt() -> None:
    first, second = Attempt("a", after_s=5), Attempt("b", pieces=1000)

    async def leave(delta: Delta) -> None:
        assert delta.text == "b0"
        raise GeneratorExit  # as a generator that is closed

    async def another() -> Call | None:
        return second.call

    async def leave_early() -> None:
        with pytest.raises(GeneratorExit):
            await hedge(first.call, 0.01, another, leave)

    asyncio.run(leave_early())
    assert first.was_released
    assert second.was_released


@pytest.mark.parametrize("steps", range(4))
def test_a_hedged_request_that_is_cancelled_at_once_still_begins_and_releases_its_attempt(steps: int) -> None:
    first = Attempt("a", after_s=5)

    async def cancelled() -> None:
        task = asyncio.create_task(read(first, None, 5, streaming=True))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})

    asyncio.run(cancelled())
    # What began was released; before the hedged request itself began nothing was.
    assert first.was_released == first.has_begun
    assert first.has_begun or steps == 0
