from __future__ import annotations

import sys
import time
from collections import UserDict
from contextlib import suppress
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from junk import Colour, Model, Raising, RaisingDict, RaisingList, RaisingText, conversation
from openai.types.chat import ChatCompletionMessage

from semroute.dispatch import Constraints, validation, values
from semroute.dispatch.validation import (
    valid_candidates,
    valid_constraints,
    valid_queries,
    valid_request,
)
from semroute.dispatch.values import MAX_BYTES, MAX_DEPTH
from semroute.errors import InputError, QueryError
from semroute.types import Request, Tool

HELLO = {"role": "user", "content": "hello"}


def refused(query: Any, **fields: Any) -> str:
    with pytest.raises(InputError) as caught:
        valid_request(Request((HELLO,), **fields) if fields else query)
    return str(caught.value)


def nested(levels: int) -> Any:
    made: Any = "end"
    for _ in range(levels):
        made = [made]
    return made


def test_plain_requests_are_not_copied() -> None:
    request = Request(
        tuple(conversation()), 10, 0.5, ("END",), (Tool("f"),), "auto", {"type": "object"}, True, {"a": "b"}
    )
    assert valid_request(request) is request
    assert valid_request("hello") == Request((HELLO,))
    assert valid_request([HELLO]) == Request((HELLO,))
    limits = Constraints("small", allow=frozenset({"a"}), max_usd=1.0, deadline_s=2)
    assert valid_constraints(limits) is limits


def test_a_fault_names_the_path_what_was_found_and_the_remedy() -> None:
    image = {"type": "image_url", "image_url": {"url": b"bytes"}}
    messages = [HELLO, HELLO, HELLO, {"role": "user", "content": [image]}]
    assert refused(messages) == (
        "messages[3].content[0].image_url.url: is bytes, which JSON cannot say; "
        "decode it, or give an image as a data: URL"
    )
    image["image_url"] = 7
    assert refused(Request(tuple(messages))).startswith("messages[3].content[0].image_url: is int, not an address")
    schema = {"properties": {"a b": {"enum": [1, float("nan")]}}}
    assert refused(None, json_schema=schema).startswith("json_schema.properties['a b'].enum[1]: is nan")
    assert refused(None, tools=(Tool("f"), Tool("g", parameters=schema))).startswith("tools[1].parameters.properties")


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("max_tokens", -1, "max_tokens: is not from 1 to"),
        ("max_tokens", 0, "max_tokens: is not from 1 to"),
        ("max_tokens", 10**400, "max_tokens: is not from 1 to"),
        ("max_tokens", True, "max_tokens: is bool"),
        ("max_tokens", "10", "max_tokens: is str"),
        ("max_tokens", 10.0, "max_tokens: is float"),
        ("temperature", float("nan"), "temperature: is not from 0"),
        ("temperature", float("inf"), "temperature: is not from 0"),
        ("temperature", -0.1, "temperature: is not from 0"),
        ("temperature", 10**400, "temperature: is not from 0"),
        ("temperature", False, "temperature: is bool"),
        ("stop", 3, "stop: is int"),
        ("stop", ("a", 3), "stop[1]: is int"),
        ("tools", "look", "tools: is str"),
        ("tools", ({"look": 1},), "tools[0].name: is missing"),
        ("tools", ({"type": "function", "function": {"name": ""}},), "tools[0].function.name: is empty"),
        ("tools", ({"type": "function", "function": {"name": "f", "strict": 1}},), "tools[0].function.strict: is int"),
        ("tools", ({"type": "function", "function": "look"},), "tools[0].function: is str, not a mapping"),
        ("tools", (3,), "tools[0]: is int, neither a Tool"),
        ("tools", (object(),), "tools[0]: is object, neither a Tool"),
        ("tools", (Tool("f", strict=1),), "tools[0].strict: is int"),  # type: ignore[arg-type]
        ("tool_choice", {"type": "function"}, "tool_choice.function.name: is missing"),
        ("tool_choice", {"type": "look"}, "tool_choice.type: is neither"),
        ("json_schema", {"type": "json_schema", "json_schema": {}}, "json_schema.json_schema.schema: is missing"),
        ("json_schema_options", {"strict": 1}, "json_schema_options.strict: is int"),
        ("json_schema_options", {"title": "a"}, "json_schema_options.title: is none of"),
        ("tools", (Tool(""),), "tools[0].name: is empty"),
        ("tools", (Tool("f", None),), "tools[0].description: is NoneType"),  # type: ignore[arg-type]
        ("tools", (Tool("f", parameters=[]),), "tools[0].parameters: is list"),  # type: ignore[arg-type]
        ("tool_choice", 3, "tool_choice: is int"),
        ("json_schema", "object", "json_schema: is str"),
        ("json_schema", {1: 2}, "json_schema: has a key that is int"),
        ("logprobs", "yes", "logprobs: is str"),
        ("metadata", {"tenant": 3}, "metadata.tenant: is int"),
        ("metadata", None, "metadata: is NoneType"),
    ],
)
def test_fields_of_a_request_that_no_server_takes_are_refused(field: str, value: Any, said: str) -> None:
    assert refused(None, **{field: value}).startswith(said)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("max_usd", -1, "is not from 0"),
        ("max_usd", float("nan"), "is not from 0"),
        ("max_usd", float("inf"), "leave it out for no ceiling"),
        ("max_usd", 10**400, "is not from 0"),
        ("max_usd", True, "is bool"),
        ("deadline_s", "1", "is str"),
        ("deadline_s", -1.0, "is not from 0"),
        ("regions", "eu", "is str, not a list of names"),
        ("allow", frozenset({1}), "[0]: is int, not a name"),
        ("deny", None, "is NoneType"),
        ("wants", {"a": 1}, "is dict"),
        ("model", "", "is empty"),
        ("deployment", "a\nb", "is not a name"),
        ("model", "\ud800", "is not a name"),
    ],
)
def test_limits_that_limit_nothing_or_the_wrong_thing_are_refused(field: str, value: Any, said: str) -> None:
    with pytest.raises(InputError) as caught:
        valid_constraints(Constraints(**{field: value}))
    assert str(caught.value).startswith(f"constraints.{field}")
    assert said in str(caught.value)


