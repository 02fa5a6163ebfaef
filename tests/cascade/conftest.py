from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

import httpx
import pytest
from patience import PATIENCE_S

from semroute.cascade import Cascade
from semroute.config import Config
from semroute.dispatch import Constraints, Dispatcher
from semroute.eventloop import streamed
from semroute.router.query import ConstrainedClient
from semroute.testing import FakeProvider
from semroute.types import Completion, Delta, Request

T = TypeVar("T")
PRICES = {"small": 1.0, "medium": 10.0, "large": 100.0}
"""USD per million tokens, in and out."""


@dataclass
class Bench:
    """A cascade over three models of one real server; replies come in the order of the calls."""

    provider: FakeProvider
    capabilities: tuple[str, ...] = ("logprobs", "json_schema", "tools")

    def config(self, cascade: dict[str, Any], **sections: Any) -> Config:
        places = [
            {"name": f"{model}-1", "model": model, "base_url": self.provider.base_url, "upstream_model": model,
             "price": {"input": price, "output": price}}
            for model, price in PRICES.items()
        ]  # fmt: skip
        models = {model: {"capabilities": list(self.capabilities)} for model in PRICES}
        return Config.model_validate(
            {"models": models, "deployments": places, "cascade": {"tiers": list(PRICES), **cascade},
             "retries": {"same_place": 0}, **sections}
        )  # fmt: skip

    def run(self, config: Config, work: Callable[[Dispatcher], Awaitable[T]]) -> T:
        async def inside() -> T:
            async with httpx.AsyncClient() as client:
                dispatcher = Dispatcher(config, client=client, env={}, random=Random(0))
                try:
                    return await work(dispatcher)
                finally:
                    await dispatcher.close()

        return asyncio.run(asyncio.wait_for(inside(), PATIENCE_S))

    async def answer(
        self, config: Config, dispatcher: Dispatcher, request: Request | None = None, **more: Any
    ) -> Completion:
        asked = request or Request(({"role": "user", "content": "how many are there?"},))
        more.setdefault("deadline_s", 60.0)  # long: the first test imports what others find imported
        client = ConstrainedClient(dispatcher, Constraints())
        return await Cascade.of(config.cascade).run("how many are there?", asked, client, **more)

    def stream(
        self, config: Config, dispatcher: Dispatcher, request: Request | None = None, **more: Any
    ) -> AsyncGenerator[Delta | Completion]:
        return streamed(lambda on_delta: self.answer(config, dispatcher, request, on_delta=on_delta, **more))

    def events(
        self, cascade: dict[str, Any], request: Request | None = None, *, sections: Any = None, **more: Any
    ) -> list[Delta | Completion]:
        """The pieces of a streamed answer, and its completion."""
        config = self.config(cascade, **(sections or {}))

        async def read(dispatcher: Dispatcher) -> list[Delta | Completion]:
            async with aclosing(self.stream(config, dispatcher, request, **more)) as events:
                return [event async for event in events]

        return self.run(config, read)

    def ask(
        self, cascade: dict[str, Any], request: Request | None = None, *, sections: Any = None, **more: Any
    ) -> Completion:
        config = self.config(cascade, **(sections or {}))
        return self.run(config, lambda dispatcher: self.answer(config, dispatcher, request, **more))

    @property
    def called(self) -> list[str]:
        """The models that were called, in order."""
        return [request.body["model"] for request in self.provider.requests]


@pytest.fixture
def bench(provider: FakeProvider) -> Bench:
    return Bench(provider)
