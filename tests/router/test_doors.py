"""Whatever is handed to a public entry point, only our errors come out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path
from random import Random
from typing import Any

import junk
import pytest

from semroute.config import Config
from semroute.dispatch import Constraints
from semroute.errors import InputError, SemrouteError
from semroute.router import Router
from semroute.testing import FakeProvider

EXAMPLES = 150
"""Of each format; a seed is an example."""

Door = tuple[str, Callable[[Router, Any, Any, Any, Any], object]]


def _limits(limits: Any) -> Any:
    return Constraints() if limits is None else limits


async def _end(events: AsyncGenerator[Any]) -> None:
    async with aclosing(events):
        async for _ in events:
            pass


DOORS: tuple[Door, ...] = (
    ("route", lambda router, query, limits, model, names: router.route(query)),
    ("route_many", lambda router, query, limits, model, names: router.route_many([query, "x"])),
    ("route_many of it", lambda router, query, limits, model, names: router.route_many(query)),
    ("aroute", lambda router, query, limits, model, names: asyncio.run(router.aroute(query, constraints=limits))),
    ("complete", lambda router, query, limits, model, names: router.complete(query, model=model, constraints=limits)),
    ("acomplete", lambda router, query, limits, model, names: asyncio.run(
        router.acomplete(query, model=model, constraints=limits))),
    ("astream", lambda router, query, limits, model, names: asyncio.run(
        _end(router.astream(query, model=model, constraints=limits)))),
    ("stream", lambda router, query, limits, model, names: list(
        router.stream(query, model=model, constraints=limits))),
    ("dispatcher.complete", lambda router, query, limits, model, names: asyncio.run(
        router.dispatcher.complete(query, names, _limits(limits)))),
    ("dispatcher.stream", lambda router, query, limits, model, names: asyncio.run(
        _end(router.dispatcher.stream(query, names, _limits(limits))))),
    ("dispatcher.estimate", lambda router, query, limits, model, names: asyncio.run(
        router.dispatcher.estimate(query, names, _limits(limits)))),
)  # fmt: skip


def router_for(format: str, provider: FakeProvider, folder: Path) -> Router:
    urls = {
        "openai": provider.base_url,
        "anthropic": provider.anthropic_url,
        "gemini": provider.gemini_url,
        "responses": provider.base_url,
    }
    places = [
        {"name": model, "model": model, "format": format, "base_url": urls[format]}
        for model in ("small", "large", "coder")
    ]
    rule = {"name": "r", "when": {"attachments": "image", "turns": {"max": 9}, "metadata": {"tenant": ["b"]}},
            "use": ["large"]}  # fmt: skip
    config = {"deployments": places, "rules": [rule], "retries": {"same_place": 0, "attempts": 1}}
    return Router.load(folder, config=Config.model_validate(config))


@pytest.mark.slow
@pytest.mark.parametrize("format", ["openai", "anthropic", "gemini", "responses"])
def test_only_our_errors_come_out_of_any_door(format: str, provider: FakeProvider, routing_index: Path) -> None:
    router = router_for(format, provider, routing_index)
    refused = answered = 0
    for seed in range(EXAMPLES):
        random = Random(f"{format} {seed}")
        name, door = random.choice(DOORS)
        query, limits = junk.request(random), junk.limits(random)
        model = None if random.random() < 0.8 else junk.junk(random)
        names = ("small",) if random.random() < 0.8 else junk.junk(random)
        try:
            door(router, query, limits, model, names)
            answered += 1
        except SemrouteError as error:
            str(error).encode()
            refused += isinstance(error, InputError)
        except Exception as error:
            pytest.fail(f"{name}, seed {format} {seed}: {type(error).__name__}: {error}")
    assert refused > EXAMPLES / 4
    assert answered > EXAMPLES / 20


@pytest.mark.slow
def test_a_whole_valid_conversation_is_answered_through_every_door(provider: FakeProvider, routing_index: Path) -> None:
    router = router_for("openai", provider, routing_index)
    for name, door in DOORS:
        query = [junk.conversation()] if name == "route_many of it" else junk.conversation()
        door(router, query, None, None, ("small",))
    assert len(provider.requests) == 6
