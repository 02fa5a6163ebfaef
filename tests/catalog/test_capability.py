from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.catalog.capabilities import Needs, fits, model_card, strength
from semroute.config import Config, Deployment, ModelSpec

HERE = Deployment(name="a", model="m", base_url="http://localhost/v1")


def config(**spec: object) -> Config:
    return Config(models={"m": ModelSpec.model_validate(spec)}, deployments=(HERE,))


def test_unknown_properties_do_not_exclude_a_model() -> None:
    needs = Needs(frozenset({"tools", "vision", "logprobs", "json_schema"}), input_tokens=10**7)
    assert fits(HERE, Config(), needs) == fits(HERE, config(), needs) == ()


def test_a_capability_that_the_model_is_known_to_lack_is_a_reason() -> None:
    needs = Needs(frozenset({"tools", "vision"}))
    assert fits(HERE, config(capabilities=["tools"]), needs) == ('model "m" has no vision',)
    assert len(fits(HERE, config(capabilities=[]), needs)) == 2
    assert fits(HERE, config(capabilities=["vision", "tools"]), needs) == ()


def test_parameters_unsupported_by_the_wire_format_are_a_reason() -> None:
    place = Deployment(name="c", model="m", provider="anthropic")
    needs = Needs(frozenset({"logprobs"}))
    assert fits(place, config(capabilities=["logprobs"]), needs) == ("anthropic does not carry logprobs",)


def test_input_and_a_set_answer_must_fit_the_context() -> None:
    assert fits(HERE, config(context=1000), Needs(input_tokens=999, max_output_tokens=1024)) == ()
    assert fits(HERE, config(context=1000), Needs(input_tokens=1000, max_output_tokens=1024))
    bounded = Needs(input_tokens=900, max_output_tokens=101, output_is_set=True)
    assert fits(HERE, config(context=1000), bounded) == ("takes 1000 tokens, and the request may have 1001",)
    assert fits(HERE, config(context=1001), bounded) == ()


def test_the_context_comes_from_genai_prices_where_the_configuration_says_nothing() -> None:
    place = Deployment(name="a", model="m", provider="openai", upstream_model="gpt-4o")
    assert fits(place, Config(), Needs(input_tokens=200_000))
    assert not fits(place, Config(), Needs(input_tokens=100_000))
    assert not fits(place, config(context=300_000), Needs(input_tokens=200_000))


def test_a_model_card_shows_known_facts_and_the_shortest_context() -> None:
    places = (
        Deployment(name="a", model="m", provider="openai", upstream_model="gpt-4o"),
        Deployment(name="b", model="m", provider="openai", upstream_model="gpt-4"),
        HERE.model_copy(update={"name": "c"}),
    )
    bare = model_card("m", Config(deployments=places))
    assert (bare.context, bare.capabilities, dict(bare.strengths)) == (8192, None, {})
    spec = ModelSpec(context=5, capabilities=("tools",), strengths={"tools": 0.9})
    said = model_card("m", Config(models={"m": spec}, deployments=places))
    assert (said.context, said.capabilities, dict(said.strengths)) == (5, frozenset({"tools"}), {"tools": 0.9})
    assert model_card("elsewhere", Config()).context is None


def test_strength_is_the_mean_over_wanted_fields_or_one_half() -> None:
    known = config(strengths={"tools": 0.9, "long_context": 0.1, "reasoning": 1.0})
    assert strength(HERE, known, Needs(strengths=frozenset({"tools"}))) == 0.9
    assert strength(HERE, known, Needs(strengths=frozenset({"tools", "long_context"}))) == 0.5
    assert strength(HERE, known, Needs(strengths=frozenset({"tools", "vision"}))) == 0.7
    assert strength(HERE, known, Needs()) == 0.5
    assert strength(HERE, config(), Needs(strengths=frozenset({"tools"}))) == 0.5


@pytest.mark.slow
@given(
    st.dictionaries(st.sampled_from("abcd"), st.floats(0, 1)),
    st.frozensets(st.sampled_from("abcd")),
)
def test_strength_stays_between_0_and_1(strengths: dict[str, float], wanted: frozenset[str]) -> None:
    assert 0 <= strength(HERE, config(strengths=strengths), Needs(strengths=wanted)) <= 1 + 1e-12
