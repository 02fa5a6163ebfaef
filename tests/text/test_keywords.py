"""Whole words: case, composed characters, marks and scripts without spaces."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.text.normalise import MAX_MARKS, folded, has_words

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


def test_a_letter_under_any_number_of_marks_is_folded_in_linear_time(runs_of_marks: list[int]) -> None:
    folded("a" + "\u0301\u0327" * 20_000)
    assert 0 < max(runs_of_marks) <= MAX_MARKS


class ReadText(str):
    """A text that counts the characters which are read of it."""

    read = 0

    def __getitem__(self, at: Any) -> str:
        self.read += 1
        return super().__getitem__(at)

    def find(self, words: str, start: int = 0, *_: Any) -> int:
        """As every ``find``, which compares the words once where they are found, and passes what is before."""
        found = super().find(words, start)
        self.read += len(self) - start if found < 0 else found + len(words) - start
        return found


@pytest.mark.parametrize(
    "length", [50, 5_000], ids=["near hits everywhere", "a long keyword before each letter of a long word"]
)
def test_a_word_is_looked_for_in_linear_time(length: int) -> None:
    text = ReadText("a" * 100_000)
    assert not has_words(text, "a" * length)
    assert 100_000 <= text.read <= 4 * 100_000
