from __future__ import annotations

import asyncio
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numpy as np
import pytest

from semroute.catalog import estimate_tokens
from semroute.config import Config
from semroute.dispatch import Constraints
from semroute.dispatch.validation import valid_request
from semroute.learn.policy.families import AnswerPlan, ByCategory, CategoryTable
from semroute.learn.policy.families import CascadeFamily as CascadePolicy
from semroute.router import Router
from semroute.testing import FakeProvider, answer, fail
from semroute.types import Completion, Decision, Delta, Request

SOUP = "recipe for carrot soup"
FOREIGN = "zxqv"
"""Fits no category."""
LADDER = {"tiers": ["small", "large"]}
ALL = ["small", "coder", "large"]
EVERYWHERE: dict[str, Any] = {
    "categories": {name: {"models": ALL} for name in ("code", "cooking", "law")},
    "fallback": {"models": ALL},
}
"""No category bounds a cascade."""


def router(index: Path, provider: FakeProvider, **sections: Any) -> Router:
    places = [
        {"name": f"{model}-1", "model": model, "base_url": provider.base_url, "price": {"input": 1.0, "output": 1.0}}
        for model in ("small", "large", "coder", "other", "judging")
    ]
    return Router.load(index, config=Config.model_validate({"deployments": places, **sections}))


def called(provider: FakeProvider) -> list[str]:
    return [request.body["model"] for request in provider.requests]


@pytest.mark.slow
def test_a_query_of_any_category_and_of_none_goes_up_the_general_cascade(
    routing_index: Path, provider: FakeProvider
) -> None:
    routes = router(routing_index, provider, cascade=LADDER, **EVERYWHERE)
    for query in (SOUP, "why does my loop never end", FOREIGN):
        provider.script(answer(""), answer("there"))
        completion = routes.complete(query)
        assert (completion.text, completion.model, completion.tier) == ("there", "large", 1)
        assert completion.decision is not None
        assert len(completion.attempts) == 2
    assert called(provider) == ["small", "large"] * 3


