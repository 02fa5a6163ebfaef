from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.text.arithmetic import Arithmetic, arithmetic, numbers


@pytest.mark.parametrize(
    ("text", "right", "wrong"),
    [
        ("3 x 60 = <<3*60=180>>180 meters", 1, 0),
        ("$6.50 + $2.00 = $8.50 and 10 - 4 = 7", 1, 1),
        ("(12 + 3) × 2 = 30", 1, 0),
        ("4 + 4 + 4 = 12 ÷ 2", 0, 0),  # the chain goes on: no result is stated here
        ("1,200 / 4 = 300", 1, 0),
        ("1/3 = 0.33", 1, 0),  # rounded
        ("1/4 = 25", 1, 0),  # as per cent
        ("20% * 50 = 10", 1, 0),
        ("2 - -3 = 5", 1, 0),
        ("5 / 0 = 1", 0, 0),
        ("(2 + 3 = 5", 0, 0),  # brackets that do not match are no sum
        ("chapter 3 = the end", 0, 0),
        ("", 0, 0),
    ],
)
def test_stated_sums_are_checked(text: str, right: int, wrong: int) -> None:
    assert arithmetic(text) == Arithmetic(right, wrong)


NUMBERS = st.integers(0, 9999)


@given(NUMBERS, NUMBERS, st.sampled_from("+-*"), st.integers(1, 10**6))
def test_a_right_sum_is_right_and_a_shifted_one_is_not(a: int, b: int, sign: str, shift: int) -> None:
    value = {"+": a + b, "-": a - b, "*": a * b}[sign]
    assert arithmetic(f"so {a} {sign} {b} = {value} in all") == Arithmetic(1, 0)
    wrong = value + max(shift, 1 + abs(value) // 50)
    if abs(100 * value - wrong) > 0.006 * abs(100 * value):
        assert arithmetic(f"so {a} {sign} {b} = {wrong} in all").right == 0


@given(st.text())
def test_no_text_raises_an_error(text: str) -> None:
    found = arithmetic(text)
    assert found.right >= 0
    assert all(one >= 0 for one in numbers(text))


def test_numbers_are_read_with_commas_and_decimals() -> None:
    assert numbers("1,200.5 of 3 items, v2, 10.") == [1200.5, 3.0, 10.0]


@pytest.mark.parametrize(
    "unit", ["1+", "1", "(", "1 + 1 = ", "1,", "9.9.", "- ", "1 + ", "( 1 % ) + ", "1 1 ", "(1 + (1 + "]
)
def test_hostile_texts_take_linear_time(unit: str) -> None:
    started = time.thread_time()
    arithmetic(unit * 50_000)
    numbers(unit * 50_000)
    assert time.thread_time() - started < 1.0
