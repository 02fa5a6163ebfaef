"""The rules in order: the first that decides wins, and those before it that narrow apply."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from semroute.config import Rule
from semroute.errors import ConfigError
from semroute.strategies.pool import Pool
from semroute.strategies.rules.conditions import Criterion, compiled
from semroute.strategies.rules.facts import Facts
from semroute.strategies.strategy import RoutingContext
from semroute.types import Request, StrategyResult, StrategyResultKind


@dataclass(frozen=True, slots=True)
class RuleTrace:
    """What became of one rule for one query.

    Attributes:
        rule: its name.
        kind: whether it decided, narrowed, or passed, since its condition does not hold.
        why: what its condition found.
        models: what it decided on, or what it alone would leave; empty where it passed.
        category: the category that it names, where it decided on one.
    """

    rule: str
    kind: StrategyResultKind
    why: str
    models: tuple[str, ...] = ()
    category: str | None = None


@dataclass(frozen=True, slots=True)
class _Compiled:
    rule: Rule
    criterion: Criterion
    kind: StrategyResultKind
    models: tuple[str, ...]


class RulesStrategy:
    """Decides by rules. Safe to share between threads.

    Args:
        rules: in order.
        pool: what the names of models and groups stand for.
        models: models of each category in order.

    Raises:
        ConfigError: a rule names a category that is not in ``models``.
        MissingExtraError: a condition needs an extra that is not installed.
    """

    name = "rules"
    needs_vectors = False
    needs_text = False  # a request's attachments, tools and metadata are there without any

    def __init__(self, rules: Sequence[Rule], pool: Pool, models: Mapping[str, tuple[str, ...]]) -> None:
        self._pool = pool
        self._rules = [
            _Compiled(
                rule,
                compiled(rule.when),
                "decided" if rule.decides else "narrowed",
                _models(rule, number, pool, models),
            )
            for number, rule in enumerate(rules)
        ]

    def consult(self, cases: Sequence[RoutingContext]) -> list[StrategyResult]:
        """An opinion on each case: of the first rule that decides, else of those that narrow."""
        return [self._opinion(Facts(case.text, case.request), case.left) for case in cases]

    def trace(self, text: str, request: Request) -> list[RuleTrace]:
        """What becomes of each rule, up to the first that decides, for a routed text and all that is asked with it."""
        facts = Facts(text, request)
        traces: list[RuleTrace] = []
        for entry, holds in self._tried(facts):
            why = entry.criterion.why(facts)
            if holds:
                traces.append(RuleTrace(entry.rule.name, entry.kind, why, entry.models, entry.rule.category))
            else:
                traces.append(RuleTrace(entry.rule.name, "passed", why))
        return traces

    def _tried(self, facts: Facts) -> Iterator[tuple[_Compiled, bool]]:
        for entry in self._rules:
            holds = entry.criterion.holds(facts)
            yield entry, holds
            if holds and entry.kind == "decided":
                return

    def _opinion(self, facts: Facts, left_before: tuple[str, ...] | None) -> StrategyResult:
        left: tuple[str, ...] | None = None
        said: list[str] = []
        for entry, holds in self._tried(facts):
            if not holds:
                continue
            rule, kept = entry.rule, self._kept(entry, left, left_before)
            said.append(f'rule "{rule.name}": {entry.criterion.why(facts)}')
            if not kept:
                said[-1] += ", but that leaves no model"
            if entry.kind == "decided":
                return StrategyResult(
                    self.name, "decided", "; ".join(said), kept or left or entry.models, rule.category
                )
            left = kept or left
        if left is None:
            return StrategyResult(self.name, "passed", "; ".join(said) or "no rule applies")
        return StrategyResult(self.name, "narrowed", "; ".join(said), left)

    def _kept(
        self, entry: _Compiled, left: tuple[str, ...] | None, left_before: tuple[str, ...] | None
    ) -> tuple[str, ...]:
        if entry.rule.except_ is None:
            return self._pool.kept(entry.models, left)
        # An exception has no order of its own: what it leaves keeps the one that it had.
        return self._pool.without(left or left_before or entry.models, entry.rule.except_)


def _models(rule: Rule, number: int, pool: Pool, models: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """What a rule decides on, or what it leaves of everything that there is."""
    if rule.category is not None:
        if rule.category not in models:
            known = ", ".join(models)
            raise ConfigError(f"the index has no such category; it has {known}", key=f"rules.{number}.category")
        return models[rule.category]
    if rule.except_ is not None:
        return pool.without(pool.names, rule.except_)
    return rule.use or rule.only or ()
