"""Run one scenario with the semroute on the import path.

The arguments are a JSON line on standard input, the result is one on standard output.

Only names that have been public since the first release are used, so that older checkouts can be measured too.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from statistics import median
from typing import Any

from harness.processes import answer_channel

from semroute import Router
from semroute.config import Config
from semroute.dispatch import Constraints, Dispatcher
from semroute.errors import SemrouteError
from semroute.types import Completion, Outcome, Request

ANSWERED = "answered"
PROMPT = "alpha beta gamma delta epsilon"


def _request(number: int = 0) -> Request:
    return Request(({"role": "user", "content": f"{PROMPT} {number}"},), max_tokens=50)


async def _end(call: Awaitable[object]) -> str:
    """Return a call's result: :data:`ANSWERED`, or the name of its error."""
    try:
        await call
    except Exception as error:
        # A foreign exception is a finding too, and must show in the table.
        return type(error).__name__ if isinstance(error, SemrouteError) else f"foreign {type(error).__name__}"
    return ANSWERED


async def _read(dispatcher: Dispatcher, request: Request, models: list[str], limits: Constraints) -> None:
    async with aclosing(dispatcher.stream(request, models, limits)) as events:
        async for _ in events:
            pass


async def outage(config: Config, *, requests: int, rate: float, streaming: bool, deadline_s: float) -> Any:
    """Count the results of requests at a given rate."""
    dispatcher, limits = Dispatcher(config), Constraints(deadline_s=deadline_s)
    call = _read if streaming else Dispatcher.complete
    start, tasks = time.monotonic() + 0.2, []
    for number in range(requests):
        await asyncio.sleep(max(start + number / rate - time.monotonic(), 0.0))
        tasks.append(asyncio.create_task(_end(call(dispatcher, _request(number), ["bench"], limits))))
    endings = Counter(await asyncio.gather(*tasks))
    await dispatcher.close()
    return endings


async def one_by_one(config: Config, *, requests: int, deadline_s: float) -> Any:
    """Count the results of sequential requests."""
    dispatcher, limits = Dispatcher(config), Constraints(deadline_s=deadline_s)
    endings = Counter([await _end(dispatcher.complete(_request(n), ["bench"], limits)) for n in range(requests)])
    await dispatcher.close()
    return endings


