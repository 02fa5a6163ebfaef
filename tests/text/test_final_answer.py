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


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("The answer is [1, 2].", "The answer is `[1,2]`."),
        ("The answer is **'ab'**.", '{"answer": "ab"}'),
        ("The answer is `'ab'`, because the letters are kept.", "The answer is 'ab'"),
        ("The answer is 5.", '{"answer": 5}'),
        ("\\boxed{\\text{True}}", "The answer is `True`."),
        ('{"answer": "\\"ab\\""}', '{"reasoning": "a\nb", "answer": "\\"ab\\""}'),
        ('{"answer": "\'2nm_28in\'"}', '{"answer": "2nm_28in"}'),
        ('{"answer": ""}', '{"answer": "\'\'"}'),
    ],
)
def test_the_value_of_a_program_is_compared_without_the_sentence_around_it(first: str, second: str) -> None:
    assert agree(first, second, CODE)


@pytest.mark.parametrize(("first", "second"), [("'a.'", "'a'"), ("[1, 2]", "[2, 1]"), ("'1'", "[1]"), ("1.5", "15")])
def test_what_is_within_a_value_counts(first: str, second: str) -> None:
    assert not agree(f"The answer is {first}.", f"The answer is {second}.", CODE)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("12 inches", "12 inch"),
        ("6 feet", "6 ft"),
        ("6 feet", "72 inches"),
        ("1.5 hours", "90 minutes"),
        ("72 MB/h", "72"),
        ("60 km/h", "60 km per hour"),
        ("-10°F", "-10"),
        ("10^\\circ", "10 degrees"),
        ("350$", "$350"),
        ("$0.50", "50 cents"),
        ("5km", "5000 m"),
        ("\\frac12", "\\dfrac{1}{2}"),
        ("1 1/2", "1\\frac{1}{2}"),
        ("3\\frac{1}{4}", "3.25"),
        ("67\\", "67"),
        ("\u22125", "-5"),
        ("March 5, 2020", "2020-03-05"),
        ("5th of March 2020", "Mar. 5, 2020"),
        ("{1, 2, 3}", "\\{3,2,1\\}"),
        ("2 and -3", "-3, 2"),
        ("x = 2 or x = -3", "-3 and 2"),
        ("(1, 2)", "(1,2)"),
        ("red, green and blue", "Red, green, and blue"),
        ("2\\sqrt{3}", "2 \\sqrt{3}"),
    ],
)
def test_quantities_are_equal_however_they_are_written(first: str, second: str) -> None:
    for one, other in ((first, second), (second, first)):
        assert agree(f"\\boxed{{{one}}}", f"The answer is {other}", "")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("5 hours", "5 minutes"), ("5 inches", "5 cm"), ("$5", "5 cents"), ("60 km", "60 km/h"), ("1 1/2", "11/2"),
        ("(1, 2)", "(2, 1)"), ("{1, 2}", "{1, 3}"), ("March 5, 2020", "May 3, 2020"), ("red, green", "green, red"),
        ("2020-13-05", "2020-12-05"), ("1, 2", "12"), ("50%", "50 hours, 0.5 minutes"),
    ],
)  # fmt: skip
def test_other_quantities_do_not_agree(first: str, second: str) -> None:
    assert not agree(f"The answer is {first}", f"The answer is {second}", "")


@pytest.mark.parametrize(
    "text",
    [
        "It is so. The answer is (B).\n\nFinal Answer: The answer is (B).",
        "The answer is (B).\n\nNow, considering all of this, the final answer is:",
        "The answer is B (Paris).",
        "Final Answer: **The correct answer is (B)**",
    ],
)
def test_nested_and_empty_marks_say_what_the_innermost_says(text: str) -> None:
    assert agree(text, "B", OPTIONS)


def test_a_sentence_with_commas_is_no_list() -> None:
    assert final_answer("It depends on who was there when they were counted, and on the weather.", "x") is None