def test_what_takes_the_place_of_limits_a_model_or_candidates_is_named() -> None:
    with pytest.raises(InputError, match="constraints: is dict, not Constraints"):
        valid_constraints({"max_usd": 1})  # type: ignore[arg-type]
    with pytest.raises(InputError, match="model: is int, not a name"):
        valid_constraints(None, 3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="candidates: is str, not a list of names"):
        valid_candidates("small")
    with pytest.raises(InputError, match=r"candidates\[1\]: is int"):
        valid_candidates(["small", 3])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"content": "x"}, "messages[0].role: is missing"),
        ({"role": 3}, "messages[0].role: is int"),
        (
            {"role": "user", "content": 3},
            "messages[0].content: a message's content is text or a list of parts, not int",
        ),
        ({"role": "user", "content": [3]}, "messages[0].content[0]: a part is a mapping"),
        ({"role": "user", "content": [{"type": 3}]}, "messages[0].content[0].type: is int"),
        ({"role": "user", "content": [{"type": "text", "text": 3}]}, "messages[0].content[0].text: is int"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, "messages[0].content[0].image_url: is"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": "http://["}]}, "messages[0].content[0].image"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": "\ud800"}]}, "messages[0].content[0].image"),
        ({"role": "assistant", "tool_calls": "x"}, "messages[0].tool_calls: is str"),
        ({"role": "assistant", "tool_calls": [3]}, "messages[0].tool_calls[0]: a call is a mapping"),
        ({"role": "assistant", "tool_calls": [{"function": 3}]}, "messages[0].tool_calls[0].function: is int"),
        ("hello", 'messages[0]: a chat message is a mapping with "role" and "content", not str'),
    ],
)
def test_a_message_of_a_shape_that_no_server_takes_is_a_query_error(message: Any, said: str) -> None:
    for query in ([message], Request((message,))):
        with pytest.raises(QueryError) as caught:
            valid_request(query)
        assert str(caught.value).startswith(said)


