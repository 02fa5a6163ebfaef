"""Steady load of several keys: an open loop, whatever the latency."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass

import httpx

PATIENCE_S = 40.0
CUT = "connection cut"


@dataclass(slots=True)
class Asked:
    """One request, and what its client got.

    Attributes:
        number: stands in its prompt, and so in its answer, the provider's records and the log.
        key: name of its key.
        phase: name of the phase in which it began.
        streaming: whether a stream was asked for.
        status: HTTP status; 0 where none came.
        text: of the answer.
        whole: whether the answer came to its end.
        error: what came instead.
        usd: cost by the answer's header; None where it has none.
    """

    number: int
    key: str
    phase: str
    streaming: bool
    status: int = 0
    text: str = ""
    whole: bool = False
    error: str | None = None
    usd: float | None = None

    @property
    def is_answered(self) -> bool:
        """True where the whole answer came, and it is the one to this question."""
        return self.status == 200 and self.whole and f"case-{self.number} " in self.text


class Load:
    """Requests at a rate by several keys, whole and streamed in turns.

    Args:
        url: of the gateway.
        keys: secret of each key, by its name.
        rate: requests a second.
        words: length of a prompt, and of its answer.
    """

    def __init__(self, url: str, keys: Mapping[str, str], rate: float, words: int = 30) -> None:
        self._url, self._keys, self._rate, self._words = url, dict(keys), rate, words
        self.phase, self.asked = "", list[Asked]()
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Send until :meth:`stop`, and wait for the last answers."""
        # A server closes idle connections after 5 s: a client that closes them first never meets it in the act.
        limits = httpx.Limits(max_connections=None, keepalive_expiry=2.0)
        start, names = time.monotonic(), list(self._keys)
        async with (
            httpx.AsyncClient(timeout=PATIENCE_S, limits=limits, trust_env=False) as client,
            asyncio.TaskGroup() as group,
        ):
            while not self._stop.is_set():
                number = len(self.asked)
                one = Asked(number, names[number % len(names)], self.phase, number // len(names) % 2 == 1)
                self.asked.append(one)
                group.create_task(self._ask(client, one))
                await asyncio.sleep(max(0.0, start + (number + 1) / self._rate - time.monotonic()))

    def stop(self) -> None:
        """Send no more."""
        self._stop.set()

    async def slow_reader(self, pause_s: float, words: int) -> None:
        """Ask for a long stream, and stop reading for a while."""
        number = len(self.asked)
        names = list(self._keys)
        one = Asked(number, names[number % len(names)], self.phase, True)
        self.asked.append(one)
        async with httpx.AsyncClient(timeout=PATIENCE_S, trust_env=False) as client:
            await self._ask(client, one, pause_s, words)

    async def _ask(self, client: httpx.AsyncClient, one: Asked, pause_s: float = 0.0, words: int | None = None) -> None:
        question = f"case-{one.number} {'word ' * (words or self._words)}"
        body = {"model": "bench", "messages": [{"role": "user", "content": question}], "stream": one.streaming}
        headers = {"authorization": f"Bearer {self._keys[one.key]}", "x-request-id": f"case-{one.number}"}
        try:
            async with client.stream("POST", f"{self._url}/v1/chat/completions", json=body, headers=headers) as answer:
                one.status = answer.status_code
                if one.streaming and answer.status_code == 200:
                    await _read_stream(answer, one, pause_s)
                else:
                    _read_whole(json.loads(await answer.aread()), answer, one)
        except httpx.TransportError as error:
            what = "no answer in time" if isinstance(error, httpx.TimeoutException) else CUT
            one.error = f"{what}: {type(error).__name__} {error}"


async def _read_stream(answer: httpx.Response, one: Asked, pause_s: float) -> None:
    async for line in answer.aiter_lines():
        if not line.startswith("data: "):
            continue
        if line == "data: [DONE]":
            one.whole = one.error is None
            continue
        event = json.loads(line.removeprefix("data: "))
        if "error" in event:
            one.error = str(event["error"]["message"])
            continue
        one.text += "".join(choice["delta"].get("content") or "" for choice in event["choices"])
        if pause_s:
            await asyncio.sleep(pause_s)
            pause_s = 0.0


def _read_whole(body: Mapping[str, object], answer: httpx.Response, one: Asked) -> None:
    if answer.status_code == 200:
        one.text, one.whole = str(body["choices"][0]["message"]["content"]), True  # type: ignore[index]
        cost = answer.headers.get("x-semroute-cost-usd")
        one.usd = None if cost is None else float(cost)
    else:
        one.error = str(body["error"]["message"])  # type: ignore[index]
