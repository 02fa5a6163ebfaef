"""LiteLLM's Router as a contender, in its own environment.

``scripts/bench_dispatch.py --peer`` runs it:

    python -m venv peer
    peer/bin/pip install "litellm==1.102.0" redis
    peer/bin/python scripts/peer_litellm.py SETUP

SETUP is the text of a :class:`~dispatch_bench.protocol.Setup`. Differences to the Router's defaults: ``num_retries=5``,
so that it may call six times, as semroute may, and 0 against a limit, where it would hold each rejected request for up
to five minutes; Redis, as its documentation has it where processes share a limit. Cooldowns are at their default: 5 s
for a deployment with more than half of a minute's calls failed. Its price table comes from its package, without a
network.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from typing import Any

from dispatch_bench.load import RefusedError, Sample, one_by_one, open_loop
from dispatch_bench.protocol import MODEL, Setup
from harness.processes import answer_channel, serve_async

REFUSALS = ("RouterRateLimitError", "RouterRateLimitErrorBasic", "RateLimitError")
"""Errors by which the Router rejects a request without an available endpoint; the test server never answers 429."""


class Contender:
    """Router over the setup's endpoints."""

    def __init__(self, setup: Setup) -> None:
        self._router = make_router(setup)

    async def load(self, **how: Any) -> list[Sample]:
        """Send requests at a given rate."""
        return await open_loop(self._complete, **how)

    async def calls(self, **how: Any) -> dict[str, object]:
        """Call ``Router.acompletion`` repeatedly."""
        return await one_by_one(self._complete, **how)

    async def admissions(self) -> list[object]:
        """Return no permits: the Router does not record them."""
        return []

    async def _complete(self, prompt: str, max_tokens: int) -> str:
        try:
            answer = await self._router.acompletion(
                model=MODEL, messages=[{"role": "user", "content": prompt}], max_tokens=max_tokens
            )
        except Exception as error:
            if type(error).__name__ in REFUSALS:
                raise RefusedError from error
            raise
        return str(answer._hidden_params["model_id"])


def make_router(setup: Setup) -> Any:
    """Return the peer's router, one deployment per endpoint."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # read at import: no look-up on a network
    import litellm  # type: ignore[import-not-found]

    litellm.suppress_debug_info = True
    litellm.telemetry = False
    for name in ("LiteLLM", "LiteLLM Router"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # it logs each rejection, which costs it time
    limits = {name: value for name, value in (("rpm", setup.rpm), ("tpm", setup.tpm)) if value is not None}
    models = [
        {
            "model_name": MODEL,
            "litellm_params": {"model": f"openai/{MODEL}", "api_base": url, "api_key": "none", **limits},
            "model_info": {"id": name},
        }
        for name, url in setup.places.items()
    ]
    shared = {} if setup.redis_port is None else {"redis_host": "127.0.0.1", "redis_port": setup.redis_port}
    return litellm.Router(
        model_list=models,
        routing_strategy=setup.strategy,
        optional_pre_call_checks=list(setup.checks) or None,
        num_retries=setup.retries,
        **shared,
    )


async def main(setup: Setup) -> None:
    """Serve the benchmark's actions."""
    answers = answer_channel()
    contender = Contender(setup)
    actions = {name: getattr(contender, name) for name in ("load", "calls", "admissions")}
    await serve_async(actions, answers)


if __name__ == "__main__":
    asyncio.run(main(Setup.parse(sys.argv[1])))
