"""What turns a query into a decision. Semantic routing is the first; each strategy is a module."""

from semroute.strategies.semantic import Ranking, SemanticStrategy, Verdict

__all__ = ["Ranking", "SemanticStrategy", "Verdict"]
