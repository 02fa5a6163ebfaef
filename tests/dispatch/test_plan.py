from __future__ import annotations

from typing import Any

import pytest

from semroute.config import Config
from semroute.dispatch import Constraints
from semroute.dispatch.plan import DispatchPlan, Planner
from semroute.errors import CapabilityError, NoDeploymentError
from semroute.types import Request, Tool

HELLO = Request(({"role": "user", "content": "hello"},), max_tokens=50)


def config(**sections: Any) -> Config:
    places = [
        {"name": "a", "model": "small", "base_url": "http://127.0.0.1:1/v1"},
        {"name": "b", "model": "large", "base_url": "http://127.0.0.1:1/v1", "api_key_env": ["ONE", "TWO"]},
        {"name": "c", "model": "claude", "provider": "anthropic", "limits": {"rpm": 5}},
    ]
    return Config.model_validate({"deployments": places, **sections})


def plan(
    *candidates: str, request: Request = HELLO, constraints: Constraints | None = None, **sections: Any
) -> DispatchPlan:
    env = {"ONE": "1", "TWO": "2", "ANTHROPIC_API_KEY": "3"}
    return Planner(config(**sections), env).plan(request, candidates, constraints or Constraints())


def names(found: DispatchPlan) -> list[list[str]]:
    return [[candidate.endpoint.key for candidate in stage] for stage in found.stages]


def test_each_candidate_is_a_stage_and_each_key_a_place() -> None:
    assert names(plan("large", "small")) == [["b|ONE", "b|TWO"], ["a|"]]


def test_a_group_is_one_stage_and_a_repeated_candidate_counts_once() -> None:
    groups = {"frontier": ["large", "claude"]}
    found = plan("frontier", "frontier", groups=groups)
    assert names(found) == [["b|ONE", "b|TWO", "c|ANTHROPIC_API_KEY"]]


def test_a_candidate_without_a_deployment_is_no_stage() -> None:
    assert names(plan("coder", "small")) == [["a|"]]


def test_limits_and_the_budget_of_the_key_come_with_the_place() -> None:
    models = {"small": {}, "large": {}, "claude": {"price": {"input": 1.0, "output": 2.0}}}
    (candidate,) = plan("claude", budgets={"ANTHROPIC_API_KEY": 7.0}, models=models).candidates
    assert (candidate.endpoint.rpm, candidate.endpoint.tpm, candidate.endpoint.budget_usd) == (5, None, 7.0)


def test_a_call_reserves_its_input_and_its_longest_answer() -> None:
    found = plan("small")
    assert found.tokens == found.needs.input_tokens + 50


def test_a_pinned_deployment_is_found_whatever_the_candidates() -> None:
    assert names(plan("small", constraints=Constraints(deployment="c"))) == [["c|ANTHROPIC_API_KEY"]]


def test_what_the_wire_format_lacks_leaves_the_deployment_out() -> None:
    request = Request(HELLO.messages, logprobs=True)
    assert names(plan("claude", "small", request=request)) == [["a|"]]
    with pytest.raises(CapabilityError, match="logprobs"):
        plan("claude", request=request)


def test_what_the_model_lacks_leaves_it_out() -> None:
    request = Request(HELLO.messages, tools=(Tool("f"),))
    models = {"small": {"capabilities": ["vision"]}, "large": {}, "claude": {}}
    assert names(plan("small", "claude", request=request, models=models)) == [["c|ANTHROPIC_API_KEY"]]


def test_a_request_that_is_longer_than_the_context_is_not_sent() -> None:
    models = {"small": {"context": 100}, "large": {}, "claude": {}}
    request = Request(({"role": "user", "content": "many words " * 200},))
    with pytest.raises(CapabilityError, match="tokens"):
        plan("small", request=request, models=models)


def test_reasons_of_both_kinds_are_no_matter_of_capability_alone() -> None:
    models = {"small": {"capabilities": []}, "large": {}, "claude": {}}
    request = Request(HELLO.messages, tools=(Tool("f"),))
    with pytest.raises(NoDeploymentError, match="deny list") as caught:
        plan("small", request=request, models=models, constraints=Constraints(deny=frozenset({"a"})))
    assert "tools" in str(caught.value)


def test_a_key_that_is_not_set_is_left_out_beside_one_that_is() -> None:
    found = Planner(config(), {"TWO": "2"}).plan(HELLO, ("large",), Constraints())
    assert names(found) == [["b|TWO"]]


def test_no_key_stands_in_the_repr_of_a_plan() -> None:
    found = Planner(config(), {"TWO": "sk-very-secret"}).plan(HELLO, ("large",), Constraints())
    assert found.candidates[0].target.key == "sk-very-secret"
    assert "sk-very-secret" not in repr(found)


def test_a_budget_cannot_be_kept_without_a_price() -> None:
    with pytest.raises(NoDeploymentError, match="budget: add price"):
        plan("claude", budgets={"ANTHROPIC_API_KEY": 7.0})


def test_a_group_may_be_allowed_and_denied() -> None:
    groups = {"frontier": ["large", "claude"]}
    allowed = plan("small", "large", groups=groups, constraints=Constraints(allow=frozenset({"frontier"})))
    denied = plan("small", "large", groups=groups, constraints=Constraints(deny=frozenset({"frontier"})))
    assert (names(allowed), names(denied)) == ([["b|ONE", "b|TWO"]], [["a|"]])


def test_a_deployment_that_there_is_not_is_named_with_those_that_there_are() -> None:
    with pytest.raises(NoDeploymentError, match='"typo"; there are a, b, c'):
        plan("small", constraints=Constraints(deployment="typo"))


def test_what_a_caller_wants_counts_among_the_models_strengths() -> None:
    models = {"small": {"strengths": {"reasoning": 0.3}}, "large": {"strengths": {"reasoning": 0.9}}, "claude": {}}
    wanted = plan("small", "large", "claude", constraints=Constraints(wants=frozenset({"reasoning"})), models=models)
    strengths = {candidate.endpoint.deployment: candidate.strength for candidate in wanted.candidates}
    assert strengths == {"a": 0.3, "b": 0.9, "c": 0.5}
    assert {candidate.strength for candidate in plan("small", "large", models=models).candidates} == {0.5}


def test_the_preferred_deployment_is_a_stage_before_the_others_of_its_model() -> None:
    groups = {"frontier": ["large", "claude"]}
    found = plan("frontier", "small", groups=groups, constraints=Constraints(prefer="c"))
    assert names(found) == [["c|ANTHROPIC_API_KEY"], ["b|ONE", "b|TWO"], ["a|"]]


@pytest.mark.parametrize("prefer", ["a", "unknown", None])
def test_a_preference_for_what_is_no_candidate_changes_nothing(prefer: str | None) -> None:
    assert names(plan("large", "claude", constraints=Constraints(prefer=prefer))) == names(plan("large", "claude"))
