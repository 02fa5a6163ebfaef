from __future__ import annotations

from datetime import UTC, datetime

import pytest
from genai_prices import Usage as TheirUsage
from genai_prices.data import providers
from genai_prices.types import ModelPrice, TieredPrices
from hypothesis import given, settings
from hypothesis import strategies as st

from semroute.catalog.prices import cost_of, listed
from semroute.config import VENDORS, Config, Deployment
from semroute.types import Usage

BY_ID = {provider.id: provider for provider in providers}
ROWS = {row: vendor for row, vendor in VENDORS.items() if vendor.prices is not None}
NAMES = [  # a handful of ids there do not match themselves
    (row, model.id)
    for row, vendor in ROWS.items()
    for model in BY_ID[str(vendor.prices)].models
    if listed(str(vendor.prices), model.id) is not None
]


def deployment(row: str, upstream: str) -> Deployment:
    return Deployment(name="a", model="m", provider=row, base_url="https://host/v1", upstream_model=upstream)


def test_every_vendor_that_has_a_price_list_has_models_in_it() -> None:
    assert len(ROWS) >= 10
    for row, vendor in ROWS.items():
        assert vendor.prices in BY_ID, row
        assert BY_ID[str(vendor.prices)].models, row


COUNTS = st.integers(0, 400_000)
TIMES = st.datetimes(datetime(2024, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC))


@pytest.mark.slow
@settings(max_examples=400)
@given(name=st.sampled_from(NAMES), plain=COUNTS, cached=COUNTS, written=COUNTS, output=COUNTS, at=TIMES)
def test_costs_equal_those_of_genai_prices(
    name: tuple[str, str], plain: int, cached: int, written: int, output: int, at: datetime
) -> None:
    row, upstream = name
    usage = Usage(plain + cached + written, output, cached, written)
    cost = cost_of(deployment(row, upstream), Config(), usage, at=at)
    found = listed(str(VENDORS[row].prices), upstream)
    assert found is not None
    if cost is None:
        assert found.price(usage.input_tokens, at) is None
        return
    theirs = found.model.calc_price(
        TheirUsage(
            input_tokens=usage.input_tokens,
            output_tokens=output,
            cache_read_tokens=cached,
            cache_write_tokens=written,
        ),
        BY_ID[str(VENDORS[row].prices)],
        genai_request_timestamp=at,
    )
    assert cost.usd == pytest.approx(float(theirs.total_price), rel=1e-9, abs=1e-15)


def test_nearly_every_model_that_is_charged_by_the_token_has_a_price() -> None:
    by_token = [(row, name) for row, name in NAMES if _has_token_prices(row, name)]
    without = [
        name for row, name in by_token if (found := listed(str(VENDORS[row].prices), name)) and not found.price(1)
    ]
    assert len(by_token) > 500
    assert len(without) < 0.01 * len(by_token)


def _has_token_prices(row: str, name: str) -> bool:
    found = listed(str(VENDORS[row].prices), name)
    assert found is not None
    prices = found.model.prices
    standard = prices if isinstance(prices, ModelPrice) else prices[-1].prices
    return standard.input_mtok is not None and standard.output_mtok is not None


@pytest.mark.parametrize("name", ["whisper-1", "tts-1"])
def test_a_model_that_is_charged_by_the_hour_or_the_letter_has_no_price_by_the_token(name: str) -> None:
    found = listed("openai", name)
    assert found is not None
    assert found.price(1000) is None


def test_a_longer_input_than_a_tier_starts_at_is_charged_at_that_tier_and_one_of_that_length_is_not() -> None:
    found = listed("anthropic", "claude-sonnet-4-5")
    assert found is not None
    assert isinstance(found.model.prices, ModelPrice)
    tiers = found.model.prices.input_mtok
    assert isinstance(tiers, TieredPrices)
    below, above = found.price(tiers.tiers[0].start), found.price(tiers.tiers[0].start + 1)
    assert below is not None
    assert above is not None
    assert (below.input, above.input) == (float(tiers.base), float(tiers.tiers[0].price))
    assert above.output > below.output


def test_a_price_by_the_hour_of_the_day_is_the_one_of_that_hour() -> None:
    found = listed("deepseek", "deepseek-chat")
    assert found is not None
    prices = {found.price(1, datetime(2025, 6, 1, hour, 1, tzinfo=UTC)) for hour in range(24)}
    assert len(prices) == 2


def test_unlisted_models_have_no_price_entry() -> None:
    assert listed("openai", "no-such-model") is None
    assert listed("no-such-vendor", "gpt-4o") is None


def test_a_snapshot_that_somebody_else_fetched_is_not_looked_at() -> None:
    from genai_prices.data_snapshot import DataSnapshot, set_custom_snapshot

    listed.cache_clear()
    set_custom_snapshot(DataSnapshot(providers=[], from_auto_update=True))
    try:
        assert listed("openai", "gpt-4o") is not None
    finally:
        set_custom_snapshot(None)
