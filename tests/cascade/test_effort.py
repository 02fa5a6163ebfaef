from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.cascade import Cascade
from semroute.cascade.cascade import OWN_EFFORT, with_effort
from semroute.catalog.capabilities import check_catalog
from semroute.config import Config
from semroute.config.check import check_config
from semroute.config.load import validate
from semroute.testing import answer, fail
from semroute.types import Completion, Request

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
LADDER: list[Any] = [{"use": "small", "effort": "low"}, {"use": "small", "effort": "high"}, "large"]
REJECTED = answer("")
QUERY = ({"role": "user", "content": "how many are there?"},)


def efforts(bench: Any) -> list[tuple[str, str | None]]:
    return [(one.body["model"], one.body.get("reasoning_effort")) for one in bench.provider.requests]


def test_the_same_model_stands_in_two_tiers_and_thinks_more_in_the_second(bench: Any) -> None:
    bench.provider.script(REJECTED, REJECTED, answer("twelve"))
    completion: Completion = bench.ask({"tiers": LADDER})
    assert efforts(bench) == [("small", "low"), ("small", "high"), ("large", None)]
    assert [(tier.candidate, tier.effort) for tier in completion.tiers] == [
        ("small", "low"), ("small", "high"), ("large", None)
    ]  # fmt: skip
    assert [tier.label for tier in completion.tiers] == ["small at low effort", "small at high effort", "large"]
    told: Any = completion.to_dict()["trials"]
    assert [tier["effort"] for tier in told] == ["low", "high", None]


def test_samples_and_streams_think_as_much_as_their_tier(bench: Any) -> None:
    bench.provider.script(answer("one"), answer("two"), answer("twelve"))
    bench.events({"tiers": [LADDER[0], LADDER[1]], "accept": {"consistency": 0.9}})
    assert efforts(bench) == [("small", "low"), ("small", "low"), ("small", "high")]


@pytest.mark.parametrize("own", [{"reasoning_effort": "medium"}, {"thinking_budget": 2048}], ids=["effort", "budget"])
def test_the_requests_own_effort_wins_in_every_tier(bench: Any, own: dict[str, Any]) -> None:
    bench.provider.script(REJECTED, answer("twelve"))
    droppable = frozenset({"thinking_budget"})
    bench.ask({"tiers": LADDER[:2]}, Request(QUERY, droppable=droppable, **own))
    assert efforts(bench) == [("small", own.get("reasoning_effort"))] * 2


def test_a_provider_that_refuses_log_probabilities_at_one_effort_is_asked_for_them_at_another(bench: Any) -> None:
    bench.provider.script(fail(400), REJECTED, answer("twelve", logprob=-0.01))
    bench.ask({"tiers": LADDER[:2], "accept": {"confidence": 0.5, "without_logprobs": "accept"}})
    asked = [(one.body.get("reasoning_effort"), one.body.get("logprobs")) for one in bench.provider.requests]
    assert asked == [("low", True), ("low", None), ("high", True)]


@given(
    st.sampled_from(EFFORTS) | st.none(), st.sampled_from(EFFORTS) | st.none(), st.sampled_from([None, -1, 0, 2048]),
    st.frozensets(st.sampled_from(["logit_bias", *OWN_EFFORT])),
)  # fmt: skip
def test_an_effort_is_added_only_where_the_request_says_nothing_of_it(
    tiers: str | None, own: str | None, budget: int | None, extra: frozenset[str]
) -> None:
    request = Request(QUERY, reasoning_effort=own, thinking_budget=budget, extra={key: {} for key in extra})
    found = with_effort(request, tiers)
    says_nothing = own is None and budget in (None, -1) and not extra & OWN_EFFORT
    assert found.reasoning_effort == (tiers if says_nothing else own)
    assert (found is request) is (tiers is None or not says_nothing)
    assert (found.thinking_budget, found.extra) == (request.thinking_budget, request.extra)


def config(tiers: list[Any], **deployment: Any) -> Config:
    deployments = [
        {"name": model, "model": model, "base_url": "http://127.0.0.1:9", **deployment} for model in ("small", "large")
    ]
    return Config.model_validate({"deployments": deployments, "cascade": {"tiers": tiers}})


def test_a_model_is_a_tier_twice_only_at_different_efforts() -> None:
    twice = [{"use": "small", "effort": "low"}, {"use": "small", "effort": "low"}, "large"]
    found = {
        (problem.key, problem.fix)
        for tiers in (LADDER, twice)
        for problem in check_config(config(tiers), category_models=None, env={})
        if problem.key.startswith("cascade.tiers")
    }
    assert found == {("cascade.tiers.1", "name each model once, or give its tiers different efforts")}


def test_an_effort_that_no_deployment_of_a_tier_takes_is_reported() -> None:
    old = config(LADDER, format="anthropic", upstream_model="claude-haiku-3-5")
    found = [problem for problem in check_catalog(old) if problem.key.endswith("effort")]
    assert [problem.key for problem in found] == ["cascade.tiers.0.effort", "cascade.tiers.1.effort"]
    assert found[0].message == 'no deployment of "small" takes an effort of low: it is left out'
    assert not [problem for problem in check_catalog(config(LADDER)) if problem.key.endswith("effort")]


def test_an_unknown_effort_is_refused_with_those_that_there_are(tmp_path: Any) -> None:
    text = "cascade:\n  tiers:\n    - {use: small, effort: lots}\n    - large\n"
    read, (problem,) = validate(text, tmp_path)
    assert read is None
    assert (problem.key, problem.line) == ("cascade.tiers.0.effort", 3)
    assert "'low'" in str(problem) or "low" in str(problem)


def test_a_cascade_shows_its_efforts_only_where_it_has_some() -> None:
    assert Cascade.of(config(LADDER).cascade).efforts == ("low", "high", None)
    assert Cascade.of(config(["small", "large"]).cascade).efforts == ()
