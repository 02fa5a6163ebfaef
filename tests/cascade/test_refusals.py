from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.cascade.refusals import FILE, patterns, refusal_in

DATA = Path(__file__).parents[1] / "samples" / "refusals.jsonl"
ROWS = [json.loads(line) for line in DATA.read_text(encoding="utf-8").splitlines()]
"""Refusals, non-answers and answers in eleven languages, in two parts by one hand; "test" was not tuned on."""


def found(part: str) -> tuple[int, int, int]:
    """True alarms, false alarms, misses."""
    rows = [(refusal_in(row["text"]) is not None, row["kind"] != "answer") for row in ROWS if row["part"] == part]
    return (
        sum(said and wanted for said, wanted in rows),
        sum(said and not wanted for said, wanted in rows),
        sum(wanted and not said for said, wanted in rows),
    )


def test_precision_and_recall_on_rows_that_were_not_tuned_on() -> None:
    right, false, missed = found("test")
    assert right / (right + false) >= 0.96
    assert right / (right + missed) >= 0.92


def test_the_rows_that_it_was_mended_on_are_all_right() -> None:
    _, false, missed = found("dev")
    assert (false, missed) == (0, 0)


def test_the_two_kinds_are_told_apart() -> None:
    assert refusal_in("I'm sorry, but I can't help with that.") == "a refusal"
    assert refusal_in("I don't know.") == "a non-answer"
    assert refusal_in("Paris.") is None


@pytest.mark.parametrize(
    "text",
    [
        "“I’m sorry, I can’t help you,” said the ferryman.",
        "`I cannot help with that`",
        "```\nI cannot help with that\n```",
        "「申し訳ありませんが、お手伝いできません」と彼は言った。",
    ],
)
def test_what_is_quoted_is_not_said(text: str) -> None:
    assert refusal_in(text) is None


def test_other_apostrophes_and_decoration_do_not_hide_it() -> None:
    assert refusal_in("**I’m sorry**, but I can‘t assist with that.") == "a refusal"
    assert refusal_in("> - I CANNOT HELP WITH THAT") == "a refusal"


def test_a_long_answer_is_an_answer_however_it_begins() -> None:
    assert refusal_in("I cannot give medical advice, but rest helps. " + "Drink a lot of water. " * 30) is None


@pytest.mark.parametrize(
    "text", ["i can't " * 200_000, "i am sorry " * 160, "as an ai " * 190, "“" * 1700, "```" * 600, "。" * 1700]
)
def test_no_text_takes_long(text: str) -> None:
    refusal_in("x")  # compiles
    start = time.thread_time()
    refusal_in(text)
    assert time.thread_time() - start < 0.1


@pytest.mark.slow
@given(st.text(max_size=500))
def test_any_text_has_an_answer(text: str) -> None:
    assert refusal_in(text) in ("a refusal", "a non-answer", None)


def test_every_language_of_the_samples_has_patterns_of_both_kinds_that_stand_alone() -> None:
    text = FILE.read_text("utf-8")
    languages = {kind: re.findall(rf"^\[{kind}: (\w+)\]$", text, re.MULTILINE) for kind in ("refusals", "non-answers")}
    assert sorted(languages["refusals"]) == sorted(languages["non-answers"])
    assert len(languages["refusals"]) == len({row["language"] for row in ROWS})
    for kind, listed in patterns().items():
        assert kind in languages
        for pattern in listed:
            re.compile(pattern)
            assert "{can't}" not in pattern
            assert "{do}" not in pattern
