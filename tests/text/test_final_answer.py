from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.text.final_answer import final_answer

OPTIONS = "What is the capital of France?\nA. Lyon\nB. Paris\nC. Nice"
CODE = "What does it return?\n```\ndef f(x):\n    return x.swapcase()\nf('Ab')\n```"
COUNT = "How many apples are there?"


def agree(first: str, second: str, query: str) -> bool:
    one, two = final_answer(first, query), final_answer(second, query)
    return one is not None and two is not None and one.agrees_with(two)


@pytest.mark.parametrize(
    ("query", "first", "second"),
    [
        (OPTIONS, "Some thought. The answer is (B).", "**B**"),
        (OPTIONS, "B) because it is so", "Paris"),
        (OPTIONS, '{"reasoning": "x", "answer": "B"}', "\\boxed{\\text{B}}"),
        (COUNT, "\\boxed{42}", "answer: 42 apples"),
        (COUNT, "$1,234.50", "#### 1234.5"),
        (COUNT, "So it is 20 + 22 = 42.", "Therefore, there are 42 apples."),
        (COUNT, "\\boxed{\\frac{1}{2}}", "The answer is 0.5."),
        (COUNT, "50%", "0.5"),
        ("", '{"a": 1, "b": [2]}', '```json\n{"b": [2], "a": 1.0}\n```'),
        (CODE, '{"reasoning": "x", "answer": "[1, \'a\']"}', '```json\n{"answer": "[1,\\"a\\"]"}\n```'),
        ("Is it so?", "Yes, because of this.", "yes"),
        ("Classify: I love it", "Positive.", "positive"),
    ],
)
def test_answers_that_say_the_same_agree(query: str, first: str, second: str) -> None:
    assert agree(first, second, query)
    assert agree(second, first, query)


@pytest.mark.parametrize(
    ("query", "first", "second"),
    [
        (OPTIONS, "The answer is (A), no, the answer is (B).\nThe answer is (C).", "B"),
        (OPTIONS, "The answer is A and B", "A"),
        (COUNT, "The answer is -42", "42"),
        (COUNT, "5 hours", "5 minutes"),
        ("Tell me of the moon", "Armstrong landed there in 1969.", "It was reached in 1969."),
        ("Write a function that adds", "```python\nx\n```\nThe answer is 5", "```python\nx\n```\nThe answer is 5"),
        ("Can you write a poem?", "Yes, here is one.", "Yes, here is another."),
        (CODE, '{"answer": "aB"}', '{"answer": "Ab"}'),
        ("", "", ""),
        ("", '{"a": 1}', '{"a": true}'),
    ],
)
def test_other_answers_do_not_agree(query: str, first: str, second: str) -> None:
    assert not agree(first, second, query)


@given(st.text(max_size=300), st.text(max_size=100))
def test_any_text_has_one_answer_or_none(text: str, query: str) -> None:
    found = final_answer(text, query)
    assert found is None or found.agrees_with(found)


@pytest.mark.parametrize("value", ["[1or 2]", r"'\\d'", "(" * 300, "9" * 399, "[1, 2", "1" * 401])
def test_the_value_of_a_program_may_be_no_literal(value: str) -> None:
    found = final_answer(f"The answer is {value}", CODE)
    assert found is None or found.agrees_with(found)
