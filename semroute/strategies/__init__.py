"""Routing strategies, a module each, and the chain that runs them."""

from semroute.strategies.base import (
    AskingStrategy,
    LocalStrategy,
    Pool,
    RoutingContext,
    Strategy,
    StrategyFactory,
    StrategySetup,
)
from semroute.strategies.chain import FALLBACK, Chain
from semroute.strategies.semantic import Ranking, SemanticMatch, SemanticStrategy

__all__ = [
    "FALLBACK",
    "AskingStrategy",
    "Chain",
    "LocalStrategy",
    "Pool",
    "Ranking",
    "RoutingContext",
    "SemanticMatch",
    "SemanticStrategy",
    "Strategy",
    "StrategyFactory",
    "StrategySetup",
]
