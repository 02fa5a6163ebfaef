from __future__ import annotations

from semroute.catalog.capabilities import check_catalog
from semroute.config import Config, Deployment, ModelSpec, Price
from semroute.config.load import template, validate

LOCAL = Deployment(name="a", model="m", base_url="http://localhost/v1")


def test_an_unknown_price_is_a_warning_with_the_remedy() -> None:
    priced = LOCAL.model_copy(update={"name": "b", "price": Price(input=0, output=0)})
    (problem,) = check_catalog(Config(models={"m": ModelSpec(context=1)}, deployments=(priced, LOCAL)))
    assert (problem.severity, problem.key) == ("warning", "deployments.1")
    assert 'no price is known for model "m"' in problem.message
    assert "price: {input: …, output: …}" in problem.fix


def test_an_unknown_context_is_one_warning_for_all_deployments() -> None:
    again = LOCAL.model_copy(update={"name": "b"})
    config = Config(models={"m": ModelSpec(price=Price(input=1, output=1))}, deployments=(LOCAL, again))
    (problem,) = check_catalog(config)
    assert (problem.severity, problem.key) == ("warning", "models.m")
    assert "context" in problem.fix


def test_a_budgeted_tier_of_unknown_price_is_an_error() -> None:
    dear = LOCAL.model_copy(update={"name": "b", "model": "n", "price": Price(input=1, output=1)})
    cascade = {"tiers": ["m", "n"], "max_usd": 0.1}
    known = {"models": {"m": ModelSpec(context=1), "n": ModelSpec(context=1)}, "deployments": (LOCAL, dear)}
    first, second = check_catalog(Config.model_validate({**known, "cascade": cascade}))
    assert (first.severity, first.key, second.severity) == ("error", "cascade.tiers.0", "warning")
    assert "left out" in first.message
    own = Config.model_validate({**known, "categories": {"code": {"cascade": cascade}}})
    assert [one.key for one in check_catalog(own) if one.severity == "error"] == ["categories.code.cascade.tiers.0"]
    free = {**cascade, "max_usd": None}
    assert [one.severity for one in check_catalog(Config.model_validate({**known, "cascade": free}))] == ["warning"]


def test_models_known_to_genai_prices_need_no_configuration() -> None:
    assert check_catalog(Config(deployments=(Deployment(name="a", model="gpt-4o", provider="openai"),))) == []


def test_all_that_the_template_names_has_a_price_and_a_context() -> None:
    config, problems = validate(template())
    assert problems == ()
    assert config is not None
    assert check_catalog(config) == []
