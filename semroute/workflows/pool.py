"""Candidate models with their prices.

Prices are the caller's, those of the configuration, or the vendors' list prices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, lru_cache

from semroute.catalog import Needs, charge, cost_of, fits, price_of
from semroute.catalog.prices import listed_by_name, listed_names
from semroute.config import Config, Deployment, Price
from semroute.config.load import template, validate
from semroute.text.names import nearest
from semroute.types import Usage

MOST_NAMES = 1000
"""Maximum names whose deployments are cached."""
_TYPICAL = Usage(1000, 1000)
"""Usage by whose cost models are compared: input and output weigh the same, below any long-input price."""


class PricedPool:
    """Models of a configuration, each with its price if known.

    A price is the caller's, else that of the cheapest deployment, else the model's own, else the vendor's list price of
    a model of that name. Where the configuration names no deployments, a logical name of the shipped categories that
    still has none is priced as the deployment that ``semroute init`` writes for it.

    Args:
        config: models, groups and deployments.
        prices: USD per million tokens by name; they override all others.
        names: models of the categories and the fallback.
    """

    def __init__(self, config: Config, prices: Mapping[str, Price], names: Sequence[str] = ()) -> None:
        self.has_deployments = bool(config.deployments)
        self._examples: dict[str, Deployment] = {}
        priced = _with_prices(config, prices)
        if not self.has_deployments:
            own = {place.model for place in priced.deployments}
            own |= {name for name, spec in config.models.items() if spec.price is not None}
            self._examples = {name: place for name, place in _example_places().items() if name not in own}
            priced = priced.model_copy(update={"deployments": (*priced.deployments, *self._examples.values())})
        self._config = priced
        self._served = lru_cache(MOST_NAMES)(priced.deployments_of)
        self._places = lru_cache(MOST_NAMES)(self._meant_places)
        self._own = frozenset((*names, *(place.model for place in config.deployments), *config.models, *config.groups))
        # If there are deployments, a model without one is never called.
        self._callable = frozenset({place.model for place in config.deployments} or names)

    def call(self, candidates: Sequence[str], needs: Needs, usage: Usage) -> tuple[str, float | None]:
        """Return the candidate to call and its cost in USD; None without a price.

        If there are deployments, it is the first candidate with one that supports the request.
        """
        for name in candidates if self.has_deployments else ():
            places = [place for place in self._served(name) if not fits(place, self._config, needs)]
            if places:
                costs = [cost.usd for place in places if (cost := cost_of(place, self._config, usage)) is not None]
                return name, min(costs, default=None)
        return candidates[0], self.cost(candidates[0], usage)

    def cost(self, name: str, usage: Usage) -> float | None:
        """Return the USD of a call; None without a price.

        ``name`` is a model, group or deployment, or a vendor's model.
        """
        places = self._places(name)
        if places:
            costs = [cost.usd for place in places if (cost := cost_of(place, self._config, usage)) is not None]
            return min(costs, default=None)
        price = self._list_price(name, usage.input_tokens)
        return None if price is None else charge(price, usage)

    def price(self, name: str) -> Price | None:
        """Return the short-input price of a model, USD per million tokens."""
        prices = [price for place in self._places(name) if (price := price_of(place, self._config)) is not None]
        if prices:
            return min(prices, key=lambda price: price.input + price.output)
        return None if self._places(name) else self._list_price(name, 0)

    def example(self, name: str) -> str | None:
        """Return the vendor's model whose price is assumed; None if none is."""
        place = self._examples.get(name)
        return None if place is None else place.upstream

    def strongest(self) -> str | None:
        """Return the configured baseline, or else the most expensive model.

        None if no price is known.
        """
        if self._config.baseline is not None:
            return self._config.baseline
        costs = {name: cost for name in self._callable if (cost := self.cost(name, _TYPICAL)) is not None}
        return max(costs, key=lambda name: (costs[name], name), default=None)

    def knows(self, name: str) -> bool:
        """Return True if a name is in the pool or a vendor's.

        A name that has only a price does not count.
        """
        return name in self._own or listed_by_name(name) is not None

    def meant(self, name: str) -> str | None:
        """Return the known name nearest to an unknown one."""
        known = {*self._own, *listed_names()}
        known |= {word for place in self._config.deployments for word in (place.name, place.upstream)}
        known -= {name, f"price of {name}"}
        return nearest(name, known) or nearest(name.rpartition("/")[2], known)

    def _meant_places(self, name: str) -> tuple[Deployment, ...]:
        """Return the deployments of a name.

        These are those of a model or group, else of that name, or of a vendor's model.
        """
        found = self._served(name)
        if found:
            return found
        named = tuple(place for place in self._config.deployments if place.name == name)
        return named or tuple(place for place in self._config.deployments if place.upstream == name)

    def _list_price(self, name: str, input_tokens: int) -> Price | None:
        spec = self._config.models.get(name)
        if spec is not None and spec.price is not None:
            return spec.price
        row = listed_by_name(name)
        return None if row is None else row.price(input_tokens)


def _with_prices(config: Config, prices: Mapping[str, Price]) -> Config:
    """Return the configuration with prices overriding its deployments'.

    A name without a deployment gets one.
    """
    wanted = {member: price for name, price in prices.items() for member in config.members(name)}
    served = {place.model for place in config.deployments}
    places = tuple(
        place.model_copy(update={"price": wanted[place.model]}) if place.model in wanted else place
        for place in config.deployments
    )
    added = tuple(
        Deployment(name=f"price of {name}", model=name, price=price)
        for name, price in wanted.items()
        if name not in served
    )
    return config.model_copy(update={"deployments": (*places, *added)})


@cache
def _example_places() -> dict[str, Deployment]:
    """Return the deployments in the file that ``semroute init`` writes.

    They are keyed by logical model.
    """
    config, _ = validate(template())
    assert config is not None  # a test ensures that it exists
    return {place.model: place for place in config.deployments}
