"""What is known of a model, and whether and how well a deployment suits a request."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from semroute.catalog.needs import Needs
from semroute.catalog.parameters import unsaid
from semroute.catalog.prices import listing_of
from semroute.config import Config, Deployment, ModelSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

UNKNOWN_STRENGTH = 0.5
"""Strength in a field where nothing is known."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What is known of a logical model.

    Attributes:
        name: the logical model.
        context: the longest input and output together, in tokens; None where it is not known.
        capabilities: what it can do; None where that is not known.
        strengths: strength from 0 to 1 by field; a field that is missing is not known.
    """

    name: str
    context: int | None = None
    capabilities: frozenset[str] | None = None
    strengths: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))


def model_card(name: str, config: Config) -> ModelCard:
    """What the configuration says of a model, and genai-prices of its context window.

    Where its places are known to differ in their windows, the card shows the shortest: what every place takes.
    """
    spec = config.models.get(name, _NOTHING)
    windows = [window for place in config.deployments_of(name) if (window := _context(place, spec)) is not None]
    return ModelCard(
        name,
        spec.context or min(windows, default=None),
        None if spec.capabilities is None else frozenset(spec.capabilities),
        spec.strengths,
    )


def fits(deployment: Deployment, config: Config, needs: Needs) -> tuple[str, ...]:
    """Why a deployment cannot take a request, a reason each; empty when nothing known speaks against it."""
    spec = config.models.get(deployment.model, _NOTHING)
    reasons = []
    context = _context(deployment, spec)
    if context is not None and needs.least_context > context:
        reasons.append(f"takes {context} tokens, and the request may have {needs.least_context}")
    for capability in sorted(needs.capabilities):
        if capability in deployment.vendor.lacks or capability in deployment.lacks:
            reasons.append(f"{deployment.provider or deployment.format} does not carry {capability}")
        elif spec.capabilities is not None and capability not in spec.capabilities:
            reasons.append(f'model "{deployment.model}" has no {capability}')
    return (*reasons, *unsaid(deployment, needs.parameters))


def strength(deployment: Deployment, config: Config, needs: Needs) -> float:
    """How strong the deployment's model is in what the request wants, 0 to 1: the mean over the wanted fields.

    0.5 for a field of which nothing is known, and where the request wants nothing in particular.
    """
    known = config.models.get(deployment.model, _NOTHING).strengths
    if not needs.strengths or not known:
        return UNKNOWN_STRENGTH
    return sum(known.get(wanted, UNKNOWN_STRENGTH) for wanted in needs.strengths) / len(needs.strengths)


_NOTHING = ModelSpec()


def _context(deployment: Deployment, spec: ModelSpec) -> int | None:
    """Tokens that the place takes; genai-prices tells the longest input, which is never more than the window."""
    if spec.context is not None:
        return spec.context
    row = listing_of(deployment)
    return None if row is None else row.context
