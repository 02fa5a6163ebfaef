from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.catalog.prices import cost_of, estimated_cost
from semroute.config import Config, Deployment, Price
from semroute.types import Cost, Usage

FULL = Price(input=2.0, output=10.0, cached_input=0.5, cache_write=2.5)


def at(price: Price | None) -> Deployment:
    return Deployment(name="a", model="m", base_url="http://localhost/v1", price=price)


@pytest.mark.parametrize(
    ("price", "usage", "usd"),
    [
        (FULL, Usage(1_000_000, 0), 2.0),
        (FULL, Usage(0, 1_000_000), 10.0),
        (FULL, Usage(1_000_000, 0, cached_tokens=1_000_000), 0.5),
        (FULL, Usage(1_000_000, 0, cache_write_tokens=1_000_000), 2.5),
        # 600 plain at 2, 300 read at 0.5, 100 written at 2.5, 50 out at 10: 1200 + 150 + 250 + 500 millionths
        (FULL, Usage(1_000, 50, cached_tokens=300, cache_write_tokens=100), 0.0021),
        (FULL, Usage(100, 80, reasoning_tokens=60), 0.001),
        (Price(input=2.0, output=10.0), Usage(1_000, 50, cached_tokens=300, cache_write_tokens=100), 0.0025),
        (Price(input=2.0, output=10.0, cached_input=0.0), Usage(1_000, 0, cached_tokens=1_000), 0.0),
        (FULL, Usage(0, 0), 0.0),
    ],
)
def test_costs_match_a_hand_computation(price: Price, usage: Usage, usd: float) -> None:
    cost = cost_of(at(price), Config(), usage)
    assert cost is not None
    assert cost.usd == pytest.approx(usd, abs=1e-12)
    assert not cost.estimated


def test_without_a_price_there_is_no_cost() -> None:
    assert cost_of(at(None), Config(), Usage(1, 1)) is None
    assert estimated_cost(at(None), Config(), 1, 1) is None


def test_an_estimate_is_marked_as_one_and_costs_what_the_same_usage_would() -> None:
    counted = cost_of(at(FULL), Config(), Usage(1_000, 50))
    assert counted is not None
    assert estimated_cost(at(FULL), Config(), 1_000, 50) == Cost(counted.usd, estimated=True)


COUNTS = st.integers(0, 10**7)


@given(tokens=COUNTS, output=COUNTS, cached=COUNTS, written=COUNTS)
def test_no_usage_however_odd_costs_less_than_nothing(tokens: int, output: int, cached: int, written: int) -> None:
    cost = cost_of(at(FULL), Config(), Usage(tokens, output, cached, written))
    assert cost is not None
    assert cost.usd >= 0


@pytest.mark.slow
@given(tokens=st.integers(1, 10**7), output=COUNTS, more=st.integers(1, 10**6))
def test_more_tokens_cost_more_and_cached_ones_less(tokens: int, output: int, more: int) -> None:
    def usd(usage: Usage) -> float:
        cost = cost_of(at(FULL), Config(), usage)
        assert cost is not None
        return cost.usd

    assert usd(Usage(tokens + more, output)) > usd(Usage(tokens, output))
    assert usd(Usage(tokens, output + more)) > usd(Usage(tokens, output))
    assert usd(Usage(tokens, output, cached_tokens=tokens)) < usd(Usage(tokens, output))
