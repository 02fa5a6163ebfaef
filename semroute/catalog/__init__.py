"""What is known of models and of the places where they are called: prices, tokens, capabilities."""

from __future__ import annotations

from semroute.catalog.baseline import StrongestModel, cheapest_cost
from semroute.catalog.capability import ModelCard, fits, model_card, strength
from semroute.catalog.cost import charge, cost_of, estimated_cost
from semroute.catalog.needs import DEFAULT_OUTPUT_TOKENS, Needs, capabilities_of, needs_of
from semroute.catalog.parameters import Parameters, carried, parameters_of, thinks_by_budget, unsaid
from semroute.catalog.prices import price_of
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
    "price_of",
    "strength",
    "thinks_by_budget",
    "unsaid",
]
