"""Calls of a contender: at a given rate whatever becomes of them, or one after the other.

Standard library alone, since it also runs in LiteLLM's own environment.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

ANSWERED, REFUSED = "answered", "refused"
WORD = "alpha"
"""Prompts are made of this: a test server that counts words and a tokenizer agree about it, roughly."""

Call = Callable[[str, int], Awaitable[str]]
"""Asks a prompt with a longest answer in tokens; the name of the place that answered."""


class RefusedError(Exception):
    """The contender let the request through to no place, and said so."""


Sample = tuple[float, float, str, str]
"""One request: when it was due (seconds after the start), milliseconds until its end, how it ended (:data:`ANSWERED`,
:data:`REFUSED` or the name of the error), and the place that answered."""


async def open_loop(call: Call, *, rate: float, seconds: float, at: float, words: int, max_tokens: int) -> list[Sample]:
    """Send ``rate`` requests a second for ``seconds``, each at its own time however long the others take.

    Args:
        call: what is measured.
        rate: requests a second.
        seconds: how long.
        at: when the first is due, by ``time.monotonic``, which all processes of a Linux machine share.
        words: length of the prompt.
        max_tokens: longest answer.

    Returns:
        The requests in the order in which they were due. Latencies count from when they were due, so that a contender
        that keeps its own process busy cannot hide it.
    """
    prompt = " ".join([WORD] * words)

    async def one(due: float) -> Sample:
        place = ""
        try:
            place = await call(prompt, max_tokens)
            ending = ANSWERED
        except RefusedError:
            ending = REFUSED
        except Exception as error:
            ending = type(error).__name__
        return due - at, (time.monotonic() - due) * 1000.0, ending, place

    tasks = []
    for number in range(round(rate * seconds)):
        due = at + number / rate
        await asyncio.sleep(max(due - time.monotonic(), 0.0))
        tasks.append(asyncio.create_task(one(due)))
    return list(await asyncio.gather(*tasks))


async def one_by_one(call: Call, *, calls: int, words: int, max_tokens: int) -> dict[str, object]:
    """Wall time of each call, milliseconds, and processor time of this process a call."""
    prompt = " ".join([WORD] * words)
    times = []
    busy = time.process_time()
    for _ in range(calls):
        start = time.perf_counter()
        await call(prompt, max_tokens)
        times.append((time.perf_counter() - start) * 1000.0)
    return {"times_ms": times, "cpu_ms": (time.process_time() - busy) * 1000.0 / calls}
