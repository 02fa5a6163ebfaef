from __future__ import annotations

from semroute.catalog.capabilities import DEFAULT_OUTPUT_TOKENS, LONG_CONTEXT_TOKENS, needs_of
from semroute.types import Message, Request, Tool

ASKS: tuple[Message, ...] = ({"role": "user", "content": "What is in it?"},)


def test_a_plain_question_needs_nothing_in_particular() -> None:
    needs = needs_of(Request(messages=ASKS))
    assert needs.capabilities == needs.strengths == frozenset()
    assert 5 <= needs.input_tokens <= 20
    assert needs.max_output_tokens == DEFAULT_OUTPUT_TOKENS
    assert needs.tokens == needs.input_tokens + DEFAULT_OUTPUT_TOKENS


def test_each_feature_of_a_request_is_a_required_capability() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://host/a.png"}}
    with_image: tuple[Message, ...] = ({"role": "user", "content": [{"type": "text", "text": "?"}, image]},)
    assert needs_of(Request(messages=ASKS, tools=(Tool("f"),))).capabilities == {"tools"}
    assert needs_of(Request(messages=ASKS, json_schema={})).capabilities == {"json_schema"}
    assert needs_of(Request(messages=ASKS, logprobs=True)).capabilities == {"logprobs"}
    assert needs_of(Request(messages=with_image)).capabilities == {"vision"}


def test_strengths_follow_from_what_is_asked_for() -> None:
    schema = Request(messages=ASKS, json_schema={"type": "object"}, tools=(Tool("f"),), logprobs=True)
    assert needs_of(schema).strengths == {"structured_output", "tools"}
    long: tuple[Message, ...] = ({"role": "user", "content": "word " * LONG_CONTEXT_TOKENS},)
    assert needs_of(Request(messages=long)).strengths == {"long_context"}


def test_only_an_answer_whose_length_is_set_takes_its_room_in_the_context() -> None:
    free, bounded = needs_of(Request(messages=ASKS)), needs_of(Request(messages=ASKS, max_tokens=5000))
    assert free.least_context == free.input_tokens + 1
    assert bounded.least_context == bounded.tokens == bounded.input_tokens + 5000
