from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.cascade.checks import CheckInput
from semroute.cascade.format import FormatCheck
from semroute.config.cascade import Format
from semroute.types import CheckResult, Completion, Request, ToolCall

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def judged(
    text: str,
    query: str = "how do I boil an egg?",
    *,
    schema: Mapping[str, object] | None = None,
    finish: str = "stop",
    marked: str | None = None,
    calls: int = 0,
    **wanted: Any,
) -> CheckResult:
    made = tuple(ToolCall(str(number), "clock", "{}") for number in range(calls))
    answer = Completion(text, "small", "s-1", "m", finish, None, 1.0, refusal=marked, tool_calls=made)
    request = Request(({"role": "user", "content": query},), json_schema=schema)
    check = FormatCheck(Format.model_validate(wanted))
    return asyncio.run(check.judge(CheckInput(query, request, answer, None)))


def test_a_plain_answer_passes() -> None:
    assert judged("Eight minutes in boiling water.").accepted


@pytest.mark.parametrize("text", ["", "  \n\t "])
def test_nothing_is_no_answer(text: str) -> None:
    assert "empty" in judged(text).reason
    assert judged(text, empty=False).accepted


def test_a_call_of_a_tool_is_an_answer_without_text() -> None:
    assert judged("", calls=1).accepted


def test_what_was_cut_off_is_rejected() -> None:
    assert "cut off" in judged("Eight min", finish="length").reason
    assert judged("Eight min", finish="length", length=False).accepted


@pytest.mark.parametrize("marks", [{"marked": "No."}, {"finish": "refusal"}, {"finish": "content_filter"}])
def test_a_refusal_that_the_provider_marks_is_rejected(marks: Any) -> None:
    assert "marks it as a refusal" in judged("", **marks).reason


def test_a_refusal_in_words_is_rejected() -> None:
    assert judged("I'm sorry, but I can't help with that.").reason == "it is a refusal"
    assert judged("I'm sorry, but I can't help with that.", refusal=False).accepted


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"name": "Ann", "age": 7}', None),
        ('Here it is: {"name": "Ann", "age": 7}', "not JSON"),
        ('{"name": "Ann"', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"name": "Ann", "age": "7"}', "$.age breaks type"),
        ('{"name": "Ann"}', "breaks required"),
        ('{"name": "Ann", "age": 7, "x": 1}', "breaks additionalProperties"),
    ],
)
def test_where_a_schema_was_asked_for_it_is_followed(text: str, fault: str | None) -> None:
    said = judged(text, schema=PERSON)
    assert said.accepted is (fault is None)
    assert fault is None or fault in said.reason


def test_without_a_schema_nothing_has_to_be_json() -> None:
    assert judged('{"name": "Ann"').accepted


def test_a_schema_that_is_wrong_itself_is_not_held_against_the_answer() -> None:
    assert judged("{}", schema={"type": "no such type"}).accepted


def test_a_code_fence_that_is_not_closed_is_rejected() -> None:
    assert "fence" in judged("Use this:\n```python\nprint(1)\n").reason
    assert judged("Use this:\n```python\nprint(1)\n```\n").accepted


GERMAN = "Kochen Sie das Ei acht Minuten lang in Wasser und schrecken Sie es danach mit kaltem Wasser ab."
ENGLISH = "Boil the egg for eight minutes in water and rinse it with cold water when the time is over."


@pytest.mark.slow
def test_the_language_of_the_query_can_be_asked_for() -> None:
    assert judged(GERMAN).accepted
    assert judged(GERMAN, language="same").reason == "it is in de, and not in en"
    assert judged(ENGLISH, language="same").accepted
    assert judged(GERMAN, "Wie lange muss ich ein Ei in kochendem Wasser lassen?", language="same").accepted


@pytest.mark.slow
def test_a_language_can_be_asked_for_by_name() -> None:
    assert judged(ENGLISH, language="de").reason == "it is in en, and not in de"
    assert judged(GERMAN, language="de").accepted


def test_code_is_in_no_language() -> None:
    assert judged(f"{ENGLISH}\n```\n{GERMAN}\n{GERMAN}\n{GERMAN}\n```", language="same").accepted


def test_a_pattern_can_be_required() -> None:
    assert "pattern" in judged("Eight minutes.", pattern=r"#### \d+").reason
    assert judged("So it is\n#### 8", pattern=r"#### \d+").accepted


@pytest.mark.slow
@given(st.text(max_size=300))
def test_every_text_is_judged_with_a_reason(text: str) -> None:
    for verdict in (judged(text, schema=PERSON), judged(text)):
        assert verdict.reason


def test_the_reason_repeats_nothing_of_the_answer() -> None:
    secret = "sk-proj-a1b2c3"
    assert secret not in judged(json.dumps({"name": 1, "age": secret}), schema=PERSON).reason
