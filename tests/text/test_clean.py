from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.text import normalise
from semroute.text.normalise import (
    MAX_MARKS,
    clean,
    clip,
    clip_characters,
    encodable,
    head_and_tail,
    head_and_tail_text,
    is_blank,
    nfkc,
    prepare,
)

DATA = Path(__file__).parent.parent / "samples" / "texts"
ANY_TEXT = st.text(st.characters(codec=None, categories=None))


@pytest.mark.slow
@given(ANY_TEXT)
def test_cleaned_text_is_valid_unicode_without_nul_and_cleaning_again_changes_nothing(text: str) -> None:
    cleaned = clean(text)
    cleaned.encode("utf-8")
    assert "\0" not in cleaned
    assert clean(cleaned) == cleaned


@pytest.mark.slow
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_valid_text_stays_as_it_is(text: str) -> None:
    assert clean(text) == text


def test_surrogate_pairs_are_joined_and_lone_surrogates_replaced() -> None:
    assert clean("\ud83d\ude00 \ud83d x") == "😀 � x"


def test_nul_separates_words() -> None:
    assert clean("a\0b") == "a b"
    assert clean("é\0b") == "é b"


def test_clipping_leaves_texts_alone_that_may_fit() -> None:
    text = "x" * (2 * 16 * 10)
    assert clip(text, 10) == text


def test_clipping_keeps_both_ends_of_a_long_text_without_the_blanks_around_it() -> None:
    clipped = clip(" " * 10_000 + "head" + "x" * 10_000 + "tail" + "\n" * 10_000, 10)
    assert clipped.startswith("head")
    assert clipped.endswith("tail")
    assert len(clipped) == 2 * 16 * 10 + 1


def test_of_a_megabyte_only_what_is_kept_is_cleaned_and_normalised(monkeypatch: pytest.MonkeyPatch) -> None:
    worked_on: list[int] = []

    def counting(work: Callable[[str], str]) -> Callable[[str], str]:
        def counted(text: str) -> str:
            worked_on.append(len(text))
            return work(text)

        return counted

    for name in ("clean", "nfkc", "encodable"):
        monkeypatch.setattr(normalise, name, counting(getattr(normalise, name)))
    (prepared,) = prepare(["wörd " * 200_000], 256)
    assert worked_on == [len(prepared)] * 3
    assert len(prepared) < 10_000


def test_one_string_in_place_of_a_sequence_is_refused() -> None:
    with pytest.raises(TypeError, match="not one string"):
        prepare("hello", 256)


@pytest.mark.slow
@given(st.lists(st.integers()), st.integers(min_value=1, max_value=20))
def test_head_and_tail_keep_at_most_the_limit_and_both_ends(tokens: list[int], limit: int) -> None:
    kept = list(head_and_tail(tokens, limit))
    assert len(kept) == min(len(tokens), limit)
    assert kept[: limit - limit // 2] == tokens[: limit - limit // 2]
    assert kept[len(kept) - min(limit // 2, len(kept)) :] == tokens[len(tokens) - min(limit // 2, len(tokens)) :]


def test_text_is_cut_between_tokens() -> None:
    words = ["one", "two", "three", "four", "five"]
    text, offsets, at = "", [], 0
    for word in words:
        text += word + " "
        offsets.append((at, at + len(word)))
        at += len(word) + 1
    assert head_and_tail_text(text.strip(), offsets, 3) == "one two five"
    assert head_and_tail_text(text.strip(), offsets, 1) == "one"
    assert head_and_tail_text(text.strip(), offsets, 5) == text.strip()


@pytest.mark.slow
@given(st.text(), st.integers(min_value=1, max_value=30))
def test_clipped_characters_are_both_ends_with_a_blank_between(text: str, limit: int) -> None:
    clipped = clip_characters(text, limit)
    if len(text) <= limit:
        assert clipped == text
    else:
        assert len(clipped) == limit + 1
        assert text.startswith(clipped[: limit - limit // 2])


def rows(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("row", rows("width.jsonl"), ids=lambda row: ascii(row["query"]))
def test_compatibility_characters_reach_an_encoder_as_the_plain_ones(row: dict[str, str]) -> None:
    assert prepare([row["query"]], 256) == prepare([row["same_as"]], 256)


@pytest.mark.parametrize("row", [row for row in rows("width.jsonl") if row["query"] == row["same_as"]], ids=ascii)
def test_texts_of_other_scripts_reach_an_encoder_as_they_are(row: dict[str, str]) -> None:
    assert prepare([row["query"]], 256) == [row["query"]]


@pytest.mark.parametrize("row", rows("tokenless.jsonl"), ids=lambda row: ascii(row["query"]))
def test_a_text_that_shows_nothing_is_blank(row: dict[str, object]) -> None:
    assert is_blank(str(row["query"])) is row["blank"]


@pytest.mark.slow
@given(ANY_TEXT)
def test_encodable_text_is_valid_and_stable(text: str) -> None:
    once = encodable(text)
    once.encode("utf-8")
    assert encodable(once) == once


@given(st.text(st.characters(max_codepoint=127, exclude_characters="\0")))
def test_ascii_reaches_an_encoder_as_it_is(text: str) -> None:
    assert encodable(text) == text


@pytest.mark.slow
@given(st.text())
def test_the_normal_form_is_that_of_the_standard_library(text: str) -> None:
    assert nfkc(text) == unicodedata.normalize("NFKC", text)


def test_a_letter_under_any_number_of_marks_is_prepared_in_linear_time(runs_of_marks: list[int]) -> None:
    prepare(["a" + "\u0301\u0327" * 20_000], 100_000)
    assert 0 < max(runs_of_marks) <= MAX_MARKS
