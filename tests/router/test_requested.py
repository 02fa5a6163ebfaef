from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.config import Config
from semroute.dispatch import Constraints
from semroute.dispatch.constraints import PREFERENCES, Preference
from semroute.errors import ConfigError, InputError, NoDeploymentError
from semroute.router import Router, route
from semroute.router.requested import (
    AUTO_NAMES,
    LISTED_ALIASES,
    constraints_of,
    escalated,
    name_clashes,
    plain_name,
    preferred,
    without_propensity,
)
from semroute.testing import FakeProvider, answer
from semroute.types import Assignment, Decision, Request, StrategyResult
from semroute.workflows.configuration import check_configuration

SOUP, FIX = "recipe for carrot soup", "fix this python traceback"
PRICES = {"coder": 2.0, "large": 9.0, "small": 1.0, "tiny": 0.5}
CATEGORIES = {"code": ("coder", "large"), "cooking": ("small",), "law": ("large",)}


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeProvider]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with FakeProvider() as running:
        yield running


def config(prices: dict[str, float | None] | None = None, url: str = "http://127.0.0.1:9", **sections: Any) -> Config:
    deployments = [
        {"name": f"{model}-1", "model": model, "base_url": url}
        | ({} if price is None else {"price": {"input": price, "output": price}})
        for model, price in (PRICES if prices is None else prices).items()
    ]
    return Config.model_validate({"deployments": deployments, **sections})


def decision(
    candidates: Sequence[str], cascade: tuple[tuple[str, ...], ...] = (), draw: Assignment | None = None
) -> Decision:
    opinions = (StrategyResult("semantic", "decided", "said so", tuple(candidates), "code", draw=draw),)
    return Decision(
        query="q", category="code", model=candidates[0], score=None, threshold=None, confidence=None,
        is_fallback=False, categories=(), candidates=tuple(candidates), strategy="semantic", reason="said so",
        elapsed_ms=1.0, opinions=opinions, cascade=cascade,
    )  # fmt: skip


names = st.lists(st.sampled_from("abcdef"), min_size=1, unique=True)
prices = st.dictionaries(st.sampled_from("abcdef"), st.none() | st.floats(0, 100), min_size=6)


@given(names, st.lists(names, max_size=3), prices, st.sampled_from(PREFERENCES))
def test_a_preference_calls_the_same_models_in_the_order_of_their_prices(
    candidates: list[str], cascade: list[list[str]], known: dict[str, float | None], preference: Preference
) -> None:
    tiers = tuple(map(tuple, cascade))
    before = decision(candidates, tiers)
    after = preferred(before, preference, config(known))
    if preference == "balanced":
        assert after is before
        return
    named = list(dict.fromkeys(name for tier in tiers for name in tier)) or candidates
    assert sorted(after.candidates) == sorted(named)
    assert (after.cascade, after.strategy, after.category) == ((), "preference", "code")
    assert after.model == after.candidates[0]
    levels = [known[name] for name in after.candidates]
    if None in levels:
        assert list(after.candidates) == (named if preference == "cheap" else named[::-1])
    else:
        assert levels == sorted(levels, reverse=preference == "best")  # type: ignore[type-var]
    assert after.opinions[0] == before.opinions[0], "what was decided stays to be seen"


@given(names, prices)
def test_the_cheapest_is_never_dearer_than_the_best(candidates: list[str], known: dict[str, float | None]) -> None:
    costs = {name: price or 0.0 for name, price in known.items()}
    chosen = config(dict(costs))
    cheap, best = (preferred(decision(candidates), preference, chosen).model for preference in ("cheap", "best"))
    assert costs[cheap] <= costs[best]


@given(names, st.sampled_from(["cheap", "best"]), prices)
def test_a_preference_put_twice_changes_no_order(
    candidates: list[str], preference: Preference, known: dict[str, float | None]
) -> None:
    chosen = config({name: price or 0.0 for name, price in known.items()})
    once = preferred(decision(candidates), preference, chosen)
    assert preferred(once, preference, chosen).candidates == once.candidates


def test_a_preferred_model_was_not_drawn() -> None:
    drawn = decision(["a", "b"], draw=Assignment("pair", 0.5, 0.5))
    assert without_propensity(drawn).opinions[0].draw == Assignment("pair", 0.5)
    after = preferred(drawn, "best", config({"a": 1.0, "b": 2.0}))
    assert [one.draw and one.draw.probability for one in after.opinions] == [None, None]
    assert after.reason == "best: b costs most of a, b; said so"


