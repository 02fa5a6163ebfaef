from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.cascade.checks import CheckInput, ConsistencyCheck, agreement
from semroute.types import CheckResult, Completion, Request


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Paris", "paris."),
        ('{"a": 1, "b": [2]}', '{"b": [2], "a": 1.0}'),
        ("She has 3 x 60 = 180 meters a day, so 540 in all.\n#### 540", "That makes 540.00\n#### 540.0"),
        ("After some thought the answer is (B).", "The answer is B"),
        ("1,000", "1,000"),
        ("東京です", "東京です。"),
    ],
)
def test_answers_that_say_the_same_agree(first: str, second: str) -> None:
    assert agreement(first, second) == 1.0


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Paris", "Lyon"),
        ('{"a": 1}', '{"a": 2}'),
        ("Long reasoning about meters.\n#### 540", "Long reasoning about meters.\n#### 450"),
        ("The answer is A", "The answer is B"),
        ("yes", "no"),
        ("東京です", "大阪です"),
    ],
)
def test_answers_that_differ_in_what_counts_do_not_agree(first: str, second: str) -> None:
    assert agreement(first, second) == 0.0


def test_longer_answers_agree_by_their_words() -> None:
    first = "the cat sat on the mat while the dog slept by the fire all day"
    second = "the cat sat on the mat while the bird slept by the fire all day"
    assert agreement(first, second) == pytest.approx(2 * 14 / 30)


@pytest.mark.slow
@given(st.text(max_size=200), st.text(max_size=200))
def test_it_is_symmetric_between_0_and_1_and_1_for_equal_answers(first: str, second: str) -> None:
    assert agreement(first, second) == agreement(second, first)
    assert 0.0 <= agreement(first, second) <= 1.0
    assert agreement(first, first) == 1.0


def judged(second: Completion | str) -> tuple[CheckResult, list[float]]:
    asked: list[float] = []

    async def sample(temperature: float) -> Completion | str:
        asked.append(temperature)
        return second

    answer = Completion("Paris", "small", "small-1", "m", "stop", None, 1.0)
    answered = CheckInput("capital?", Request(({"role": "user", "content": "capital?"},)), answer, sample)
    return asyncio.run(ConsistencyCheck(0.7, 0.9).judge(answered)), asked


def test_the_second_answer_is_drawn_at_the_temperature() -> None:
    said, asked = judged(Completion("paris", "small", "small-1", "m", "stop", None, 1.0))
    assert (said.accepted, said.score, asked) == (True, 1.0, [0.9])


def test_without_a_second_answer_nothing_speaks_for_the_first() -> None:
    said, _ = judged("the deadline has passed")
    assert (said.accepted, said.skipped) == (False, False)
    assert said.reason == "there was no second answer to compare with: the deadline has passed"


def test_where_no_tier_can_follow_none_is_drawn() -> None:
    answer = Completion("Paris", "small", "small-1", "m", "stop", None, 1.0)
    answered = CheckInput("capital?", Request(({"role": "user", "content": "capital?"},)), answer, None)
    assert asyncio.run(ConsistencyCheck(0.7, 0.9).judge(answered)).accepted
