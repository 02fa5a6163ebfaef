"""Rules in order: the first that decides wins, and those before it that narrow apply."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.config import Rule
from semroute.errors import ConfigError
from semroute.strategies import Pool, RoutingContext
from semroute.strategies.rules import RulesStrategy
from semroute.types import Request, StrategyResult

MODELS = {"code": ("coder", "large"), "chat": ("small",)}
NAMES = ("coder", "large", "small", "claude")
GROUPS = {"frontier": ("large", "claude")}


def strategy(*rules: dict[str, Any]) -> RulesStrategy:
    made = [Rule.model_validate({"name": f"r{n}", **rule}) for n, rule in enumerate(rules)]
    return RulesStrategy(made, Pool(lambda name: GROUPS.get(name, (name,)), NAMES), MODELS)


def say(rules: RulesStrategy, text: str = "hello", **request: Any) -> StrategyResult:
    asked = Request(({"role": "user", "content": text},), **request)
    return rules.decide([RoutingContext(text, asked, ("large",))])[0]


def test_the_first_rule_that_decides_wins() -> None:
    rules = strategy(
        {"when": {"keywords": ["bye"]}, "use": ["small"]},
        {"when": {"keywords": ["hello"]}, "use": ["claude", "large"]},
        {"use": ["coder"]},
    )
    said = say(rules)
    assert (said.kind, said.candidates, said.category) == ("decided", ("claude", "large"), None)
    assert said.reason == 'rule "r1": keywords hello'
    assert say(rules, "well").candidates == ("coder",)


def test_a_rule_can_name_a_category() -> None:
    said = say(strategy({"category": "code"}))
    assert (said.kind, said.candidates, said.category) == ("decided", ("coder", "large"), "code")


def test_a_category_that_the_index_lacks_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"rules\.0\.category: the index has no such category; it has code, chat"):
        strategy({"category": "cod"})


def test_rules_that_narrow_leave_the_rest_to_others() -> None:
    said = say(strategy({"only": ["small", "frontier"]}, {"except": ["large"]}))
    assert (said.kind, said.candidates) == ("narrowed", ("small", "claude"))
    assert 'rule "r0"' in said.reason
    assert 'rule "r1"' in said.reason


def test_what_narrows_bounds_a_rule_that_decides_after_it() -> None:
    assert say(strategy({"except": ["large"]}, {"use": ["frontier", "small"]})).candidates == ("claude", "small")
    said = say(strategy({"only": ["small"]}, {"category": "code"}))
    assert (said.kind, said.candidates, said.category) == ("decided", ("small",), "code")
    assert "leaves no model" in said.reason


def test_an_exception_leaves_everything_else_that_there_is() -> None:
    assert say(strategy({"except": ["large", "small"]})).candidates == ("coder", "claude")


def test_an_exception_keeps_the_order_of_what_was_left_before() -> None:
    case = RoutingContext("hello", Request(()), ("large",), left=("small", "large", "coder"))
    assert strategy({"except": ["large"]}).decide([case])[0].candidates == ("small", "coder")


def test_a_narrowing_that_would_leave_nothing_is_left_out_and_said() -> None:
    said = say(strategy({"only": ["small"]}, {"only": ["claude"]}))
    assert said.candidates == ("small",)
    assert "leaves no model" in said.reason
    assert say(strategy({"except": list(NAMES)})).kind == "passed"


def test_without_a_rule_that_applies_it_passes() -> None:
    said = say(strategy({"when": {"metadata": {"plan": "free"}}, "use": ["small"]}))
    assert (said.kind, said.reason) == ("passed", "no rule applies")


def test_the_caller_is_known_by_the_metadata_of_the_request() -> None:
    rules = strategy({"when": {"metadata": {"plan": ["free"]}}, "use": ["small"]})
    assert say(rules, metadata={"plan": "free"}).candidates == ("small",)


def test_a_trace_shows_each_rule_up_to_the_one_that_decides() -> None:
    rules = strategy(
        {"when": {"code": True}, "use": ["coder"]}, {"except": ["large"]}, {"category": "chat"}, {"use": ["large"]}
    )
    traces = rules.trace("hello", Request(({"role": "user", "content": "hello"},)))
    assert [(trace.rule, trace.kind, trace.why) for trace in traces] == [
        ("r0", "passed", "no code"),
        ("r1", "narrowed", "it asks for nothing"),
        ("r2", "decided", "it asks for nothing"),
    ]
    assert traces[1].models == ("coder", "small", "claude")
    assert traces[2].category == "chat"


def test_a_hostile_pattern_and_text_do_not_hang_a_decision() -> None:
    rules = strategy(
        {"when": {"regex": "(x+x+)+y"}, "use": ["small"]}, {"when": {"regex": r"(a|aa)+$"}, "use": ["small"]}
    )
    start = time.thread_time()
    say(rules, "x" * 500_000 + "a" * 500_000)
    assert time.thread_time() - start < 1.0


actions = st.one_of(
    st.tuples(st.sampled_from(["use", "only", "except"]), st.lists(st.sampled_from(NAMES), min_size=1, max_size=3)),
    st.tuples(st.just("category"), st.sampled_from(sorted(MODELS))),
)


@pytest.mark.slow
@given(st.lists(st.tuples(st.booleans(), actions), min_size=1, max_size=6))
def test_the_rules_do_what_a_walk_down_the_list_does(listed: list[tuple[bool, tuple[str, Any]]]) -> None:
    rules = strategy(*({"when": {} if fires else {"code": True}, action: what} for fires, (action, what) in listed))
    left: set[str] | None = None
    expected: tuple[str, set[str]] | None = None
    for fires, (action, what) in listed:
        if not fires:
            continue
        models = set(MODELS[what]) if action == "category" else set(what)
        models = set(NAMES) - models if action == "except" else models
        kept = models if left is None else models & left
        if action in ("use", "category"):
            expected = ("decided", kept or left or models)
            break
        left = kept or left
    if expected is None:
        expected = ("passed", set()) if left is None else ("narrowed", left)

    said = say(rules)

    assert (said.kind, set(said.candidates)) == expected
