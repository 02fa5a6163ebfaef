"""The synchronous stream: pieces as they come, inside and outside of a loop, and an upstream call that ends with it."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

import semroute
from semroute import _sync
from semroute.config import Config
from semroute.errors import DispatchError, InputError, QueryError
from semroute.router import Router
from semroute.testing import FakeProvider, answer, fail, reset_after, stall_after
from semroute.types import Completion, Delta, Outcome

LONG = " ".join(["word"] * 500)


@pytest.fixture
def router(routing_index: Path, provider: FakeProvider) -> Iterator[Router]:
    places = [{"name": model, "model": model, "base_url": provider.base_url} for model in ("small", "large", "coder")]
    config = Config.model_validate({"deployments": places, "retries": {"attempts": 1}})
    with Router.load(routing_index, config=config) as opened:
        yield opened


def test_pieces_come_first_and_the_completion_last(router: Router) -> None:
    *pieces, last = router.stream("recipe for carrot soup")
    assert [type(piece) for piece in pieces] == [Delta] * 4
    assert isinstance(last, Completion)
    assert last.text == "".join(piece.text for piece in pieces if isinstance(piece, Delta)) == "recipe for carrot soup"
    assert last.decision is not None
    assert last.decision.category == "cooking"


def test_a_piece_is_there_before_the_next_one_is_sent(router: Router, provider: FakeProvider) -> None:
    provider.script(stall_after(2))
    events = router.stream("recipe for carrot soup with ginger")
    assert [event.text for event in itertools.islice(events, 2)] == ["recipe", " for"]
    events.close()


@pytest.mark.slow
def test_nothing_is_called_before_the_first_piece_is_wanted(router: Router, provider: FakeProvider) -> None:
    events = router.stream("recipe for soup")
    assert provider.requests == []
    del events
    gc.collect()
    assert provider.requests == []


@pytest.mark.slow
@pytest.mark.parametrize("how", ["close", "break", "error", "collected"])
def test_to_stop_early_ends_the_call_at_the_provider(how: str, router: Router, provider: FakeProvider) -> None:
    provider.script(stall_after(3))
    events = router.stream(LONG)
    next(events)
    if how == "close":
        events.close()
    elif how == "break":
        for _ in events:
            break
        del events
    elif how == "error":
        with pytest.raises(ZeroDivisionError):
            events.throw(ZeroDivisionError())
    else:
        del events
    gc.collect()
    assert provider.wait_idle(10)
    (request,) = provider.requests
    assert request.disconnected


@pytest.mark.slow
def test_a_cancelled_stream_is_logged_as_one(routing_index: Path, provider: FakeProvider) -> None:
    outcomes: list[Outcome] = []

    class Sink:
        def record(self, outcome: Outcome) -> None:
            outcomes.append(outcome)

    provider.script(stall_after(3))
    places = [{"name": model, "model": model, "base_url": provider.base_url} for model in ("small", "large", "coder")]
    with Router.load(routing_index, config=Config.model_validate({"deployments": places}), log=Sink()) as router:
        events = router.stream("recipe for carrot soup with ginger")
        next(events)
        events.close()
        assert [outcome.error_kind for outcome in outcomes] == ["Cancelled"]


def test_it_works_within_a_running_loop(router: Router) -> None:
    async def work() -> str:
        return "".join(event.text for event in router.stream("recipe for soup") if isinstance(event, Delta))

    assert asyncio.run(work()) == "recipe for soup"


@pytest.mark.slow
def test_threads_stream_at_once(router: Router) -> None:
    found: dict[int, str] = {}

    def read(number: int) -> None:
        pieces = [event.text for event in router.stream(f"recipe {number}") if isinstance(event, Delta)]
        found[number] = "".join(pieces)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == {number: f"recipe {number}" for number in range(8)}


def test_one_stream_is_read_while_another_is_open(router: Router) -> None:
    first, second = router.stream("recipe for soup"), router.stream("recipe for bread")
    pairs = list(zip(first, second, strict=True))
    assert [(type(one), type(other)) for one, other in pairs] == [(Delta, Delta)] * 3 + [(Completion, Completion)]


@pytest.mark.slow
@pytest.mark.parametrize("reply", [fail(500), reset_after(2)])
def test_an_error_comes_through_with_its_attempts(reply: Any, router: Router, provider: FakeProvider) -> None:
    provider.script(reply)
    with pytest.raises(DispatchError) as raised:
        list(router.stream("recipe for carrot soup"))
    assert len(raised.value.attempts) == 1


def test_input_that_cannot_be_routed_is_refused(router: Router, provider: FakeProvider) -> None:
    with pytest.raises(QueryError):
        next(router.stream(" "))
    with pytest.raises(InputError):
        next(router.stream("x", constraints=3))  # type: ignore[arg-type]
    assert provider.requests == []


def test_the_pinned_model_answers(router: Router) -> None:
    *_, last = router.stream("recipe for soup", model="large")
    assert isinstance(last, Completion)
    assert last.model == "large"


def test_a_slow_reader_holds_the_stream_back(router: Router, provider: FakeProvider) -> None:
    """Only some pieces wait: an answer of megabytes must not be kept twice for a reader that sleeps."""
    provider.script(answer(LONG))
    events = router.stream("recipe for soup")
    next(events)
    reader = events.gi_frame.f_locals["reader"]  # type: ignore[attr-defined]
    most = 0
    for _ in events:
        most = max(most, reader._queue.qsize())
    assert 0 < most <= _sync.QUEUED + 1


def test_on_the_bridges_own_loop_it_is_refused_instead_of_waiting_for_ever(router: Router) -> None:
    async def work() -> None:
        next(router.stream("recipe for soup"))

    with pytest.raises(RuntimeError, match="iterate over it asynchronously"):
        _sync.run(work())


FORKING = """
import json, os, sys
from semroute import Config, Router

router = Router.load(sys.argv[1], config=Config.model_validate(json.loads(sys.argv[2])))
events = router.stream("recipe for carrot soup")
next(events)
child = os.fork()
if child == 0:
    try:
        next(events)
    except RuntimeError as error:
        assert "forked" in str(error)
    text = "".join(getattr(event, "text", "") for event in list(router.stream("recipe for bread"))[:-1])
    assert text == "recipe for bread", text
    router.close()
    sys.exit()
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
print("".join(getattr(event, "text", "") for event in list(events)[:-1]))
router.close()
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_stream_under_way_stays_the_parents_after_a_fork(routing_index: Path, provider: FakeProvider) -> None:
    places = [{"name": model, "model": model, "base_url": provider.base_url} for model in ("small", "large", "coder")]
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", dedent(FORKING), str(routing_index),
         json.dumps({"deployments": places})],
        env={**os.environ, "PYTHONPATH": str(Path(semroute.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout.strip(), ended.stderr) == (0, "for carrot soup", "")