@pytest.mark.slow
def test_depth_is_bounded_and_a_cycle_is_as_deep() -> None:
    assert valid_request(Request((HELLO,), json_schema={"a": nested(MAX_DEPTH - 1)}))
    cycle: list[Any] = []
    cycle.append(cycle)
    for value in (nested(MAX_DEPTH), nested(50_000), cycle):
        assert f"nested more than {MAX_DEPTH} levels" in refused(None, json_schema={"a": value})


def test_count_is_bounded_where_it_stands_and_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "MAX_VALUES", 5000)
    monkeypatch.setattr(validation, "MAX_MESSAGES", 1000)
    monkeypatch.setattr(validation, "MAX_QUERIES", 10)
    doubled: list[Any] = []
    for _ in range(60):
        doubled = [doubled, doubled]
    assert "more than 5,000 values" in refused(None, json_schema={"a": doubled})
    assert "more than 5,000 values" in refused(None, json_schema={"a": [0] * 5001})
    assert "more than 5,000 values" in refused(None, tools=(Tool("f"),) * 5001)
    assert "more than 1,000 messages" in refused([HELLO] * 1001)
    assert valid_request([HELLO] * 1000)
    with pytest.raises(InputError, match="more than 5,000 values"):
        valid_candidates(["small"] * 5001)
    with pytest.raises(QueryError, match="more than 10 queries"):
        valid_queries(["x"] * 11)


