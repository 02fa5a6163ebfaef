"""Prices of deployments, and the cost of calls.

The price of a deployment is its own, else its model's, else the vendor's list price.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import TYPE_CHECKING, TypeAlias

from semroute.config import Config, Deployment, Price
from semroute.types import Cost, Usage

if TYPE_CHECKING:
    from decimal import Decimal

    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ModelInfo, ModelPrice, TieredPrices


# List prices and context windows from genai-prices.
#
# Only the data bundled with the installed version is read; its updater, which fetches newer prices from the network, is
# never started, and a snapshot that another part of the process has fetched is not looked at. The data are rows such as
# "input costs 3 USD per million tokens, and 6 where the input is longer than 200,000", some of them from a date on or
# for hours of the day. See https://github.com/pydantic/genai-prices.

Steps: TypeAlias = "tuple[tuple[int, Price], ...]"
"""Prices by size of the input, longest first: each applies where the input has more tokens than its number."""

_KINDS = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cached_input": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
}
_EXTRAS = frozenset({"web_searches_kcount", "storage_searches_kcount", "cache_write_1h_mtok"})
"""Prices of extras that are charged only where they are used; semroute does not use them."""
_ALWAYS = -1
_MEDIA = ("audio", "image", "video")
"""Media with prices of their own; usage does not separate their tokens from text, so the price of text applies."""


@dataclass(frozen=True, slots=True)
class Listed:
    """Listing of a vendor's model in genai-prices.

    Attributes:
        model: its row there.
        steps: its prices, by the identity of the price object; without those that are not by token (an hour of audio, a
            page, a request).
    """

    model: ModelInfo
    steps: Mapping[int, Steps]

    @property
    def context(self) -> int | None:
        """Longest input in tokens, where it is known."""
        return self.model.context_window

    def price(self, input_tokens: int, when: datetime | None = None) -> Price | None:
        """Return the price of a call at the time ``when``; now when left out.

        ``input_tokens`` are those of its input, cached ones included.
        """
        prices = self.model.prices
        current = self.model.get_prices(when or datetime.now(UTC)) if isinstance(prices, list) else prices
        steps = self.steps.get(id(current), ())
        return next((price for start, price in steps if input_tokens > start), None)


@cache
def listed(vendor: str, upstream_model: str) -> Listed | None:
    """Return the listing of a vendor's model; None without one.

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
    """Return the listing of a model by its name alone; None without one.

    The name may follow the vendor's, as in ``openai/gpt-4o``.

    Args:
        model: the vendor's name for it.
    """
    vendor, slash, model_name = model.partition("/")
    for name, provider in ((model, None), (model_name, vendor), (model_name, None)) if slash else ((model, None),):
        try:
            row, _ = _bundled().find_provider_model(name, None, provider, None)
        except LookupError:
            continue
        entry = listed(row.id, name)
        if entry is not None and entry.steps:
            return entry
    return None


@cache
def listed_names() -> tuple[str, ...]:
    """Return the names of all models in genai-prices."""
    return tuple(sorted({model.id for provider in _bundled().providers for model in provider.models}))


@cache
def _bundled() -> DataSnapshot:
    """Return the bundled data.

    The first call takes about 0.3 s: the package has its rows as Python code, and imports its HTTP client with them.
    """
    from genai_prices.data import providers
    from genai_prices.data_snapshot import DataSnapshot

    return DataSnapshot(providers=providers, from_auto_update=False)


def _steps(row: ModelPrice) -> Steps:
    """Convert a row to plain prices; none if usage does not cover a price."""
    from genai_prices.types import TieredPrices

    components: dict[str, Decimal | TieredPrices] = {
        key: value for key, value in vars(row).items() if value is not None
    }
    by_kind = {kind: components[key] for kind, key in _KINDS.items() if key in components}
    unknown = components.keys() - _KINDS.values() - _EXTRAS
    if (components and not by_kind) or not all(_is_of_media(key) for key in unknown):
        return ()
    starts = {tier.start for rate in by_kind.values() if isinstance(rate, TieredPrices) for tier in rate.tiers}
    return tuple((start, _price_above(start, by_kind)) for start in sorted({_ALWAYS, *starts}, reverse=True))


def _is_of_media(key: str) -> bool:
    return key.endswith("_mtok") and any(medium in key for medium in _MEDIA)


def _price_above(start: int, by_kind: Mapping[str, Decimal | TieredPrices]) -> Price:
    """Return the price where the input is just longer than ``start`` tokens."""
    from genai_prices.types import TieredPrices

    dollars = {"input": 0.0, "output": 0.0}
    for kind, rate in by_kind.items():
        if isinstance(rate, TieredPrices):
            rate = next((tier.price for tier in reversed(rate.tiers) if start >= tier.start), rate.base)
        dollars[kind] = float(rate)
    return Price.model_validate(dollars)


