"""Load on a contender: at a given rate, or sequential calls.

At a given rate a call does not wait for earlier ones.

Standard library alone, since it also runs in LiteLLM's own environment.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

ANSWERED, REFUSED = "answered", "refused"
WORD = "alpha"
"""Word of the prompts: a test server that counts words and a tokenizer roughly agree about it."""

Call = Callable[[str, int], Awaitable[str]]
"""Call with a prompt and a maximum of output tokens; returns the name of the endpoint that answered."""


class RefusedError(Exception):
    """Rejection of a request by the contender, with every endpoint closed."""


Sample = tuple[float, float, str, str]
"""One request: due time (seconds after the start), milliseconds until its end, result (:data:`ANSWERED`,
:data:`REFUSED` or the name of the error), and the endpoint that answered."""


async def open_loop(call: Call, *, rate: float, seconds: float, at: float, words: int, max_tokens: int) -> list[Sample]:
    """Send ``rate`` requests a second for ``seconds``, each at its due time.

    Args:
        call: the call to measure.
        rate: requests a second.
        seconds: length of the load.
        at: due time of the first, by ``time.monotonic``, which all processes of a Linux machine share.
        words: words of the prompt.
        max_tokens: maximum output tokens.

    Returns:
        The requests in the order of their due times. Latencies count from the due time, so that a contender that keeps
        its own process busy cannot hide it.
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
    """Measure wall time per call, milliseconds, and CPU time of this process."""
    prompt = " ".join([WORD] * words)
    times = []
    busy = time.process_time()
    for _ in range(calls):
        start = time.perf_counter()
        await call(prompt, max_tokens)
        times.append((time.perf_counter() - start) * 1000.0)
    return {"times_ms": times, "cpu_ms": (time.process_time() - busy) * 1000.0 / calls}
