"""Overhead of the dispatcher for a call, without the call itself."""

from __future__ import annotations

import os
import time
from random import Random

from dispatch_bench.load import WORD
from dispatch_bench.protocol import MODEL
from semroute.catalog import cost_of
from semroute.dispatch import Dispatcher
from semroute.dispatch.attempt import AttemptLog
from semroute.dispatch.constraints import ANYTHING
from semroute.dispatch.plan import Planner
from semroute.dispatch.scheduler import EndpointScheduler
from semroute.resilience import RetryBudget
from semroute.types import CallResult, Request, Usage


async def own_work(dispatcher: Dispatcher, *, calls: int, words: int, max_tokens: int) -> dict[str, list[float]]:
    """Measure each part of ``calls`` calls, in microseconds.

    ``plan`` orders the candidates; ``turn`` reads the statuses, scores, samples and acquires a permit; ``end`` computes
    the cost, releases the permit and records the latency; ``whole`` is their sum. The dispatcher runs the same
    functions around each HTTP call.
    """
    config, gates, latencies, random = dispatcher.config, dispatcher.gates, dispatcher.latencies, Random(0)
    request = Request(({"role": "user", "content": " ".join([WORD] * words)},), max_tokens=max_tokens)
    budget, planner = RetryBudget(config.retries.budget), Planner(config, os.environ)
    usage = Usage(words, max_tokens)
    planner = Planner(config, os.environ)
    planner.know_models()
    times: dict[str, list[float]] = {"plan": [], "turn": [], "end": [], "whole": []}
    for _ in range(calls):
        start = time.perf_counter()
        plan = planner.plan(request, (MODEL,), ANYTHING)
        planned = time.perf_counter()
        scheduler = EndpointScheduler(plan, config, gates, latencies, budget, random, streaming=False)
        budget.request()
        call = await scheduler.next(AttemptLog(), deadline_s=60.0)
        assert call is not None  # no limit of the setup is reached
        entered = time.perf_counter()
        cost = cost_of(call.candidate.deployment, config, usage)
        assert cost is not None  # the setup has a price
        await gates.release(
            call.permit, CallResult.SUCCESS, tokens=usage.input_tokens + usage.output_tokens, usd=cost.usd
        )
        latencies.observe(
            call.candidate.deployment.name,
            streaming=False,
            prompt_tokens=usage.input_tokens,
            first_token_s=None,
            per_token_s=None,
            total_s=random.uniform(0.5, 1.5),
        )
        end = time.perf_counter()
        for name, taken in (
            ("plan", planned - start), ("turn", entered - planned), ("end", end - entered), ("whole", end - start)
        ):  # fmt: skip
            times[name].append(taken * 1e6)
    return times