@pytest.mark.slow
def test_bytes_are_bounded_over_all_texts_and_counted_as_utf8() -> None:
    half = "x" * (MAX_BYTES // 2)
    assert valid_request([{"role": "user", "content": half}])
    assert "may have 64 MiB" in refused([{"role": "user", "content": half}, {"role": "user", "content": half + "xx"}])
    assert "may have 64 MiB" in refused("é" * (MAX_BYTES // 2 + 1))


def test_other_types_that_stand_for_plain_values_become_them() -> None:
    import numpy as np

    given_ = Request(
        [UserDict(role=Colour.RED, content=[UserDict(type="text", text=RaisingText("x"))])],  # type: ignore[arg-type]
        max_tokens=np.int64(7),  # type: ignore[arg-type]
        temperature=np.float32(0.5),  # type: ignore[arg-type]
        stop="END",  # type: ignore[arg-type]
        tools=[Tool("f", parameters=UserDict(a=Colour.RED))],  # type: ignore[arg-type]
    )
    message = {"role": "red", "content": [{"type": "text", "text": "x"}]}
    plain = Request((message,), 7, 0.5, ("END",), (Tool("f", parameters={"a": "red"}),))
    found = valid_request(given_)
    assert found == plain
    assert type(found.messages[0]) is dict
    assert type(found.messages[0]["role"]) is str
    limits = valid_constraints(Constraints(regions=["eu"], allow={"a"}))  # type: ignore[arg-type]
    assert limits == Constraints(regions=frozenset({"eu"}), allow=frozenset({"a"}))


def test_the_messages_of_an_sdk_are_taken_as_they_are() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    message = ChatCompletionMessage.model_validate({"role": "assistant", "content": None, "tool_calls": [call]})
    found = valid_request([HELLO, message, {"role": "assistant", "tool_calls": message.tool_calls}])
    assert found.messages == (
        HELLO,
        {"role": "assistant", "tool_calls": [call]},
        {"role": "assistant", "tool_calls": [call]},
    )


@pytest.mark.parametrize("make", [Raising, lambda: RaisingDict(role="x"), Model, lambda: b"x", lambda: {1}, object])
def test_what_cannot_be_read_is_a_query_error(make: Any) -> None:
    value = make()
    for query in (value, [value], [{"role": "user", "content": [value]}], Request((HELLO,), json_schema={"a": value})):
        with pytest.raises(InputError):
            valid_request(query)


def test_a_batch_names_the_place_and_takes_whatever_has_an_order_and_an_end() -> None:
    import numpy as np

    assert [request.messages[0]["content"] for request in valid_queries(np.array(["a", "b"]))] == ["a", "b"]  # type: ignore[arg-type]
    with pytest.raises(QueryError, match=r"queries\[1\]: messages\[0\].role: is missing"):
        valid_queries(["a", [{}]])
    with pytest.raises(QueryError, match="RaisingList, and cannot be read: OSError"):
        valid_queries(RaisingList(["x"]))
    for wrong in ("one", (text for text in "ab"), {"a"}, {"a": 1}, 3, None, b"ab"):
        with pytest.raises(QueryError, match="route_many takes a list of queries, not"):
            valid_queries(wrong)  # type: ignore[arg-type]


def test_a_caller_deep_in_pythons_stack_gets_our_error() -> None:
    def down(levels: int) -> Any:
        return down(levels - 1) if levels else valid_request([{"role": "user", "content": [], "x": nested(90)}])

    room = sys.getrecursionlimit() - len(list(_frames())) - 60
    with pytest.raises(QueryError, match="too deeply for what is left"):
        down(room)


def _frames() -> Any:
    frame: Any = sys._getframe()
    while frame is not None:
        yield frame
        frame = frame.f_back


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.slow
@given(st.dictionaries(st.text(), JSON, max_size=5))
@settings(max_examples=40)
def test_every_json_schema_passes_unchanged(schema: dict[str, Any]) -> None:
    request = Request((HELLO,), json_schema=schema)
    assert valid_request(request) is request


@pytest.mark.slow
def test_a_short_request_costs_less_than_what_counts_its_tokens_many_times() -> None:
    from semroute.catalog import estimate_tokens

    request = Request(tuple(conversation()), tools=(Tool("f", parameters={"type": "object"}),))

    def least(work: Any) -> float:
        best = float("inf")
        for _ in range(30):
            started = time.thread_time()
            for _ in range(50):
                work(request)
            best = min(best, time.thread_time() - started)
        return best

    assert least(valid_request) < 3 * least(estimate_tokens)


@pytest.mark.parametrize("field", ["stop", "droppable"])
@pytest.mark.parametrize("make", [Raising, lambda: RaisingText("x"), lambda: RaisingList(["x"])])
def test_a_request_may_be_made_of_whatever_and_only_the_door_asks_it(field: str, make: Any) -> None:
    given: dict[str, Any] = {field: make()}
    made = Request((HELLO,), **given)
    with suppress(InputError):
        assert getattr(valid_request(made), field) in (("x",), {"x"})


def test_every_field_of_a_request_and_of_its_limits_is_checked() -> None:
    assert set(validation._FIELDS) == {field.name for field in fields(Request)}
    assert set(validation._LIMITS) == {field.name for field in fields(Constraints)}
    assert set(validation._TOOL_FIELDS) == {field.name for field in fields(Tool)}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("top_p", 1.5),
        ("top_k", -1),
        ("seed", 2**70),
        ("presence_penalty", float("nan")),
        ("n", 0),
        ("n", True),
        ("reasoning_effort", 3),
        ("thinking_budget", -2),
        ("parallel_tool_calls", "yes"),
        ("user", ""),
        ("extra", [("logit_bias", {})]),
        ("extra", {"logit_bias": {1: object()}}),
        ("droppable", 7),
    ],
)
def test_a_parameter_that_cannot_be_sent_is_named(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=name):
        valid_request(replace(Request(({"role": "user", "content": "hi"},)), **{name: value}))
