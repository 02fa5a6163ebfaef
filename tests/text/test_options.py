from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.predictors.query_features import MultipleChoice, choice


def test_options_are_lines_that_are_marked_in_turn() -> None:
    assert choice("What is 2 + 2?\nA. 3\nB. 4\nAnswer:") == MultipleChoice("What is 2 + 2?", ("3", "4"))
    assert choice("Pick:\n(a) red\n(b) blue\n(c) green").options == ("red", "blue", "green")
    assert choice("Order these:\n1) first\n2) second").options == ("first", "second")


@pytest.mark.parametrize(
    "text",
    [
        "A. Einstein was born in Ulm.",  # one line is no choice
        "B. two\nC. three",  # does not begin at the first mark
        "My list:\n1. one\n3. three",
        "no options at all",
        "",
    ],
)
def test_what_is_not_marked_in_turn_is_no_choice(text: str) -> None:
    assert choice(text) == MultipleChoice(text.strip(), ())


def test_the_last_of_several_lists_counts_since_examples_stand_before_the_question() -> None:
    found = choice("Example:\nA. yes\nB. no\nAnswer: A\n\nIs it raining?\nA. it is\nB. it is not\nC. who knows")
    assert found.options == ("it is", "it is not", "who knows")
    assert found.stem.endswith("Is it raining?")


@pytest.mark.slow
@given(st.text())
def test_any_text_has_a_stem_and_none_or_several_options(text: str) -> None:
    found = choice(text)
    assert len(found.options) != 1
    assert found.stem in text
