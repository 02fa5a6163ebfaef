"""Catalog of models and deployments: prices, tokens, capabilities."""

from __future__ import annotations

from semroute.catalog.capabilities import (
    DEFAULT_OUTPUT_TOKENS,
    ModelCard,
    Needs,
    capabilities_of,
    fits,
    model_card,
    needs_of,
    strength,
)
from semroute.catalog.parameters import (
    Parameters,
    carried,
    carried_effort,
    parameters_of,
    takes_native,
    thinks_by_budget,
    unsaid,
)
from semroute.catalog.prices import (
    StrongestModel,
    charge,
    cheapest_cost,
    cost_of,
    estimated_cost,
    price_level,
    price_of,
)
from semroute.catalog.tokens import IMAGE_TOKENS, estimate_query_tokens, estimate_text_tokens, estimate_tokens

__all__ = [
    "DEFAULT_OUTPUT_TOKENS",
    "IMAGE_TOKENS",
    "ModelCard",
    "Needs",
    "Parameters",
    "StrongestModel",
    "capabilities_of",
    "carried",
    "carried_effort",
    "charge",
    "cheapest_cost",
    "cost_of",
    "estimate_query_tokens",
    "estimate_text_tokens",
    "estimate_tokens",
    "estimated_cost",
    "fits",
    "model_card",
    "needs_of",
    "parameters_of",
    "price_level",
    "price_of",
    "strength",
    "takes_native",
    "thinks_by_budget",
    "unsaid",
]
