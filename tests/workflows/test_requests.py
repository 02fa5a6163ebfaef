from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.catalog import estimate_tokens
from semroute.errors import InputError
from semroute.types import Request, Usage
from semroute.workflows.requests import NOT_COUNTED, parse_row

USER = {"role": "user", "content": "fix the python loop"}
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "row",
    [
        {"query": "fix the python loop"},
        {"Query": "fix the python loop"},
        {"messages": [USER]},
        {"messages": json.dumps([USER])},
        {"prompt": "fix the python loop"},
        {"input": [USER]},
        {"query": [USER], "messages": ""},
        {"custom_id": "1", "body": {"messages": [USER]}},
        {"request": json.dumps({"messages": [USER]})},
    ],
)
def test_what_is_asked_is_found_in_every_shape(row: dict[str, Any]) -> None:
    assert [dict(message) for message in parse_row(row).request.messages] == [USER]


def test_a_whole_request_keeps_what_costs_tokens_and_what_rules_see() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    row: dict[str, Any] = {
        "model": "gpt-4o",
        "messages": [{"role": "system", "content": "be short"}, USER],
        "tools": [{"type": "function", "function": {"name": "search", "description": "the web", "parameters": schema}}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
        "max_completion_tokens": 80,
        "n": 2,
        "metadata": {"plan": "free", "age": 3},
        "temperature": 0.2,
    }
    found = parse_row(row)
    request = found.request
    assert (found.model, request.max_tokens, request.n) == ("gpt-4o", 80, 2)
    assert (request.tools[0].name, request.tools[0].parameters, request.json_schema) == ("search", schema, schema)
    assert request.metadata == {"plan": "free"}
    assert estimate_tokens(request) > estimate_tokens(Request((USER,))) + 40


def test_the_system_of_anthropic_and_of_responses_is_part_of_the_input() -> None:
    for key in ("system", "instructions"):
        first, second = parse_row({key: "be short", "messages": [USER]}).request.messages
        assert (first["role"], first["content"], second["role"]) == ("system", "be short", "user")


@pytest.mark.parametrize(
    ("row", "usage"),
    [
        ({"usage": {"prompt_tokens": 500, "completion_tokens": 70}}, Usage(500, 70)),
        ({"usage": '{"prompt_tokens": 500, "completion_tokens": 70}'}, Usage(500, 70)),
        ({"prompt_tokens": "500", "completion_tokens": "70"}, Usage(500, 70)),
        ({"input_tokens": 500.0}, Usage(500, NOT_COUNTED)),
        ({"output_tokens": 70}, Usage(NOT_COUNTED, 70)),
        ({"response": {"body": {"usage": {"prompt_tokens": 500, "completion_tokens": 70}}}}, Usage(500, 70)),
        (
            {"usage": {"prompt_tokens": 500, "completion_tokens": 70, "prompt_tokens_details": {"cached_tokens": 400}}},
            Usage(500, 70, cached_tokens=400),
        ),
        (
            {"usage": {"input_tokens": 100, "output_tokens": 70, "cache_read_input_tokens": 400}},
            Usage(500, 70, cached_tokens=400),
        ),
        ({}, None),
    ],
)
def test_counted_tokens_are_taken_from_usage_or_columns(row: dict[str, Any], usage: Usage | None) -> None:
    assert parse_row({"query": "a", **row}).usage == usage


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [USER], "response": "the answer"},
        {"messages": [USER], "response": {"choices": [{"message": {"content": "the answer"}}]}},
        {"messages": [USER, {"role": "assistant", "content": "the answer"}]},
        {"query": "fix the python loop", "Answer": "the answer"},
    ],
)
def test_a_recorded_answer_is_no_part_of_the_request(row: dict[str, Any]) -> None:
    found = parse_row(row)
    assert (found.answer, len(found.request.messages)) == ("the answer", 1)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("2026-11-01T12:00:00Z", NOON.timestamp()),
        ("2026-11-01 12:00:00", NOON.timestamp()),
        (NOON, NOON.timestamp()),
        (NOON.replace(tzinfo=None), NOON.timestamp()),
        (NOON.timestamp(), NOON.timestamp()),
        (str(int(NOON.timestamp())), NOON.timestamp()),
        (NOON.timestamp() * 1e3, NOON.timestamp()),
        (NOON.timestamp() * 1e9, NOON.timestamp()),
        (3.5, None),
        ("yesterday", None),
    ],
)
def test_times_are_read_in_every_unit(value: object, seconds: float | None) -> None:
    found = parse_row({"query": "a", "created_at": value})
    assert found.at == pytest.approx(seconds) if seconds is not None else found.at is None


def test_a_day_alone_is_known_as_one() -> None:
    for value in ("2026-11-01", date(2026, 11, 1)):
        assert parse_row({"query": "a", "date": value}).whole_day


@pytest.mark.parametrize(
    ("value", "count"), [(3, 3.0), ("1,200", 1200.0), ("", 1.0), (None, 1.0), (2.5, 2.5), (0, 0.0)]
)
def test_a_row_may_stand_for_many(value: object, count: float) -> None:
    assert parse_row({"query": "a", "count": value}).count == count
    assert parse_row({"query": "a", "per month": value or 1}).monthly


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"words": "a"}, 'has no "query", "messages" or "prompt" (its keys: "words")'),
        ({"query": ""}, "the query is empty"),
        ({"query": 3}, '"query" must be text or a list of chat messages, not a number'),
        ({"messages": []}, "there is nothing to route"),
        ({"messages": "no json"}, '"messages" must be a list of chat messages as JSON'),
        ({"messages": [3]}, "chat message is a mapping"),
        ({"query": "a", "model": 3}, '"model" must be a name'),
        ({"query": "a", "max_tokens": "many"}, '"max_tokens" must be a whole number, not "many"'),
        ({"query": "a", "usage": {"prompt_tokens": -1}}, '"prompt_tokens" must be a whole number'),
        ({"query": "a", "count": "some"}, '"count" must be a number of requests'),
        ({"query": "a", "count": -1}, '"count" must be a number of requests'),
        ({"query": "a", "tools": "search"}, None),
        ({"query": "a", "tools": ["search"]}, '"tools" must list objects'),
        ({"query": "a", "tools": [{}]}, "has no name"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(row: dict[str, Any], problem: str | None) -> None:
    if problem is None:
        parse_row(row)
        return
    with pytest.raises(InputError, match=re.escape(problem)):
        parse_row(row)


def test_the_key_of_the_text_can_be_named() -> None:
    assert parse_row({"query": "no", "Frage": "ja"}, text="Frage").request.messages[0]["content"] == "ja"
    with pytest.raises(InputError, match='has no key "Frage"'):
        parse_row({"query": "no"}, text="Frage")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from(
    ["query", "messages", "model", "tools", "usage", "max_tokens", "n", "count", "at", "response", "body", "metadata"]
)


@pytest.mark.slow
@given(st.dictionaries(KEYS, JSON, max_size=6))
def test_any_row_is_a_request_or_an_input_error(row: dict[str, Any]) -> None:
    try:
        found = parse_row(row)
    except InputError:
        return
    assert found.request.messages
    assert found.count >= 0
