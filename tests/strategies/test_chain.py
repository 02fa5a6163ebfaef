"""The chain's own rules, with strategies that say what they are told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.strategies import Chain, Pool, RoutingContext, Strategy
from semroute.types import Attempt, Cost, Decision, Matrix, ModelClient, Request, StrategyResult

GROUPS = {"frontier": ("large", "claude")}
MODELS = {"code": ("coder", "large"), "chat": ("small",)}
NAMES = ("coder", "large", "small", "claude")
CLIENT = cast(ModelClient, object())


@dataclass
class Says:
    """A local strategy with a ready opinion on every case; keeps the texts it was shown."""

    name: str
    opinion: StrategyResult
    needs_vectors: bool = False
    seen: list[str] = field(default_factory=list)
    vectors: list[Any] = field(default_factory=list)

    def decide(self, cases: Sequence[RoutingContext]) -> list[StrategyResult]:
        self.seen += [case.text for case in cases]
        self.vectors += [case.vector for case in cases]
        return [self.opinion] * len(cases)


@dataclass
class Asks:
    """A strategy that awaits before it says its ready opinion."""

    name: str
    opinion: StrategyResult
    defaults: list[tuple[str, ...]] = field(default_factory=list)
    together: int = 0
    most_together: int = 0

    async def adecide(self, case: RoutingContext, caller: ModelClient) -> StrategyResult:
        self.defaults.append(case.default)
        self.together += 1
        self.most_together = max(self.most_together, self.together)
        await asyncio.sleep(0.001)
        self.together -= 1
        return self.opinion


def decided(name: str, *candidates: str, category: str | None = None) -> Says:
    return Says(name, StrategyResult(name, "decided", f"{name} says so", candidates, category))


def narrowed(name: str, *candidates: str, category: str | None = None) -> Says:
    return Says(name, StrategyResult(name, "narrowed", f"{name} leaves some", candidates, category))


def passed(name: str) -> Says:
    return Says(name, StrategyResult(name, "passed", "nothing to say"))


def chain(*strategies: Strategy, fallback: tuple[str, ...] = ("large",)) -> Chain:
    def embed(texts: Sequence[str]) -> Matrix:
        embedded.extend(texts)
        return np.ones((len(texts), 2), dtype=np.float32)

    return Chain(strategies, Pool(lambda name: GROUPS.get(name, (name,)), NAMES), fallback, MODELS, embed)


embedded: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_embedded() -> None:
    embedded.clear()


def decide_all(chain: Chain, texts: Sequence[str], client: ModelClient | None = None) -> list[Decision]:
    """The decisions, which must be the same for a synchronous and an asynchronous caller."""

    async def offload(work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.to_thread(work, *arguments)

    requests = [Request(())] * len(texts)
    decisions = chain.decide(texts, requests, client)
    if client is not None:
        again = asyncio.run(chain.adecide(texts, requests, client, offload))
        assert [untimed(one) for one in again] == [untimed(one) for one in decisions]
    return decisions


def untimed(decision: Decision) -> dict[str, Any]:
    """A decision without its times."""
    told = {**decision.to_dict(), "elapsed_ms": 0.0, "steps_ms": list(decision.steps_ms)}
    return {**told, "opinions": [replace(one, elapsed_ms=0.0) for one in decision.opinions]}


def decide(*strategies: Strategy, text: str = "q", client: ModelClient | None = CLIENT) -> Decision:
    return decide_all(chain(*strategies), [text], client)[0]


def test_the_first_that_decides_ends_the_chain() -> None:
    after = decided("classifier", "small")
    decision = decide(passed("rules"), decided("semantic", "coder", "large", category="code"), after)
    assert (decision.strategy, decision.candidates, decision.category) == ("semantic", ("coder", "large"), "code")
    assert [(said.strategy, said.kind) for said in decision.opinions] == [("rules", "passed"), ("semantic", "decided")]
    assert after.seen == []
    assert not decision.is_fallback


def test_what_was_narrowed_bounds_the_later_decision_in_its_own_order() -> None:
    decision = decide(narrowed("rules", "large", "small"), decided("semantic", "small", "coder", "large"))
    assert decision.candidates == ("small", "large")
    assert "of its models only small, large may be used" in decision.reason


def test_where_nothing_is_left_of_a_decision_the_narrowed_list_is_used_and_the_reason_says_so() -> None:
    decision = decide(narrowed("rules", "claude", "large"), decided("semantic", "coder"))
    assert decision.candidates == ("claude", "large")
    assert "none of its models may be used" in decision.reason
    assert decision.strategy == "semantic"


def test_a_group_is_bounded_by_its_members() -> None:
    assert decide(narrowed("rules", "claude"), decided("semantic", "frontier")).candidates == ("claude",)


def test_what_none_decides_goes_to_the_fallback_as_far_as_it_is_left() -> None:
    decision = decide(passed("rules"))
    assert (decision.candidates, decision.is_fallback, decision.strategy) == (("large",), True, "fallback")
    decision = decide(narrowed("rules", "small"))
    assert (decision.candidates, decision.is_fallback) == (("small",), True)
    assert "rules leaves some" in decision.reason


def test_without_a_strategy_the_fallback_stands() -> None:
    assert decide().candidates == ("large",)


def test_the_order_of_a_category_stands_where_nobody_decides_after_it_has_narrowed() -> None:
    decision = decide(narrowed("semantic", "coder", "large", category="code"), passed("classifier"))
    assert (decision.category, decision.candidates, decision.is_fallback) == ("code", ("coder", "large"), False)


def test_a_decision_within_a_category_keeps_the_category() -> None:
    decision = decide(narrowed("semantic", "coder", "large", category="code"), decided("classifier", "large"))
    assert (decision.category, decision.candidates, decision.strategy) == ("code", ("large",), "classifier")


def test_a_narrowing_that_leaves_nothing_at_all_has_passed() -> None:
    decision = decide(Says("rules", StrategyResult("rules", "narrowed", "all are excluded", ())))
    assert decision.candidates == ("large",)
    assert [said.kind for said in decision.opinions] == ["passed"]


def test_of_two_narrowings_that_exclude_each_other_the_first_stands() -> None:
    decision = decide(narrowed("rules", "small"), narrowed("semantic", "coder", category="code"), passed("judge"))
    assert decision.candidates == ("small",)


def test_vectors_are_made_once_for_those_undecided_and_only_if_a_strategy_needs_them() -> None:
    decide_all(chain(passed("rules"), decided("semantic", "small")), ["a", "b"])
    assert embedded == []
    first, second = passed("classifier"), passed("judge")
    first.needs_vectors = second.needs_vectors = True
    decide_all(chain(passed("rules"), first, second), ["a", "b"])
    assert embedded == ["a", "b"]
    assert all(vector is not None for vector in first.vectors + second.vectors)


def test_a_strategy_that_asks_is_told_what_happens_without_it() -> None:
    judge = Asks("judge", StrategyResult("judge", "passed", "no answer"))
    decide(narrowed("semantic", "coder", "large", category="code"), judge)
    decide(narrowed("rules", "small"), judge)
    decide(judge)
    assert list(dict.fromkeys(judge.defaults)) == [("coder", "large"), ("small",), ("large",)]


def test_local_strategies_go_on_after_one_that_asks() -> None:
    judge = Asks("judge", StrategyResult("judge", "passed", "no answer"))
    decision = decide(judge, decided("semantic", "small"))
    assert [said.strategy for said in decision.opinions] == ["judge", "semantic"]
    assert decision.steps_ms["judge"] >= 1.0
    assert decision.elapsed_ms == pytest.approx(sum(decision.steps_ms.values()))


def test_a_batch_asks_about_several_queries_together_but_not_about_all() -> None:
    judge = Asks("judge", StrategyResult("judge", "decided", "so", ("small",)))
    decisions = decide_all(chain(judge), [str(n) for n in range(50)], CLIENT)
    assert [decision.query for decision in decisions] == [str(n) for n in range(50)]
    assert 2 <= judge.most_together <= 16


def test_without_a_client_a_strategy_that_asks_has_passed() -> None:
    judge = Asks("judge", StrategyResult("judge", "decided", "so", ("small",)))
    decision = decide(judge, client=None)
    assert (decision.candidates, decision.opinions[0].kind, judge.defaults) == (("large",), "passed", [])


def test_what_asking_cost_is_part_of_the_decision() -> None:
    attempt = Attempt("a", "small", 3.0, cost=Cost(0.25))
    judge = Asks("judge", StrategyResult("judge", "decided", "so", ("small",), attempts=(attempt,)))
    decision = decide(judge)
    assert decision.attempts == (attempt,)
    assert decision.cost == Cost(0.25)


candidates = st.lists(st.sampled_from((*NAMES, "frontier")), min_size=1, unique=True).map(tuple)
kinds = st.sampled_from(["decided", "narrowed", "passed"])


@pytest.mark.slow
@given(st.lists(st.tuples(kinds, candidates), max_size=5))
def test_a_decision_never_leaves_what_strategies_before_it_have_left(said: list[tuple[Any, tuple[str, ...]]]) -> None:
    strategies = [
        Says(f"s{n}", StrategyResult(f"s{n}", kind, "so", () if kind == "passed" else names))
        for n, (kind, names) in enumerate(said)
    ]
    decision = decide(*strategies)
    pool = Pool(lambda name: GROUPS.get(name, (name,)), NAMES)
    assert decision.candidates
    assert decision.model == decision.candidates[0]
    for opinion in decision.opinions:
        if opinion.kind == "narrowed":
            assert set(pool.models(decision.candidates)) <= set(pool.models(opinion.candidates))
    kinds_said = [opinion.kind for opinion in decision.opinions]
    assert "decided" not in kinds_said[:-1]
