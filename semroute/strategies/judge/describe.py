"""What a judge is told of a candidate: the user's words, or what the configuration lets one say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from semroute.catalog import price_of
from semroute.config import Config, Price


def descriptions(candidates: Iterable[str], config: Config, categories: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """A line for each candidate, without its name: a name is what an injected instruction would ask for.

    Args:
        candidates: models and groups.
        config: descriptions, strengths, prices.
        categories: models of each category in order.
    """
    return {name: _description(name, config, categories) for name in candidates}


def _description(name: str, config: Config, categories: Mapping[str, Sequence[str]]) -> str:
    members = config.members(name)
    own = [spec.description for model in members if (spec := config.models.get(model)) and spec.description]
    strengths = _strengths(members, config)
    served = [category for category, models in categories.items() if name in models]
    facts = [
        " / ".join(" ".join(words.split()) for words in dict.fromkeys(own)),
        _price(name, config),
        f"strengths from 0 to 1: {strengths}" if strengths else "",
        f"used for {', '.join(served)}" if served and not own else "",
    ]
    return "; ".join(filter(None, facts)) or "nothing is known of it"


def _strengths(members: Sequence[str], config: Config) -> str:
    best: dict[str, float] = {}
    for model in members:
        spec = config.models.get(model)
        for field, strength in (spec.strengths if spec else {}).items():
            best[field] = max(strength, best.get(field, 0.0))
    return ", ".join(f"{field} {strength:g}" for field, strength in sorted(best.items()))


def _price(name: str, config: Config) -> str:
    """The price of the cheapest place, by input and output together."""
    prices = [price for place in config.deployments_of(name) if (price := price_of(place, config)) is not None]
    if not prices:
        # What has no deployment here may still have a price of its own.
        prices = [spec.price for model in config.members(name) if (spec := config.models.get(model)) and spec.price]
    if not prices:
        return ""
    cheapest: Price = min(prices, key=lambda price: price.input + price.output)
    return f"costs {cheapest.input:g} USD per million tokens read and {cheapest.output:g} per million written"
