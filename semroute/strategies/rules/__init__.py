"""Rules: conditions on a query that settle where it goes, or narrow it, without a model."""

from semroute.strategies.rules.strategy import RulesStrategy, RuleTrace

__all__ = ["RuleTrace", "RulesStrategy"]
