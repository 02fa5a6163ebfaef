"""What genai-prices knows of a vendor's model: prices in force, and the context window.

Only the data bundled with the installed version is read; its updater, which fetches newer prices from the network, is
never started, and a snapshot that another part of the process has fetched is not looked at. The data are rows such as
"input costs 3 USD per million tokens, and 6 where the input is longer than 200,000", some of them from a date on or
for hours of the day. See https://github.com/pydantic/genai-prices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import TYPE_CHECKING, TypeAlias

from semroute.config import Price

if TYPE_CHECKING:
    from decimal import Decimal

    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ModelInfo, ModelPrice, TieredPrices

Steps: TypeAlias = "tuple[tuple[int, Price], ...]"
"""Prices by size of the input, longest first: each holds where the input has more tokens than its number."""

_KINDS = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cached_input": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
}
_EXTRAS = frozenset({"web_searches_kcount", "storage_searches_kcount", "cache_write_1h_mtok"})
"""Prices of what is charged only where it is used, and semroute does not use it."""
_ALWAYS = -1
_MEDIA = ("audio", "image", "video")
"""Media have prices of their own beside those of text; usage does not tell their tokens from text, so text's count."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A vendor's model in genai-prices.

    Attributes:
        model: its row there.
        steps: the prices that the row can give, by the identity of the price object; without those that are not by
            token (an hour of audio, a page, a request).
    """

    model: ModelInfo
    steps: Mapping[int, Steps]

    @property
    def context(self) -> int | None:
        """The longest input in tokens, where it is known."""
        return self.model.context_window

    def price(self, input_tokens: int, at: datetime | None = None) -> Price | None:
        """The price of a call with ``input_tokens`` tokens of input, cached ones among them, ``at`` a time (now)."""
        prices = self.model.prices
        in_force = self.model.get_prices(at or datetime.now(UTC)) if isinstance(prices, list) else prices
        steps = self.steps.get(id(in_force), ())
        return next((price for start, price in steps if input_tokens > start), None)


@cache
def listed(vendor: str, upstream_model: str) -> Listed | None:
    """The row of a vendor's model; None where genai-prices has none.

    Args:
        vendor: the vendor's name in genai-prices.
        upstream_model: the vendor's name for the model.
    """
    try:
        _, model = _bundled().find_provider_model(upstream_model, None, vendor, None)
    except LookupError:
        return None
    rows = [model.prices] if not isinstance(model.prices, list) else [row.prices for row in model.prices]
    return Listed(model, {id(row): steps for row in rows if (steps := _steps(row))})


@lru_cache(maxsize=1024)
def listed_by_name(model: str) -> Listed | None:
    """Return the row of a model named without its vendor, or behind it as in ``openai/gpt-4o``; None without one.

    Args:
        model: the vendor's name for it.
    """
    vendor, slash, rest = model.partition("/")
    for name, provider in ((model, None), (rest, vendor), (rest, None)) if slash else ((model, None),):
        try:
            row, _ = _bundled().find_provider_model(name, None, provider, None)
        except LookupError:
            continue
        found = listed(row.id, name)
        if found is not None and found.steps:
            return found
    return None


@cache
def listed_names() -> tuple[str, ...]:
    """Return the names of all models in genai-prices."""
    return tuple(sorted({model.id for provider in _bundled().providers for model in provider.models}))


@cache
def _bundled() -> DataSnapshot:
    """Takes about 0.3 s the first time: the package brings its rows as Python code, and its HTTP client with them."""
    from genai_prices.data import providers
    from genai_prices.data_snapshot import DataSnapshot

    return DataSnapshot(providers=providers, from_auto_update=False)


def _steps(row: ModelPrice) -> Steps:
    """A row as plain prices; none where something is priced that usage does not tell."""
    from genai_prices.types import TieredPrices

    said: dict[str, Decimal | TieredPrices] = {key: value for key, value in vars(row).items() if value is not None}
    by_kind = {kind: said[key] for kind, key in _KINDS.items() if key in said}
    others = said.keys() - _KINDS.values() - _EXTRAS
    if (said and not by_kind) or not all(_is_of_media(key) for key in others):
        return ()
    starts = {tier.start for rate in by_kind.values() if isinstance(rate, TieredPrices) for tier in rate.tiers}
    return tuple((start, _price_above(start, by_kind)) for start in sorted({_ALWAYS, *starts}, reverse=True))


def _is_of_media(key: str) -> bool:
    return key.endswith("_mtok") and any(medium in key for medium in _MEDIA)


def _price_above(start: int, by_kind: Mapping[str, Decimal | TieredPrices]) -> Price:
    """The price where the input is just longer than ``start`` tokens."""
    from genai_prices.types import TieredPrices

    dollars = {"input": 0.0, "output": 0.0}
    for kind, rate in by_kind.items():
        if isinstance(rate, TieredPrices):
            rate = next((tier.price for tier in reversed(rate.tiers) if start >= tier.start), rate.base)
        dollars[kind] = float(rate)
    return Price.model_validate(dollars)
