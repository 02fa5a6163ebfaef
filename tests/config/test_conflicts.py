from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.config import Config, Deployment, ModelSpec, Problem
from semroute.config.conflicts import conflicts
from semroute.config.load import validate

MODELS: dict[str, Any] = {"models": {"m": {}, "n": {}}}


def only(data: dict[str, Any]) -> Problem:
    (problem,) = conflicts(data)
    assert problem.severity == "error"
    return problem


def test_a_group_of_known_models_is_no_conflict_wherever_they_are_known_from() -> None:
    assert conflicts({**MODELS, "groups": {"g": ["m", "n"]}}) == []
    assert conflicts({"deployments": [{"name": "a", "model": "x"}], "groups": {"g": ["x"]}}) == []


def test_a_member_that_is_no_model_is_refused_with_the_nearest_one() -> None:
    models: dict[str, Any] = {"models": {"small": {}, "large": {}}}
    problem = only({**models, "groups": {"g": ["large", "smal"]}})
    assert (problem.key, problem.fix) == ("groups.g.1", 'did you mean "small"?')
    assert "unknown model" in problem.message
    assert "add a deployment" in only({**models, "groups": {"g": ["xyz"]}}).fix


def test_a_group_with_the_name_of_a_model_is_refused() -> None:
    assert only({**MODELS, "groups": {"m": ["n"]}}).key == "groups.m"
    places = [{"name": "a", "model": "x"}, {"name": "b", "model": "y"}]
    assert only({"deployments": places, "groups": {"x": ["y"]}}).key == "groups.x"


def test_a_group_inside_a_group_is_refused_and_so_is_one_inside_itself() -> None:
    problem = only({**MODELS, "groups": {"g": ["m"], "h": ["n", "g"]}})
    assert (problem.key, problem.fix) == ("groups.h.1", "list its models instead")
    assert only({**MODELS, "groups": {"g": ["g"]}}).key == "groups.g.0"


def test_a_member_named_twice_is_refused_once() -> None:
    assert only({**MODELS, "groups": {"g": ["m", "n", "m"]}}).key == "groups.g.2"


def test_a_budget_must_be_of_a_key_that_a_deployment_uses() -> None:
    places = [{"name": "a", "model": "m", "api_key_env": ["FIRST_KEY", "SECOND_KEY"]}]
    assert conflicts({"deployments": places, "budgets": {"FIRST_KEY": 1, "SECOND_KEY": 1}}) == []
    problem = only({"deployments": places, "budgets": {"FRIST_KEY": 1}})
    assert (problem.key, problem.fix) == ("budgets.FRIST_KEY", 'did you mean "FIRST_KEY"?')
    assert "api_key_env" in only({"budgets": {"NOBODY": 1}}).fix


def test_the_key_that_a_providers_row_brings_counts_unless_the_deployment_names_its_own() -> None:
    place = {"name": "a", "model": "m", "provider": "anthropic"}
    budgets = {"ANTHROPIC_API_KEY": 5}
    assert conflicts({"deployments": [place], "budgets": budgets}) == []
    assert only({"deployments": [{**place, "api_key_env": "MY_OWN"}], "budgets": budgets})
    assert conflicts({"deployments": [{**place, "api_key_env": None}], "budgets": budgets}) == []


def test_a_key_named_twice_in_a_deployment_is_refused_without_repeating_it() -> None:
    problem = only({"deployments": [{"name": "a", "model": "m", "api_key_env": ["A_KEY", "B_KEY", "A_KEY"]}]})
    assert problem.key == "deployments.0.api_key_env.2"
    assert "A_KEY" not in problem.text


def test_the_judge_of_a_trial_has_a_deployment_and_a_budget() -> None:
    place = {"deployments": [{"name": "a", "model": "large"}], "groups": {"both": ["large"]}}
    for judge in ("large", "both"):
        assert conflicts({**place, "trial": {"judge": judge, "max_usd": 5}}) == []
    assert conflicts({**place, "trial": {"policy": "p.yaml"}}) == []
    (unpaid,) = conflicts({**place, "trial": {"judge": "large"}})
    assert (unpaid.key, "trial.max_usd" in str(unpaid.fix)) == ("trial.judge", True)
    (unknown,) = conflicts({**place, "trial": {"judge": "larch", "max_usd": 5}})
    assert "large" in str(unknown.fix)


def test_conflicts_of_a_file_have_lines() -> None:
    text = (
        "models: {m: {}}\ndeployments:\n  - name: a\n    model: m\n    api_key_env:\n      - A_KEY\n      - A_KEY\n"
        "groups:\n  g:\n    - m\n    - n\nbudgets:\n  B_KEY: 1\n"
    )
    config, problems = validate(text)
    assert config is None
    assert [(problem.line, problem.key) for problem in problems] == [
        (7, "deployments.0.api_key_env.1"),
        (11, "groups.g.1"),
        (13, "budgets.B_KEY"),
    ]


def test_a_configuration_built_in_code_is_validated_too() -> None:
    place = Deployment(name="a", model="m")
    with pytest.raises(ValueError, match="unknown model"):
        Config(models={"m": ModelSpec()}, deployments=(place,), groups={"g": ("n",)})
    with pytest.raises(ValueError, match="no deployment uses"):
        Config(deployments=(place,), budgets={"A_KEY": 1.0})


ANY = st.recursive(
    st.none() | st.integers() | st.text(max_size=3) | st.sampled_from(["m", "A_KEY", "openai"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["m", "model", "name", "api_key_env", "provider"]) | st.integers(), inner)
    ),
    max_leaves=10,
)


@pytest.mark.slow
@given(st.fixed_dictionaries({}, optional=dict.fromkeys(["models", "deployments", "groups", "budgets"], ANY)))
def test_values_of_any_shape_are_validated_without_a_crash(data: dict[str, Any]) -> None:
    assert all(problem.message and problem.key for problem in conflicts(data))