def test_every_alias_takes_every_preference_and_has_one_plain_name() -> None:
    for alias in LISTED_ALIASES:
        assert AUTO_NAMES[alias] == AUTO_NAMES[f"{alias}/balanced"] == "balanced"
        assert AUTO_NAMES[f"{alias}/best"] == AUTO_NAMES[f"{alias}-best"] == "best"
    assert plain_name("claude-auto-best") == "auto/best"
    assert plain_name("gpt-auto/balanced") == plain_name("claude-auto") == "auto"
    assert plain_name("small") == "small"
    assert plain_name(plain_name("semroute-cheap")) == "auto/cheap"


def test_a_name_stands_for_the_first_of_what_it_may_mean(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("strategies: [rules]\n")
    chosen = config(groups={"law": ["small", "large"]}, trial={"policy": str(policy)})
    found = {name: constraints_of(name, chosen, ["code", "law", "small", "trial"]) for name in (
        "auto", "auto/cheap", "claude-auto-best", "small", "law", "code", "serving", "trial"
    )}  # fmt: skip
    assert found == {
        "auto": Constraints(),
        "auto/cheap": Constraints(preference="cheap"),
        "claude-auto-best": Constraints(preference="best"),
        "small": Constraints(model="small"),
        "law": Constraints(model="law"),
        "code": Constraints(category="code"),
        "serving": Constraints(policy="serving"),
        "trial": Constraints(category="trial"),
    }
    clashes = [(problem.key, problem.severity) for problem in name_clashes(chosen, ["code", "law", "small", "trial"])]
    assert clashes == [(f"categories.{name}", "warning") for name in ("law", "small", "trial")]


def test_a_policy_has_a_name_to_ask_for_it_by() -> None:
    policies = {"thrifty": "thrifty.yaml", "small": "small.yaml", "serving": "serving.yaml"}
    chosen = config(policies=policies)
    assert constraints_of("thrifty", chosen, ["code"]) == Constraints(policy="thrifty")
    assert constraints_of("small", chosen, ["code"]) == Constraints(model="small"), "models come first"
    assert constraints_of("thrifty", chosen, ["thrifty"]) == Constraints(category="thrifty"), "and categories"
    with pytest.raises(NoDeploymentError, match=r'did you mean "thrifty"'):
        constraints_of("thrift", chosen, ["code"])
    clashes = [problem.key for problem in name_clashes(chosen, ["thrifty"])]
    assert clashes == ["categories.thrifty", "policies.small", "policies.serving"]


def test_a_model_named_like_auto_is_reported_and_never_asked_for() -> None:
    chosen = config({"auto": 1.0}, groups={"auto/best": ["auto"]})
    assert constraints_of("auto/best", chosen, []) == Constraints(preference="best")
    assert [problem.key for problem in name_clashes(chosen, [])] == ["deployments", "groups"]


@pytest.mark.slow
def test_config_check_reports_a_category_that_is_named_like_a_model(tmp_path: Path, routing_index: Path) -> None:
    path = tmp_path / "semroute.yaml"
    path.write_text("deployments: [{name: one, model: code, base_url: 'http://127.0.0.1:9'}]\n")
    found = check_configuration(path, routing_index)
    (clash,) = [problem for problem in found.problems if problem.key == "categories.code"]
    assert clash.severity == "warning"
    assert clash.message == (
        'the model name "code" of a request asks for the model or group, and not for this category'
    )


@pytest.mark.parametrize("name", ["trial", "coed", "auto/bets"])
def test_an_unknown_name_is_refused_with_the_nearest(name: str) -> None:
    with pytest.raises(NoDeploymentError, match=f"there is no model '{name}'"):
        constraints_of(name, config(), ["code"])


@pytest.mark.slow
def test_the_library_takes_a_preference_and_the_cascade_has_no_say(routing_index: Path, provider: FakeProvider) -> None:
    everything = ["coder", "small", "large"]
    chosen = config(
        url=provider.base_url,
        cascade={"tiers": ["small", "coder", "large"]},
        categories={name: {"models": everything} for name in CATEGORIES},
    )
    provider.always(answer(""))  # which no cascade accepts
    with Router.load(routing_index, config=chosen) as router:
        assert router.route(SOUP).cascade
        assert router.route(SOUP, prefer="balanced").model == "coder"
        for preference, order in (("cheap", ["small", "coder", "large"]), ("best", ["large", "coder", "small"])):
            asked: Any = preference
            (many,) = router.route_many([SOUP], prefer=asked)
            routed = router.route(SOUP, prefer=asked)
            assert (list(routed.candidates), routed.cascade) == (order, ())
            assert (routed.candidates, routed.strategy) == (many.candidates, "preference")
        provider.always(answer("fine"))
        assert router.complete(SOUP, prefer="best").model == "large"
        assert router.complete(SOUP, constraints=Constraints(preference="cheap")).model == "small"
        assert list(router.stream(SOUP, prefer="best"))[-1].to_dict()["model"] == "large"
        assert router.complete(SOUP, model="tiny", prefer="best").model == "tiny", "a pinned model is called"
        wrong: Any = "dear"
        with pytest.raises(InputError, match="prefer: is none of cheap, balanced, best"):
            router.route(SOUP, prefer=wrong)
    assert route(SOUP, index=routing_index, prefer="best").strategy == "preference"


@pytest.mark.slow
def test_the_cheapest_thinks_as_its_first_tier_and_the_best_as_its_last(
    routing_index: Path, provider: FakeProvider
) -> None:
    tiers = [{"use": "small", "effort": "low"}, {"use": "small", "effort": "high"}]
    sections: Any = {"cascade": {"tiers": tiers}, "categories": {"cooking": {"models": ["small"]}}}
    provider.always(answer("fine"))
    with Router.load(routing_index, config=config(url=provider.base_url, **sections)) as router:
        decided = router.route(SOUP)
        assert (decided.cascade, decided.efforts) == ((("small",), ("small",)), ("low", "high"))
        assert decided.to_dict()["efforts"] == ["low", "high"]
        router.complete(SOUP)
        router.complete(SOUP, prefer="cheap")
        assert router.complete(SOUP, prefer="best").tiers == ()
        router.complete(Request(({"role": "user", "content": SOUP},), reasoning_effort="none"), prefer="best")
    assert [request.body.get("reasoning_effort") for request in provider.requests] == ["low", "low", "high", "none"]


def stalled(query: str = FIX) -> Request:
    """Return a conversation that has made the same call three times, with the same result."""
    call = {"id": "c", "type": "function", "function": {"name": "read", "arguments": "{}"}}
    result = {"role": "tool", "tool_call_id": "c", "content": "nothing"}
    return Request(({"role": "user", "content": query}, *({"role": "assistant", "tool_calls": [call]}, result) * 3))


@pytest.mark.slow
def test_a_conversation_that_repeats_itself_asks_the_next_model_above(routing_index: Path) -> None:
    sections: Any = {"categories": {"code": {"models": ["coder", "small", "large"]}}}
    with Router.load(routing_index, config=config(**sections)) as router:
        decided = router.route(stalled())
        assert (decided.strategy, decided.category) == ("stall", "code")
        assert decided.candidates == ("large", "coder", "small")
        assert decided.reason.startswith("the same call 3 times in a row: large in place of coder; closest to code")
        assert router.route_many([stalled(), FIX])[1].model == "coder"
        assert router.route(stalled(), prefer="cheap").model == "small", "the caller's preference has the last word"
    with Router.load(routing_index, config=config(on_stall="ignore", **sections)) as router:
        assert router.route(stalled()).strategy == "semantic"
    with Router.load(routing_index, config=config(categories={"code": {"models": ["large"]}})) as router:
        assert router.route(stalled()).strategy == "semantic", "nothing is above the dearest"
    tiers = [{"use": "large", "effort": "low"}, {"use": "large", "effort": "high"}]
    sections = {"cascade": {"tiers": tiers}, "categories": {"code": {"models": ["large"]}}}
    with Router.load(routing_index, config=config(**sections)) as router:
        decided = router.route(stalled())
        assert (decided.candidates, decided.efforts, decided.cascade) == (("large",), ("high",), ())
        assert "large at high effort in place of large" in decided.reason


@given(names, prices, st.sampled_from("abcdef"))
def test_what_is_above_is_dearer_and_the_least_of_that(
    candidates: list[str], known: dict[str, float | None], above: str
) -> None:
    levels = {name: price or 0.0 for name, price in known.items()}
    before = decision(candidates)
    after = escalated(before, above, config(dict(levels)), "stalled")
    dearer = [levels[name] for name in candidates if levels[name] > levels[above]]
    if not dearer:
        assert after is before
    else:
        assert levels[after.model] == min(dearer)
        assert sorted(after.candidates) == sorted(candidates)


@pytest.mark.slow
def test_a_rule_bounds_what_a_preference_and_a_category_may_call(routing_index: Path) -> None:
    rules = [{"name": "no large", "except": ["large"]}]
    with Router.load(routing_index, config=config(rules=rules)) as router:
        assert router.route(FIX, prefer="best").candidates == ("coder",)
        assert router.route(SOUP, constraints=Constraints(category="code")).candidates == ("coder",)
    rules = [{"name": "tiny", "when": {"keywords": ["soup"]}, "use": ["tiny"]}]
    with Router.load(routing_index, config=config(rules=rules)) as router:
        assert router.route(SOUP, constraints=Constraints(category="code")).strategy == "rules"


@pytest.mark.slow
def test_a_category_that_is_asked_for_is_routed_as_if_it_had_been_found(routing_index: Path) -> None:
    chosen = config(categories={"code": {"cascade": {"tiers": ["tiny", "large"]}}})
    with Router.load(routing_index, config=chosen) as router:
        limits = Constraints(category="code")
        asked, found = router.route(SOUP, constraints=limits), router.route(FIX)
        assert (asked.category, asked.candidates, asked.cascade) == (found.category, found.candidates, found.cascade)
        assert (asked.strategy, asked.reason) == ("requested", "the caller asks for code")
        assert (asked.score, asked.is_fallback) == (None, False)
        assert asyncio.run(router.aroute(SOUP, constraints=limits)).to_dict()["strategy"] == "requested"
        best = router.route(SOUP, prefer="best", constraints=limits)
        assert (best.category, best.candidates) == ("code", ("large", "tiny"))
        with pytest.raises(InputError, match=r'constraints.category: the index has code, .*did you mean "code"'):
            router.route(SOUP, constraints=Constraints(category="coed"))


@pytest.mark.slow
def test_a_policy_that_is_asked_for_decides_whatever_its_share(routing_index: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("strategies: [rules]\nfallback: {models: [tiny]}\ncascade: {tiers: [tiny, large]}\n")
    for share in (0.0, 1.0):
        with Router.load(routing_index, config=config(trial={"policy": str(policy), "share": share})) as router:
            served = router.route(SOUP, constraints=Constraints(policy="serving"))
            tried = router.route(SOUP, constraints=Constraints(policy="trial"))
        assert (served.model, served.cascade) == ("small", ())
        assert tried.cascade == (("tiny",), ("large",)), "the policy on trial brings its own cascade"
        assert [one.draw for one in (*served.opinions, *tried.opinions)] == [None] * 2, "nothing was drawn"
    with Router.load(routing_index, config=config()) as router:
        assert router.route(SOUP, constraints=Constraints(policy="serving")).model == "small"
        with pytest.raises(InputError, match="there is no policy on trial"):
            router.route(SOUP, constraints=Constraints(policy="trial"))


@pytest.mark.slow
def test_a_named_policy_decides_where_it_is_asked_for_and_nowhere_else(
    routing_index: Path, provider: FakeProvider, tmp_path: Path
) -> None:
    policy = tmp_path / "thrifty.yaml"
    policy.write_text("strategies: [rules]\nfallback: {models: [tiny]}\ncascade: {tiers: [tiny, large]}\n")
    tried = tmp_path / "tried.yaml"
    tried.write_text("strategies: [rules]\nfallback: {models: [large]}\n")
    own = Constraints(policy="thrifty")
    more = {"policies": {"thrifty": str(policy)}, "trial": {"policy": str(tried), "share": 1.0}}
    with Router.load(routing_index, config=config(url=provider.base_url, **more)) as router:
        found = router.route(SOUP, constraints=own)
        assert found.cascade == (("tiny",), ("large",)), "it brings its own cascade"
        assert [(one.strategy, one.reason) for one in found.opinions][-1] == (
            "policy", "the caller asks for the policy thrifty"
        )  # fmt: skip
        assert asyncio.run(router.aroute(SOUP, constraints=own)).cascade == found.cascade
        provider.script(answer("a soup"))
        completion = router.complete(SOUP, constraints=own)
        assert [tier.candidate for tier in completion.tiers] == ["tiny"], "and its cascade answers"
        assert router.route(SOUP).model == "large", "the trial's share goes on"
        router.reload()
        assert router.route(SOUP, constraints=own).cascade == found.cascade
        with pytest.raises(InputError, match=r'there are serving, trial.*did you mean "thrifty"'):
            router.route(SOUP, constraints=Constraints(policy="thrifti"))


def test_a_named_policy_that_cannot_be_read_is_reported_by_its_key(routing_index: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("strategies: [guess]\n")
    path = tmp_path / "semroute.yaml"
    path.write_text("policies: {bad: bad.yaml, gone: gone.yaml}\n")
    found = check_configuration(path, routing_index)
    errors = {problem.key: problem.message for problem in found.problems if problem.severity == "error"}
    assert errors.keys() == {"policies.bad", "policies.gone"}
    assert "bad.yaml:1" in errors["policies.bad"]
    path.write_text("policies: {gone: gone.yaml}\n")
    with pytest.raises(ConfigError, match=r"policies\.gone"):
        Router.load(routing_index, config=path)
