"""Whole words: case, composed characters, marks and scripts without spaces."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.text.normalise import folded, has_words

ROWS = Path(__file__).parent.parent / "samples" / "texts" / "keywords.jsonl"


def found(words: str, text: str) -> bool:
    return has_words(folded(text), folded(words))


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("refund", "REFUND!"),
        ("credit card", "my Credit\n  Card number"),
        ("straße", "HAUPT STRASSE 7"),
        ("c++", "is C++ faster?"),
        ("café", "cafe\u0301 closed"),
        ("refund", "ref refunds refund"),
        ("退款", "我想要退款吗"),
        ("ราคา", "ขอทราบราคาสินค้า"),
        ("123", "order 123, please"),
        ("\uff21\uff22", "ab"),
        ("sigma", "ΣIGMA sigma"),
    ],
)
def test_a_word_is_found_whatever_its_case_and_spelling(words: str, text: str) -> None:
    assert found(words, text)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("fund", "refund"),
        ("refund", "refunds"),
        ("art", "start_art_x"),
        ("card", "cards discard"),
        ("cafe", "café"),
        ("कर", "करना"),
        ("", "anything"),
    ],
)
def test_a_part_of_a_word_is_not_the_word(words: str, text: str) -> None:
    assert not found(words, text)


@pytest.mark.parametrize(
    "row", [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()], ids=lambda row: row["query"]
)
def test_a_word_is_bounded_as_its_script_and_typography_have_it(row: dict[str, str | bool]) -> None:
    assert found(str(row["keyword"]), str(row["query"])) is row["expect"]


@given(st.text("ab _-", max_size=30), st.text("ab", min_size=1, max_size=4))
def test_ascii_words_are_found_as_a_regular_expression_with_boundaries_finds_them(text: str, word: str) -> None:
    assert found(word, text) == bool(re.search(rf"\b{word}\b", text))


@given(st.text(), st.text())
def test_no_text_raises_an_error(text: str, words: str) -> None:
    assert found(words, text) in (True, False)


@given(st.text())
def test_a_folded_text_is_folded_no_further(text: str) -> None:
    assert folded(folded(text)) == folded(text)


def test_a_letter_under_any_number_of_marks_is_folded_in_linear_time() -> None:
    def seconds(marks: int) -> float:
        start = time.perf_counter()
        folded("a" + "\u0301\u0327" * marks)
        return time.perf_counter() - start

    short, long = (min(seconds(marks) for _ in range(3)) for marks in (2_000, 20_000))
    assert long < 30 * short


@pytest.mark.slow
def test_a_long_keyword_before_each_letter_of_a_long_word_takes_linear_time() -> None:
    def seconds(length: int) -> float:
        text, words = "a" * length, "a" * (length // 20)
        start = time.perf_counter()
        assert not has_words(text, words)
        return time.perf_counter() - start

    short, long = (min(seconds(length) for _ in range(3)) for length in (10_000, 100_000))
    assert long < 30 * short


@pytest.mark.slow
def test_near_hits_everywhere_take_linear_time() -> None:
    def seconds(length: int) -> float:
        text, words = "a" * length, "a" * 50
        start = time.perf_counter()
        assert not has_words(text, words)
        return time.perf_counter() - start

    short, long = (min(seconds(length) for _ in range(3)) for length in (20_000, 200_000))
    assert long < 30 * short
