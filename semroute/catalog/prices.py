"""What a call of a deployment costs by the million tokens, from the first place that knows."""

from __future__ import annotations

from collections.abc import Mapping
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


# What genai-prices knows of a vendor's model: prices in force, and the context window.
#
# Only the data bundled with the installed version is read; its updater, which fetches newer prices from the network, is
# never started, and a snapshot that another part of the process has fetched is not looked at. The data are rows such as
# "input costs 3 USD per million tokens, and 6 where the input is longer than 200,000", some of them from a date on or
# for hours of the day. See https://github.com/pydantic/genai-prices.

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


def price_of(
    deployment: Deployment, config: Config, input_tokens: int = 0, *, at: datetime | None = None
) -> Price | None:
    """The price in force for one call: the deployment's own, else its model's, else the vendor's list price.

    Args:
        deployment: where the call goes.
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
    """The row of the deployment's model in genai-prices; None where it has none.

    A server without a ``provider`` is the vendor's only where its address is the vendor's: a model of one's own behind
    the same wire format costs not what the vendor asks, whatever its name.
    """
    vendor = deployment.vendor
    if vendor.prices is None or (deployment.provider is None and deployment.base_url != vendor.base_url):
        return None
    return listed(vendor.prices, deployment.upstream)


# What one call cost, or will.

_MILLION = 1_000_000


def cost_of(deployment: Deployment, config: Config, usage: Usage, *, at: datetime | None = None) -> Cost | None:
    """The cost of a call whose tokens the provider counted; None where no price is known.

    Cached input and input written to the cache are charged at their own prices where there are any; reasoning is a
    part of the output and charged as such. ``at`` is the time of the call; now when left out.
    """
    price = price_of(deployment, config, usage.input_tokens, at=at)
    return None if price is None else Cost(charge(price, usage))


def estimated_cost(
    deployment: Deployment, config: Config, input_tokens: int, output_tokens: int, *, at: datetime | None = None
) -> Cost | None:
    """The cost of a call by numbers of tokens that are not counted but estimated, none of them cached."""
    price = price_of(deployment, config, input_tokens, at=at)
    if price is None:
        return None
    return Cost((input_tokens * price.input + output_tokens * price.output) / _MILLION, estimated=True)


def charge(price: Price, usage: Usage) -> float:
    """Return the USD that tokens cost at a price."""
    cached = price.input if price.cached_input is None else price.cached_input
    written = price.input if price.cache_write is None else price.cache_write
    # A provider that counts cached tokens beside the input, not in it, must not make the rest negative.
    plain = max(0, usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens)
    micros = (
        plain * price.input
        + usage.cached_tokens * cached
        + usage.cache_write_tokens * written
        + usage.output_tokens * price.output
    )
    return micros / _MILLION


# What a query would have cost at the strongest model: the bill that routing is held against.


class StrongestModel:
    """The strongest model and its price.

    It is the model or group that ``baseline`` names, else the model that costs most among those with a deployment: what
    a team pays most for is what it would use for everything. Made once; prices are looked up at each call, since some
    change with the hour.

    Args:
        config: models, prices and deployments.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self.model = config.baseline or _dearest(config)

    def cost(self, usage: Usage) -> Cost | None:
        """What the same tokens would have cost at the cheapest place of the strongest model; None without a price.

        The answer is taken to be as long as the one that was given. Input that was read from a cache is charged as
        such: a cache works for the strongest model as well.
        """
        return None if self.model is None else cheapest_cost(self._config, self.model, usage)


def cheapest_cost(config: Config, name: str, usage: Usage) -> Cost | None:
    """What a call with these tokens costs at the cheapest place of a model or group; None where no price is known."""
    costs = [cost for place in config.deployments_of(name) if (cost := cost_of(place, config, usage)) is not None]
    return min(costs, key=lambda cost: cost.usd, default=None)


def _dearest(config: Config) -> str | None:
    """The model whose cheapest place asks most for input and output together; None where no price is known."""
    cheapest: dict[str, float] = {}
    for place in config.deployments:
        price = price_of(place, config)
        if price is not None:
            asked = price.input + price.output
            cheapest[place.model] = min(asked, cheapest.get(place.model, asked))
    return max(cheapest, key=lambda model: (cheapest[model], model), default=None)
