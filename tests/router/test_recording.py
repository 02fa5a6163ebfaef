from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from semroute.config import Config
from semroute.errors import DispatchError, InputError
from semroute.outcomes.log import open_log
from semroute.router import Router
from semroute.router.complete import CANCELLED
from semroute.testing import FakeProvider, answer, fail, hang
from semroute.types import Completion, Outcome, Request

SOUP = "recipe for carrot soup"


class Kept:
    """Keeps outcomes in a list."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def record(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)


def config(provider: FakeProvider | None, **sections: Any) -> Config:
    places = [] if provider is None else [
        {"name": f"{model}-1", "model": model, "base_url": provider.base_url,
         "price": {"input": price, "output": price}}
        for model, price in (("small", 1.0), ("large", 10.0))
    ]  # fmt: skip
    return Config.model_validate({"deployments": places, "retries": {"same_place": 0}, **sections})


@pytest.mark.slow
def test_without_a_log_nothing_is_kept_and_no_outcome_is_named(routing_index: Path, provider: FakeProvider) -> None:
    router = Router.load(routing_index, config=config(provider))
    assert router.complete(SOUP).outcome_id is None


@pytest.mark.slow
def test_decisions_are_recorded_with_what_is_known_of_the_caller(routing_index: Path) -> None:
    kept = Kept()
    router = Router.load(routing_index, config=config(None), log=kept)
    decision = router.route(Request(({"role": "user", "content": SOUP},), metadata={"plan": "free"}))
    router.route_many([SOUP, "zxqv"])
    asyncio.run(router.aroute(SOUP))
    assert [one.decision.category for one in kept.outcomes] == ["cooking", "cooking", None, "cooking"]
    assert kept.outcomes[0].decision == decision
    assert kept.outcomes[0].metadata == {"plan": "free"}
    assert all(one.completion is None and one.error_kind is None for one in kept.outcomes)
    assert [one.id for one in kept.outcomes] == sorted(one.id for one in kept.outcomes)


@pytest.mark.slow
def test_an_answer_is_recorded_once_with_what_the_strongest_model_would_have_cost(
    routing_index: Path, provider: FakeProvider
) -> None:
    kept = Kept()
    provider.script(answer("carrots", input_tokens=100, output_tokens=20))
    completion = Router.load(routing_index, config=config(provider), log=kept).complete(SOUP)
    (one,) = kept.outcomes
    assert one.id == completion.outcome_id
    assert one.completion is not None
    assert one.completion.text == "carrots"
    assert (one.baseline_model, one.baseline_usd) == ("large", pytest.approx(120 * 10.0 / 1e6))
    assert completion.cost is not None
    assert completion.cost.usd == pytest.approx(120 * 1.0 / 1e6)
    assert one.latency_ms >= completion.latency_ms


@pytest.mark.slow
def test_the_configuration_may_name_the_strongest_model(routing_index: Path, provider: FakeProvider) -> None:
    kept = Kept()
    provider.script(answer("carrots", input_tokens=100, output_tokens=20))
    Router.load(routing_index, config=config(provider, baseline="small"), log=kept).complete(SOUP)
    assert (kept.outcomes[0].baseline_model, kept.outcomes[0].baseline_usd) == ("small", pytest.approx(0.00012))


@pytest.mark.slow
def test_a_failure_is_recorded_with_every_attempt(routing_index: Path, provider: FakeProvider) -> None:
    kept = Kept()
    provider.always(fail(500))
    both = {"cooking": {"models": ["small", "large"]}}
    router = Router.load(
        routing_index, config=config(provider, cascade={"tiers": ["small", "large"]}, categories=both), log=kept
    )
    with pytest.raises(DispatchError):
        router.complete(SOUP)
    (one,) = kept.outcomes
    assert one.completion is None
    assert one.error_kind == "UnavailableError"
    assert [attempt.model for attempt in one.attempts] == ["small", "large"]


@pytest.mark.slow
def test_a_stream_is_recorded_at_its_end_with_the_time_to_its_first_piece(
    routing_index: Path, provider: FakeProvider
) -> None:
    kept = Kept()
    provider.script(answer("carrots and water"))
    provider.set_speed(first_token_s=0.05, token_s=0.01)
    router = Router.load(routing_index, config=config(provider), log=kept)

    async def read() -> None:
        async for event in router.astream(SOUP):
            # Whoever has the completion can find its outcome.
            known = [event.outcome_id] if isinstance(event, Completion) else []
            assert [one.id for one in kept.outcomes] == known

    asyncio.run(read())
    (one,) = kept.outcomes
    assert one.first_token_ms is not None
    assert 50 <= one.first_token_ms < one.latency_ms


@pytest.mark.slow
@pytest.mark.parametrize("leave", ["close", "cancel"])
def test_a_caller_who_leaves_is_recorded_as_such(routing_index: Path, provider: FakeProvider, leave: str) -> None:
    kept = Kept()
    router = Router.load(routing_index, config=config(provider), log=kept)

    async def close() -> None:
        provider.script(answer("one two three four"))
        provider.set_speed(token_s=0.05)
        async with aclosing(router.astream(SOUP)) as events:
            async for _ in events:
                break

    async def cancel() -> None:
        provider.script(hang())
        task = asyncio.create_task(router.acomplete(SOUP))
        while not provider.requests:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(close() if leave == "close" else cancel())
    assert [one.error_kind for one in kept.outcomes] == [CANCELLED]


@pytest.mark.slow
def test_the_library_opens_the_configured_database_where_it_is_asked_to(
    routing_index: Path, provider: FakeProvider, tmp_path: Path
) -> None:
    settings = config(provider, log={"url": f"sqlite:///{tmp_path}/log.db"})
    Router.load(routing_index, config=settings).complete(SOUP)
    assert not (tmp_path / "log.db").exists()
    router = Router.load(routing_index, config=settings, log=True)
    completion = router.complete(SOUP)
    router.close()
    with open_log(settings.log, {}) as log:
        (found,) = log.outcomes()
    assert found.id == completion.outcome_id
    assert (found.query, found.model, found.category) == (SOUP, "small", "cooking")


@pytest.mark.slow
def test_the_library_starts_and_answers_while_the_database_of_its_log_is_down(
    routing_index: Path, provider: FakeProvider, caplog: pytest.LogCaptureFixture
) -> None:
    settings = config(provider, log={"url": "postgresql://nobody@127.0.0.1:1/none"})
    router = Router.load(routing_index, config=settings, log=True)
    assert "outcomes wait until it can be used" in caplog.text
    assert router.complete(SOUP).text
    router.close()
    assert "1 outcomes are lost" in caplog.text


class _Everything:
    """All doors of a router by which a query is answered or decided."""

    @staticmethod
    def complete(router: Router, **more: Any) -> None:
        assert router.complete(SOUP, **more).outcome_id is None

    @staticmethod
    def stream(router: Router, **more: Any) -> None:
        async def read() -> None:
            async with aclosing(router.astream(SOUP, **more)) as events:
                async for event in events:
                    assert getattr(event, "outcome_id", None) is None

        asyncio.run(read())

    @staticmethod
    def left(router: Router, **more: Any) -> None:
        async def leave() -> None:
            async with aclosing(router.astream(SOUP, **more)) as events:
                await anext(events)

        asyncio.run(leave())

    @staticmethod
    def route(router: Router, **more: Any) -> None:
        router.route(SOUP, **more)
        router.route_many([SOUP, SOUP], **more)
        asyncio.run(router.aroute(SOUP, **more))


@pytest.mark.slow
@pytest.mark.parametrize("door", ["complete", "stream", "left", "route"])
def test_a_query_that_is_not_to_be_logged_leaves_nothing(
    door: str, routing_index: Path, provider: FakeProvider
) -> None:
    kept = Kept()
    router = Router.load(routing_index, config=config(provider, log={"enabled": True}), log=kept)
    getattr(_Everything, door)(router, log=False)
    assert kept.outcomes == []
    router.complete(SOUP)
    assert len(kept.outcomes) == 1


@pytest.mark.slow
def test_a_query_that_is_not_to_be_logged_leaves_nothing_where_it_fails(
    routing_index: Path, provider: FakeProvider
) -> None:
    kept = Kept()
    provider.script(fail(500))
    router = Router.load(routing_index, config=config(provider), log=kept)
    with pytest.raises(DispatchError):
        router.complete(SOUP, log=False)
    assert kept.outcomes == []


@pytest.mark.slow
def test_feedback_without_a_log_says_what_to_write(routing_index: Path) -> None:
    router = Router.load(routing_index, config=config(None))
    with pytest.raises(InputError, match=r"log: \{enabled: true\} to semroute\.yaml"):
        router.feedback("0" * 32, 1.0)


@pytest.mark.slow
def test_feedback_to_a_sink_that_keeps_none_names_what_it_lacks(routing_index: Path, provider: FakeProvider) -> None:
    router = Router.load(routing_index, config=config(provider), log=Kept())
    with pytest.raises(InputError, match=r"^Kept keeps outcomes but no feedback; give it a method judge"):
        router.feedback(router.complete(SOUP).outcome_id, 1.0)
