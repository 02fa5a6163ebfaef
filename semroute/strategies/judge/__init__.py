"""A small model that reads a query and says which of the candidates should answer it."""

from semroute.strategies.judge.describe import descriptions
from semroute.strategies.judge.strategy import JudgeStrategy

__all__ = ["JudgeStrategy", "descriptions"]
