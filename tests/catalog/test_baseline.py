from __future__ import annotations

from typing import Any

import pytest

from semroute.catalog import StrongestModel
from semroute.config import Config
from semroute.types import Usage

USAGE = Usage(1000, 100, cached_tokens=500)


def place(name: str, model: str, price: float | None) -> dict[str, Any]:
    priced = {} if price is None else {"price": {"input": price, "output": 2 * price, "cached_input": price / 10}}
    return {"name": name, "model": model, "base_url": "http://127.0.0.1:9/v1", **priced}


def config(*places: dict[str, Any], **sections: Any) -> Config:
    return Config.model_validate({"deployments": list(places), **sections})


def test_the_strongest_model_is_the_most_expensive_at_its_cheapest_deployment() -> None:
    made = StrongestModel(config(place("a", "small", 1.0), place("b", "large", 10.0), place("c", "large", 5.0)))
    assert made.model == "large"
    cost = made.cost(USAGE)
    assert cost is not None
    assert cost.usd == pytest.approx((500 * 5.0 + 500 * 0.5 + 100 * 10.0) / 1e6)


def test_the_configuration_may_name_a_model_or_a_group() -> None:
    places = (place("a", "small", 1.0), place("b", "large", 10.0), place("c", "claude", 8.0))
    assert StrongestModel(config(*places, baseline="small")).model == "small"
    grouped = StrongestModel(config(*places, baseline="frontier", groups={"frontier": ["large", "claude"]}))
    cost = grouped.cost(Usage(1_000_000, 0))
    assert cost is not None
    assert cost.usd == pytest.approx(8.0)


def test_a_price_of_zero_is_a_price() -> None:
    cost = StrongestModel(config(place("a", "local", 0.0))).cost(USAGE)
    assert cost is not None
    assert cost.usd == 0.0


def test_without_any_price_nothing_is_known() -> None:
    made = StrongestModel(config(place("a", "mine", None)))
    assert (made.model, made.cost(USAGE)) == (None, None)
    assert StrongestModel(Config()).model is None
    named = StrongestModel(config(place("a", "mine", None), baseline="mine"))
    assert (named.model, named.cost(USAGE)) == ("mine", None)
