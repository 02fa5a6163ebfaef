"""What turns a query into a decision: strategies, each a module or a folder, and the chain that asks them in order."""

from semroute.strategies.base import AskingStrategy, LocalStrategy, Pool, RoutingContext, Strategy
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
]
