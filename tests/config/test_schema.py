from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from semroute.config import CategoryOverride, Config, Deployment, Fallback

SECRET = "sk-proj-a1b2c3d4e5f6"


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Config().index = "x"  # type: ignore[assignment]


def test_the_fallback_is_the_large_model_unless_said_otherwise() -> None:
    assert Config().fallback == Fallback(models=("large",))


def test_deployments_of_a_model_keep_the_order_of_the_file() -> None:
    deployments = tuple(Deployment(name=name, model=model) for name, model in [("a", "m"), ("b", "n"), ("c", "m")])
    assert [d.name for d in Config(deployments=deployments).deployments_of("m")] == ["a", "c"]


def test_contradictions_are_refused_in_a_configuration_made_by_hand_too() -> None:
    twice = (Deployment(name="a", model="m"), Deployment(name="a", model="n"))
    with pytest.raises(ValidationError, match="already the name"):
        Config(deployments=twice)


def test_a_group_stands_for_its_members_and_a_model_for_itself() -> None:
    deployments = tuple(Deployment(name=name, model=model) for name, model in [("a", "m"), ("b", "n"), ("c", "o")])
    config = Config(deployments=deployments, groups={"both": ("o", "m")})
    assert (config.members("both"), config.members("n")) == (("o", "m"), ("n",))
    assert [d.name for d in config.deployments_of("both")] == ["a", "c"]
    assert config.deployments_of("nobody") == ()


@given(st.floats(min_value=-1, max_value=1))
def test_thresholds_within_minus_one_to_one_are_accepted(threshold: float) -> None:
    assert CategoryOverride(threshold=threshold).threshold == threshold


@given(st.floats().filter(lambda value: not -1 <= value <= 1))
def test_other_numbers_are_no_threshold(threshold: float) -> None:
    with pytest.raises(ValidationError):
        CategoryOverride(threshold=threshold)


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "_K", "K2"])
def test_an_environment_variable_in_capitals_is_taken(name: str) -> None:
    assert Deployment.model_validate({"name": "a", "model": "m", "api_key_env": name}).api_key_env == (name,)
    assert Deployment(name="a", model="m", api_key_env=(name, "OTHER")).api_key_env == (name, "OTHER")


def test_a_value_that_may_be_a_secret_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValidationError) as caught:
        Deployment(name="a", model="m", api_key_env=(SECRET,))
    assert SECRET not in str(caught.value)
    assert "OPENAI_API_KEY" in str(caught.value)
