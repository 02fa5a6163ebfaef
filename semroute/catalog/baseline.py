"""What a query would have cost at the strongest model: the bill that routing is held against."""

from __future__ import annotations

from semroute.catalog.cost import cost_of
from semroute.catalog.prices import price_of
from semroute.config import Config
from semroute.types import Cost, Usage


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
