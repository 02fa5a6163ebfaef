from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from semroute.config import Config
from semroute.dispatch import Constraints
from semroute.router import Router
from semroute.testing import FakeProvider, answer
from semroute.types import Completion, Delta, Request

SOUP = "recipe for carrot soup"
FOREIGN = "zxqv"
"""Fits no category."""
LADDER = {"tiers": ["small", "large"]}


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeProvider]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with FakeProvider() as running:
        yield running


def router(index: Path, provider: FakeProvider, **sections: Any) -> Router:
    places = [
        {"name": f"{model}-1", "model": model, "base_url": provider.base_url, "price": {"input": 1.0, "output": 1.0}}
        for model in ("small", "large", "coder", "other", "judging")
    ]
    return Router.load(index, config=Config.model_validate({"deployments": places, **sections}))


def called(provider: FakeProvider) -> list[str]:
    return [request.body["model"] for request in provider.requests]


def test_a_query_of_any_category_and_of_none_goes_up_the_general_cascade(
    routing_index: Path, provider: FakeProvider
) -> None:
    routes = router(routing_index, provider, cascade=LADDER)
    for query in (SOUP, "why does my loop never end", FOREIGN):
        provider.script(answer(""), answer("there"))
        completion = routes.complete(query)
        assert (completion.text, completion.model, completion.tier) == ("there", "large", 1)
        assert completion.decision is not None
        assert len(completion.attempts) == 2
    assert called(provider) == ["small", "large"] * 3


def test_without_tiers_nothing_is_checked(routing_index: Path, provider: FakeProvider) -> None:
    provider.script(answer("I'm sorry, but I can't help with that."))
    completion = router(routing_index, provider).complete(SOUP)
    assert (completion.model, completion.tier, completion.trials) == ("small", None, ())


def test_a_category_has_its_own_cascade_or_none(routing_index: Path, provider: FakeProvider) -> None:
    routes = router(
        routing_index,
        provider,
        cascade=LADDER,
        categories={"code": {"cascade": {"tiers": ["coder", "large"]}}, "law": {"cascade": False}},
    )
    provider.always(answer("fine"))
    assert routes.complete("why does my loop never end").model == "coder"
    law = routes.complete("appeal a court ruling")
    assert (law.model, law.tier) == ("large", None)


@pytest.mark.parametrize("limits", [Constraints(model="large"), Constraints(deployment="large-1")])
def test_what_is_pinned_is_called_without_a_cascade(
    routing_index: Path, provider: FakeProvider, limits: Constraints
) -> None:
    completion = router(routing_index, provider, cascade=LADDER).complete(SOUP, constraints=limits)
    assert (completion.model, completion.tier) == ("large", None)


def test_what_a_rule_names_is_called_without_a_cascade(routing_index: Path, provider: FakeProvider) -> None:
    rules = [{"name": "soup", "when": {"keywords": ["soup"]}, "use": ["coder"]}]
    completion = router(routing_index, provider, cascade=LADDER, rules=rules).complete(SOUP)
    assert (completion.model, completion.tier) == ("coder", None)


def test_a_rule_that_names_a_category_leaves_its_cascade(routing_index: Path, provider: FakeProvider) -> None:
    rules = [{"name": "soup", "when": {"keywords": ["soup"]}, "category": "law"}]
    assert router(routing_index, provider, cascade=LADDER, rules=rules).complete(SOUP).tier == 0


def test_what_a_rule_leaves_bounds_the_tiers(routing_index: Path, provider: FakeProvider) -> None:
    rules = [{"name": "free", "when": {"metadata": {"plan": "free"}}, "only": ["small", "coder"]}]
    provider.script(answer("I don't know."))
    routes = router(routing_index, provider, cascade=LADDER, rules=rules)
    request = Request(({"role": "user", "content": SOUP},), metadata={"plan": "free"})
    completion = routes.complete(request)
    assert called(provider) == ["small"]
    assert [trial.candidate for trial in completion.trials] == ["small"]


@pytest.mark.parametrize(
    ("start", "chosen", "calls"),
    [
        ("decided", "2", ["coder", "large"]),
        ("decided", "3", ["large"]),
        ("decided", "4", ["other"]),
        ("cheapest", "2", ["coder"]),
    ],
)
def test_what_the_judge_has_chosen_is_where_the_cascade_starts_if_it_is_told_so(
    routing_index: Path, provider: FakeProvider, start: str, chosen: str, calls: list[str]
) -> None:
    names = ["small", "coder", "large", "other"]
    routes = router(
        routing_index,
        provider,
        cascade={"tiers": names[:3], "start": start},
        strategies=["judge"],
        judge={"model": "judging", "candidates": names},
    )
    provider.script(answer(chosen), answer("" if len(calls) == 2 else "fine"), answer("fine"))
    completion = routes.complete(SOUP)
    assert called(provider) == ["judging", *calls]
    assert completion.model == calls[-1]


def test_an_accepted_answer_is_streamed_and_its_decision_comes_with_it(
    routing_index: Path, provider: FakeProvider
) -> None:
    provider.script(answer(""), answer("carrots and water"))
    routes = router(routing_index, provider, cascade={**LADDER, "tiers": ["small", "coder", "large"]})

    async def read() -> list[Delta | Completion]:
        return [event async for event in routes.astream(SOUP)]

    *pieces, last = asyncio.run(read())
    assert [piece.text for piece in pieces] == ["carrots and water"]
    assert isinstance(last, Completion)
    assert last.decision is not None
    assert (last.tier, last.decision.category) == (1, "cooking")


def test_what_a_category_wants_is_part_of_the_score_of_its_places(routing_index: Path, provider: FakeProvider) -> None:
    routes = router(
        routing_index,
        provider,
        groups={"any": ["small", "large"]},
        models={
            "small": {"strengths": {"reasoning": 0.2}},
            "large": {"strengths": {"reasoning": 0.9}},
            "coder": {},
            "other": {},
            "judging": {},
        },
        categories={"law": {"models": ["any"], "wants": ["reasoning"]}, "code": {"models": ["any"]}},
    )
    provider.always(answer("fine"))
    (attempt,) = routes.complete("appeal a court ruling").attempts
    assert attempt.score["capability"] == {"small": 0.2, "large": 0.9}[attempt.model]
    (attempt,) = routes.complete("why does my loop never end").attempts
    assert attempt.score["capability"] == 0.5
