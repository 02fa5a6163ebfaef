"""What one call cost, or will."""

from __future__ import annotations

from datetime import datetime

from semroute.catalog.prices import price_of
from semroute.config import Config, Deployment, Price
from semroute.types import Cost, Usage

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