async def routed(config: Config, *, requests: int, deadline_s: float, index: str) -> Any:
    """Count the results of sequential routed requests, and time them.

    The time is the median of the later half, seconds.
    """
    router = Router.load(index, config=config)
    limits, endings, times = Constraints(deadline_s=deadline_s), Counter[str](), []
    for number in range(requests):
        started = time.monotonic()
        endings[await _end(router.acomplete(f"{PROMPT} {number}", constraints=limits))] += 1
        times.append(time.monotonic() - started)
    return {"endings": endings, "late_s": median(times[len(times) // 2 :])}


async def slow_readers(config: Config, *, readers: int, pause_s: float, requests: int) -> Any:
    """Pause readers during an answer, then count other requests' results."""
    dispatcher = Dispatcher(config)

    async def slowly() -> None:
        async with aclosing(dispatcher.stream(_request(), ["bench"])) as events:
            await anext(events)
            await asyncio.sleep(pause_s)
            async for _ in events:
                pass

    slow = Counter(await asyncio.gather(*(_end(slowly()) for _ in range(readers))))
    others = Counter([await _end(dispatcher.complete(_request(n), ["bench"])) for n in range(requests)])
    await dispatcher.close()
    return {"slow": slow, "others": others}


async def stalled(config: Config, *, stall_s: float, calls: int, requests: int) -> Any:
    """Block this process's event loop during calls, then count results.

    Results are those of other requests.
    """
    dispatcher = Dispatcher(config)
    running = [asyncio.create_task(_end(dispatcher.complete(_request(n), ["bench"]))) for n in range(calls)]
    await asyncio.sleep(0.1)
    time.sleep(stall_s)
    stalled = Counter(await asyncio.gather(*running))
    others = Counter([await _end(dispatcher.complete(_request(n), ["bench"])) for n in range(requests)])
    await dispatcher.close()
    return {"stalled": stalled, "others": others}


async def hanging_names(config: Config, *, calls: int, queries: int, hang_s: float, index: str) -> Any:
    """Decide while look-ups of one provider's name hang.

    Returns the median and the longest time, milliseconds.
    """
    look_up = socket.getaddrinfo

    def hanging(host: Any, *args: Any, **more: Any) -> Any:
        if host == "hanging.test":
            time.sleep(hang_s)
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return look_up(host, *args, **more)

    socket.getaddrinfo = hanging
    router = Router.load(index, config=config)
    await router.aroute(PROMPT)
    limits = Constraints(model="hanging", deadline_s=2 * hang_s)
    under_way = [asyncio.create_task(_end(router.acomplete(PROMPT, constraints=limits))) for _ in range(calls)]
    await asyncio.sleep(0.3)

    async def decide(number: int) -> float:
        started = time.perf_counter()
        await router.aroute(f"{PROMPT} {number}")
        return (time.perf_counter() - started) * 1000

    deciding = []
    for number in range(queries):
        deciding.append(asyncio.create_task(decide(number)))
        await asyncio.sleep(0.05)
    times = await asyncio.gather(*deciding)
    for task in under_way:
        task.cancel()
    await asyncio.gather(*under_way, return_exceptions=True)
    return {"median_ms": median(times), "most_ms": max(times)}


class _Kept:
    """Log in a list."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def record(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)


async def charged(config: Config, *, queries: int, leave_after: int | None, index: str) -> Any:
    """Return the logged USD of whole and of abandoned answers.

    An answer is abandoned after some pieces.
    """
    log = _Kept()
    router = Router.load(index, config=config, log=log)

    async def one(number: int) -> None:
        if leave_after is None:
            await router.acomplete(_request(number))
            return
        pieces = 0
        async with aclosing(router.astream(_request(number))) as events:
            async for event in events:
                pieces += not isinstance(event, Completion)
                if pieces >= leave_after:
                    return

    endings = Counter([await _end(one(number)) for number in range(queries)])
    attempts = [attempt for outcome in log.outcomes for attempt in outcome.attempts]
    usd = sum(attempt.cost.usd for attempt in attempts if attempt.cost is not None)
    estimated = sum(attempt.cost is not None and attempt.cost.estimated for attempt in attempts)
    return {"endings": endings, "usd": usd, "attempts": len(attempts), "estimated": estimated}


class _Heard(logging.Handler):
    """Handler that counts warnings."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


async def burst(config: Config, *, calls: int) -> Any:
    """Start many calls at once through admission control in Redis.

    Counts their results, and how often Redis was taken for unavailable.
    """
    heard = _Heard()
    logging.getLogger("semroute").addHandler(heard)
    dispatcher = Dispatcher(config)
    await dispatcher.complete(_request(), ["bench"])
    endings = Counter(await asyncio.gather(*(_end(dispatcher.complete(_request(n), ["bench"])) for n in range(calls))))
    await dispatcher.close()
    return {"endings": endings, "away": any("Redis" in message for message in heard.messages)}


SCENARIOS: Mapping[str, Callable[..., Awaitable[Any]]] = {
    found.__name__: found
    for found in (outage, one_by_one, routed, slow_readers, stalled, hanging_names, charged, burst)
}


def main() -> None:
    """Answer the one question on standard input."""
    answers = answer_channel()
    asked: dict[str, Any] = json.load(sys.stdin)
    config = Config.model_validate(asked.pop("config"))
    found = asyncio.run(_bounded(SCENARIOS[asked.pop("scenario")](config, **asked)))
    answers.write(json.dumps(found) + "\n")
    answers.flush()
    os._exit(0)  # a thread that hangs in a look-up would delay an orderly end


async def _bounded(work: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(work, 300.0)


if __name__ == "__main__":
    main()
