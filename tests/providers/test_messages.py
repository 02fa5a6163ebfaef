from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semroute.errors import CapabilityError, RequestError
from semroute.providers.messages import (
    CallPart,
    Conversation,
    InlineImage,
    LinkedImage,
    Result,
    SignedReasoning,
    Text,
    Turn,
    read,
)
from semroute.types import Request


def conversation(*messages: Any) -> Conversation:
    return read(Request(messages), "spot")


def called(id: str = "c1", arguments: object = '{"city": "Oslo"}', **more: object) -> dict[str, Any]:
    call = {"id": id, "type": "function", "function": {"name": "weather", "arguments": arguments}, **more}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def test_instructions_leave_the_conversation_in_their_order() -> None:
    found = conversation(
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
        {"role": "user", "content": "Still here?"},
    )
    assert found.system == ("Be brief.", "Be kind.")
    assert found.turns == (Turn("user", (Text("Hello"), Text("Still here?"))),)


def test_calls_and_their_results_become_parts_of_assistant_and_user() -> None:
    found = conversation(
        {"role": "user", "content": "Weather?"},
        called(),
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
        {"role": "user", "content": "Thanks"},
    )
    assert found.turns == (
        Turn("user", (Text("Weather?"),)),
        Turn("assistant", (CallPart("c1", "weather", {"city": "Oslo"}),)),
        Turn("user", (Result("c1", "weather", (Text("rain"),)), Text("Thanks"))),
    )


def test_a_call_without_arguments_has_an_empty_object() -> None:
    found = conversation(called(arguments=""))
    assert found.turns == (Turn("assistant", (CallPart("c1", "weather", {}),)),)


def test_the_signature_of_a_call_is_found_where_google_keeps_it() -> None:
    found = conversation(called(extra_content={"google": {"thought_signature": "c2ln"}}))
    assert found.turns == (Turn("assistant", (CallPart("c1", "weather", {"city": "Oslo"}, "c2ln"),)),)


def test_images_are_read_from_addresses_and_data_urls() -> None:
    parts = [
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "auto"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGVsbG8="}},
    ]
    found = conversation({"role": "user", "content": parts})
    assert found.turns[0].parts == (LinkedImage("https://example.org/a.png"), InlineImage("image/png", "aGVsbG8="))


def test_empty_text_and_the_empty_fields_of_a_dumped_answer_say_nothing() -> None:
    dumped = {
        "role": "assistant",
        "content": "yes",
        "refusal": None,
        "tool_calls": None,
        "annotations": [],
        "audio": None,
    }
    found = conversation({"role": "user", "content": ""}, {"role": "user", "content": "so?"}, dumped)
    assert found.turns == (Turn("user", (Text("so?"),)), Turn("assistant", (Text("yes"),)))


def test_of_what_a_vendor_added_to_its_answer_only_the_signed_reasoning_is_kept() -> None:
    back = {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
            {"type": "text", "text": "yes", "annotations": [{"url": "x"}]},
        ],
        "annotations": [{"type": "url_citation"}],
        "audio": {"id": "a"},
        "reasoning_content": "hm",
        "reasoning_details": [{"data": "x"}],
        "extra_content": {"google": {"thought_signature": "c2ln"}},
        "provider_specific_fields": {"a": 1},
    }
    found = conversation({"role": "user", "content": "so?"}, back)
    signed = SignedReasoning({"type": "thinking", "thinking": "hm", "signature": "c2ln"})
    assert found.turns[1] == Turn("assistant", (signed, Text("yes")))


def test_a_cache_marker_of_a_part_or_of_a_message_is_kept_at_its_place() -> None:
    marker = {"type": "ephemeral"}
    found = conversation(
        {"role": "system", "content": [{"type": "text", "text": "be brief", "cache_control": marker}]},
        {"role": "user", "content": "so?", "cache_control": marker},
    )
    assert found.instructions == (Text("be brief", marker),)
    assert found.turns == (Turn("user", (Text("so?", marker),)),)


def test_a_refusal_is_what_the_assistant_said() -> None:
    found = conversation({"role": "assistant", "content": None, "refusal": "I will not."})
    assert found.turns == (Turn("assistant", (Text("I will not."),)),)