def price_of(
    deployment: Deployment, config: Config, input_tokens: int = 0, *, at: datetime | None = None
) -> Price | None:
    """Return the price in force for one call; None where unknown.

    Args:
        deployment: the deployment that is called.
        config: the configuration that the deployment is part of.
        input_tokens: tokens of the call's input, cached ones among them: some vendors charge more for long inputs.
        at: time of the call (some prices change with a date or with the hour); now when left out.

    Returns:
        USD per million tokens; None where no price is known.
    """
    if deployment.price is not None:
        return deployment.price
    model = config.models.get(deployment.model)
    if model is not None and model.price is not None:
        return model.price
    row = listing_of(deployment)
    return None if row is None else row.price(input_tokens, at)


def listing_of(deployment: Deployment) -> Listed | None:
    """Return the listing of the deployment's model; None without one.

    A server without a ``provider`` is the vendor's only where its address is the vendor's: a model of one's own behind
    the same wire format does not cost the vendor's price, whatever its name.
    """
    vendor = deployment.vendor
    if vendor.prices is None or (deployment.provider is None and deployment.base_url != vendor.base_url):
        return None
    return listed(vendor.prices, deployment.upstream)


# Cost of a call, actual or expected.

_MILLION = 1_000_000


def cost_of(deployment: Deployment, config: Config, usage: Usage, *, at: datetime | None = None) -> Cost | None:
    """Return the cost of a call with counted tokens; None without a price.

    Cached input and input written to the cache are charged at their own prices where there are any; reasoning is a
    part of the output and charged as such. ``at`` is the time of the call; now when left out.
    """
    price = price_of(deployment, config, usage.input_tokens, at=at)
    return None if price is None else Cost(charge(price, usage))


def estimated_cost(
    deployment: Deployment, config: Config, input_tokens: int, output_tokens: int, *, at: datetime | None = None
) -> Cost | None:
    """Return the expected cost by estimated tokens, none cached.

    None without a price.
    """
    price = price_of(deployment, config, input_tokens, at=at)
    if price is None:
        return None
    return Cost((input_tokens * price.input + output_tokens * price.output) / _MILLION, estimated=True)


def charge(price: Price, usage: Usage) -> float:
    """Return the cost of a call's tokens at a price, USD."""
    cached = price.input if price.cached_input is None else price.cached_input
    cache_write_price = price.input if price.cache_write is None else price.cache_write
    # A provider that counts cached tokens next to the input, not in it, must not make the rest negative.
    uncached = max(0, usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens)
    micros = (
        uncached * price.input
        + usage.cached_tokens * cached
        + usage.cache_write_tokens * cache_write_price
        + usage.output_tokens * price.output
    )
    return micros / _MILLION


# Baseline cost: the same query at the strongest model.


class StrongestModel:
    """Baseline: the strongest model and its price.

    It is the model or group that ``baseline`` names, else the most expensive model with a deployment: a team would use
    the model that it pays most for. Created once; prices are looked up at each call, since some change with the hour.

    Args:
        config: models, prices and deployments.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self.model = config.baseline or _most_expensive(config)
        self._deployments = () if self.model is None else config.deployments_of(self.model)

    def cost(self, usage: Usage) -> Cost | None:
        """Return the baseline cost of the same tokens; None without a price.

        It is that of the strongest model's cheapest deployment. The answer is assumed to be as long as the actual one.
        Input that was read from a cache is charged as such: a cache works for the strongest model as well.
        """
        return _cheapest(self._deployments, self._config, usage)


def cheapest_cost(config: Config, name: str, usage: Usage) -> Cost | None:
    """Return the cost of a call at a model's or group's cheapest deployment.

    None where no price is known.
    """
    return _cheapest(config.deployments_of(name), config, usage)


def _cheapest(deployments: Iterable[Deployment], config: Config, usage: Usage) -> Cost | None:
    costs = [cost for deployment in deployments if (cost := cost_of(deployment, config, usage)) is not None]
    return min(costs, key=lambda cost: cost.usd, default=None)


def price_level(name: str, config: Config) -> float | None:
    """Return input and output price together at a name's cheapest deployment.

    USD per million tokens of each; None where no price is known. It orders models and groups by price.
    """
    prices = [price_of(deployment, config) for deployment in config.deployments_of(name)]
    return min((price.input + price.output for price in prices if price is not None), default=None)


def _most_expensive(config: Config) -> str | None:
    """Return the model whose cheapest deployment is the most expensive.

    None where no price is known.
    """
    names = {deployment.model for deployment in config.deployments}
    levels = {name: level for name in names if (level := price_level(name, config)) is not None}
    return max(levels, key=lambda name: (levels[name], name), default=None)