@pytest.mark.slow
def test_a_conversation_is_validated_and_counted_once_for_all_tiers(
    routing_index: Path, provider: FakeProvider
) -> None:
    provider.script(answer(""), answer("there"))
    routes, calls = router(routing_index, provider, cascade=LADDER, **EVERYWHERE), Counter[CodeType]()

    def count(frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            calls[frame.f_code] += 1

    async def ask() -> Completion:
        sys.setprofile(count)
        try:
            return await routes.acomplete(SOUP)
        finally:
            sys.setprofile(None)

    assert len(asyncio.run(ask()).attempts) == 2
    assert (calls[valid_request.__code__], calls[estimate_tokens.__code__]) == (1, 1)


@pytest.mark.slow
def test_without_tiers_nothing_is_checked(routing_index: Path, provider: FakeProvider) -> None:
    provider.script(answer("I'm sorry, but I can't help with that."))
    completion = router(routing_index, provider).complete(SOUP)
    assert (completion.model, completion.tier, completion.tiers) == ("small", None, ())


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("limits", [Constraints(model="large"), Constraints(deployment="large-1")])
def test_what_is_pinned_is_called_without_a_cascade(
    routing_index: Path, provider: FakeProvider, limits: Constraints
) -> None:
    completion = router(routing_index, provider, cascade=LADDER).complete(SOUP, constraints=limits)
    assert (completion.model, completion.tier) == ("large", None)


@pytest.mark.slow
def test_what_a_rule_names_is_called_without_a_cascade(routing_index: Path, provider: FakeProvider) -> None:
    rules = [{"name": "soup", "when": {"keywords": ["soup"]}, "use": ["coder"]}]
    completion = router(routing_index, provider, cascade=LADDER, rules=rules).complete(SOUP)
    assert (completion.model, completion.tier) == ("coder", None)


@pytest.mark.slow
def test_a_rule_that_names_a_category_leaves_its_cascade(routing_index: Path, provider: FakeProvider) -> None:
    rules = [{"name": "soup", "when": {"keywords": ["soup"]}, "category": "law"}]
    assert router(routing_index, provider, cascade=LADDER, rules=rules, **EVERYWHERE).complete(SOUP).tier == 0


@pytest.mark.slow
def test_what_a_rule_leaves_bounds_the_tiers(routing_index: Path, provider: FakeProvider) -> None:
    rules = [{"name": "free", "when": {"metadata": {"plan": "free"}}, "only": ["small", "coder"]}]
    provider.script(answer("I don't know."), answer("I don't know."))
    routes = router(routing_index, provider, cascade={"tiers": ALL}, rules=rules, **EVERYWHERE)
    request = Request(({"role": "user", "content": SOUP},), metadata={"plan": "free"})
    completion = routes.complete(request)
    assert called(provider) == ["small", "coder"]
    assert [trial.candidate for trial in completion.tiers] == ["small", "coder"]


@pytest.mark.slow
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


@pytest.mark.slow
def test_an_accepted_answer_is_streamed_and_its_decision_comes_with_it(
    routing_index: Path, provider: FakeProvider
) -> None:
    provider.script(answer(""), answer("carrots and water"))
    routes = router(routing_index, provider, cascade={**LADDER, "tiers": ALL}, **EVERYWHERE)

    async def read() -> list[Delta | Completion]:
        return [event async for event in routes.astream(SOUP)]

    *pieces, last = asyncio.run(read())
    assert [piece.text for piece in pieces] == ["carrots and water"]
    assert isinstance(last, Completion)
    assert last.decision is not None
    assert (last.tier, last.decision.category) == (1, "cooking")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("models", "tiers", "groups", "calls", "cascade"),
    [
        (["large"], ["small", "large"], {}, ["large"], ()),
        (["small"], ["small", "large"], {}, ["small"], ()),
        (["other"], ["small", "large"], {}, ["other"], ()),
        (["coder", "large"], ["small", "large"], {}, ["coder"], ()),  # its own first model, and none in its place
        (["small", "large"], ["small", "coder", "large"], {}, ["small", "large"], (("small",), ("large",))),
        (["large", "small"], ["small", "large"], {}, ["small", "large"], (("small",), ("large",))),
        (["strong", "small"], ["small", "large"], {"strong": ["large", "other"]}, ["small", "large"],
         (("small",), ("large",))),
        (["small", "large"], ["small", "strong"], {"strong": ["large", "other"]}, ["small", "large"],
         (("small",), ("large",))),
        (["strong"], ["small", "strong"], {"strong": ["large", "other"]}, ["large|other"], ()),
        (["strong", "small"], ["small", "strong"], {"strong": ["large", "other"]}, ["small", "large|other"],
         (("small",), ("strong",))),
    ],
)  # fmt: skip
@pytest.mark.parametrize("query", [SOUP, FOREIGN])
def test_the_models_of_a_category_and_of_the_fallback_bound_the_general_cascade(
    routing_index: Path,
    provider: FakeProvider,
    models: list[str],
    tiers: list[str],
    groups: dict[str, list[str]],
    calls: list[str],
    cascade: tuple[tuple[str, ...], ...],
    query: str,
) -> None:
    bound = {"categories": {"cooking": {"models": models}}} if query == SOUP else {"fallback": {"models": models}}
    routes = router(routing_index, provider, cascade={"tiers": tiers}, groups=groups, **bound)
    provider.always(lambda request: answer("" if request.body["model"] == "small" and len(calls) > 1 else "fine"))
    assert routes.route(query).cascade == cascade
    completion = routes.complete(query)
    assert completion.decision is not None
    assert completion.decision.cascade == cascade
    assert (completion.tier is None) == (not cascade)
    assert len(called(provider)) == len(calls)
    assert all(model in named.split("|") for model, named in zip(called(provider), calls, strict=True))


@pytest.mark.slow
def test_a_category_without_a_cascade_fails_over_to_its_next_model(routing_index: Path, provider: FakeProvider) -> None:
    routes = router(
        routing_index,
        provider,
        cascade=LADDER,
        categories={"cooking": {"models": ["large", "coder"]}},
        retries={"same_place": 0},
    )
    provider.script(fail(500), answer("fine"))
    assert routes.complete(SOUP).model == "coder"


@pytest.mark.slow
def test_a_cascade_of_a_categorys_own_is_not_bounded_by_its_models(routing_index: Path, provider: FakeProvider) -> None:
    own = {"cooking": {"models": ["large"], "cascade": LADDER}}
    routes = router(routing_index, provider, cascade={"tiers": ["coder", "large"]}, categories=own)
    assert routes.route(SOUP).cascade == (("small",), ("large",))
    provider.script(answer(""), answer("fine"))
    assert routes.complete(SOUP).tier == 1
    assert called(provider) == ["small", "large"]


