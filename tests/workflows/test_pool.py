from __future__ import annotations

import pytest

from semroute.catalog import needs_of
from semroute.catalog.prices import listed_by_name, listed_names
from semroute.config import Config, Price
from semroute.config.load import template, validate
from semroute.types import Request, Usage
from semroute.workflows.pool import PricedPool

USAGE = Usage(1_000_000, 0)
IMAGE = Request(({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]},))
TEXT = Request(({"role": "user", "content": "hi"},))


def pool(text: str, *names: str, **prices: float) -> PricedPool:
    config, problems = validate(text)
    assert config is not None, problems
    return PricedPool(config, {name: Price(input=usd, output=usd) for name, usd in prices.items()}, names)


CONFIG = """
models: {small: {capabilities: []}, large: {}, mine: {}, own: {price: {input: 3, output: 3}}}
groups: {both: [small, large]}
deployments:
  - {name: cheap, model: small, base_url: "http://h/v1", upstream_model: qwen, price: {input: 1, output: 1}}
  - {name: dear, model: small, price: {input: 2, output: 2}}
  - {name: gpt, model: large, upstream_model: gpt-4o}
  - {name: unpriced, model: mine, base_url: "http://h/v1", upstream_model: mine}
"""


@pytest.mark.parametrize(
    ("name", "usd"),
    [
        ("small", 1.0),  # the cheapest place
        ("dear", 2.0),  # a deployment's name
        ("qwen", 1.0),  # a provider's name for a model of the pool
        ("both", 1.0),
        ("large", 2.5),  # the list price
        ("gpt-4o", 2.5),
        ("own", 3.0),
        ("gpt-4o-mini", 0.15),  # no model of the pool: the vendor's
        ("openai/gpt-4o-mini", 0.15),
        ("mine", None),
        ("nobody's", None),
    ],
)
def test_a_name_is_priced_by_the_first_place_that_knows_it(name: str, usd: float | None) -> None:
    found = pool(CONFIG).cost(name, USAGE)
    assert found == (None if usd is None else pytest.approx(usd))


def test_a_given_price_goes_over_every_other() -> None:
    assert pool(CONFIG, small=7, large=8).cost("small", USAGE) == 7
    assert pool(CONFIG, both=9).cost("large", USAGE) == 9
    assert pool("", **{"gpt-4o": 4}).cost("gpt-4o", USAGE) == 4


def test_the_model_that_is_called_has_a_deployment_and_can_take_the_request() -> None:
    made = pool(CONFIG)
    assert made.call(("coder", "small", "large"), needs_of(TEXT), USAGE) == ("small", 1.0)
    assert made.call(("small", "large"), needs_of(IMAGE), USAGE) == ("large", 2.5)
    assert made.call(("coder",), needs_of(TEXT), USAGE) == ("coder", None)


def test_without_deployments_the_first_candidate_is_called_at_the_example_of_the_template() -> None:
    made = pool("", "small", "large")
    template_config, _ = validate(template())
    assert template_config is not None
    for place in template_config.deployments:
        assert made.example(place.model) == place.upstream
        listed = listed_by_name(place.upstream)
        assert listed is not None, place.upstream
        assert made.price(place.model) == listed.price(0)
    assert made.call(("coder", "large"), needs_of(TEXT), USAGE)[0] == "coder"
    assert pool("models: {small: {price: {input: 5, output: 5}}}", "small").example("small") is None
    assert pool("", small=2).example("small") is None
    assert pool(CONFIG).example("coder") is None


def test_the_strongest_is_the_baseline_or_the_dearest_that_can_be_called() -> None:
    assert pool(CONFIG).strongest() == "large"
    assert pool(CONFIG + "baseline: small\n").strongest() == "small"
    assert pool(CONFIG, small=99).strongest() == "small"
    assert pool(CONFIG, somebody=99).strongest() == "large"
    assert pool("", "gpt-4o-mini", "gpt-4o").strongest() == "gpt-4o"
    assert pool("", "nobody's").strongest() is None
    assert PricedPool(Config(), {}).strongest() is None


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("smal", "small"),
        ("gpt4o", "gpt-4o"),
        ("gpt-4o-minni", "gpt-4o-mini"),
        ("claude-sonet-4-5", "claude-sonnet-4-5"),
    ],
)
def test_an_unknown_name_gets_the_nearest_known_one(name: str, meant: str) -> None:
    assert pool(CONFIG).meant(name) == meant


def test_words_that_are_no_model_of_a_vendor_have_no_list_price() -> None:
    for name in ("small", "large", "coder", "writer", "auto", "", "/", "a/b/c"):
        assert listed_by_name(name) is None
    assert "gpt-4o" in listed_names()
