"""Routing strategies, a module each, and the chain that runs them."""

from semroute.strategies.base import (
    LocalStrategy,
    ModelStrategy,
    Pool,
    RoutingContext,
    Strategy,
    StrategyFactory,
    StrategySetup,
)
from semroute.strategies.chain import FALLBACK, Chain
from semroute.strategies.semantic import CategoryMatcher, Ranking, SemanticMatch

__all__ = [
    "FALLBACK",
    "CategoryMatcher",
    "Chain",
    "LocalStrategy",
    "ModelStrategy",
    "Pool",
    "Ranking",
    "RoutingContext",
    "SemanticMatch",
    "Strategy",
    "StrategyFactory",
    "StrategySetup",
]
