"""What turns a query into a decision: strategies, each a module or a folder, and the chain that asks them in order."""

from semroute.strategies.chain import FALLBACK, Chain
from semroute.strategies.pool import Pool
from semroute.strategies.semantic import Ranking, SemanticStrategy, Verdict
from semroute.strategies.strategy import AskingStrategy, Case, LocalStrategy, Strategy

__all__ = [
    "FALLBACK",
    "AskingStrategy",
    "Case",
    "Chain",
    "LocalStrategy",
    "Pool",
    "Ranking",
    "SemanticStrategy",
    "Strategy",
    "Verdict",
]