@pytest.mark.slow
def test_what_a_judge_chooses_within_a_category_climbs_no_further_than_its_models(
    routing_index: Path, provider: FakeProvider
) -> None:
    routes = router(
        routing_index,
        provider,
        cascade={"tiers": ALL, "start": "decided"},
        semantic={"mode": "narrow"},
        judge={"model": "judging", "candidates": ALL},
        categories={"cooking": {"models": ["small", "coder"]}},
    )
    provider.script(answer("1"), answer("I don't know."), answer("I don't know."))
    completion = routes.complete(SOUP)
    assert called(provider) == ["judging", "small", "coder"]
    assert completion.decision is not None
    assert completion.decision.cascade == (("small",), ("coder",))


@pytest.mark.slow
def test_a_pinned_model_and_a_rule_that_names_models_show_no_cascade(
    routing_index: Path, provider: FakeProvider
) -> None:
    rules = [{"name": "soup", "when": {"keywords": ["soup"]}, "use": ["coder"]}]
    assert router(routing_index, provider, cascade=LADDER, rules=rules, **EVERYWHERE).route(SOUP).cascade == ()
    provider.always(answer("fine"))
    completion = router(routing_index, provider, cascade=LADDER, **EVERYWHERE).complete(SOUP, model="large")
    assert completion.decision is not None
    assert completion.decision.cascade == ()


@pytest.mark.slow
def test_a_cascade_policy_climbs_as_it_was_tested(routing_index: Path, provider: FakeProvider) -> None:
    # Its sections, less the classifiers of answers, which are trained.
    policies = [
        CascadePolicy(("small", "large"), 0, 1, "p").config(0.5),
        ByCategory(("small", "large"), (), np.array([]), np.inf, "p", with_tiers=True).config(
            CategoryTable(1.0, 0.0, (AnswerPlan(0, 1, 0.5),))
        ),
    ]
    for policy in policies:
        sections = {**policy, "cascade": {"tiers": policy["cascade"]["tiers"]}}
        sections["strategies"] = [*sections["strategies"]]
        provider.script(answer(""), answer("fine"))
        routes = router(routing_index, provider, **sections)
        assert routes.route(FOREIGN).cascade == (("small",), ("large",))
        assert routes.complete(FOREIGN).model == "large"


CODER_ALONE = {name: {"models": ["coder"], "cascade": False} for name in ("code", "cooking", "law")}


@pytest.mark.slow
@pytest.mark.parametrize(
    "sections",
    [
        {"strategies": ["rules"], "fallback": {"models": ["small"]}},
        {"categories": CODER_ALONE, "fallback": {"models": ["small"]}},
        {},  # a default is nobody's word
    ],
)
def test_where_every_category_has_a_cascade_of_its_own_the_general_one_is_the_fallbacks(
    routing_index: Path, provider: FakeProvider, sections: dict[str, Any]
) -> None:
    # As semroute tune-policy has written policies from the first.
    provider.script(answer(""), answer("fine"))
    routes = router(routing_index, provider, cascade=LADDER, **sections)
    assert routes.route(FOREIGN).cascade == (("small",), ("large",))
    assert routes.complete(FOREIGN).model == "large"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sections", "cascade"), [({}, (("small",), ("large",))), ({"fallback": {"models": ["large"]}}, ())]
)
def test_a_category_without_models_is_bounded_by_a_fallback_that_is_written(
    routing_index: Path, provider: FakeProvider, sections: dict[str, Any], cascade: Any
) -> None:
    routes = router(routing_index, provider, cascade=LADDER, **sections)
    assert routes.route("appeal a court ruling").category == "law"
    assert routes.route("appeal a court ruling").cascade == cascade
    routes.reload()
    assert routes.route("appeal a court ruling").cascade == cascade


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [False, True])
def test_a_revised_decision_is_answered_and_logged_in_place_of_the_first(
    routing_index: Path, provider: FakeProvider, streaming: bool
) -> None:
    revised: list[Decision] = []

    def revise(decision: Decision) -> Decision:
        revised.append(decision)
        return replace(decision, model="large", candidates=("large", *decision.candidates), strategy="session")

    async def ask(routes: Router) -> Completion:
        if not streaming:
            return await routes.acomplete(SOUP, revise=revise)
        shown: list[Decision] = []
        events = [event async for event in routes.astream(SOUP, revise=revise, on_decision=shown.append)]
        assert shown[0].model == "large"
        assert isinstance(events[-1], Completion)
        return events[-1]

    with router(routing_index, provider, cascade=LADDER, **EVERYWHERE) as routes:
        completion = asyncio.run(ask(routes))
    assert completion.decision is not None
    assert (completion.model, completion.decision.strategy, revised[0].strategy) == ("large", "session", "semantic")
    # A server that revises has chosen: no cascade begins below its model.
    assert (called(provider), completion.tiers) == (["large"], ())
