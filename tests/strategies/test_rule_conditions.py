"""Conditions against what they say, and their combinations against Python's own logic."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.config import Condition
from semroute.strategies.rules import Facts, compiled
from semroute.types import Request, Tool

IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/x.png"}}


def facts(text: str = "hello there", **more: Any) -> Facts:
    messages = more.pop("messages", ({"role": "user", "content": text},))
    return Facts(text, Request(messages, **more))


def holds(condition: dict[str, Any], of: Facts) -> bool:
    return compiled(Condition.model_validate(condition)).holds(of)


def why(condition: dict[str, Any], of: Facts) -> str:
    return compiled(Condition.model_validate(condition)).why(of)


WITH_IMAGE = facts(messages=({"role": "user", "content": [{"type": "text", "text": "what is it?"}, IMAGE]},))
WITH_FILE = facts(messages=({"role": "user", "content": [{"type": "file", "file": {}}]},))
TOOLS = facts(tools=(Tool("search"), Tool("clock")))
TALK = facts(
    messages=(
        {"role": "system", "content": "x"},
        *({"role": role, "content": "y"} for role in ("user", "assistant") * 2),
    )
)


CALLED: dict[str, Any] = {"id": "c", "type": "function", "function": {"name": "read", "arguments": "{}"}}
LOOP = facts(
    messages=(
        {"role": "user", "content": "read the file"},
        *({"role": "assistant", "tool_calls": [CALLED]}, {"role": "tool", "tool_call_id": "c", "content": "no"}) * 3,
        {"role": "user", "content": "<system-reminder>\nPlan mode is active. Do not edit.\n</system-reminder>"},
    )
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("condition", "of", "expected"),
    [
        ({}, facts(), True),
        ({"chars": {"min": 11}}, facts(), True),
        ({"chars": {"min": 12}}, facts(), False),
        ({"chars": {"max": 11}}, facts(), True),
        ({"chars": {"min": 0, "max": 10}}, facts(), False),
        ({"tokens": {"min": 100}}, facts("word " * 400), True),
        ({"tokens": {"min": 100}}, facts(), False),
        ({"turns": {"min": 2, "max": 2}}, TALK, True),
        ({"turns": {"min": 2}}, facts(), False),
        ({"tool_loop": {"min": 3, "max": 3}}, LOOP, True),
        ({"tool_loop": {"min": 1}}, facts(), False),
        ({"stalled": True}, LOOP, True),
        ({"stalled": False}, facts(), True),
        ({"plan_mode": True}, LOOP, True),
        ({"plan_mode": True}, facts(), False),
        ({"keywords": ["THERE", "x"]}, facts(), True),
        ({"keywords": {"all": ["hello", "there"]}}, facts(), True),
        ({"keywords": {"all": ["hello", "x"]}}, facts(), False),
        ({"keywords": {"any": ["x", "there"], "all": ["hello"]}}, facts(), True),
        ({"keywords": {"any": ["x"], "all": ["hello"]}}, facts(), False),
        ({"regex": "(?i)^HELLO"}, facts(), True),
        ({"regex": "^there"}, facts(), False),
        ({"code": True}, facts("```\nx\n```"), True),
        ({"code": False}, facts("```\nx\n```"), False),
        ({"code": False}, facts(), True),
        ({"language": "de"}, facts("Wie wird das Wetter morgen in Hamburg?"), True),
        ({"language": ["fr", "en"]}, facts("Wie wird das Wetter morgen in Hamburg?"), False),
        ({"language": ["en"]}, facts("42"), False),
        ({"attachments": True}, WITH_IMAGE, True),
        ({"attachments": "image"}, WITH_IMAGE, True),
        ({"attachments": "image"}, WITH_FILE, False),
        ({"attachments": True}, WITH_FILE, True),
        ({"attachments": False}, WITH_FILE, False),
        ({"attachments": False}, facts(), True),
        ({"tools": True}, TOOLS, True),
        ({"tools": False}, TOOLS, False),
        ({"tools": ["clock", "x"]}, TOOLS, True),
        ({"tools": "x"}, TOOLS, False),
        ({"tools": False}, facts(), True),
        ({"json_schema": True}, facts(json_schema={}), True),
        ({"json_schema": False}, facts(), True),
        ({"metadata": {"plan": ["free", "trial"]}}, facts(metadata={"plan": "trial"}), True),
        ({"metadata": {"plan": "free", "tenant": "acme"}}, facts(metadata={"plan": "free"}), False),
        ({"metadata": {"plan": "free"}}, facts(), False),
        ({"not": {"chars": {"min": 100}}}, facts(), True),
        ({"any": [{"code": True}, {"keywords": ["hello"]}]}, facts(), True),
        ({"all": [{"code": True}, {"keywords": ["hello"]}]}, facts(), False),
        ({"keywords": ["hello"], "chars": {"min": 100}}, facts(), False),
    ],
)
def test_a_condition_holds_as_it_says(condition: dict[str, Any], of: Facts, expected: bool) -> None:
    assert holds(condition, of) is expected
    assert why(condition, of)


def test_why_says_what_was_found_and_what_was_wanted() -> None:
    assert why({"chars": {"min": 50, "max": 60}}, facts()) == "chars 11, not 50 to 60"
    assert why({"chars": {"max": 60}}, facts()) == "chars 11"
    assert why({"metadata": {"plan": ["free", "trial"]}}, facts()) == "plan not given, not free or trial"
    assert why({"keywords": ["Hello", "x"]}, facts()) == "keywords hello"
    assert why({"keywords": ["x"]}, facts()) == "no keyword, not any of x"
    assert why({"any": [{"code": True}, {"regex": "z"}]}, facts()) == "none of: no code; regex z not found"
    assert why({"not": {"keywords": ["hello"]}}, facts()) == "excluded: keywords hello"
    assert why({"tools": ["x"]}, TOOLS) == "tools search, clock, not x"
    assert why({}, facts()) == "it asks for nothing"
    assert why({"stalled": True}, LOOP) == "stalled: the same call 3 times in a row"
    assert why({"stalled": True}, facts()) == "not stalled"
    assert why({"tool_loop": {"min": 5}}, LOOP) == "tool loop 3, not at least 5"
    assert why({"plan_mode": False}, LOOP) == "plan mode"


LEAVES = {"a": {"keywords": ["a"]}, "b": {"keywords": ["b"]}, "c": {"chars": {"min": 4}}, "d": {"regex": "d"}}
trees = st.recursive(
    st.sampled_from(sorted(LEAVES)),
    lambda inner: st.one_of(
        st.tuples(st.just("not"), inner),
        st.tuples(st.sampled_from(["any", "all"]), st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=12,
)


def as_condition(tree: Any) -> dict[str, Any]:
    if isinstance(tree, str):
        return LEAVES[tree]
    kind, inner = tree
    return {kind: as_condition(inner) if kind == "not" else [as_condition(part) for part in inner]}


def evaluated(tree: Any, text: str) -> bool:
    """The reference: what the words any, all and not mean in Python."""
    if isinstance(tree, str):
        words = text.split()
        return {"a": "a" in words, "b": "b" in words, "c": len(text) >= 4, "d": "d" in text}[tree]
    kind, inner = tree
    if kind == "not":
        return not evaluated(inner, text)
    return (any if kind == "any" else all)(evaluated(part, text) for part in inner)


@pytest.mark.slow
@given(trees, st.lists(st.sampled_from(["a", "b", "d", "ab"]), max_size=4).map(" ".join))
def test_any_all_and_not_mean_what_they_mean_in_python(tree: Any, text: str) -> None:
    condition = as_condition(tree)
    assert holds(condition, facts(text)) is evaluated(tree, text)
    assert why(condition, facts(text))


@pytest.mark.slow
@given(st.text(), st.sampled_from(["(x+x+)+y", ".*", r"\p{L}+$", "[^a]", ""]))
def test_a_pattern_that_was_taken_never_fails_on_a_text(text: str, pattern: str) -> None:
    assert holds({"regex": pattern}, facts(text)) in (True, False)


def test_each_fact_is_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr("semroute.strategies.rules.detect_language", lambda text: calls.append(text) or "en")
    both = {"any": [{"language": "de"}, {"language": "fr"}, {"not": {"language": "en"}}]}
    of = facts()
    assert not holds(both, of)
    assert calls == ["hello there"]
