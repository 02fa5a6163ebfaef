"""semroute as a contender, in a process of its own.

``python -m dispatch_bench.contender SETUP`` starts it.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import httpx

from dispatch_bench.load import RefusedError, Sample, one_by_one, open_loop
from dispatch_bench.own_work import own_work
from dispatch_bench.protocol import MODEL, Setup, answer_channel, serve
from dispatch_bench.windows import Admission
from semroute.config import Config
from semroute.dispatch import Dispatcher
from semroute.errors import AllClosedError
from semroute.resilience import LatencyWindows
from semroute.resilience.gates import open_gates
from semroute.resilience.redis.failover import FailoverGates
from semroute.types import AdmissionControl, CallResult, Endpoint, EndpointStatus, Permit, Rejection, Request


class _Watched:
    """Shared admission control that records permits with their time."""

    def __init__(self, gates: FailoverGates) -> None:
        self._gates = gates
        self.admitted: dict[str, Admission] = {}

    async def statuses(
        self, places: Sequence[Endpoint], tokens: int = 0, usd: float | Sequence[float] = 0.0
    ) -> list[EndpointStatus]:
        return await self._gates.statuses(places, tokens, usd)

    async def acquire(
        self, place: Endpoint, tokens: int, usd: float = 0.0, *, panic: float | None = None
    ) -> Permit | Rejection:
        asked = time.monotonic()
        found = await self._gates.acquire(place, tokens, usd, panic=panic)
        if isinstance(found, Permit):
            self.admitted[found.id] = Admission(asked, time.monotonic(), tokens)
        return found

    async def release(
        self,
        permit: Permit,
        result: CallResult,
        *,
        tokens: int | None = None,
        usd: float | None = None,
        wait_s: float | None = None,
        reason: str | None = None,
        refused: str | None = None,
    ) -> None:
        why = {"reason": reason, "refused": refused}
        await self._gates.release(permit, result, tokens=tokens, usd=usd, wait_s=wait_s, **why)
        if tokens is not None:
            noted = self.admitted[permit.id]
            self.admitted[permit.id] = Admission(noted.asked, noted.told, tokens)

    async def publish(self, snapshot: Mapping[str, Any]) -> None:
        await self._gates.publish(snapshot)

    async def enable(self, credential: str | None) -> None:
        await self._gates.enable(credential)

    async def welcome(self, place: Endpoint, refused: str) -> None:
        await self._gates.welcome(place, refused)

    async def lift(self, places: Sequence[Endpoint]) -> None:
        await self._gates.lift(places)

    async def close(self) -> None:
        await self._gates.close()


class Contender:
    """Dispatcher over the setup's endpoints, with semroute's defaults."""

    def __init__(self, setup: Setup) -> None:
        self.config = config_of(setup)
        gates = open_gates(self.config, os.environ)
        self.gates = _Watched(gates) if isinstance(gates, FailoverGates) else None
        self._base_url = next(iter(setup.places.values()))
        self._setup = setup
        self.dispatcher = self._dispatcher(self.gates or gates)

    def _dispatcher(self, gates: AdmissionControl) -> Dispatcher:
        made = Dispatcher(self.config, gates=gates)
        if self._setup.window_s is not None:
            made.latencies = LatencyWindows(window_s=self._setup.window_s)
        return made

    async def load(self, **how: Any) -> list[Sample]:
        """Send requests at a given rate."""
        return await open_loop(self._complete, **how)

    async def calls(self, **how: Any) -> dict[str, object]:
        """Call ``Dispatcher.complete`` repeatedly."""
        return await one_by_one(self._complete, **how)

    async def bare(self, **how: Any) -> dict[str, object]:
        """Send the same calls to the first endpoint with httpx alone."""
        async with httpx.AsyncClient() as client:

            async def post(prompt: str, max_tokens: int) -> str:
                answer = await client.post(
                    f"{self._base_url}/chat/completions",
                    json={
                        "model": MODEL,
                        "messages": [{"role": "user", "content": prompt}],
                        "max_tokens": max_tokens,
                    },
                )
                answer.raise_for_status()
                return str(answer.json()["choices"][0]["message"]["content"])

            return await one_by_one(post, **how)

    async def own_work(self, **how: Any) -> dict[str, list[float]]:
        """Measure the dispatcher's own work, by part."""
        return await own_work(self._dispatcher(open_gates(self.config, os.environ)), **how)

    async def admissions(self) -> list[dict[str, object]]:
        """Return the permits of shared admission control, with their tokens."""
        assert self.gates is not None
        return [asdict(admission) for admission in self.gates.admitted.values()]

    async def _complete(self, prompt: str, max_tokens: int) -> str:
        request = Request(({"role": "user", "content": prompt},), max_tokens=max_tokens)
        try:
            return (await self.dispatcher.complete(request, [MODEL])).deployment
        except AllClosedError as error:
            # With attempts behind it, it is the end of a failed request, which counts as lost.
            if error.attempts:
                raise
            raise RefusedError from error


def config_of(setup: Setup) -> Config:
    """Return a user's configuration of these endpoints, otherwise of defaults."""
    places = [
        {"name": name, "model": MODEL, "base_url": url, "limits": {"rpm": setup.rpm, "tpm": setup.tpm}}
        for name, url in setup.places.items()
    ]
    return Config.model_validate(
        {
            "models": {MODEL: {"price": {"input": 1.0, "output": 2.0}}},
            "deployments": places,
            "state": "memory" if setup.redis_port is None else f"redis://127.0.0.1:{setup.redis_port}/0",
        }
    )


async def main(setup: Setup) -> None:
    """Serve the benchmark's actions."""
    answers = answer_channel()
    contender = Contender(setup)
    actions = {name: getattr(contender, name) for name in ("load", "calls", "bare", "own_work", "admissions")}
    await serve(actions, answers)
    await contender.dispatcher.close()


if __name__ == "__main__":
    asyncio.run(main(Setup.parse(sys.argv[1])))