@pytest.mark.parametrize(
    ("message", "what"),
    [
        ({"role": "function", "content": "x"}, "the role 'function'"),
        ({"role": "user", "content": "x", "name": "Ann"}, "'name'"),
        ({"role": "assistant", "content": "x", "function_call": {"name": "f"}}, "'function_call'"),
        ({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}, "'input_audio'"),
        ({"role": "user", "content": ["x"]}, "part of type None"),
        ({"role": "user", "content": [{"type": "text", "text": "x", "annotations": ["y"]}]}, "'annotations'"),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a/b", "detail": "low"}}]},
            "detail 'low'",
        ),
        (
            {"role": "system", "content": [{"type": "image_url", "image_url": "https://a/b"}]},
            "instruction with an image",
        ),
        (called(arguments="{broken"), "not a JSON object"),
        (called(arguments="[1]"), "not a JSON object"),
        ({"role": "assistant", "tool_calls": [{"id": "c1", "type": "custom", "custom": {}}]}, "not a function"),
    ],
)
def test_what_a_turn_has_no_word_for_is_said_and_not_dropped(message: dict[str, Any], what: str) -> None:
    with pytest.raises(CapabilityError, match="spot: message 1 ") as caught:
        conversation({"role": "user", "content": "hello"}, message)
    assert what in str(caught.value)
    assert caught.value.deployment == "spot"


@pytest.mark.parametrize(
    ("message", "what"),
    [
        ("hello", "not a mapping"),
        ({"role": "user", "content": 3}, "neither text nor a list"),
        ({"role": "user", "content": [{"type": "text"}]}, "text part without text"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a.png"}}]}, "neither http"),
        ({"role": "user", "content": [{"type": "image_url"}]}, "neither http"),
        ({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}, "without id"),
        ({"role": "tool", "content": "x"}, "no tool_call_id"),
        ({"role": "tool", "content": "x", "tool_call_id": "c9"}, "'c9'"),
    ],
)
def test_what_no_provider_could_read_is_a_bad_request(message: Any, what: str) -> None:
    with pytest.raises(RequestError, match="spot: message 0 ") as caught:
        conversation(message)
    assert not isinstance(caught.value, CapabilityError)
    assert what in str(caught.value)


def test_a_result_may_name_its_function_itself() -> None:
    found = conversation({"role": "tool", "content": "x", "tool_call_id": "c9", "name": "f"})
    assert found.turns == (Turn("user", (Result("c9", "f", (Text("x"),)),)),)


def test_a_conversation_in_which_nobody_speaks_cannot_be_carried() -> None:
    with pytest.raises(CapabilityError, match="no user or assistant message"):
        conversation({"role": "system", "content": "Be brief."})


TEXTS = st.text(max_size=8)
SPOKEN = st.builds(lambda role, text: {"role": role, "content": text}, st.sampled_from(["user", "assistant"]), TEXTS)
SYSTEM = st.builds(lambda text: {"role": "system", "content": text}, TEXTS)
PARTED = st.builds(
    lambda role, texts: {"role": role, "content": [{"type": "text", "text": text} for text in texts]},
    st.sampled_from(["user", "assistant", "developer"]),
    st.lists(TEXTS, max_size=3),
)
CALLED = st.builds(lambda key, text: called("c0", json.dumps({key: text})), TEXTS, TEXTS)
ANSWERED = st.builds(lambda text: {"role": "tool", "tool_call_id": "c0", "content": text}, TEXTS)


def said(message: dict[str, Any]) -> list[str]:
    content = message.get("content") or []
    return [content] if isinstance(content, str) else [part["text"] for part in content]


@pytest.mark.slow
@settings(deadline=None)
@given(st.lists(SPOKEN | SYSTEM | PARTED | CALLED | ANSWERED, max_size=8))
def test_turns_alternate_and_keep_every_text_in_its_order(messages: list[dict[str, Any]]) -> None:
    found = conversation({"role": "user", "content": "first"}, called("c0"), *messages)
    roles = [turn.role for turn in found.turns]
    assert all(one != next_one for one, next_one in pairwise(roles))
    kept: list[str] = []
    for turn in found.turns:
        assert turn.parts
        for part in turn.parts:
            inner = part.content if isinstance(part, Result) else (part,)
            kept += [piece.text for piece in inner if isinstance(piece, Text)]
    spoken = [message for message in messages if message["role"] not in ("system", "developer")]
    assert kept == ["first", *filter(None, (text for message in spoken for text in said(message)))]
    instructions = [message for message in messages if message["role"] in ("system", "developer")]
    assert list(found.system) == [text for message in instructions for text in said(message) if text]
