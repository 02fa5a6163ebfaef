"""What a call of a deployment costs by the million tokens, from the first place that knows."""

from __future__ import annotations

from datetime import datetime

from semroute.catalog.listed import Listed, listed
from semroute.config import Config, Deployment, Price


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
